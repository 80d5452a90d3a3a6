// The platform of a Durable Object, as far as a town uses it.
import { Town, type Env } from "../src/town";

/** Durable storage: what it has outlives the object. */
export class Storage {
  values = new Map<string, unknown>();
  alarm: number | null = null;
  get = async (key: string | string[]) => {
    if (typeof key === "string") return structuredClone(this.values.get(key));
    return new Map(key.filter((each) => this.values.has(each)).map((each) => [each, structuredClone(this.values.get(each))]));
  };
  put = async (key: string | object, value?: unknown) => {
    const entries = typeof key === "string" ? [[key, value] as const] : Object.entries(key);
    for (const [name, each] of entries) this.values.set(name, structuredClone(each));
  };
  setAlarm = async (at: number) => void (this.alarm = at);
  deleteAlarm = async () => void (this.alarm = null);
}

/** A container whose end the test decides. */
export class FakeContainer {
  running = false;
  starts: Record<string, string>[] = [];
  signals: number[] = [];
  hosts: string[] = [];
  #end: { resolve: () => void; reject: (error: Error) => void } | undefined;
  #ended: Promise<void> = Promise.resolve();

  start({ env }: { env: Record<string, string> }): void {
    if (this.running) throw new Error("it runs already");
    this.starts.push(env);
    this.running = true;
    this.#ended = new Promise((resolve, reject) => (this.#end = { resolve, reject }));
  }

  monitor = () => this.#ended;
  signal = (signal: number) => void this.signals.push(signal);

  /** In the platform's words; without any it is exit code 0. */
  end(words?: string): void {
    this.running = false;
    if (words) this.#end!.reject(new Error(words));
    else this.#end!.resolve();
  }

  getTcpPort = (port: number) => ({
    fetch: async (input: string | Request) => {
      const request = new Request(input);
      const url = new URL(request.url);
      if (!this.running) throw new Error("the container is not listening");
      this.hosts.push(`${port} ${url.protocol}//${url.host}`);
      return new Response(url.pathname);
    },
  });
}

interface Ends {
  end(words?: string): void | Promise<void>;
}

/** A platform: objects come and go on it, its storage and its container stay. */
export function platform<C extends Ends>(container: C, storage = new Storage()) {
  const pending: Promise<unknown>[] = [];
  const env = { CONTROL_TOKEN: "0123456789abcdef", ALLOWED_HOSTS: "*.workers.dev", PUBLIC_URL: "https://town.workers.dev" } as Env;
  const wake = async () => {
    const blocking: Promise<unknown>[] = [];
    const ctx = {
      container,
      storage,
      waitUntil: (promise: Promise<unknown>) => void pending.push(promise),
      blockConcurrencyWhile: (work: () => Promise<unknown>) => void blocking.push(work()),
    };
    const town = new Town(ctx as unknown as DurableObjectState, env);
    await Promise.all(blocking);
    return town;
  };
  const ask = async (town: Town, path: string, method = "GET") => town.fetch(new Request(`https://town.workers.dev${path}`, { method }));
  const end = async (words?: string) => {
    await container.end(words);
    await Promise.all(pending);
  };
  return { container, storage, env, wake, ask, end };
}
