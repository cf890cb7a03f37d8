// A new stream: a form made from the plugins' option schemas. The source is tried under a name of its own before anything is
// written into the configuration.
import { ask, json, plain, url } from './api.js';
import { field, fields, isOption, sourceUrl } from './form.js';
import { h, icon, say, toast } from './dom.js';

const BARE = { type: 'object', required: ['address'], properties: { address: { type: 'string', title: 'Address', examples: ['192.0.2.10/stream'] } } };
const main = document.querySelector('main');
const scheme = h('select', { id: 'scheme', 'aria-describedby': 'about', onchange: () => shape() });
const about = h('small', { id: 'about' });
const name = field('name', { title: 'Name', description: 'What players and pages call it', examples: ['front-door'] }, true, 'name');
const source = h('code', { class: 'source' });
const result = h('div', { role: 'status' });
const go = h('button', { type: 'submit' }, 'Try and add');
const first = h('div', { class: 'parts' });
const rest = h('div', { class: 'parts' });
const more = h('details', { class: 'more' }, h('summary', {}, 'More options'), rest);
const form = h('form', { class: 'form panel', novalidate: true },
  name.element,
  h('div', { class: 'field' }, h('label', { for: 'scheme' }, 'Kind of source'), scheme, about),
  first, more,
  h('div', { class: 'field' }, h('span', { class: 'dim' }, 'In the configuration it will be'), source),
  result, h('div', {}, go));
const tips = [
  ['Where is its address?', 'In the camera’s manual or its settings, often under RTSP or ONVIF. A whole address may be pasted into the field: its kind, user and password are found in it.'],
  ['The login is refused', 'Many cameras have a user of their own for streams. It is set in the camera, not in its app.'],
  ['It answers, but shows nothing', 'Try another transport under “More options”, or the camera’s second stream.'],
  ['What happens to it', 'It is dialled when somebody watches and left alone otherwise. All viewers share one connection to it.'],
];
const help = h('aside', { class: 'panel tips', 'aria-label': 'Help' }, h('dl', {}, tips.flatMap(([head, text]) => [h('dt', {}, head), h('dd', {}, text)])));
main.append(h('div', { class: 'bar' }, h('a', { class: 'button quiet square', href: 'index.html', 'aria-label': 'All streams' }, icon('back')), h('h1', {}, 'Add a stream')), h('div', { class: 'beside' }, form, help));

/** Scheme to what its plugin says of it. */
const kinds = new Map();
let schema = BARE, all = [];

function shape() {
  const kept = new Map(all.map((one) => [one.name, one]));
  const kind = kinds.get(scheme.value);
  schema = kind?.schema ?? BARE;
  all = fields(schema);
  for (const one of all) {
    const old = kept.get(one.name)?.control;
    if (old && old.type === one.control.type) { one.control.value = old.value; one.control.checked = old.checked; }
    one.control.addEventListener('input', show);
  }
  for (const one of all) if (one.name === 'address') one.control.addEventListener('input', pasted);
  const options = all.filter((one) => isOption(one.name, one.property));
  first.replaceChildren(...all.filter((one) => !options.includes(one)).map((one) => one.element));
  rest.replaceChildren(...options.map((one) => one.element));
  first.hidden = !first.childElementCount;
  more.hidden = !options.length;
  say(about, kind ? `${kind.plugin.description}.` : '');
  show();
}

/** A whole address that is pasted tells its kind, its user and its password. */
function pasted() {
  const address = all.find((one) => one.name === 'address');
  const found = /^([a-z][a-z0-9+.-]*):\/\/(?:([^/@:]*)(?::([^/@]*))?@)?(.*)$/i.exec(address.value());
  const wanted = found?.[1].toLowerCase();
  if (!found || !kinds.has(wanted) || schema['x-url']) return;
  const [, , user, password, left] = found;
  scheme.value = wanted;
  shape();
  const set = (key, text) => {
    const one = all.find((part) => part.name === key && !isOption(key, part.property));
    if (one && text !== undefined) { try { one.control.value = decodeURIComponent(text); } catch { one.control.value = text; } }
  };
  if (!kinds.get(wanted).schema['x-url']) {
    all.find((one) => one.name === 'address').control.value = left;
    set('username', user);
    set('password', password);
  }
  all.find((one) => one.name === 'address').control.focus();
  show();
}

