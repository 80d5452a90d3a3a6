// `fetch`, with `Headers`, `Request` and `Response`. Where an agent may reach is the role's `http_allow`.
import { define } from "bulkhead:globals";
import { call, callBytes } from "bulkhead:native";
import { FetchError } from "bulkhead:errors";
import { news } from "bulkhead:news";
import { URL, URLSearchParams } from "bulkhead:url";
import { AbortSignal, onAbort } from "bulkhead:abort";
import { quietTimer } from "bulkhead:timers";
import { Blob, encoded, joined } from "bulkhead:forms";
import { ReadableStream, isDisturbed, twice } from "bulkhead:streams";

/** As browsers have it. */
const MAX_REDIRECTS = 20;

const failed = ({ Ok, Err }) => {
  if (Err !== undefined) throw new FetchError(Err.code, Err.message);
  return Ok;
};

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

const nameOf = (name) => {
  if (!TOKEN.test(String(name))) throw new TypeError(`"${name}" is no name of a header`);
  return String(name).toLowerCase();
};

const valueOf = (name, value) => {
  const text = String(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
  if (/[\0\r\n]/.test(text) || /[^\0-\xff]/.test(text)) throw new TypeError(`the header "${name}" cannot have this value`);
  return text;
};

export class Headers {
  #pairs = [];
  constructor(init) {
    if (init === undefined || init === null) return;
    const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
    for (const [name, value] of pairs) this.append(name, value);
  }
  append(name, value) { this.#pairs.push([nameOf(name), valueOf(name, value)]); }
  delete(name) { const key = nameOf(name); this.#pairs = this.#pairs.filter(([held]) => held !== key); }
  get(name) {
    const key = nameOf(name);
    const values = this.#pairs.filter(([held]) => held === key).map(([, value]) => value);
    return values.length === 0 ? null : values.join(", ");
  }
  getSetCookie() { return this.#pairs.filter(([name]) => name === "set-cookie").map(([, value]) => value); }
  has(name) { const key = nameOf(name); return this.#pairs.some(([held]) => held === key); }
  set(name, value) { const text = valueOf(name, value); this.delete(name); this.append(name, text); }
  forEach(callback, self) { for (const [name, value] of this) callback.call(self, value, name, this); }
  *entries() {
    const names = [...new Set(this.#pairs.map(([name]) => name))].sort();
    for (const name of names) {
      if (name !== "set-cookie") yield [name, this.get(name)];
      else for (const value of this.getSetCookie()) yield [name, value];
    }
  }
  *keys() { for (const [name] of this.entries()) yield name; }
  *values() { for (const [, value] of this.entries()) yield value; }
  [Symbol.iterator]() { return this.entries(); }
}

/** Bytes and their type, of what a body may be. */
const bytesOf = (body) => {
  if (body === undefined || body === null) return [undefined, undefined];
  if (typeof body === "string") return [new TextEncoder().encode(body), "text/plain;charset=UTF-8"];
  if (body instanceof URLSearchParams) return [new TextEncoder().encode(body.toString()), "application/x-www-form-urlencoded;charset=UTF-8"];
  if (body instanceof ArrayBuffer) return [new Uint8Array(body.slice(0)), undefined];
  if (ArrayBuffer.isView(body)) return [new Uint8Array(body.buffer, body.byteOffset, body.byteLength).slice(), undefined];
  const bytes = encoded(body);
  if (bytes === undefined) throw new TypeError("a body is text, bytes, URLSearchParams, a Blob, FormData or a ReadableStream; JSON is JSON.stringify of a value");
  return bytes;
};

/** The parts of an answer as they come. Who leaves before the end closes the connection. */
async function* partsOf(id, what, signal, close) {
  try {
    for (;;) {
      signal?.throwIfAborted();
      const [result, part] = callBytes("httpRead", [id]);
      const state = failed(result);
      if (state === "end") return;
      if (state === "part") yield part;
      else await news(id, what, signal);
    }
  } finally {
    close();
  }
}

/** All parts in one. */
const whole = async (parts, signal) => {
  const all = [];
  for await (const part of parts) {
    signal?.throwIfAborted();
    if (!(part instanceof Uint8Array)) throw new TypeError("a part of a body is a Uint8Array");
    all.push(part);
  }
  signal?.throwIfAborted();
  return joined(all);
};

/** What a reader reads. Unlike the iterator of a stream it can be cancelled while it waits. */
async function* read(reader) {
  for (let part; !(part = await reader.read()).done;) yield part.value;
}

async function* once(bytes) { if (bytes?.length > 0) yield bytes.slice(); }

// For this module alone: what authors see are their own methods.
let bytesIn, closes, fails, split, streamIn, uses;

/** What a request and a response have in common. Its stream is made when somebody wants it. */
class Body {
  #parts;
  #bytes;
  #stream;
  #used = false;
  #close = () => {};
  #controller;
  constructor(parts, bytes) {
    if (parts instanceof ReadableStream) {
      if (parts.locked || isDisturbed(parts)) throw new TypeError("the stream was read already");
      this.#stream = parts;
    }
    [this.#parts, this.#bytes] = [parts, bytes];
  }
  static {
    bytesIn = (body) => body.#bytes;
    closes = (body, close) => { body.#close = close; };
    // What is left of it. Without a stream its parts know.
    fails = (body, error) => {
      body.#close();
      body.#controller?.error(error);
    };
    uses = (body) => { body.#used = body.#parts !== null; };
    streamIn = (body) => body.#bytes === undefined ? body.#stream : undefined;
    // Two, of which one takes its place.
    split = (body) => {
      if (body.bodyUsed || body.#stream?.locked) throw new TypeError("the body was read already");
      if (body.#parts === null) return null;
      const [own, other] = twice(body.body);
      body.#stream = own;
      return other;
    };
  }
  get bodyUsed() { return this.#used || (this.#stream !== undefined && isDisturbed(this.#stream)); }
  get body() {
    if (this.#parts === null) return null;
    if (this.#stream === undefined) {
      const parts = this.#parts[Symbol.asyncIterator]();
      this.#stream = this.#used ? ReadableStream.from([]) : new ReadableStream({
        start: (controller) => { this.#controller = controller; },
        pull: async (controller) => {
          const { done, value } = await parts.next();
          if (done) controller.close();
          else controller.enqueue(value);
        },
        // One that waits for a part would wait on.
        cancel: () => { this.#close(); parts.return?.().catch(() => {}); },
      }, { highWaterMark: 0 });
      if (this.#used) this.#stream.getReader();
    }
    return this.#stream;
  }
  /** What is left of it, for one who reads all. */
  #take() {
    if (this.bodyUsed || this.#stream?.locked) throw new TypeError("the body was read already");
    this.#used = this.#parts !== null;
    return this.#stream ?? this.#parts ?? once();
  }
  async bytes() { return whole(this.#take()); }
  async blob() { return new Blob([await this.bytes()], { type: this.headers.get("content-type") ?? "" }); }
  async arrayBuffer() { const bytes = await this.bytes(); return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength); }
  async text() { return new TextDecoder().decode(await this.bytes()); }
  async json() { return JSON.parse(await this.text()); }
}

const METHODS = new Set(["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"]);

export class Request extends Body {
  constructor(input, options) {
    const init = options ?? {};
    const from = input instanceof Request ? input : undefined;
    const url = URL.parse(from?.url ?? input);
    if (url === null) throw new FetchError("invalid", `invalid URL: ${String(input)}`);
    if (url.protocol !== "http:" && url.protocol !== "https:") throw new FetchError("invalid", `fetch reaches http and https, and not ${url.protocol}`);
    if (url.username !== "" || url.password !== "") throw new FetchError("invalid", "a URL with a user or a password is not fetched: use a header");
    if (init.body === undefined && from?.bodyUsed) throw new TypeError("the body of the request was read already");
    const stream = init.body instanceof ReadableStream ? init.body : init.body === undefined && from !== undefined ? streamIn(from) : undefined;
    const [bytes, type] = stream !== undefined ? [] : init.body === undefined && from !== undefined ? [bytesIn(from)] : bytesOf(init.body);
    super(stream ?? (bytes === undefined ? null : once(bytes)), bytes);
    const hasBody = stream !== undefined || bytes !== undefined;
    if (init.body === undefined && from !== undefined && stream === undefined) uses(from);
    const method = String(init.method ?? from?.method ?? "GET");
    if (!TOKEN.test(method)) throw new TypeError(`"${method}" is no method`);
    this.method = METHODS.has(method.toUpperCase()) ? method.toUpperCase() : method;
    if (hasBody && (this.method === "GET" || this.method === "HEAD")) throw new TypeError(`a request with ${this.method} has no body`);
    this.url = url.href;
    this.headers = new Headers(init.headers ?? from?.headers);
    if (type !== undefined && !this.headers.has("content-type")) this.headers.append("content-type", type);
    this.redirect = init.redirect ?? from?.redirect ?? "follow";
    if (!["follow", "error", "manual"].includes(this.redirect)) throw new TypeError(`redirect is "follow", "error" or "manual", and not "${this.redirect}"`);
    this.signal = init.signal === undefined ? from?.signal ?? null : init.signal;
    if (this.signal !== null && !(this.signal instanceof AbortSignal)) throw new TypeError("the signal of a request is an AbortSignal");
  }
  clone() {
    if (this.bodyUsed) throw new TypeError("the body was read already");
    return new Request(this, { body: streamIn(this) === undefined ? bytesIn(this) ?? null : split(this) });
  }
}

export class Response extends Body {
  constructor(body = null, init = {}) {
    const [parts, type] = body?.[Symbol.asyncIterator] !== undefined ? [body] : bytesOf(body);
    super(parts === undefined ? null : parts instanceof Uint8Array ? once(parts) : parts);
    this.status = init.status ?? 200;
    if (!(this.status >= 200 && this.status <= 599)) throw new RangeError("the status of a Response is between 200 and 599");
    this.statusText = String(init.statusText ?? "");
    this.headers = new Headers(init.headers);
    if (type !== undefined && !this.headers.has("content-type")) this.headers.append("content-type", type);
    this.url = "";
    this.redirected = false;
    this.type = "default";
  }
  get ok() { return this.status >= 200 && this.status <= 299; }
  clone() {
    const other = new Response(split(this), { statusText: this.statusText, headers: this.headers });
    [other.status, other.url, other.redirected, other.type] = [this.status, this.url, this.redirected, this.type];
    return other;
  }
  static json(value, init = {}) {
    const headers = new Headers(init.headers);
    if (!headers.has("content-type")) headers.set("content-type", "application/json");
    return new Response(JSON.stringify(value), { ...init, headers });
  }
}

const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** Answers that have no body. */
const EMPTY = new Set([204, 205, 304]);

/** What the host says, and what is between it and the next server: nobody else has a say, as in browsers. */
const FORBIDDEN = new Set(["connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]);

/** What a server may want to know of who asks, if the author says nothing else. */
const DEFAULTS = [["accept", "*/*"], ["user-agent", "bulkhead"]];

/** Of the names and values of headers: as many as the host takes. */
const MAX_HEADER_BYTES = 32_000;

/** `Location` is what servers write into it, which is UTF-8 mostly. */
const utf8 = (latin) => new TextDecoder().decode(Uint8Array.from(latin, (character) => character.charCodeAt(0)));

/** Headers that another origin does not get. */
const PRIVATE = ["authorization", "cookie", "proxy-authorization"];

/** The longest that a request waits for room, and the longest pause between two tries, in milliseconds. */
const [MOST, PAUSE] = [30_000, 50];

/** The number of a request, and the head of its answer. One that the host has no room for waits until others have ended. */
const ask = async (sent, body, what, signal) => {
  const until = performance.now() + MOST;
  for (let pause = 1; ; pause = Math.min(2 * pause, PAUSE)) {
    const id = failed(callBytes("httpSend", [sent], body)[0]);
    let head;
    while ((head = call("httpHead", id)) === null) await news(id, what, signal);
    if (head.Err?.code !== "full") return [id, failed(head)];
    if (performance.now() > until) throw new FetchError("unavailable", head.Err.message);
    await new Promise((resolve) => quietTimer(resolve, pause));
    signal?.throwIfAborted();
  }
};

/** The bytes of a body. What is sent has a length, which the host says: a stream is read before. */
const sentOf = async (request) => {
  if (streamIn(request) === undefined) return bytesIn(request);
  const { signal } = request;
  const reader = request.body.getReader();
  const cancel = (reason) => void reader.cancel(reason).catch(() => {});
  const stop = signal && onAbort(signal, () => cancel(signal.reason));
  try {
    signal?.throwIfAborted();
    return await whole(read(reader), signal);
  } catch (error) {
    cancel(error);
    throw error;
  } finally {
    stop?.();
  }
};

export async function fetch(input, init) {
  const request = new Request(input, init);
  const { signal, headers, redirect } = request;
  let { method } = request;
  let [url, body] = [new URL(request.url), await sentOf(request)];
  for (let hops = 0; ; hops++) {
    signal?.throwIfAborted();
    for (const [name, value] of DEFAULTS) if (!headers.has(name)) headers.set(name, value);
    const sent = [...headers].filter(([name]) => !FORBIDDEN.has(name));
    url.hash = "";
    // As errors name it: what is secret is in queries.
    const what = `${method} ${url.origin}${url.pathname}`;
    const size = sent.reduce((sum, [name, value]) => sum + name.length + value.length, 0);
    if (size > MAX_HEADER_BYTES) throw new FetchError("invalid", `${what}: headers of ${size} bytes, at most ${MAX_HEADER_BYTES}`);
    // A server may want to know that nothing comes.
    const hasBody = body !== undefined || ["PATCH", "POST", "PUT"].includes(method);
    const [id, { status, headers: answered }] = await ask({ method, url: url.href, headers: sent, hasBody }, body, what, signal);
    const location = answered.find(([name]) => name.toLowerCase() === "location")?.[1];
    if (!REDIRECTS.has(status) || location === undefined || redirect === "manual") {
      const isEmpty = method === "HEAD" || EMPTY.has(status);
      let stop;
      const close = () => { stop?.(); call("httpClose", id); };
      if (isEmpty) close();
      const response = new Response(isEmpty ? null : partsOf(id, what, signal, close), { headers: answered });
      closes(response, close);
      // Also of one whose body nobody reads at the moment.
      if (!isEmpty) stop = signal && onAbort(signal, () => fails(response, signal.reason));
      [response.status, response.url, response.redirected, response.type] = [status, url.href, hops > 0, "basic"];
      return response;
    }
    call("httpClose", id);
    if (redirect === "error") throw new FetchError("broken", `${what}: it was redirected`);
    if (hops === MAX_REDIRECTS) throw new FetchError("broken", `${what}: more than ${MAX_REDIRECTS} redirects`);
    const next = URL.parse(utf8(location), url);
    if (next === null) throw new FetchError("broken", `${what}: redirected to an invalid URL`);
    if (status === 303 ? method !== "GET" && method !== "HEAD" : status <= 302 && method === "POST") {
      [method, body] = ["GET", undefined];
      for (const name of ["content-type", "content-encoding", "content-language", "content-location"]) headers.delete(name);
    }
    if (next.origin !== url.origin) for (const name of PRIVATE) headers.delete(name);
    url = next;
  }
}

define("Headers", Headers);
define("Request", Request);
define("Response", Response);
define("fetch", fetch);
