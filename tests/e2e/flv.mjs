// Plays stream.flv with mpegts.js in Chromium for SECONDS and prints what was shown: node flv.mjs SERVER NAME SECONDS
import { createRequire } from 'node:module';
import { launch } from './chromium.mjs';

const [server, name, seconds] = process.argv.slice(2);
const browser = await launch();
try {
  const page = await browser.newPage();
  await page.goto(`${server}api`);
  await page.addScriptTag({ path: createRequire(import.meta.url).resolve('mpegts.js') });
  await page.evaluate((url) => {
    document.body.innerHTML = '<video muted autoplay></video>';
    window.errors = [];
    const player = mpegts.createPlayer({ type: 'flv', isLive: true, url }, { enableWorker: false });
    player.on(mpegts.Events.ERROR, (...error) => window.errors.push(error.slice(0, 2).join(' ')));
    player.attachMediaElement(document.querySelector('video'));
    player.load();
  }, `${server}api/stream.flv?src=${name}`);
  await page.waitForFunction(() => document.querySelector('video').currentTime > 0.2, null, { timeout: 20000 });
  const first = await page.evaluate(() => document.querySelector('video').currentTime);
  await page.waitForTimeout(Number(seconds) * 1000);
  console.log(JSON.stringify(await page.evaluate((first) => {
    const video = document.querySelector('video');
    const quality = video.getVideoPlaybackQuality();
    return { played: video.currentTime - first, frames: quality.totalVideoFrames, dropped: quality.droppedVideoFrames,
      audio: video.webkitAudioDecodedByteCount, width: video.videoWidth, errors: window.errors,
      behind: video.buffered.end(video.buffered.length - 1) - video.currentTime };
  }, first)));
} finally {
  await browser.close();
}
