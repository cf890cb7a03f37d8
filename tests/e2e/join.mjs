// Opens a player in Chromium and SECONDS after its first data prints the shown picture, 128x72 gray: node join.mjs URL SECONDS [plain]
// With `plain` the page is a bare MSE player that appends what comes and never moves its position.
import { launch } from './chromium.mjs';

const [url, seconds, plain] = process.argv.slice(2);
const browser = await launch();
try {
  const page = await browser.newPage();
  await page.goto(url);
  if (plain) await page.evaluate(() => new Promise((resolve) => {
    const name = new URLSearchParams(location.search).get('src');
    const video = document.createElement('video');
    [video.muted, video.autoplay] = [true, true];
    document.body.replaceChildren(video);
    const media = new MediaSource(), queue = [];
    video.src = URL.createObjectURL(media);
    media.onsourceopen = () => {
      const socket = new WebSocket(`ws://${location.host}/api/ws?src=${name}`);
      socket.binaryType = 'arraybuffer';
      socket.onopen = () => socket.send(JSON.stringify({ type: 'mse', value: 'avc1.640029,avc1.64002A,avc1.640033,hvc1.1.6.L153.B0,mp4a.40.2,mp4a.40.5,flac,opus' }));
      let buffer;
      const next = () => { if (queue.length && !buffer.updating) buffer.appendBuffer(queue.shift()); };
      socket.onmessage = ({ data }) => {
        if (typeof data === 'string') {
          buffer = media.addSourceBuffer(JSON.parse(data).value);
          buffer.onupdateend = next;
          return resolve();
        }
        queue.push(data);
        next();
      };
    };
  }));
  await page.waitForFunction(() => document.querySelector('video') && document.querySelector('video').buffered.length, null, { timeout: 20000 });
  console.log('JOINED');
  await page.waitForTimeout(Number(seconds) * 1000);
  const picture = await page.evaluate(() => {
    const video = document.querySelector('video');
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [128, 72];
    const context = canvas.getContext('2d');
    context.drawImage(video, 0, 0, 128, 72);
    const now = Date.now();
    const { data } = context.getImageData(0, 0, 128, 72);
    const gray = Array.from({ length: 128 * 72 }, (_, i) => data[i * 4 + 1]);
    const quality = video.getVideoPlaybackQuality();
    return { now, gray, total: quality.totalVideoFrames, dropped: quality.droppedVideoFrames,
      behind: video.buffered.end(video.buffered.length - 1) - video.currentTime };
  });
  console.log(JSON.stringify(picture));
} finally {
  await browser.close();
}
