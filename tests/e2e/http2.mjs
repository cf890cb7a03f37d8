// Reads COUNT live streams at once in a page of the server: node http2.mjs URL COUNT. Over HTTP/1.1 a browser reads six.
import { chromium } from 'playwright-core';

const [url, count] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
try {
  const page = await browser.newPage({ ignoreHTTPSErrors: true });
  await page.goto(url);
  const read = await page.evaluate(async (count) => {
    const one = async () => {
      const answer = await fetch('api/stream.ts?src=demo', { cache: 'no-store' });
      const reader = answer.body.getReader();
      let size = 0;
      for (let part = await reader.read(); size < 40000; part = await reader.read()) {
        if (part.done) throw new Error(`the stream ended after ${size} bytes: ${answer.status}`);
        size += part.value.length;
      }
      // It stays open: all of them are there at the same time.
      return { reader, size };
    };
    const streams = await Promise.all(Array.from({ length: count }, one));
    const answer = await fetch('api/streams', { method: 'PUT' });
    const sizes = streams.map((stream) => stream.size);
    const protocols = new Set(performance.getEntriesByType('resource').map((entry) => entry.nextHopProtocol).filter(Boolean));
    await Promise.all(streams.map((stream) => stream.reader.cancel()));
    const socket = new WebSocket('api/ws?src=demo');
    const opened = await new Promise((resolve) => { socket.onopen = () => resolve(true); socket.onerror = () => resolve(false); });
    socket.close();
    return { streams: sizes.length, least: Math.min(...sizes), protocols: [...protocols], put: answer.status, opened };
  }, Number(count));
  console.log(JSON.stringify(read));
} finally {
  await browser.close();
}
