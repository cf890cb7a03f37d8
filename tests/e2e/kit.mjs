// Opens a player in Chromium, or a JPEG stream as an image, and tells whether the picture is there and moves:
// node kit.mjs URL SCREENSHOT
import { launch } from './chromium.mjs';

const [url, screenshot] = process.argv.slice(2);
const browser = await launch();
try {
  const page = await browser.newPage({ viewport: { width: 800, height: 500 } });
  await page.goto(url, { waitUntil: 'commit' });
  // The shown picture as 32x32 pixels: how many differ between two looks, and how many colours there are.
  const look = () => page.evaluate(() => {
    const shown = document.querySelector('video') ?? document.querySelector('img');
    const width = shown?.videoWidth || shown?.naturalWidth || 0;
    if (!width) return null;
    const canvas = Object.assign(document.createElement('canvas'), { width: 32, height: 32 });
    const context = canvas.getContext('2d');
    context.drawImage(shown, 0, 0, 32, 32);
    const frames = shown.getVideoPlaybackQuality?.().totalVideoFrames ?? 0;
    const height = shown.videoHeight || shown.naturalHeight;
    return { width, height, frames, pixels: [...new Uint32Array(context.getImageData(0, 0, 32, 32).data.buffer)] };
  });
  const end = Date.now() + 30000;
  let first = null, moved = 0;
  while (Date.now() < end && moved < 3) {
    const now = await look();
    const colours = new Set(now?.pixels ?? []).size;
    if (now && colours > 2) {
      if (first && now.pixels.some((pixel, at) => pixel !== first.pixels[at])) moved += 1;
      first = now;
    }
    await page.waitForTimeout(300);
  }
  if (screenshot) await page.screenshot({ path: screenshot });
  const { width, height, frames } = first ?? {};
  console.log(JSON.stringify({ width, height, frames, moved }));
  if (moved < 3) process.exitCode = 1;
} finally {
  await browser.close();
}
