// Chromium watches a stream and speaks to its camera with a tone as its microphone; one JSON line on standard output, then waits for the
// end of standard input: node talk.mjs '{"base":..., "name":..., "tone": WAV, "both": one section for both ways, "pages": 1}'
import { FAKE_DEVICES, SHOWN_ADDRESSES, launch } from './chromium.mjs';

const ask = JSON.parse(process.argv[2]);
const browser = await launch(...FAKE_DEVICES, `--use-file-for-fake-audio-capture=${ask.tone}`, SHOWN_ADDRESSES);
try {
  const page = await (await browser.newContext({ permissions: ['microphone'] })).newPage();
  await page.goto(ask.base + 'api');
  const found = await page.evaluate(async ask => {
    const speak = async () => {
      const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
      const stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
      const pc = new RTCPeerConnection();
      // As go2rtc's player does for media=video+audio+microphone, or one section for both.
      const microphone = pc.addTransceiver(stream.getAudioTracks()[0], { direction: ask.both ? 'sendrecv' : 'sendonly' });
      pc.addTransceiver('video', { direction: 'recvonly' });
      if (!ask.both) pc.addTransceiver('audio', { direction: 'recvonly' });
      const socket = new WebSocket(`ws://${location.host}/api/ws?src=${ask.name}`);
      await new Promise((done, fail) => { socket.onopen = done; socket.onerror = fail; });
      pc.onicecandidate = event => socket.send(JSON.stringify({ type: 'webrtc/candidate', value: event.candidate?.candidate || '' }));
      await pc.setLocalDescription(await pc.createOffer());
      socket.send(JSON.stringify({ type: 'webrtc/offer', value: pc.localDescription.sdp }));
      let answer;
      await new Promise((done, fail) => {
        socket.onmessage = async event => {
          const message = JSON.parse(event.data);
          if (message.type === 'error') fail(new Error(message.value));
          if (message.type === 'webrtc/candidate') await pc.addIceCandidate({ candidate: message.value, sdpMid: '0' });
          if (message.type === 'webrtc/answer') {
            answer = message.value;
            await pc.setRemoteDescription({ type: 'answer', sdp: answer });
          }
        };
        pc.onconnectionstatechange = () => (pc.connectionState === 'connected' ? done() : pc.connectionState === 'failed' && fail(new Error('failed')));
      });
      const codec = microphone.sender.getParameters().codecs[0]?.mimeType;
      return { direction: microphone.currentDirection, codec, title: /^i=(.*)$/m.exec(answer)?.[1]?.trim() };
    };
    const out = [];
    for (let count = 0; count < (ask.pages || 1); count++) out.push(await speak());
    return out;
  }, ask);
  console.log(JSON.stringify(found));
  await new Promise(done => process.stdin.on('end', done).resume());
} finally {
  await browser.close();
}
