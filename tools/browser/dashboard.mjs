// Opens the dashboard in headless Chromium and fails on console errors, requests to other hosts, or a page that does not do its work.
import {spawn} from 'node:child_process';
import {appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {tmpdir} from 'node:os';
import {basename, join} from 'node:path';

const {chromium} = createRequire(process.cwd() + '/')('playwright-core');
const [program, shots] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'cupola-browser-'));
const problems = [];
const check = (what, holds) => {
  console.log(`${holds ? 'ok  ' : 'FAIL'} ${what}`);
  if (!holds) problems.push(what);
};

// --- runs with made-up numbers, the same each time ---
const noise = (seed) => () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
const around = (random) => random() + random() + random() - 1.5;
const layers = ['embed_tokens', ...Array.from({length: 8}, (_, i) => 'layers.' + i), 'norm', 'lm_head'];
const step = (s, random, lr, spike) => {
  const base = 1.15 + 7.1 * (s + 4) ** -0.36 * (1 + lr * 60);
  const loss = base + 0.12 * around(random) + (spike && s >= 1900 && s < 1925 ? 2.2 * Math.exp((1900 - s) / 8) : 0);
  const rate = lr * Math.min(1, s / 200) * (0.45 * (1 + Math.cos(Math.PI * Math.max(0, s - 200) / 3800)) + 0.1);
  return {
    kind: 'step', step: s, time: s * 0.055, tokens: s * 8192, loss, lr: rate, bits_per_byte: loss / 2.66 / Math.LN2,
    grad_norm: 0.6 + 3 / (1 + s / 40) + 0.16 * Math.abs(around(random)), tokens_per_s: 149000 * (0.95 + 0.05 * random()),
    memory_mb: 612 + 30 * Math.min(1, s / 30) + random(),
    ...(s % 25 ? {} : Object.fromEntries(['', ...layers.map((layer) => '/' + layer)].map((name, i) => ['update_ratio' + name, 1.2e-3 * (1 + 0.1 * i) * Math.exp(0.2 * around(random)) * rate / lr + 1e-5]))),
  };
};
const histogram = (s, name, what, width, random) => {
  const counts = Array(40).fill(0);
  for (let i = 0; i < 4000; i++) counts[Math.max(0, Math.min(39, Math.floor(20 + 9 * around(random))))]++;
  return {kind: 'histogram', step: s, name, what, edges: Array.from({length: 41}, (_, i) => width * (i - 20) / 20), counts};
};
const write = (id, {name, created, status, seed, lr, steps, spike}) => {
  const path = join(folder, id), random = noise(seed), lines = [{kind: 'header', schema: 1}];
  mkdirSync(path);
  writeFileSync(join(path, 'run.json'), JSON.stringify({
    schema: 1, name, created, status, seed, threads: 2, isa: 'avx2', dtype: 'f32',
    config: {train: {steps: 4000, batch: 32}, optimizer: {kind: 'adamw', lr, weight_decay: 0.1}},
    model: {preset: 'llama-nano', parameters: 3_400_000}, data: {hash: '91c2', tokens: 1_115_394, bytes: 2_100_000}, code: {version: '0.1.0'},
  }));
  for (let s = 1; s <= steps; s++) {
    const made = step(s, random, lr, spike);
    lines.push(made);
    const val = 1.2 + 7.1 * (s + 4) ** -0.36 * (1 + lr * 60);
    if (s % 200 === 0) lines.push({kind: 'eval', step: s, time: made.time, val_loss: val, val_bits_per_byte: val / 2.66 / Math.LN2});
    if (s % 1000 === 0) lines.push({kind: 'event', step: s, name: 'checkpoint', message: 'step-' + String(s).padStart(6, '0')});
    if (s === 1000 || s === 2000) lines.push({kind: 'sample', step: s, prompt: 'The furnace ', text: s > 1000 ? 'is lit before the first of the men had come to the yard and the smoke stood over the roofs.\n</script><script>window.broken = 1</script>' : 'wos the of men and tin the, and the yar'});
  }
  for (const tensor of layers) for (const [what, width] of [['weight', 0.2], ['gradient', 4e-3], ['update', 2e-4]]) lines.push(histogram(steps, tensor, what, width, random));
  writeFileSync(join(path, 'metrics.jsonl'), lines.map((line) => JSON.stringify(line)).join('\n') + '\n');
  return random;
};
const random = write('notes-2026-11-27', {name: 'notes', created: '2026-11-27T18:20:11Z', status: 'running', seed: 7, lr: 1e-3, steps: 2460, spike: true});
write('wider-2026-11-26', {name: 'notes, half the rate', created: '2026-11-26T09:02:40Z', status: 'finished', seed: 8, lr: 5e-4, steps: 4000});
write('hostile', {name: '<script>window.broken = 1</script><img src=x onerror="window.broken = 1">', created: '2026-11-20T00:00:00Z', status: 'interrupted', seed: 9, lr: 5e-4, steps: 300});
let grown = 2460;
const grow = (count) => {
  let text = '';
  for (let i = 0; i < count; i++) text += JSON.stringify(step(++grown, random, 1e-3, false)) + '\n';
  appendFileSync(join(folder, 'notes-2026-11-27', 'metrics.jsonl'), text);
};

