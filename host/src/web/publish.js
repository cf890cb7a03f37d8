// webrtc.html?dst=NAME[&media=camera+microphone|display+speaker]: this browser's camera, microphone or screen becomes a source of
// the stream NAME.
import { plain, url } from './api.js';
import { h, rate, say } from './dom.js';

const KINDS = { 'camera+microphone': 'Camera and microphone', camera: 'Camera', microphone: 'Microphone', 'display+speaker': 'Screen with its sound', display: 'Screen' };
const LIMIT = 15000; // ms until the server's answer
/** What every player can show, first. */
const LIKED = ['video/H264', 'video/H265', 'video/AV1', 'video/VP9', 'video/VP8', 'audio/opus'];

async function capture(media) {
  const wanted = new Set(media.split(/[\s,+]+/));
  if (!navigator.mediaDevices) throw new Error('Browsers give camera and microphone to pages over HTTPS, or on this machine, only.');
  if (wanted.has('display') && !navigator.mediaDevices.getDisplayMedia) throw new Error('This browser cannot share its screen.');
  if (wanted.has('display')) return navigator.mediaDevices.getDisplayMedia({ video: true, audio: wanted.has('speaker') });
  return navigator.mediaDevices.getUserMedia({ video: wanted.has('camera') && { width: { ideal: 1280 }, height: { ideal: 720 } }, audio: wanted.has('microphone') });
}

/** Connects; settles with its connection and a function that ends it. `over` is told once when it ends by itself. */
function send(dst, stream, over) {
  const peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  for (const track of stream.getTracks()) {
    const way = peer.addTransceiver(track, { direction: 'sendonly', streams: [stream] });
    const codecs = RTCRtpSender.getCapabilities(track.kind)?.codecs ?? [];
    const rank = ({ mimeType }) => { const at = LIKED.indexOf(mimeType); return at < 0 ? LIKED.length : at; };
    if (codecs.length) way.setCodecPreferences?.([...codecs].sort((a, b) => rank(a) - rank(b)));
  }
  const address = url('api/ws', { dst });
  address.protocol = address.protocol.replace('http', 'ws');
  const socket = new WebSocket(address);
  const early = [];
  let sending = false;
  const end = () => { socket.close(); peer.close(); };
  return new Promise((resolve, reject) => {
    const fail = (reason) => { end(); if (sending) over(reason); else reject(new Error(reason)); };
    const limit = setTimeout(() => { if (!sending) fail('The server does not answer.'); }, LIMIT);
    peer.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: 'webrtc/candidate', value: candidate.candidate }));
    };
    peer.onconnectionstatechange = () => {
      if (peer.connectionState === 'connected') { sending = true; clearTimeout(limit); resolve({ end, peer }); }
      if (peer.connectionState === 'failed') fail(sending ? 'The connection is lost.' : 'There is no way to the server’s WebRTC port.');
    };
    socket.onopen = async () => {
      await peer.setLocalDescription(await peer.createOffer());
      socket.send(JSON.stringify({ type: 'webrtc/offer', value: peer.localDescription.sdp }));
    };
    socket.onmessage = async ({ data }) => {
      const { type, value } = JSON.parse(data);
      if (type === 'error') fail(plain(value));
      if (type === 'webrtc/candidate' && value) {
        if (peer.remoteDescription) peer.addIceCandidate({ candidate: value, sdpMid: '0' }).catch(() => {});
        else early.push({ candidate: value, sdpMid: '0' });
      }
      if (type !== 'webrtc/answer') return;
      try {
        await peer.setRemoteDescription({ type: 'answer', sdp: value });
        for (const candidate of early) peer.addIceCandidate(candidate).catch(() => {});
      } catch (error) { fail(error.message); }
    };
    socket.onclose = () => { if (!sending) fail('The server ends the connection.'); };
  });
}

