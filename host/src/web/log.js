// The log as it grows.
import { ask, json, poll, send } from './api.js';
import { h, say, toast } from './dom.js';

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'];
const SHOWN = 2000; // newest lines that are shown
const main = document.querySelector('main');
const text = h('input', { type: 'search', placeholder: 'Filter', 'aria-label': 'Filter by text', oninput: () => show() });
const from = h('select', { 'aria-label': 'Plugin', onchange: () => { show(); levels(); } }, h('option', { value: '' }, 'All plugins'));
const level = h('select', { 'aria-label': 'Level', onchange: () => show() },
  ...['trace', 'debug', 'info', 'warn', 'error'].map((one) => h('option', { value: one }, one === 'trace' ? 'All levels' : `${one} and worse`)));
const own = h('select', { hidden: true, title: 'How much this plugin logs, until the configuration changes', 'aria-label': 'How much this plugin logs', onchange: async () => {
  try { await send(`api/plugins/${encodeURIComponent(from.value)}`, { level: own.value }); toast(`${from.value} logs ${own.value} until the configuration changes`); } catch (error) { toast(error.message, true); }
} }, ...['trace', 'debug', 'info', 'warn', 'error', 'disabled'].map((one) => h('option', { value: one }, `Logs ${one}`)));
const follow = h('input', { type: 'checkbox', role: 'switch' });
follow.checked = true;
const clear = h('button', { type: 'button', class: 'quiet', onclick: async () => {
  try { await ask('api/log', { method: 'DELETE' }); seen = ''; show(); await refresh(); } catch (error) { toast(error.message, true); }
} }, 'Clear');
const list = h('ol', { class: 'lines', tabindex: 0, 'aria-label': 'Lines of the log' });
const counts = h('p', { class: 'counts' });
main.append(h('div', { class: 'bar' }, h('h1', {}, 'Log'), counts, h('div', { class: 'tools' }, text, from, own, level, h('label', { class: 'switch' }, follow, 'Follow'), clear)), list);
list.addEventListener('scroll', () => { if (list.scrollHeight - list.scrollTop - list.clientHeight > 80) follow.checked = false; });
follow.addEventListener('change', () => { if (follow.checked) list.scrollTop = list.scrollHeight; });

let lines = [], seen = null;

function parse(line) {
  try {
    const { level: grade, time, message, module, plugin, ...rest } = JSON.parse(line);
    const bracket = /^\[([^\]]+)\] /.exec(message ?? '');
    const said = bracket ? message.slice(bracket[0].length) : message ?? '';
    const fields = Object.entries(rest).map(([key, value]) => `${key}=${value}`).join(' ');
    return { level: grade, at: new Date(time), from: String(module ?? plugin ?? bracket?.[1] ?? 'patchbay'), text: fields ? `${said}  ${fields}` : said };
  } catch { return { level: 'info', at: new Date(NaN), from: '', text: line }; }
}

function show() {
  const wanted = text.value.trim().toLowerCase();
  const least = LEVELS.indexOf(level.value);
  const fits = lines.filter((line) => LEVELS.indexOf(line.level) >= least && (!from.value || line.from === from.value) && (!wanted || `${line.from} ${line.text}`.toLowerCase().includes(wanted)));
  list.replaceChildren(...fits.slice(-SHOWN).map((line) => h('li', { 'data-level': line.level },
    h('time', {}, Number.isNaN(line.at.getTime()) ? '' : line.at.toLocaleTimeString([], { hour12: false, hour: '2-digit', minute: '2-digit', second: '2-digit' })),
    h('span', { class: 'level' }, line.level), h('span', { class: 'from' }, line.from), h('span', { class: 'text' }, line.text))));
  say(counts, `${fits.length} of ${lines.length} lines`);
  if (follow.checked) list.scrollTop = list.scrollHeight;
}

/** The level of the chosen plugin can be changed here. */
async function levels() {
  let plugin = null;
  try { plugin = (await json('api/plugins')).find(({ name }) => name === from.value); } catch { /* it cannot be changed now */ }
  own.hidden = !plugin?.level;
  if (plugin?.level) own.value = plugin.level;
}

async function refresh() {
  let content;
  try { content = await (await ask('api/log')).text(); } catch (error) { say(counts, error.message); return; }
  if (content === seen) return;
  seen = content;
  lines = content.split('\n').filter(Boolean).map(parse);
  const names = [...new Set(lines.map((line) => line.from).filter(Boolean))].sort();
  const had = from.value;
  from.replaceChildren(h('option', { value: '' }, 'All plugins'), ...names.map((name) => h('option', { value: name }, name)));
  from.value = names.includes(had) ? had : '';
  show();
}

poll(refresh, 1500);
