#!/usr/bin/env python3
"""Builds the demo set from the unpacked corpus: python3 build_set.py CORPUS_FOLDER

Pictures of the permissive part only (Apache-2.0, MIT, CC-BY): all of Noto Emoji's training pictures and flag-icons, and, so that the
demo also shows pictures the demo model never saw, Twemoji's unseen concepts and 258 of IconPark's unseen renderings.
The articles are our own (articles.jsonl, Apache-2.0)."""
import json
import pathlib
import shutil
import sys

corpus = pathlib.Path(sys.argv[1])
target = pathlib.Path(__file__).parent / "set"
PICK = [("train", "noto", None), ("train", "flag-icons", None), ("test_unseen_concept", "twemoji", None),
        ("test_unseen_render", "icon-park", 258)]
AUTHORS = {"noto": "Noto Emoji, Google", "flag-icons": "flag-icons, Panayiotis Lipiridis",
           "twemoji": "Twemoji, Twitter and jdecked", "icon-park": "IconPark, ByteDance"}

shutil.rmtree(target / "pictures", ignore_errors=True)
(target / "pictures").mkdir(parents=True)
messages = []
for split, vendor, most in PICK:
    rows = [json.loads(line) for line in (corpus / f"{split}.jsonl").read_text().splitlines()]
    for row in [row for row in rows if row["vendor"] == vendor][:most]:
        name = pathlib.Path(row["image"]).name
        shutil.copy(corpus / row["image"], target / "pictures" / name)
        messages.append({"kind": "image", "id": row["id"], "version": 1, "caption": row["content"],
                         "image": {"url": f"file:pictures/{name}"}, "tags": [row["domain"]], "language": "zh",
                         "attributes": {"author": AUTHORS[vendor], "licence": row["licence"], "source": row["url"],
                                        "seen_in_training": "yes" if split == "train" else "no"}})
by_query = {}
for message in messages:
    by_query.setdefault(message["caption"].split("：")[0].split("（")[0], message)
for line in (pathlib.Path(__file__).parent / "articles.jsonl").read_text().splitlines():
    article = json.loads(line)
    picture = by_query.get(article.pop("picture"))
    if picture:
        article["image"] = picture["image"]
    messages.append({"kind": "article", **article, "language": "zh"})
(target / "messages.jsonl").write_text("".join(json.dumps(m, ensure_ascii=False) + "\n" for m in messages))
print(len(messages), "messages,", sum(f.stat().st_size for f in (target / "pictures").iterdir()), "bytes of pictures")
