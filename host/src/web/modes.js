// The ways to show a stream. Each starts with a picture or with the reason why not, and tells when it is lost.
const CODECS = ['avc1.640029', 'avc1.64002A', 'avc1.640033', 'hvc1.1.6.L153.B0', 'mp4a.40.2', 'mp4a.40.5', 'flac', 'opus'];
const Source = globalThis.ManagedMediaSource ?? globalThis.MediaSource;

/** The stream has nothing for this way; another may. `soon`: the same way will do, at once. */
export class Unable extends Error {
  constructor(message, soon = false) {
    super(message);
    this.soon = soon;
  }
}

/** How a reason begins that is about speaking alone: the camera can be seen. */
export const BUSY = 'not spoken to: ';
const ANSWER_LIMIT = 15000; // ms until the server's answer: it may have to dial the camera first

/** Settles with the first picture of a video, or with the reason of `failed`. */
function firstPicture(video, signal, limit) {
  return new Promise((resolve, reject) => {
    const timer = limit && setTimeout(() => reject(new Unable(`no picture in ${limit / 1000} s`)), limit);
    const done = () => { clearTimeout(timer); resolve(); };
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(done);
    else video.addEventListener('loadeddata', done, { once: true });
    // Without a video track there is sound to hear.
    video.addEventListener('playing', () => { if (!video.videoWidth) done(); }, { once: true });
    signal.addEventListener('abort', () => { clearTimeout(timer); reject(new Unable('stopped')); }, { once: true });
  });
}

async function play(video) {
  try { await video.play(); } catch (error) {
    if (error.name !== 'NotAllowedError' || video.muted) return;
    // Browsers play sound only for those who have touched the page.
    video.muted = true;
    await video.play().catch(() => {});
  }
}

class Mode {
  /** `media`: which of video and audio are wanted; `pictures`: the stream has some. */
  constructor({ url, video, image, microphone, iceServers, media = new Set(['video', 'audio']), pictures = false }) {
    Object.assign(this, { url, video, image, microphone, iceServers, media, pictures });
    this.stop = new AbortController();
    this.playing = false;
    /** Called once with the reason when it played and no longer does. */
    this.lost = () => {};
    /** Called with the reason when the camera cannot be spoken to, or not any more; what is seen goes on. */
    this.silenced = () => {};
  }

  socket() {
    const address = this.url('api/ws');
    address.protocol = address.protocol.replace('http', 'ws');
    const socket = new WebSocket(address);
    socket.binaryType = 'arraybuffer';
    this.stop.signal.addEventListener('abort', () => socket.close());
    return socket;
  }

  /** Settles when `run` calls `shown()`, with the first picture. `fail(reason, soon)` refuses this way before that; afterwards the player hears of the loss. */
  begin(run) {
    const { signal } = this.stop;
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(new Unable('stopped')));
      const shown = () => { this.playing = true; resolve(); };
      run(shown, (reason, soon) => {
        if (signal.aborted) return;
        if (this.playing) this.lost(reason, soon);
        else reject(new Unable(reason, soon));
        this.close();
      });
    });
  }

  /** Grows with what comes; null: this way does not tell. */
  async progress() { return null; }

  close() { this.stop.abort(); }
}

class Mse extends Mode {
  static title = 'MSE';
  static able() { return Boolean(Source); }

  start() {
    const { video } = this;
    const { signal } = this.stop;
    const source = new Source();
    if (globalThis.ManagedMediaSource) video.disableRemotePlayback = true;
    const address = URL.createObjectURL(source);
    video.src = address;
    signal.addEventListener('abort', () => URL.revokeObjectURL(address));
    const opened = new Promise((done) => source.addEventListener('sourceopen', done, { once: true }));
    this.queue = [];
    const socket = this.socket();
    return this.begin((shown, fail) => {
      socket.onopen = () => {
        const wanted = CODECS.filter((codec) => this.media.has(/^(avc|hvc)/.test(codec) ? 'video' : 'audio'));
        const known = wanted.filter((codec) => Source.isTypeSupported(`video/mp4; codecs="${codec}"`));
        socket.send(JSON.stringify({ type: 'mse', value: known.join() }));
      };
      socket.onmessage = async ({ data }) => {
        if (typeof data !== 'string') {
          this.queue.push(data);
          this.came = (this.came ?? 0) + 1;
          this.append(source);
          return;
        }
        const message = JSON.parse(data);
        if (message.type === 'error') fail(message.value);
        if (message.type !== 'mse') return;
        if (!Source.isTypeSupported(message.value)) { fail(`this browser cannot play ${message.value}`); return; }
        await opened;
        if (signal.aborted || source.readyState !== 'open') return;
        this.buffer = source.addSourceBuffer(message.value);
        this.buffer.mode = 'segments';
        this.buffer.addEventListener('updateend', () => this.append(source));
        firstPicture(video, signal, 20000).then(shown, (error) => fail(error.message));
        play(video);
        this.append(source);
      };
      video.addEventListener('error', () => fail(video.error?.message || 'the browser cannot decode it'), { signal });
      // 1012: the stream has other codecs now.
      socket.onclose = ({ code, reason }) => fail(code === 1012 ? reason : 'connection lost', code === 1012);
    });
  }

