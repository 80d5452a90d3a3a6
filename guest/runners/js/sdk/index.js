// The module `@bulkhead/agent`.
export { agent, again, done, tool } from "bulkhead:agent";
export { AgentError, FetchError, FileError, HostError, ModelError, ToolError, WorkspaceError } from "bulkhead:errors";
