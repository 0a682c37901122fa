'use strict';
// Asks for charts and texts made elsewhere, and goes on drawing what comes live.
const $ = (what, where = document) => where.querySelector(what);
const $$ = (what, where = document) => [...where.querySelectorAll(what)];
const parsed = (text, kind) => new DOMParser().parseFromString(text, kind);
const shape = (name, attributes) => {
	const made = document.createElementNS('http://www.w3.org/2000/svg', name);
	for (const key in attributes) made.setAttribute(key, attributes[key]);
	return made;
};
let locked;
const ask = async (path) => {
	const answer = await fetch(path), text = await answer.text(), was = locked;
	locked = answer.status === 401;
	if (locked && !was) unlock(sessionStorage['cupola.key']);
	if (!answer.ok) throw new Error(locked ? 'a key is needed' : text);
	return text;
};
// The key, which the chat page may have asked for already, is exchanged for a cookie, which files and live messages take along.
const unlock = async (key) => {
	$('#key').hidden = false;
	if (!key || !(await fetch('key', {method: 'POST', headers: {authorization: 'Bearer ' + key}})).ok) return;
	sessionStorage['cupola.key'] = key;
	$('#key').hidden = true;
	open();
};
const state = (textContent, className) => Object.assign($('#live'), {textContent, className});
const show = (value) => {
	const size = Math.abs(value);
	return size && (size < 1e-3 || size >= 1e9) ? value.toExponential(2).replace('e+', 'e') : value.toLocaleString('en', {maximumSignificantDigits: Math.max(4, Math.ceil(Math.log10(size + 1)))});
};

// What is shown stands in the address.
let view = new URLSearchParams(location.search), figures = [], source, age = 0;
const runs = () => view.getAll('run');
const set = (changes) => {
	for (const key in changes) changes[key] == null || changes[key] === '' ? view.delete(key) : view.set(key, changes[key]);
	history.replaceState(null, '', '?' + view);
	$('#all').hidden = !view.has('from');
};
const zoom = (from, to) => {
	set({from: from?.toPrecision(8), to: to?.toPrecision(8)});
	redraw();
};
const redraw = () => figures.forEach((figure) => figure.draw());

class Figure {
	constructor(node) {
		Object.assign(this, {node, lines: [], stale: true, drawn: 0, names: JSON.parse(node.dataset.names)});
		this.box = $('.box', node);
		this.read = $('.read', node);
		this.table = $('.wide', node);
		const on = (name, does) => this.box.addEventListener(name, (event) => this.svg && does(event));
		on('pointermove', (event) => this.point(this.inside(event)));
		on('pointerleave', () => this.leave());
		on('dblclick', () => zoom());
		on('keydown', (event) => this.key(event));
		on('pointerdown', (event) => {
			if (event.pointerType === 'touch' || event.button) return;
			this.from = this.inside(event);
			this.box.setPointerCapture(event.pointerId);
		});
		on('pointerup', (event) => {
			const [a, b] = [this.from, this.inside(event)].sort((p, q) => p - q);
			if (this.from != null && b - a > 6) zoom(this.x.value(a), this.x.value(b));
			this.from = null;
		});
		$('button', node).onclick = ({target}) => {
			this.table.hidden = !this.table.hidden;
			target.setAttribute('aria-expanded', !this.table.hidden);
			this.fill();
		};
		seen.observe(node);
	}

	query(more) {
		const query = new URLSearchParams(view);
		for (const name of this.names) query.append('name', name);
		for (const key in more) query.set(key, more[key]);
		return query;
	}

	async draw() {
		this.stale = true;
		if (!this.visible || this.busy || document.hidden) return;
		this.busy = true;
		const now = age;
		try {
			while (this.stale && now === age) {
				const left = this.live ? this.drawn + 1500 - performance.now() : 0;
				if (left > 0) await new Promise((done) => setTimeout(done, left));
				this.stale = this.live = false;
				const width = Math.max(240, Math.min(2000, Math.round(this.box.clientWidth)));
				const text = await ask('api/chart.svg?' + this.query({width, height: 220}));
				if (now === age) this.take(parsed(text, 'image/svg+xml').documentElement);
				this.drawn = performance.now();
			}
		} catch (error) {
			this.read.textContent = error.message;
		}
		this.busy = false;
		if (this.stale) this.draw();
	}

