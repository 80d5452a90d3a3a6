// Files of the workspace.
import { callBytes, camel } from "bulkhead:native";
import { FileError, unwrap } from "bulkhead:errors";

const ask = (name, path, args = [], input) => {
  const [result, output] = callBytes(`file${name}`, [path, ...args], input);
  return [unwrap(result, `${name.toLowerCase()} "${path}"`, FileError), output];
};

const bytes = (contents) => (typeof contents === "string" ? new TextEncoder().encode(contents) : contents);

export const files = {
  readFile: async (path) => new TextDecoder().decode(ask("Read", path)[1]),
  readBytes: async (path) => ask("Read", path)[1],
  writeFile: async (path, contents) => void ask("Write", path, [false], bytes(contents)),
  appendFile: async (path, contents) => void ask("Write", path, [true], bytes(contents)),
  list: async (path = ".") => ask("List", path)[0],
  stat: async (path) => camel(ask("Stat", path)[0]),
  makeDir: async (path) => void ask("Mkdir", path),
  remove: async (path, { recursive = false } = {}) => void ask("Remove", path, [recursive]),
  rename: async (from, to) => void ask("Rename", from, [to]),
};

export const { readFile, writeFile, list } = files;
