// Fails in each way that its message names. agent.ts and agent.py are the same agent.
import { agent, AgentError, tool } from "@bulkhead/agent";
import { twice } from "./lib/twice.js";

function thrower(what) {
  if (what === "type") return undefined.length;
  if (what === "range") throw new RangeError("too far");
  if (what === "text") throw "a text";
  if (what === "cause") {
    try {
      return undefined.length;
    } catch (cause) {
      throw new RangeError("on top", { cause });
    }
  }
  if (what === "own") throw new AgentError("bad-prompt", "not like that");
  if (what === "fatal") throw new AgentError("gave-up", "no more", { fatal: true });
}

/** What the model calls. */
const status = ({ text }) => (text === "badly" ? thrower("type") : `noted ${text}`);

/** Whatever one agent changes in what all share: the interpreter, its library, modules, its own code. */
const shared = [globalThis, Array.prototype, JSON, AgentError, thrower];

const recurse = (n) => recurse(n + 1) + 1;

export default agent({
  state: { count: 0 },
  tools: { status: tool("Say how it goes", { text: "string" }, status) },

  async message({ text }, { chat, emit, send, state, waitUntil }) {
    state.count += 1;
    if (text.startsWith("ask ")) return await chat.ask(text.slice(4));
    switch (text) {
      case "count": return `${state.count}`;
      case "twice": return twice("x");
      case "random": return `${Math.random()}`;
      case "half": {
        const half = JSON.parse('"a\\ud83d"');
        console.log(half);
        return emit("runner.half", { half }), half;
      }
      case "unkept": state.self = state; return "unkept";
      case "emit": return emit("runner.tested", { text }), "emitted";
      case "reject": return void Promise.reject(new TypeError("nobody handles me"));
      case "timer": setTimeout(() => { throw new TypeError("in a timer"); }, 1);
        await new Promise((resolve) => setTimeout(resolve, 20));
        return "later";
      case "long": throw new RangeError("x".repeat(2_000_000));
      case "much": return "ä".repeat(1_000_000);
      case "left": setTimeout(() => {}, 60_000); return "left";
      case "background": waitUntil(new Promise((resolve) => setTimeout(resolve, 20)).then(() => emit("runner.done", {})));
        return "soon";
      case "callback": return await chat.ask("status badly");
      case "exit": return process.exit(3);
      case "stain": for (const each of shared) each.stain = true; return "stained";
      case "stains": return `${shared.filter((each) => each.stain).length}`;
      case "recursion": return recurse(0);
      case "memory": for (const all = []; ; ) all.push(new Array(10_000).fill(all.length));
      case "loop": for (;;);
      case "wrong": return { next: "nowhere" };
      case "refused": return emit("agent.mine", {});
      case "caught": try { return send("nobody-there", "hi"); } catch (error) { return error.code; }
      case "never": await new Promise(() => {});
    }
    return `${thrower(text) ?? "fine"}`;
  },
});
