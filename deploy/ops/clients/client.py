"""What a user of the generated Python client does, and what it must give: run by clients.sh."""

import base64
import os
import pathlib
import sys

from astromech_client import AuthenticatedClient, Client
from astromech_client.api.default import embed, generations, info, media, ready_check, rescore, search
from astromech_client.models import (
    Candidate,
    EmbedRequest,
    EmbedResponse,
    Info,
    ItemRef,
    Kind,
    Problem,
    Ready,
    RescoreContext,
    RescoreMode,
    RescoreRequest,
    RescoreResponse,
    SearchRequest,
    SearchResponse,
)

QUERY = "红色的汽车"
url, key = os.environ["URL"], os.environ["KEY"]
client = AuthenticatedClient(base_url=url, token=key)
picture = base64.b64encode(next(iter(sorted(pathlib.Path(sys.argv[1]).glob("*.jpg")))).read_bytes()).decode()


def expect(answer, kind):
    assert isinstance(answer, kind), answer
    return answer


served = expect(info.sync(client=client), Info)
assert expect(ready_check.sync(check="search", client=Client(base_url=url)), Ready).ready

found = expect(search.sync(client=client, body=SearchRequest(text=QUERY, kinds=[Kind.IMAGE], limit=5, rescore=5)), SearchResponse)
hits = found.hits["image"]
assert len(hits) == 5 and all(hit.kind is Kind.IMAGE and -1.01 < hit.score < 1.01 for hit in hits), hits
assert any(hit.rescore.scores for hit in hits), hits
assert expect(search.sync(client=client, body=SearchRequest(image=picture)), SearchResponse).fingerprint == served.fingerprint

vectors = expect(embed.sync(client=client, body=EmbedRequest(texts=[QUERY, "蓝天"], images=[picture])), EmbedResponse)
assert [len(vector) for vector in vectors.texts + vectors.images] == [served.dim] * 3
assert abs(sum(number * number for number in vectors.texts[0]) - 1) < 1e-3

candidates = [Candidate(item=ItemRef(kind=hit.kind, id=hit.id)) for hit in hits]
candidates += [Candidate(image=picture), Candidate(text="没有图片"), Candidate(item=ItemRef(kind=Kind.AD, id="nowhere"))]
request = RescoreRequest(context=RescoreContext(text=QUERY), candidates=candidates, mode=RescoreMode.PLAIN, deadline_ms=10_000)
scored = expect(rescore.sync(client=client, body=request), RescoreResponse)
assert scored.mode is RescoreMode.PLAIN and scored.scored == 6, scored
assert [result.rank for result in scored.results] == list(range(1, 7))
assert {problem.kind.value for problem in scored.problems} == {"unsupported_pair", "not_found"}, scored.problems

answer = media.sync_detailed(client=client, kind=hits[0].kind, id=hits[0].id)
assert answer.status_code == 200 and answer.content[:2] == b"\xff\xd8", answer

nobody = expect(search.sync(client=AuthenticatedClient(base_url=url, token="0" * 16), body=SearchRequest(text=QUERY)), Problem)
assert nobody.status == 401, nobody
wrong = expect(search.sync(client=client, body=SearchRequest(text=QUERY, limit=101)), Problem)
assert wrong.status == 400 and "limit" in wrong.detail, wrong
assert expect(media.sync(client=client, kind=Kind.VIDEO, id="nowhere"), Problem).status == 404
assert expect(generations.sync(client=client), Problem).status == 501
