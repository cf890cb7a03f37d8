// Chromium plays and publishes over WebRTC. node webrtc.mjs '{"what":"play","base":...}' answers with one JSON line on standard output. Without an argument
// it is asked by lines {"id":1,"what":...} on standard input, as many at the same time as there are, each in a profile of its own; answers are
// {"id":1,"seen":...} or {"id":1,"error":...}; {"stop":1} ends what goes on until then.
// play: base, name, form (whep json form ws1 ws2), net (all, tcp, udp), ice (servers), policy (all, relay), count (peers in one page), rounds, hold (until standard
//   input ends); ends with what it is to see: frames, tone (Hz), reports (sender reports), or after 30 s
// publish: base, name, form (whip ws1 ws2), net, ice, policy, media (display), codec (the only one of its picture); goes on until it is stopped
// again: base, name, key (src dst), steps: offers on one connection, each seen after seconds (one for all or each)
import { createInterface } from 'node:readline';
import { FAKE_DEVICES, SHOWN_ADDRESSES, launch } from './chromium.mjs';

// In the page.
const prepare = () => {
  window.peers = [];
  const gathered = pc => new Promise(done => {
    if (pc.iceGatheringState === 'complete') done();
    pc.onicegatheringstatechange = () => pc.iceGatheringState === 'complete' && done();
  });
  const isGood = (ask, line) => ask.net !== 'tcp' && ask.net !== 'udp' || / tcp /i.test(line) === (ask.net === 'tcp');
  const onlyGood = (ask, text) => text.split('\r\n').filter(line => !line.startsWith('a=candidate') || isGood(ask, line)).join('\r\n');
  // Offers over HTTP in one of its forms; the answer is a description.
  async function overHttp(pc, ask, key) {
    await pc.setLocalDescription();
    await gathered(pc);
    const sdp = onlyGood(ask, pc.localDescription.sdp);
    const url = `api/webrtc?${key}=${ask.name}`;
    const types = { json: 'application/json', form: 'application/x-www-form-urlencoded', whep: 'application/sdp', whip: 'application/sdp' };
    const body = { json: JSON.stringify({ type: 'offer', sdp }), form: 'data=' + encodeURIComponent(btoa(sdp)) }[ask.form] || sdp;
    const answer = await fetch(url, { method: 'POST', headers: { 'content-type': types[ask.form] }, body });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${answer.status} ${text}`);
    const found = onlyGood(ask, { json: () => JSON.parse(text).sdp, form: () => atob(text) }[ask.form]?.() ?? text);
    await pc.setRemoteDescription({ type: 'answer', sdp: found });
    return { status: answer.status, location: answer.headers.get('location'), answer: found };
  }
  // Offers over the WebSocket as go2rtc's player does: candidates as they come, closed once connected.
  async function overSocket(pc, ask, key) {
    const out = { seen: [] };
    const socket = new WebSocket(`ws://${location.host}/api/ws?${key}=${ask.name}`);
    await new Promise((done, fail) => { socket.onopen = done; socket.onerror = fail; });
    const good = line => isGood(ask, line);
    pc.onicecandidate = event => {
      const line = event.candidate?.candidate || '';
      if (!line || good(line)) socket.send(JSON.stringify({ type: 'webrtc/candidate', value: line }));
    };
    pc.onconnectionstatechange = () => { if (pc.connectionState === 'connected') { socket.close(); out.closed = true; } };
    const offer = await pc.createOffer();
    await pc.setLocalDescription(offer);
    socket.send(JSON.stringify(ask.form === 'ws1' ? { type: 'webrtc/offer', value: offer.sdp } : { type: 'webrtc', value: { type: 'offer', sdp: offer.sdp, ice_servers: [] } }));
    await new Promise((done, fail) => {
      socket.onmessage = async event => {
        const message = JSON.parse(event.data);
        out.seen.push(message.type);
        if (message.type === 'error') fail(new Error(message.value));
        if (message.type === 'webrtc/candidate' && good(message.value)) await pc.addIceCandidate({ candidate: message.value, sdpMid: '0' });
        if (message.type === 'webrtc/answer' || message.type === 'webrtc') {
          out.answer = message.value.sdp ?? message.value;
          await pc.setRemoteDescription({ type: 'answer', sdp: out.answer });
          done();
        }
      };
    });
    return out;
  }
  const offer = (pc, ask, key) => ask.form.startsWith('ws') ? overSocket(pc, ask, key) : overHttp(pc, ask, key);
  window.play = async ask => {
    if (ask.net === 'tcp') await navigator.mediaDevices.getUserMedia({ audio: true });
    const video = document.createElement('video');
    video.muted = video.autoplay = true;
    document.body.append(video);
    const pc = new RTCPeerConnection({ iceServers: ask.ice || [], iceTransportPolicy: ask.policy || 'all' });
    const peer = { pc, video, start: performance.now(), first: null };
    peers.push(peer);
    video.srcObject = new MediaStream();
    pc.ontrack = event => {
      video.srcObject.addTrack(event.track);
      if (event.track.kind === 'audio' && !ask.count) {
        const context = new AudioContext();
        peer.context = context;
        peer.analyser = context.createAnalyser();
        peer.analyser.fftSize = 8192;
        peer.analyser.smoothingTimeConstant = 0;
        context.createMediaStreamSource(new MediaStream([event.track])).connect(peer.analyser);
      }
    };
    pc.addTransceiver('video', { direction: 'recvonly' });
    pc.addTransceiver('audio', { direction: 'recvonly' });
    peer.start = performance.now();
    const watch = () => {
      if (video.getVideoPlaybackQuality().totalVideoFrames > 0) peer.first = Math.round(performance.now() - peer.start);
      else requestAnimationFrame(watch);
    };
    watch();
    peer.signalling = await offer(pc, ask, 'src');
  };
  window.publish = async ask => {
    const devices = navigator.mediaDevices;
    const stream = ask.media === 'display' ? await devices.getDisplayMedia({ video: true }) : await devices.getUserMedia({ video: true, audio: true });
    const pc = new RTCPeerConnection({ iceServers: ask.ice || [], iceTransportPolicy: ask.policy || 'all' });
    peers.push({ pc, start: performance.now() });
    stream.getTracks().forEach(track => pc.addTransceiver(track, { direction: 'sendonly' }));
    if (ask.codec) {
      const known = RTCRtpSender.getCapabilities('video').codecs;
      const [video] = pc.getTransceivers().filter(one => one.sender.track.kind === 'video');
      video.setCodecPreferences(known.filter(codec => [`video/${ask.codec}`, 'video/rtx'].includes(codec.mimeType)));
    }
    peers.at(-1).signalling = await offer(pc, ask, 'dst');
  };
  // Offers again and again on one WebSocket and one connection, and counts what comes and goes meanwhile.
  window.again = async ask => {
    const pc = new RTCPeerConnection();
    const video = document.createElement('video');
    video.muted = video.autoplay = true;
    document.body.append(video);
    video.srcObject = new MediaStream();
    pc.ontrack = event => video.srcObject.addTrack(event.track);
    const socket = new WebSocket(`ws://${location.host}/api/ws?${ask.key}=${ask.name}`);
    await new Promise((done, fail) => { socket.onopen = done; socket.onerror = fail; });
    let answered;
    socket.onmessage = async event => {
      const message = JSON.parse(event.data);
      if (message.type === 'webrtc/answer' || message.type === 'error') answered(message);
      if (message.type === 'webrtc/candidate') await pc.addIceCandidate({ candidate: message.value, sdpMid: pc.getTransceivers()[0].mid }).catch(() => {});
    };
    pc.onicecandidate = event => socket.send(JSON.stringify({ type: 'webrtc/candidate', value: event.candidate?.candidate || '' }));
    const negotiate = async () => {
      await pc.setLocalDescription();
      const answer = new Promise(done => { answered = done; });
      socket.send(JSON.stringify({ type: 'webrtc/offer', value: pc.localDescription.sdp }));
      const message = await answer;
      if (message.type === 'error') throw new Error(message.value);
      await pc.setRemoteDescription({ type: 'answer', sdp: message.value });
      return message.value;
    };
    const media = await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
    const [microphone, camera] = [media.getAudioTracks()[0], media.getVideoTracks()[0]];
    const of = kind => pc.getTransceivers().find(one => one.receiver.track.kind === kind && one.direction !== 'stopped');
    const steps = {
      play: () => { pc.addTransceiver('video', { direction: 'recvonly' }); pc.addTransceiver('audio', { direction: 'recvonly' }); },
      picture: () => pc.addTransceiver('video', { direction: 'recvonly' }),
      sound: () => pc.addTransceiver('audio', { direction: 'recvonly' }),
      nothing: () => {},
      speak: () => { window.voice = pc.addTransceiver(microphone, { direction: 'sendonly' }); },
      mute: () => window.voice.stop(),
      both: async () => { await of('audio').sender.replaceTrack(microphone); of('audio').direction = 'sendrecv'; },
      restart: () => pc.restartIce(),
      dark: () => { of('video').direction = 'inactive'; },
      light: () => { of('video').direction = 'recvonly'; },
      'publish sound': () => pc.addTransceiver(microphone, { direction: 'sendonly' }),
      'publish picture': () => pc.addTransceiver(camera, { direction: 'sendonly' }),
    };
    const look = async () => {
      const out = { state: pc.connectionState, frames: 0, keys: 0, asked: 0, lost: 0, freezes: 0, sound: 0, out: 0, encoded: 0 };
      for (const entry of (await pc.getStats()).values()) {
        if (entry.type === 'inbound-rtp') {
          out.lost += entry.packetsLost;
          if (entry.kind === 'video') { out.frames += entry.framesDecoded; out.keys += entry.keyFramesDecoded; out.asked += entry.pliCount; out.freezes += entry.freezeCount; }
          else out.sound += entry.packetsReceived;
        }
        if (entry.type === 'outbound-rtp' && entry.kind === 'audio') out.out += entry.packetsSent;
        if (entry.type === 'outbound-rtp' && entry.kind === 'video') out.encoded += entry.framesEncoded;
      }
      return out;
    };
    const seen = [];
    const shows = () => ask.key === 'src' && of('video').direction === 'recvonly';
    const enough = (now, before) => !shows() || now.frames - before.frames > 12;
    for (const [index, step] of ask.steps.entries()) {
      const least = 1000 * (ask.seconds[index] ?? ask.seconds);
      const before = await look();
      await steps[step]();
      const answer = await negotiate();
      const end = performance.now() + 20000;
      let now;
      do {
        await new Promise(done => setTimeout(done, 500));
        now = await look();
      } while (performance.now() < end && (now.state !== 'connected' || performance.now() < end - 20000 + least || !enough(now, before)));
      seen.push({ step, ...Object.fromEntries(Object.entries(now).map(([key, value]) => [key, typeof value === 'number' ? value - before[key] : value])),
        ufrag: /a=ice-ufrag:(\S+)/.exec(answer)[1], answer });
    }
    peers.push({ pc, video, signalling: { seen } });
  };
  window.report = async peer => {
    const out = { ...peer.signalling, state: peer.pc.connectionState, first_ms: peer.first, width: peer.video?.videoWidth };
    const stats = [...(await peer.pc.getStats()).values()];
    for (const entry of stats) {
      if (entry.type === 'inbound-rtp') out[entry.kind] = { packets: entry.packetsReceived, lost: entry.packetsLost, frames: entry.framesDecoded, keys: entry.keyFramesDecoded, nack: entry.nackCount, pli: entry.pliCount, freezes: entry.freezeCount };
      if (entry.type === 'outbound-rtp') out[entry.kind] = { packets: entry.packetsSent, frames: entry.framesEncoded, nack: entry.nackCount, pli: entry.pliCount };
      if (entry.type === 'candidate-pair' && entry.nominated) {
        const [local, remote] = [entry.localCandidateId, entry.remoteCandidateId].map(id => stats.find(other => other.id === id));
        out.pair = local?.protocol;
        out.ways = [local?.candidateType, local?.relayProtocol, remote?.candidateType];
      }
      if (entry.type === 'remote-outbound-rtp') out['reports_' + entry.kind] = entry.reportsSent;
    }
    if (peer.analyser) {
      const bins = new Float32Array(peer.analyser.frequencyBinCount);
      peer.analyser.getFloatFrequencyData(bins);
      let best = 2;
      for (let k = 2; k < bins.length; k++) if (bins[k] > bins[best]) best = k;
      out.tone_hz = Math.round(best * peer.context.sampleRate / peer.analyser.fftSize);
    }
    return out;
  };
};

