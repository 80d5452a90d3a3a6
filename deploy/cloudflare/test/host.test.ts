// The same with a real host for a container, whose disk goes with it. BULKHEAD is the program.
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { createServer as listener, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { platform, Storage } from "./platform";
import type { Env } from "../src/town";
import worker from "../src/worker";

const PROGRAM = process.env.BULKHEAD;
const SIGTERM = 15;

const skip = !PROGRAM && "BULKHEAD is not set";

test("a host on an empty disk tells kills, want of memory, stops and lost machines apart", { skip }, async (context) => {
  const town = await HostTown.make();
  context.after(() => town.close());
  await town.says("none");

  // As the platform shows a container whose first process was killed.
  await town.ends(() => town.container.end());
  await town.says("external_sigkill");
  const killed = town.previous();
  assert.ok(killed.previousRunId, "the sink knows the run");
  assert.ok(killed.evidence.some((each) => each.includes("137")), `nothing of the exit code in ${killed.evidence}`);

  await town.ends(() => town.container.end("container exited with unexpected exit code: 137 (OOMKilled)"));
  await town.says("oom_kill");

  // The platform takes the machine: it asks first, and the host drains.
  await town.ends(() => town.container.signal(SIGTERM));
  await town.says("clean");

  // The platform takes the machine and does not ask, or kills what did not drain in time.
  await town.ends(() => town.container.end("container was evicted"));
  await town.says("orchestrator_stop");

  await town.ends(async () => assert.equal((await town.ask("/kept/stop", "POST")).status, 202));
  await town.says("clean");
  assert.deepEqual(
    (await town.exits()).map(({ code, reason }) => [code, reason.includes("stop by the Durable Object")]),
    [[0, true], [undefined, false], [0, false], [137, false], [137, false]],
  );

  // The object sleeps, and the machine is gone with its container: nobody saw the end.
  const before = town.container.runId();
  await town.moves();
  await town.says("unknown");
  assert.equal(town.previous().previousRunId, before, "its evidence is there");
  assert.deepEqual((await town.exits())[0], { at: (await town.exits())[0]!.at, reason: "ended while nobody watched" });
});

interface Kept {
  at: string;
  code?: number;
  reason: string;
}

/** A town on the platform, with its Worker at an address. */
class HostTown {
  #platform: ReturnType<typeof platform<HostContainer>>;
  #url = "";

  private constructor(
    public container: HostContainer,
    private server: Server,
  ) {
    this.#platform = platform(container);
  }

  static async make(): Promise<HostTown> {
    let town: HostTown | undefined;
    const server = await serve((request) => worker.fetch(request, town!.#platform.env));
    town = new HostTown(await HostContainer.make(), server);
    town.#url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    await town.#wakes();
    return town;
  }

  async #wakes(): Promise<void> {
    const { env, wake } = this.#platform;
    env.PUBLIC_URL = this.#url;
    const town = await wake();
    env.TOWN = { getByName: () => town } as unknown as Env["TOWN"];
  }

  ask = (path: string, method = "GET") =>
    fetch(`${this.#url}/riverside${path}`, { method, headers: { authorization: `Bearer ${this.#platform.env.CONTROL_TOKEN}` } });
  answers = async () => assert.equal((await this.ask("/agents")).status, 200);
  exits = async () => (await (await this.ask("/kept/exits")).json()) as Kept[];
  /** The next run says this of the one before. */
  async says(cause: string): Promise<void> {
    await this.answers();
    const { cause: said, evidence } = this.previous();
    assert.equal(said, cause, `${said}: ${evidence?.join("; ")}`);
  }

  previous = () => this.container.previous();
  settled = () => this.#platform.end();

  /** Ends the container, and waits until the object knows. */
  async ends(how: () => void | Promise<void>): Promise<void> {
    await how();
    await this.container.monitor().catch(() => undefined);
    await this.settled();
  }

  /** Another object on another machine. Its storage is that of this one, which sees no end any more. */
  async moves(): Promise<void> {
    const storage = new Storage();
    storage.values = structuredClone(this.#platform.storage.values);
    await this.container.end();
    this.container = await HostContainer.make();
    this.#platform = platform(this.container, storage);
    await this.#wakes();
  }

  async close(): Promise<void> {
    await this.container.end().catch(() => undefined);
    this.server.closeAllConnections();
    this.server.close();
  }
}

/** A process in a directory of its own, which goes with it, as the platform shows a container. */
class HostContainer {
  running = false;
  #process: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  #log = "";
  #words: string | undefined;

  private constructor(private ports: Record<number, number>) {}

  static async make(): Promise<HostContainer> {
    return new HostContainer({ 8080: await freePort(), 8081: await freePort() });
  }

  start({ env }: { env: Record<string, string> }): void {
    const disk = mkdtempSync(join(tmpdir(), "town-"));
    writeFileSync(join(disk, "bulkhead.toml"), "[limits]\ndrain_ms = 5000\nshutdown_ms = 1000\n");
    this.#log = "";
    this.#words = undefined;
    this.running = true;
    this.#process = spawn(PROGRAM!, ["run", "--supervise", "--log-format", "json", "--config", join(disk, "bulkhead.toml")], {
      // A group of its own: a platform kills all of a container.
      detached: true,
      env: { ...env, BULKHEAD_LISTEN: `127.0.0.1:${this.ports[8080]}`, BULKHEAD_PROBE_LISTEN: `127.0.0.1:${this.ports[8081]}` },
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#process.stdout!.on("data", (chunk) => (this.#log += chunk));
    this.#ended = new Promise((resolve, reject) =>
      this.#process!.on("close", (code, signal) => {
        this.running = false;
        rmSync(disk, { recursive: true, force: true });
        const shown = code ?? (signal === "SIGKILL" ? 137 : 143);
        if (shown === 0) resolve();
        else reject(new Error(this.#words ?? `container exited with unexpected exit code: ${shown}`));
      }),
    );
    this.#ended.catch(() => undefined);
  }

  monitor = () => this.#ended;
  signal = (signal: number) => void this.#process!.kill(signal as unknown as NodeJS.Signals);

  /** Kills all of it. The platform shows these words, or the exit code. */
  async end(words?: string): Promise<void> {
    if (!this.running) return;
    this.#words = words;
    process.kill(-this.#process!.pid!, "SIGKILL");
    await this.#ended.catch(() => undefined);
  }

  getTcpPort = (port: number) => ({
    fetch: (input: string | Request) => {
      const { pathname, search } = new URL(new Request(input).url);
      const headers: Record<string, string> = input instanceof Request ? { authorization: input.headers.get("authorization") ?? "" } : {};
      return fetch(`http://127.0.0.1:${this.ports[port]}${pathname}${search}`, { headers });
    },
  });

  /** What this run says of the one before. */
  previous = () => this.#line("container.previous_run") as { cause: string; evidence: string[]; previousRunId: string | null };
  runId = () => this.#line("container.cold_start").runId as string;

  #line(event: string): Record<string, any> {
    return JSON.parse(this.#log.split("\n").find((each) => each.includes(`"event":"${event}"`)) ?? "{}");
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = listener().listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}

function serve(answer: (request: Request) => Promise<Response>): Promise<Server> {
  const server = createServer(async (incoming, outgoing) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk);
    const response = await answer(
      new Request(`http://${incoming.headers.host}${incoming.url}`, {
        method: incoming.method!,
        headers: Object.entries(incoming.headers).map(([name, value]) => [name, String(value)]),
        ...(chunks.length > 0 && { body: Buffer.concat(chunks) }),
      }),
    );
    outgoing.writeHead(response.status, Object.fromEntries(response.headers)).end(Buffer.from(await response.arrayBuffer()));
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}
