// Promises that wait for news of a request: its head, or the next part of its body.
import { call } from "bulkhead:native";

/** By the number of the request. */
const waiting = new Map();

/** The runner says that a request has news. */
export const arrived = (id) => {
  const resolve = waiting.get(id);
  waiting.delete(id);
  resolve?.();
};

/** At the end of a turn all requests are dropped. */
export const forget = () => waiting.clear();

/** Resolves when a request has news. An abort drops it. */
export const news = (id, signal) =>
  new Promise((resolve, reject) => {
    const stop = () => {
      waiting.delete(id);
      call("httpClose", id);
      reject(signal.reason);
    };
    waiting.set(id, () => {
      signal?.removeEventListener("abort", stop);
      resolve();
    });
    signal?.addEventListener("abort", stop);
    call("httpWait", id);
  });
