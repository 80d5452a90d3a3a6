// What outlives an incarnation: `{ v, state, history }` as JSON.
import { AgentError } from "bulkhead:errors";
import { fromJson, native, toJson } from "bulkhead:native";
import { text } from "bulkhead:thrown";

/** Of the snapshot's form. */
const VERSION = 1;

/** `JSON.stringify` of some thousand uses up the engine's stack. */
const MAX_DEPTH = 1000;

/** Objects that JSON writes with all that is in them. */
const PLAIN = ["Object", "Array", "Arguments", "String", "Number", "Boolean"];
/** Objects that have more than properties. */
const HOLDERS = [Map, Set, Error, RegExp, Promise, ArrayBuffer, Object.getPrototypeOf(Uint8Array)];

const step = (key) => (typeof key === "number" ? `[${key}]` : /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${toJson(key)}]`);

const pathOf = (place) => {
  const steps = [];
  for (; place.within; place = place.within) steps.push(step(place.key));
  return steps.reverse().join("");
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
  // A class may name its objects. Of a `Response`, a `Generator`, … JSON would write `{}`.
  const isWhole = PLAIN.includes(kind) || (Object.keys(value).length > 0 && !HOLDERS.some((holder) => value instanceof holder));
  return isWhole ? undefined : a(value.constructor?.name || kind);
};

/** What keeps a value from being JSON, by its path. Without recursion: it may be nested deeper than calls may be. */
const unwritable = (name, root) => {
  const around = new Set();
  const waiting = [{ value: root }];
  while (waiting.length > 0) {
    const place = waiting.pop();
    if (place.left) {
      around.delete(place.left);
      continue;
    }
    const value = written(place.value, place.key);
    const why = wrong(value, around);
    if (why) return `${name}${pathOf(place)} ${why}`;
    if (!isObject(value)) continue;
    if (around.size > MAX_DEPTH) return "it is nested too deep";
    around.add(value);
    waiting.push({ left: value });
    for (const key of Array.isArray(value) ? value.keys() : Object.keys(value)) {
      const inner = value[key];
      if (isObject(inner) || !["string", "number", "boolean", "undefined", "object"].includes(typeof inner)) waiting.push({ value: inner, key, within: place });
    }
  }
  return undefined;
};

/** JSON of a value. Of one that JSON would lose something of, `refused` makes the error, of the reason. */
export const json = (name, value, refused) => {
  let why;
  try {
    why = native.isPlain(value) ? undefined : unwritable(name, value);
    if (!why) return toJson(value);
  } catch (thrown) {
    // By a getter of the author's, say.
    why = `it throws ${text(thrown)}`;
  }
  throw refused(why);
};

const isEmpty = (value) => value === undefined || value === null || (typeof value === "object" && Object.keys(value).length === 0);

const failed = (name) => (why) => new AgentError("snapshot-failed", `${name} cannot be written as JSON: ${why}`);

/** The snapshot; empty if there is nothing to keep. */
export const write = (state, history) => {
  const [ofState, ofHistory] = [json("state", state, failed("state")), json("history", history, failed("history"))];
  return isEmpty(state) && history.length === 0 ? "" : `{"v":${VERSION},${state === undefined ? "" : `"state":${ofState},`}"history":${ofHistory}}`;
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
