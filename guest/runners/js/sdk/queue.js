// What readable and writable streams have in common.

/** A promise of which nobody has to hear. */
export const deferred = () => {
  const made = Promise.withResolvers();
  made.promise.catch(() => {});
  return made;
};
export const resolved = (value) => { const made = deferred(); made.resolve(value); return made; };
export const rejected = (error) => { const made = deferred(); made.reject(error); return made; };

/** What an author's method returns, as a promise. */
export const promised = (call) => {
  try {
    return Promise.resolve(call());
  } catch (error) {
    return Promise.reject(error);
  }
};

export const methodOf = (object, name) => {
  const method = object?.[name];
  if (method !== undefined && typeof method !== "function") throw new TypeError(`${name} is no function`);
  return method?.bind(object);
};

export const highWaterMarkOf = (strategy, otherwise) => {
  const mark = strategy?.highWaterMark;
  if (mark === undefined) return otherwise;
  if (!(Number(mark) >= 0)) throw new RangeError("highWaterMark is a number, and not below 0");
  return Number(mark);
};

export const none = () => {};
export const one = () => 1;
export const released = () => new TypeError("it was released");
export const locked = () => new TypeError("the stream is locked");

/** Chunks with their sizes. */
export class Queue {
  #chunks = [];
  total = 0;
  get isEmpty() { return this.#chunks.length === 0; }
  get first() { return this.#chunks[0].chunk; }
  add(chunk, size) {
    if (!(size >= 0) || size === Infinity) throw new RangeError("the size of a chunk is a finite number, and not below 0");
    this.#chunks.push({ chunk, size });
    this.total += size;
  }
  take() {
    const { chunk, size } = this.#chunks.shift();
    this.total = Math.max(this.total - size, 0);
    return chunk;
  }
  clear() { [this.#chunks, this.total] = [[], 0]; }
}
