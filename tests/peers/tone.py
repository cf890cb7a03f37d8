#!/usr/bin/env python3
"""Strongest frequency of a sound: `tone.py [--secs S] -- FFMPEG_INPUT_OPTIONS -i URL` prints JSON {hz, rms, samples}."""
import array
import json
import math
import subprocess
import sys

RATE = 8000


def power(samples, hz):
    """Goertzel's algorithm."""
    k, a, b = 2 * math.cos(2 * math.pi * hz / RATE), 0.0, 0.0
    for value in samples:
        a, b = value + k * a - b, a
    return a * a + b * b - k * a * b


def main():
    seconds, words = 1.0, sys.argv[1:]
    if words[:1] == ["--secs"]:
        seconds, words = float(words[1]), words[2:]
    words = words[words[:1] == ["--"]:]
    raw = subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *words, "-vn", "-t", str(seconds), "-ac", "1", "-ar", str(RATE), "-f", "s16le", "-"],
                         stdout=subprocess.PIPE, timeout=40).stdout
    samples = array.array("h", raw[:len(raw) // 2 * 2])
    if not samples:
        print(json.dumps({"hz": 0, "rms": 0, "samples": 0}))
        sys.exit(1)
    best = max(range(100, 3800, 20), key=lambda hz: power(samples, hz))
    best = max(range(best - 20, best + 21, 2), key=lambda hz: power(samples, hz))
    rms = round(math.sqrt(sum(value * value for value in samples) / len(samples)))
    print(json.dumps({"hz": best, "rms": rms, "samples": len(samples)}))


if __name__ == "__main__":
    main()
