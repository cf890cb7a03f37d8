// What happens to somebody who watches: the camera is pulled out, the server starts anew, a microphone is refused, many streams are on one
// page, the screen is shared: node page-life.mjs URL. Lines `DO what` ask page.py to do it; it answers with a line.
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const [base] = process.argv.slice(2);
const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--autoplay-policy=no-user-gesture-required', '--disable-features=WebRtcHideLocalIpsWithMdns'];
const media = ['--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream', '--auto-accept-this-tab-capture'];
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const ask = async (what) => { console.log(`DO ${what}`); await lines.next(); };
const step = (text) => console.log(`  ${text}`);
const errors = [];
const open = async (context, path) => {
  const page = await context.newPage();
  page.on('pageerror', (error) => errors.push(`${path}: ${error}`));
  await page.goto(base + path);
  return page;
};
const plays = (page, mode) => page.waitForFunction((wanted) => {
  const player = document.querySelector('patchbay-player');
  return player?.state === 'playing' && !player.guard?.away && (!wanted || player.modeName === wanted);
}, mode, { timeout: 60000 });
const grows = async (page) => {
  const count = () => document.querySelector('patchbay-player').video.getVideoPlaybackQuality().totalVideoFrames;
  const before = await page.evaluate(count);
  await page.waitForFunction((frames) => { const now = document.querySelector('patchbay-player').video.getVideoPlaybackQuality().totalVideoFrames; return now > frames + 5 || now < frames; }, before, { timeout: 60000 });
};
const seconds = (since) => `${((Date.now() - since) / 1000).toFixed(1)} s`;

