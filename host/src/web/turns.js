// Browsers open six connections to a server over HTTP/1.1. What waits for a camera takes turns, so that the rest of the page does not
// wait with it.

/** A function that runs what it is given, `most` at a time, in the order in which it was asked; what `signal` ends is not begun. */
export function turns(most) {
  let running = 0;
  const waiting = [];
  const next = () => {
    while (running < most && waiting.length) {
      const { work, done, fail, signal } = waiting.shift();
      if (signal?.aborted) { fail(signal.reason); continue; }
      running += 1;
      work().then(done, fail).finally(() => { running -= 1; next(); });
    }
  };
  return (work, signal) => new Promise((done, fail) => { waiting.push({ work, done, fail, signal }); next(); });
}
