// A newcomer's path over the page in Chromium, then every page in both colours and two widths with axe-core:
// node page-newcomer.mjs URL CAMERA CLOSED_CAMERA [FOLDER_FOR_SCREENSHOTS]
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { launch } from './chromium.mjs';

const [base, camera, closed, folder] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const browser = await launch();
const errors = [];
async function open(context) {
  const page = await context.newPage();
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => { if (/Content Security Policy|TrustedHTML/.test(message.text())) errors.push(message.text()); });
  return page;
}

async function plays(page) {
  const began = Date.now();
  await page.waitForFunction(() => document.querySelector('patchbay-player')?.state === 'playing', null, { timeout: 30000 });
  const first = Date.now() - began;
  const time = await page.evaluate(() => document.querySelector('video').currentTime);
  await page.waitForFunction((before) => document.querySelector('video').currentTime > before + 2, time, { timeout: 20000 });
  return first;
}

try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 850 }, acceptDownloads: true });
  const page = await open(context);
  const step = (text) => console.log(`  ${text}`);

  await page.goto(base);
  await page.click('a:has-text("Add a stream")');
  await page.fill('#name', '<b>door</b>');
  await page.fill('#field-address', `rtsp://admin:wrong@${camera}`);
  assert.equal(await page.inputValue('#field-username'), 'admin', 'a pasted address tells its login');
  assert.equal(await page.locator('code.source').textContent(), `rtsp://admin:***@${camera}`);
  await page.click('button[type=submit]');
  const refusal = await page.locator('#field-password-fault:not(:empty)').textContent({ timeout: 30000 });
  assert.ok(!(await (await page.request.get(`${base}api/config`)).text()).includes('door'), 'nothing is written before it plays');
  step(`a wrong password: ${refusal}`);
  await page.fill('#field-password', '12345');
  await page.click('button[type=submit]');
  await page.waitForURL(/watch\.html/, { timeout: 30000 });
  step(`a camera is added by the form; first picture ${await plays(page)} ms after its page`);
  assert.equal(await page.locator('h1').textContent(), '<b>door</b>');
  assert.equal(await page.locator('h1 b').count(), 0, 'a name is not HTML');

  await page.waitForFunction(() => /fps/.test(document.querySelector('.facts').textContent), null, { timeout: 10000 });
  step(`details: ${(await page.locator('.facts dd').allTextContents()).join(' | ')}`);
  await page.click('patchbay-player >> button[title="Sound on"]');
  await page.waitForFunction(async () => {
    const { video, playing } = document.querySelector('patchbay-player');
    let energy = 0;
    for (const report of (await playing.peer?.getStats())?.values() ?? []) if (report.type === 'inbound-rtp' && report.kind === 'audio') energy += report.totalAudioEnergy;
    return !video.muted && (energy > 0 || video.webkitAudioDecodedByteCount > 0);
  }, null, { timeout: 10000 });
  step('its sound is on, and not silence');
  const saved = page.waitForEvent('download');
  await page.click('patchbay-player >> button[title="Save a picture"]');
  const picture = readFileSync(await (await saved).path());
  assert.ok(picture.length > 2000 && picture[0] === 0xff && picture[1] === 0xd8, 'a JPEG picture');
  step(`a picture of ${picture.length} bytes is saved`);

  for (const mode of ['webrtc', 'mse', 'jpeg']) {
    await page.selectOption('#mode', mode);
    await page.waitForFunction((wanted) => document.querySelector('patchbay-player').modeName === wanted, mode, { timeout: 30000 });
    step(`shown by ${mode}`);
  }

  await page.goto(`${base}plugins.html`);
  const plugin = page.locator('li[data-name=mjpeg]');
  const is = (state) => page.waitForFunction((wanted) => document.querySelector('li[data-name=mjpeg]')?.dataset.state === wanted, state, { timeout: 15000 });
  await plugin.locator('input[role=switch]').uncheck();
  await is('off');
  await plugin.locator('input[role=switch]').check();
  await page.waitForFunction(() => ['ready', 'running'].includes(document.querySelector('li[data-name=mjpeg]')?.dataset.state), null, { timeout: 15000 });
  step('a plugin is off, and on again');

  await page.goto(`${base}config.html`);
  const area = page.locator('textarea');
  await page.waitForFunction(() => document.querySelector('textarea').value.includes('streams:'));
  const good = await area.inputValue();
  await area.fill(`${good}\nrtsp: [\n`);
  await page.click('button:has-text("Save")');
  const fault = await page.locator('.faults button').first().textContent({ timeout: 10000 });
  assert.match(fault, /^Line \d+: /);
  assert.equal(await page.locator('.editor pre b').count() > 0, true, 'the line is marked');
  await area.fill(`${good}rtmp:\n  lisen: ':1935'\n`);
  await page.click('button:has-text("Save")');
  const doubt = await page.locator('.faults [data-severity=warning] button').first().textContent({ timeout: 10000 });
  assert.match(doubt, /^Line \d+: .*lisen.*did you mean "listen"/);
  await page.locator('button:has-text("Save all the same")').waitFor();
  await page.evaluate(axe);
  const told = (await page.evaluate(() => globalThis.axe.run(document))).violations.filter((one) => ['serious', 'critical'].includes(one.impact));
  assert.deepEqual(told.map(({ id }) => id), []);
  step(`a misspelt setting is doubted before it is saved: ${doubt}`);
  await area.fill(`${good}# mended by hand\n`);
  await page.click('button:has-text("Save")');
  await page.waitForFunction(() => !document.querySelector('.faults').childElementCount && document.querySelector('button:not(.quiet)[disabled]'), null, { timeout: 10000 });
  await page.reload();
  await page.waitForFunction(() => document.querySelector('textarea').value.includes('# mended by hand'));
  step(`the configuration is broken (${fault}) and mended; its comment is kept`);

  await page.goto(`${base}add.html`);
  await page.fill('#name', 'shed');
  await page.click('button[type=submit]');
  assert.match(await page.locator('#field-address-fault').textContent(), /missing/);
  await page.fill('#field-address', closed);
  await page.click('summary');
  await page.fill('#field-timeout', '0');
  await page.click('button[type=submit]');
  assert.match(await page.locator('#field-timeout-fault').textContent(), /At least 1/);
  await page.fill('#field-timeout', '3');
  await page.click('button[type=submit]');
  const reason = await page.locator('#field-address-fault:not(:empty)').textContent({ timeout: 30000 });
  assert.ok(!Object.keys(await (await page.request.get(`${base}api/streams`)).json()).some((name) => /^try-|^shed/.test(name)), 'what was tried is gone');
  await page.click('button:has-text("Add it all the same")');
  await page.waitForURL(/watch\.html/);
  assert.match(await (await page.request.get(`${base}api/config`)).text(), /#timeout=3/);
  await page.goto(base);
  const why = page.locator('li[data-name=shed][data-state=offline] .why');
  step(`a camera that is not there: ${reason}; its card: ${await why.textContent({ timeout: 30000 })}`);
  await page.goto(`${base}watch.html?src=shed`);
  page.on('dialog', (dialog) => dialog.accept());
  await page.click('button:has-text("Delete the stream")');
  await page.waitForURL(/index\.html/);
  await page.waitForFunction(() => document.querySelectorAll('.grid li').length > 0 && !document.querySelector('li[data-name=shed]'));
  step('it is deleted');
  await context.close();

  let serious = 0;
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [390, 1280]) {
      const look = await browser.newContext({ viewport: { width, height: 850 }, colorScheme });
      for (const name of ['index.html', 'watch.html?src=demo', 'plugins.html', 'log.html', 'config.html', 'add.html', 'stream.html?src=demo']) {
        const shown = await open(look);
        await shown.goto(base + name);
        if (/src=/.test(name)) await plays(shown);
        else await shown.waitForFunction(() => document.querySelector('.grid li, .rows li, .lines li, textarea:enabled, #scheme option'));
        const wide = await shown.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(wide <= 0, `${name} is ${wide} px wider than a screen of ${width} px`);
        await shown.evaluate(axe);
        const { violations } = await shown.evaluate(() => globalThis.axe.run(document));
        for (const { id, impact, nodes } of violations.filter((one) => ['serious', 'critical'].includes(one.impact))) {
          serious += 1;
          console.log(`  ${name} ${colorScheme} ${width}: ${impact} ${id}: ${nodes.map((node) => node.target.join(' ')).join(', ')}`);
        }
        if (folder) await shown.screenshot({ path: `${folder}/${name.replace(/\W+/g, '-')}-${colorScheme}-${width}.png` });
        await shown.close();
      }
      await look.close();
    }
  }
  console.log(`  28 looks at 7 pages: ${serious} serious findings of axe-core`);
  assert.equal(serious, 0);
  assert.deepEqual(errors, []);
} finally {
  await browser.close();
}
