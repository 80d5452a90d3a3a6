// What was thrown, as records for the host: each with its kind, its message and its stack.
import { inspect } from "bulkhead:inspect";
import { native, toJson } from "bulkhead:native";
import { stackOf } from "bulkhead:stack";

/** As many as a host keeps. */
const MAX_EXCEPTIONS = 8;
/** Characters of a kind and of a message that the host keeps, at most. A longer one costs more than a call may copy. */
const MAX_KIND = 256;
export const MAX_MESSAGE = 4096;

/** A value that is thrown or printed. */
export const text = (value) => {
  try {
    if (typeof value !== "object" || value === null || value instanceof Error) return String(value);
    return native.isPlain(value) ? toJson(value) : inspect(value);
  } catch {
    return "a value that cannot be written as text";
  }
};

const kind = (value) => {
  if (value === null) return "null";
  if (typeof value !== "object") return typeof value;
  const own = value instanceof Error ? String(value.name) : "Object";
  return own === "Error" || own === "Object" ? value.constructor?.name || own : own;
};

const exception = (value) => ({
  kind: kind(value).slice(0, MAX_KIND),
  message: (value instanceof Error ? String(value.message) : text(value)).slice(0, MAX_MESSAGE),
  stack: value instanceof Error ? stackOf(value) : "",
});

/** What an error tells of others: those that it is about, then its cause. Beside an `AggregateError` others have `errors`, of anything. */
const causes = (value) => {
  if (!(value instanceof Error)) return [];
  const errors = Array.isArray(value.errors) ? value.errors : [];
  const inside = (value instanceof AggregateError ? errors : errors.filter((each) => each instanceof Error)).slice(0, MAX_EXCEPTIONS);
  return value.cause === undefined || value.cause === null ? inside : [...inside, value.cause];
};

/** What was thrown, then what caused it, and so on; of an `AggregateError` what is in it first. Each part may itself be made to throw. */
export const chain = (thrown) => {
  const found = [];
  const seen = new Set();
  for (let waiting = [thrown]; waiting.length > 0 && found.length < MAX_EXCEPTIONS; ) {
    const value = waiting.shift();
    if (seen.has(value)) continue;
    seen.add(value);
    try {
      found.push(exception(value));
      waiting = [...causes(value), ...waiting];
    } catch {
      found.push({ kind: "unknown", message: "an exception that cannot be read", stack: "" });
    }
  }
  return found;
};
