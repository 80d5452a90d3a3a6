// What streams do in each way, as a trace. `streams.json` has the traces of web-streams-polyfill 4.3.0, and that of `text` of Node 20.
import { agent } from "@bulkhead/agent";

const tick = () => new Promise((r) => setTimeout(r, 0));
const show = (e) => (e instanceof Error ? e.name : e);
const caught = (p) => Promise.resolve(p).then((v) => ["ok", v], (e) => ["no", show(e)]);
const cases = {
  async read({ ReadableStream }) {
    const t = [];
    const s = new ReadableStream({ start(c) { t.push("start", c.desiredSize); c.enqueue(1); t.push(c.desiredSize); }, pull(c) { t.push("pull", c.desiredSize); c.enqueue(2); if (t.length > 8) c.close(); }, cancel(r) { t.push("cancel", r); } });
    await tick(); t.push("waited");
    const r = s.getReader(); t.push(s.locked);
    for (;;) { const x = await r.read(); t.push(x); if (x.done) break; }
    t.push(await caught(r.closed)); r.releaseLock(); t.push(s.locked, await caught(r.read()), await caught(r.closed));
    return t;
  },
  async pulls({ ReadableStream }) {
    const t = []; let n = 0; let all;
    const s = new ReadableStream({ async pull(c) { t.push(["pull", n, c.desiredSize]); await tick(); c.enqueue(n++); } }, { highWaterMark: 3 });
    for (let i = 0; i < 12; i++) await tick();
    t.push("full"); const r = s.getReader();
    all = await Promise.all([r.read(), r.read(), r.read(), r.read(), r.read()]);
    for (let i = 0; i < 12; i++) await tick();
    return [...t, all];
  },
  async errors({ ReadableStream }) {
    const t = []; let c;
    const s = new ReadableStream({ start(x) { c = x; } });
    const r = s.getReader(); const p = r.read(); c.error(new RangeError("x"));
    t.push(await caught(p), await caught(r.read()), await caught(r.closed), c.desiredSize);
    try { c.enqueue(1); } catch (e) { t.push(show(e)); }
    try { c.close(); } catch (e) { t.push(show(e)); }
    c.error("again"); t.push(await caught(r.cancel("z")));
    const s2 = new ReadableStream({ pull() { throw new SyntaxError("p"); } }); t.push(await caught(s2.getReader().read()));
    const s3 = new ReadableStream({ start() { return Promise.reject(new EvalError("s")); } }); t.push(await caught(s3.getReader().read()));
    try { new ReadableStream({ start() { throw new URIError("x"); } }); } catch (e) { t.push(show(e)); }
    return t;
  },
  async cancel({ ReadableStream }) {
    const t = [];
    const s = new ReadableStream({ pull(c) { c.enqueue(1); }, cancel(r) { t.push(["cancelled", r]); return tick().then(() => { t.push("late"); }); } });
    t.push(await caught(s.cancel("why"))); t.push(await caught(s.cancel("again")));
    const s2 = new ReadableStream({ cancel() { throw new RangeError("c"); } }); t.push(await caught(s2.cancel()));
    const s3 = new ReadableStream(); const r = s3.getReader(); t.push(await caught(s3.cancel())); const p = r.read(); t.push(await caught(r.cancel("q")), await caught(p));
    return t;
  },
  async release({ ReadableStream }) {
    const t = []; let c;
    const s = new ReadableStream({ start(x) { c = x; } });
    const r = s.getReader(); const p = r.read(); r.releaseLock(); t.push(await caught(p), await caught(r.closed));
    const q = s.getReader(); c.enqueue("v"); t.push(await caught(q.read()));
    try { s.getReader(); } catch (e) { t.push(show(e)); }
    return t;
  },
  async iterate({ ReadableStream }) {
    const t = []; const make = () => { let n = 0; return new ReadableStream({ pull(c) { n < 4 ? c.enqueue(n++) : c.close(); }, cancel(r) { t.push(["cancel", r]); } }); };
    for await (const x of make()) t.push(x);
    const s = make(); for await (const x of s) { t.push(x); if (x === 1) break; } t.push(s.locked);
    const k = make(); for await (const x of k.values({ preventCancel: true })) { t.push(x); break; } t.push(k.locked, await caught(k.getReader().read()));
    const i = make()[Symbol.asyncIterator](); t.push(await Promise.all([i.next(), i.next(), i.next(), i.next(), i.next(), i.next()])); t.push(await i.return("r"));
    return t;
  },
  async from({ ReadableStream }) {
    const t = [];
    for await (const x of ReadableStream.from([1, Promise.resolve(2)])) t.push(x);
    for await (const x of ReadableStream.from((async function* () { try { yield "a"; yield "b"; } finally { t.push("finally"); } })())) { t.push(x); break; }
    t.push(await caught(ReadableStream.from((async function* () { throw new RangeError("g"); })()).getReader().read()));
    return t;
  },
  async tee({ ReadableStream }) {
    const t = []; let n = 0;
    const s = new ReadableStream({ pull(c) { t.push(["pull", n]); n < 3 ? c.enqueue({ n: n++ }) : c.close(); }, cancel(r) { t.push(["cancel", r]); } }, { highWaterMark: 0 });
    const [a, b] = s.tee(); t.push(s.locked);
    const ra = a.getReader(), rb = b.getReader();
    const x = await ra.read(); t.push(x.value); t.push((await rb.read()).value === x.value);
    t.push(await ra.read(), await ra.read(), await ra.read()); t.push(await rb.read(), await rb.read(), await rb.read());
    const z = new ReadableStream({ cancel(r) { t.push(["cancel", r]); } }); const [c, d] = z.tee();
    const pc = c.cancel("1"); await tick(); t.push("one"); const pd = d.cancel("2"); t.push(await caught(pc), await caught(pd));
    let ctl; const y = new ReadableStream({ start(k) { ctl = k; } }); const [e, f] = y.tee(); ctl.error(new RangeError("t")); t.push(await caught(e.getReader().read()), await caught(f.getReader().read()));
    return t;
  },
  async write({ WritableStream }) {
    const t = [];
    const s = new WritableStream({ start(c) { t.push("start", c.signal.aborted); }, async write(x) { t.push(["write", x]); await tick(); t.push(["wrote", x]); }, close() { t.push("close"); }, abort(r) { t.push(["abort", r]); } }, { highWaterMark: 2 });
    const w = s.getWriter(); t.push(w.desiredSize);
    const all = [w.write(1), w.write(2), w.write(3)]; t.push(w.desiredSize);
    let ready = false; w.ready.then(() => { ready = true; }); await tick(); t.push(ready);
    await all[1]; await tick(); t.push(w.desiredSize, ready);
    t.push(await caught(w.close()), await caught(w.closed), w.desiredSize, await caught(w.write(4)), await caught(w.close()));
    w.releaseLock(); t.push(s.locked, await caught(w.closed), await caught(w.write(5)));
    try { w.desiredSize; } catch (e) { t.push(show(e)); }
    return t;
  },
  async writeFails({ WritableStream }) {
    const t = [];
    const s = new WritableStream({ write(x) { if (x === 2) throw new RangeError("w"); t.push(x); }, abort(r) { t.push(["abort", show(r)]); }, close() { t.push("close"); } });
    const w = s.getWriter();
    const all = [1, 2, 3].map((x) => caught(w.write(x))); const close = caught(w.close());
    t.push(await Promise.all(all), await close, await caught(w.closed), await caught(w.ready), w.desiredSize, await caught(w.abort("late")));
    let c; const e = new WritableStream({ start(k) { c = k; }, abort() { t.push("never"); } }); c.error(new URIError("c")); t.push(await caught(e.getWriter().write(1)));
    const st = new WritableStream({ start() { return Promise.reject(new EvalError("s")); } }); const sw = st.getWriter(); t.push(await caught(sw.write(1)), await caught(sw.closed));
    return t;
  },
  async abort({ WritableStream }) {
    const t = []; let c;
    const s = new WritableStream({ start(k) { c = k; k.signal.addEventListener("abort", () => t.push(["signal", c.signal.reason])); }, async write(x) { t.push(["write", x]); await tick(); await tick(); t.push(["wrote", x]); }, async abort(r) { t.push(["abort", r]); await tick(); } });
    await tick(); const w = s.getWriter(); const a = caught(w.write(1)), b = caught(w.write(2)); await tick();
    const p = caught(w.abort("why")); const q = caught(w.abort("second"));
    t.push(await a, await b, await p, await q, await caught(w.closed), await caught(w.ready));
    const f = new WritableStream({ abort() { throw new RangeError("a"); } }); t.push(await caught(f.abort("x"))); t.push(await caught(f.abort("y")));
    const closing = new WritableStream({ close: () => tick() }); const cw = closing.getWriter(); await cw.ready; const cp = caught(cw.close()); await tick(); t.push(await caught(cw.abort("z")), await cp, await caught(cw.closed));
    return t;
  },
  async closeFails({ WritableStream }) {
    const t = []; const s = new WritableStream({ close() { throw new RangeError("c"); }, abort() { t.push("never"); } });
    const w = s.getWriter(); t.push(await caught(w.close()), await caught(w.closed), await caught(w.ready)); return t;
  },
  async pipe({ ReadableStream, WritableStream }) {
    const t = []; let n = 0;
    const src = () => { n = 0; return new ReadableStream({ pull(c) { n < 3 ? c.enqueue(n++) : c.close(); }, cancel(r) { t.push(["cancel", show(r)]); } }); };
    const snk = (more = {}) => new WritableStream({ async write(x) { t.push(x); await tick(); }, close() { t.push("close"); }, abort(r) { t.push(["abort", show(r)]); }, ...more });
    let a = src(), b = snk(); t.push(await caught(a.pipeTo(b)), a.locked, b.locked);
    b = snk(); t.push(await caught(src().pipeTo(b, { preventClose: true })), await caught(b.getWriter().write("own")));
    t.push(await caught(src().pipeTo(snk({ write() { throw new RangeError("w"); } }))));
    t.push(await caught(src().pipeTo(snk({ write() { throw new RangeError("w"); } }), { preventCancel: true })));
    const bad = () => new ReadableStream({ start(c) { c.enqueue("first"); }, pull(c) { c.error(new URIError("r")); } });
    t.push(await caught(bad().pipeTo(snk()))); b = snk(); t.push(await caught(bad().pipeTo(b, { preventAbort: true })), await caught(b.getWriter().write("after")));
    const ac = new AbortController(); const never = new ReadableStream({ cancel(r) { t.push(["cancel", show(r)]); } }); const p = caught(never.pipeTo(snk(), { signal: ac.signal })); await tick(); ac.abort(new EvalError("s")); t.push(await p, never.locked);
    t.push(await caught(src().pipeTo(snk(), { signal: AbortSignal.abort("early") })));
    const cl = snk(); await cl.close(); t.push(await caught(src().pipeTo(cl)));
    const lk = src(); lk.getReader(); t.push(await caught(lk.pipeTo(snk())), await caught(src().pipeTo({})));
    return t;
  },
  async transform({ ReadableStream, TransformStream }) {
    const t = [];
    const up = new TransformStream({ start(c) { t.push("start", c.desiredSize); c.enqueue("head"); }, transform(x, c) { t.push(["in", x]); c.enqueue(x * 2); if (x === 2) c.enqueue("extra"); }, flush(c) { t.push("flush"); c.enqueue("tail"); } });
    for await (const x of ReadableStream.from([1, 2, 3]).pipeThrough(up)) t.push(x);
    const id = new TransformStream(); const w = id.writable.getWriter(), r = id.readable.getReader();
    t.push(w.desiredSize); let wrote = false; const p = w.write("a").then(() => { wrote = true; }); await tick(); t.push(wrote, await r.read()); await p; t.push(wrote); const cl = w.close(); t.push(await r.read(), await caught(cl));
    return t;
  },
  async transformFails({ TransformStream }) {
    const t = [];
    const a = new TransformStream({ transform() { throw new RangeError("t"); } }); const w = a.writable.getWriter(), r = a.readable.getReader();
    const rd = caught(r.read()); t.push(await caught(w.write(1)), await rd, await caught(w.closed), await caught(r.closed));
    const b = new TransformStream({ flush() { throw new URIError("f"); } }); const br = caught(b.readable.getReader().read()); t.push(await caught(b.writable.getWriter().close()), await br);
    let c; const k = new TransformStream({ start(x) { c = x; } }); const kr = k.readable.getReader(), kw = k.writable.getWriter(); c.terminate(); t.push(await caught(kr.read()), await caught(kw.write(1)), await caught(kw.closed));
    const e = new TransformStream({ start(x) { c = x; } }); c.error(new EvalError("e")); t.push(await caught(e.readable.getReader().read()), await caught(e.writable.getWriter().write(1)));
    const m = new TransformStream({ cancel(x) { t.push(["cancel", show(x)]); } }); t.push(await caught(m.readable.cancel(new RangeError("x"))), await caught(m.writable.getWriter().write(1)));
    const o = new TransformStream({ cancel(x) { t.push(["cancel", show(x)]); } }); t.push(await caught(o.writable.abort(new RangeError("y"))), await caught(o.readable.getReader().read()));
    try { new TransformStream({ start() { throw new URIError("st"); } }); } catch (x) { t.push(show(x)); }
    return t;
  },
  async strategies({ ReadableStream, WritableStream, CountQueuingStrategy, ByteLengthQueuingStrategy }) {
    const t = []; let c;
    new ReadableStream({ start(x) { c = x; } }, new ByteLengthQueuingStrategy({ highWaterMark: 10 })); c.enqueue(new Uint8Array(4)); t.push(c.desiredSize);
    new ReadableStream({ start(x) { c = x; } }, new CountQueuingStrategy({ highWaterMark: 5 })); c.enqueue(1); t.push(c.desiredSize);
    for (const mark of [-1, NaN, "x"]) try { new ReadableStream({}, { highWaterMark: mark }); } catch (e) { t.push(show(e)); }
    const s = new ReadableStream({ start(x) { c = x; } }, { size: () => { throw new EvalError("z"); } }); try { c.enqueue(1); } catch (e) { t.push(show(e)); } t.push(await caught(s.getReader().read()));
    new ReadableStream({ start(x) { c = x; } }, { size: () => -1 }); try { c.enqueue(1); } catch (e) { t.push(show(e)); }
    const w = new WritableStream({}, { size: () => Infinity }).getWriter(); t.push(await caught(w.write(1)));
    const v = new WritableStream({}, { size: () => { throw new EvalError("z"); } }).getWriter(); t.push(await caught(v.write(1)));
    return t;
  },
  async text({ ReadableStream, TextDecoderStream, TextEncoderStream }) {
    const t = [];
    const bytes = new TextEncoder().encode("aü€😀b"); const parts = Array.from(bytes, (b) => Uint8Array.of(b));
    for await (const x of ReadableStream.from(parts).pipeThrough(new TextDecoderStream())) t.push(x);
    for await (const x of ReadableStream.from(["x", "\ud83d", "\ude00", "\ud83d"]).pipeThrough(new TextEncoderStream())) t.push([...x]);
    t.push(await caught(ReadableStream.from([Uint8Array.of(0xff)]).pipeThrough(new TextDecoderStream("utf-8", { fatal: true })).getReader().read()));
    return t;
  },
  async wrong({ ReadableStream, WritableStream, TransformStream, ReadableStreamDefaultReader, ReadableStreamDefaultController }) {
    const t = []; const tries = [() => new ReadableStream(null), () => new ReadableStream({ start: 1 }), () => new WritableStream({ type: "x" }), () => new WritableStream({ write: "x" }), () => new TransformStream({ transform: 1 }), () => new ReadableStreamDefaultReader({}), () => new ReadableStreamDefaultController(), () => new ReadableStream().pipeThrough({}), () => ReadableStream.from(1)];
    for (const f of tries) try { f(); t.push("fine"); } catch (e) { t.push(show(e)); }
    t.push(String(new ReadableStream()), String(new WritableStream()), String(new TransformStream()));
    return t;
  },
};

export default agent({
  message: async ({ text }) => {
    if (text === "names") return JSON.stringify(Object.keys(cases));
    // As JSON has it.
    return JSON.stringify(await cases[text](globalThis));
  },
});
