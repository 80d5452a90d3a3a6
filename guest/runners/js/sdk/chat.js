// A conversation with a model: it offers the agent's tools, runs those that the model calls, and remembers.
import { fromJson, toJson } from "bulkhead:native";
import { AgentError, FetchError, HostError } from "bulkhead:errors";
import * as host from "bulkhead:host";
import { model } from "bulkhead:model";

/** Answers with tool calls in one turn. */
const MAX_ROUNDS = 8;
/** What is remembered; as much as the mayor of the repository keeps. A snapshot holds 1 MiB. */
const MAX_MESSAGES = 200;
const MAX_BYTES = 256 * 1024;
/** Of a tool's result so much of it is remembered. */
const RESULT_PART = 8;

const TRUNCATED = {
  length: "the model reached its length limit",
  "content-filter": "a content filter stopped the model",
  other: "the model did not come to its end",
};

export class Chat {
  #spec;
  #context;

  constructor(spec, context) {
    this.#spec = spec;
    this.#context = context;
    /** Whole exchanges, oldest first. */
    this.history = [];
    /** The model's last answer. */
    this.text = "";
  }

  /** Yields the answer's text as it comes. */
  async *stream(input, options) {
    this.text = yield* this.#answer(input, options);
  }

  /** The whole answer. Others may be under way meanwhile, and `text` be theirs. */
  async ask(input, options) {
    const parts = this.#answer(input, options);
    for (;;) {
      const { done, value } = await parts.next();
      if (done) return (this.text = value);
    }
  }

  /** Yields the answer's text, and returns all of it. */
  async *#answer(input, options = {}) {
    const exchange = [{ role: "user", content: input }];
    const rounds = options.maxRounds ?? this.#spec.maxRounds ?? MAX_ROUNDS;
    const tools = options.tools ?? this.#spec.tools ?? {};
    for (let round = 0; round <= rounds; round++) {
      const answer = { role: "assistant", content: "", tool_calls: [] };
      let cause;
      for await (const part of model.stream(this.#request(exchange, tools, options))) {
        if (part.type === "text") {
          answer.content += part.text;
          yield part.text;
        } else if (part.type === "tool-call") answer.tool_calls.push(part.call);
        else if (part.type === "end") {
          cause = TRUNCATED[part.finishReason];
          if (part.reasoningState) answer.reasoning_state = part.reasoningState;
        }
      }
      exchange.push(answer);
      if (answer.tool_calls.length === 0) {
        delete answer.tool_calls;
        this.#remember(exchange);
        return cause ? `${answer.content}\n\n[cut off: ${cause}]` : answer.content;
      }
      // What they did would stay done, and nobody would hear of it.
      if (round === rounds) break;
      exchange.push(...(await this.#run(answer.tool_calls, tools)));
    }
    throw new AgentError("too-many-tool-rounds", `the model called tools in ${rounds} answers and would go on`);
  }

  #request(exchange, tools, options) {
    const { tools: _, maxRounds: __, system: ___, ...asked } = options;
    const offered = Object.entries(tools).map(([name, { description, parameters }]) => ({ name, description, parameters }));
    const system = this.#system(options.system);
    return { ...asked, tools: offered, messages: [...(system ? [{ role: "system", content: system }] : []), ...this.history.flat(), ...exchange] };
  }

  /** What people set comes before what the author wrote. */
  #system(given) {
    const { systemPrompt, dashboardContext } = host.settings();
    const own = this.#spec.system;
    const instructions = given ?? systemPrompt ?? (typeof own === "function" ? own(this.#context) : own) ?? "";
    return dashboardContext ? `${instructions}\n\nThe dashboard of the town shows:\n${dashboardContext}`.trim() : instructions;
  }

  async #run(calls, tools) {
    const results = [];
    try {
      for (const { id, function: { name, arguments: text } } of calls) {
        host.setActiveTools([name]);
        results.push({ role: "tool", tool_call_id: id, content: await result(tools, name, text, this.#context) });
      }
    } finally {
      host.setActiveTools([]);
    }
    return results;
  }

  #remember(exchange) {
    const { maxMessages = MAX_MESSAGES, maxBytes = MAX_BYTES } = this.#spec.history ?? {};
    for (const message of exchange) if (message.role === "tool") message.content = shortened(message.content, maxBytes / RESULT_PART);
    if (exchange.length > maxMessages || toJson([exchange]).length > maxBytes) {
      host.log.warn(`an exchange of ${exchange.length} messages is not remembered: it is larger than the history`);
      return;
    }
    this.history.push(exchange);
    let messages = this.history.flat().length;
    let bytes = toJson(this.history).length;
    while (this.history.length > 0 && (messages > maxMessages || bytes > maxBytes)) {
      const oldest = this.history.shift();
      messages -= oldest.length;
      bytes -= toJson(oldest).length;
    }
  }
}

/** The beginning, and how much was left out. */
function shortened(text, most) {
  return text.length <= most ? text : `${text.slice(0, most)}\n[${text.length - Math.floor(most)} characters left out]`;
}

/** What the model reads of a tool call. A failure that the tool reports, or the host, is something that the model can act
    on. Any other exception is a defect, and leaves. */
async function result(tools, name, text, context) {
  const tool = Object.hasOwn(tools, name) ? tools[name] : undefined;
  if (!tool) return `error: there is no tool "${name}"`;
  let args;
  try {
    args = fromJson(text.trim() || "{}");
  } catch (error) {
    return `error: the arguments of "${name}" are no JSON: ${error.message}`;
  }
  const missing = (tool.parameters.required ?? []).filter((key) => args?.[key] === undefined);
  if (missing.length > 0) return `error: missing arguments of "${name}": ${missing.join(", ")}`;
  try {
    const value = await tool.run(args, context);
    return value === undefined || value === null ? "done" : typeof value === "string" ? value : toJson(value);
  } catch (error) {
    const isOrdinary = error instanceof AgentError || error instanceof HostError || error instanceof FetchError || error instanceof DOMException;
    if (!isOrdinary || error.fatal) throw error;
    host.log.debug(`tool ${name} failed: ${error.message}`, { code: error.code });
    return `error: ${error.message}`;
  }
}
