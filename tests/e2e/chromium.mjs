// The Chromium of these scripts: without GPU and questions, with what plays from the start.
import { chromium } from 'playwright-core';

/** Starts it, with more arguments than it always has. */
export const launch = (...more) => chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--autoplay-policy=no-user-gesture-required', ...more],
});

/** Makes ICE name this machine's addresses. */
export const SHOWN_ADDRESSES = '--disable-features=WebRtcHideLocalIpsWithMdns';

/** A camera and a microphone that nobody has to allow. */
export const FAKE_DEVICES = ['--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream'];
