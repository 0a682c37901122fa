"use strict";
// Conversations stay in this browser; answers come as events.
const $ = id => document.getElementById(id);
const button = (textContent, onclick, more) => make("button", { type: "button", textContent, onclick, ...more });
const make = (tag, props, ...children) => {
	const node = Object.assign(document.createElement(tag), props);
	node.append(...children);
	return node;
};
const read = (key, fallback) => { try { return JSON.parse(localStorage.getItem(key)) ?? fallback; } catch { return fallback; } };
const write = (key, value) => { try { localStorage.setItem(key, JSON.stringify(value)); } catch { say("No room left; delete a conversation.", true); } };

const KNOBS = [...document.querySelectorAll("#knobs input")], TEXTS = [$("system"), $("stopat")];
let settings = read("cupola.settings", {}), chats = read("cupola.chats", []);
let now = chats[0] || start("chat"), running;

function start(kind) {
	const chat = { kind, turns: [], text: "" };
	chats.unshift(chat);
	return chat;
}
const save = () => write("cupola.chats", chats);
const keep = () => write("cupola.settings", settings);
function say(text, bad) {
	$("status").textContent = text;
	$("status").className = bad ? "bad" : "";
}
const title = chat => (chat.text || (chat.turns[0] || {}).content || "").trim().slice(0, 60) || "New " + chat.kind;

function list() {
	$("list").replaceChildren(...chats.map(chat => {
		const open = button(title(chat), () => { halt(); now = chat; $("side").classList.remove("open"); draw(); });
		const remove = button("×", () => {
			if (chat === now) halt();
			chats = chats.filter(c => c !== chat);
			if (chat === now) now = chats[0] || start("chat");
			save(); draw();
		}, { ariaLabel: "Delete " + title(chat) });
		if (chat === now) open.ariaCurrent = "true";
		return make("li", { className: chat === now ? "on" : "" }, open, remove);
	}));
}

// Each token's part of an answer: what came with it. None of a part of a character.
function pieces(turn) {
	const texts = settings.probs && turn.tokens && turn.tokens.map(t => t.t);
	return texts && texts.join("") === turn.content ? texts : null;
}
const percent = p => (100 * Math.exp(p)).toFixed(1).padStart(5) + " %";
const tipText = t => [[t.s, t.p], ...t.top.filter(x => x[0] !== t.s)].map(([s, p]) => percent(p) + "  " + JSON.stringify(s)).join("\n");
function tip(span) {
	document.querySelectorAll(".tok.at").forEach(t => t.classList.remove("at"));
	$("tip").hidden = !span;
	if (!span) return;
	$("tip").textContent = span.tip;
	const box = span.getBoundingClientRect(), own = $("tip").getBoundingClientRect();
	$("tip").style.left = Math.max(4, Math.min(box.left, innerWidth - own.width - 4)) + "px";
	$("tip").style.top = (box.bottom + own.height + 8 > innerHeight ? box.top - own.height - 4 : box.bottom + 4) + "px";
}
function fill(body, turn) {
	const texts = pieces(turn);
	if (!texts) { body.textContent = turn.content; return; }
	body.replaceChildren(...texts.map((text, i) => {
		const token = turn.tokens[i], p = Math.exp(token.p);
		const className = "tok l" + [0.9, 0.5, 0.2, 0.05].filter(x => p <= x).length;
		const onmouseenter = e => tip(e.target), onmouseleave = () => tip();
		return make("span", { className, textContent: text, tip: tipText(token), onmouseenter, onmouseleave });
	}));
	// Arrows walk over the tokens of a focused answer.
	body.tabIndex = 0;
	let at = -1;
	body.onkeydown = e => {
		const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
		if (!step) return;
		e.preventDefault();
		at = Math.max(0, Math.min(texts.length - 1, at + step));
		tip(body.children[at]);
		body.children[at].classList.add("at");
	};
	body.onblur = () => tip();
}

