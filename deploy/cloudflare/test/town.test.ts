import assert from "node:assert/strict";
import { test } from "node:test";

import { FakeContainer, platform } from "./platform";
import { exitOf } from "../src/exit";
import type { Env } from "../src/town";
import worker from "../src/worker";

const KILLED = "container exited with unexpected exit code: 137";

const previous = (start: Record<string, string>) => JSON.parse(start.BULKHEAD_PREVIOUS_EXIT ?? "null");

test("the first run has no exit before it", async () => {
  const { container, wake, ask } = platform(new FakeContainer());
  const answer = await ask(await wake(), "/agents");
  assert.equal(await answer.text(), "/agents");
  assert.equal(container.starts.length, 1);
  assert.equal(previous(container.starts[0]!), null);
  assert.deepEqual(container.hosts, ["8081 http://localhost", "8080 http://town.workers.dev"]);
});

test("the run after a kill is told of it", async () => {
  const { container, storage, wake, ask, end } = platform(new FakeContainer());
  const town = await wake();
  await ask(town, "/agents");
  await end(KILLED);
  assert.ok(storage.alarm! > Date.now(), "nobody restarts it");
  await town.alarm();
  assert.deepEqual(previous(container.starts[1]!), { code: 137, reason: KILLED });
});

test("requests that come together start one container", async () => {
  const { container, wake, ask } = platform(new FakeContainer());
  const town = await wake();
  await Promise.all([1, 2, 3].map(() => ask(town, "/agents")));
  assert.equal(container.starts.length, 1);
});

test("a stop drains, is no reason to restart, and is known to the next run", async () => {
  const { container, storage, wake, ask, end } = platform(new FakeContainer());
  const town = await wake();
  await ask(town, "/agents");
  assert.equal((await ask(town, "/kept/stop", "POST")).status, 202);
  assert.deepEqual(container.signals, [15]);
  await end();
  assert.equal(storage.alarm, null);
  await ask(town, "/agents");
  assert.deepEqual(previous(container.starts[1]!), { code: 0, reason: "stop by the Durable Object: exited" });
});

test("a container that the platform stopped in order is followed by another", async () => {
  const { container, storage, wake, ask, end } = platform(new FakeContainer());
  const town = await wake();
  await ask(town, "/agents");
  await end();
  assert.ok(storage.alarm! > Date.now(), "nobody restarts it");
  await town.alarm();
  assert.deepEqual(previous(container.starts[1]!), { code: 0, reason: "exited" });
});

test("an invalid configuration is not started again", async () => {
  const { storage, wake, ask, end } = platform(new FakeContainer());
  await ask(await wake(), "/agents");
  await end("container exited with unexpected exit code: 2");
  assert.equal(storage.alarm, null);
});

test("an object that wakes up beside its container watches it", async () => {
  const container = new FakeContainer();
  container.start({ env: {} });
  const { wake, ask, end } = platform(container);
  const town = await wake();
  await end(KILLED);
  const exits = (await (await ask(town, "/kept/exits")).json()) as Record<string, unknown>[];
  assert.deepEqual(exits.map((exit) => exit.code), [137]);
  assert.equal(container.starts.length, 1, "a look at what is kept starts nothing");
});

test("an end that nobody saw is known to the next run", async () => {
  const { container, storage, ask, wake } = platform(new FakeContainer());
  await ask(await wake(), "/agents");
  // The machine is gone, and with it the promise of the first object.
  const next = platform(new FakeContainer(), storage);
  await next.ask(await next.wake(), "/agents");
  assert.deepEqual(previous(next.container.starts[0]!), { reason: "ended while nobody watched" });
  assert.equal(container.starts.length, 1);
});

test("evidence outlives the container that stored it, and is what it stored last", async () => {
  const { container, env, storage, wake, end } = platform(new FakeContainer());
  const town = await wake();
  env.TOWN = { getByName: () => town } as unknown as Env["TOWN"];
  const authorization = "Bearer 0123456789abcdef";
  const call = (url: string, init: RequestInit = {}) => worker.fetch(new Request(url, { headers: { authorization }, ...init }), env);
  await call("https://town.workers.dev/riverside/agents");
  const { BULKHEAD_EVIDENCE_SINK: sink, BULKHEAD_EVIDENCE_NAME: name } = container.starts[0]!;
  assert.equal(`${sink}/${name}`, "https://town.workers.dev/riverside/kept/evidence/riverside");
  const document = `${sink}/${name}/crashes-1.json`;
  assert.equal((await call(document)).status, 404);
  const put = (body: string) => call(document, { method: "PUT", body });
  const large = "x".repeat(1024 * 1024) + "y".repeat(1024 * 1024);
  assert.equal((await put(large)).status, 204);
  await end(KILLED);
  assert.equal(await (await call(document)).text(), large);
  assert.equal((await put("short")).status, 204);
  assert.equal(await (await call(document)).text(), "short");
  assert.equal((await put(`${large}z`)).status, 413);
  assert.equal((await call(`${sink}/${name}/exits`, { method: "PUT", body: "x" })).status, 404);
  assert.equal((await call(`${sink}/other/crashes-1.json`)).status, 200, "another town's name is a path of the host");
  assert.ok([...storage.values.keys()].every((key) => !key.includes("other")));
  assert.equal(container.starts.length, 2);
});

test("ends in a row are restarted ever more slowly, at most a minute apart", async () => {
  const { storage, wake, ask, end } = platform(new FakeContainer());
  const town = await wake();
  const delays: number[] = [];
  for (let round = 0; round < 8; round++) {
    await ask(town, "/agents");
    await end(KILLED);
    delays.push(Math.round((storage.alarm! - Date.now()) / 1000));
  }
  assert.deepEqual(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
});

test("the words of a platform have a bound", () => {
  assert.ok(exitOf(new Error("x".repeat(9999)), new Date(), false).reason.length <= 200);
});

test("codes are read from the platform's words", () => {
  const code = (words: string) => exitOf(new Error(words), new Date(), false).code;
  assert.equal(code("Container exited with unexpected exit code: 5"), 5);
  assert.equal(code("runtime signalled the container to exit: 143"), 143);
  assert.equal(code("there is no container instance"), undefined);
  assert.equal(code("container exited with unexpected exit code: 999"), undefined);
});

test("without the token nothing is started", async () => {
  const { container, env, wake } = platform(new FakeContainer());
  const town = await wake();
  env.TOWN = { getByName: () => town } as unknown as Env["TOWN"];
  const fetch = (authorization: string) =>
    worker.fetch(new Request("https://x.workers.dev/riverside/agents", { headers: { authorization } }), env);
  assert.equal((await fetch("Bearer 0123456789abcdeX")).status, 401);
  assert.equal((await fetch("")).status, 401);
  assert.equal(container.starts.length, 0);
  assert.equal(await (await fetch("Bearer 0123456789abcdef")).text(), "/agents");
});
