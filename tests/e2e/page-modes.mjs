// Every way of the player in Chromium, chosen by hand and fallen back to; talking; publishing: node page-modes.mjs URL
import assert from 'node:assert/strict';
import { FAKE_DEVICES, SHOWN_ADDRESSES, launch } from './chromium.mjs';

const [base] = process.argv.slice(2);
const browser = await launch(...FAKE_DEVICES, SHOWN_ADDRESSES);
const errors = [];
async function open(path, block, more) {
  const context = await browser.newContext({ viewport: { width: 640, height: 360 }, permissions: ['camera', 'microphone'] });
  const page = await context.newPage();
  page.on('pageerror', (error) => errors.push(`${path}: ${error}`));
  if (block) await page.addInitScript(block);
  await more?.(page);
  await page.goto(base + path);
  return page;
}
const plays = (page, mode, limit = 60000) => page.waitForFunction((wanted) => {
  const player = document.querySelector('patchbay-player, video-stream, video-rtc');
  return player?.state === 'playing' && (!wanted || player.modeName === wanted) ? player.modeName : false;
}, mode, { timeout: limit }).then((handle) => handle.jsonValue());

/** Waits for so many new pictures of whatever is shown. */
async function pictures(page, count) {
  return page.evaluate(async (wanted) => {
    const player = document.querySelector('patchbay-player, video-stream, video-rtc');
    const image = [...player.querySelectorAll(':scope > img')].find((one) => !one.hidden);
    const canvas = document.createElement('canvas');
    canvas.width = 64; canvas.height = 36;
    const context = canvas.getContext('2d', { willReadFrequently: true });
    let seen = 0, before = '';
    for (let turn = 0; turn < 2000 && seen < wanted; turn += 1) {
      if (image) {
        context.drawImage(image, 0, 0, 64, 36);
        const now = context.getImageData(0, 0, 64, 36).data.join();
        if (now !== before) { seen += 1; before = now; }
      } else seen = player.video.getVideoPlaybackQuality().totalVideoFrames;
      await new Promise((done) => setTimeout(done, 20));
    }
    return seen;
  }, count);
}

/** How bright what is seen is on average, 0 to 255. */
async function brightness(page, meter) {
  const png = await page.screenshot();
  return meter.evaluate(async (data) => {
    const image = new Image();
    image.src = `data:image/png;base64,${data}`;
    await image.decode();
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [64, 36];
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0, 64, 36);
    const { data: pixels } = context.getImageData(0, 0, 64, 36);
    let sum = 0;
    for (let at = 0; at < pixels.length; at += 4) sum += (pixels[at] + pixels[at + 1] + pixels[at + 2]) / 3;
    return sum / (pixels.length / 4);
  }, png.toString('base64'));
}

const NO_WAY = () => {
  const Real = RTCPeerConnection;
  // Only relays, of which there is none: as behind a firewall.
  globalThis.RTCPeerConnection = class extends Real { constructor(config) { super({ ...config, iceTransportPolicy: 'relay' }); } };
};
// As on iPhones since iOS 17.1: a source that decides when it takes more, and no other.
const MANAGED_MSE = () => { globalThis.ManagedMediaSource = globalThis.MediaSource; delete globalThis.MediaSource; };
const NO_MSE = () => { delete globalThis.MediaSource; delete globalThis.ManagedMediaSource; };
const NO_VIDEO = () => { HTMLMediaElement.prototype.canPlayType = () => ''; };
const both = (...blocks) => `(${blocks.map((block) => `(${block})()`).join(', ')})`;

