// What a user of the generated TypeScript types does, and what it must give: run by clients.sh.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const query = "红色的汽车";
const baseUrl = process.env.URL!;
const client = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${process.env.KEY}` } });

const ready = await client.GET("/readyz/{check}", { params: { path: { check: "search" } } });
assert.equal(ready.data?.ready, true);

const kinds: components["schemas"]["Kind"][] = ["image"];
const found = await client.POST("/v1/search", { body: { text: query, kinds, limit: 5 } });
const hits = found.data?.hits["image"] ?? [];
assert.equal(hits.length, 5);

const embedded = await client.POST("/v1/embed", { body: { texts: [query, "蓝天"], images: [] } });
assert.deepEqual(embedded.data?.texts.map((vector) => vector.length), [embedded.data?.dim, embedded.data?.dim]);
assert.equal(embedded.data?.fingerprint, found.data?.fingerprint);

const candidates = hits.map(({ kind, id }) => ({ item: { kind, id } }));
const scored = await client.POST("/v1/rescore", { body: { context: { text: query }, candidates, mode: "plain", deadline_ms: 10_000 } });
assert.deepEqual(scored.data?.results.map((result) => result.rank), [1, 2, 3, 4, 5]);
assert.equal(scored.data?.mode, "plain");

const { id, kind } = hits[0]!;
const picture = await client.GET("/v1/media/{kind}/{id}", { params: { path: { kind, id } }, parseAs: "arrayBuffer" });
assert.equal(picture.response.status, 200);

const wrong = await client.POST("/v1/search", { body: { text: query, limit: 101 } });
const problem: components["schemas"]["Problem"] | undefined = wrong.error;
assert.ok(problem?.status === 400 && problem.detail.includes("limit"));
