// Uses the chat page as a person would. Run by `tools/browser/chat`.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const page_url = process.env.PAGE;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] });
const problems = [];

async function open(options) {
  const context = await browser.newContext(options);
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: new URL(page_url).origin });
  const page = await context.newPage();
  page.on("console", message => { if (message.type() === "error" || message.type() === "warning") problems.push(message.text()); });
  page.on("pageerror", error => problems.push(String(error)));
  page.on("request", request => {
    if (!request.url().startsWith(page_url) && !request.url().startsWith("data:")) problems.push("asked for " + request.url());
  });
  await page.goto(page_url);
  await page.waitForFunction(() => document.querySelector("#model").options.length > 0);
  return page;
}
const shot = async (page, name) => { if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${name}.png` }); };
const done = page => page.waitForFunction(() => document.querySelector("#stop").hidden);
const last = page => page.locator(".turn.assistant .body").last();
const knob = async (page, name, value) => { await page.fill("#k-" + name, value); await page.locator("#k-" + name).blur(); };

// A chat: settings, probabilities, regenerating, editing, stopping.
let page = await open({ viewport: { width: 1200, height: 760 } });
await page.click("#tune");
await knob(page, "max_tokens", "40");
await knob(page, "seed", "3");
await page.check("#probs");
await page.fill("#system", "You are <b>brief</b>.");
await page.locator("#system").blur();
await page.fill("#input", "Hello <script>alert(1)</script>");
const asked = page.waitForRequest("**/v1/chat/completions");
await page.press("#input", "Enter");
assert.deepEqual((await asked).postDataJSON().messages, [
  { role: "system", content: "You are <b>brief</b>." }, { role: "user", content: "Hello <script>alert(1)</script>" },
], "the system prompt stands first");
await done(page);
assert.equal(await page.locator(".turn").count(), 2);
assert.equal(await page.locator(".turn.user .body").textContent(), "Hello <script>alert(1)</script>", "text stays text");
const first = await last(page).textContent();
assert.ok(first.length > 0, "an answer came");
await page.locator(".turn.assistant").getByRole("button", { name: "Copy" }).click();
await page.waitForFunction(() => document.querySelector("#status").textContent === "Copied.");
assert.equal(await page.evaluate(() => navigator.clipboard.readText()), first, "the answer can be copied");
assert.ok(await page.locator(".turn.assistant .tok").count() > 5, "tokens are shown one by one");
// A token that is only a part of a character has no text to point at.
await page.locator(".turn.assistant .tok").filter({ hasText: /[a-z]/ }).first().hover();
assert.match(await page.locator("#tip").textContent(), /%/, "how likely a token was");
await shot(page, "chat");
await page.mouse.move(2, 2);
await last(page).focus();
await page.keyboard.press("ArrowRight");
assert.ok(await page.locator("#tip").isVisible(), "and with the keyboard");
await knob(page, "seed", "4");
await page.getByRole("button", { name: "Regenerate" }).click();
await done(page);
assert.notEqual(await last(page).textContent(), first, "another seed, another answer");
await page.getByRole("button", { name: "Edit" }).first().click();
await page.locator(".turn.user textarea").fill("Something else");
await page.getByRole("button", { name: "Send again" }).click();
await done(page);
assert.equal(await page.locator(".turn.user .body").textContent(), "Something else");
await knob(page, "max_tokens", "");
await page.fill("#input", "And on and on");
await page.press("#input", "Enter");
await page.waitForFunction(() => [...document.querySelectorAll(".turn.assistant")].at(1)?.querySelectorAll(".tok").length > 3);
await page.evaluate(() => document.querySelector("#stop").click());
await done(page);
assert.equal(await page.locator(".turn").count(), 4, "what had come stays");

// A text to be continued.
await page.click("#newtext");
await knob(page, "max_tokens", "20");
await page.fill("#page", "Once upon");
await page.click("#send");
await done(page);
const text = await page.inputValue("#page");
assert.ok(text.startsWith("Once upon") && text.length > 12, text);
const written = text.slice("Once upon".length);
assert.equal(await last(page).textContent(), written, "what it went on with, by itself");
await page.locator(".turn.assistant .tok").filter({ hasText: /[a-z]/ }).first().hover();
assert.match(await page.locator("#tip").textContent(), /%/, "how likely a token of a text was");
await page.mouse.move(2, 2);
await knob(page, "seed", "9");
await page.getByRole("button", { name: "Regenerate" }).click();
await done(page);
const other = (await page.inputValue("#page")).slice("Once upon".length);
assert.ok((await page.inputValue("#page")).startsWith("Once upon") && other !== written, "another seed goes on otherwise");
// It ends before the stop text.
const stop = other.slice(3, 5);
await page.fill("#stopat", stop);
await page.locator("#stopat").blur();
await page.getByRole("button", { name: "Regenerate" }).click();
await done(page);
assert.equal(await page.inputValue("#page"), "Once upon" + other.slice(0, other.indexOf(stop)));
await page.fill("#stopat", "");
await page.locator("#stopat").blur();
const kept = await page.inputValue("#page");

// Everything is there again after a reload, and can be deleted.
await page.reload();
await page.waitForFunction(() => document.querySelector("#model").options.length > 0);
assert.equal(await page.locator("#list li").count(), 2);
assert.equal(await page.inputValue("#page"), kept);
await page.locator("#list li").nth(1).getByRole("button").first().click();
assert.equal(await page.locator(".turn").count(), 4);
await page.locator("#list li").first().getByRole("button", { name: "Delete" }).click();
assert.equal(await page.locator("#list li").count(), 1);

// Whatever a model is called and says is only ever text.
page = await open({ viewport: { width: 1200, height: 760 } });
assert.equal(await page.locator("#model option").textContent(), process.env.NAME);
const hostile = "<img src=x onerror=\"document.title='fooled'\"><script>document.title='fooled'</script>";
const told = { token: hostile, logprob: -0.1, top_logprobs: [{ token: "<b>bold</b>", logprob: -2 }] };
const events = logprobs => `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: hostile }, logprobs }] })}\n\ndata: [DONE]\n\n`;
await page.route("**/v1/chat/completions", route => {
  const scores = route.request().postDataJSON().logprobs ? { content: [told] } : null;
  return route.fulfill({ contentType: "text/event-stream", body: events(scores) });
});
for (const likely of [false, true]) {
  if (likely) { await page.click("#tune"); await page.check("#probs"); }
  await page.fill("#input", "Hello");
  await page.press("#input", "Enter");
  await done(page);
  assert.equal(await last(page).textContent(), hostile);
}
await page.locator(".turn.assistant .tok").first().hover();
assert.match(await page.locator("#tip").textContent(), /<b>bold<\/b>/);
assert.equal(await page.locator(".turn img, .turn script, #tip b, #model b").count(), 0);
assert.equal(await page.title(), "Cupola");

// A narrow, dark screen.
page = await open({ viewport: { width: 360, height: 640 }, colorScheme: "dark" });
await page.fill("#input", "Hello");
await page.click("#send");
await page.waitForFunction(() => (document.querySelector(".turn.assistant .body")?.textContent.length ?? 0) > 10);
await page.evaluate(() => document.querySelector("#stop").click());
await done(page);
const wide = await page.evaluate(() => document.documentElement.scrollWidth);
assert.ok(wide <= 360, `the page is ${wide} wide`);
await page.click("#menu");
assert.ok(await page.locator("#list li").first().isVisible());
await page.click("#menu");
await shot(page, "chat-narrow");

assert.deepEqual(problems, []);

// A server that asks for a key, and has runs beside the chat. The browser itself tells the console of every refusal.
const locked = process.env.LOCKED;
for (const first of ["", "runs/"]) {
  const context = await browser.newContext({ viewport: { width: 360, height: 700 }, acceptDownloads: true });
  page = await context.newPage();
  page.on("console", message => { if (message.type() === "error" && !message.text().includes("401")) problems.push(message.text()); });
  page.on("pageerror", error => problems.push(String(error)));
  page.on("request", request => { if (!request.url().startsWith(locked) && !request.url().startsWith("data:")) problems.push("asked for " + request.url()); });
  await page.goto(locked + first);
  if (first === "") {
    await page.fill("#key", "sk-test");
    await page.locator("#key").blur();
    await page.waitForFunction(() => document.querySelector("#model").options.length > 0);
    await page.getByRole("link", { name: "Training" }).click();
  } else {
    await page.waitForSelector("#key input");
    await page.fill("#key input", "sk-wrong");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelector("#live").textContent === "a key is needed");
    assert.ok(await page.isVisible("#key"));
    await page.fill("#key input", "sk-test");
    await page.keyboard.press("Enter");
  }
  await page.waitForSelector("figure .box svg path.line");
  await page.waitForFunction(() => document.querySelector("#live").textContent === "live");
  assert.ok(!await page.isVisible("#key"), "the key is not asked for again");
  const wait = page.waitForEvent("download");
  await page.click("#csv");
  assert.equal((await wait).suggestedFilename(), "one.csv", "files can be kept with a key as well");
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= 360);
  if (first) await shot(page, "dashboard-locked");
  await page.getByRole("link", { name: "Chat with the model" }).click();
  await page.waitForFunction(() => document.querySelector("#model").options.length > 0);
  await page.reload();
  await page.getByRole("link", { name: "Training" }).click();
  await page.waitForSelector("figure .box svg path.line");
}
assert.deepEqual(problems, []);
await browser.close();
console.log("chat page: passed");