try {
  const step = (text) => console.log(`  ${text}`);
  await Promise.all([
    ['stream.html?src=demo&mode=webrtc', 'webrtc', 40], ['stream.html?src=demo&mode=webrtc/tcp', 'webrtc/tcp', 40], ['stream.html?src=demo&mode=mse', 'mse', 40],
    ['stream.html?src=demo&mode=hls', 'hls', 40], ['hls.html?src=demo&mp4', 'hls', 40], ['stream.html?src=demo&mode=mp4', 'mp4', 40],
    ['stream.html?src=jpeg&mode=mjpeg', 'mjpeg', 10], ['stream.html?src=jpeg', 'mjpeg', 10], ['stream.html?src=demo&mode=jpeg', 'jpeg', 2], ['webrtc.html?src=demo&media=video', 'webrtc', 40],
  ].map(async ([path, mode, count]) => {
    const page = await open(path);
    await plays(page, mode);
    const seen = await pictures(page, count);
    assert.ok(seen >= count, `${path}: ${seen} pictures`);
    assert.equal(await page.evaluate(() => document.querySelector('video-stream, video-rtc, patchbay-player').status.textContent), '');
    await page.context().close();
    step(`${path}: ${mode}, ${seen} pictures`);
  }));

  const players_without_media_source_extensions = [
    ['no WebRTC, a managed MediaSource alone', both(NO_WAY, MANAGED_MSE), 'demo', 'mse'],
    ['no WebRTC, no MediaSource', both(NO_WAY, NO_MSE), 'demo', 'hls'],
  ];
  await Promise.all([
    ...players_without_media_source_extensions,
    ['no way to the WebRTC port', both(NO_WAY), 'demo', 'mse'],
    ['no WebRTC, no MediaSource, no video', both(NO_WAY, NO_MSE, NO_VIDEO), 'demo', 'jpeg'],
    ['the same with a camera of JPEG pictures', both(NO_WAY, NO_MSE, NO_VIDEO), 'jpeg', 'mjpeg'],
  ].map(async ([what, block, src, mode]) => {
    const page = await open(`stream.html?src=${src}&mode=webrtc,mse,hls,mjpeg,jpeg`, block);
    await plays(page, mode);
    assert.ok(await pictures(page, 2) >= 2);
    const tried = await page.evaluate(() => document.querySelector('patchbay-player').tried.map(({ mode: key, reason }) => `${key} (${reason})`).join(', '));
    if (what.startsWith('no way')) {
      await page.reload();
      await plays(page, mode);
      assert.match(tried, /^webrtc/);
      assert.deepEqual(await page.evaluate(() => document.querySelector('patchbay-player').tried), [], 'what did not work is not tried first again');
    }
    await page.context().close();
    step(`${what}: ${mode}${tried && ` after ${tried}`}`);
  }));

  const meter = await (await browser.newContext()).newPage();
  const watching = await open('stream.html?src=demo&mode=webrtc,mse');
  await plays(watching, 'webrtc');
  await pictures(watching, 20);
  const looks = [await brightness(watching, meter)];
  const change = (enabled) => watching.request.post(`${base}api/plugins/webrtc`, { data: { enabled } });
  assert.equal((await change(false)).status(), 200);
  let now = 'webrtc';
  while (now !== 'mse') {
    looks.push(await brightness(watching, meter));
    now = await watching.evaluate(() => document.querySelector('patchbay-player').modeName);
    assert.ok(looks.length < 600, `it does not go on by MSE: ${now}`);
  }
  looks.push(await brightness(watching, meter));
  await change(true);
  assert.ok(Math.min(...looks) > looks[0] / 3, `a black picture: ${looks.map(Math.round)}`);
  await watching.context().close();
  step(`WebRTC is switched off under a viewer: MSE; ${looks.length} looks meanwhile, none black (${Math.round(Math.min(...looks))} to ${Math.round(Math.max(...looks))})`);

  const sent = [];
  const talk = async (page) => {
    const button = page.locator('patchbay-player >> button[aria-label=Talk]');
    await plays(page);
    await button.waitFor({ state: 'attached' });
    await page.hover('patchbay-player');
    await button.click();
    await page.waitForFunction(() => ['on', 'refused'].includes(document.querySelector('patchbay-player').talkState), null, { timeout: 40000 });
    await plays(page, 'webrtc');
    return page.evaluate(() => { const player = document.querySelector('patchbay-player'); return [player.talkState, player.status.textContent]; });
  };
  const first = await open('watch.html?src=porch', null, (page) => page.on('websocket', (socket) => socket.on('framesent', ({ payload }) => {
    if (String(payload).includes('webrtc/offer')) sent.push(JSON.parse(String(payload)).value);
  })));
  assert.deepEqual(await talk(first), ['on', '']);
  assert.match(sent.at(-1).slice(sent.at(-1).lastIndexOf('m=audio')), /a=sendonly/);
  await first.locator('patchbay-player >> button[aria-label="Stop talking"][aria-pressed=true]').waitFor({ state: 'attached' });
  step('a camera with a backchannel is spoken to');
  const second = await open('watch.html?src=porch');
  const [refused, why] = await talk(second);
  assert.equal(refused, 'refused');
  assert.match(why, /^Somebody else is speaking/);
  assert.ok(await pictures(second, 5) >= 5);
  await second.context().close();
  step(`somebody else meanwhile: ${why}; the picture goes on`);
  await first.locator('patchbay-player >> button[aria-label="Stop talking"]').click();
  await first.waitForFunction(() => document.querySelector('patchbay-player').talkState === 'off');
  await plays(first);
  await first.context().close();
  const deaf = await open('watch.html?src=demo');
  await plays(deaf);
  assert.equal(await deaf.locator('patchbay-player >> button[aria-label=Talk]').isHidden(), true, 'a stream that nobody hears has no button');
  await deaf.context().close();

  const publisher = await open('webrtc.html?dst=studio&media=camera+microphone');
  await publisher.waitForFunction(() => document.querySelector('main').dataset.state === 'live', null, { timeout: 30000 });
  const viewer = await open('stream.html?src=studio');
  const by = await plays(viewer);
  const seen = await pictures(viewer, 20);
  const { studio } = await (await viewer.request.get(`${base}api/streams`)).json();
  assert.ok(studio.producers.some((producer) => producer.url === 'external' && producer.medias.some((media) => media.startsWith('video'))), JSON.stringify(studio));
  assert.ok(seen >= 20, `${seen} pictures`);
  await viewer.context().close();
  await publisher.click('button:has-text("Stop")');
  await publisher.waitForFunction(() => document.querySelector('button').textContent === 'Start');
  await publisher.context().close();
  step(`this browser's camera and microphone are published and seen by ${by}`);

  // A page of somebody who knows go2rtc's elements.
  const cards = await open('stream.html');
  await cards.evaluate(async (address) => {
    const { VideoRTC } = await import(`${address}video-rtc.js`);
    await import(`${address}video-stream.js`);
    customElements.define('my-card', class extends VideoRTC {});
    for (const name of ['video-rtc', 'video-stream', 'my-card']) {
      const made = document.createElement(name);
      made.mode = 'mse,hls,mjpeg';
      made.src = new URL('api/ws?src=demo', address.replace('http', 'ws'));
      document.body.append(made);
    }
  }, base);
  await cards.waitForFunction(() => ['video-rtc', 'video-stream', 'my-card'].every((name) => document.querySelector(name).state === 'playing' && document.querySelector(name).video.readyState > 2), null, { timeout: 30000 });
  await cards.context().close();
  step('<video-rtc>, <video-stream> and an element made from VideoRTC play');
  assert.deepEqual(errors, []);
} finally {
  await browser.close();
}
