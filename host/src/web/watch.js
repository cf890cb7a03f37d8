// One stream: the player, what comes in, who watches, and addresses for other players.
import './patchbay-player.js';
import { MODES } from './modes.js';
import { ask, describe, json, plain, poll, url, viewersOf, whole } from './api.js';
import { h, icon, rate, say, span, toast } from './dom.js';

const name = new URLSearchParams(location.search).get('src') ?? '';
const main = document.querySelector('main');
document.title = `${name} · Patchbay`;

const player = h('patchbay-player', { src: name });
const state = h('span', { class: 'state' });
const why = h('p', { class: 'why' });
const publishing = h('a', { class: 'button', href: `webrtc.html?${new URLSearchParams({ dst: name })}`, hidden: true }, 'Publish from this browser');
const facts = h('dl', { class: 'facts' });
const viewers = h('ul', { class: 'links' });
const viewersHead = h('h2', {}, 'Viewers');
const using = h('p', { class: 'using' });
const mode = h('select', { id: 'mode', onchange: () => { if (mode.value) player.setAttribute('mode', mode.value); else player.removeAttribute('mode'); } },
  h('option', { value: '' }, 'Whatever is best'),
  ...['webrtc', 'webrtc/tcp', 'mse', 'hls', 'mp4', 'mjpeg', 'jpeg'].map((key) => h('option', { value: key, disabled: !MODES[key].able() }, MODES[key].title)));
const remove = h('button', { type: 'button', class: 'bad', onclick: async () => {
  if (!confirm(`Delete the stream ${name}? Its line in the configuration goes with it.`)) return;
  try {
    await ask('api/streams', { method: 'DELETE', query: { src: name } });
    location.href = 'index.html';
  } catch (error) { toast(error.message, true); }
} }, 'Delete the stream');

const links = h('ul', { class: 'links' });
const link = (label, address) => links.append(h('li', {}, h('span', {}, label), h('a', { href: address }, String(address))));
async function addresses() {
  let info = {};
  try { info = await json('api'); } catch { /* the ones over HTTP will do */ }
  const listen = info.rtsp?.listen;
  if (listen) link('RTSP', `rtsp://${location.hostname}:${listen.slice(listen.lastIndexOf(':') + 1)}/${encodeURIComponent(name)}`);
  for (const [label, path, query] of [['Player only', 'stream.html', {}], ['WebRTC', 'webrtc.html', {}], ['HLS', 'api/stream.m3u8', {}], ['MP4', 'api/stream.mp4', {}], ['Picture', 'api/frame.jpeg', {}]]) {
    link(label, url(path, { src: name, ...query }));
  }
  link('Publish from this browser', url('webrtc.html', { dst: name }));
}

main.append(
  h('div', { class: 'bar' }, h('a', { class: 'button quiet square', href: 'index.html', 'aria-label': 'All streams' }, icon('back')), h('h1', {}, name), state),
  h('div', { class: 'watch' },
    h('div', { class: 'seen' }, player),
    h('div', { class: 'side' },
      h('section', { class: 'panel' }, h('h2', {}, 'Now'), why, publishing, facts),
      h('section', { class: 'panel' }, h('h2', {}, h('label', { for: 'mode' }, 'Shown by')), mode, using)),
    h('div', { class: 'below' },
      h('section', { class: 'panel' }, viewersHead, viewers),
      h('section', { class: 'panel' }, h('h2', {}, 'Addresses'), links)),
    h('div', { class: 'act' }, h('a', { class: 'button quiet', href: `config.html?${new URLSearchParams({ stream: name })}` }, 'Change or rename'), remove)));
addresses();

player.addEventListener('state', () => {
  const parts = player.tried.map(({ mode: key, reason }) => `${MODES[key].title}: ${plain(reason)}`);
  if (player.modeName) parts.unshift(`${MODES[player.modeName].title} plays.`);
  say(using, parts.join('\n'));
});

/** What a player would find there. */
function missing() {
  player.remove();
  main.querySelector('.watch')?.replaceWith(h('div', { class: 'empty' }, icon('camera'), h('h2', {}, name ? 'There is no such stream' : 'No stream is named'),
    h('p', {}, 'It may have been renamed or deleted.'), h('a', { class: 'button', href: 'index.html' }, 'All streams')));
  state.hidden = true;
}

