// What an author writes an agent with, and what the runner calls of it.
import { camel, toJson, variant } from "bulkhead:native";
import * as host from "bulkhead:host";
import { model } from "bulkhead:model";
import { Chat } from "bulkhead:chat";
import { programs, run, spawn } from "bulkhead:tools";
import { workspace } from "bulkhead:workspace";
import { files } from "bulkhead:files";
import * as snapshot from "bulkhead:snapshot";

const HANDLERS = ["start", "message", "shutdown"];
const FIELDS = [...HANDLERS, "system", "state", "tools", "maxRounds", "history"];
const NEXT = { idle: "Idle", continue: "Continue", done: "Done" };

/** How a turn ends, where a reply alone does not say it. */
class Outcome {
  constructor(next, reply) {
    this.next = next;
    this.reply = reply;
  }
}

/** The last answer: the incarnation ends as completed, and its state is removed. */
export const done = (reply) => new Outcome("done", reply);

/** Another turn at once, for the same message. */
export const again = (reply) => new Outcome("continue", reply);

const TYPE = /^(string|number|integer|boolean|object|array)(\[\])?(\?)?$/;

const schemaOf = (name, type) => {
  if (typeof type !== "string") return [type, false];
  const [matched, base, list, optional] = TYPE.exec(type) ?? [];
  if (!matched) throw new TypeError(`tool(): the type of "${name}" is "${type}"; use string, number, integer, boolean, object or array, with [] or ?, or a JSON Schema`);
  return [list ? { type: "array", items: { type: base } } : { type: base }, Boolean(optional)];
};

/** `{ text: "string", times: "integer?" }` as JSON Schema. What is one already stays as it is. */
const schema = (parameters) => {
  if (parameters.type === "object" && typeof parameters.properties === "object") return parameters;
  const entries = Object.entries(parameters).map(([name, type]) => [name, ...schemaOf(name, type)]);
  return {
    type: "object",
    properties: Object.fromEntries(entries.map(([name, type]) => [name, type])),
    required: entries.filter(([, , optional]) => !optional).map(([name]) => name),
  };
};

class Tool {
  constructor(description, parameters, run) {
    Object.assign(this, { description, parameters, run });
  }
}

export const tool = (description, parameters, run) => {
  if (typeof description !== "string") throw new TypeError("tool(): the first argument is the description, a string");
  if (typeof parameters !== "object" || parameters === null) throw new TypeError("tool(): the second argument is an object of parameters");
  if (typeof run !== "function") throw new TypeError("tool(): the third argument is a function");
  return new Tool(description, schema(parameters), run);
};

const check = (spec) => {
  if (typeof spec !== "object" || spec === null) throw new TypeError("agent() takes an object");
  const unknown = Object.keys(spec).filter((field) => !FIELDS.includes(field));
  if (unknown.length > 0) throw new TypeError(`agent(): unknown field "${unknown[0]}"; there are ${FIELDS.join(", ")}`);
  for (const name of HANDLERS) {
    if (spec[name] !== undefined && typeof spec[name] !== "function") throw new TypeError(`agent(): "${name}" must be a function`);
  }
  for (const [name, value] of Object.entries(spec.tools ?? {})) {
    if (!(value instanceof Tool)) throw new TypeError(`agent(): "${name}" of tools must be made by tool()`);
  }
};

export class Agent {
  constructor(spec) {
    check(spec);
    this.spec = spec;
  }
}

export const agent = (spec) => new Agent(spec);

const describe = (value) => (typeof value === "function" ? `the function ${value.name || "(anonymous)"}` : `a ${typeof value}`);

const unsuitable = (what) => new TypeError(`message() returned ${what}; return text, a JSON value, done() or nothing`);

const reply = (value) => {
  switch (typeof value) {
    case "undefined": return null;
    case "string": return value;
    case "number": case "boolean": case "bigint": return String(value);
    case "object": return value === null ? null : snapshot.json("reply", value, (why) => unsuitable(`a value that JSON cannot hold: ${why}`));
    default: throw unsuitable(describe(value));
  }
};

const outcome = (value) => {
  const named = value !== null && typeof value === "object" && "next" in value;
  if (!named) return { reply: reply(value), next: "Idle" };
  if (!Object.hasOwn(NEXT, value.next)) throw new TypeError(`message() returned next: ${toJson(value.next)}; it is idle, continue or done`);
  return { reply: reply(value.reply), next: NEXT[value.next] };
};

const message = ({ id, sender, body, attempt }) => {
  const [kind, from] = variant(sender);
  return { id, text: body, from: kind === "agent" ? from : kind, sender: { kind, id: from }, attempt };
};

/** The one agent of this instance, as the runner drives it. */
export class Life {
  #spec;
  #context;
  #pending = new Set();

  /** Takes what the entry file exports. */
  constructor(exported, entry) {
    if (!(exported instanceof Agent)) {
      throw new TypeError(`${entry} has no agent: write \`export default agent({ … })\``);
    }
    this.#spec = exported.spec;
    this.#context = this.#make();
  }

  #make() {
    const { emit, send, log, config, settings, memory, deadline, nudges, setActiveTools } = host;
    const context = {
      me: undefined, state: structuredClone(this.#spec.state ?? {}), chat: undefined, model, workspace, ...files, files,
      emit, send, log, config, settings, memory, deadline, nudges, setActiveTools, programs, run, spawn,
      waitUntil: (promise) => this.#waitUntil(promise),
    };
    context.chat = new Chat(this.#spec, context);
    return context;
  }

  /** One that is rejected is reported as any other that nobody handles. */
  #waitUntil(promise) {
    const pending = Promise.resolve(promise).finally(() => this.#pending.delete(pending));
    this.#pending.add(pending);
  }

  #handler;

  /** Where the handler is defined that was called last, in the form of a stack. */
  get place() {
    const handler = this.#handler;
    return handler ? `    at ${handler.name} (${handler.fileName}:${handler.lineNumber}:${handler.columnNumber})\n` : "";
  }

  /** Calls a function of the author's, if there is one. */
  #call(handler, ...args) {
    this.#handler = handler;
    return handler?.(...args);
  }

  /** How many promises of `waitUntil` are not settled. */
  get pending() {
    return this.#pending.size;
  }

  async start(request) {
    const { agentId, townId, rigId, ...rest } = camel(request);
    this.#context.me = Object.freeze({ id: agentId, town: townId, rig: rigId, ...rest });
    await this.#call(this.#spec.start, this.#context);
  }

  async handle(raw) {
    const { message: handler = (received, { chat }) => chat.ask(received.text) } = this.#spec;
    return toJson(outcome(await this.#call(handler, message(raw), this.#context)));
  }

  snapshot() {
    const { state, chat: { history } } = this.#context;
    return snapshot.write(state, history);
  }

  /** What the author added to `state` since the snapshot was taken has its first value. */
  restore(text) {
    const { state, history } = snapshot.read(text);
    const plain = state !== null && typeof state === "object" && !Array.isArray(state);
    this.#context.state = plain ? { ...this.#context.state, ...state } : state;
    this.#context.chat.history = history;
  }

  async shutdown(reason) {
    await this.#call(this.#spec.shutdown, reason, this.#context);
  }
}
