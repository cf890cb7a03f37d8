// The server's API, below whatever path the page was loaded from.
import { span } from './dom.js';

const ROOT = new URL('.', import.meta.url);

/** An answer that is not a success: `message` is what the server says, `status` its number. */
export class Refused extends Error {
  constructor(status, message) {
    super(message || `the server answers ${status}`);
    this.status = status;
  }
}

export function url(path, query = {}) {
  const address = new URL(path, ROOT);
  for (const [key, value] of Object.entries(query)) {
    for (const one of [value].flat()) address.searchParams.append(key, one);
  }
  return address;
}

export async function ask(path, { query, ...options } = {}) {
  let answer;
  try {
    answer = await fetch(url(path, query), { cache: 'no-store', ...options });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Refused(0, 'the server cannot be reached');
  }
  if (!answer.ok) throw new Refused(answer.status, (await answer.text()).trim());
  return answer;
}

export const json = async (path, options) => (await ask(path, options)).json();

export const send = (path, value) => json(path, { method: 'POST', body: JSON.stringify(value), headers: { 'Content-Type': 'application/json' } });

/** Calls `work` now and every `ms` while the page is seen; never twice at a time. */
export function poll(work, ms) {
  let timer = 0;
  const turn = async () => {
    clearTimeout(timer);
    if (!document.hidden) await work();
    timer = setTimeout(turn, ms);
  };
  document.addEventListener('visibilitychange', () => { if (!document.hidden && timer) turn(); });
  return turn();
}

/** What a server or a camera says, as a sentence: without the part of the server that says it, and without numbers of errors. */
export function plain(text) {
  const said = String(text ?? '').trim().replace(/^(?:[a-z/]+: )+/, '').replace(/ \(os error \d+\)/g, '');
  const codecs = /^codecs not matched: (.*?) => /.exec(said);
  if (codecs) return `It cannot be shown this way: the stream has ${codecs[1].replace(/(video|audio):/g, '')}`;
  return said && said[0].toUpperCase() + said.slice(1);
}

/** `text · offline for 3 min, next try in 4 s`, from what `describe` says. */
export function whole({ state, text, since, retryAt }) {
  const left = retryAt && retryAt - Date.now();
  const more = [since && `${state === 'live' ? 'live' : 'offline'} for ${span(Date.now() - since)}`,
    retryAt && (left > 500 ? `next try in ${span(left)}` : 'next try now')].filter(Boolean).join(', ');
  return more ? `${text} · ${more}` : text;
}

/** Who watches: not what the server itself asks a stream for. */
export const viewersOf = (stream) => (stream.consumers ?? []).filter((one) => !['probe', 'transcode'].includes(one.format_name));

/** The state of a stream in a word and a sentence, from one entry of /api/streams. */
export function describe(stream) {
  const producers = stream.producers ?? [];
  if (!producers.length) return { state: 'idle', text: 'Waits for somebody who publishes', empty: true };
  const live = producers.find((producer) => producer.state === 'live');
  const viewers = viewersOf(stream).filter((one) => !['jpeg', 'image'].includes(one.format_name)).length;
  if (live) return { state: 'live', text: viewers ? `${viewers} ${viewers === 1 ? 'viewer' : 'viewers'}` : 'Nobody watches', since: live.since };
  const offline = producers.find((producer) => producer.state === 'offline') ?? producers.find((producer) => producer.error);
  const connecting = producers.find((producer) => producer.state === 'connecting');
  if (connecting) {
    return { state: 'connecting', text: offline?.error ? `Trying again: ${plain(offline.error)}` : 'Connecting', since: offline?.error && connecting.since };
  }
  if (offline) return { state: 'offline', text: plain(offline.error) || 'No answer', since: offline.since, retryAt: offline.retry_at };
  if (producers.some((producer) => producer.state === 'asleep')) return { state: 'idle', text: 'It sleeps until it is watched or wakes by itself' };
  return { state: 'idle', text: 'Starts when somebody watches' };
}