/** Codecs as people call them. */
const CODECS = { h264: 'H.264', hevc: 'H.265', h265: 'H.265', av1: 'AV1', vp8: 'VP8', vp9: 'VP9', mjpeg: 'JPEG', rawvideo: 'raw pictures', aac: 'AAC', opus: 'Opus', mp3: 'MP3', mp2: 'MP2', flac: 'FLAC',
  pcm_alaw: 'G.711 A-law', pcm_mulaw: 'G.711 µ-law', pcm_s16be: 'PCM', pcm_s16le: 'PCM', adpcm_g722: 'G.722' };

let before = null;
function fact(rows) {
  const wanted = rows.flat().join('\n');
  if (facts.dataset.is === wanted) return;
  facts.dataset.is = wanted;
  facts.replaceChildren(...rows.flatMap(([key, value]) => [h('dt', {}, key), h('dd', {}, value)]));
}

const talks = (stream) => (stream.producers ?? []).some((producer) => (producer.medias ?? []).some((media) => /^audio, send/.test(media)));

poll(async () => {
  let stream;
  try { stream = await json('api/streams', { query: { src: name } }); } catch (error) {
    if (error.status === 404) missing();
    else say(why, plain(error.message));
    return;
  }
  const now = performance.now();
  const is = describe(stream);
  main.dataset.state = is.state;
  if (!player.isConnected) location.reload();
  say(state, is.state[0].toUpperCase() + is.state.slice(1));
  say(why, whole(is));
  publishing.hidden = !is.empty;
  const rows = [];
  const seconds = (now - (before?.at ?? now)) / 1000;
  const counted = new Map();
  for (const producer of stream.producers ?? []) {
    // What the server adds for players that take nothing else.
    const own = /^transcode:/.test(producer.url);
    if (!own) rows.push(['Source', producer.url === 'external' ? 'Somebody publishes' : producer.url]);
    if (!own && producer.state !== 'live' && stream.producers.length > 1) {
      rows.push(['State', producer.state === 'idle' && is.state === 'live' ? 'Not needed now' : whole(describe({ producers: [producer] }))]);
    }
    if (producer.remote_addr) rows.push(['Address', `${producer.remote_addr} (${producer.protocol ?? producer.format_name})`]);
    for (const track of producer.receivers ?? []) {
      counted.set(track.id, track);
      const old = before?.tracks.get(track.id);
      const { codec_name: codec, codec_type: kind, sample_rate: hertz, channels, width, height } = track.codec;
      const parts = [CODECS[codec.toLowerCase()] ?? codec.toUpperCase(), width && `${width} × ${height}`, hertz && `${hertz / 1000} kHz`, channels && (channels === 1 ? 'mono' : channels === 2 ? 'stereo' : `${channels} channels`)];
      if (old && seconds > 0 && track.bytes >= old.bytes) {
        parts.push(rate((track.bytes - old.bytes) * 8 / seconds));
        if (kind === 'video') parts.push(`${Math.round((track.packets - old.packets) / seconds)} fps`);
      }
      rows.push([own ? 'Transcoded' : kind === 'video' ? 'Picture' : kind === 'audio' ? 'Sound' : kind, parts.filter(Boolean).join(', ')]);
    }
  }
  if (talks(stream)) rows.push(['Two-way', 'It can be spoken to']);
  if (player.behind !== null && player.behind !== undefined) rows.push(['Behind live', player.behind < 0.1 ? 'under 0.1 s' : `${player.behind.toFixed(1)} s`]);
  fact(rows);
  const consumers = viewersOf(stream);
  say(viewersHead, consumers.length ? `Viewers: ${consumers.length}` : 'Viewers');
  const sent = new Map(consumers.map((one) => [one.id, one.bytes_send ?? 0]));
  const lines = consumers.map((one) => {
    const old = before?.sent.get(one.id);
    const bits = old !== undefined && seconds > 0 && sent.get(one.id) >= old ? (sent.get(one.id) - old) * 8 / seconds : 0;
    const how = [one.format_name, one.protocol].filter(Boolean).join(' over ');
    return [how, [one.remote_addr, one.since && `for ${span(Date.now() - one.since)}`, bits && rate(bits), one.drops && `${one.drops} dropped`].filter(Boolean).join(' · ')];
  });
  before = { at: now, tracks: counted, sent };
  if (!lines.length) lines.push(['Nobody', '']);
  const wanted = lines.flat().join('\n');
  if (viewers.dataset.is !== wanted) {
    viewers.dataset.is = wanted;
    viewers.replaceChildren(...lines.map(([how, about]) => h('li', {}, how, h('span', { class: 'about' }, about))));
  }
}, 2000);
