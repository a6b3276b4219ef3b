"""kubernetes.py FROM TO VERSION...: the strict schemas of these Kubernetes versions out of the wheel's folder, as kubeconform reads them.

The wheel's name each other by an address of the web; here they do by their file's name.
"""

import json
import pathlib
import sys

source, target, *versions = sys.argv[1:]
for version in versions:
    folder = pathlib.Path(target, f"v{version}")
    folder.mkdir(parents=True)
    for file in pathlib.Path(source, f"v{version}-local-strict").iterdir():
        schema = json.loads(file.read_text().replace('"/api/_definitions.json#', '"_definitions.json#'))
        schema.pop("$id", None)
        (folder / file.name).write_text(json.dumps(schema))
