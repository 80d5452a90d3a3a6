// What the runner's Rust code calls.
import { fromJson, kebab, toJson } from "bulkhead:native";
import { Life } from "bulkhead:agent";
import { AgentError, FetchError } from "bulkhead:errors";
import { begin } from "bulkhead:globals";
import { drop, runNext, untilNext } from "bulkhead:timers";
import { arrived, forget } from "bulkhead:news";
import "@bulkhead/agent";
import "bulkhead:fetch";

/** As many as a host keeps. */
const MAX_EXCEPTIONS = 8;
/** Characters of a kind and of a message that the host keeps, at most. A longer one costs more than a call may copy. */
const MAX_KIND = 256;
const MAX_MESSAGE = 4096;

/** What an `AbortSignal` throws. */
const ABORTED = { AbortError: "aborted", TimeoutError: "timeout" };

Error.stackTraceLimit = 64;

let life;

const text = (value) => {
  try {
    return typeof value === "object" && value !== null ? toJson(value) : String(value);
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
  stack: value instanceof Error ? String(value.stack ?? "") : "",
});

/** What was thrown, and what caused it. Each part may itself be made to throw. */
const chain = (thrown) => {
  const found = [];
  const seen = new Set();
  for (let value = thrown; found.length < MAX_EXCEPTIONS && !seen.has(value); ) {
    seen.add(value);
    try {
      found.push(exception(value));
      if (!(value instanceof Error)) break;
      value = value.cause ?? value.errors?.[0];
      if (value === undefined) break;
    } catch {
      found.push({ kind: "unknown", message: "an exception that cannot be read", stack: "" });
      break;
    }
  }
  return found;
};

export const runtime = {
  begin,
  untilNext,
  runNext,
  drop,
  arrived,
  forgetRequests: forget,
  pending: () => life?.pending ?? 0,
  live: ({ default: exported }, entry) => void (life = new Life(exported, entry)),
  start: (json) => life.start(fromJson(json)),
  handle: (json) => life.handle(fromJson(json)),
  snapshot: () => life.snapshot(),
  restore: (json) => life.restore(json),
  shutdown: (reason) => life.shutdown(kebab(reason)),
  /** After the build's rehearsal. */
  forget: () => void (life = undefined),
  chain: (thrown) => toJson(chain(thrown)),
  /** Where the handler is defined that was called last. */
  place: () => life?.place ?? "",
  /** Of an error that the author chose, and of one that is nobody's defect. */
  chosen: (thrown) => {
    const http = thrown instanceof FetchError ? thrown.code : thrown instanceof DOMException ? ABORTED[thrown.name] : undefined;
    if (http !== undefined) return toJson({ code: `http-${http}`, message: thrown.message, fatal: false, exceptions: [] });
    return thrown instanceof AgentError ? toJson({ code: thrown.code, message: thrown.message, fatal: thrown.fatal, exceptions: [] }) : "";
  },
};
