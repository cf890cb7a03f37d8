// <patchbay-player src="NAME">: shows a stream by whatever this browser and the stream have in common.
//
// Attributes: src; mode ("webrtc,mse,hls,mjpeg": only these, in this order); base (address of the server, when the page
// is of another one); media ("video,audio,microphone": what is wanted; with a microphone it asks to speak at once); muted;
// controls="none"; background (goes on while the page is hidden). Events: `state`, whose detail is { state, mode, reason };
// `talk`, whose detail is { state, reason }: off, on or refused.
import { BUSY, MODES, order } from './modes.js';
import { h, icon } from './dom.js';

const ROOT = new URL('.', import.meta.url);
const HIDDEN_LIMIT = 5000; // ms that a hidden page goes on
const BLOCKED = 'patchbay-no-webrtc';
const BLOCKED_FOR = 600000; // ms for which WebRTC is tried last after its way was found closed

const blocked = {
  get is() { try { return Date.now() - Number(sessionStorage.getItem(BLOCKED) ?? 0) < BLOCKED_FOR; } catch { return false; } },
  set is(yes) { try { if (yes) sessionStorage.setItem(BLOCKED, String(Date.now())); else sessionStorage.removeItem(BLOCKED); } catch { /* for this time only */ } },
};

const STYLE = `
:host { display: block; position: relative; background: #000; color: #fff; aspect-ratio: 16 / 9; overflow: hidden; font: 15px/1.4 system-ui, sans-serif; contain: content; }
:host(:fullscreen) { width: 100%; height: 100%; border-radius: 0; }
::slotted(video), ::slotted(img), .poster { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.poster { opacity: .55; }
.message { position: absolute; inset: auto 0 50%; transform: translateY(50%); text-align: center; padding: 0 1.5rem; text-shadow: 0 1px 3px #000, 0 0 12px #000; pointer-events: none; }
.message:not([data-quiet])::before { content: ""; display: block; width: 28px; height: 28px; margin: 0 auto 12px; border-radius: 50%; border: 3px solid rgb(255 255 255 / .3); border-top-color: #fff; animation: turn 1s linear infinite; }
@keyframes turn { to { transform: rotate(1turn); } }
@media (prefers-reduced-motion: reduce) { .message::before { animation: none !important; } }
.bar { position: absolute; inset: auto 0 0; display: flex; gap: 4px; align-items: center; padding: 28px 10px 8px; background: linear-gradient(transparent, rgb(0 0 0 / .75)); opacity: 0; transition: opacity .15s; }
:host(:hover) .bar, .bar:focus-within, .bar[data-shown] { opacity: 1; }
@media (hover: none) { .bar { opacity: 1; } }
:host([controls=none]) .bar { display: none; }
button { all: unset; box-sizing: border-box; width: 40px; height: 40px; display: grid; place-items: center; border-radius: 8px; cursor: pointer; }
button:hover { background: rgb(255 255 255 / .18); }
button:focus-visible { outline: 2px solid #fff; outline-offset: -2px; }
button[aria-pressed=true] { background: #fff; color: #000; }
button[hidden], [hidden] { display: none !important; }
svg { width: 22px; height: 22px; }
.how { margin-right: auto; padding-left: 6px; font-size: 13px; font-variant-numeric: tabular-nums; text-shadow: 0 1px 2px #000; }
@media (prefers-reduced-motion: reduce) { .bar { transition: none; } }
`;

const SHAPES = {
  sound: 'M4 9v6h4l5 4V5L8 9zM16.500 8.500a5 5 0 0 1 0 7M19 6a9 9 0 0 1 0 12',
  muted: 'M4 9v6h4l5 4V5L8 9zM17 9.500l5 5M22 9.500l-5 5',
  microphone: 'M12 3a3 3 0 0 0-3 3v5a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3M5.500 11a6.500 6.500 0 0 0 13 0M12 17.500V21',
  full: 'M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5',
};

function shape(name) {
  const svg = icon('camera');
  if (SHAPES[name]) svg.firstChild.setAttribute('d', SHAPES[name]);
  return svg;
}

const wait = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal.addEventListener('abort', () => { clearTimeout(timer); resolve(); });
});

/** The codecs that come in and whether sound can go out, from an entry of /api/streams. */
export function tracks(stream) {
  const medias = (stream?.producers ?? []).flatMap((producer) => producer.medias ?? []);
  const codecs = medias.filter((media) => media.includes('recvonly')).flatMap((media) => media.split(', ').slice(2)).map((codec) => codec.split('/')[0].toUpperCase());
  return { codecs, talks: medias.some((media) => /^audio, send(only|recv)/.test(media)) };
}

export class PatchbayPlayer extends HTMLElement {
  static observedAttributes = ['src', 'mode', 'muted', 'media', 'base'];

