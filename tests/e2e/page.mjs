// Opens the page in Chromium, chooses the first stream and prints what the player shows: node page.mjs URL [SCREENSHOT]
import { launch } from './chromium.mjs';

const [url, screenshot] = process.argv.slice(2);
const browser = await launch();
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  await page.goto(url);
  await page.click('a.card');
  const frames = () => page.evaluate(() => {
    const video = document.querySelector('video');
    const buffered = !video.srcObject && video.buffered.length ? video.buffered.end(video.buffered.length - 1) : 0;
    return { time: video.currentTime, frames: video.getVideoPlaybackQuality().totalVideoFrames, behind: buffered - video.currentTime, width: video.videoWidth };
  });
  await page.waitForFunction(() => document.querySelector('video')?.currentTime > 1, null, { timeout: 30000 });
  const before = await frames();
  await page.waitForFunction((time) => document.querySelector('video').currentTime > time + 3, before.time, { timeout: 30000 });
  const after = await frames();
  if (screenshot) await page.screenshot({ path: screenshot });
  const shown = after.frames - before.frames;
  console.log(JSON.stringify({ seconds: after.time - before.time, frames: shown, behind: after.behind, width: after.width, errors }));
  if (errors.length || shown < 40 || after.width !== 640) process.exitCode = 1;
} finally {
  await browser.close();
}