  append(source) {
    const { buffer, video } = this;
    if (!buffer || buffer.updating || source.readyState !== 'open' || video.error) return;
    const ranges = buffer.buffered;
    if (ranges.length) {
      const start = ranges.start(ranges.length - 1);
      const end = ranges.end(ranges.length - 1);
      // Stay near the live edge, and over gaps.
      if (video.currentTime < start || end - video.currentTime > 5) video.currentTime = Math.max(start, end - 0.5);
      else video.playbackRate = end - video.currentTime > 1 ? 1.1 : 1;
      if (video.currentTime - ranges.start(0) > 30) { buffer.remove(0, video.currentTime - 15); return; }
    }
    if (!this.queue.length) return;
    const all = new Uint8Array(this.queue.reduce((sum, part) => sum + part.byteLength, 0));
    this.queue.reduce((at, part) => { all.set(new Uint8Array(part), at); return at + part.byteLength; }, 0);
    this.queue = [];
    buffer.appendBuffer(all);
  }

  async progress() { return this.came; }

  async behind() { return ahead(this.video.buffered, this.video.currentTime); }
}

function ahead(ranges, time) {
  return ranges.length ? Math.max(0, ranges.end(ranges.length - 1) - time) : null;
}

class WebRtc extends Mode {
  static title = 'WebRTC';
  static able() { return Boolean(globalThis.RTCPeerConnection); }

  async start() {
    const { video } = this;
    const { signal } = this.stop;
    const peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle', iceServers: this.iceServers ?? [] });
    this.peer = peer;
    signal.addEventListener('abort', () => peer.close());
    const media = new MediaStream();
    const voice = this.microphone?.getAudioTracks()[0];
    const seen = this.media.has('video') && peer.addTransceiver('video', { direction: 'recvonly' });
    if (this.media.has('audio')) peer.addTransceiver('audio', { direction: 'recvonly' });
    // A section of its own: what a camera takes is seldom the codec that it sends.
    const way = voice && peer.addTransceiver(voice, { direction: 'sendonly' });
    const heard = (answer) => {
      if (!way || /^send/.test(way.currentDirection ?? '')) return;
      // The title of a section that is not used says why.
      const own = answer.split(/^(?=m=)/m).find((section) => section.includes(`a=mid:${way.mid}\r`) || section.includes(`a=mid:${way.mid}\n`));
      const why = /^i=(.*)$/m.exec(own ?? '')?.[1].trim().replace(/^([a-z]+: )+/, '');
      this.silenced(why || 'this camera cannot be spoken to now');
    };
    peer.ontrack = ({ track }) => { media.addTrack(track); };
    const socket = this.socket();
    const tcpOnly = this.tcpOnly === true;
    const fits = (candidate) => !tcpOnly || / tcp /i.test(candidate);
    await this.begin((shown, fail) => {
      const limit = setTimeout(() => { if (!peer.remoteDescription) fail('no answer'); }, ANSWER_LIMIT);
      signal.addEventListener('abort', () => clearTimeout(limit));
      peer.onicecandidate = ({ candidate }) => {
        if (candidate?.candidate && fits(candidate.candidate) && socket.readyState === WebSocket.OPEN) {
          socket.send(JSON.stringify({ type: 'webrtc/candidate', value: candidate.candidate }));
        }
      };
      peer.onconnectionstatechange = () => {
        if (peer.connectionState === 'failed') fail(this.playing ? 'connection lost' : 'no way to the server’s WebRTC port');
        if (peer.connectionState === 'disconnected' && this.playing) setTimeout(() => { if (peer.connectionState === 'disconnected') fail('connection lost'); }, 5000);
      };
      socket.onopen = async () => {
        try {
          const offer = await peer.createOffer();
          await peer.setLocalDescription(offer);
          socket.send(JSON.stringify({ type: 'webrtc/offer', value: offer.sdp }));
        } catch (error) { fail(error.message); }
      };
      const early = [];
      socket.onmessage = async ({ data }) => {
        if (typeof data !== 'string') return;
        const message = JSON.parse(data);
        if (message.type === 'error') {
          // Who speaks to a camera that is spoken to already still sees it.
          if (voice && (peer.remoteDescription || /busy|talk|speak/i.test(message.value))) {
            const why = message.value.replace(/^([a-z/]+: )+/, '');
            if (peer.remoteDescription) this.silenced(why);
            else fail(`${BUSY}${why}`);
          } else fail(message.value);
        }
        if (message.type === 'webrtc/candidate' && message.value && fits(message.value)) {
          const candidate = { candidate: message.value, sdpMid: '0' };
          if (peer.remoteDescription) peer.addIceCandidate(candidate).catch(() => {});
          else early.push(candidate);
        }
        if (message.type !== 'webrtc/answer' || signal.aborted) return;
        try {
          await peer.setRemoteDescription({ type: 'answer', sdp: message.value });
          for (const candidate of early) peer.addIceCandidate(candidate).catch(() => {});
        } catch (error) { fail(error.message); return; }
        // Its sound alone is no way to see it.
        if (seen && this.pictures && seen.currentDirection !== 'recvonly') { fail('this browser takes none of its pictures over WebRTC'); return; }
        heard(message.value);
        video.srcObject = media;
        firstPicture(video, signal, 6000).then(() => {
          shown();
          // The session goes on without its signalling; only somebody who speaks may be told something yet.
          if (!voice) socket.close();
        }, (error) => fail(peer.connectionState === 'connected' ? error.message : 'no way to the server’s WebRTC port'));
        play(video);
      };
      socket.onclose = () => { if (!this.playing && !signal.aborted && !peer.remoteDescription) fail('connection lost'); };
    });
  }

