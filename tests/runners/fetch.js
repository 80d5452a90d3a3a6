// Asks the server whose address its first message has, in each way that its messages name.
import { agent } from "@bulkhead/agent";

const refused = (error) => `${error.name} ${error.code} ${error instanceof TypeError} ${error.message}`;
/** What a turn leaves for another one. */
const kept = {};

const since = (began) => performance.now() - began;

const ways = {
  async echo(base) {
    const query = new URLSearchParams({ q: "ü +&" });
    const response = await fetch(`${base}/echo?${query}`, { method: "post", headers: { "X-Own": "1" }, body: JSON.stringify({ a: 1 }) });
    return [response.status, response.ok, response.url === `${base}/echo?${query}`, response.headers.getSetCookie(), await response.json()];
  },
  async redirects(base, elsewhere) {
    const init = { method: "POST", body: "x", headers: { authorization: "Bearer x" } };
    const seen = [];
    for (const path of ["/to/301", "/to/303", "/to/307"]) {
      const response = await fetch(base + path, init);
      const { method, body, authorization } = await response.json();
      seen.push([response.redirected, method, body, authorization]);
    }
    const { authorization } = await (await fetch(`${base}/away?${elsewhere}`, init)).json();
    const manual = await fetch(`${base}/to/302`, { redirect: "manual" });
    const error = await fetch(`${base}/to/302`, { redirect: "error" }).catch(refused);
    const ring = await fetch(`${base}/ring`).catch((error) => error.message.endsWith("more than 20 redirects"));
    return [seen, authorization, manual.status, manual.headers.get("location"), error.startsWith("FetchError broken true"), ring];
  },
  async together(base) {
    // The server answers none of them before all are there.
    const all = await Promise.all([1, 2, 3, 4].map(async () => (await fetch(`${base}/all-four`)).text()));
    return all.join();
  },
  async parts(base) {
    const parts = [];
    for await (const part of (await fetch(`${base}/parts`)).body) parts.push(new TextDecoder().decode(part));
    return parts;
  },
  async aborted(base) {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 50);
    const began = performance.now();
    const head = await fetch(`${base}/never`, { signal: controller.signal }).catch((error) => error.name);
    const late = await fetch(`${base}/never`, { signal: AbortSignal.timeout(50) }).catch((error) => error.name);
    const body = await fetch(`${base}/never-ends`, { signal: AbortSignal.timeout(500) });
    const rest = await body.text().catch((error) => error.name);
    const none = await fetch(`${base}/echo`, { signal: AbortSignal.abort("no") }).catch((reason) => reason);
    return [head, late, rest, none, since(began) < 20_000];
  },
  refused: async () => Promise.all(["http://127.0.0.1:1/", "https://example.com/?secret"].map((url) => fetch(url).catch(refused))),
  uncaught: () => fetch("https://example.com/?secret"),
  left: (base) => (fetch(`${base}/never`), "left"),
  async waited(base, _, { waitUntil, emit }) {
    waitUntil(fetch(`${base}/echo`).then(({ status }) => emit("fetch.done", { status })));
    return "waited";
  },
  async broken(base) {
    const cut = await (await fetch(`${base}/cut`)).text().catch(refused);
    return cut.startsWith("FetchError broken true");
  },
  async wrong(base) {
    const tries = [
      ["nonsense"], ["ftp://a/"], [base, { body: "x" }], [base, { headers: { "a b": "x" } }], [base, { headers: { a: "x\ny" } }],
      ["http://u:p@127.0.0.1/"], [base, { method: "POST", body: {} }], [base, { redirect: "sideways" }],
    ];
    return Promise.all(tries.map((words) => fetch(...words).then(() => "fine", (error) => error instanceof TypeError)));
  },
  async urls() {
    const url = new URL("../b?x=1#f", "HTTPS://Example.com:443/a/c/d");
    url.searchParams.append("y", "a b");
    [url.port, url.pathname, url.hostname] = ["8443", "/ü", "münchen.example"];
    return [url.href, url.origin, url.searchParams.get("y"), URL.canParse("x"), JSON.stringify({ url }).length > 10];
  },
  async once(base) {
    const response = await fetch(`${base}/gone`);
    const text = await response.text();
    return [response.status, response.ok, text, response.bodyUsed, await response.text().catch((error) => error.constructor === TypeError)];
  },
  async many(base) {
    let sum = 0;
    for (let i = 0; i < 200; i++) {
      const response = await fetch(`${base}/echo`);
      if (i % 2 === 1) await response.text();
      sum += response.status;
    }
    return sum;
  },
  // Two turns: a body of the first one is nobody's in the second.
  keeps: async (base) => void (kept.response = await fetch(`${base}/echo?first`)) ?? "kept",
  async finds(base) {
    const response = await fetch(`${base}/echo?second`);
    return [(await kept.response.text().catch(refused)).startsWith("FetchError broken"), (await response.json()).query];
  },
  prefetches: (base) => ((kept.promise = fetch(`${base}/never`)), "sent"),
  awaits: async () => (await kept.promise.catch(refused)).endsWith("/never: it was dropped at the end of its turn"),
  async replaced(base) {
    const controller = new AbortController();
    const first = await fetch(`${base}/never-ends`, { signal: controller.signal });
    const text = first.text().catch((error) => error.name);
    await new Promise((resolve) => setTimeout(resolve, 20));
    controller.signal.addEventListener("abort", () => { throw new Error("of a listener"); });
    controller.abort();
    const second = fetch(`${base}/echo`);
    return [await text, (await second).status];
  },
  async cancelled(base) {
    for (let i = 0; i < 20; i++) await (await fetch(`${base}/never-ends`)).body.cancel();
    return "all";
  },
  async odd(base) {
    const { status } = await fetch(`${base}/to/999`);
    const bad = await fetch(`${base}/away?[bad`).catch(refused);
    const large = await fetch(base, { headers: { x: "x".repeat(60_000) } }).catch(refused);
    const empty = await fetch(`${base}/to/204`);
    const posted = await (await fetch(`${base}/echo`, { method: "POST" })).json();
    const latin = await (await fetch(`${base}/echo`, { headers: { "x-own": "\xe9" } })).json();
    return [status, bad, large.startsWith("FetchError invalid"), empty.body, await empty.text(), posted.length, latin.ownBytes];
  },
  async crowd(base) {
    const all = await Promise.all(Array.from({ length: 40 }, async () => (await fetch(`${base}/echo`)).status));
    const held = await Promise.all(Array.from({ length: 16 }, () => fetch(`${base}/never-ends`)));
    const waiting = Promise.all([1, 2, 3].map(async () => (await fetch(`${base}/echo`)).status));
    setTimeout(() => held.forEach(({ body }) => body.cancel()), 60);
    return [all.filter((status) => status === 200).length, await waiting];
  },
  late: (base) => fetch(`${base}/never`, { signal: AbortSignal.timeout(20) }),
  async mocked() {
    globalThis.fetch = async () => new Response("mocked");
    return [await (await fetch("http://a.example/")).text(), await (await fetch("http://a.example/")).text()];
  },
  async cloned(base) {
    const first = await fetch(`${base}/parts`);
    const second = first.clone();
    const reader = second.body.getReader();
    let read = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      read += new TextDecoder().decode(value);
    }
    await reader.closed;
    const request = new Request(`${base}/echo`, { method: "POST", body: "twice" });
    const copy = request.clone();
    const sent = [await (await fetch(request)).json(), await (await fetch(copy)).json()].map(({ body }) => body);
    // Of one that nobody reads, and of one that is half read, the connection is given up.
    for (let i = 0; i < 20; i++) {
      const one = await fetch(`${base}/never-ends`);
      const other = one.clone();
      const reader = one.body.getReader();
      if (i % 2 === 0) await reader.read();
      await Promise.all([reader.cancel(), other.body.cancel()]);
    }
    const late = await first.text();
    return [late === read, read.length > 0, sent, first.bodyUsed, (() => { try { first.clone(); } catch (error) { return error.message; } })()];
  },
  async streamed(base) {
    const [encoder, text] = [new TextEncoder(), []];
    const sent = new ReadableStream({
      start(controller) {
        for (const part of ["in ", "parts"]) controller.enqueue(encoder.encode(part));
        controller.close();
      },
    });
    const { body, length } = await (await fetch(`${base}/echo`, { method: "POST", body: sent, duplex: "half" })).json();
    for await (const part of (await fetch(`${base}/parts`)).body.pipeThrough(new TextDecoderStream())) text.push(part);
    const reader = (await fetch(`${base}/never-ends`)).body.getReader();
    await reader.read();
    const pending = reader.read();
    await reader.cancel("enough");
    const wrong = await new Response(ReadableStream.from(["no bytes"])).text().catch((error) => error instanceof TypeError);
    return [body, length, text.join(""), await pending, wrong];
  },
  async careful(base) {
    const blob = new Blob(["abc"]);
    (await new Response(blob).bytes())[0] = 122;
    const one = new Response("abc");
    const two = one.clone();
    (await one.bytes())[0] = 122;
    // Nothing comes of what is to be sent, and it is given up.
    const sent = new AbortController();
    let cancelled;
    const body = new ReadableStream({ cancel({ name }) { cancelled = name; } });
    const sending = fetch(`${base}/echo`, { method: "POST", body, signal: sent.signal }).catch(({ name }) => name);
    sent.abort();
    // Nobody reads the answers that are given up. An author's listener cannot keep them.
    const names = new Set();
    for (let i = 0; i < 20; i++) {
      const controller = new AbortController();
      controller.signal.addEventListener("abort", (event) => event.stopImmediatePropagation());
      const response = await fetch(`${base}/never-ends`, { signal: controller.signal });
      controller.abort();
      names.add(await response.text().catch(({ name }) => name));
    }
    // An event is no abort.
    const live = new AbortController();
    let isTarget;
    live.signal.onabort = ({ target }) => { isTarget = target === live.signal; };
    const open = fetch(`${base}/echo`, { signal: live.signal });
    live.signal.dispatchEvent(new Event("abort"));
    const { status } = await open;
    const request = new Request(`${base}/echo`, { method: "POST", body: "x" });
    await fetch(request);
    const again = await fetch(request).catch((error) => error instanceof TypeError);
    return [await blob.text(), await two.text(), await sending, cancelled, [...names], isTarget, status, request.bodyUsed, again];
  },
  async forms(base) {
    const form = new FormData();
    form.append("text", "a\nb");
    form.append('quo"ted', new File(["ü", new Uint8Array([0, 255])], 'na"me.bin', { type: "application/x-own" }));
    form.set("blob", new Blob(["x"]));
    const { body, type } = await (await fetch(`${base}/echo`, { method: "POST", body: form, headers: { connection: "close", expect: "100-continue" } })).json();
    const boundary = type.split("boundary=")[1];
    const blob = await (await fetch(`${base}/echo`)).blob();
    const same = [form, new Blob(), new URL(base), new Headers(), await fetch(`${base}/echo`)].map((value) => Object.prototype.toString.call(value));
    return [body.replaceAll(boundary, "B"), type.replace(boundary, "B"), blob.type, blob.size > 0, await blob.slice(0, 1).text(), same];
  },
  async events() {
    const [target, seen] = [new EventTarget(), []];
    const listener = ({ type, detail }) => seen.push(`${type} ${detail}`);
    const gone = new AbortController();
    target.addEventListener("a", listener);
    target.addEventListener("a", listener);
    target.addEventListener("a", { handleEvent: ({ target: of }) => seen.push(of === target) }, { once: true });
    target.addEventListener("a", () => seen.push("gone"), { signal: gone.signal });
    target.addEventListener("a", () => { throw new Error("of a listener of events"); });
    target.addEventListener("stop", (event) => { event.preventDefault(); event.stopImmediatePropagation(); });
    target.addEventListener("stop", () => seen.push("never"));
    target.dispatchEvent(new CustomEvent("a", { detail: 1 }));
    gone.abort();
    target.dispatchEvent(new CustomEvent("a", { detail: 2 }));
    target.removeEventListener("a", listener);
    const goesOn = [target.dispatchEvent(new CustomEvent("a", { detail: 3 })), target.dispatchEvent(new Event("stop", { cancelable: true }))];
    const signal = AbortSignal.abort();
    return [seen, goesOn, signal instanceof EventTarget, Object.prototype.toString.call(signal)];
  },
  async base64() {
    const bytes = String.fromCharCode(...Array.from({ length: 256 }, (_, byte) => byte));
    const refuses = (call) => { try { return call(); } catch ({ name }) { return name; } };
    const wrong = ["a", "ab=", "a=bc", "a!bc", "===="].map((text) => refuses(() => atob(text)));
    const large = "x".repeat(1_000_000);
    return [atob(btoa(bytes)) === bytes, btoa(""), btoa("a"), atob(" Y Q\n== "), atob("YQ"), refuses(() => btoa("€")), wrong, atob(btoa(large)) === large];
  },
  // Where a pattern that begins with `^` is looked for.
  async anchors() {
    const after = (pattern, text, index) => { pattern.lastIndex = index; return pattern.exec(text)?.[0] ?? null; };
    return [
      /^b/.exec("ab"), /^b|^a/.exec("ab")[0], /^x|b/.exec("ab")[0], /b|^x/.exec("ab")[0], /^/.exec("ab").index, /^a|/.exec("ba")[0],
      /^b/m.exec("a\nb")[0], /^(?:x|a)b/.exec("ab")[0], /^[|]a|b/.exec("ab")[0], /^\||b/.exec("ab")[0], /^a(?=b|c)|^c/.exec("ab")[0],
      /^[^\]|]a|^x]/.exec("xx]"), /(?:^)b/.exec("ab"), /^[[a]\|b]/v.exec("ab")[0], "aab".replace(/^a/g, "-"), "a-a".split(/^a/),
      [..."aa".matchAll(/^a/g)].length, after(/^b/g, "ab", 1), after(/^a/y, "aa", 1), after(/^a/g, "aa", 0), "x".search(/^y|^x/),
    ];
  },
  own: async () => [await Response.json({ a: 1 }).text(), new Response("ü").headers.get("content-type"), (await new Response("ü").bytes()).length],
};

export default agent({
  message: ({ text }, context) => {
    const [way, base, elsewhere] = text.split(" ");
    return ways[way](base, elsewhere, context);
  },
});
