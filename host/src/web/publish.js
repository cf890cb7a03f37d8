// webrtc.html?dst=NAME[&media=camera+microphone|display+speaker]: this browser's camera, microphone or screen becomes a source of
// the stream NAME.
import { url } from './api.js';
import { h, say } from './dom.js';

const KINDS = { 'camera+microphone': 'Camera and microphone', camera: 'Camera', microphone: 'Microphone', 'display+speaker': 'Screen with its sound', display: 'Screen' };
const LIMIT = 15000; // ms until the server's answer
/** What every player can show, first. */
const LIKED = ['video/H264', 'video/H265', 'video/AV1', 'video/VP9', 'video/VP8', 'audio/opus'];

async function capture(media) {
  const wanted = new Set(media.split(/[\s,+]+/));
  if (!navigator.mediaDevices) throw new Error('Browsers give camera and microphone to pages over HTTPS, or on this machine, only.');
  if (wanted.has('display')) return navigator.mediaDevices.getDisplayMedia({ video: true, audio: wanted.has('speaker') });
  return navigator.mediaDevices.getUserMedia({ video: wanted.has('camera') && { width: { ideal: 1280 }, height: { ideal: 720 } }, audio: wanted.has('microphone') });
}

/** Connects; settles with a function that ends it. `over` is told once when it ends by itself. */
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
      if (peer.connectionState === 'connected') { sending = true; clearTimeout(limit); resolve(end); }
      if (peer.connectionState === 'failed') fail(sending ? 'The connection is lost.' : 'There is no way to the server’s WebRTC port.');
    };
    socket.onopen = async () => {
      await peer.setLocalDescription(await peer.createOffer());
      socket.send(JSON.stringify({ type: 'webrtc/offer', value: peer.localDescription.sdp }));
    };
    socket.onmessage = async ({ data }) => {
      const { type, value } = JSON.parse(data);
      if (type === 'error') fail(value.replace(/^([a-z/]+: )+/, ''));
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

export function publish(main, dst, media) {
  document.title = `Publish to ${dst} · Patchbay`;
  const video = h('video', { autoplay: true, playsinline: true });
  video.muted = true; // or it would hear itself
  const choice = h('select', { 'aria-label': 'What to send' }, ...Object.entries(KINDS).map(([key, text]) => h('option', { value: key }, text)));
  const status = h('p', { role: 'status' });
  const button = h('button', { type: 'button' }, 'Start');
  const bar = h('div', { class: 'send' }, h('h1', {}, `Publish to ${dst}`), choice, button, status);
  main.append(h('div', { class: 'publish' }, video, bar));
  const asked = (media ?? '').split(/[\s,+]+/).filter(Boolean).join('+');
  if (asked in KINDS) choice.value = asked;
  let stream = null, end = null;

  const stop = (reason = '') => {
    end?.();
    end = null;
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    video.srcObject = null;
    say(button, 'Start');
    choice.disabled = button.disabled = false;
    delete main.dataset.state;
    say(status, reason);
  };
  const start = async () => {
    choice.disabled = button.disabled = true;
    say(status, 'Asking for it…');
    try {
      stream = await capture(choice.value);
      video.srcObject = stream;
      for (const track of stream.getTracks()) track.addEventListener('ended', () => { if (stream?.getTracks().every((one) => one.readyState === 'ended')) stop('It was ended.'); });
      say(status, 'Connecting…');
      end = await send(dst, stream, stop);
      say(button, 'Stop');
      button.disabled = false;
      main.dataset.state = 'live';
      say(status, `Sending to ${dst}`);
    } catch (error) { stop(error.name === 'NotAllowedError' ? 'The browser was not allowed to.' : error.message); }
  };
  button.addEventListener('click', () => { if (end) stop('Stopped.'); else start(); });
  addEventListener('pagehide', () => stop());
  // A screen is given only to somebody who has clicked.
  if (asked in KINDS && !asked.startsWith('display')) start();
}