const browser = await launch(...FAKE_DEVICES, SHOWN_ADDRESSES, '--auto-select-desktop-capture-source=Entire screen');

/** Does what is asked for, and says what it saw. */
const perform = async (ask, stopped) => {
  const context = await browser.newContext({ permissions: ['camera', 'microphone'] });
  try {
    const page = await context.newPage();
    await page.goto(ask.base + 'api');
    await page.evaluate(prepare);
    const begin = () => page.evaluate(async ask => { await Promise.all(Array.from({ length: ask.count || 1 }, () => window[ask.what](ask))); }, ask);
    const look = () => page.evaluate(() => report(peers[0]));
    let seen;
    if (ask.hold) {
      await begin();
      await page.waitForFunction(count => peers.filter(peer => peer.pc.connectionState === 'connected').length >= count, ask.count);
      console.log(JSON.stringify({ connected: ask.count, pid: process.pid }));
      await new Promise(done => process.stdin.on('end', done).resume());
    } else if (ask.count) {
      for (let round = 0; round < ask.rounds; round++) {
        await begin();
        await page.waitForFunction(count => peers.slice(-count).every(peer => peer.first !== null), ask.count, { timeout: 30000 });
        await page.evaluate(() => { for (const peer of peers) peer.pc.close(); });
      }
      seen = { played: ask.rounds * ask.count };
    } else {
      await begin();
      if (ask.what === 'publish') await stopped;
      const end = Date.now() + 30000;
      const enough = seen => seen.first_ms !== null && seen.video?.frames >= ask.frames && (!ask.tone || Math.abs(seen.tone_hz - ask.tone) < 12)
        && (!ask.reports || (seen.reports_video > 0 && seen.reports_audio > 0));
      while (seen = await look(), ask.what === 'play' && !enough(seen) && Date.now() < end) await page.waitForTimeout(200);
    }
    // A TURN server is told at once.
    await page.evaluate(() => { for (const peer of peers) peer.pc.close(); });
    await page.waitForTimeout(100);
    return seen;
  } finally {
    await context.close();
  }
};

try {
  if (process.argv[2]) {
    console.log(JSON.stringify(await perform(JSON.parse(process.argv[2]))));
  } else {
    const stops = new Map(), doing = new Set();
    for await (const line of createInterface({ input: process.stdin })) {
      const { id, stop, ...ask } = JSON.parse(line);
      if (stop) {
        stops.get(stop)?.();
        continue;
      }
      const tell = more => console.log(JSON.stringify({ id, ...more }));
      const done = perform(ask, new Promise(resolve => stops.set(id, resolve))).then(seen => tell({ seen }), error => tell({ error: String(error.stack) }));
      doing.add(done);
      done.then(() => { doing.delete(done); stops.delete(id); });
    }
  }
} finally {
  await browser.close();
}