// --- the program and the browser ---
const isCupola = basename(program).startsWith('cupola');
const server = spawn(program, isCupola ? ['dash', folder, '--port', '0'] : [folder, '127.0.0.1:0'], {stdio: ['ignore', 'pipe', 'inherit']});
const address = await new Promise((done, failed) => {
  let text = '';
  server.stdout.on('data', (data) => {
    text += data;
    const found = text.match(/http:\/\/[\d.]+:\d+/);
    if (found) done(found[0] + '/');
  });
  server.on('exit', () => failed(new Error('the program ended: ' + text)));
});
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const open = async (options, query = '') => {
  const page = await (await browser.newContext(options)).newPage();
  page.on('console', (message) => { if (message.type() === 'error' || message.type() === 'warning') problems.push('console: ' + message.text()); });
  page.on('pageerror', (error) => problems.push('error: ' + error.message));
  page.on('request', (request) => { if (!request.url().startsWith(address) && !request.url().startsWith('data:')) problems.push('request to ' + request.url()); });
  await page.goto(address + query);
  await page.waitForSelector('figure .box svg path.line');
  await page.waitForFunction(() => document.querySelector('#live').textContent === 'live');
  return page;
};
const shoot = async (page, name, options) => { if (shots) await page.screenshot({path: join(shots, name + '.png'), ...options}); };

