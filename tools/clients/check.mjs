// What the official Node client makes of the server's answers. Run by `tools/clients/run`.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const messages = [{ role: "user", content: "Hello" }];
const options = { model, messages, max_tokens: 8, seed: 1 };

const whole = await client.chat.completions.create({ ...options, logprobs: true, top_logprobs: 2 });
assert.equal(whole.choices[0].message.role, "assistant");
assert.equal(whole.choices[0].logprobs.content[0].top_logprobs.length, 2);

let text = "", end = null, usage = null;
const stream = await client.chat.completions.create({ ...options, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) {
  usage = chunk.usage ?? usage;
  text += chunk.choices[0]?.delta?.content ?? "";
  end = chunk.choices[0]?.finish_reason ?? end;
}
assert.equal(text, whole.choices[0].message.content);
assert.equal(end, whole.choices[0].finish_reason);
assert.deepEqual(usage.completion_tokens, whole.usage.completion_tokens);

const runner = client.chat.completions.stream(options);
assert.equal((await runner.finalChatCompletion()).choices[0].message.content, text);

const parameters = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"], additionalProperties: false };
const called = await client.chat.completions.create({
  ...options, max_tokens: 200, tools: [{ type: "function", function: { name: "look", parameters } }], tool_choice: "required",
});
assert.equal(typeof JSON.parse(called.choices[0].message.tool_calls[0].function.arguments).ok, "boolean");

let streamed = "";
for await (const chunk of await client.completions.create({ model, prompt: "Hello", max_tokens: 5, seed: 3, stream: true })) {
  streamed += chunk.choices[0].text;
}
assert.equal(streamed, (await client.completions.create({ model, prompt: "Hello", max_tokens: 5, seed: 3 })).choices[0].text);

const vector = (await client.embeddings.create({ model, input: "a" })).data[0].embedding;
assert.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-4);

const asked = { model, input: "Hello", max_output_tokens: 6, temperature: 0 };
const answer = await client.responses.create(asked);
let said = "";
for await (const event of await client.responses.create({ ...asked, stream: true })) {
  if (event.type === "response.output_text.delta") said += event.delta;
}
assert.equal(said, answer.output_text);

// A reader that leaves in the middle is no trouble.
const left = await client.chat.completions.create({ ...options, max_tokens: 500, stream: true });
for await (const chunk of left) {
  if (chunk.choices[0]?.delta?.content) break;
}
await assert.rejects(client.chat.completions.create({ ...options, temperature: 5 }), { status: 400, param: "temperature" });
await assert.rejects(client.chat.completions.create({ ...options, model: "other" }), { status: 404, code: "model_not_found" });
await assert.rejects(new OpenAI({ apiKey: "x", maxRetries: 0 }).models.list(), { status: 401 });
const { version } = JSON.parse(readFileSync("node_modules/openai/package.json", "utf8"));
console.log(`openai ${version} for Node: passed`);
