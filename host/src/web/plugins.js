// The plugins: what runs, how it is kept apart, and switches.
import { json, poll, send } from './api.js';
import { h, say, toast } from './dom.js';

const main = document.querySelector('main');
const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'disabled'];
const rows = new Map();
const list = h('ul', { class: 'rows' });
const counts = h('p', { class: 'counts' });
main.append(h('div', { class: 'bar' }, h('h1', {}, 'Plugins'), counts), list);

async function change(name, what, done) {
  try {
    await send(`api/plugins/${encodeURIComponent(name)}`, what);
    toast(done);
  } catch (error) { toast(`${name}: ${error.message}`, true); }
  await refresh();
}

function row(name) {
  const state = h('span', { class: 'state' });
  const about = h('p');
  const runs = h('p');
  const fault = h('p', { class: 'fault', hidden: true });
  const sandbox = h('div', { class: 'mono' });
  const details = h('details', { hidden: true }, h('summary', {}, 'What the sandbox allows'), sandbox);
  const settings = h('details', { hidden: true }, h('summary', {}, 'Settings'));
  const on = h('input', { type: 'checkbox', role: 'switch', onchange: () => change(name, { enabled: on.checked }, `${name} is ${on.checked ? 'on' : 'off'}`) });
  const restart = h('button', { type: 'button', class: 'quiet', 'aria-label': `Restart ${name}`, onclick: () => change(name, { restart: true }, `${name} starts anew`) }, 'Restart');
  const level = h('select', { 'aria-label': `Log level of ${name}`, title: 'Log level, until the configuration changes', onchange: () => change(name, { level: level.value }, `${name} logs ${level.value} until the configuration changes`) },
    ...LEVELS.map((one) => h('option', { value: one }, `Logs ${one}`)));
  const act = h('div', { class: 'act' }, level, restart, h('label', { class: 'switch' }, on, 'On'));
  on.setAttribute('aria-label', `${name} on`);
  const version = h('small');
  const item = h('li', { 'data-name': name }, h('h2', {}, h('span', {}, name), version, state), act, about, runs, fault, settings, details);
  return { item, settings, state, about, runs, fault, sandbox, details, on, restart, act, version, level };
}

/** What can be set for a plugin, from its option schema. */
function settings(one, plugin) {
  const list = Object.entries(plugin.options?.properties ?? {}).filter(([, property]) => property && typeof property === 'object');
  one.settings.hidden = !list.length;
  const usual = (property) => (property.default === undefined || property.default === '' ? '' : `usually ${JSON.stringify(property.default)}`);
  one.settings.replaceChildren(h('summary', {}, list.length === 1 ? '1 setting' : `${list.length} settings`),
    h('dl', { class: 'facts' }, ...list.flatMap(([key, property]) => [h('dt', {}, h('code', {}, key)),
      h('dd', {}, [property.description ?? property.title, [property.enum ?? []].flat().join(', '), usual(property), property.writeOnly && 'secret'].filter(Boolean).join('; '))])),
    h('p', {}, 'They are set in the ', h('a', { href: 'config.html' }, 'configuration'), `, under ${plugin.name}:`));
}

async function refresh() {
  let plugins;
  try { plugins = await json('api/plugins'); } catch { return; }
  const bad = ({ state }) => state === 'failed' || state === 'refused';
  // What needs somebody comes first.
  plugins.sort((a, b) => bad(b) - bad(a));
  for (const [place, plugin] of plugins.entries()) {
    const name = plugin.name ?? 'a file';
    if (!rows.has(name)) {
      const made = row(name);
      rows.set(name, made);
      list.append(made.item);
    }
    const one = rows.get(name);
    if (list.children[place] !== one.item && !list.contains(document.activeElement)) list.insertBefore(one.item, list.children[place] ?? null);
    one.item.dataset.state = plugin.state;
    say(one.state, plugin.state);
    if (one.version.textContent !== (plugin.version ?? '')) settings(one, plugin);
    say(one.version, plugin.version ?? '');
    say(one.about, [plugin.description && `${plugin.description}.`, plugin.schemes?.length && `Addresses: ${[...new Set(plugin.schemes)].map((scheme) => `${scheme}:`).join(' ')}`].filter(Boolean).join(' '));
    say(one.runs, [
      plugin.isolation === 'process' ? 'In a process of its own' : plugin.isolation && 'In the server’s process',
      plugin.pid && `process ${plugin.pid}`, plugin.restarts !== undefined && `${plugin.restarts} ${plugin.restarts === 1 ? 'restart' : 'restarts'}`, plugin.licence,
    ].filter(Boolean).join(' · '));
    one.fault.hidden = !plugin.why;
    say(one.fault, plugin.why ?? '');
    one.details.hidden = !plugin.sandbox;
    if (plugin.sandbox) say(one.sandbox, typeof plugin.sandbox === 'string' ? plugin.sandbox : JSON.stringify(plugin.sandbox, null, 1));
    one.act.hidden = plugin.state === 'refused';
    one.on.checked = plugin.state !== 'off';
    if (plugin.level && document.activeElement !== one.level) one.level.value = plugin.level;
    one.restart.disabled = plugin.state === 'off' || plugin.state === 'ready';
  }
  const names = new Set(plugins.map((plugin) => plugin.name ?? 'a file'));
  for (const [name, one] of rows) if (!names.has(name)) { one.item.remove(); rows.delete(name); }
  const running = plugins.filter((plugin) => plugin.state === 'running').length;
  say(counts, `${plugins.length} plugins, ${running} running`);
}

poll(refresh, 3000);