try {
  const page = await open({viewport: {width: 1360, height: 900}});
  check('the newest run is open', (await page.textContent('h1')) === 'notes');
  check('the jump is noticed', (await page.textContent('#alerts')).includes('jumped'));
  const box = page.locator('figure').first().locator('.box'), read = page.locator('figure').first().locator('.read');
  check('the latest value is written', (await read.textContent()).startsWith('step 2,460'));
  await shoot(page, 'dashboard');
  const before = await page.locator('figure').first().locator('[data-key="0 0"] path.raw').getAttribute('d');
  grow(20);
  await page.waitForFunction(() => document.querySelector('figure .read').textContent.startsWith('step 2,480'));
  const after = await page.locator('figure').first().locator('[data-key="0 0"] path.raw').getAttribute('d');
  check('new steps are drawn as they come', after.length > before.length && after.startsWith(before));
  await page.waitForFunction(() => document.querySelector('#facts dd').textContent.startsWith('2,480'));
  grow(600);
  await page.waitForFunction(() => document.querySelector('figure .read').textContent.startsWith('step 3,080'));
  check('steps beyond the picture make a new one', true);

  const size = await box.boundingBox();
  await page.mouse.move(size.x + size.width / 2, size.y + 100);
  check('the mouse reads values', /^step 1,[456]\d\d · loss/.test(await read.textContent()));
  await page.mouse.down();
  await page.mouse.move(size.x + size.width * 0.8, size.y + 100, {steps: 4});
  await page.mouse.up();
  await page.waitForFunction(() => location.search.includes('from='));
  await page.waitForFunction(() => +document.querySelector('figure .box svg').dataset.x.split(' ')[1] > 1000);
  check('dragging zooms every chart, and the address keeps it', true);
  await page.click('#all');
  await page.waitForFunction(() => +document.querySelector('figure .box svg').dataset.x.split(' ')[1] < 2);
  await box.focus();
  await page.keyboard.press('Home');
  check('the keyboard reads the first step', (await read.textContent()).startsWith('step 1 '));
  await page.keyboard.press('ArrowRight');
  // The picture has fewer points than the run has steps.
  const next = Number((await read.textContent()).match(/^step (\d+) /)?.[1]);
  check('and the next', next > 1 && next < 50);
  await page.keyboard.press('+');
  await page.waitForFunction(() => location.search.includes('from='));
  await page.keyboard.press('0');
  await page.waitForFunction(() => !location.search.includes('from='));
  await page.locator('figure button').first().click();
  await page.waitForSelector('figure table tbody tr');
  check('a table has the values', (await page.locator('figure table tbody tr').count()) > 30);
  await page.locator('figure button').first().click();
  await page.selectOption('[name=x]', 'tokens');
  await page.check('[name=xscale]');
  await page.waitForFunction(() => document.querySelector('figure .box svg').dataset.x.startsWith('log'));
  check('axes change', true);
  await page.uncheck('[name=xscale]');
  await page.selectOption('[name=x]', 'step');
  const titled = (title) => page.locator('figure').filter({has: page.getByRole('heading', {name: title, exact: true})});
  await titled('Update to weight').scrollIntoViewIfNeeded();
  await page.waitForFunction(() => document.querySelectorAll('figure [data-name="layers.5"]').length === 1);
  check('each layer has its update-to-weight ratio', (await titled('Update to weight').locator('.keys span').allTextContents()).join() === 'update_ratio,embed_tokens,layers.0,layers.1,layers.2,layers.3,layers.4,layers.5');
  check('and those without room go on in another chart', (await titled('Update to weight (2)').count()) === 1);
  await page.selectOption('#rest select', 'lm_head');
  await page.waitForFunction(() => location.search.includes('tensor=lm_head'));
  check('histograms of weights, gradients and updates', (await page.locator('#rest .bars h2').allTextContents()).join() === 'weight,gradient,update');
  for (const [what, link] of [['a run', page.locator('#csv')], ['a chart', page.locator('figure .tools a').first()], ['a histogram', page.locator('#rest .bars a').first()]]) {
    const wait = page.waitForEvent('download');
    await link.click();
    check(`${what} can be kept: ${(await wait).suggestedFilename()}`, /^notes-2026-11-27[\w-]*\.(csv|svg)$/.test((await wait).suggestedFilename()));
  }

  await page.locator('#runs input').nth(1).check();
  await page.waitForFunction(() => document.querySelectorAll('figure')[0].querySelectorAll('[data-key]').length === 4);
  await page.waitForSelector('#rest table');
  check('two runs are compared', (await page.textContent('#rest table')).includes('optimizer.lr'));
  await page.evaluate(() => scrollTo(0, 0));
  await page.waitForTimeout(1200);
  await shoot(page, 'dashboard-compare');
  await page.locator('#runs input').nth(2).check();
  await page.waitForFunction(() => document.querySelectorAll('figure')[0].querySelectorAll('[data-key]').length === 6);
  check('text from runs never becomes a page', await page.evaluate(() => window.broken === undefined && !document.querySelector('main img, nav img')));
  const answer = await page.request.get(address);
  check('the policy forbids what the page does not bring', (answer.headers()['content-security-policy'] || '').startsWith("default-src 'self'"));

  const small = await open({viewport: {width: 360, height: 780}, colorScheme: 'dark', hasTouch: true, isMobile: true, deviceScaleFactor: 2});
  check('at 360 pixels nothing is wider than the page', await small.evaluate(() => document.documentElement.scrollWidth <= 360));
  await shoot(small, 'dashboard-phone');
  const dark = await open({viewport: {width: 1360, height: 900}, colorScheme: 'dark'});
  await shoot(dark, 'dashboard-dark');
  await dark.evaluate(() => document.querySelector('#rest').scrollIntoView());
  await dark.waitForTimeout(300);
  await shoot(dark, 'dashboard-below');
} catch (error) {
  problems.push(error.message);
} finally {
  await browser.close();
  server.kill();
  rmSync(folder, {recursive: true});
}
for (const problem of problems) console.log('PROBLEM ' + problem);
process.exit(problems.length ? 1 : 0);
