// Globals that authors expect beside those of the language.
import { native } from "bulkhead:native";
import { log } from "bulkhead:host";
import { format } from "bulkhead:inspect";

export const define = (name, value) => {
  // Libraries tell classes by it.
  if (/^[A-Z]/.test(name)) Object.defineProperty(value.prototype, Symbol.toStringTag, { value: name, configurable: true });
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
};

// The seed of QuickJS's own generator is in the memory that all agents begin with.
Object.defineProperty(Math, "random", { value: { random: () => native.random() }.random, configurable: true, writable: true });

const since = { origin: 0 };
define("performance", { now: () => native.monotonicMs() - since.origin, get timeOrigin() { return Date.now() - this.now(); } });
/** What begins with each incarnation. */
export const begin = () => { since.origin = native.monotonicMs(); };

const counts = new Map();
const times = new Map();
const level = (write) => (...args) => write(args.length === 0 ? "" : format(...args));
define("console", {
  log: level(log.info), info: level(log.info), debug: level(log.debug), warn: level(log.warn), error: level(log.error),
  dir: (value) => log.info(format(value)),
  table: (value) => log.info(format(value)),
  group: level(log.info), groupCollapsed: level(log.info), groupEnd() {},
  trace: (...args) => log.debug(`${args.length === 0 ? "trace" : format(...args)}\n${new Error().stack}`),
  assert: (held, ...args) => { if (!held) log.error(`assertion failed${args.length === 0 ? "" : `: ${format(...args)}`}`); },
  count: (label = "default") => { counts.set(label, (counts.get(label) ?? 0) + 1); log.info(`${label}: ${counts.get(label)}`); },
  countReset: (label = "default") => void counts.delete(label),
  time: (label = "default") => void times.set(label, performance.now()),
  timeEnd: (label = "default") => { log.info(`${label}: ${(performance.now() - times.get(label)).toFixed(3)} ms`); times.delete(label); },
});

define("TextEncoder", class TextEncoder {
  get encoding() { return "utf-8"; }
  encode(text = "") { return native.encode(String(text).toWellFormed()); }
  encodeInto(text, target) {
    let [read, written] = [0, 0];
    for (const character of String(text).toWellFormed()) {
      const bytes = this.encode(character);
      if (written + bytes.length > target.length) break;
      target.set(bytes, written);
      read += character.length;
      written += bytes.length;
    }
    return { read, written };
  }
});

const octets = (input) => {
  if (input === undefined) return new Uint8Array();
  if (input instanceof ArrayBuffer) return new Uint8Array(input);
  return new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
};

/** How many bytes at the end begin a character that has more. */
const unfinished = (bytes) => {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back];
    if ((byte & 0xc0) === 0x80) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
};

