// `Blob`, `File` and `FormData`: bytes in memory, and forms as `fetch` sends them.
import { define } from "bulkhead:globals";
import { ReadableStream } from "bulkhead:streams";

const encoder = new TextEncoder();

/** One array of all. */
export const joined = (parts) => {
  if (parts.length === 1) return parts[0];
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => { all.set(part, at); return at + part.length; }, 0);
  return all;
};

// For the SDK alone: what authors get is a copy.
let bytesOf;

const octets = (part) => {
  if (part instanceof Blob) return bytesOf(part);
  if (part instanceof ArrayBuffer) return new Uint8Array(part.slice(0));
  if (ArrayBuffer.isView(part)) return new Uint8Array(part.buffer, part.byteOffset, part.byteLength).slice();
  return encoder.encode(String(part));
};

export class Blob {
  #bytes;
  #type;
  constructor(parts = [], options) {
    const { type = "" } = options ?? {};
    if (typeof parts !== "object") throw new TypeError("the parts of a Blob are a list");
    this.#bytes = joined(Array.from(parts, octets));
    this.#type = /^[ -~]*$/.test(type) ? String(type).toLowerCase() : "";
  }
  static { bytesOf = (blob) => blob.#bytes; }
  get size() { return this.#bytes.length; }
  get type() { return this.#type; }
  slice(start, end, type = "") { return new Blob([this.#bytes.subarray(start, end)], { type }); }
  async bytes() { return this.#bytes.slice(); }
  async arrayBuffer() { return this.#bytes.slice().buffer; }
  async text() { return new TextDecoder().decode(this.#bytes); }
  stream() {
    const bytes = this.#bytes.slice();
    return new ReadableStream({
      start(controller) {
        if (bytes.length > 0) controller.enqueue(bytes);
        controller.close();
      },
    });
  }
}

export class File extends Blob {
  constructor(parts, name, options) {
    super(parts, options);
    this.name = String(name);
    this.lastModified = options?.lastModified ?? Date.now();
  }
}

const entry = (name, value, filename) => {
  if (!(value instanceof Blob)) return [String(name).toWellFormed(), String(value).toWellFormed()];
  const isNamed = value instanceof File && filename === undefined;
  return [String(name).toWellFormed(), isNamed ? value : new File([value], filename ?? value.name ?? "blob", { type: value.type })];
};

export class FormData {
  #entries = [];
  append(name, value, filename) { this.#entries.push(entry(name, value, filename)); }
  delete(name) { this.#entries = this.#entries.filter(([held]) => held !== String(name)); }
  get(name) { return this.#entries.find(([held]) => held === String(name))?.[1] ?? null; }
  getAll(name) { return this.#entries.filter(([held]) => held === String(name)).map(([, value]) => value); }
  has(name) { return this.#entries.some(([held]) => held === String(name)); }
  set(name, value, filename) {
    const at = this.#entries.findIndex(([held]) => held === String(name));
    if (at < 0) return this.append(name, value, filename);
    this.#entries = this.#entries.filter(([held], index) => index <= at || held !== String(name));
    this.#entries[at] = entry(name, value, filename);
  }
  forEach(callback, self) { for (const [name, value] of this) callback.call(self, value, name, this); }
  *entries() { for (const [name, value] of this.#entries) yield [name, value]; }
  *keys() { for (const [name] of this) yield name; }
  *values() { for (const [, value] of this) yield value; }
  [Symbol.iterator]() { return this.entries(); }
}

const LINE_BREAK = /\r\n|\r|\n/g;
const quoted = (text) => text.replace(/[\r\n"]/g, (character) => ({ "\r": "%0D", "\n": "%0A", '"': "%22" })[character]);

/** The bytes of a blob or form, and their type. `undefined`: it is neither. */
export const encoded = (body) => {
  if (body instanceof Blob) return [bytesOf(body), body.type === "" ? undefined : body.type];
  if (!(body instanceof FormData)) return undefined;
  const boundary = `bulkhead-${crypto.randomUUID()}`;
  const parts = [];
  for (const [name, value] of body) {
    const isFile = value instanceof File;
    const filename = isFile ? `; filename="${quoted(value.name)}"\r\ncontent-type: ${value.type || "application/octet-stream"}` : "";
    parts.push(
      encoder.encode(`--${boundary}\r\ncontent-disposition: form-data; name="${quoted(name.replace(LINE_BREAK, "\r\n"))}"${filename}\r\n\r\n`),
      isFile ? bytesOf(value) : encoder.encode(value.replace(LINE_BREAK, "\r\n")),
      encoder.encode("\r\n"),
    );
  }
  return [joined([...parts, encoder.encode(`--${boundary}--\r\n`)]), `multipart/form-data; boundary=${boundary}`];
};

define("Blob", Blob);
define("File", File);
define("FormData", FormData);
