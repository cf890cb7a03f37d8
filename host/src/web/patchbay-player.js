// <patchbay-player src="NAME">: shows a stream by whatever this browser and the stream have in common.
//
// Attributes: src; mode ("webrtc,mse,hls,mjpeg": only these, in this order); base (address of the server, when the page
// is of another one); media ("video,audio,microphone": what is wanted; with a microphone it asks to speak at once); muted;
// label (a text over the picture); controls="none"; background (goes on while the page is hidden). Events: `state`, whose detail is { state, mode, reason };
// `talk`, whose detail is { state, reason }: off, on or refused.
import { Guard } from './guard.js';
import { BUSY, MODES, order } from './modes.js';
import { STYLE, shape } from './player-look.js';
import { plain } from './api.js';
import { h } from './dom.js';
import { turns } from './turns.js';

const ROOT = new URL('.', import.meta.url);
const HIDDEN_LIMIT = 5000; // ms that a hidden page goes on
const PATIENCE = 4000; // ms for which a camera is waited for to tell its tracks
const PICTURES = new Set(['H264', 'H265', 'AV1', 'VP8', 'VP9', 'JPEG', 'RAW']);
const BLOCKED = 'patchbay-no-webrtc';
const BLOCKED_FOR = 600000; // ms for which WebRTC is tried last after its way was found closed

const SOUND = 'patchbay-sound';
const dial = turns(3); // cameras that are asked for their tracks
const still = turns(2); // pictures that are shown until there is a better one

const blocked = {
  get is() { try { return Date.now() - Number(sessionStorage.getItem(BLOCKED) ?? 0) < BLOCKED_FOR; } catch { return false; } },
  set is(yes) { try { if (yes) sessionStorage.setItem(BLOCKED, String(Date.now())); else sessionStorage.removeItem(BLOCKED); } catch { /* for this time only */ } },
};

