// Opens a player in Chromium and prints once a second what it shows, until its standard input ends: node watch.mjs URL
import { launch } from './chromium.mjs';

const browser = await launch();
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
