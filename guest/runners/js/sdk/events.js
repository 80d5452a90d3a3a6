// `Event`, `CustomEvent` and `EventTarget`, which an `AbortSignal` is.
import { define } from "bulkhead:globals";

// For `EventTarget` alone.
let begin, end, isStopped;

export class Event {
  #type;
  #bubbles;
  #cancelable;
  #composed;
  #target = null;
  #current = null;
  #isPrevented = false;
  #isStopped = false;
  #made = performance.now();

  constructor(type, options) {
    const { bubbles = false, cancelable = false, composed = false } = options ?? {};
    [this.#type, this.#bubbles, this.#cancelable, this.#composed] = [String(type), Boolean(bubbles), Boolean(cancelable), Boolean(composed)];
  }
  static {
    begin = (event, target) => {
      if (event.#current !== null) throw new DOMException("the event is being dispatched", "InvalidStateError");
      [event.#target, event.#current] = [target, target];
    };
    end = (event) => { [event.#current, event.#isStopped] = [null, false]; };
    isStopped = (event) => event.#isStopped;
  }
  get type() { return this.#type; }
  get bubbles() { return this.#bubbles; }
  get cancelable() { return this.#cancelable; }
  get composed() { return this.#composed; }
  get target() { return this.#target; }
  get currentTarget() { return this.#current; }
  get eventPhase() { return this.#current === null ? 0 : 2; }
  get isTrusted() { return false; }
  get timeStamp() { return this.#made; }
  get defaultPrevented() { return this.#isPrevented; }
  composedPath() { return this.#current === null ? [] : [this.#current]; }
  preventDefault() { this.#isPrevented ||= this.#cancelable; }
  /** A target has no parents. */
  stopPropagation() {}
  stopImmediatePropagation() { this.#isStopped = true; }
}

export class CustomEvent extends Event {
  #detail;
  constructor(type, options) {
    super(type, options);
    this.#detail = options?.detail ?? null;
  }
  get detail() { return this.#detail; }
}

/** What a listener throws is reported, and the others are called. */
const notify = (target, listener, event) => {
  try {
    if (typeof listener === "function") listener.call(target, event);
    else listener.handleEvent(event);
  } catch (error) {
    Promise.reject(error);
  }
};

export class EventTarget {
  #listeners = [];

  addEventListener(type, listener, options) {
    if (listener === null || listener === undefined) return;
    const { once = false, signal, capture = options === true } = Object(options);
    if (signal?.aborted || this.#at(type, listener, capture) >= 0) return;
    this.#listeners.push({ type: String(type), listener, once, capture: Boolean(capture) });
    signal?.addEventListener("abort", () => this.removeEventListener(type, listener, { capture }), { once: true });
  }
  removeEventListener(type, listener, options) {
    const { capture = options === true } = Object(options);
    const at = this.#at(type, listener, capture);
    if (at >= 0) this.#listeners.splice(at, 1);
  }
  dispatchEvent(event) {
    if (!(event instanceof Event)) throw new TypeError("what is dispatched is an Event");
    begin(event, this);
    for (const held of this.#listeners.filter(({ type }) => type === event.type)) {
      if (isStopped(event)) break;
      // One before it may have removed it.
      if (!this.#listeners.includes(held)) continue;
      if (held.once) this.#listeners.splice(this.#listeners.indexOf(held), 1);
      notify(this, held.listener, event);
    }
    end(event);
    return !event.defaultPrevented;
  }
  #at(type, listener, capture) {
    return this.#listeners.findIndex((held) => held.type === String(type) && held.listener === listener && held.capture === Boolean(capture));
  }
}

define("Event", Event);
define("CustomEvent", CustomEvent);
define("EventTarget", EventTarget);
