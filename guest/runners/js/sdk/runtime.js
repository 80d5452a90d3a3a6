// What the runner's Rust code calls.
import { fromJson, kebab, toJson } from "bulkhead:native";
import { Life } from "bulkhead:agent";
import { AgentError, FetchError } from "bulkhead:errors";
import { chain, MAX_MESSAGE } from "bulkhead:thrown";
import { begin } from "bulkhead:globals";
import { drop, runNext, untilNext } from "bulkhead:timers";
import { arrived, forget } from "bulkhead:news";
import "@bulkhead/agent";
import "bulkhead:fetch";

/** What an `AbortSignal` throws. */
const ABORTED = { AbortError: "aborted", TimeoutError: "timeout" };

Error.stackTraceLimit = 64;

let life;

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
    const error = (code, fatal) => toJson({ code, message: String(thrown.message).slice(0, MAX_MESSAGE), fatal, exceptions: [] });
    if (http !== undefined) return error(`http-${http}`, false);
    return thrown instanceof AgentError ? error(thrown.code, thrown.fatal) : "";
  },
};
