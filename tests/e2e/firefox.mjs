// Firefox plays by every way it has, driven over WebDriver BiDi, which it speaks itself: node firefox.mjs URL FOLDER
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import WebSocket from 'ws';

const [base, profile] = process.argv.slice(2);
const settings = {
  'media.autoplay.default': 0, 'media.peerconnection.ice.loopback': true, 'media.peerconnection.ice.obfuscate_host_addresses': false,
  'media.gmp-manager.updateEnabled': false, 'datareporting.policy.dataSubmissionEnabled': false, 'app.update.enabled': false,
};
writeFileSync(`${profile}/user.js`, Object.entries(settings).map(([key, value]) => `user_pref(${JSON.stringify(key)}, ${JSON.stringify(value)});\n`).join(''));
const firefox = spawn('firefox-esr', ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port', '0'], { stdio: ['ignore', 'ignore', 'pipe'] });
const limit = setTimeout(() => firefox.kill('SIGKILL'), 120000);
try {
  let address;
  for await (const line of createInterface({ input: firefox.stderr })) {
    address = /WebDriver BiDi listening on (\S+)/.exec(line)?.[1];
    if (address) break;
  }
  assert.ok(address, 'Firefox does not start');
  firefox.stderr.resume();
  const socket = new WebSocket(`${address}/session`);
  const waiting = new Map(), errors = [];
  socket.on('message', (data) => {
    const message = JSON.parse(data);
    if (message.method === 'log.entryAdded' && message.params.type === 'javascript') errors.push(message.params.text);
    const one = waiting.get(message.id);
    if (!one) return;
    waiting.delete(message.id);
    if (message.type === 'error') one.reject(new Error(message.message)); else one.resolve(message.result);
  });
  await new Promise((done, fail) => { socket.once('open', done); socket.once('error', fail); });
  let last = 0;
  const send = (method, params) => new Promise((resolve, reject) => { last += 1; waiting.set(last, { resolve, reject }); socket.send(JSON.stringify({ id: last, method, params })); });
  await send('session.new', { capabilities: {} });
  await send('session.subscribe', { events: ['log.entryAdded'] });
  const { contexts: [{ context }] } = await send('browsingContext.getTree', {});
  const run = async (text) => {
    const { result, exceptionDetails } = await send('script.evaluate', { expression: text, target: { context }, awaitPromise: true });
    if (exceptionDetails) throw new Error(exceptionDetails.text);
    return result.value;
  };
  // Settles with the way and the pictures or packets that came by it.
  const came = `(async () => {
    const player = document.querySelector('patchbay-player');
    for (;;) {
      const { video, playing, modeName } = player;
      if (player.state === 'playing') {
        const frames = video.getVideoPlaybackQuality().totalVideoFrames;
        const count = modeName === 'mjpeg' || !video.videoWidth ? await playing.progress() : frames;
        if (count >= 20) return JSON.stringify([modeName, count]);
      }
      if (player.tried.length && WANTED.startsWith('webrtc')) return JSON.stringify([null, player.tried[0].reason]);
      await new Promise((done) => setTimeout(done, 100));
    }
  })()`;
  const h264 = await run(`RTCRtpReceiver.getCapabilities('video').codecs.some((one) => one.mimeType === 'video/H264')`);
  for (const [path, wanted] of [['src=demo', h264 ? 'webrtc' : 'mse'], ['src=demo&mode=mse', 'mse'], ['src=demo&mode=mp4', 'mp4'], ['src=jpeg', 'mjpeg'],
    ['src=demo&mode=webrtc&media=audio', 'webrtc'], ...(h264 ? [['src=demo&mode=webrtc', 'webrtc']] : [])]) {
    await send('browsingContext.navigate', { context, url: `${base}stream.html?${path}`, wait: 'complete' });
    const [mode, count] = JSON.parse(await run(came.replace('WANTED', JSON.stringify(wanted))));
    assert.equal(mode, wanted, `${path}: ${count}`);
    console.log(`  ${path}: ${mode}, ${count} ${/audio/.test(path) ? 'packets' : 'pictures'}`);
  }
  if (!h264) {
    await send('browsingContext.navigate', { context, url: `${base}stream.html?src=demo&mode=webrtc,mse`, wait: 'complete' });
    const [mode] = JSON.parse(await run(came.replace('WANTED', '"mse"')));
    assert.equal(mode, 'mse');
    console.log('  this Firefox has no H.264 for WebRTC (it downloads OpenH264 when it can): asked for WebRTC it goes on to MSE');
  }
  // Over TCP alone, with only such candidates on both sides, and over whatever it chooses.
  await send('browsingContext.navigate', { context, url: base, wait: 'complete' });
  for (const net of ['tcp', 'any']) {
    const seen = JSON.parse(await run(`(async () => {
      const only = (text) => text.split('\\r\\n').filter((line) => ${net !== 'tcp'} || !line.startsWith('a=candidate') || / tcp /i.test(line)).join('\\r\\n');
      const pc = new RTCPeerConnection();
      const states = [];
      pc.oniceconnectionstatechange = () => states.push(pc.iceConnectionState);
      pc.addTransceiver('audio', { direction: 'recvonly' });
      await pc.setLocalDescription();
      while (pc.iceGatheringState !== 'complete') await new Promise((done) => setTimeout(done, 50));
      const answer = await fetch('api/webrtc?src=demo', { method: 'POST', headers: { 'content-type': 'application/sdp' }, body: only(pc.localDescription.sdp) });
      await pc.setRemoteDescription({ type: 'answer', sdp: only(await answer.text()) });
      let packets = 0, protocol;
      while (packets < 500 && pc.iceConnectionState !== 'failed') {
        await new Promise((done) => setTimeout(done, 200));
        const stats = [...(await pc.getStats()).values()];
        packets = stats.find((one) => one.type === 'inbound-rtp')?.packetsReceived ?? 0;
        const pair = stats.find((one) => one.type === 'candidate-pair' && one.selected);
        protocol = stats.find((one) => one.id === pair?.localCandidateId)?.protocol;
      }
      pc.close();
      return JSON.stringify({ packets, protocol, states });
    })()`));
    assert.ok(seen.packets >= 500 && (net !== 'tcp' || seen.protocol === 'tcp'), JSON.stringify(seen));
    assert.ok(!seen.states.includes('disconnected'), JSON.stringify(seen));
    console.log(`  ${seen.packets} packets of sound over ${seen.protocol}`);
  }
  assert.deepEqual(errors, []);
  await send('browser.close', {}).catch(() => {});
} finally {
  clearTimeout(limit);
  firefox.kill();
}
