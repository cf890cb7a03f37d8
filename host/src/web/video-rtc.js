// The name under which pages and cards written for go2rtc load their player: <video-rtc>, whose `src` may also be the
// address of a WebSocket (`ws://server/api/ws?src=NAME`, or a relative one).
import { PatchbayPlayer } from './patchbay-player.js';

export class VideoRTC extends PatchbayPlayer {
  set src(value) {
    const text = String(value ?? '');
    const at = text.indexOf('api/ws?');
    if (at < 0) { super.src = text; return; }
    const address = new URL(text, location.href);
    address.protocol = address.protocol.replace('ws', 'http');
    super.src = address.searchParams.get('src') ?? '';
    this.setAttribute('base', new URL('..', address).href);
  }

  get src() { return super.src; }

  get background() { return this.hasAttribute('background'); }
  set background(value) { this.toggleAttribute('background', Boolean(value)); }
  get media() { return this.getAttribute('media') ?? 'video,audio'; }
  set media(value) { this.setAttribute('media', value); }
  /** Seen and hidden players, and pages in the background, are all handled by the element. */
  get visibilityCheck() { return !this.background; }
  set visibilityCheck(value) { this.background = !value; }
  get wsURL() { return this.url('api/ws').href.replace(/^http/, 'ws'); }
  set wsURL(value) { this.src = value; }
  play() { this.video?.play().catch(() => {}); }
}

if (!customElements.get('video-rtc')) customElements.define('video-rtc', class extends VideoRTC {});
