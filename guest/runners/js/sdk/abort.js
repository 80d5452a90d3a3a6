// `AbortController` and `AbortSignal`.
import { define } from "bulkhead:globals";
import { Event, EventTarget, notify } from "bulkhead:events";
import { quietTimer } from "bulkhead:timers";

/** Nobody else makes one. */
const OWN = Symbol("own");

let abort;

export class AbortSignal extends EventTarget {
  #aborted = false;
  #reason;
  onabort = null;

  constructor(key) {
    super();
    if (key !== OWN) throw new TypeError("an AbortSignal comes from an AbortController, AbortSignal.abort, .timeout or .any");
  }

  get aborted() { return this.#aborted; }
  get reason() { return this.#reason; }
  throwIfAborted() { if (this.#aborted) throw this.#reason; }

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
      const event = new Event("abort");
      if (typeof signal.onabort === "function") notify(signal, signal.onabort, event);
      signal.dispatchEvent(event);
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
