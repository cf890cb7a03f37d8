#!/usr/bin/env python3
"""Runs several scripts at once, each in a process of its own: `lanes.py [LANES] < LIST`.

A line of LIST is a script of this folder with its arguments, with `NAME=value` words in front of it for the environment; a line `alone` lets what
follows it run one at a time. What a script prints comes in one piece when it ends. The first longest goes first: LIST is taken in order.
Ends with 1 when one of them failed, after all have run, and a table of what took how long.
"""
import os
import pathlib
import queue
import resource
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
LIMIT = 20 * 60


def main():
    lanes = int(sys.argv[1]) if len(sys.argv) > 1 else max(3, len(os.sched_getaffinity(0)) - 1)
    begun, printing, results = time.monotonic(), threading.Lock(), []

    def one(lane, line):
        words = line.split()
        settings = dict(word.split("=", 1) for word in words if "=" in word.partition(".py")[0])
        script, *arguments = words[len(settings):]
        since = time.monotonic()
        try:
            done = subprocess.run([sys.executable, HERE / script, *arguments], env={**os.environ, **settings, "PATCHBAY_LANE": str(lane), "PYTHONUNBUFFERED": "1"},
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=LIMIT)
            text, code = done.stdout, done.returncode
        except subprocess.TimeoutExpired as late:
            text, code = (late.stdout or b"") + f"\nkilled after {LIMIT} s\n".encode(), -9
        with printing:
            results.append((line, code, time.monotonic() - since))
            print(f"\n== {line}: {'ok' if code == 0 else f'FAILED ({code})'} after {results[-1][2]:.0f} s, at {time.monotonic() - begun:.0f} s", flush=True)
            sys.stdout.buffer.write(text)
            sys.stdout.flush()

    def run(lines, count):
        waiting = queue.SimpleQueue()
        for line in lines:
            waiting.put(line)

        def lane(number):
            while True:
                try:
                    line = waiting.get_nowait()
                except queue.Empty:
                    return
                one(number, line)
        threads = [threading.Thread(target=lane, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    lines = [line.strip() for line in sys.stdin if line.strip()]
    at = lines.index("alone") if "alone" in lines else len(lines)
    run(lines[:at], lanes)
    run(lines[at + 1:], 1)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\n== {len(results)} scripts in {time.monotonic() - begun:.0f} s, {lanes} at once; {used.ru_utime + used.ru_stime:.0f} s of CPU time")
    for line, code, took in results:
        print(f"{'ok    ' if code == 0 else 'FAILED'} {took:5.0f} s  {line}")
    sys.exit(1 if any(code for _, code, _ in results) else 0)


if __name__ == "__main__":
    main()