  constructor() {
    super();
    this.state = 'idle';
    this.modeName = null;
    this.tried = [];
    const style = new CSSStyleSheet();
    style.replaceSync(STYLE);
    const shadow = this.attachShadow({ mode: 'open' });
    shadow.adoptedStyleSheets = [style];
    this.poster = h('img', { class: 'poster', alt: '', hidden: true });
    this.poster.onload = () => { this.poster.hidden = this.state === 'playing'; };
    this.poster.onerror = () => { this.poster.hidden = true; };
    const button = (name, label, onclick) => {
      const made = h('button', { type: 'button', 'aria-label': label, title: label, onclick }, shape(name));
      return made;
    };
    this.how = h('span', { class: 'how' });
    this.soundButton = button('muted', 'Sound on', () => { this.muted = !this.muted; });
    this.talkButton = button('microphone', 'Talk', () => this.talk(!this.stream));
    this.talkButton.hidden = true;
    this.bar = h('div', { class: 'bar', part: 'bar' }, this.how, this.talkButton, this.soundButton,
      button('camera', 'Save a picture', () => this.snapshot()), button('full', 'Full screen', () => this.fullscreen()));
    this.message = h('div', { class: 'message' }, h('slot', { name: 'status' }));
    shadow.append(this.poster, h('slot'), this.message, this.bar);
  }

  connectedCallback() {
    this.style.setProperty('display', this.style.display || '');
    if (!this.status) {
      this.status = h('span', { slot: 'status', role: 'status' });
      this.video = this.newVideo();
      this.append(this.video, this.status);
      this.isMuted = this.hasAttribute('muted') || !navigator.userActivation?.hasBeenActive;
    }
    if (!this.hasAttribute('role')) this.setAttribute('role', 'group');
    this.onhidden = () => {
      clearTimeout(this.hideTimer);
      if (document.hidden && !this.hasAttribute('background')) this.hideTimer = setTimeout(() => this.end(), HIDDEN_LIMIT);
      else if (!document.hidden && !this.run) this.begin();
    };
    document.addEventListener('visibilitychange', this.onhidden);
    // A page that is left says goodbye: the server need not wait for its packets.
    this.onleave = () => { this.quiet(); this.end(); };
    this.onreturn = ({ persisted }) => { if (persisted && !this.run) this.begin(); };
    addEventListener('pagehide', this.onleave);
    addEventListener('pageshow', this.onreturn);
    this.timer = setInterval(() => this.tell(), 1000);
    this.begin();
    if (this.wanted().has('microphone')) this.talk(true);
  }

  /** What of video, audio and microphone is wanted. */
  wanted() {
    const given = (this.getAttribute('media') ?? '').split(/[\s,+]+/).filter(Boolean);
    return new Set(given.length ? given : ['video', 'audio']);
  }

  disconnectedCallback() {
    document.removeEventListener('visibilitychange', this.onhidden);
    removeEventListener('pagehide', this.onleave);
    removeEventListener('pageshow', this.onreturn);
    clearInterval(this.timer);
    clearTimeout(this.hideTimer);
    this.quiet();
    this.end();
  }

  attributeChangedCallback(name, before, now) {
    if (before === now || !this.isConnected || !this.status) return;
    if (name === 'muted') { this.muted = now !== null; return; }
    // Another stream does not begin with a picture of this one.
    if (name === 'src') { this.end(); this.stale = false; this.poster.hidden = true; }
    this.begin();
  }

  get src() { return this.getAttribute('src'); }
  set src(value) { if (value) this.setAttribute('src', value); else this.removeAttribute('src'); }
  get mode() { return this.getAttribute('mode') ?? ''; }
  set mode(value) { this.setAttribute('mode', value); }
  get muted() { return this.isMuted; }
  set muted(value) {
    this.isMuted = Boolean(value);
    if (this.video) this.video.muted = this.isMuted;
    this.tell();
  }

  newVideo() {
    const video = h('video', { autoplay: true, playsinline: true });
    video.muted = this.isMuted ?? true;
    video.addEventListener('volumechange', () => { if (video === this.video && video.muted !== this.isMuted) { this.isMuted = video.muted; this.tell(); } });
    return video;
  }

  url(path, query = {}) {
    const base = this.getAttribute('base');
    const address = new URL(path, base ? new URL(base.endsWith('/') ? base : `${base}/`, location.href) : ROOT);
    for (const [key, value] of Object.entries({ src: this.src, ...query })) address.searchParams.set(key, value);
    return address;
  }

  begin() {
    this.keep();
    this.end();
    if (!this.src) { this.say('No stream is named.', true); return; }
    this.setAttribute('aria-label', `Stream ${this.src}`);
    this.run = new AbortController();
    if (!this.stale) this.poster.src = this.url('api/frame.jpeg', { cache: '1m' });
    this.loop(this.run.signal);
  }