	take(svg) {
		const {area, x, y} = svg.dataset;
		const [left, , width, height] = area.split(' ').map(Number);
		const axis = (text, size) => {
			const [scale, low, high] = text.split(' '), log = scale === 'log';
			return {
				place: (value) => ((log ? Math.log10(value) : value) - low) / (high - low) * size,
				value: (place) => { const at = +low + place / size * (high - low); return log ? 10 ** at : at; },
			};
		};
		Object.assign(this, {svg, left, width, height, x: axis(x, width), y: axis(y, height)});
		const list = (text) => text ? text.split(' ').map(Number) : [];
		this.lines = $$('[data-key]', svg).reverse().map((group) => {
			const {key, name, xs, ys, smooth} = group.dataset, [span, last] = list(smooth);
			return {group, key, name, xs: list(xs), ys: list(ys), span, last};
		});
		$('.keys', this.node).replaceChildren(...this.lines.map(({group, name}) => {
			const item = document.createElement('span'), key = shape('svg', {class: 'plot'}), colour = shape('g', {class: group.getAttribute('class')});
			colour.append(shape('path', {class: $('.dashed', group) ? 'line dashed' : 'line', d: 'M0 5h16'}));
			key.append(colour);
			item.append(key, name);
			return item;
		}));
		this.cross = shape('g');
		$('.area', svg).append(this.cross);
		$('a', this.node).href = 'api/chart.svg?' + this.query({form: 'file', width: 960, height: 420});
		this.box.replaceChildren(svg);
		this.write(Infinity);
		this.fill();
	}

	// Draws live rows into the picture; when they do not fit, asks for a new one.
	add(run, rows) {
		if (!this.svg || view.has('to')) return;
		const again = () => { this.live = true; this.draw(); };
		for (const row of rows) for (const [name, value] of row.values) {
			const index = this.names.indexOf(name), at = row[view.get('x') || 'step'];
			if (index < 0 || value == null) continue;
			const line = this.lines.find((one) => one.key === run + ' ' + index);
			if (!line) return again();
			if (at <= line.xs.at(-1)) continue;
			const x = this.x.place(at), y = this.height - this.y.place(value);
			if (!(x <= this.width && y >= 0 && y <= this.height) || line.xs.length > 3000) return again();
			line.xs.push(at);
			line.ys.push(value);
			const extend = (what, to) => {
				const path = $(what, line.group);
				path?.setAttribute('d', `${path.getAttribute('d')}L${x.toFixed(1)} ${to.toFixed(1)}`);
			};
			if (line.span) {
				line.last += (value - line.last) * (1 - Math.exp(((line.step || row.step - 1) - row.step) / line.span));
				extend('.smooth', this.height - this.y.place(line.last));
			}
			line.step = row.step;
			extend('.line:not(.smooth)', y);
		}
		if (this.at == null) this.write(Infinity);
	}

	write(x) {
		const found = this.lines.filter((line) => line.xs.length).map((line) => {
			let low = 0, high = line.xs.length - 1;
			while (high - low > 1) {
				const middle = (low + high) >> 1;
				if (line.xs[middle] <= x) low = middle; else high = middle;
			}
			const i = x - line.xs[low] <= line.xs[high] - x ? low : high;
			return {line, x: line.xs[i], y: line.ys[i]};
		});
		if (!found.length) return found;
		const over = view.get('x') || 'step', values = found.map(({line, y}) => (found.length > 1 ? line.name + ' ' : '') + show(y));
		this.read.textContent = [over === 'time' ? show(found[0].x) + ' s' : over + ' ' + show(found[0].x), ...values].join(' \u00b7 ');
		return found;
	}

	point(px) {
		const found = this.write(this.x.value(px));
		if (!found.length) return;
		this.at = found[0].x;
		this.cross.replaceChildren(shape('path', {class: 'cross', d: `M${this.x.place(this.at)} 0v${this.height}`}));
		for (const {line, x, y} of found) {
			const group = shape('g', {class: line.group.getAttribute('class')}), cx = this.x.place(x), cy = this.height - this.y.place(y);
			if (Number.isFinite(cx + cy)) group.append(shape('circle', {class: 'dot', cx, cy, r: 4}));
			this.cross.append(group);
		}
		if (this.from != null) this.cross.append(shape('rect', {class: 'span', x: Math.min(this.from, px), width: Math.abs(this.from - px), height: this.height}));
	}

	inside(event) {
		const box = this.svg.getBoundingClientRect();
		return Math.max(0, Math.min(this.width, (event.clientX - box.left) * this.svg.viewBox.baseVal.width / box.width - this.left));
	}

	leave() {
		if (this.from != null) return;
		this.at = null;
		this.cross.replaceChildren();
		this.write(Infinity);
	}

