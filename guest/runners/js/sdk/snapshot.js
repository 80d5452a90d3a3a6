// What outlives an incarnation: `{ v, state, history }` as JSON.
import { fromJson, toJson } from "bulkhead:native";
import { AgentError } from "bulkhead:errors";

/** Of the snapshot's form. */
const VERSION = 1;

/** Objects that JSON writes with all that is in them. Of a `Map`, an `Error`, a `Promise`, … it would write `{}`. */
const PLAIN = ["Object", "Array", "String", "Number", "Boolean"];

const step = (key) => (typeof key === "number" ? `[${key}]` : /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${toJson(key)}]`);

const pathOf = (place) => {
  const steps = [];
  for (; place.within; place = place.within) steps.push(step(place.key));
  return `state${steps.reverse().join("")}`;
};

const a = (name) => `is ${/^[AEIO]/.test(name) ? "an" : "a"} ${name}`;

const isObject = (value) => typeof value === "object" && value !== null;

/** What JSON writes for it. */
const written = (value, key) => (typeof value?.toJSON === "function" ? value.toJSON(String(key ?? "")) : value);

/** Why JSON cannot hold a value, whatever is in it. */
const wrong = (value, around) => {
  if (typeof value === "bigint") return a("BigInt");
  if (typeof value === "function" || typeof value === "symbol") return a(typeof value);
  if (!isObject(value)) return undefined;
  if (around.has(value)) return "is a part of itself";
  const kind = Object.prototype.toString.call(value).slice(8, -1);
  return PLAIN.includes(kind) ? undefined : a(value.constructor?.name || kind);
};

/** What keeps a state from being JSON, by its path. Without recursion: a state may be nested deeper than calls may be. */
const unwritable = (state) => {
  const around = new Set();
  const waiting = [{ value: state }];
  while (waiting.length > 0) {
    const place = waiting.pop();
    if (place.left) {
      around.delete(place.left);
      continue;
    }
    const value = written(place.value, place.key);
    const why = wrong(value, around);
    if (why) return `${pathOf(place)} ${why}`;
    if (!isObject(value)) continue;
    around.add(value);
    waiting.push({ left: value });
    for (const key of Array.isArray(value) ? value.keys() : Object.keys(value)) {
      const inner = value[key];
      if (isObject(inner) || !["string", "number", "boolean", "undefined", "object"].includes(typeof inner)) waiting.push({ value: inner, key, within: place });
    }
  }
  return undefined;
};

const isEmpty = (value) => value === undefined || value === null || (typeof value === "object" && Object.keys(value).length === 0);

/** The snapshot; empty if there is nothing to keep. */
export const write = (state, history) => {
  let why;
  try {
    why = unwritable(state);
    if (!why) return isEmpty(state) && history.length === 0 ? "" : toJson({ v: VERSION, state, history });
  } catch (thrown) {
    // By a getter of the author's, or because it is nested too deep.
    why = `it throws ${thrown}`;
  }
  throw new AgentError("snapshot-failed", `state cannot be written as JSON: ${why}`);
};

/** State and history of one. */
export const read = (text) => {
  const { v, state, history } = parsed(text);
  if (v !== VERSION) throw new AgentError("snapshot-version", `a snapshot of version ${v} was offered, this runner reads ${VERSION}`, { fatal: true });
  return { state, history };
};

const parsed = (text) => {
  try {
    return fromJson(text) ?? {};
  } catch (cause) {
    throw new AgentError("snapshot-unreadable", `the snapshot is no JSON: ${cause.message}`, { fatal: true });
  }
};