define("TextDecoder", class TextDecoder {
  #fatal;
  #ignoreBom;
  #rest = new Uint8Array();
  #begun = false;
  constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
    if (!/^\s*(utf-?8|unicode-1-1-utf-8)\s*$/i.test(label)) throw new RangeError(`the encoding "${label}" is not supported: utf-8 is`);
    [this.#fatal, this.#ignoreBom] = [fatal, ignoreBOM];
  }
  get encoding() { return "utf-8"; }
  get fatal() { return this.#fatal; }
  get ignoreBOM() { return this.#ignoreBom; }
  decode(input, { stream = false } = {}) {
    let bytes = octets(input);
    if (this.#rest.length > 0) {
      const joined = new Uint8Array(this.#rest.length + bytes.length);
      joined.set(this.#rest);
      joined.set(bytes, this.#rest.length);
      bytes = joined;
    }
    const kept = stream ? unfinished(bytes) : 0;
    this.#rest = bytes.slice(bytes.length - kept);
    const text = native.decode(bytes.subarray(0, bytes.length - kept), this.#fatal);
    const first = !this.#begun;
    this.#begun = stream && (this.#begun || bytes.length > kept);
    return first && !this.#ignoreBom && text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
  }
});

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
define("crypto", {
  getRandomValues(array) {
    octets(array).set(native.randomBytes(array.byteLength));
    return array;
  },
  randomUUID() {
    const bytes = native.randomBytes(16);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    return hex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  },
});

const uncloneable = (value) => new DOMException(`${typeof value === "function" ? `function ${value.name}` : String(value)} could not be cloned`, "DataCloneError");

const { getPrototypeOf, keys } = Object;
const { isArray } = Array;
const plain = Object.prototype;

const copy = (value, seen) => {
  if (typeof value === "function" || typeof value === "symbol") throw uncloneable(value);
  if (typeof value !== "object" || value === null) return value;
  if (seen.has(value)) return seen.get(value);
  const keep = (made) => { seen.set(value, made); return made; };
  // First, and apart: to look at a class is to write to it, to its count of references, and pages that are written to are
  // an agent's own.
  if (isArray(value) || getPrototypeOf(value) === plain) return fill(keep(isArray(value) ? new Array(value.length) : {}), value, seen);
  return copyInstance(value, seen, keep);
};

const fill = (made, value, seen) => {
  for (const key of keys(value)) made[key] = copy(value[key], seen);
  return made;
};

const copyInstance = (value, seen, keep) => {
  if (value instanceof Date) return keep(new Date(value.getTime()));
  if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
  if (value instanceof ArrayBuffer) return keep(value.slice(0));
  if (value instanceof DataView) return keep(new DataView(copy(value.buffer, seen), value.byteOffset, value.byteLength));
  if (ArrayBuffer.isView(value)) return keep(new value.constructor(copy(value.buffer, seen), value.byteOffset, value.length));
  if (value instanceof Boolean || value instanceof Number || value instanceof String) return keep(Object(value.valueOf()));
  if (value instanceof Promise || value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef) throw uncloneable(value);
  if (value instanceof Map) {
    const made = keep(new Map());
    for (const [key, inner] of value) made.set(copy(key, seen), copy(inner, seen));
    return made;
  }
  if (value instanceof Set) {
    const made = keep(new Set());
    for (const inner of value) made.add(copy(inner, seen));
    return made;
  }
  const made = keep(value instanceof Error ? Object.create(getPrototypeOf(value)) : {});
  if (value instanceof Error) {
    for (const name of ["message", "stack", "cause"]) {
      if (Object.hasOwn(value, name)) Object.defineProperty(made, name, { value: copy(value[name], seen), configurable: true, writable: true });
    }
  }
  return fill(made, value, seen);
};
define("structuredClone", function structuredClone(value) { return copy(value, new Map()); });
define("self", globalThis);
// A job that throws would be silent; a rejection is not.
define("queueMicrotask", function queueMicrotask(callback) {
  if (typeof callback !== "function") throw new TypeError("queueMicrotask takes a function");
  Promise.resolve().then(() => void callback());
});

const wrongText = (message) => new DOMException(message, "InvalidCharacterError");
define("btoa", function btoa(text) {
  const characters = String(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) {
    const code = characters.charCodeAt(i);
    if (code > 255) throw wrongText("btoa takes characters up to U+00FF");
    bytes[i] = code;
  }
  return bytes.toBase64();
});
/** Arguments of one call, at most. */
const CHUNK = 4096;
define("atob", function atob(text) {
  const digits = String(text).replace(/[\t\n\f\r ]+/g, "").replace(/={1,2}$/, (end, at) => ((at + end.length) % 4 === 0 ? "" : end));
  if (digits.length % 4 === 1 || digits.includes("=")) throw wrongText("the text is no base64");
  let bytes;
  try {
    bytes = Uint8Array.fromBase64(digits);
  } catch {
    throw wrongText("the text is no base64");
  }
  let out = "";
  for (let i = 0; i < bytes.length; i += CHUNK) out += String.fromCharCode(...bytes.subarray(i, i + CHUNK));
  return out;
});
