// Values as text for `console`.
import { authorsStackOf } from "bulkhead:stack";

const MAX_DEPTH = 4;
const MAX_ITEMS = 100;

const quoted = (value) => JSON.stringify(value);

const items = (open, list, close, more) => {
  const all = more > 0 ? [...list, `… ${more} more`] : list;
  return all.length === 0 ? open + close : `${open} ${all.join(", ")} ${close}`;
};

const list = (values, open, close, depth, seen, size = values.length) =>
  items(open, values.slice(0, MAX_ITEMS).map((value) => inspect(value, depth + 1, seen)), close, size - Math.min(size, MAX_ITEMS));

const key = (name) => (typeof name === "symbol" ? `[${String(name)}]` : /^[\w$]+$/.test(name) ? name : quoted(name));

const property = (object, name, depth, seen) => {
  const { get, value } = Object.getOwnPropertyDescriptor(object, name);
  return `${key(name)}: ${get ? "[getter]" : inspect(value, depth + 1, seen)}`;
};

const plain = (value, depth, seen) => {
  const name = value.constructor?.name;
  const prefix = name && name !== "Object" ? `${name} ` : "";
  const keys = Object.keys(value);
  return prefix + items("{", keys.slice(0, MAX_ITEMS).map((name) => property(value, name, depth, seen)), "}", keys.length - MAX_ITEMS);
};

const error = (value, depth, seen) => {
  const stack = authorsStackOf(value).trimEnd();
  const cause = value.cause === undefined ? "" : `\ncaused by: ${inspect(value.cause, depth + 1, seen)}`;
  return `${value}${stack && `\n${stack}`}${cause}`;
};

const object = (value, depth, seen) => {
  if (seen.includes(value)) return "[circular]";
  if (value instanceof Error) return error(value, depth, [...seen, value]);
  if (value instanceof Date || value instanceof RegExp) return String(value);
  if (depth > MAX_DEPTH) return Array.isArray(value) ? "[…]" : "{…}";
  const inside = [...seen, value];
  if (Array.isArray(value)) return list(value, "[", "]", depth, inside);
  if (ArrayBuffer.isView(value) && value.length !== undefined) {
    return list(Array.from(value.subarray(0, MAX_ITEMS)), `${value.constructor.name} [`, "]", depth, inside, value.length);
  }
  if (value instanceof Set) return list([...value], "Set {", "}", depth, inside);
  if (value instanceof Map) return items("Map {", [...value].slice(0, MAX_ITEMS).map(([k, v]) => `${inspect(k, depth + 1, inside)} => ${inspect(v, depth + 1, inside)}`), "}", value.size - MAX_ITEMS);
  if (value instanceof Promise) return "Promise";
  return plain(value, depth, inside);
};

/** A value as a person would write it. */
export function inspect(value, depth = 0, seen = []) {
  switch (typeof value) {
    case "string": return depth === 0 ? value : quoted(value);
    case "bigint": return `${value}n`;
    case "function": return `[${value.name || "function"}]`;
    case "object": return value === null ? "null" : object(value, depth, seen);
    default: return String(value);
  }
}

/** The arguments of `console.log`; the first may have `%s` and its like. */
export const format = (first, ...rest) => {
  const values = [...rest];
  const text = typeof first === "string" && values.length > 0
    ? first.replace(/%[sdifjoOc%]/g, (mark) => {
        if (mark === "%%") return "%";
        if (values.length === 0) return mark;
        const value = values.shift();
        if (mark === "%c") return "";
        return mark === "%j" ? JSON.stringify(value) : "di".includes(mark[1]) ? String(Math.trunc(Number(value))) : mark === "%f" ? String(Number(value)) : inspect(value);
      })
    : inspect(first);
  return [text, ...values.map((value) => inspect(value))].join(" ");
};
