// Plays a playlist in Chromium with hls.js in low-latency mode: node hls.mjs URL SECONDS [RATE]
// RATE: how fast it may play to come back to the distance that the playlist asks for (1: never, as hls.js does by itself).
// Prints one JSON line: what was shown, how old it was by the clock burned into the picture, and every stall and error.
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { launch } from './chromium.mjs';

const [url, seconds, rate] = process.argv.slice(2);
const page_html = '<!doctype html><meta charset=utf-8><title>hls</title><video muted autoplay playsinline width=640 height=360></video><script src=hls.js></script>';
const server = createServer((request, response) => {
  const script = request.url === '/hls.js';
  response.setHeader('content-type', script ? 'text/javascript' : 'text/html');
  response.end(script ? readFileSync(new URL('node_modules/hls.js/dist/hls.min.js', import.meta.url)) : page_html);
}).listen(0, '127.0.0.1');
await new Promise((resolve) => server.once('listening', resolve));

const browser = await launch();
try {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.evaluate(([source, rate]) => {
    const video = document.querySelector('video');
    const seen = window.seen = { errors: [], stalls: 0, ages: [], began: performance.now(), first_ms: null };
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [128, 72];
    const context = canvas.getContext('2d', { willReadFrequently: true });
    // The number that clockgen.py writes: 32 bits of milliseconds, then a checksum, in two rows of cells.
    const clock = () => {
      context.drawImage(video, 0, 0, 128, 72);
      const { data } = context.getImageData(0, 0, 128, 8);
      const bits = [0, 1].map((row) => Array.from({ length: 32 }, (_, cell) => {
        let sum = 0;
        for (const y of [1, 2]) for (const x of [1, 2]) sum += data[((row * 4 + y) * 128 + cell * 4 + x) * 4 + 1];
        return sum / 4 > 127 ? 1 : 0;
      }).reduce((word, bit) => word * 2 + bit, 0));
      let crc = 0xffff;
      for (const shift of [24, 16, 8, 0]) {
        crc ^= ((bits[0] >>> shift) & 255) << 8;
        for (let i = 0; i < 8; i += 1) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff;
      }
      return (bits[1] & 0xffff) === 0xa53c && Math.floor(bits[1] / 65536) === crc ? bits[0] : null;
    };
    const player = window.player = new Hls({ lowLatencyMode: true, maxLiveSyncPlaybackRate: rate });
    player.on(Hls.Events.ERROR, (_, error) => seen.errors.push(error.details + (error.fatal ? ' (fatal)' : '')));
    video.addEventListener('waiting', () => { if (seen.first_ms !== null) seen.stalls += 1; });
    player.loadSource(source);
    player.attachMedia(video);
    const frame = () => {
      seen.first_ms ??= performance.now() - seen.began;
      if (performance.now() - (seen.last ?? 0) >= 200) {
        seen.last = performance.now();
        const value = clock();
        if (value !== null) seen.ages.push((((Date.now() % 4294967296) - value) % 4294967296 + 4294967296) % 4294967296);
      }
      video.requestVideoFrameCallback(frame);
    };
    video.requestVideoFrameCallback(frame);
  }, [url, Number(rate ?? 1)]);
  await page.waitForTimeout(Number(seconds) * 1000);
  const result = await page.evaluate(() => {
    const video = document.querySelector('video');
    const quality = video.getVideoPlaybackQuality();
    const ages = [...seen.ages].sort((a, b) => a - b);
    // A player that has just begun moves to where it wants to be.
    const settled = seen.ages.slice(Math.floor(seen.ages.length / 3)).sort((a, b) => a - b);
    const at = (list, part) => list[Math.min(list.length - 1, Math.floor(list.length * part))] ?? null;
    return {
      first_ms: seen.first_ms === null ? null : Math.round(seen.first_ms), time: video.currentTime, width: video.videoWidth,
      frames: quality.totalVideoFrames, dropped: quality.droppedVideoFrames, audio_bytes: video.webkitAudioDecodedByteCount,
      stalls: seen.stalls, errors: seen.errors, clocks: ages.length, age_min_ms: ages[0] ?? null, age_ms: at(settled, 0.5), age_p95_ms: at(settled, 0.95), age_max_ms: settled.at(-1) ?? null,
      latency: player.latency, target: player.targetLatency, drift: player.drift, rate: video.playbackRate,
      parts: Boolean(player.latestLevelDetails?.partList), codecs: player.levels.map((level) => level.codecs ?? level.codecSet),
    };
  });
  console.log(JSON.stringify(result));
} finally {
  await browser.close();
  server.close();
}
