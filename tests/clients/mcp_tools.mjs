// What the MCP SDK of npm sees of a host, over stdio and over HTTP. URL, TOKEN and BULKHEAD say where and what; the last line
// says that all of it is right.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(process.env.MODULES + "/");
const load = (name) => import(pathToFileURL(require.resolve(`@modelcontextprotocol/sdk/client/${name}.js`)).href);
const { Client } = await load("index");
const { StdioClientTransport } = await load("stdio");
const { StreamableHTTPClientTransport } = await load("streamableHttp");
const { URL: HOST, TOKEN, BULKHEAD } = process.env;

const env = { BULKHEAD_URL: HOST, BULKHEAD_CONTROL_TOKEN: TOKEN };
const stdio = (...more) => new StdioClientTransport({ command: BULKHEAD, args: ["mcp", ...more], env });
const http = (token) =>
    new StreamableHTTPClientTransport(new URL(`${HOST}/mcp`), { requestInit: { headers: { Authorization: `Bearer ${token}` } } });
const connected = async (transport) => {
    const client = new Client({ name: "bulkhead-tests", version: "1" });
    await client.connect(transport);
    return client;
};
const call = async (client, name, args = {}) => {
    const result = await client.callTool({ name, arguments: args });
    return [result.isError === true, result.content.map((block) => block.text).join("\n")];
};

for (const transport of [stdio("--allow-changes"), http(TOKEN)]) {
    const client = await connected(transport);
    assert.equal(client.getServerVersion().name, "bulkhead");
    const { tools } = await client.listTools();
    assert(tools.find((tool) => tool.name === "list_agents").annotations.readOnlyHint);
    let [failed, text] = await call(client, "list_agents");
    assert(!failed && text.includes('"agent":"mayor"'), text);
    [failed, text] = await call(client, "why_did_it_die", { agent: "puppet" });
    assert(!failed && text.includes("ended as panic"), text);
    [failed, text] = await call(client, "send_message", { agent: "mayor", message: "hello" });
    assert(!failed && text.includes("Hello. I answer from a script."), text);
    [failed, text] = await call(client, "agent_status", { agent: "nobody" });
    assert(failed && text.includes("no such agent: nobody"), text);
    await client.close();
}
await assert.rejects(connected(http("wrong")));

const { version } = JSON.parse(readFileSync(`${process.env.MODULES}/node_modules/@modelcontextprotocol/sdk/package.json`));
console.log("all right with @modelcontextprotocol/sdk", version);
process.exit(0);