  async progress() {
    let packets = 0;
    for (const report of (await this.peer.getStats()).values()) if (report.type === 'inbound-rtp') packets += report.packetsReceived ?? 0;
    return packets;
  }

  close() {
    super.close();
    this.video.srcObject = null;
  }

  async behind() {
    for (const report of (await this.peer.getStats()).values()) {
      if (report.type !== 'inbound-rtp' || report.kind !== 'video' || !report.jitterBufferEmittedCount) continue;
      const { jitterBufferDelay: delay, jitterBufferEmittedCount: count } = report;
      const now = this.before ? (delay - this.before.delay) / Math.max(1, count - this.before.count) : delay / count;
      this.before = { delay, count };
      return now;
    }
    return null;
  }
}

class WebRtcTcp extends WebRtc {
  static title = 'WebRTC over TCP';
  tcpOnly = true;
}

/** What `<video src>` plays by itself. */
class Plain extends Mode {
  async start() {
    const { video } = this;
    const { signal } = this.stop;
    signal.addEventListener('abort', () => { video.removeAttribute('src'); video.load(); });
    const first = firstPicture(video, signal, 20000);
    const failed = new Promise((_, reject) => {
      video.addEventListener('error', () => {
        const reason = video.error?.message || 'the browser cannot play it';
        if (this.playing) { this.lost(reason); this.close(); } else reject(new Unable(reason));
      }, { signal });
    });
    video.addEventListener('ended', () => { this.lost('the stream ended'); this.close(); }, { signal });
    video.src = this.address();
    play(video);
    try { await Promise.race([first, failed]); } catch (error) { this.close(); throw error; }
    this.playing = true;
  }

  async progress() { return this.video.currentTime; }
}

class Hls extends Plain {
  static title = 'HLS';
  static able() { return document.createElement('video').canPlayType('application/vnd.apple.mpegurl') !== ''; }
  address() { return this.url('api/stream.m3u8', { mp4: '' }); }
  async behind() { return ahead(this.video.seekable, this.video.currentTime); }
}

/** A file that never ends: where only plain HTTP gets through. */
class Mp4 extends Plain {
  static title = 'MP4';
  static able() { return document.createElement('video').canPlayType('video/mp4') !== ''; }
  address() { return this.url('api/stream.mp4'); }
  async behind() { return ahead(this.video.buffered, this.video.currentTime); }
}

/** JPEG pictures as messages: an answer that never ends would take one of the few connections that a browser opens. */
class Mjpeg extends Mode {
  static title = 'MJPEG';
  static able() { return true; }

  start() {
    const { image } = this;
    const { signal } = this.stop;
    const socket = this.socket();
    let newest = null, busy = false;
    this.came = 0;
    return this.begin((shown, fail) => {
      const limit = setTimeout(() => fail('no picture in 10 s'), 10000);
      signal.addEventListener('abort', () => { clearTimeout(limit); if (image.src.startsWith('blob:')) URL.revokeObjectURL(image.src); });
      // One after the other: of those that come meanwhile the newest is shown.
      const show = async () => {
        busy = true;
        while (newest && !signal.aborted) {
          const old = image.src;
          image.src = URL.createObjectURL(new Blob([newest], { type: 'image/jpeg' }));
          newest = null;
          try {
            await image.decode();
            if (!this.playing) { clearTimeout(limit); shown(); }
          } catch { /* the next one */ }
          if (old.startsWith('blob:')) URL.revokeObjectURL(old);
        }
        busy = false;
      };
      socket.onopen = () => socket.send(JSON.stringify({ type: 'mjpeg' }));
      socket.onmessage = ({ data }) => {
        if (typeof data === 'string') {
          const { type, value } = JSON.parse(data);
          if (type === 'error') fail(value);
          return;
        }
        this.came += 1;
        newest = data;
        if (!busy) show();
      };
      socket.onclose = ({ code, reason }) => fail(code === 1012 ? reason : 'connection lost', code === 1012);
    });
  }

