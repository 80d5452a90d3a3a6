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
  Math.twice = (n) => n * 2;
  Promise.prototype.mark = 1;
  collect();
  check("a property of an object of the image", JSON.mine.deep[1].kept === "yes" && [1, 2].last() === 2 && Math.twice(4) === 8);
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
  delete Math.twice;
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
    const reference = weak();
    await null;
    collect();
    check("an object that nobody has", reference.deref() === undefined);
    ctx.state.turns++;
    return JSON.stringify({ failed, grown: ctx.memory().usedBytes - before, turns: ctx.state.turns });
  },
});