const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: [...args, ...media] });
try {
  const context = await browser.newContext({ viewport: { width: 1000, height: 700 }, permissions: ['camera', 'microphone'] });
  const ways = ['webrtc', 'mse'];
  const pages = await Promise.all(ways.map((mode) => open(context, `stream.html?src=door&mode=${mode}&background`)));
  await Promise.all(pages.map((page, at) => plays(page, ways[at])));

  // The camera: the last picture stays, with the reason.
  await ask('pull the camera out');
  let since = Date.now();
  const why = await Promise.all(pages.map(async (page, at) => {
    await page.waitForFunction(() => /refused|closed|ended|lost|answer/i.test(document.querySelector('patchbay-player').status.textContent), null, { timeout: 60000 });
    const shown = await page.evaluate(() => {
      const player = document.querySelector('patchbay-player');
      const picture = player.poster.hidden ? player.video : player.poster;
      return { text: player.status.textContent, width: picture.videoWidth || picture.naturalWidth, seen: !player.message.hidden };
    });
    assert.ok(shown.seen && shown.width > 0, `${ways[at]}: ${JSON.stringify(shown)}`);
    return `${ways[at]} says after ${seconds(since)}: ${shown.text}`;
  }));
  step(`the camera is pulled out: ${why.join('; ')}`);
  await ask('plug the camera in');
  since = Date.now();
  const back = await Promise.all(pages.map(async (page, at) => { await plays(page); await grows(page); return `${ways[at]} plays after ${seconds(since)}`; }));
  for (const page of pages) assert.equal(await page.evaluate(() => document.querySelector('patchbay-player').status.textContent), '');
  step(`and in again: ${back.join('; ')}`);

  // The server.
  const list = await open(context, 'index.html');
  await list.waitForSelector('.grid li');
  await ask('stop the server');
  since = Date.now();
  await list.waitForSelector('.banner:not([hidden])', { timeout: 60000 });
  await Promise.all(pages.map((page) => page.waitForFunction(() => /No connection to the server/.test(document.querySelector('patchbay-player').status.textContent), null, { timeout: 60000 })));
  step(`the server stops: the pages say so after ${seconds(since)}`);
  await ask('start the server');
  since = Date.now();
  const again = await Promise.all(pages.map(async (page, at) => { await plays(page); await grows(page); return `${ways[at]} plays after ${seconds(since)}`; }));
  await list.waitForSelector('.banner[hidden]', { state: 'attached', timeout: 60000 });
  step(`it starts: ${again.join('; ')}`);
  for (const page of [...pages, list]) await page.close();

  // Sound as it was chosen, over a reload.
  const heard = await open(context, 'watch.html?src=door');
  await plays(heard);
  await heard.hover('patchbay-player');
  const volume = heard.locator('patchbay-player >> input[type=range]');
  await volume.fill('0.4');
  await heard.reload();
  await plays(heard);
  assert.deepEqual(await heard.evaluate(() => { const { video, muted } = document.querySelector('patchbay-player'); return [video.volume, video.muted, muted]; }), [0.4, false, false]);
  // Every control can be reached and seen with the keyboard.
  const names = [];
  await heard.locator('a[aria-label="All streams"]').focus();
  for (let turn = 0; turn < 12; turn += 1) {
    await heard.keyboard.press('Tab');
    const name = await heard.evaluate(() => {
      const player = document.querySelector('patchbay-player');
      const focused = player.shadowRoot.activeElement;
      return focused && Number(getComputedStyle(player.bar).opacity) > 0 ? focused.getAttribute('aria-label') : null;
    });
    if (name) names.push(name);
    else if (names.length) break;
    else await heard.waitForTimeout(200);
  }
  assert.ok(['Volume', 'Save a picture', 'Full screen'].every((name) => names.includes(name)), names.join());
  step(`sound and volume are as before after a reload; keys reach ${names.join(', ')}`);
  await heard.goto(`${base}watch.html?src=nothing-of-this-name`);
  await heard.waitForSelector('h2:has-text("There is no such stream")');
  await heard.goto(`${base}stream.html?src=studio`);
  await heard.waitForFunction(() => document.querySelector('patchbay-player').status.textContent === 'Nobody publishes it yet', null, { timeout: 20000 });
  await heard.goto(`${base}watch.html?src=studio`);
  await heard.click('a:has-text("Change or rename")');
  await heard.waitForFunction(() => { const area = document.querySelector('textarea'); return area.value.slice(area.selectionStart, area.selectionEnd).startsWith('studio:'); }, null, { timeout: 20000 });
  step('a stream that is not there, and one that nobody publishes, say so; a stream is found in the configuration');
  await heard.close();

  // Six connections are all that a browser opens: cameras that do not answer may not hold up the others.
  const names16 = [...Array(8).keys()].flatMap((at) => [`silent${at}`, `demo${at}`]);
  const wall = await open(context, `stream.html?${names16.map((name) => `src=${name}`).join('&')}&mode=mse`);
  since = Date.now();
  await wall.waitForFunction(() => [...document.querySelectorAll('patchbay-player')].filter((one) => one.src.startsWith('demo')).every((one) => one.state === 'playing'), null, { timeout: 180000 });
  step(`16 streams on a page, 8 of them silent: the others play after ${seconds(since)}`);
  await wall.goto(`${base}index.html`);
  since = Date.now();
  await wall.waitForFunction(() => [...document.querySelectorAll('.grid li')].filter((one) => one.dataset.name.startsWith('demo')).every((one) => {
    one.scrollIntoView();
    return one.querySelector('img').naturalWidth > 0;
  }), null, { timeout: 180000, polling: 500 });
  step(`their pictures are there after ${seconds(since)}`);
  await wall.close();

  // The screen.
  const screen = await open(context, 'webrtc.html?dst=studio');
  await screen.check('input[value=display]');
  await screen.click('button:has-text("Start")');
  await screen.waitForFunction(() => document.querySelector('main').dataset.state === 'live', null, { timeout: 30000 });
  const sends = await screen.waitForFunction(() => /\d+ × \d+.*bit\/s/.exec(document.querySelector('.send').textContent)?.[0], null, { timeout: 30000 });
  step(`the screen is shared: ${await sends.jsonValue()}`);
  const viewer = await open(context, 'stream.html?src=studio');
  await plays(viewer);
  await viewer.close();
  await screen.bringToFront();
  await screen.click('button:has-text("Stop")');
  await screen.waitForSelector('button:has-text("Start")');
  await screen.close();
  await context.close();
} finally {
  await browser.close();
}

// A browser that gives no microphone.
const strict = await chromium.launch({ executablePath: '/usr/bin/chromium', args });
try {
  const page = await open(await strict.newContext({ viewport: { width: 1000, height: 700 } }), 'watch.html?src=porch');
  await plays(page);
  await page.hover('patchbay-player');
  await page.locator('patchbay-player >> button[aria-label=Talk]').click();
  const text = await page.waitForFunction(() => /microphone/.exec(document.querySelector('patchbay-player').status.textContent)?.input, null, { timeout: 20000 });
  step(`no microphone: ${await text.jsonValue()}`);
  await plays(page);
  await page.goto(`${base}webrtc.html?dst=studio`);
  await page.click('button:has-text("Start")');
  const fault = page.locator('.send .fault:not(:empty)');
  step(`no camera: ${await fault.textContent({ timeout: 20000 })}`);
} finally {
  await strict.close();
}
process.stdin.destroy();
assert.deepEqual(errors, []);
