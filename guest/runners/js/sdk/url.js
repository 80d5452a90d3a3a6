// `URL` and `URLSearchParams`.
import { define } from "bulkhead:globals";
import { call } from "bulkhead:native";

const pairsOf = (init) => {
  if (init === undefined || init === null) return [];
  if (typeof init === "object" || typeof init === "function") {
    if (typeof init[Symbol.iterator] !== "function") return Object.entries(init).map(([name, value]) => [name, String(value)]);
    return Array.from(init, (pair) => {
      const [name, value, ...more] = pair;
      if (value === undefined || more.length > 0) throw new TypeError("URLSearchParams takes pairs of a name and a value");
      return [String(name), String(value)];
    });
  }
  const text = String(init).toWellFormed();
  return call("formRead", text.startsWith("?") ? text.slice(1) : text);
};

let setPairs;

export class URLSearchParams {
  #pairs;
  #changed = () => {};
  constructor(init) { this.#pairs = pairsOf(init); }
  static {
    setPairs = (params, text, changed) => {
      params.#pairs = pairsOf(text);
      params.#changed = changed;
    };
  }
  get size() { return this.#pairs.length; }
  append(name, value) { this.#pairs.push([String(name), String(value)]); this.#changed(); }
  delete(name, value) {
    this.#pairs = this.#pairs.filter(([key, held]) => key !== String(name) || (value !== undefined && held !== String(value)));
    this.#changed();
  }
  get(name) { return this.#pairs.find(([key]) => key === String(name))?.[1] ?? null; }
  getAll(name) { return this.#pairs.filter(([key]) => key === String(name)).map(([, value]) => value); }
  has(name, value) { return this.#pairs.some(([key, held]) => key === String(name) && (value === undefined || held === String(value))); }
  set(name, value) {
    const first = this.#pairs.find(([key]) => key === String(name));
    if (first === undefined) return this.append(name, value);
    first[1] = String(value);
    this.#pairs = this.#pairs.filter((pair) => pair === first || pair[0] !== String(name));
    this.#changed();
  }
  sort() { this.#pairs.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)); this.#changed(); }
  forEach(callback, self) { for (const [name, value] of this) callback.call(self, value, name, this); }
  *entries() { for (const [name, value] of this.#pairs) yield [name, value]; }
  *keys() { for (const [name] of this.#pairs) yield name; }
  *values() { for (const [, value] of this.#pairs) yield value; }
  [Symbol.iterator]() { return this.entries(); }
  toString() { return call("formWrite", this.#pairs); }
}

export class URL {
  #parts;
  #params;
  constructor(url, base) {
    const parts = call("urlParse", String(url).toWellFormed(), base === undefined ? null : String(base).toWellFormed());
    if (parts === null) throw new TypeError(`invalid URL: ${String(url)}${base === undefined ? "" : ` with the base ${String(base)}`}`);
    this.#parts = parts;
  }
  static canParse(url, base) { return URL.parse(url, base) !== null; }
  static parse(url, base) {
    try {
      return new URL(url, base);
    } catch {
      return null;
    }
  }
  get searchParams() {
    if (this.#params === undefined) {
      this.#params = new URLSearchParams();
      this.#read();
    }
    return this.#params;
  }
  get href() { return this.#parts.href; }
  set href(value) {
    this.#parts = new URL(value).#parts;
    this.#read();
  }
  get origin() { return this.#parts.origin; }
  toString() { return this.href; }
  toJSON() { return this.href; }
  #read() {
    const changed = () => { this.#parts = call("urlSet", this.href, "search", this.#params.toString()); };
    if (this.#params !== undefined) setPairs(this.#params, this.#parts.search, changed);
  }
  static {
    for (const part of ["protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash"]) {
      Object.defineProperty(URL.prototype, part, {
        get() { return this.#parts[part]; },
        set(value) {
          this.#parts = call("urlSet", this.href, part, String(value).toWellFormed());
          if (part === "search") this.#read();
        },
        configurable: true,
        enumerable: true,
      });
    }
  }
}

define("URL", URL);
define("URLSearchParams", URLSearchParams);