	key(event) {
		const xs = this.lines[0]?.xs || [], last = xs.length - 1, far = event.shiftKey ? 10 : 1;
		const i = this.at == null ? last : xs.indexOf(this.at);
		const to = {ArrowLeft: i - far, ArrowRight: i + far, Home: 0, End: last}[event.key];
		if (event.key === '0' || event.key === 'Escape') return zoom();
		if (event.key === '+' || event.key === '-') {
			const centre = this.at == null ? this.width / 2 : this.x.place(this.at), half = this.width / (event.key === '+' ? 4 : 1);
			return zoom(...[-half, half].map((side) => Math.max(0, this.x.value(centre + side))));
		}
		if (to == null || last < 0) return;
		event.preventDefault();
		this.read.setAttribute('role', 'status');
		this.point(this.x.place(xs[Math.max(0, Math.min(last, to))]));
	}

	async fill() {
		if (!this.table.hidden) put(this.table, await ask('api/table.html?' + this.query()));
	}
}

const seen = new IntersectionObserver((entries) => {
	for (const {target, isIntersecting} of entries) {
		target.figure.visible = isIntersecting;
		if (isIntersecting && target.figure.stale) target.figure.draw();
	}
}, {rootMargin: '300px'});

// Puts a text of the server, in which what came from runs is escaped, into a place.
const put = (place, text) => {
	if (place.text === text) return;
	const focused = place.contains(document.activeElement) && document.activeElement;
	place.replaceChildren(...parsed(text, 'text/html').body.childNodes);
	place.text = text;
	if (focused) $$(focused.tagName, place).find((one) => one.value === focused.value)?.focus();
};

let due;
const load = async () => {
	due = null;
	const now = age;
	try {
		const parts = parsed(await ask('api/view.html?' + view), 'text/html');
		if (now !== age) return;
		for (const place of ['links', 'runs', 'top', 'rest']) put($('#' + place), $('#' + place, parts).innerHTML);
		document.title = $('h1').textContent + ' \u00b7 Cupola';
		if (!runs().length && $('#runs input:checked')) {
			view.set('run', $('#runs input:checked').value);
			return open();
		}
		const charts = $('#charts', parts).innerHTML;
		if ($('#charts').text !== charts) {
			seen.disconnect();
			put($('#charts'), charts);
			figures = $$('figure', $('#charts')).map((node) => (node.figure = new Figure(node)));
		}
		$('#csv').href = 'api/metrics.csv?run=' + encodeURIComponent(runs()[0] || '');
		if (!source) state('waiting for a run', 'on');
	} catch (error) {
		state(error.message, 'off');
	}
};
const soon = () => (due ||= setTimeout(load, 900));

const open = () => {
	age++;
	set({});
	source?.close();
	source = null;
	if (runs().length) {
		source = new EventSource('api/live?' + view);
		source.addEventListener('hello', () => state('live', 'on'));
		source.addEventListener('reset', () => { soon(); redraw(); });
		source.addEventListener('run', ({data}) => {
			const {run, rows, reset} = JSON.parse(data);
			soon();
			if (reset) redraw();
			figures.forEach((figure) => figure.add(runs().indexOf(run), rows));
		});
		source.onerror = () => state('waiting for the server', 'off');
	}
	load();
	redraw();
};

const controls = $('#controls');
for (const box of ['xscale', 'yscale']) controls[box].checked = view.has(box);
controls.x.value = view.get('x') || 'step';
if (!view.has('smooth')) view.set('smooth', controls.smooth.value);
controls.smooth.value = view.get('smooth');
controls.oninput = ({target}) => {
	if (target.name.startsWith('x')) set({from: null, to: null});
	set({[target.name]: target.type === 'checkbox' ? target.checked && 'log' || null : target.value});
	redraw();
};
controls.onsubmit = () => false;
$('#key').onsubmit = () => { unlock($('#key input').value); return false; };
$('#all').onclick = () => zoom();
$('#runs').onchange = () => {
	const ticked = $$('#runs input:checked').map((box) => box.value);
	// The order of ticking is the order of colours.
	const order = runs().filter((run) => ticked.includes(run)).concat(ticked.filter((run) => !runs().includes(run)));
	view.delete('run');
	for (const run of order.slice(0, 8)) view.append('run', run);
	set({from: null, to: null, tensor: null});
	open();
};
$('#rest').onchange = ({target}) => {
	set({tensor: target.value});
	load();
};
let width = innerWidth;
addEventListener('resize', () => {
	if (innerWidth !== width) redraw();
	width = innerWidth;
});
document.onvisibilitychange = () => {
	if (!document.hidden) { soon(); redraw(); }
};
setInterval(() => document.hidden || soon(), 5000);
open();
