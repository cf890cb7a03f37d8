// What every page has: head, navigation, the switch between light and dark, and what is wrong with the configuration.
import { json } from './api.js';
import { h, icon, say } from './dom.js';

const PAGES = [
  ['index.html', 'Streams', 'streams'], ['plugins.html', 'Plugins', 'plugins'],
  ['log.html', 'Log', 'log'], ['config.html', 'Configuration', 'config'],
];
const THEMES = { auto: 'as the system', light: 'light', dark: 'dark' };
const ICON_OF = { auto: 'auto', light: 'sun', dark: 'moon' };

function themeSwitch() {
  const root = document.documentElement;
  const now = () => root.dataset.theme ?? 'auto';
  const button = h('button', { type: 'button', class: 'quiet square', onclick: () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(now()) + 1) % names.length];
    if (next === 'auto') delete root.dataset.theme;
    else root.dataset.theme = next;
    try { localStorage.setItem('patchbay-theme', next); } catch { /* lasts as long as the page */ }
    show();
  } });
  const show = () => {
    button.replaceChildren(icon(ICON_OF[now()]));
    button.setAttribute('aria-label', `Colours: ${THEMES[now()]}`);
    button.title = `Colours: ${THEMES[now()]}`;
  };
  show();
  return button;
}

const page = document.body.dataset.page ?? 'index.html';
const main = document.querySelector('main');
const banner = h('p', { class: 'banner', role: 'alert', hidden: true });
const version = h('span', { class: 'version' });
const links = PAGES.map(([href, name, symbol]) => h('li', {}, h('a', { href, 'aria-current': href === page ? 'page' : null }, icon(symbol), h('span', {}, name))));
document.body.prepend(
  h('a', { class: 'skip', href: '#main' }, 'Skip to the content'),
  h('header', { class: 'top' },
    h('a', { class: 'brand', href: 'index.html' }, h('img', { src: 'icon.svg', alt: '', width: 28, height: 28 }), h('span', {}, 'Patchbay')),
    h('nav', { 'aria-label': 'Pages' }, h('ul', {}, links)),
    version, themeSwitch()),
);
main.id = 'main';
main.tabIndex = -1;
main.before(banner);

/** Asks the server how it is, and shows what is wrong with its configuration. */
export async function health() {
  try {
    const info = await json('api');
    say(version, info.version.replace(/^.*patchbay\./, ''));
    version.title = `Version ${info.version}`;
    banner.hidden = !info.config_error;
    say(banner, info.config_error ? `The configuration file has an error and is not in force: ${info.config_error}` : '');
  } catch (error) {
    banner.hidden = false;
    say(banner, `No connection to Patchbay: ${error.message}.`);
  }
}
health();
setInterval(() => document.hidden || health(), 5000);
