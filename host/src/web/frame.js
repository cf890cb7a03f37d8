// stream.html?src=A[&src=B][&mode=][&width=][&background=false], webrtc.html?src= and hls.html?src=: nothing but players;
// webrtc.html?dst=: what this browser sends.
import './video-stream.js';
import { h } from './dom.js';

const query = new URLSearchParams(location.search);
const main = document.querySelector('main');
const page = location.pathname.split('/').at(-1);
const only = { 'webrtc.html': 'webrtc', 'hls.html': 'hls' }[page] ?? null;
const target = page === 'webrtc.html' ? query.get('dst') : null;
const width = query.get('width');
const sources = query.getAll('src');
for (const src of sources) {
  const player = h('patchbay-player', {
    src, mode: query.get('mode') ?? only, media: query.get('media'),
    label: sources.length > 1 && src, muted: sources.length > 1,
    background: query.get('background') !== null && query.get('background') !== 'false',
  });
  if (width) player.style.width = /^\d+$/.test(width) ? `${width}px` : width;
  main.append(player);
}
if (target !== null) (await import('./publish.js')).publish(main, target, query.get('media'));
main.classList.toggle('many', sources.length > 1);
main.classList.toggle('sized', Boolean(width));
// As large as all of them fit into the window.
const fit = () => {
  const size = (columns) => Math.min(innerWidth / columns, innerHeight / Math.ceil(sources.length / columns) * 16 / 9);
  const most = Math.max(1, Math.floor(innerWidth / 280));
  const best = sources.map((_, at) => at + 1).filter((columns) => columns <= most).reduce((a, b) => (size(b) > size(a) ? b : a), 1);
  main.style.setProperty('--columns', innerWidth < 600 ? 1 : best);
};
if (sources.length > 1 && !width) { fit(); addEventListener('resize', fit); }
if (sources.length === 1) document.title = `${sources[0]} · Patchbay`;
if (!sources.length && target === null) main.append(h('p', { class: 'empty' }, `Name a stream: ${page}?src=NAME`));
