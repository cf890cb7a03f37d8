// Lists the streams and plays one by Media Source Extensions over /api/ws.
const CODECS = ['avc1.640029', 'avc1.64002A', 'avc1.640033', 'hvc1.1.6.L153.B0', 'mp4a.40.2', 'mp4a.40.5', 'flac', 'opus'];
const video = document.getElementById('video');
const status = document.getElementById('status');
let player = null;

class Player {
  constructor(name) {
    this.name = name;
    this.queue = [];
    this.closed = false;
    this.connect();
  }

  connect() {
    const url = new URL(`api/ws?src=${encodeURIComponent(this.name)}`, location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    this.queue = [];
    this.buffer = null;
    this.source = new (window.ManagedMediaSource || MediaSource)();
    if (window.ManagedMediaSource) video.disableRemotePlayback = true;
    video.src = URL.createObjectURL(this.source);
    const opened = new Promise((done) => this.source.addEventListener('sourceopen', done, { once: true }));
    this.socket = new WebSocket(url);
    this.socket.binaryType = 'arraybuffer';
    this.socket.onopen = () => {
      const known = CODECS.filter((codec) => MediaSource.isTypeSupported(`video/mp4; codecs="${codec}"`));
      this.socket.send(JSON.stringify({ type: 'mse', value: known.join() }));
      if (!status.textContent.includes('not matched')) status.textContent = `${this.name}: waiting for the camera`;
    };
    this.socket.onmessage = async (event) => {
      if (typeof event.data === 'string') {
        const message = JSON.parse(event.data);
        if (message.type === 'error') this.failed(message.value);
        if (message.type === 'mse') { this.mime = message.value; await opened; this.open(message.value); }
      } else {
        this.queue.push(event.data);
        this.append();
      }
    };
    this.socket.onclose = (event) => {
      if (this.closed) return;
      // 1012: the stream has other codecs now.
      const changed = event.code === 1012;
      status.textContent = `${this.name}: ${changed ? event.reason : 'connection lost'}, trying again`;
      setTimeout(() => this.closed || this.connect(), changed ? 100 : 2000);
    };
  }

  // The stream has nothing for this browser now: say why, and look again.
  failed(reason) {
    status.textContent = `${this.name}: ${reason}`;
    if (this.closed) return;
    this.socket.onclose = null;
    this.socket.close();
    setTimeout(() => this.closed || this.connect(), 5000);
  }

  open(mime) {
    if (this.closed || this.source.readyState !== 'open') return;
    if (!MediaSource.isTypeSupported(mime)) { status.textContent = `${this.name}: this browser cannot play ${mime}`; return; }
    this.buffer = this.source.addSourceBuffer(mime);
    this.buffer.mode = 'segments';
    this.buffer.addEventListener('updateend', () => this.append());
    status.textContent = `${this.name}: ${mime}`;
    video.play().catch(() => {});
    this.append();
  }

  append() {
    const buffer = this.buffer;
    if (!buffer || buffer.updating || this.source.readyState !== 'open') return;
    const ranges = buffer.buffered;
    if (ranges.length) {
      const start = ranges.start(ranges.length - 1);
      const end = ranges.end(ranges.length - 1);
      // Stay near the live edge, and over gaps.
      if (video.currentTime < start || end - video.currentTime > 5) video.currentTime = Math.max(start, end - 0.5);
      else video.playbackRate = end - video.currentTime > 1 ? 1.1 : 1;
      if (video.currentTime - ranges.start(0) > 30) { buffer.remove(0, video.currentTime - 15); return; }
    }
    if (this.queue.length) {
      const size = this.queue.reduce((sum, part) => sum + part.byteLength, 0);
      const all = new Uint8Array(size);
      this.queue.reduce((at, part) => { all.set(new Uint8Array(part), at); return at + part.byteLength; }, 0);
      this.queue = [];
      buffer.appendBuffer(all);
    }
  }

  close() {
    this.closed = true;
    this.socket.close();
  }
}

function play(name) {
  if (player) player.close();
  player = new Player(name);
  for (const button of document.querySelectorAll('button.stream')) button.setAttribute('aria-pressed', button.dataset.name === name);
}

function describe(stream) {
  const producers = stream.producers || [];
  const live = producers.find((producer) => producer.state === 'live');
  if (live) return ['live', `live, ${(live.medias || []).join('; ')}`];
  const offline = producers.find((producer) => producer.error);
  if (offline) {
    const wait = offline.retry_at ? `, next try in ${Math.max(0, Math.round((offline.retry_at - Date.now()) / 1000))} s` : '';
    return ['offline', `offline: ${offline.error}${wait}`];
  }
  return ['idle', producers.length ? 'idle' : 'no source'];
}

async function refresh() {
  const list = document.getElementById('streams');
  if (!list) return;
  const streams = await (await fetch('api/streams')).json();
  for (const name of Object.keys(streams)) {
    let button = [...list.querySelectorAll('button')].find((b) => b.dataset.name === name);
    if (!button) {
      button = document.createElement('button');
      button.className = 'stream';
      button.type = 'button';
      button.dataset.name = name;
      button.append(document.createElement('b'), document.createElement('small'));
      button.firstChild.textContent = name;
      button.onclick = () => play(name);
      const item = document.createElement('li');
      item.append(button);
      list.append(item);
    }
    const [state, words] = describe(streams[name]);
    button.lastChild.className = state;
    button.lastChild.textContent = words;
  }
  for (const button of list.querySelectorAll('button')) if (!(button.dataset.name in streams)) button.parentNode.remove();
}

const version = document.getElementById('version');
if (version) fetch('api').then((answer) => answer.json()).then((info) => { version.textContent = info.version; });
const wanted = new URLSearchParams(location.search).get('src');
await refresh().catch(() => {});
const first = document.querySelector('button.stream');
if (wanted || first) play(wanted || first.dataset.name);
setInterval(() => refresh().catch(() => {}), 2000);