  end() {
    this.run?.abort();
    this.run = null;
    this.playing?.close();
    this.playing = null;
    this.go('idle');
  }

  /** Tries, plays, and begins anew for as long as the element is there. */
  async loop(signal) {
    let pause = 0;
    while (!signal.aborted) {
      if (pause) await wait(pause, signal);
      pause = 5000;
      if (signal.aborted) return;
      this.go('connecting');
      if (!this.status.textContent) this.say('Waiting for the camera');
      const names = await this.plan(signal);
      if (signal.aborted) return;
      this.tried = [];
      for (const name of names) {
        if (signal.aborted) return;
        const ended = await this.attempt(name, signal);
        if (signal.aborted) return;
        if (ended.played) {
          this.say(`${ended.reason}, trying again`);
          pause = ended.soon ? 100 : 2000;
          break;
        }
        if (ended.reason?.startsWith(BUSY)) {
          this.mute(ended.reason.slice(BUSY.length));
          pause = 100;
          break;
        }
        this.tried.push({ mode: name, reason: ended.reason });
        if (/^no (way|answer)/.test(ended.reason)) blocked.is = true;
        if (ended.soon) { pause = 100; break; }
        const first = this.tried[0].reason.replace(/^([a-z/]+: )+/, '');
        this.say(`${first[0].toUpperCase()}${first.slice(1)}`);
      }
      if (!names.length) this.say('This browser has no way to show this stream.');
    }
  }

  /** The modes to try. */
  async plan(signal) {
    const given = this.mode.split(',').map((name) => name.trim()).filter((name) => name in MODES && MODES[name].able());
    let known = null, refused = false;
    try {
      // Starts the camera, which is wanted anyway, and tells its tracks.
      const answer = await fetch(this.url('api/streams', { video: 'all', audio: 'all', microphone: '' }), { signal, cache: 'no-store' });
      if (answer.ok) known = tracks(await answer.json());
      else {
        refused = true;
        const reason = (await answer.text()).trim().replace(/^streams: /, '');
        this.say(answer.status === 404 ? 'There is no such stream.' : reason || 'Waiting for the camera');
      }
    } catch { if (!signal.aborted) this.say('No connection to the server'); }
    // A camera that is away for a moment keeps its button.
    if (known) this.talkButton.hidden = !(known.talks && MODES.webrtc.able());
    if (this.stream) return ['webrtc'];
    // A camera that is not there, or not yet: one way is enough to wait for it.
    if (refused) return given.length ? given.slice(0, 1) : ['mse', 'hls'].filter((name) => MODES[name].able()).slice(0, 1);
    const names = given.length ? given : order(known?.codecs, await this.transcodes(signal));
    return blocked.is ? [...names.filter((name) => name !== 'webrtc'), ...names.filter((name) => name === 'webrtc')] : names;
  }

  /** Whether the server transcodes sound. */
  async transcodes(signal) {
    this.schemes ??= await fetch(this.url('api/schemes'), { signal }).then((answer) => (answer.ok ? answer.json() : []), () => []);
    return this.schemes.includes('transcode');
  }

  /** Plays by one mode until that ends. What was seen before stays until there is a new picture. */
  async attempt(name, signal) {
    const Kind = MODES[name];
    const fresh = this.playing || this.state === 'playing' || this.stale ? this.newVideo() : this.video;
    const image = h('img', { alt: '', hidden: true });
    if (fresh !== this.video) this.insertBefore(fresh, this.video);
    fresh.style.visibility = this.stale ? 'hidden' : '';
    this.append(image);
    const mode = new Kind({ url: (path, query) => this.url(path, query), video: fresh, image, microphone: this.stream, media: this.wanted() });
    mode.silenced = (reason) => this.mute(reason);
    const stop = () => mode.close();
    signal.addEventListener('abort', stop);
    let lost;
    const over = new Promise((done) => { lost = done; });
    // Before the mode lets go of its picture.
    mode.lost = (reason, soon) => { if (this.playing === mode) this.keep(); lost({ played: true, reason, soon }); };
    signal.addEventListener('abort', () => lost({ played: true, reason: 'stopped' }));
    try {
      await mode.start();
    } catch (error) {
      mode.close();
      image.remove();
      if (fresh !== this.video) fresh.remove();
      else { const clean = this.newVideo(); fresh.replaceWith(clean); this.video = clean; }
      return { played: false, reason: error.message, soon: error.soon };
    }
    if (signal.aborted) { image.remove(); return { played: true, reason: 'stopped' }; }
    if (fresh !== this.video) { this.video.remove(); this.video = fresh; }
    this.staleImage?.remove();
    this.staleImage = null;
    fresh.style.visibility = '';
    const still = image.src !== '' && image.hasAttribute('src');
    image.hidden = !still;
    fresh.hidden = still;
    this.playing = mode;
    this.modeName = name;
    this.stale = false;
    this.shown = { video: fresh, image };
    if (name === 'webrtc') blocked.is = false;
    this.go('playing');
    if (!this.message.hasAttribute('data-quiet')) this.say('');
    if (this.stream) this.spoken('on');
    const ended = await over;
    if (!signal.aborted) this.keep();
    image.remove();
    if (!signal.aborted) this.playing = null;
    return ended;
  }

