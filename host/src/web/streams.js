// The streams: pictures, states and a search.
import { describe, json, plain, poll, url, whole } from './api.js';
import { h, icon, say } from './dom.js';

const main = document.querySelector('main');
const FRESH = 2500; // ms between two pictures of a stream
// Pictures that are fetched at the same time: of six connections one is for all else, and cameras that do not answer hold up no others.
const AT_ONCE = { live: 3, idle: 2 };
const WORDS = { live: 'Live', idle: 'Idle', offline: 'Offline', connecting: 'Connecting' };

const store = (key, value) => { try { localStorage.setItem(key, value); } catch { /* for this page only */ } };
const stored = (key) => { try { return localStorage.getItem(key); } catch { return null; } };

let pictures = stored('patchbay-pictures') ?? 'live';
const search = h('input', { type: 'search', placeholder: 'Search', 'aria-label': 'Search streams', oninput: () => filter() });
const choice = h('select', { 'aria-label': 'Pictures', onchange: () => { pictures = choice.value; store('patchbay-pictures', pictures); filter(); } },
  h('option', { value: 'live' }, 'Pictures: live'),
  h('option', { value: 'watched' }, 'Pictures: of watched streams'),
  h('option', { value: 'off' }, 'Pictures: none'));
choice.value = pictures;
const counts = h('p', { class: 'counts', 'aria-live': 'polite' });
const list = h('ul', { class: 'grid' });
const none = h('div', { class: 'empty', hidden: true });
main.append(
  h('div', { class: 'bar' }, h('h1', {}, 'Streams'), counts, h('div', { class: 'tools' }, search, choice,
    h('a', { class: 'button', href: 'add.html' }, icon('plus'), 'Add a stream'))),
  none, list);

const cards = new Map();
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) for (const card of cards.values()) if (card.item === entry.target) card.visible = entry.isIntersecting;
});

function card(name) {
  const picture = h('img', { alt: '', hidden: true });
  const state = h('span', { class: 'state' });
  const text = h('span', { class: 'why' });
  const link = h('a', { class: 'card', href: `watch.html?${new URLSearchParams({ src: name })}` },
    h('span', { class: 'thumb' }, icon('camera'), picture, state), h('b', {}, name), text);
  const item = h('li', { 'data-name': name }, link);
  seen.observe(item);
  return { name, item, picture, state, text, visible: false, at: 0, busy: false };
}

function filter() {
  const wanted = search.value.trim().toLowerCase();
  let shown = 0;
  for (const { item, name, info } of cards.values()) {
    item.hidden = !`${name} ${info?.state}`.toLowerCase().includes(wanted);
    if (!item.hidden) shown += 1;
  }
  none.hidden = shown > 0;
  if (!shown) {
    none.replaceChildren(...(cards.size
      ? [h('p', {}, `No stream matches “${wanted}”.`)]
      : [icon('camera'), h('h2', {}, 'No streams yet'), h('p', {}, 'Add a camera and it is here at once.'), h('a', { class: 'button', href: 'add.html' }, 'Add a stream')]));
  }
  const states = [...cards.values()].map((one) => one.info?.state);
  const count = (state) => states.filter((one) => one === state).length;
  say(counts, cards.size ? `${cards.size} stream${cards.size === 1 ? '' : 's'}, ${count('live')} live${count('offline') ? `, ${count('offline')} offline` : ''}` : '');
}

async function refresh() {
  let streams;
  try { streams = await json('api/streams'); } catch { list.classList.add('stale'); return; }
  list.classList.remove('stale');
  for (const [name, stream] of Object.entries(streams).sort(([a], [b]) => a.localeCompare(b, undefined, { numeric: true }))) {
    if (!cards.has(name)) {
      const made = card(name);
      cards.set(name, made);
      const after = [...cards.values()].filter((other) => other !== made && other.name.localeCompare(name, undefined, { numeric: true }) > 0)
        .sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }))[0];
      list.insertBefore(made.item, after?.item ?? null);
    }
    const one = cards.get(name);
    one.info = describe(stream);
    if (one.info.state === 'live') one.failed = null;
    // What it said when its picture was asked for, a moment ago.
    if (one.info.state === 'idle' && one.failed) one.info = { ...one.info, state: 'offline', text: one.failed };
    one.watched = one.info.state === 'live' && (stream.consumers ?? []).some((consumer) => !['jpeg', 'probe'].includes(consumer.format_name));
    one.item.dataset.state = one.info.state;
    say(one.state, WORDS[one.info.state]);
    say(one.text, whole(one.info));
  }
  for (const [name, one] of cards) {
    if (name in streams) continue;
    seen.unobserve(one.item);
    one.item.remove();
    cards.delete(name);
  }
  filter();
}

const fetching = { live: 0, idle: 0 };
let able = true; // whether there is a plugin that makes pictures
async function picture(one, kind) {
  one.busy = true;
  fetching[kind] += 1;
  try {
    const answer = await fetch(url('api/frame.jpeg', { src: one.name, width: 480, cache: '2s' }), { signal: AbortSignal.timeout(15000) });
    if (answer.status === 404 && !(await answer.text()).includes('stream')) able = false;
    const blob = answer.ok ? await answer.blob() : null;
    if (blob?.size) {
      const old = one.picture.src;
      one.picture.src = URL.createObjectURL(blob);
      await one.picture.decode();
      one.picture.hidden = false;
      if (old) URL.revokeObjectURL(old);
      one.failed = null;
    } else { // none now: later
      one.at += 15000;
      one.failed = plain(answer.headers.get('X-Error')) || null;
    }
  } catch { one.at += 15000; } finally {
    one.busy = false;
    fetching[kind] -= 1;
  }
}

function pictureTurn() {
  if (!document.hidden && able && pictures !== 'off') {
    const now = Date.now();
    const due = [...cards.values()]
      .filter((one) => one.visible && !one.item.hidden && !one.busy && now - one.at > FRESH && one.info && !one.info.empty && (['live', 'idle'].includes(one.info.state) || one.failed)
        && (pictures === 'live' || one.watched))
      .sort((a, b) => a.at - b.at);
    for (const one of due) {
      const kind = one.info.state === 'live' ? 'live' : 'idle';
      if (fetching[kind] >= AT_ONCE[kind]) continue;
      one.at = now;
      picture(one, kind);
    }
  }
  setTimeout(pictureTurn, 250);
}

poll(refresh, 2000).then(() => filter());
pictureTurn();
