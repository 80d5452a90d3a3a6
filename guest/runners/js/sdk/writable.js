// What is behind a `WritableStream`, its controller and its writers, and how another stream is piped into it.
import { AbortController, AbortSignal, onAbort } from "bulkhead:abort";
import { Queue, deferred, locked, none, one, promised, rejected, released, resolved } from "bulkhead:queue";
import { Reader, reading } from "bulkhead:readable";

/** A `WritableStream` and its controller. */
export class Writable {
  state = "writable";
  error;
  writer = null;
  queue = new Queue();
  isStarted = false;
  hasBackpressure = false;
  aborter = new AbortController();
  #writes = [];
  #write = null;
  #close = null;
  #closing = null;
  #abort = null;

  constructor({ write = none, close = none, abort = none }, highWaterMark, size = one) {
    [this.sink, this.highWaterMark, this.size] = [{ write, close, abort }, highWaterMark, size];
    this.hasBackpressure = this.desiredSize <= 0;
  }
  start(start) {
    Promise.resolve(start()).then(() => { this.isStarted = true; this.#advance(); }, (error) => { this.isStarted = true; this.#reject(error); });
    return this;
  }
  get isClosing() { return this.#close !== null || this.#closing !== null; }
  get desiredSize() {
    if (this.state === "errored" || this.state === "erroring") return null;
    return this.state === "closed" ? 0 : this.highWaterMark - this.queue.total;
  }
  write(chunk) {
    let size;
    try {
      size = Number(this.size(chunk));
    } catch (error) {
      this.fail(error);
      size = 1;
    }
    if (this.state === "errored" || this.state === "erroring") return Promise.reject(this.error);
    if (this.isClosing || this.state === "closed") return Promise.reject(new TypeError("the stream is closed"));
    const written = Promise.withResolvers();
    try {
      this.queue.add({ chunk }, size);
    } catch (error) {
      this.fail(error);
      return Promise.reject(error);
    }
    this.#writes.push(written);
    this.#press();
    this.#advance();
    return written.promise;
  }
  close() {
    if (this.state === "closed" || this.state === "errored" || this.isClosing) return Promise.reject(new TypeError("the stream is closed"));
    this.#close = Promise.withResolvers();
    if (this.writer !== null && this.hasBackpressure && this.state === "writable") this.writer.ready.resolve();
    this.queue.add(null, 0);
    const { promise } = this.#close;
    this.#advance();
    return promise;
  }
  abort(reason) {
    if (this.state === "closed" || this.state === "errored") return Promise.resolve();
    this.aborter.abort(reason);
    if (this.state === "closed" || this.state === "errored") return Promise.resolve();
    if (this.#abort !== null) return this.#abort.promise;
    const wasErroring = this.state === "erroring";
    this.#abort = { ...Promise.withResolvers(), reason: wasErroring ? undefined : reason, wasErroring };
    const { promise } = this.#abort;
    if (!wasErroring) this.#startErroring(reason);
    return promise;
  }
  /** An error of the controller. */
  fail(error) {
    if (this.state !== "writable") return;
    this.#forget();
    this.#startErroring(error);
  }
  #press() {
    if (this.isClosing || this.state !== "writable") return;
    const has = this.desiredSize <= 0;
    if (this.writer !== null && has !== this.hasBackpressure) {
      if (has) this.writer.ready = deferred();
      else this.writer.ready.resolve();
    }
    this.hasBackpressure = has;
  }
  #advance() {
    if (!this.isStarted || this.#write !== null) return;
    if (this.state === "erroring") return this.#finishErroring();
    if (this.queue.isEmpty || this.state !== "writable") return;
    if (this.queue.first === null) this.#runClose();
    else this.#runWrite(this.queue.first.chunk);
  }
  #runWrite(chunk) {
    this.#write = this.#writes.shift();
    promised(() => this.sink.write(chunk)).then(() => {
      this.#write.resolve();
      this.#write = null;
      this.queue.take();
      this.#press();
      this.#advance();
    }, (error) => {
      if (this.state === "writable") this.#forget();
      this.#write.reject(error);
      this.#write = null;
      this.#reject(error);
    });
  }
  #runClose() {
    [this.#closing, this.#close] = [this.#close, null];
    this.queue.take();
    const closed = promised(this.sink.close);
    this.#forget();
    closed.then(() => {
      this.#closing.resolve();
      this.#closing = null;
      if (this.state === "erroring") {
        this.error = undefined;
        this.#abort?.resolve();
        this.#abort = null;
      }
      this.state = "closed";
      this.writer?.closed.resolve();
    }, (error) => {
      this.#closing.reject(error);
      this.#closing = null;
      this.#abort?.reject(error);
      this.#abort = null;
      this.#reject(error);
    });
  }
  #reject(error) {
    if (this.state === "writable") this.#startErroring(error);
    else if (this.state === "erroring") this.#finishErroring();
  }
  #startErroring(error) {
    [this.state, this.error] = ["erroring", error];
    this.writer?.notReady(error);
    if (this.#write === null && this.#closing === null && this.isStarted) this.#finishErroring();
  }
  #finishErroring() {
    if (this.#write !== null || this.#closing !== null) return;
    this.state = "errored";
    this.queue.clear();
    for (const write of this.#writes.splice(0)) write.reject(this.error);
    const [abort, { abort: abortSink }] = [this.#abort, this.sink];
    this.#abort = null;
    if (abort === null || abort.wasErroring) {
      abort?.reject(this.error);
      return this.#rejectClosed();
    }
    const aborted = promised(() => abortSink(abort.reason));
    this.#forget();
    aborted.then(() => { abort.resolve(); this.#rejectClosed(); }, (error) => { abort.reject(error); this.#rejectClosed(); });
  }
  #rejectClosed() {
    this.#close?.reject(this.error);
    this.#close = null;
    this.writer?.closed.reject(this.error);
  }
  #forget() { [this.sink, this.size] = [{ write: none, close: none, abort: none }, one]; }
}

/** A `WritableStreamDefaultWriter`. */
export class Writer {
  constructor(writable) {
    if (writable.writer !== null) throw locked();
    [this.writable, writable.writer] = [writable, this];
    const { state, error } = writable;
    this.ready = state === "writable" && !writable.isClosing && writable.hasBackpressure ? deferred() : state === "errored" || state === "erroring" ? rejected(error) : resolved();
    this.closed = state === "errored" ? rejected(error) : state === "closed" ? resolved() : deferred();
  }
  notReady(error) {
    // Of a promise that is resolved already nothing changes.
    this.ready.reject(error);
    this.ready = rejected(error);
  }
  release() {
    if (this.writable === undefined) return;
    this.notReady(released());
    this.closed.reject(released());
    this.closed = rejected(released());
    [this.writable.writer, this.writable] = [null, undefined];
  }
}

/** `pipeTo`. */
export const pipe = (readable, writable, { preventClose = false, preventAbort = false, preventCancel = false, signal }) => {
  if (signal !== undefined && !(signal instanceof AbortSignal)) return Promise.reject(new TypeError("the signal is an AbortSignal"));
  const [reader, writer, ended] = [new Reader(readable), new Writer(writable), Promise.withResolvers()];
  readable.isDisturbed = true;
  let [written, isEnding, stop] = [Promise.resolve(), false, undefined];
  const allWritten = async () => { for (let last; last !== written;) { last = written; await last; } };
  const end = async (act, failure) => {
    if (isEnding) return;
    isEnding = true;
    try {
      if (writable.state === "writable" && !writable.isClosing) await allWritten();
      await act?.();
    } catch (error) {
      failure = { error };
    }
    writer.release();
    reader.release();
    stop?.();
    if (failure === undefined) ended.resolve();
    else ended.reject(failure.error);
  };
  const abort = () => {
    const { reason } = signal;
    end(() => Promise.all([
      !preventAbort && writable.state === "writable" && writable.abort(reason),
      !preventCancel && readable.state === "readable" && readable.cancel(reason),
    ]), { error: reason });
  };
  if (signal?.aborted) { abort(); return ended.promise; }
  stop = signal && onAbort(signal, abort);
  reader.closed.promise.then(
    () => end(preventClose ? undefined : async () => { if (!writable.isClosing && writable.state !== "closed") await (writable.state === "errored" ? Promise.reject(writable.error) : writable.close()); }),
    (error) => end(preventAbort ? undefined : () => writable.abort(error), { error }),
  );
  const gone = (error) => end(preventCancel ? undefined : () => readable.cancel(error), { error });
  writer.closed.promise.then(() => gone(new TypeError("the target is closed")), gone);
  // After what becomes of the source.
  if (writable.isClosing) Promise.resolve().then(() => gone(new TypeError("the target is closed")));
  const step = async () => {
    while (!isEnding) {
      await writer.ready.promise;
      if (isEnding) return;
      const request = reading();
      reader.read({ ...request, chunk: (value) => { written = writable.write(value).catch(none); request.chunk(value); } });
      if ((await request.promise).done) return;
    }
  };
  step().catch(none);
  return ended.promise;
};