/** What was sent since `before`, in words: `H264 1280 × 720, 25 fps, 1.2 Mbit/s · OPUS, 40 kbit/s`. */
async function sent(peer, before) {
  const reports = await peer.getStats();
  const parts = [];
  for (const report of reports.values()) {
    if (report.type !== 'outbound-rtp') continue;
    const codec = reports.get(report.codecId)?.mimeType?.split('/')[1];
    const old = before.get(report.id);
    before.set(report.id, { at: report.timestamp, bytes: report.bytesSent });
    const bits = old && report.timestamp > old.at ? (report.bytesSent - old.bytes) * 8000 / (report.timestamp - old.at) : 0;
    parts.push([[codec, report.frameWidth && `${report.frameWidth} × ${report.frameHeight}`].filter(Boolean).join(' '),
      report.kind === 'video' && report.framesPerSecond !== undefined && `${Math.round(report.framesPerSecond)} fps`, old && rate(bits)].filter(Boolean).join(', '));
  }
  return parts.filter(Boolean).join(' · ');
}

/** Why camera, microphone or screen are not given. */
function refusal({ name, message }, media) {
  const what = media.startsWith('display') ? 'the screen' : media.split('+').join(' and ');
  if (name === 'NotAllowedError') return `The browser does not give ${what} to this page: it can be allowed beside the address.`;
  if (name === 'NotFoundError') return `There is no ${what.replace(' and ', ' or no ')} here.`;
  if (name === 'NotReadableError') return `Another program uses ${what}.`;
  return message;
}

export function publish(main, dst, media) {
  document.title = `Publish to ${dst} · Patchbay`;
  const video = h('video', { autoplay: true, playsinline: true });
  video.muted = true; // or it would hear itself
  const asked = (media ?? '').split(/[\s,+]+/).filter(Boolean).join('+');
  const first = asked in KINDS ? asked : 'camera+microphone';
  const kinds = Object.entries(KINDS).filter(([key]) => !key.startsWith('display') || navigator.mediaDevices?.getDisplayMedia || key === first);
  const radios = kinds.map(([key]) => h('input', { type: 'radio', name: 'kind', value: key, checked: key === first }));
  const choice = h('fieldset', { class: 'kinds' }, h('legend', {}, 'What to send'), ...kinds.map(([, text], at) => h('label', {}, radios[at], text)));
  const status = h('p', { role: 'status' });
  const figures = h('p', {}); // not read aloud each second
  const button = h('button', { type: 'button' }, 'Start');
  const head = h('h1', {}, `Publish to ${dst}`);
  main.append(h('div', { class: 'publish' }, video, h('div', { class: 'send' }, head, choice, status, figures, button)));
  let stream = null, going = null, timer = 0;

  const stop = (reason = '', fault = false) => {
    going?.end();
    going = null;
    clearInterval(timer);
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    video.srcObject = null;
    say(button, 'Start');
    say(head, `Publish to ${dst}`);
    say(figures, '');
    choice.disabled = button.disabled = false;
    delete main.dataset.state;
    status.classList.toggle('fault', fault);
    say(status, reason);
  };
  const start = async () => {
    choice.disabled = button.disabled = true;
    status.classList.remove('fault');
    const kind = radios.find((radio) => radio.checked).value;
    say(status, 'Asking the browser…');
    try {
      stream = await capture(kind);
    } catch (error) { stop(refusal(error, kind), true); return; }
    try {
      video.srcObject = stream;
      for (const track of stream.getTracks()) track.addEventListener('ended', () => { if (stream?.getTracks().every((one) => one.readyState === 'ended')) stop('It was ended.'); });
      say(status, 'Connecting…');
      going = await send(dst, stream, (reason) => stop(reason, true));
      say(button, 'Stop');
      say(head, `Live to ${dst}`);
      button.disabled = false;
      button.focus();
      main.dataset.state = 'live';
      say(status, KINDS[kind]);
      const before = new Map();
      const tell = async () => { const text = await sent(going.peer, before).catch(() => ''); if (going) say(figures, text); };
      timer = setInterval(tell, 1000);
      tell();
    } catch (error) { stop(plain(error.message), true); }
  };
  button.addEventListener('click', () => { if (going) stop('Stopped.'); else start(); });
  addEventListener('pagehide', () => stop());
  // A screen is given only to somebody who has clicked.
  if (asked in KINDS && !asked.startsWith('display')) start();
}
