"""Search, re-score and embed over HTTP, with nothing but the standard library.

    python3 docs/examples/client.py [http://localhost:8080] [a text]

Set ASTROMECH_KEY where the daemon has API keys.
"""

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request


class Astromech:
    def __init__(self, url, key=None, timeout_s=10, tries=3):
        self.url, self.key, self.timeout_s, self.tries = url.rstrip("/"), key, timeout_s, tries

    def search(self, text=None, image=None, **more):
        """One of `text` and `image` (encoded bytes); kinds, limit, tags, languages, rescore …"""
        query = {"text": text} if image is None else {"image": base64.b64encode(image).decode()}
        return self._post("/v1/search", {**query, **more})

    def rescore(self, context, candidates, **more):
        return self._post("/v1/rescore", {"context": context, "candidates": candidates, **more})

    def embed(self, texts):
        """Unit vectors and the fingerprint of their space: never compare vectors of two fingerprints."""
        return self._post("/v1/embed", {"texts": texts})

    def _post(self, path, body):
        headers = {"content-type": "application/json"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        for attempt in range(self.tries):
            try:
                with urllib.request.urlopen(request, timeout=self.timeout_s) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                # Every error is an RFC 9457 problem: field, limit and fix are in `detail`. 429 and 503 say when to come back.
                problem = json.load(error)
                if error.code not in (429, 503) or attempt + 1 == self.tries:
                    raise RuntimeError(f"{path}: {error.code} {problem['type']}: {problem['detail']}") from None
                time.sleep(float(error.headers.get("retry-after", 1)))


def main():
    url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080"
    text = sys.argv[2] if len(sys.argv) > 2 else "红色的汽车"
    client = Astromech(url, os.environ.get("ASTROMECH_KEY"))
    hits = client.search(text, kinds=["image"], limit=5)["hits"]["image"]
    for hit in hits:
        print(f"{hit['score']:.3f} {hit['id']} {hit.get('title', '')}")
    candidates = [{"item": {"kind": hit["kind"], "id": hit["id"]}} for hit in hits]
    if candidates:
        answer = client.rescore({"text": text}, candidates, deadline_ms=5000)
        print("by the single tower:", [candidates[result["index"]]["item"]["id"] for result in answer["results"]])
        for problem in answer["problems"]:
            print(f"candidate {problem['index']}: {problem['kind']}: {problem['detail']}")
    vectors = client.embed([text])
    print(f"{vectors['dim']} numbers in space {vectors['fingerprint'][:12]}")


if __name__ == "__main__":
    main()
