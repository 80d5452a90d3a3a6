// A town: one container, and what is known of it after its disk is gone.
//
//   asleep --request--> starting --ready--> up --monitor() ends--> asleep, exit kept
//                                                   |
//                              an alarm restarts it, unless the end was final
//
// The disk of a container dies with it, and so do the host's black box and its crash records. The Durable Object outlives
// it: it keeps how each container ended, passes that to the next one, and is the sink of the host's evidence. So the next
// run names the cause, and has the crash records of the runs before.
import { DurableObject } from "cloudflare:workers";

import { Evidence } from "./evidence";
import { exitOf, previousExit, restarts, unseen, type Exit } from "./exit";

export interface Env {
  TOWN: DurableObjectNamespace<import("./town").Town>;
  CONTROL_TOKEN: string;
  ALLOWED_HOSTS: string;
  /** Where the Worker is: the container stores its evidence there. */
  PUBLIC_URL: string;
}

/** Names the town of a request: the Worker sets it. */
export const TOWN_HEADER = "x-bulkhead-town";

const API = 8080;
const PROBES = 8081;
const SIGTERM = 15;
/** Exits that are kept, of 300 bytes each. */
const KEPT = 100;
/** An object without requests is evicted, and sees no end. An alarm wakes it so often while the container runs. */
const WATCH_MS = 30_000;
const READY_MS = 60_000;
const LONGEST_BACKOFF_MS = 60_000;

export class Town extends DurableObject<Env> {
  readonly #container: Container;
  readonly #evidence: Evidence;
  #starting: Promise<void> | undefined;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    if (!ctx.container) throw new Error("wrangler.jsonc has no container for this class");
    this.#container = ctx.container;
    this.#evidence = new Evidence(ctx.storage);
    ctx.blockConcurrencyWhile(() => this.#wake());
  }

  /** Requests below /kept/ are answered here, also when there is no container. All others go to the host. */
  override async fetch(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const town = request.headers.get(TOWN_HEADER) ?? "town";
    const document = url.pathname.split(`/kept/evidence/${town}/`)[1];
    if (document !== undefined) return this.#evidence.answer(request, document);
    switch (`${request.method} ${url.pathname}`) {
      case "GET /kept/exits":
        return Response.json(await this.#get<Exit[]>("exits", []));
      case "POST /kept/stop":
        await this.#stop();
        return new Response(null, { status: 202 });
    }
    try {
      if (town !== (await this.#get("town", ""))) await this.ctx.storage.put({ town });
      await this.#up();
    } catch (error) {
      return new Response(`${error instanceof Error ? error.message : error}\n`, { status: 503 });
    }
    // The way to the container is the platform's own; TLS ends before it.
    url.protocol = "http:";
    return this.#container.getTcpPort(API).fetch(new Request(url, request));
  }

  override async alarm(): Promise<void> {
    if (this.#container.running) {
      await this.ctx.storage.setAlarm(Date.now() + WATCH_MS);
    } else {
      // A failure has set the next alarm.
      await this.#up().catch((error) => console.error("no start", error));
    }
  }

  /** After a start or an eviction of this object, of which the container knows nothing. */
  async #wake(): Promise<void> {
    if (this.#container.running) this.#watch();
    else if (await this.#get("running", false)) await this.#ended(unseen(new Date()));
  }

  /** Starts the container, and returns when it takes requests. All callers wait for the same start. */
  #up(): Promise<void> {
    this.#starting ??= this.#start().finally(() => (this.#starting = undefined));
    return this.#starting;
  }

  async #start(): Promise<void> {
    if (!this.#container.running) {
      const [last] = await this.#get<Exit[]>("exits", []);
      const town = await this.#get("town", "town");
      await this.ctx.storage.put({ running: true, stopping: false });
      this.#container.start({
        enableInternet: true,
        env: {
          BULKHEAD_CONTROL_TOKEN: this.env.CONTROL_TOKEN,
          BULKHEAD_ALLOWED_HOSTS: this.env.ALLOWED_HOSTS,
          BULKHEAD_EVIDENCE_SINK: `${this.env.PUBLIC_URL}/${town}/kept/evidence`,
          BULKHEAD_EVIDENCE_NAME: town,
          BULKHEAD_EVIDENCE_TOKEN: this.env.CONTROL_TOKEN,
          ...(last && { BULKHEAD_PREVIOUS_EXIT: previousExit(last) }),
        },
      });
      this.#watch();
      await this.ctx.storage.setAlarm(Date.now() + WATCH_MS);
    }
    await this.#ready();
  }

  async #ready(): Promise<void> {
    const until = Date.now() + READY_MS;
    while (this.#container.running && Date.now() < until) {
      const answer = await this.#container.getTcpPort(PROBES).fetch("http://localhost/readyz").catch(() => undefined);
      await answer?.body?.cancel();
      if (answer?.ok) return;
      await scheduler.wait(100);
    }
    throw new Error(this.#container.running ? "the town is not ready yet" : "the town ended before it was ready");
  }

  #watch(): void {
    const ended = async (error?: unknown) => this.#ended(exitOf(error, new Date(), await this.#get("stopping", false)));
    this.ctx.waitUntil(this.#container.monitor().then(() => ended(), ended));
  }

  async #ended(exit: Exit): Promise<void> {
    const exits = [exit, ...(await this.#get<Exit[]>("exits", []))].slice(0, KEPT);
    const stopping = await this.#get("stopping", false);
    await this.ctx.storage.put({ exits, running: false, stopping: false });
    if (restarts(exit) && !stopping) await this.ctx.storage.setAlarm(Date.now() + backoff(exits));
    else await this.ctx.storage.deleteAlarm();
  }

  /** Drains: the host has `limits.drain_ms`, and the platform waits for 15 minutes. */
  async #stop(): Promise<void> {
    if (!this.#container.running) return;
    await this.ctx.storage.put("stopping", true);
    this.#container.signal(SIGTERM);
  }

  async #get<T>(key: string, otherwise: T): Promise<T> {
    return (await this.ctx.storage.get<T>(key)) ?? otherwise;
  }
}

/** Doubles with each exit in a row of which the one before was less than two minutes ago. */
function backoff(exits: Exit[]): number {
  const times = exits.map((exit) => Date.parse(exit.at));
  let row = 0;
  while (row + 1 < times.length && times[row]! - times[row + 1]! < 2 * LONGEST_BACKOFF_MS) row++;
  return Math.min(1000 * 2 ** row, LONGEST_BACKOFF_MS);
}
