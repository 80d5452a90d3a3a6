// The interface `workspace`: the repository that the agent works on.
import { call, callBytes, camel, kebab, pascal } from "bulkhead:native";
import { WorkspaceError, unwrap } from "bulkhead:errors";

const ask = (name, ...args) => unwrap(call(`workspace${name}`, ...args), `workspace.${kebab(name)}`, WorkspaceError);

/** What `diff` returns at most, unless it is told otherwise. */
const DIFF_BYTES = 256 * 1024;

export const workspace = {
  async status() {
    const status = camel(ask("Status"));
    const changes = status.changes.map((change) => ({ ...change, staged: kebab(change.staged), unstaged: kebab(change.unstaged) }));
    return { ...status, changes };
  },

  async diff({ against = "head", maxBytes = DIFF_BYTES } = {}) {
    const [result, text] = callBytes("workspaceDiff", [pascal(against), maxBytes]);
    const truncated = unwrap(result, "workspace.diff", WorkspaceError);
    return { text: new TextDecoder().decode(text), bytes: text, truncated };
  },

  commit: async (message, paths = []) => ask("Commit", message, paths) ?? undefined,
  log: async (max = 20) => ask("Log", max),
  fetch: async () => ask("Fetch") ?? undefined,
  rebase: async () => ask("Rebase"),
  push: async () => ask("Push"),
  checkpoint: async (name) => ask("Checkpoint", name),
  restore: async (checkpoint) => void ask("Restore", checkpoint),
};
