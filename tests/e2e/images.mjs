// Shows a stream of JPEG pictures in Chromium, in an <img> and from a WebSocket: node images.mjs URL STREAM SECONDS [SCREENSHOT]
// Prints one line of JSON: the shown picture of the <img>, 128x72 gray, and what came over the WebSocket.
import { launch } from './chromium.mjs';

const [url, stream, seconds, screenshot] = process.argv.slice(2);
const browser = await launch();
try {
  const page = await browser.newPage({ viewport: { width: 700, height: 400 } });
  await page.goto(`${url}api`);
  await page.evaluate((name) => {
    const image = document.createElement('img');
    image.src = `api/stream.mjpeg?src=${name}`;
    document.body.replaceChildren(image);
    window.seen = { texts: [], pictures: 0, bad: 0 };
    const socket = new WebSocket(`ws://${location.host}/api/ws?src=${name}`);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => socket.send(JSON.stringify({ type: 'mjpeg' }));
    socket.onmessage = ({ data }) => {
      if (typeof data === 'string') return window.seen.texts.push(data);
      const bytes = new Uint8Array(data);
      window.seen.pictures += 1;
      if (bytes[0] !== 0xff || bytes[1] !== 0xd8 || bytes.at(-2) !== 0xff || bytes.at(-1) !== 0xd9) window.seen.bad += 1;
    };
  }, stream);
  await page.waitForFunction(() => document.querySelector('img').naturalWidth && window.seen.pictures, null, { timeout: 20000 });
  await page.waitForTimeout(Number(seconds) * 1000);
  const shown = await page.evaluate(() => {
    const image = document.querySelector('img');
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [128, 72];
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0, 128, 72);
    const now = Date.now();
    const { data } = context.getImageData(0, 0, 128, 72);
    return { now, gray: Array.from({ length: 128 * 72 }, (_, i) => data[i * 4 + 1]), width: image.naturalWidth, ...window.seen };
  });
  if (screenshot) await page.screenshot({ path: screenshot });
  console.log(JSON.stringify(shown));
} finally {
  await browser.close();
}