  async progress() { return this.came; }

  async behind() { return null; }
}

/** One picture a second, made by the server: when nothing else shows anything. */
class Stills extends Mode {
  static title = 'Pictures';
  static able() { return true; }

  async start() {
    await this.next();
    const turn = async () => {
      try { await this.next(); } catch (error) {
        if (this.stop.signal.aborted) return;
        this.lost(error.message);
        this.close();
        return;
      }
      this.timer = setTimeout(turn, 1000);
    };
    this.timer = setTimeout(turn, 1000);
    this.stop.signal.addEventListener('abort', () => clearTimeout(this.timer));
  }

  async next() {
    const answer = await fetch(this.url('api/frame.jpeg'), { cache: 'no-store', signal: AbortSignal.any([this.stop.signal, AbortSignal.timeout(15000)]) });
    const blob = answer.ok ? await answer.blob() : null;
    if (!blob?.size) throw new Unable(answer.headers.get('X-Error') || 'no picture');
    this.age = Number(answer.headers.get('X-Frame-Age-Ms') ?? 0) / 1000;
    const old = this.image.src;
    this.image.src = URL.createObjectURL(blob);
    await this.image.decode();
    if (old) URL.revokeObjectURL(old);
  }

  async behind() { return this.age; }
}

/** All of them, in the order in which they are tried when nothing is known of the stream. */
export const MODES = { webrtc: WebRtc, 'webrtc/tcp': WebRtcTcp, mse: Mse, hls: Hls, mp4: Mp4, mjpeg: Mjpeg, jpeg: Stills };

const WEBRTC_VIDEO = { H264: 'video/H264', H265: 'video/H265', AV1: 'video/AV1', VP8: 'video/VP8', VP9: 'video/VP9' };
const WEBRTC_AUDIO = new Set(['OPUS', 'PCMA', 'PCMU']);
const MSE_TYPE = { H264: 'avc1.640029', H265: 'hvc1.1.6.L153.B0', AAC: 'mp4a.40.2', 'MPEG4-GENERIC': 'mp4a.40.2', OPUS: 'opus', PCMA: 'flac', PCMU: 'flac', PCM: 'flac', PCML: 'flac', FLAC: 'flac' };

/** The modes that this browser can show a stream of these codecs with (`['H264', 'AAC']`; none: not known), best first;
 * `transcodes`: the server gives sound in another codec to who has none in common. */
export function order(codecs, transcodes = false) {
  const able = ['webrtc', 'mse', 'hls', 'mp4', 'mjpeg', 'jpeg'].filter((name) => MODES[name].able());
  if (!codecs?.length) return able;
  const capable = new Set((globalThis.RTCRtpReceiver?.getCapabilities?.('video')?.codecs ?? []).map((codec) => codec.mimeType));
  const video = codecs.filter((codec) => codec in WEBRTC_VIDEO || ['JPEG', 'RAW'].includes(codec));
  const audio = codecs.filter((codec) => !video.includes(codec));
  const probe = document.createElement('video');
  const typed = (codec) => MSE_TYPE[codec] && (Source ? Source.isTypeSupported(`video/mp4; codecs="${MSE_TYPE[codec]}"`) : probe.canPlayType(`video/mp4; codecs="${MSE_TYPE[codec]}"`) !== '');
  const score = { webrtc: 0, mse: 0, hls: 0, mp4: 0, mjpeg: 0, jpeg: 0.1 };
  if (video.some((codec) => capable.has(WEBRTC_VIDEO[codec]))) score.webrtc += 4;
  if (video.some(typed)) { score.mse += 4; score.hls += 3; score.mp4 += 2; }
  if (video.some((codec) => ['JPEG', 'RAW'].includes(codec))) score.mjpeg += 4;
  // Sound counts for more than the smaller delay.
  if (audio.some((codec) => WEBRTC_AUDIO.has(codec)) || (audio.length && transcodes)) score.webrtc += 2;
  if (audio.some(typed)) { score.mse += 1.5; score.hls += 1.5; score.mp4 += 1.5; }
  score.webrtc += score.webrtc ? 0.5 : 0;
  if (!video.length) score.jpeg = 0;
  return able.filter((name) => score[name] > 0).sort((a, b) => score[b] - score[a]);
}
