// Search, re-score and embed from a browser, Deno, Bun or Node.js 22.6 and later (node --experimental-strip-types docs/examples/client.ts).
// The types of all bodies can be made from docs/openapi.json, by openapi-typescript for one.

type Kind = "article" | "image" | "ad" | "video";
type Hit = { kind: Kind; id: string; version: number; score: number; title?: string; image_url?: string };
type Candidate = { item: { kind: Kind; id: string } } | { image?: string; url?: string; text?: string; prior?: number; bid?: number };
type Scored = { index: number; rank: number; score: number; itm: number; itc: number };
type Problem = { type: string; title: string; status: number; detail: string };

/** Every error is an RFC 9457 problem: field, limit and fix are in `detail`. */
export class AstromechError extends Error {
  problem: Problem;
  retryAfterS?: number;
  constructor(problem: Problem, retryAfterS?: number) {
    super(`${problem.status} ${problem.type}: ${problem.detail}`);
    this.problem = problem;
    this.retryAfterS = retryAfterS;
  }
}

export class Astromech {
  url: string;
  key?: string;
  constructor(url: string, key?: string) {
    this.url = url.replace(/\/$/, "");
    this.key = key;
  }

  /** Hits of each kind, best first. */
  search(query: { text: string } | { image: string }, more: { kinds?: Kind[]; limit?: number; tags?: string[]; rescore?: number } = {}) {
    return this.post<{ fingerprint: string; hits: Partial<Record<Kind, Hit[]>> }>("/v1/search", { ...query, ...more });
  }

  /** Results best first; a candidate that was not scored is in `problems`. */
  rescore(context: { text: string } | { image: string } | { item: { kind: Kind; id: string } }, candidates: Candidate[], deadlineMs = 2000) {
    const body = { context, candidates, deadline_ms: deadlineMs };
    return this.post<{ results: Scored[]; problems: { index: number; kind: string; detail: string }[] }>("/v1/rescore", body);
  }

  /** Unit vectors, and the fingerprint of their space: never compare vectors of two fingerprints. */
  embed(texts: string[]) {
    return this.post<{ fingerprint: string; dim: number; texts: number[][] }>("/v1/embed", { texts });
  }

  private async post<T>(path: string, body: unknown): Promise<T> {
    const headers: Record<string, string> = { "content-type": "application/json" };
    if (this.key) headers.authorization = `Bearer ${this.key}`;
    const answer = await fetch(this.url + path, { method: "POST", headers, body: JSON.stringify(body), signal: AbortSignal.timeout(10_000) });
    if (answer.ok) return (await answer.json()) as T;
    const after = answer.headers.get("retry-after");
    throw new AstromechError((await answer.json()) as Problem, after === null ? undefined : Number(after));
  }
}

const astromech = new Astromech("http://localhost:8080");
const text = "红色的汽车";
const { hits } = await astromech.search({ text }, { kinds: ["image"], limit: 5 });
for (const hit of hits.image ?? []) console.log(hit.score.toFixed(3), hit.id, hit.title);
const candidates = (hits.image ?? []).map(({ kind, id }) => ({ item: { kind, id } }));
if (candidates.length > 0) console.log((await astromech.rescore({ text }, candidates)).results);
