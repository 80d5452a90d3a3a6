// What the `openai` package of npm sees of agents. BASE_URL and TOKEN say where; the last line says that all of it is right.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(process.env.MODULES + "/");
const { default: OpenAI } = await import(pathToFileURL(require.resolve("openai")).href);
const options = { baseURL: process.env.BASE_URL, maxRetries: 0, timeout: 60_000 };
const client = new OpenAI({ ...options, apiKey: process.env.TOKEN });

const models = (await client.models.list()).data.map((model) => model.id);
assert(models.includes("mayor"), `${models}`);

const messages = [{ role: "user", content: "hello" }];
const answer = await client.chat.completions.create({ model: "mayor", messages });
assert.equal(answer.choices[0].message.content, "Hello. I answer from a script.");

let text = "", finish = null;
for await (const chunk of await client.chat.completions.create({ model: "mayor", messages, stream: true })) {
    text += chunk.choices[0].delta.content ?? "";
    finish = chunk.choices[0].finish_reason ?? finish;
}
assert.equal(text, "Hello. I answer from a script.");
assert.equal(finish, "stop");

const whole = await client.chat.completions.stream({ model: "mayor", messages }).finalContent();
assert.equal(whole, "Hello. I answer from a script.");

await assert.rejects(client.chat.completions.create({ model: "nobody", messages }), (error) => error.status === 404 && error.code === "no-such-agent");
await assert.rejects(new OpenAI({ ...options, apiKey: "wrong" }).models.list(), (error) => error.status === 401);
const panic = { model: "puppet", messages: [{ role: "user", content: "panic" }], stream: true };
await assert.rejects(async () => { for await (const _ of await client.chat.completions.create(panic)); }, (error) => error.code === "agent-ended");

console.log("all right with openai of npm");
