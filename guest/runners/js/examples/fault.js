// Fails in the way that the message names: the fault matrix of the runner. `source = "fault.js"`, `tools = ["sh"]`.
import { agent, AgentError, tool } from "@bulkhead/agent";
const helper = (ctx) => ctx.state.missing.length;
export default agent({
  state: { n: 0 },
  start({ me, config }) { if (config("fail") === "start") throw new RangeError("start fails"); if (config("fail") === "loop") for (;;); },
  async message({ text }, ctx) {
    ctx.state.n++;
    switch (text) {
      case "throw": return helper(ctx);
      case "text": throw "just text";
      case "object": throw { oops: 1 };
      case "cause": try { null.x } catch (cause) { throw new Error("outer", { cause }) }
      case "chosen": throw new AgentError("bad-prompt", "the prompt is empty");
      case "chosenfatal": throw new AgentError("bad-prompt", "the prompt is empty", { fatal: true });
      case "callback": return [1].map((x) => x.missing.y);
      case "timer": setTimeout(() => { throw new TypeError("in a timer") }, 1); await new Promise((r) => setTimeout(r, 20)); return "alive";
      case "reject": Promise.reject(new TypeError("nobody handles me")); return "alive";
      case "background": ctx.waitUntil((async () => { await null; throw new Error("in the background") })()); return "alive";
      case "left": setTimeout(() => 1, 99999); return "alive";
      case "never": return await new Promise(() => 1);
      case "recurse": { const f = (x) => f(x) + 1; return f(1) }
      case "asyncrecurse": { const f = async (x) => (await f(x)) + 1; return f(1) }
      case "oom": { const all = []; for (;;) all.push(new Array(1000).fill(all.length)); }
      case "oomstring": { let s = "x"; for (;;) s += s; }
      case "oombuf": { const all = []; for (;;) all.push(new Uint8Array(1000000)); }
      case "loop": for (;;);
      case "bad": return () => 1;
      case "emit": ctx.emit("NOT A NAME", 1); return 1;
      case "send": ctx.send("nobody", "hi"); return 1;
      case "program": return await ctx.run("nosuch", ["x"]);
      case "sh": return await ctx.run("sh", ["-c", "echo out; echo err >&2; cat; exit 3"], { stdin: "in" });
      case "spawn": { const c = await ctx.spawn("sh", ["-c", "read x; echo got $x; sleep 0.1; echo end"]); await c.write("hello\n"); const l = []; for await (const x of c.lines()) l.push(x); return { l, end: await c.wait() } }
      case "git": return await ctx.workspace.status();
      case "files": await ctx.makeDir("d"); await ctx.writeFile("d/a.txt", "grün"); await ctx.appendFile("d/a.txt", "!"); return [await ctx.readFile("d/a.txt"), await ctx.list("d"), await ctx.stat("d/a.txt")];
      case "nofile": return await ctx.readFile("gone.txt");
      case "escape": return await ctx.readFile("../etc/passwd");
      case "rand": return `${Math.random()} ${crypto.randomUUID()}`;
      case "json": return JSON.parse("[".repeat(50000) + "]".repeat(50000)).length;
      case "memory": return ctx.memory();
      case "sleep": await new Promise((r) => setTimeout(r, 1000)); return "slept";
      case "deadline": return ctx.deadline();
      case "me": return { ...ctx.me, settings: ctx.settings(), c: ctx.config("known", "none") };
    }
    return `n=${ctx.state.n}`;
  },
});
