import { agent, tool, ModelError } from "@bulkhead/agent";

interface State {
  turns: number;
  notes: string[];
}

export default agent<State>({
  system: "You are {{name}}. Answer briefly. Write down what you should remember.",
  state: { turns: 0, notes: [] },

  tools: {
    note: tool("Write something down", { text: "string" }, ({ text }, { state }) => void state.notes.push(text)),
  },

  async message({ text }, { chat, state }) {
    state.turns += 1;
    if (text === "notes") return state.notes.join("\n") || "no notes yet";
    try {
      return await chat.ask(text); // Those who watch see the answer as it comes.
    } catch (error) {
      const hasNoModel = error instanceof ModelError && error.reason === "denied";
      if (!hasNoModel) throw error;
      return `${state.turns}: ${text}`; // See `models` in bulkhead.toml.
    }
  },
});
