// `AbortController` and `AbortSignal`.
import { define } from "bulkhead:globals";
import { quietTimer } from "bulkhead:timers";

/** Nobody else makes one. */
const OWN = Symbol("own");

let abort;

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

  /** An abort comes once, so all listeners are called once. */
  addEventListener(type, listener) {
    if (type === "abort" && listener && !this.#aborted) this.#listeners.add(listener);
  }
  removeEventListener(type, listener) { this.#listeners.delete(listener); }

  static abort(reason) {
    const signal = new AbortSignal(OWN);
    abort(signal, reason);
    return signal;
  }
  static timeout(ms) {
    const signal = new AbortSignal(OWN);
    quietTimer(() => abort(signal, new DOMException(`timed out after ${Number(ms)} ms`, "TimeoutError")), ms);
    return signal;
  }
  static any(signals) {
    const any = new AbortSignal(OWN);
    for (const signal of signals) {
      if (signal.aborted) { abort(any, signal.reason); break; }
      signal.addEventListener("abort", () => abort(any, signal.reason));
    }
    return any;
  }

  static {
    abort = (signal, reason) => {
      if (signal.#aborted) return;
      [signal.#aborted, signal.#reason] = [true, reason === undefined ? new DOMException("aborted", "AbortError") : reason];
      const event = { type: "abort", target: signal };
      const listeners = [...signal.#listeners];
      signal.#listeners.clear();
      for (const listener of [signal.onabort, ...listeners]) {
        try {
          if (typeof listener === "function") listener.call(signal, event);
          else listener?.handleEvent?.(event);
        } catch (error) {
          // It is reported, and the others are called.
          Promise.reject(error);
        }
      }
    };
  }
}

export class AbortController {
  #signal = new AbortSignal(OWN);
  get signal() { return this.#signal; }
  abort(reason) { abort(this.#signal, reason); }
}

define("AbortSignal", AbortSignal);
define("AbortController", AbortController);
