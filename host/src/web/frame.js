// stream.html?src=A[&src=B][&mode=][&width=][&background=false] and webrtc.html?src=: nothing but players.
import './patchbay-player.js';
import { h } from './dom.js';

const query = new URLSearchParams(location.search);
const main = document.querySelector('main');
const only = location.pathname.endsWith('webrtc.html') ? 'webrtc' : null;
const width = query.get('width');
const sources = query.getAll('src');
for (const src of sources) {
  const player = h('patchbay-player', {
    src, mode: query.get('mode') ?? only, media: query.get('media'),
    background: query.get('background') !== null && query.get('background') !== 'false',
  });
  if (width) player.style.width = /^\d+$/.test(width) ? `${width}px` : width;
  main.append(player);
}
main.classList.toggle('many', sources.length > 1);
if (sources.length === 1) document.title = `${sources[0]} · Patchbay`;
if (!sources.length) main.append(h('p', { class: 'empty' }, 'Name a stream: stream.html?src=NAME'));
