// Makes agent.wasm of agent.js and a JavaScript engine.
import { componentize } from "@bytecodealliance/componentize-js";
import { readFile, rename, writeFile } from "node:fs/promises";

const source = await readFile("agent.js", "utf8");
const options = { witPath: "wit", worldName: "agent", sourceName: "agent.js" };
const { component } = await componentize(source, options);
await writeFile("agent.wasm.part", component);
await rename("agent.wasm.part", "agent.wasm");
