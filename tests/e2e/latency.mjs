// Plays a page in Chromium and prints how old each picture is that it shows, in ms: node latency.mjs URL SECONDS
// The pictures carry the time of their making, see tests/peers/clockgen.py.
import { SHOWN_ADDRESSES, launch } from './chromium.mjs';

const [url, seconds] = process.argv.slice(2);
const browser = await launch(SHOWN_ADDRESSES);
try {
  const page = await browser.newPage();
  await page.goto(url);
  await page.evaluate(() => {
    const within = root => root.querySelector('video') || [...root.querySelectorAll('*')].map(element => element.shadowRoot && within(element.shadowRoot)).find(found => found);
    window.shownVideo = () => within(document);
  });
  await page.waitForFunction(() => window.shownVideo()?.videoWidth > 0, null, { timeout: 20000 });
  // What the player needs to settle does not count.
  await page.waitForTimeout(3000);
  const seen = await page.evaluate(ms => new Promise(done => {
    const video = window.shownVideo();
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [128, 72];
    const context = canvas.getContext('2d', { willReadFrequently: true });
    const crc = bytes => bytes.reduce((sum, byte) => {
      sum ^= byte << 8;
      for (let bit = 0; bit < 8; bit++) sum = sum & 0x8000 ? (sum << 1 ^ 0x1021) & 0xffff : sum << 1 & 0xffff;
      return sum;
    }, 0xffff);
    const word = (data, row) => {
      let value = 0;
      for (let cell = 0; cell < 32; cell++) {
        let total = 0;
        for (const y of [1, 2]) for (const x of [1, 2]) total += data[((row * 4 + y) * 128 + cell * 4 + x) * 4 + 1];
        value = value * 2 + (total / 4 > 127 ? 1 : 0);
      }
      return value;
    };
    const out = { ages: [], bad: 0 };
    const end = performance.now() + ms;
    const look = now => {
      const shown = performance.timeOrigin + now;
      context.drawImage(video, 0, 0, 128, 72);
      const { data } = context.getImageData(0, 0, 128, 72);
      const [value, check] = [word(data, 0), word(data, 1)];
      const bytes = [24, 16, 8, 0].map(shift => Math.floor(value / 2 ** shift) % 256);
      if (check % 65536 === 0xa53c && Math.floor(check / 65536) === crc(bytes)) out.ages.push(Math.round(shown - value) % 2 ** 32);
      else out.bad++;
      if (performance.now() < end) video.requestVideoFrameCallback(look);
      else done(out);
    };
    video.requestVideoFrameCallback(look);
  }), Number(seconds) * 1000);
  console.log(JSON.stringify(seen));
} finally {
  await browser.close();
}
