// Streams as https://streams.spec.whatwg.org has them, in whose terms this is written. Readers that bring their own buffers are
// missing: a source of the type "bytes" is one of any chunks.
import { define } from "bulkhead:globals";
import { highWaterMarkOf, locked, methodOf, none, released } from "bulkhead:queue";
import { Readable, Reader, Values, reading, tee } from "bulkhead:readable";
import { Transform } from "bulkhead:transform";
import { Writable, Writer, pipe } from "bulkhead:writable";

let readableOf, streamOf, writableOf;

class ReadableStreamDefaultController {
  #readable;
  constructor(readable) {
    if (!(readable instanceof Readable)) throw new TypeError("Illegal constructor");
    this.#readable = readable;
  }
  get desiredSize() { return this.#readable.desiredSize; }
  get byobRequest() { return null; }
  enqueue(chunk) {
    if (!this.#readable.canTake) throw new TypeError("the stream is closed");
    this.#readable.enqueue(chunk);
  }
  close() {
    if (!this.#readable.canTake) throw new TypeError("the stream is closed");
    this.#readable.close();
  }
  error(error) { this.#readable.fail(error); }
}

class ReadableStreamDefaultReader {
  #reader;
  constructor(stream) { this.#reader = new Reader(readableOf(stream)); }
  get closed() { return this.#reader.closed.promise; }
  read() {
    if (this.#reader.readable === undefined) return Promise.reject(released());
    const request = reading();
    this.#reader.read(request);
    return request.promise;
  }
  cancel(reason) { return this.#reader.readable === undefined ? Promise.reject(released()) : this.#reader.readable.cancel(reason); }
  releaseLock() { this.#reader.release(); }
}

class ReadableStream {
  #readable;
  constructor(source, strategy) {
    if (source instanceof Readable) { this.#readable = source; return; }
    if (source === null) throw new TypeError("a source is an object");
    const mark = highWaterMarkOf(strategy, source?.type === "bytes" ? 0 : 1);
    const [start, pull, cancel] = ["start", "pull", "cancel"].map((name) => methodOf(source, name));
    const readable = new Readable({ pull: pull && (() => pull(controller)), cancel }, mark, methodOf(strategy, "size"));
    const controller = new ReadableStreamDefaultController(readable);
    this.#readable = readable.start(() => start?.(controller));
  }
  static {
    readableOf = (stream) => {
      if (!(stream instanceof ReadableStream)) throw new TypeError("it is no ReadableStream");
      return stream.#readable;
    };
    streamOf = (readable) => new ReadableStream(readable);
  }
  static from(iterable) {
    const iterator = iterable?.[Symbol.asyncIterator]?.() ?? iterable?.[Symbol.iterator]?.();
    if (iterator === undefined) throw new TypeError("it cannot be iterated over");
    return new ReadableStream({
      async pull(controller) {
        const { done, value } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(await value);
      },
      async cancel(reason) { await iterator.return?.(reason); },
    }, { highWaterMark: 0 });
  }
  get locked() { return this.#readable.reader !== null; }
  cancel(reason) { return this.locked ? Promise.reject(locked()) : this.#readable.cancel(reason); }
  getReader({ mode } = {}) {
    if (mode !== undefined) throw new TypeError(`readers with the mode "${mode}" are not supported`);
    return new ReadableStreamDefaultReader(this);
  }
  tee() { return tee(this.#readable).map(streamOf); }
  async pipeTo(target, options) {
    const writable = writableOf(target);
    if (this.locked || target.locked) throw locked();
    return pipe(this.#readable, writable, options ?? {});
  }
  pipeThrough({ readable, writable }, options) {
    const target = writableOf(writable);
    if (this.locked || writable.locked) throw locked();
    pipe(this.#readable, target, options ?? {}).catch(none);
    return readable;
  }
  values({ preventCancel = false } = {}) { return new Values(new Reader(this.#readable), preventCancel); }
  [Symbol.asyncIterator](options) { return this.values(options); }
}

class WritableStreamDefaultController {
  #writable;
  constructor(writable) {
    if (!(writable instanceof Writable)) throw new TypeError("Illegal constructor");
    this.#writable = writable;
  }
  get signal() { return this.#writable.aborter.signal; }
  error(error) { this.#writable.fail(error); }
}

class WritableStreamDefaultWriter {
  #writer;
  constructor(stream) { this.#writer = new Writer(writableOf(stream)); }
  get closed() { return this.#writer.closed.promise; }
  get ready() { return this.#writer.ready.promise; }
  get desiredSize() {
    if (this.#writer.writable === undefined) throw released();
    return this.#writer.writable.desiredSize;
  }
  write(chunk) { return this.#call((writable) => writable.write(chunk)); }
  close() { return this.#call((writable) => writable.close()); }
  abort(reason) { return this.#call((writable) => writable.abort(reason)); }
  releaseLock() { this.#writer.release(); }
  #call(act) { return this.#writer.writable === undefined ? Promise.reject(released()) : act(this.#writer.writable); }
}

class WritableStream {
  #writable;
  constructor(sink, strategy) {
    if (sink instanceof Writable) { this.#writable = sink; return; }
    if (sink === null) throw new TypeError("a sink is an object");
    if (sink?.type !== undefined) throw new RangeError("a sink has no type");
    const mark = highWaterMarkOf(strategy, 1);
    const [start, write, close, abort] = ["start", "write", "close", "abort"].map((name) => methodOf(sink, name));
    const writable = new Writable({ write: write && ((chunk) => write(chunk, controller)), close, abort }, mark, methodOf(strategy, "size"));
    const controller = new WritableStreamDefaultController(writable);
    this.#writable = writable.start(() => start?.(controller));
  }
  static {
    writableOf = (stream) => {
      if (!(stream instanceof WritableStream)) throw new TypeError("it is no WritableStream");
      return stream.#writable;
    };
  }
  get locked() { return this.#writable.writer !== null; }
  abort(reason) { return this.locked ? Promise.reject(locked()) : this.#writable.abort(reason); }
  close() { return this.locked ? Promise.reject(locked()) : this.#writable.close(); }
  getWriter() { return new WritableStreamDefaultWriter(this); }
}

class TransformStreamDefaultController {
  #transform;
  constructor(transform) {
    if (!(transform instanceof Transform)) throw new TypeError("Illegal constructor");
    this.#transform = transform;
  }
  get desiredSize() { return this.#transform.readable.desiredSize; }
  enqueue(chunk) { this.#transform.enqueue(chunk); }
  error(error) { this.#transform.fail(error); }
  terminate() { this.#transform.terminate(); }
}

class TransformStream {
  #readable;
  #writable;
  constructor(transformer, writableStrategy, readableStrategy) {
    if (transformer === null) throw new TypeError("a transformer is an object");
    const [writableMark, readableMark] = [highWaterMarkOf(writableStrategy, 1), highWaterMarkOf(readableStrategy, 0)];
    const [start, change, flush, cancel] = ["start", "transform", "flush", "cancel"].map((name) => methodOf(transformer, name));
    const author = { transform: change && ((chunk) => change(chunk, controller)), flush: flush && (() => flush(controller)), cancel };
    const transform = new Transform(author, writableMark, methodOf(writableStrategy, "size"), readableMark, methodOf(readableStrategy, "size"));
    const controller = new TransformStreamDefaultController(transform);
    [this.#readable, this.#writable] = [streamOf(transform.readable), new WritableStream(transform.writable)];
    transform.start(() => start?.(controller));
  }
  get readable() { return this.#readable; }
  get writable() { return this.#writable; }
}

class TextDecoderStream {
  #decoder;
  #transform;
  constructor(label, options) {
    const decoder = new TextDecoder(label, options);
    const emit = (text, controller) => { if (text !== "") controller.enqueue(text); };
    this.#decoder = decoder;
    this.#transform = new TransformStream({
      transform: (chunk, controller) => emit(decoder.decode(chunk, { stream: true }), controller),
      flush: (controller) => emit(decoder.decode(), controller),
    });
  }
  get encoding() { return this.#decoder.encoding; }
  get fatal() { return this.#decoder.fatal; }
  get ignoreBOM() { return this.#decoder.ignoreBOM; }
  get readable() { return this.#transform.readable; }
  get writable() { return this.#transform.writable; }
}

class TextEncoderStream {
  #transform;
  constructor() {
    const encoder = new TextEncoder();
    // Half of a pair waits for the other one.
    let half = "";
    this.#transform = new TransformStream({
      transform(chunk, controller) {
        const text = half + String(chunk);
        half = /[\ud800-\udbff]$/.exec(text)?.[0] ?? "";
        const whole = text.slice(0, text.length - half.length);
        if (whole !== "") controller.enqueue(encoder.encode(whole));
      },
      flush: (controller) => { if (half !== "") controller.enqueue(encoder.encode(half)); },
    });
  }
  get encoding() { return "utf-8"; }
  get readable() { return this.#transform.readable; }
  get writable() { return this.#transform.writable; }
}

const strategy = (name, size) => ({ [name]: class {
  #highWaterMark;
  constructor({ highWaterMark }) { this.#highWaterMark = Number(highWaterMark); }
  get highWaterMark() { return this.#highWaterMark; }
  get size() { return size; }
} })[name];

/** Two streams of the same bytes, of which neither changes with the other. */
export const twice = (stream) => tee(readableOf(stream), (part) => part instanceof Uint8Array ? part.slice() : part).map(streamOf);
/** Whether somebody has read of it. */
export const isDisturbed = (stream) => readableOf(stream).isDisturbed;
export { ReadableStream };

const made = {
  ReadableStream, ReadableStreamDefaultReader, ReadableStreamDefaultController, WritableStream, WritableStreamDefaultWriter,
  WritableStreamDefaultController, TransformStream, TransformStreamDefaultController, TextDecoderStream, TextEncoderStream,
  CountQueuingStrategy: strategy("CountQueuingStrategy", () => 1),
  ByteLengthQueuingStrategy: strategy("ByteLengthQueuingStrategy", (chunk) => chunk.byteLength),
};
for (const [name, value] of Object.entries(made)) define(name, value);
