// What is behind a `TransformStream`: a writable stream whose chunks come out of a readable one.
import { deferred, none, promised } from "bulkhead:queue";
import { Readable } from "bulkhead:readable";
import { Writable } from "bulkhead:writable";

/** A `TransformStream`. */
export class Transform {
  #hasBackpressure = true;
  #changed = deferred();
  #finished = null;

  constructor({ transform, flush = none, cancel = none }, writableMark, writableSize, readableMark, readableSize) {
    this.author = { transform: transform ?? ((chunk) => this.enqueue(chunk)), flush, cancel };
    this.writable = new Writable({ write: (chunk) => this.#write(chunk), close: () => this.#close(), abort: (reason) => this.#abort(reason) }, writableMark, writableSize);
    this.readable = new Readable({ pull: () => { this.#press(false); return this.#changed.promise; }, cancel: (reason) => this.#cancel(reason) }, readableMark, readableSize);
  }
  start(start) {
    const begun = deferred();
    this.writable.start(() => begun.promise);
    this.readable.start(() => begun.promise);
    begun.resolve(start());
  }
  enqueue(chunk) {
    if (!this.readable.canTake) throw new TypeError("the stream is closed");
    try {
      this.readable.enqueue(chunk);
    } catch (error) {
      this.#failWritable(error);
      throw this.readable.error;
    }
    if (!this.readable.wantsMore && !this.#hasBackpressure) this.#press(true);
  }
  fail(error) {
    this.readable.fail(error);
    this.#failWritable(error);
  }
  terminate() {
    if (this.readable.canTake) this.readable.close();
    this.#failWritable(new TypeError("the stream was terminated"));
  }
  #press(has) {
    this.#changed.resolve();
    [this.#changed, this.#hasBackpressure] = [deferred(), has];
  }
  #failWritable(error) {
    this.#forget();
    this.writable.fail(error);
    if (this.#hasBackpressure) this.#press(false);
  }
  async #write(chunk) {
    if (this.#hasBackpressure) {
      await this.#changed.promise;
      if (this.writable.state === "erroring") throw this.writable.error;
    }
    try {
      await this.author.transform(chunk);
    } catch (error) {
      this.fail(error);
      throw error;
    }
  }
  /** Runs what ends it, once. `then` is what follows if the other side has not failed. */
  #finish(act, other, then) {
    if (this.#finished !== null) return this.#finished.promise;
    this.#finished = deferred();
    const done = promised(act);
    this.#forget();
    done.then(() => {
      if (other.state === "errored") return this.#finished.reject(other.error);
      then();
      this.#finished.resolve();
    }, (error) => {
      other.fail(error);
      if (this.#hasBackpressure) this.#press(false);
      this.#finished.reject(error);
    });
    return this.#finished.promise;
  }
  #close() {
    const { flush } = this.author;
    return this.#finish(flush, this.readable, () => { if (this.readable.canTake) this.readable.close(); });
  }
  #abort(reason) {
    const { cancel } = this.author;
    return this.#finish(() => cancel(reason), this.readable, () => this.readable.fail(reason));
  }
  #cancel(reason) {
    const { cancel } = this.author;
    return this.#finish(() => cancel(reason), this.writable, () => this.#failWritable(reason));
  }
  #forget() { this.author = { transform: none, flush: none, cancel: none }; }
}
