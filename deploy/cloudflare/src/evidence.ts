// The sink of the host's evidence (`evidence.sink`): what a run knew of itself, for the run after it.

/** The host's documents have at most 2 MiB, and a value of the storage a little less. */
const PART = 1024 * 1024;
const PARTS = 2;

/** Documents of one town in its durable storage. */
export class Evidence {
  constructor(private storage: DurableObjectStorage) {}

  async answer(request: Request, document: string): Promise<Response> {
    if (!/^[a-z]+-[01]\.json$/.test(document)) return new Response("no such document\n", { status: 404 });
    if (request.method === "GET") return this.#read(document);
    if (request.method === "PUT") return this.#write(document, new Uint8Array(await request.arrayBuffer()));
    return new Response(null, { status: 405 });
  }

  async #read(document: string): Promise<Response> {
    const parts = await this.storage.get<Uint8Array>(keys(document));
    if (parts.size === 0) return new Response(null, { status: 404 });
    return new Response(new Blob(keys(document).flatMap((key) => parts.get(key) ?? [])), { headers: { "content-type": "application/json" } });
  }

  /** One transaction: a reader sees this document or the one before. */
  async #write(document: string, body: Uint8Array): Promise<Response> {
    if (body.byteLength > PARTS * PART) return new Response(null, { status: 413 });
    const parts = keys(document).map((key, index) => [key, body.slice(index * PART, (index + 1) * PART)] as const);
    await this.storage.put(Object.fromEntries(parts));
    return new Response(null, { status: 204 });
  }
}

function keys(document: string): string[] {
  return Array.from({ length: PARTS }, (_, part) => `evidence/${document}/${part}`);
}