function turnNode(turn, index) {
	const body = make("div", { className: "body" });
	fill(body, turn);
	const acts = make("div", { className: "acts" });
	acts.append(button("Copy", async () => {
		try { await navigator.clipboard.writeText(turn.content); say("Copied."); } catch { say("Not allowed here.", true); }
	}));
	if (now.kind === "chat") acts.append(button("Edit", () => edit(body, turn, index)));
	if (turn.role === "assistant") acts.append(button("Regenerate", () => again(index)));
	return make("article", { className: "turn " + turn.role }, make("div", { className: "who", textContent: turn.role }), body, acts);
}
function edit(body, turn, index) {
	halt();
	const area = make("textarea", { value: turn.content, rows: 5, ariaLabel: "Edit the message" });
	const done = button(turn.role === "user" ? "Send again" : "Keep", () => {
		turn.content = area.value;
		delete turn.tokens;
		if (turn.role === "user") { now.turns.length = index + 1; answer(); } else { save(); draw(); }
	});
	body.replaceChildren(area, make("div", { className: "row" }, done, button("Cancel", draw)));
	area.focus();
}
function draw() {
	const text = now.kind === "text";
	$("input").hidden = text;
	$("log").hidden = text && !now.turns.length;
	$("page").hidden = !text;
	$("send").textContent = text ? "Continue" : "Send";
	$("page").value = now.text;
	$("log").replaceChildren(...now.turns.length ? now.turns.map(turnNode) : [make("p", { className: "empty", textContent: "Say something." })]);
	$("log").scrollTop = 1e9;
	list();
}

function headers() {
	const key = sessionStorage.getItem("cupola.key");
	return { "content-type": "application/json", ...key && { authorization: "Bearer " + key } };
}
async function fail(response) {
	const text = (await response.json().catch(() => 0))?.error?.message;
	if (response.status === 401) { panel(true); $("key").focus(); }
	throw new Error(text || "The server answered " + response.status + ".");
}
// Calls back with each event.
async function stream(path, body, signal, each) {
	const response = await fetch(path, { method: "POST", headers: headers(), body: JSON.stringify(body), signal });
	if (!response.ok) await fail(response);
	const reader = response.body.getReader(), decoder = new TextDecoder();
	let held = "";
	for (;;) {
		const { value, done } = await reader.read();
		if (done) return;
		held += decoder.decode(value, { stream: true });
		const lines = held.split("\n");
		held = lines.pop();
		for (const line of lines) {
			if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
			const data = JSON.parse(line.slice(6));
			if (data.error) throw new Error(data.error.message);
			each(data);
		}
	}
}
function halt() {
	running = running?.abort();
}
const busy = on => { $("stop").hidden = !on; $("send").hidden = !!on; };
async function generate(path, body, each) {
	halt();
	const own = running = new AbortController();
	busy(true);
	say("");
	const began = performance.now();
	let first = 0, usage = null;
	try {
		await stream(path, { model: $("model").value, ...options(), ...body, stream: true, stream_options: { include_usage: true } }, own.signal, data => {
			if (own !== running) return;
			if (data.usage) usage = data.usage;
			if (data.choices[0]) { first ||= performance.now(); each(data.choices[0]); }
		});
		if (usage) {
			const seconds = (performance.now() - first) / 1000, { completion_tokens: n, prompt_tokens: p, prompt_tokens_details: d } = usage;
			say(`${n} tokens, ${(n / seconds).toFixed(0)} a second, first after ${((first - began) / 1000).toFixed(2)} s; ${d.cached_tokens} of ${p} prompt tokens known`);
		}
	} catch (error) {
		if (error.name !== "AbortError") say(error.message, true);
	}
	if (own === running) running = null;
	busy(running);
	save(); list();
}
const options = () => ({ ...Object.fromEntries(KNOBS.map(({ name }) => [name, settings[name]])), stop: settings.stopat || undefined });
function again(index) {
	halt();
	const { content } = now.turns[index];
	if (now.text.endsWith(content)) now.text = now.text.slice(0, now.text.length - content.length);
	now.turns.length = index;
	answer();
}
// The next turn; of a text, what it goes on with.
async function answer() {
	const chat = now, text = chat.kind === "text", probs = settings.probs, system = (settings.system || "").trim();
	const messages = [...system ? [{ role: "system", content: system }] : [], ...chat.turns.map(({ role, content }) => ({ role, content }))];
	const turn = { role: "assistant", content: "", tokens: [] };
	chat.turns.push(turn);
	draw();
	const node = $("log").lastElementChild.querySelector(".body");
	node.classList.add("busy");
	const [path, body] = text
		? ["v1/completions", { prompt: chat.text, max_tokens: settings.max_tokens || 256, ...probs && { logprobs: 5 } }]
		: ["v1/chat/completions", { messages, ...probs && { logprobs: true, top_logprobs: 5 } }];
	await generate(path, body, choice => {
		const more = choice.text || choice.delta?.content || "", scores = choice.logprobs || {};
		turn.content += more;
		for (const t of scores.content || []) {
			turn.tokens.push({ t: "", s: t.token, p: t.logprob, top: t.top_logprobs.map(x => [x.token, x.logprob]) });
		}
		(scores.tokens || []).forEach((s, i) => turn.tokens.push({ t: "", s, p: scores.token_logprobs[i], top: Object.entries(scores.top_logprobs[i]) }));
		if (turn.tokens.length) turn.tokens.at(-1).t += more;
		if (text) {
			chat.text += more;
			if (chat === now) { $("page").value = chat.text; $("page").scrollTop = 1e9; }
		}
		const low = $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight < 60;
		fill(node, turn);
		if (low) $("log").scrollTop = 1e9;
	});
	if (!turn.tokens.length) delete turn.tokens;
	if (!turn.content) chat.turns = chat.turns.filter(t => t !== turn);
	save();
	if (chat === now) draw();
}
function go() {
	if (now.kind === "text") {
		halt();
		now.text = $("page").value;
		now.turns = [];
		return answer();
	}
	const text = $("input").value;
	if (!text.trim()) return;
	halt();
	$("input").value = "";
	grow();
	now.turns.push({ role: "user", content: text });
	answer();
}
const grow = () => { $("input").style.height = "auto"; $("input").style.height = $("input").scrollHeight + 2 + "px"; };

