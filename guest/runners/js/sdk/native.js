// What the runner's Rust code offers. Most of it takes JSON text, a list of arguments, and returns JSON text.
export const native = globalThis.native;
delete globalThis.native;

// An author's code may replace these in its globals.
const { parse, stringify } = JSON;

/** Half of a surrogate pair is no Unicode text, and `stringify` writes it as an escape. */
const wellFormed = (json) =>
  json.includes("\\ud") ? json.replace(/(\\\\)|\\ud[89a-f][0-9a-f]{2}/g, (_, backslashes) => backslashes ?? "\ufffd") : json;

export const toJson = (value) => wellFormed(stringify(value) ?? "null");
export const fromJson = parse;

/** Calls a function that takes and returns JSON. */
export const call = (name, ...args) => parse(native[name](toJson(args)));

/** Calls a function that takes JSON and bytes, and returns JSON and bytes. */
export const callBytes = (name, args, input) => {
  const [json, ...output] = native[name](toJson(args), input ?? new Uint8Array());
  return [parse(json), ...output];
};

/** The names of the contract's cases, which come again with every message. */
const kebabs = new Map();

/** `not-found` of `NotFound`. */
export const kebab = (name) => {
  let found = kebabs.get(name);
  if (found === undefined) kebabs.set(name, (found = name.replace(/(?<!^)[A-Z]/g, "-$&").toLowerCase()));
  return found;
};

/** `NotFound` of `not-found`. */
export const pascal = (name) => name.replace(/(?:^|-)(.)/g, (_, letter) => letter.toUpperCase());

/** Records come with keys like `used_bytes`, and authors read `usedBytes`. */
export const camel = (value) => {
  if (Array.isArray(value)) return value.map(camel);
  if (value === null || typeof value !== "object") return value ?? undefined;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key.replace(/_(.)/g, (_, l) => l.toUpperCase()), camel(inner)]));
};

/** Splits a variant into its case and what it holds: `{"NotFound": "x"}`, or `"Cancelled"`. */
export const variant = (value) => (typeof value === "string" ? [kebab(value)] : Object.entries(value).map(([name, held]) => [kebab(name), held])[0]);
