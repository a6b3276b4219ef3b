#!/usr/bin/env bash
# compose.yaml, by the loader of Docker Compose.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need compose
CONFIG=$ASTROMECH_CACHE/compose/compose-config

holds 'compose.yaml with every profile' env BUNDLE=/bundle "$CONFIG" deploy/compose.yaml
env BUNDLE=/bundle "$CONFIG" deploy/compose.yaml >"$WORK/config.json"
# A volume that nothing writes to loses the topics with the container.
data() {
  python3 - "$WORK/config.json" <<'PY'
import json, sys
services = json.load(open(sys.argv[1]))["services"]
kafka = services["kafka"]
mounted = {volume["target"] for volume in kafka["volumes"] if volume["type"] == "volume"}
assert kafka["environment"]["KAFKA_LOG_DIRS"] in mounted, (kafka["environment"].get("KAFKA_LOG_DIRS"), mounted)
assert {v["target"] for v in services["qdrant"]["volumes"]} == {"/qdrant/storage"}
for name, service in services.items():
    assert service.get("image") or service.get("build"), name
PY
}
holds "Kafka's data lies on its volume" data
CHECKED=$((CHECKED + 1))
if env -u BUNDLE "$CONFIG" deploy/compose.yaml >"$WORK/said" 2>&1; then fault 'without BUNDLE it is refused'; fi
has 'the refusal without BUNDLE' "$WORK/said" 'set BUNDLE to the folder of a bundle'
summary compose.yaml
