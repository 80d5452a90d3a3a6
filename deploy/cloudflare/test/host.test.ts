// The same with a real host for a container, whose disk goes with it. BULKHEAD is the program.
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { createServer as listener, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { platform } from "./platform";
import type { Env } from "../src/town";
import worker from "../src/worker";

const PROGRAM = process.env.BULKHEAD;

test("a host on an empty disk names the end of the one before", { skip: !PROGRAM && "BULKHEAD is not set" }, async () => {
  const container = await HostContainer.make();
  const { env, wake, end } = platform(container);
  const town = await wake();
  env.TOWN = { getByName: () => town } as unknown as Env["TOWN"];
  const server = await serve((request) => worker.fetch(request, env));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  env.PUBLIC_URL = url;
  try {
    const ask = (path: string, method = "GET") =>
      fetch(`${url}/riverside${path}`, { method, headers: { authorization: `Bearer ${env.CONTROL_TOKEN}` } });
    assert.equal((await ask("/agents")).status, 200);
    assert.equal(container.previous().cause, "none");
    await end();
    assert.equal((await ask("/agents")).status, 200);
    const killed = container.previous();
    assert.match(killed.cause, /sigkill|orchestrator|lost/);
    assert.ok(killed.previousRunId, "the sink knows the run");
    assert.ok(killed.evidence.some((each) => each.includes("137")), `nothing of the exit code in ${killed.evidence}`);

    assert.equal((await ask("/kept/stop", "POST")).status, 202);
    await container.monitor();
    const exits = (await (await ask("/kept/exits")).json()) as { code: number }[];
    assert.deepEqual(exits.map((exit) => exit.code), [0, 137]);
    assert.equal((await ask("/agents")).status, 200);
    assert.equal(container.previous().cause, "clean");
  } finally {
    await container.end().catch(() => undefined);
    server.closeAllConnections();
    server.close();
  }
});

/** A process in a directory of its own, which goes with it, as the platform shows a container. */
class HostContainer {
  running = false;
  #process: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  #log = "";

  private constructor(private ports: Record<number, number>) {}

  static async make(): Promise<HostContainer> {
    return new HostContainer({ 8080: await freePort(), 8081: await freePort() });
  }

  start({ env }: { env: Record<string, string> }): void {
    const disk = mkdtempSync(join(tmpdir(), "town-"));
    writeFileSync(join(disk, "bulkhead.toml"), "[limits]\ndrain_ms = 5000\nshutdown_ms = 1000\n");
    this.#log = "";
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
        else reject(new Error(`container exited with unexpected exit code: ${shown}`));
      }),
    );
    this.#ended.catch(() => undefined);
  }

  monitor = () => this.#ended;
  signal = (signal: number) => void this.#process!.kill(signal as unknown as NodeJS.Signals);

  async end(): Promise<void> {
    if (!this.running) return;
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
  previous(): { cause: string; evidence: string[]; previousRunId: string | null } {
    const line = this.#log.split("\n").find((each) => each.includes('"event":"container.previous_run"'));
    return JSON.parse(line ?? "{}");
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
