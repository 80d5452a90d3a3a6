// An agent that the build starts and asks once. What QuickJS makes when it is first used, a method of `Array` for example,
// is there afterwards, in the memory that all agents share. It must not call the host: there is none.
import { agent, tool, done, AgentError } from "@bulkhead/agent";

const spec = {
  system: "You are an agent.",
  state: { notes: [], seen: {} },
  tools: { note: tool("Write something down", { text: "string", times: "integer?", tags: "string[]" }, ({ text }, { state }) => void state.notes.push(text)) },
  start({ me, state }) {
    state.seen[me.id] = `${me.role} ${me.name}`;
  },
  async message({ text, from }, { chat, emit, send, log, state }) {
    const words = text.trim().split(/\s+/).map((word) => word.toLowerCase()).filter((word) => word.length > 1);
    await new Promise((resolve) => setTimeout(resolve, 0));
    state.notes.push({ words: words.join("\n"), from, at: words.indexOf("x"), slice: text.slice(1), json: JSON.stringify({ text }) });
    for (const [key, value] of Object.entries(state.seen)) state.seen[key] = value.replace("a", "b").includes("c");
    try {
      if (words.length > 0) throw new AgentError("rehearsal", "nothing is wrong");
    } catch (error) {
      state.seen[error.code] = error.message;
    }
    return text === "done" ? done("goodbye") : { ...state, stream: typeof chat.stream, typed: [typeof emit, typeof send, typeof log.info] };
  },
};

export default agent(spec);