function show() {
  // `***` instead of what is secret, whatever it was encoded to.
  const hidden = all.map((one) => (one.property.writeOnly && one.value() ? { ...one, value: () => '***' } : one));
  say(source, sourceUrl(scheme.value, schema, hidden));
}

function fault(key, reason) {
  const one = key === 'name' ? name : all.find((part) => part.name === key) ?? all.find((part) => part.name === 'address') ?? name;
  one.fault(reason);
  if (more.contains(one.element)) more.open = true;
  one.control.focus();
}

function checked() {
  let fine = true;
  for (const one of [name, ...all].reverse()) {
    const wrong = one === name && /[?#]/.test(name.value()) ? 'A name has no ? and no #.' : one.check();
    one.fault('');
    if (wrong) { fault(one.name, wrong); fine = false; }
  }
  return fine;
}

const PATIENCE = 15000; // ms that a camera may take to tell its tracks

/** Which field an end of this class is about. */
const FIELD_OF = { auth: 'password', not_found: 'address', busy: 'address', timeout: 'address' };

/** Dials the source as a stream that is only in memory; throws what is wrong, with its `field`. */
async function tried(src) {
  const trial = `try-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
  const away = () => fetch(url('api/streams', { src: trial }), { method: 'DELETE', keepalive: true });
  addEventListener('pagehide', away);
  try {
    await ask('api/streams', { method: 'PATCH', query: { name: trial, src } });
    const end = Date.now() + PATIENCE;
    for (;;) {
      try {
        await json('api/streams', { query: { src: trial, video: 'all', audio: 'all' } });
        return;
      } catch (error) {
        const now = await json('api/streams', { query: { src: trial } }).catch(() => null);
        const is = now?.producers?.[0];
        // A camera that has not answered yet may still do so.
        if (is?.state === 'connecting' && !is.error && Date.now() < end) continue;
        throw Object.assign(error, { field: FIELD_OF[is?.error_class] ?? 'address', dialled: true });
      }
    }
  } finally {
    removeEventListener('pagehide', away);
    await away().catch(() => {});
  }
}

async function keep(src) {
  await ask('api/streams', { method: 'PUT', query: { name: name.value(), src } });
  location.href = `watch.html?${new URLSearchParams({ src: name.value() })}`;
}

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  if (go.disabled) return;
  result.replaceChildren();
  if (!checked()) return;
  const src = sourceUrl(scheme.value, schema, all);
  go.disabled = true;
  result.replaceChildren(h('p', { class: 'busy' }, 'Trying it. Cameras may take some seconds.'));
  try {
    if (name.value() in await json('api/streams')) {
      result.replaceChildren();
      fault('name', 'There is a stream of this name already.');
      return;
    }
    await tried(src);
    await keep(src);
  } catch (error) {
    const reason = plain(error.message);
    if (!error.dialled) { result.replaceChildren(h('p', { class: 'note bad' }, reason)); return; }
    fault(error.field, reason);
    result.replaceChildren(h('p', { class: 'note' }, 'Nothing is written yet. ',
      h('button', { type: 'button', class: 'quiet', onclick: () => keep(src).catch((refused) => toast(refused.message, true)) }, 'Add it all the same')));
  } finally { go.disabled = false; }
});

try {
  for (const plugin of await json('api/plugins')) {
    if (plugin.state === 'off' || plugin.state === 'refused') continue;
    const creatable = (plugin.sources ?? []).filter((one) => !kinds.has(one));
    for (const one of creatable) kinds.set(one, { plugin, schema: plugin.options?.$defs?.source ?? BARE });
    if (creatable.length) {
      scheme.append(h('optgroup', { label: plugin.options?.$defs?.source?.title ?? plugin.name },
        ...creatable.map((one) => h('option', { value: one }, `${plugin.options?.$defs?.source?.title ?? plugin.name} (${one}:)`))));
    }
  }
  if (kinds.has('rtsp')) scheme.value = 'rtsp';
} catch (error) { toast(error.message, true); }
shape();
name.control.focus();