/** Volume (0 to 1) and whether it is muted, as chosen by hand in this browser. */
const sound = {
  get is() { try { return JSON.parse(localStorage.getItem(SOUND)) ?? {}; } catch { return {}; } },
  set is(value) { try { localStorage.setItem(SOUND, JSON.stringify(value)); } catch { /* for this page only */ } },
};

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
  static observedAttributes = ['src', 'mode', 'muted', 'media', 'base', 'label'];

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
    this.poster.addEventListener('load', () => { this.poster.hidden = this.state === 'playing'; });
    this.poster.addEventListener('error', () => { this.poster.hidden = true; });
    const button = (name, label, onclick) => {
      const made = h('button', { type: 'button', 'aria-label': label, title: label, onclick }, shape(name));
      return made;
    };
    this.how = h('span', { class: 'how' });
    this.soundButton = button('muted', 'Sound on', () => { this.muted = !this.muted; this.remember(); });
    this.volume = h('input', { class: 'volume', type: 'range', min: 0, max: 1, step: 0.05, 'aria-label': 'Volume', oninput: () => {
      this.muted = Number(this.volume.value) === 0;
      this.video.volume = Number(this.volume.value);
      this.remember();
    } });
    this.volume.value = sound.is.volume ?? 1;
    this.windowButton = button('window', 'Picture in picture', () => this.floats());
    this.windowButton.className = 'window';
    this.windowButton.hidden = !document.pictureInPictureEnabled;
    this.fullButton = button('full', 'Full screen', () => this.fullscreen());
    this.talkButton = button('microphone', 'Talk', () => this.talk(!this.stream));
    this.talkButton.hidden = true;
    this.bar = h('div', { class: 'bar', part: 'bar' }, this.how, this.talkButton, this.soundButton, this.volume,
      button('camera', 'Save a picture', () => this.snapshot()), this.windowButton, this.fullButton);
    this.message = h('div', { class: 'message', hidden: true }, h('div', { class: 'text' }, h('slot', { name: 'status' })));
    this.label = h('span', { class: 'label', hidden: true });
    shadow.append(this.poster, h('slot'), this.message, this.label, this.bar);
    this.addEventListener('dblclick', (event) => { if (!event.composedPath().includes(this.bar) && this.getAttribute('controls') !== 'none') this.fullscreen(); });
  }

  connectedCallback() {
    this.style.setProperty('display', this.style.display || '');
    if (!this.status) {
      this.status = h('span', { slot: 'status', role: 'status' });
      this.isMuted = this.hasAttribute('muted') || (sound.is.muted ?? true);
      this.video = this.newVideo();
      this.append(this.video, this.status);
      this.named();
    }
    if (!this.hasAttribute('role')) this.setAttribute('role', 'group');
    this.onhidden = () => {
      clearTimeout(this.hideTimer);
      if (document.hidden && !this.hasAttribute('background') && document.pictureInPictureElement !== this.video) this.hideTimer = setTimeout(() => this.end(), HIDDEN_LIMIT);
      else if (!document.hidden && !this.run) this.begin();
    };
    document.addEventListener('visibilitychange', this.onhidden);
    this.addEventListener('leavepictureinpicture', this.onhidden);
    this.onfull = () => {
      const full = document.fullscreenElement === this;
      this.fullButton.replaceChildren(shape(full ? 'small' : 'full'));
      this.fullButton.title = full ? 'Leave full screen' : 'Full screen';
      this.fullButton.setAttribute('aria-label', this.fullButton.title);
    };
    document.addEventListener('fullscreenchange', this.onfull);
    // Browsers let no page begin with sound that nobody has asked for: it is there with the first touch.
    this.ontouch = () => { if (this.waitsForTouch) { this.waitsForTouch = false; this.muted = false; } };
    for (const kind of ['pointerup', 'keyup']) document.addEventListener(kind, this.ontouch);
    // A page that is left says goodbye: the server need not wait for its packets.
    this.onleave = () => { this.quiet(); this.end(); };
    this.onreturn = ({ persisted }) => { if (persisted && !this.run) this.begin(); };
    addEventListener('pagehide', this.onleave);
    addEventListener('pageshow', this.onreturn);
    this.timer = setInterval(() => { this.tell(); this.guard?.turn(); }, 1000);
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
    this.removeEventListener('leavepictureinpicture', this.onhidden);
    document.removeEventListener('fullscreenchange', this.onfull);
    for (const kind of ['pointerup', 'keyup']) document.removeEventListener(kind, this.ontouch);
    removeEventListener('pagehide', this.onleave);
    removeEventListener('pageshow', this.onreturn);
    clearInterval(this.timer);
    clearTimeout(this.hideTimer);
    this.quiet();
    this.end();
  }

  attributeChangedCallback(name, before, now) {
    if (before === now || !this.isConnected || !this.status) return;
    if (name === 'label') { this.named(); return; }
    if (name === 'muted') { this.muted = now !== null; return; }
    // Another stream does not begin with a picture of this one.
    if (name === 'src') { this.end(); this.stale = this.known = this.pictured = false; this.poster.hidden = true; }
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

  named() {
    this.label.textContent = this.getAttribute('label') ?? '';
    this.label.hidden = !this.label.textContent;
  }

  newVideo() {
    const video = h('video', { autoplay: true, playsinline: true });
    video.muted = this.isMuted ?? true;
    video.volume = Number(this.volume.value);
    video.addEventListener('volumechange', () => {
      if (video !== this.video || video.muted === this.isMuted) return;
      this.waitsForTouch = video.muted && sound.is.muted === false && !navigator.userActivation?.hasBeenActive;
      this.isMuted = video.muted;
      this.tell();
    });
    return video;
  }

  /** What was chosen by hand is so the next time. */
  remember() {
    this.waitsForTouch = false;
    if (!this.isMuted && !this.video.volume) this.video.volume = 1;
    if (!this.isMuted) this.volume.value = this.video.volume;
    sound.is = { muted: this.isMuted, volume: Number(this.volume.value) || 1 };
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
    if (!this.stale) this.still(this.run.signal);
    this.loop(this.run.signal);
  }

  /** A picture from a minute ago, while there is no newer one. */
  async still(signal) {
    const wanted = () => !signal.aborted && this.state !== 'playing' && !this.stale;
    try {
      const answer = await still(async () => wanted() && fetch(this.url('api/frame.jpeg', { cache: '1m' }), { signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]) }), signal);
      const blob = answer.ok && await answer.blob();
      if (!blob?.size || !wanted()) return;
      this.poster.src = URL.createObjectURL(blob);
      await this.poster.decode();
    } catch { /* there is none */ } finally { if (this.poster.src.startsWith('blob:')) URL.revokeObjectURL(this.poster.src); }
  }

  end() {
    this.run?.abort();
    this.run = null;
    this.playing?.close();
    this.playing = this.guard = null;
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
      this.tried = [];
      const names = await this.plan(signal);
      if (signal.aborted) return;
      if (!names) { pause = this.unreachable ? 1500 : 5000; continue; }
      for (const name of names) {
        if (signal.aborted) return;
        const ended = await this.attempt(name, signal);
        if (signal.aborted) return;
        if (ended.played) {
          this.say(`${plain(ended.reason)}. Trying again`);
          pause = ended.soon ? 100 : 1500;
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
        this.say(plain(this.tried[0].reason));
      }
      if (!names.length) this.say('This browser has no way to show this stream.');
    }
  }

  /** The modes to try; nothing: there is none to try now, and it is said why. */
  async plan(signal) {
    const given = this.mode.split(',').map((name) => name.trim()).filter((name) => name in MODES && MODES[name].able());
    let known = null, refused = false;
    try {
      // Starts the camera, which is wanted anyway, and tells its tracks. One that takes long is waited for by what plays it.
      const answer = await dial(() => fetch(this.url('api/streams', { video: 'all', audio: 'all', microphone: '' }), { signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]), cache: 'no-store' }), signal);
      this.unreachable = false;
      if (answer.status === 404) { this.say('There is no such stream.', true); return null; }
      if (answer.ok) known = tracks(await answer.json());
      else {
        refused = true;
        const reason = plain(await answer.text());
        const stream = await fetch(this.url('api/streams'), { signal, cache: 'no-store' }).then((now) => now.json());
        if (!stream.producers?.length) { this.say('Nobody publishes it yet'); return null; }
        this.say(reason || 'Waiting for the camera');
      }
    } catch (error) {
      if (signal.aborted) return null;
      if (error.name !== 'TimeoutError') {
        this.unreachable = true;
        this.say('No connection to the server');
        return null;
      }
    }
    if (known) this.knows(known);
    if (this.stream) return ['webrtc'];
    // A camera that is not there, or not yet: one way is enough to wait for it.
    if (refused) return given.length ? given.slice(0, 1) : ['mse', 'hls'].filter((name) => MODES[name].able()).slice(0, 1);
    const names = given.length ? given : order(known?.codecs, await this.transcodes(signal));
    return blocked.is ? [...names.filter((name) => name !== 'webrtc'), ...names.filter((name) => name === 'webrtc')] : names;
  }

  /** A camera that is away for a moment keeps its buttons. */
  knows({ codecs, talks }) {
    if (!codecs.length) return;
    this.known = true;
    this.talkButton.hidden = !(talks && MODES.webrtc.able());
    this.pictured = codecs.some((codec) => PICTURES.has(codec));
    const heard = codecs.some((codec) => !PICTURES.has(codec));
    this.soundButton.hidden = this.volume.hidden = !heard;
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
    const mode = new Kind({ url: (path, query) => this.url(path, query), video: fresh, image, microphone: this.stream, media: this.wanted(), pictures: this.pictured });
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
    this.guard = new Guard(mode, this.url('api/streams'), (text) => this.say(text));
    if (!this.known) fetch(this.url('api/streams'), { signal, cache: 'no-store' }).then(async (answer) => { if (answer.ok) this.knows(tracks(await answer.json())); }).catch(() => {});
    if (!this.message.hasAttribute('data-quiet')) this.say('');
    if (this.stream) this.spoken('on');
    const ended = await over;
    if (!signal.aborted) this.keep();
    image.remove();
    if (!signal.aborted) this.playing = this.guard = null;
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
    const late = behind === null || behind === undefined || this.guard?.away ? [] : [` · ${behind.toFixed(1)} s`, h('span', { class: 'word' }, ' behind')];
    this.how.replaceChildren(title, ...late);
    this.windowButton.hidden = !document.pictureInPictureEnabled || !this.video?.videoWidth || this.video.hidden;
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
        this.note(error.name === 'NotAllowedError' ? 'The browser does not give the microphone to this page: it can be allowed beside the address.'
          : error.name === 'NotFoundError' ? 'There is no microphone.' : `No microphone: ${error.message}`);
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
    this.note(plain(reason));
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
    const name = `${this.src.replace(/[^\p{L}\p{N}._-]+/gu, '_')}-${new Date().toISOString().slice(0, 19).replace(/:/g, '-')}.jpg`;
    h('a', { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  /** The picture in a window of its own above all others, or back. */
  async floats() {
    try {
      if (document.pictureInPictureElement === this.video) await document.exitPictureInPicture();
      else await this.video.requestPictureInPicture();
    } catch (error) { this.note(`No picture in picture: ${error.message}`); }
  }

  fullscreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (this.requestFullscreen) this.requestFullscreen();
    else this.video.webkitEnterFullscreen?.();
  }
}

if (!customElements.get('patchbay-player')) customElements.define('patchbay-player', PatchbayPlayer);
