import { agent } from "@bulkhead/agent";

// What the agent shares with all others are the language's own objects. It changes them here in each way, and collects garbage.
const failed = [];
const check = (what, holds) => holds || failed.push(what);

// Several collections: each round makes more than the 2 MiB after which there is one.
const collect = () => {
  for (let round = 0; round < 5; round++) {
    for (let n = 0; n < 20_000; n++) {
      const one = { n, next: null };
      one.next = { back: one, text: `number ${n}` };
    }
  }
};

const shapes = () => {
  const before = [Object.keys(JSON).length, Object.keys({}).length];
  JSON.mine = { deep: [1, { kept: "yes" }] };
  Array.prototype.last = function () { return this[this.length - 1]; };
  Date.twice = (n) => n * 2;
  Promise.prototype.mark = 1;
  collect();
  check("a property of an object of the image", JSON.mine.deep[1].kept === "yes" && [1, 2].last() === 2 && Date.twice(4) === 8);
  check("others of its shape", Reflect.mine === undefined && Object.getOwnPropertyNames(Set.prototype).includes("mark") === false);
  const many = Array.from({ length: 200 }, (_, n) => {
    const map = new Map([[n, n]]);
    map[`own${n % 7}`] = n;
    return map;
  });
  collect();
  check("objects of one shape that differ", many.every((map, n) => map[`own${n % 7}`] === n && Object.keys(map).length === 1));
  delete JSON.mine;
  delete Array.prototype.last;
  delete Date.twice;
  delete Promise.prototype.mark;
  collect();
  check("what was deleted", JSON.mine === undefined && [1].last === undefined && Object.keys(JSON).length === before[0] && Object.keys({}).length === before[1]);
};

const strings = () => {
  const names = ["undefined", "length", "prototype", "constructor", String(Symbol.iterator), Array.name, Map.name];
  const copies = names.map((name) => name.split("").join(""));
  for (const name of names) {
    let longer = name;
    for (let n = 0; n < 100; n++) longer += "x";
    check(`${name} became longer`, longer.length === name.length + 100);
  }
  collect();
  check("names of the image", names.every((name, n) => name === copies[n]) && Array.name === "Array" && typeof missing === "undefined");
};

const functions = () => {
  const { push } = Array.prototype;
  let calls = 0;
  Array.prototype.push = function (...values) {
    calls++;
    return push.apply(this, values);
  };
  const all = [];
  for (let n = 0; n < 1_000; n++) all.push({ n });
  Array.prototype.push = push;
  collect();
  check("a function in the place of another", calls === 1_000 && all.every(({ n }, at) => n === at));
  class Mine extends Map {}
  const mine = new Mine([["a", 1]]);
  check("a class of a class of the image", mine.get("a") === 1 && mine instanceof Map && Mine.name === "Mine");
};

// Tables of the image that become larger leave room behind, which is nobody's. What lay there would never be freed.
const tables = () => {
  const [symbols, references] = [[], []];
  const all = [];
  for (let n = 0; n < 700; n++) {
    symbols.push(Symbol(), `name ${n} ${Math.random()}`);
    globalThis[`own${n}`] = n;
    JSON[`own${n % 50}`] = { [`key${n}`]: n };
    for (let k = 0; k < 5; k++) {
      const one = { n, k };
      all.push(one);
      references.push(new WeakRef(one));
    }
  }
  for (let n = 0; n < 700; n++) delete globalThis[`own${n}`];
  for (let n = 0; n < 50; n++) delete JSON[`own${n}`];
  return references;
};

const prototypes = () => {
  const before = Object.getPrototypeOf(JSON);
  Object.setPrototypeOf(JSON, { inherited: 1 });
  Object.defineProperty(Reflect, "got", { get: () => 7, configurable: true });
  Object.freeze(Math);
  collect();
  check("prototypes, accessors, frozen objects", JSON.inherited === 1 && Reflect.got === 7 && Object.isFrozen(Math) && Math.max(1, 2) === 2);
  Object.setPrototypeOf(JSON, before);
  check("a prototype that was put back", JSON.inherited === undefined && JSON.toString() === "[object JSON]");
};

const weak = () => {
  const keys = new WeakMap([[JSON, "json"], [Math, { of: "math" }]]);
  const reference = new WeakRef({});
  const kept = new WeakRef(Reflect);
  collect();
  check("weak references", keys.get(JSON) === "json" && keys.get(Math).of === "math" && kept.deref() === Reflect);
  return reference;
};

export default agent({
  state: { turns: 0 },
  async message(_message, ctx) {
    failed.length = 0;
    const before = ctx.memory().usedBytes;
    shapes();
    strings();
    functions();
    const references = [weak(), ...tables()];
    prototypes();
    await null;
    collect();
    check("objects that nobody has", references.every((reference) => reference.deref() === undefined));
    ctx.state.turns++;
    return JSON.stringify({ failed, grown: ctx.memory().usedBytes - before, turns: ctx.state.turns });
  },
});
