// Looks after a player: whether something comes, and if not, why, over the last picture. Players stay connected while a camera is away.
import { describe, plain } from './api.js';

const EACH = 4000; // ms between two looks at the stream
const QUIET = 3000; // ms without anything after which they are closer
const AGAIN = 2000; // ms between those
const LOST = 8000; // ms without anything, while the stream goes on or the server is away, after which all begins anew

const sum = (stream) => (stream.producers ?? []).flatMap((producer) => producer.receivers ?? []).reduce((bytes, track) => bytes + (track.bytes ?? 0), 0);

export class Guard {
  /** `mode`: what plays; `address`: of the stream's entry in /api/streams; `say(text)`: shown while nothing comes, '' when it does again. */
  constructor(mode, address, say) {
    const now = performance.now();
    Object.assign(this, { mode, address, say, count: -1, since: now, asked: now, bytes: null, away: false, unreachable: false, busy: false });
  }

  /** Called about once a second. */
  async turn() {
    if (this.busy || this.mode.stop.signal.aborted) return;
    this.busy = true;
    try { await this.look(); } finally { this.busy = false; }
  }

  async look() {
    const count = await this.mode.progress().catch(() => null);
    const now = performance.now();
    if (count !== null && count !== this.count) Object.assign(this, { count, since: now, bytes: null });
    const quiet = count !== null && now - this.since >= QUIET;
    // What comes may be what was there before: a browser that asks for a new picture gets the last one again.
    if (now - this.asked < (quiet || this.away ? AGAIN : EACH)) return;
    this.asked = now;
    let answer, stream;
    try {
      answer = await fetch(this.address, { cache: 'no-store', signal: AbortSignal.timeout(LOST) });
      if (answer.ok) stream = await answer.json();
    } catch {
      if (!quiet && count !== null) return;
      this.unreachable = true;
      this.tell('No connection to the server');
      if (quiet && now - this.since > LOST) this.lost('no connection to the server');
      return;
    }
    // The server that is back is another one.
    if (this.unreachable && quiet) { this.lost('the server was away'); return; }
    this.unreachable = false;
    if (!stream) { this.lost(answer.status === 404 ? 'there is no such stream any more' : 'the server does not show it'); return; }
    const is = describe(stream);
    if (is.state !== 'live') {
      this.bytes = null;
      this.since = Math.max(this.since, now - LOST / 2);
      this.tell(is.empty ? 'Nobody publishes it now' : is.state === 'idle' ? 'Waiting for the camera' : plain(is.text));
      return;
    }
    const bytes = sum(stream);
    if (!quiet) this.tell('');
    else if (this.bytes !== null && bytes > this.bytes && now - this.since > LOST) this.lost('nothing comes any more');
    this.bytes ??= bytes;
  }

  tell(text) {
    if (!text && !this.away) return;
    this.away = Boolean(text);
    this.say(text);
  }

  lost(reason) {
    this.mode.lost(reason, this.unreachable);
    this.mode.close();
  }
}