$("form").onsubmit = e => { e.preventDefault(); go(); };
$("input").oninput = grow;
$("input").onkeydown = e => { if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); go(); } };
$("page").oninput = () => { now.text = $("page").value; save(); };
$("page").onkeydown = e => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) go(); };
$("stop").onclick = () => running?.abort();
document.onkeydown = e => { if (e.key === "Escape") running?.abort(); };
for (const [id, kind] of [["newchat", "chat"], ["newtext", "text"]]) {
	$(id).onclick = () => { halt(); now = start(kind); save(); draw(); $(kind === "text" ? "page" : "input").focus(); };
}
$("menu").onclick = () => { $("menu").ariaExpanded = String($("side").classList.toggle("open")); };
$("tune").onclick = () => panel($("panel").hidden);
const panel = open => { $("panel").hidden = !open; $("tune").ariaExpanded = String(open); };
function knobs() {
	for (const input of KNOBS) input.value = settings[input.name] ?? "";
	for (const input of TEXTS) input.value = settings[input.id] || "";
	$("probs").checked = !!settings.probs;
}
for (const input of TEXTS) input.onchange = () => { settings[input.id] = input.value; keep(); };
for (const input of KNOBS) input.onchange = () => {
	if (input.value && input.checkValidity()) settings[input.name] = +input.value; else { delete settings[input.name]; input.value = ""; }
	keep();
};
$("probs").onchange = () => { settings.probs = $("probs").checked; keep(); draw(); };
$("key").onchange = () => { sessionStorage.setItem("cupola.key", $("key").value.trim()); models(); };
$("reset").onclick = () => { settings = {}; keep(); knobs(); draw(); };
async function models() {
	try {
		const response = await fetch("v1/models", { headers: headers() });
		if (!response.ok) await fail(response);
		const all = (await response.json()).data;
		$("model").replaceChildren(...all.map(m => new Option(m.id)));
		say("");
	} catch (error) { say(error.message, true); }
}
knobs();
draw();
models();
