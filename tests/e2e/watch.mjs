// Opens a player in Chromium and prints once a second what it shows, until its standard input ends: node watch.mjs URL
import { chromium } from 'playwright-core';

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--autoplay-policy=no-user-gesture-required'],
});
let over = false;
process.stdin.on('end', () => { over = true; }).resume();
try {
  const page = await browser.newPage();
  await page.goto(process.argv[2]);
  while (!over) {
    await page.waitForTimeout(1000);
    console.log(JSON.stringify(await page.evaluate(() => {
      const video = document.querySelector('video');
      return { time: video.currentTime, width: video.videoWidth, text: document.body.innerText };
    })));
  }
} finally {
  await browser.close();
}