  /** Keeps the last picture, so that there is none that is black while another way is tried. */
  keep() {
    if (!this.playing || !this.shown) return;
    const { video, image } = this.shown;
    this.shown = null;
    const still = video.hidden;
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = still ? [image.naturalWidth, image.naturalHeight] : [video.videoWidth, video.videoHeight];
    if (canvas.width) try {
      canvas.getContext('2d').drawImage(still ? image : video, 0, 0);
      this.poster.src = canvas.toDataURL('image/jpeg', 0.8);
    } catch { /* pictures of another site are shown, not read: the one from before stays */ }
    this.poster.hidden = false;
    this.stale = true;
    this.go('connecting');
  }

  go(state) {
    this.state = state;
    if (state === 'playing') this.poster.hidden = true;
    if (state !== 'playing') this.modeName = null;
    this.dispatchEvent(new CustomEvent('state', { detail: { state, mode: this.modeName, reason: this.status?.textContent ?? '' } }));
    this.tell();
  }

  say(text, quiet = false) {
    if (this.status && this.status.textContent !== text) this.status.textContent = text;
    this.message.hidden = !text;
    this.message.toggleAttribute('data-quiet', quiet);
  }

  /** What is used and how far behind live it is. */
  async tell() {
    const behind = this.playing ? await this.playing.behind().catch(() => null) : null;
    this.behind = behind;
    const title = this.modeName ? MODES[this.modeName].title : '';
    this.how.textContent = behind === null || behind === undefined ? title : `${title} · ${behind.toFixed(1)} s behind`;
    const label = this.isMuted ? 'Sound on' : 'Sound off';
    if (this.soundButton.title !== label) {
      this.soundButton.title = label;
      this.soundButton.setAttribute('aria-label', label);
      this.soundButton.replaceChildren(shape(this.isMuted ? 'muted' : 'sound'));
    }
  }

  /** Speaks to the camera, or stops. */
  async talk(on) {
    if (on) {
      if (!navigator.mediaDevices) { this.note('Browsers give the microphone to pages over HTTPS, or on this machine, only.'); return; }
      try {
        this.stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: true } });
      } catch (error) {
        this.note(`No microphone: ${error.message}`);
        return;
      }
      if (!this.isConnected) { this.quiet(); return; }
    } else {
      this.quiet();
      this.spoken('off');
    }
    this.begin();
  }

  /** The camera is not spoken to (any more), and why: it is still seen. */
  mute(reason) {
    this.quiet();
    this.spoken('refused', reason);
    this.note(`${reason[0].toUpperCase()}${reason.slice(1)}`);
  }

  spoken(state, reason = '') {
    this.talkState = state;
    this.talkButton.setAttribute('aria-pressed', String(state === 'on'));
    const label = state === 'on' ? 'Stop talking' : 'Talk';
    this.talkButton.setAttribute('aria-label', label);
    this.talkButton.title = label;
    this.dispatchEvent(new CustomEvent('talk', { detail: { state, reason } }));
  }

  /** Says something for a while, over whatever is shown. */
  note(text) {
    this.say(text, true);
    clearTimeout(this.noteTimer);
    this.noteTimer = setTimeout(() => { if (this.status.textContent === text) this.say(''); }, 6000);
  }

  quiet() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
  }

  /** Saves the shown picture in its full size. */
  async snapshot() {
    const shown = this.video.videoWidth && !this.video.hidden ? this.video : this.querySelector(':scope > img');
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [shown?.videoWidth || shown?.naturalWidth || 0, shown?.videoHeight || shown?.naturalHeight || 0];
    let address = this.url('api/frame.jpeg').href;
    if (canvas.width) {
      try {
        canvas.getContext('2d').drawImage(shown, 0, 0);
        const blob = await new Promise((done) => canvas.toBlob(done, 'image/jpeg', 0.92));
        if (blob) address = URL.createObjectURL(blob);
      } catch { /* a picture of another site: the server's own is taken */ }
    }
    const name = `${this.src.replace(/[^\w.-]+/g, '_')}-${new Date().toISOString().slice(0, 19).replace(/:/g, '-')}.jpg`;
    h('a', { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  fullscreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (this.requestFullscreen) this.requestFullscreen();
    else this.video.webkitEnterFullscreen?.();
  }
}

if (!customElements.get('patchbay-player')) customElements.define('patchbay-player', PatchbayPlayer);
