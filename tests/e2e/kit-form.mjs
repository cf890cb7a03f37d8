// Adds a stream by the page's form, which is made from the plugin's schema: node kit-form.mjs URL NAME SCHEME FIELDS, where FIELDS is
// JSON of the fields to fill in. Prints the source as the form shows it, once the stream's page plays.
import assert from 'node:assert/strict';
import { launch } from './chromium.mjs';

const [url, name, scheme, fields] = process.argv.slice(2);
const browser = await launch();
try {
  const page = await browser.newPage({ viewport: { width: 1000, height: 800 } });
  await page.goto(new URL('add.html', url).href);
  await page.waitForFunction((wanted) => [...document.querySelectorAll('#scheme option')].some((one) => one.value === wanted), scheme);
  await page.selectOption('#scheme', scheme);
  await page.fill('#name', name);
  for (const [key, value] of Object.entries(JSON.parse(fields))) {
    const control = page.locator(`#field-${key}`);
    if (await control.evaluate((one) => one.tagName) === 'SELECT') await control.selectOption(value);
    else await control.fill(value);
  }
  const source = await page.locator('code.source').textContent();
  await page.click('button[type=submit]');
  await page.waitForURL(/watch\.html/, { timeout: 40000 });
  await page.waitForFunction(() => document.querySelector('patchbay-player')?.state === 'playing', null, { timeout: 40000 });
  assert.ok(!source.includes('right'), source);
  console.log(source);
} finally {
  await browser.close();
}
