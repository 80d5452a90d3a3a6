// `AbortController` and `AbortSignal`.
import { define } from "bulkhead:globals";
import { Event, EventTarget } from "bulkhead:events";
import { quietTimer } from "bulkhead:timers";

/** Nobody else makes one. */
const OWN = Symbol("own");

let abort;

/** Has the SDK do something when a signal aborts, before authors hear of it. Returns what takes that back. */
export let onAbort;

export class AbortSignal extends EventTarget {
  #aborted = false;
  #reason;
  #steps = new Set();
  #onabort;

  constructor(key) {
    super();
    if (key !== OWN) throw new TypeError("an AbortSignal comes from an AbortController, AbortSignal.abort, .timeout or .any");
  }

  get aborted() { return this.#aborted; }
  get reason() { return this.#reason; }
  throwIfAborted() { if (this.#aborted) throw this.#reason; }
  get onabort() { return this.#onabort ?? null; }
  set onabort(handler) {
    if (this.#onabort === undefined) this.addEventListener("abort", (event) => this.#onabort?.call(this, event));
    this.#onabort = typeof handler === "function" ? handler : null;
  }

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
    const sources = [...signals];
    const aborted = sources.find((signal) => signal.aborted);
    if (aborted !== undefined) {
      abort(any, aborted.reason);
      return any;
    }
    const stops = sources.map((signal) => onAbort(signal, () => {
      for (const stop of stops) stop();
      abort(any, signal.reason);
    }));
    return any;
  }

  static {
    onAbort = (signal, step) => {
      signal.#steps.add(step);
      return () => signal.#steps.delete(step);
    };
    abort = (signal, reason) => {
      if (signal.#aborted) return;
      [signal.#aborted, signal.#reason] = [true, reason === undefined ? new DOMException("aborted", "AbortError") : reason];
      const steps = [...signal.#steps];
      signal.#steps.clear();
      for (const step of steps) step();
      signal.dispatchEvent(new Event("abort"));
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
