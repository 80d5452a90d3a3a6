// Promises that wait for news of a request: its head, or the next part of its body.
import { call } from "bulkhead:native";
import { FetchError } from "bulkhead:errors";
import { onAbort } from "bulkhead:abort";

/** By the number of the request. */
const waiting = new Map();

const take = (id) => {
  const found = waiting.get(id);
  waiting.delete(id);
  found?.stop?.();
  return found;
};

/** The runner says that a request has news. */
export const arrived = (id) => take(id)?.resolve();

/** At the end of a turn all requests are dropped. */
export const forget = () => {
  for (const id of [...waiting.keys()]) {
    const { reject, what } = take(id);
    reject(new FetchError("broken", `${what}: it was dropped at the end of its turn`));
  }
};

/** Resolves when a request has news. An abort drops it. */
export const news = (id, what, signal) =>
  new Promise((resolve, reject) => {
    const stop = signal && onAbort(signal, () => {
      take(id);
      call("httpClose", id);
      reject(signal.reason);
    });
    waiting.set(id, { resolve, reject, stop, what });
    call("httpWait", id);
  });
