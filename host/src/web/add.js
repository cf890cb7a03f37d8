// A new stream: its address is tried before it is kept.
import { ask, json } from './api.js';
import { h, icon, say, toast } from './dom.js';

const EXAMPLES = {
  rtsp: '192.0.2.10/stream1', rtsps: '192.0.2.10/stream1', rtspx: '192.0.2.10/stream1', http: '192.0.2.10/video.mjpeg', https: '192.0.2.10/index.m3u8',
  rtmp: '192.0.2.10/live/camera', webrtc: 'https://192.0.2.10/whep/camera', file: '/videos/clip.mp4', tcp: '192.0.2.10:5000', demo: '',
};
const INSECURE = new Set(['exec', 'echo', 'expr']);
const main = document.querySelector('main');
const scheme = h('select', { id: 'scheme', onchange: () => shape() });
const address = h('input', { id: 'address', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', 'aria-describedby': 'source' });
const user = h('input', { id: 'user', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false' });
const password = h('input', { id: 'password', type: 'password', autocomplete: 'new-password' });
const name = h('input', { id: 'name', required: true, autocomplete: 'off', pattern: '[^?#]+' });
const source = h('small', { id: 'source', class: 'mono' });
const result = h('div', { role: 'status' });
const go = h('button', { type: 'submit' }, 'Try and add');
const login = h('div', { class: 'form' }, h('div', { class: 'field' }, h('label', { for: 'user' }, 'User (if the camera has one)'), user), h('div', { class: 'field' }, h('label', { for: 'password' }, 'Password'), password));
const form = h('form', { class: 'form panel' },
  h('div', { class: 'field' }, h('label', { for: 'name' }, 'Name'), name),
  h('div', { class: 'field' }, h('label', { for: 'scheme' }, 'Kind of source'), scheme),
  h('div', { class: 'field' }, h('label', { for: 'address' }, 'Address'), address, source),
  login, h('div', {}, go), result);
main.append(h('div', { class: 'bar' }, h('a', { class: 'button quiet square', href: 'index.html', 'aria-label': 'All streams' }, icon('back')), h('h1', {}, 'Add a stream')), form);

/** The source as it is written into the configuration. */
function whole() {
  const kind = scheme.value;
  const text = address.value.trim();
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text) && kind !== 'webrtc') return withLogin(text);
  if (['demo', 'file', 'webrtc'].includes(kind)) return `${kind}:${text}`;
  return withLogin(`${kind}://${text}`);
}

function withLogin(text) {
  if (!user.value || /:\/\/[^/]*@/.test(text)) return text;
  return text.replace('://', `://${encodeURIComponent(user.value)}:${encodeURIComponent(password.value)}@`);
}

function shape() {
  login.hidden = ['demo', 'file'].includes(scheme.value);
  address.placeholder = EXAMPLES[scheme.value] ?? '';
  address.required = scheme.value !== 'demo';
  show();
}

const show = () => say(source, whole().replace(/:\/\/[^@/]*@/, '://***@'));
address.addEventListener('input', () => {
  // A whole address that is pasted tells its kind.
  const pasted = /^([a-z][a-z0-9+.-]*):/i.exec(address.value.trim())?.[1].toLowerCase();
  if (pasted && [...scheme.options].some((option) => option.value === pasted) && scheme.value !== pasted && address.value.includes('://')) {
    scheme.value = pasted;
    shape();
  }
  show();
});
for (const field of [user, password]) field.addEventListener('input', show);

const remove = () => ask('api/streams', { method: 'DELETE', query: { src: name.value.trim() } });
const open = () => { location.href = `watch.html?${new URLSearchParams({ src: name.value.trim() })}`; };

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const wanted = name.value.trim();
  go.disabled = true;
  result.replaceChildren(h('p', { class: 'why' }, 'Trying…'));
  try {
    const streams = await json('api/streams');
    if (wanted in streams) throw new Error(`There is a stream ${wanted} already: take another name.`);
    await ask('api/streams', { method: 'PUT', query: { name: wanted, src: whole() } });
    try {
      await json('api/streams', { query: { src: wanted, video: 'all', audio: 'all' } });
      open();
    } catch (error) {
      result.replaceChildren(
        h('p', { class: 'banner' }, `No picture: ${error.message.replace(/^streams: /, '')}`),
        h('div', { class: 'tools' },
          h('button', { type: 'button', onclick: async () => { await remove().catch((refused) => toast(refused.message, true)); result.replaceChildren(); address.focus(); } }, 'Change it'),
          h('button', { type: 'button', class: 'quiet', onclick: open }, 'Keep it all the same')));
    }
  } catch (error) {
    result.replaceChildren(h('p', { class: 'banner' }, error.message));
  } finally { go.disabled = false; }
});

try {
  const schemes = (await json('api/schemes')).filter((one) => !INSECURE.has(one)).sort();
  scheme.append(...schemes.map((one) => h('option', { value: one }, one)));
  if (schemes.includes('rtsp')) scheme.value = 'rtsp';
} catch (error) { toast(error.message, true); }
shape();
name.focus();
