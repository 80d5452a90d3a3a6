// Timers. They run while a call is under way: the runner asks for the next one when nothing else is left to do.
const timers = new Map();
let lastId = 0;

const MAX_DELAY_MS = 2 ** 31 - 1;

const add = (callback, delay, args, repeat, quiet = false) => {
  if (typeof callback !== "function") throw new TypeError("a timer's callback must be a function");
  const ms = Math.min(Math.max(Number(delay) || 0, repeat ? 1 : 0), MAX_DELAY_MS);
  timers.set(++lastId, { callback, args, due: performance.now() + ms, interval: repeat ? ms : undefined, quiet });
  return lastId;
};

/** One that nobody misses when it is dropped. */
export const quietTimer = (callback, delay) => void add(callback, delay, [], false, true);

globalThis.setTimeout = (callback, delay, ...args) => add(callback, delay, args, false);
globalThis.setInterval = (callback, delay, ...args) => add(callback, delay, args, true);
globalThis.setImmediate = (callback, ...args) => add(callback, 0, args, false);
globalThis.clearTimeout = globalThis.clearInterval = globalThis.clearImmediate = (id) => void timers.delete(id);

/** The timer that is due first; of two at the same time, the older. */
const first = () => {
  let found;
  for (const [id, timer] of timers) if (!found || timer.due < found[1].due) found = [id, timer];
  return found;
};

/** Milliseconds until the next timer is due, 0 for one that is. Undefined: there is none. */
export const untilNext = () => {
  const next = first();
  return next && Math.max(0, next[1].due - performance.now());
};

/** Runs the timer that is due first. */
export const runNext = () => {
  const [id, timer] = first();
  if (timer.interval === undefined) timers.delete(id);
  else timer.due = performance.now() + timer.interval;
  timer.callback(...timer.args);
};

/** Drops all timers, and returns how many there were that somebody may miss. */
export const drop = () => {
  let count = 0;
  for (const { quiet } of timers.values()) if (!quiet) count++;
  timers.clear();
  return count;
};
