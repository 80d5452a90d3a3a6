// What is behind a `ReadableStream`, its controller and its readers.
import { Queue, deferred, locked, none, one, promised, rejected, released, resolved } from "bulkhead:queue";

/** A `ReadableStream` and its controller. */
export class Readable {
  state = "readable";
  error;
  reader = null;
  isDisturbed = false;
  queue = new Queue();
  isStarted = false;
  isClosing = false;
  #isPulling = false;
  #pullsAgain = false;

  constructor({ pull = none, cancel = none }, highWaterMark, size = one) {
    [this.pull, this.cancelSource, this.highWaterMark, this.size] = [pull, cancel, highWaterMark, size];
  }
  start(start) {
    Promise.resolve(start()).then(() => { this.isStarted = true; this.pullIfNeeded(); }, (error) => this.fail(error));
    return this;
  }
  get canTake() { return this.state === "readable" && !this.isClosing; }
  get desiredSize() { return this.state === "errored" ? null : this.state === "closed" ? 0 : this.highWaterMark - this.queue.total; }
  get wantsMore() { return this.canTake && this.isStarted && (this.reader?.requests.length > 0 || this.desiredSize > 0); }
  enqueue(chunk) {
    if (this.reader?.requests.length > 0) {
      this.reader.requests.shift().chunk(chunk);
    } else {
      try {
        this.queue.add(chunk, Number(this.size(chunk)));
      } catch (error) {
        this.fail(error);
        throw error;
      }
    }
    this.pullIfNeeded();
  }
  close() {
    this.isClosing = true;
    if (this.queue.isEmpty) this.end();
  }
  end() {
    this.state = "closed";
    this.#forget();
    this.reader?.closed.resolve();
    for (const request of this.reader?.requests.splice(0) ?? []) request.close();
  }
  fail(error) {
    if (this.state !== "readable") return;
    [this.state, this.error] = ["errored", error];
    this.queue.clear();
    this.#forget();
    this.reader?.closed.reject(error);
    for (const request of this.reader?.requests.splice(0) ?? []) request.error(error);
  }
  pullIfNeeded() {
    if (!this.wantsMore) return;
    if (this.#isPulling) { this.#pullsAgain = true; return; }
    this.#isPulling = true;
    promised(this.pull).then(() => {
      this.#isPulling = false;
      if (this.#pullsAgain) { this.#pullsAgain = false; this.pullIfNeeded(); }
    }, (error) => this.fail(error));
  }
  read(request) {
    this.isDisturbed = true;
    if (this.state === "closed") return request.close();
    if (this.state === "errored") return request.error(this.error);
    if (this.queue.isEmpty) {
      this.reader.requests.push(request);
      return this.pullIfNeeded();
    }
    const chunk = this.queue.take();
    if (this.isClosing && this.queue.isEmpty) this.end();
    else this.pullIfNeeded();
    request.chunk(chunk);
  }
  cancel(reason) {
    this.isDisturbed = true;
    if (this.state === "closed") return Promise.resolve();
    if (this.state === "errored") return Promise.reject(this.error);
    const { cancelSource } = this;
    this.queue.clear();
    this.end();
    return promised(() => cancelSource(reason)).then(none);
  }
  #forget() { this.pull = this.cancelSource = none; this.size = one; }
}

/** What a reader has read, as a promise. */
export const reading = () => {
  const { promise, resolve, reject } = Promise.withResolvers();
  return { promise, chunk: (value) => resolve({ value, done: false }), close: () => resolve({ value: undefined, done: true }), error: reject };
};

/** A `ReadableStreamDefaultReader`. */
export class Reader {
  requests = [];
  constructor(readable) {
    if (readable.reader !== null) throw locked();
    [this.readable, readable.reader] = [readable, this];
    this.closed = readable.state === "readable" ? deferred() : readable.state === "closed" ? resolved() : rejected(readable.error);
  }
  read(request) { this.readable.read(request); }
  release() {
    if (this.readable === undefined) return;
    if (this.readable.state === "readable") this.closed.reject(released());
    else this.closed = rejected(released());
    [this.readable.reader, this.readable] = [null, undefined];
    for (const request of this.requests.splice(0)) request.error(released());
  }
}

/** Of `for await`: one step after the other, also when the next one is asked for early. */
export class Values {
  #reader;
  #preventCancel;
  #last = Promise.resolve();
  #isOver = false;
  constructor(reader, preventCancel) { [this.#reader, this.#preventCancel] = [reader, preventCancel]; }
  #after(step) { return this.#last = this.#last.then(step, step); }
  next() {
    return this.#after(async () => {
      if (this.#isOver) return { value: undefined, done: true };
      const request = reading();
      this.#reader.read(request);
      try {
        const part = await request.promise;
        if (part.done) this.#end();
        return part;
      } catch (error) {
        this.#end();
        throw error;
      }
    });
  }
  return(value) {
    return this.#after(async () => {
      if (!this.#isOver) {
        const cancelled = this.#preventCancel ? undefined : this.#reader.readable.cancel(value);
        this.#end();
        await cancelled;
      }
      return { value, done: true };
    });
  }
  #end() { this.#isOver = true; this.#reader.release(); }
  [Symbol.asyncIterator]() { return this; }
}

/** The same chunks twice, for the second one as `copy` makes them. */
export const tee = (readable, copy = (chunk) => chunk) => {
  const reader = new Reader(readable);
  const [branches, reasons] = [[], [undefined, undefined]];
  const isCancelled = [false, false];
  const cancelled = deferred();
  let [isReading, readsAgain] = [false, false];
  const each = (act) => branches.forEach((branch, at) => { if (!isCancelled[at]) act(branch, at); });
  const end = () => { if (!(isCancelled[0] && isCancelled[1])) cancelled.resolve(); };
  const pull = () => {
    if (isReading) { readsAgain = true; return; }
    isReading = true;
    reader.read({
      chunk: (value) => queueMicrotask(() => {
        readsAgain = false;
        each((branch, at) => branch.enqueue(at === 1 ? copy(value) : value));
        isReading = false;
        if (readsAgain) pull();
      }),
      close: () => { isReading = false; each((branch) => branch.close()); end(); },
      error: () => { isReading = false; },
    });
  };
  for (const at of [0, 1]) {
    const cancel = (reason) => {
      [isCancelled[at], reasons[at]] = [true, reason];
      if (isCancelled[0] && isCancelled[1]) cancelled.resolve(readable.cancel(reasons));
      return cancelled.promise;
    };
    branches.push(new Readable({ pull, cancel }, 1));
  }
  reader.closed.promise.catch((error) => { branches.forEach((branch) => branch.fail(error)); end(); });
  return branches.map((branch) => branch.start(none));
};
