// The mayor of the repository in 20 lines: `source = "mayor.js"`, `models = ["default"]`.
import { agent, tool, done } from "@bulkhead/agent";

export default agent({
  system: "You are the mayor of a small town of software agents. Answer briefly.",
  state: { notes: [] },

  tools: {
    note: tool("Write something down", { text: "string" }, ({ text }, { state }) => void state.notes.push(text)),
    tell: tool("Send a message to another agent", { to: "string", text: "string" }, ({ to, text }, { send }) => send(to, text)),
  },

  async message({ text }, { chat, emit, state }) {
    if (text === "notes") return state.notes.join("\n");
    if (text === "retire") return done("goodbye");
    for await (const part of chat.stream(text)) emit("mayor.delta", { part });
    return chat.text;
  },
});
