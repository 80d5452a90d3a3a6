// An agent that asks a language model, and writes down what it is told by `note TEXT`.
import { complete } from "bulkhead:agent/model@0.2.0";

const SYSTEM = "You are {{name}}. Answer briefly.";

// Its state, which outlives it.
let state = { turns: 0, notes: [] };

const says = (role, text) => ({ role, content: [{ tag: "text", val: text }], toolCalls: [] });

// The answer of the model.
function ask(text) {
  const messages = [says("system", SYSTEM), says("user", text)];
  try {
    return complete({ messages, tools: [] }).text;
  } catch (refused) {
    const { tag, val } = refused.payload ?? {};
    if (tag === "denied") return `${state.turns}: ${text}`; // See `models` in bulkhead.toml.
    if (tag === undefined) throw refused;
    const message = `the model did not answer: ${tag} ${JSON.stringify(val)}`;
    throw { code: "no-answer", message, fatal: false, exceptions: [] };
  }
}

function answer(text) {
  if (text === "notes") return state.notes.join("\n") || "no notes yet";
  if (text.startsWith("note ")) {
    state.notes.push(text.slice("note ".length));
    return "noted";
  }
  return ask(text);
}

// Whatever leaves an export is taken for an error of the contract. This makes one of what is none, with its places.
function guarded(run) {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const frame = ([, name, file, line, column]) => ({ function: name || undefined, file, line: +line, column: +column });
    const frames = [...error.stack.matchAll(/^(.*)@(.+):(\d+):(\d+)$/gm)].map(frame);
    const exceptions = [{ kind: error.name, message: error.message, frames }];
    throw { code: "exception", message: String(error), fatal: true, exceptions };
  }
}

export const lifecycle = {
  start(_request) {},

  handle(message) {
    return guarded(() => {
      state.turns += 1;
      return { reply: answer(message.body), next: "idle" };
    });
  },

  snapshot: () => new TextEncoder().encode(JSON.stringify(state)),

  restore(snapshot) {
    state = JSON.parse(new TextDecoder().decode(snapshot));
  },

  shutdown(_reason) {},
};
