// `AbortController` and `AbortSignal`.
import { define } from "bulkhead:lazy";
import { quietTimer } from "bulkhead:timers";

/** Nobody else makes one. */
const OWN = Symbol("own");

export class AbortSignal {
  #aborted = false;
  #reason;
  #listeners = new Set();
  onabort = null;

  constructor(key) {
    if (key !== OWN) throw new TypeError("an AbortSignal comes from an AbortController, AbortSignal.abort, .timeout or .any");
  }

  get aborted() { return this.#aborted; }
  get reason() { return this.#reason; }
  throwIfAborted() { if (this.#aborted) throw this.#reason; }

  addEventListener(type, listener, options) {
    if (type !== "abort" || !listener || this.#aborted) return;
    for (const known of this.#listeners) if (known.listener === listener) return;
    this.#listeners.add({ listener, once: Boolean(options?.once) });
  }
  removeEventListener(type, listener) {
    for (const known of this.#listeners) if (known.listener === listener) this.#listeners.delete(known);
  }

  static abort(reason) {
    const signal = new AbortSignal(OWN);
    abort(signal, reason);
    return signal;
  }
  static timeout(ms) {
    const signal = new AbortSignal(OWN);
    quietTimer(() => abort(signal, new DOMException(`the time of ${Number(ms)} ms is over`, "TimeoutError")), ms);
    return signal;
  }
  static any(signals) {
    const any = new AbortSignal(OWN);
    for (const signal of signals) {
      if (signal.aborted) { abort(any, signal.reason); break; }
      signal.addEventListener("abort", () => abort(any, signal.reason), { once: true });
    }
    return any;
  }

  static abortOf(signal, reason) {
    if (signal.#aborted) return;
    [signal.#aborted, signal.#reason] = [true, reason === undefined ? new DOMException("it was aborted", "AbortError") : reason];
    const event = { type: "abort", target: signal };
    const listeners = [...signal.#listeners].map(({ listener }) => listener);
    signal.#listeners.clear();
    for (const listener of [signal.onabort, ...listeners]) {
      try {
        if (typeof listener === "function") listener.call(signal, event);
        else listener?.handleEvent?.(event);
      } catch (error) {
        // It is reported, and keeps no other one from hearing of it.
        Promise.reject(error);
      }
    }
  }
}

const abort = AbortSignal.abortOf;
delete AbortSignal.abortOf;

export class AbortController {
  #signal = new AbortSignal(OWN);
  get signal() { return this.#signal; }
  abort(reason) { abort(this.#signal, reason); }
}

define("AbortSignal", AbortSignal);
define("AbortController", AbortController);
