#!/usr/bin/env python3
"""What comes out is what went in: every source that there is a real program for, against every output.

Pictures are compared by the hash of their NAL units without parameter sets and delimiters, audio by the hash of whole frames, times
by their differences, which must be equal to the last tick. One line a cell; the last line is `N passed, N failed`.
"""
import concurrent.futures
import contextlib
import fractions
import functools
import http.server
import os
import pathlib
import subprocess
import sys
import threading
import traceback

from run import CLIP_FOLDER, Camera, Ranges, Server, Skip, clip, probe_codec, run, wait

VIDEO = {"h264": "h264_mp4toannexb,filter_units=remove_types=7|8|9", "hevc": "hevc_mp4toannexb,filter_units=remove_types=32|33|34|35"}


def units(source, *options, seconds=None):
    """Per kind the list of (hash, presentation time in seconds), in decoding order."""
    bitstream = ["-bsf:v", VIDEO[probe_codec(source, *options)]]
    if str(source).split("?")[0].endswith(".ts"):
        codec = run("ffprobe", "-v", "error", "-select_streams", "a", "-show_entries", "stream=codec_name", "-of", "csv=p=0", source).stdout
        bitstream += ["-bsf:a", "aac_adtstoasc"] if codec.split()[:1] == [b"aac"] else []
    limit = ["-t", str(seconds)] if seconds else []
    done = run("ffmpeg", "-nostdin", "-v", "error", *options, "-i", source, "-map", "0:v", "-map", "0:a?", *limit, "-c", "copy", *bitstream,
               "-f", "framemd5", "-", limit=60)
    base, kinds, found = {}, {}, {"video": [], "audio": []}
    for line in done.stdout.decode().splitlines():
        if line.startswith("#"):
            words = line[1:].replace(":", " ").split()
            if words[0] == "tb":
                base[words[1]] = fractions.Fraction(words[2])
            elif words[0] == "media_type":
                kinds[words[1]] = words[2]
        else:
            stream, _, pts, _, _, digest = (word.strip() for word in line.split(",")[:6])
            found[kinds[stream]].append((digest, int(pts) * base[stream]))
    assert found["video"], done.stderr.decode()
    return found


def same(part, whole, tick):
    """Whether `part` stands in `whole` (which may start again at its end) with the same distances in time; how many units."""
    if not part or not whole:
        return "nothing came"
    digests = [digest for digest, _ in whole]
    places = [at for at in range(len(whole)) if all(digests[(at + i) % len(whole)] == digest for i, (digest, _) in enumerate(part[:100]))]
    for at in places:
        where = [(at + i) % len(whole) for i in range(len(part))]
        if [digests[i] for i in where] != [digest for digest, _ in part]:
            continue
        for (i, j), (a, b) in zip(zip(where, where[1:]), zip(part, part[1:])):
            if j > i and abs((whole[j][1] - whole[i][1]) - (b[1] - a[1])) > tick:
                return f"times differ after unit {i}: {float(whole[j][1] - whole[i][1])} is {float(b[1] - a[1])}"
        return None
    return f"{len(part)} units do not stand in the source in this order"


def outputs(server, name):
    rtsp = f"rtsp://127.0.0.1:{server.rtsp}/{name}"
    return {
        "rtsp tcp": (f"{rtsp}?history=0", "-rtsp_transport", "tcp"),
        "rtsp udp": (f"{rtsp}?history=0", "-rtsp_transport", "udp"),
        "mp4": (server.url(f"api/stream.mp4?src={name}&video=all&audio=all&history=0"),),
        "ts": (server.url(f"api/stream.ts?src={name}&video=all&audio=all&history=0"),),
    }


@contextlib.contextmanager
def program(*command):
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def from_file(path):
    with Server(streams=f"streams:\n  s: file:{path}\n") as server:
        yield server


@contextlib.contextmanager
def from_http(path):
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Ranges, directory=CLIP_FOLDER.name))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        with Server(streams=f"streams:\n  s: http://u:p@ss@127.0.0.1:{web.server_address[1]}/{path.name}\n") as server:
            yield server
    finally:
        web.shutdown()


@contextlib.contextmanager
def published(path, transport):
    with Server(streams="streams:\n  s:\n") as server:
        with program("ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "9", "-i", path, "-c", "copy", "-f", "rtsp", "-rtsp_transport", transport,
                     f"rtsp://127.0.0.1:{server.rtsp}/s") as publisher:
            live = lambda: (server.json("api/streams")["s"]["producers"] or [{}])[0].get("state") == "live"
            wait(live, 15, "publisher", publisher)
            yield server


@contextlib.contextmanager
def camera(path, transport):
    """gst-rtsp-server that sends a clip once, B-frames and all, without decoding."""
    source = Camera("--file", str(path))
    try:
        with Server(streams=f"streams:\n  s: rtsp://127.0.0.1:{source.port}/cam#transport={transport}\n") as server:
            yield server
    finally:
        source.stop()


SOURCES = [
    ("mp4 file, B-frames, index at the end", from_file, "h264-aac.mp4"),
    ("ts file, B-frames", from_file, "h264-aac.ts"),
    ("mp4 over http", from_http, "h264-aac.mp4"),
    ("ts over http", from_http, "h264-aac.ts"),
    ("ffmpeg announces H.264 + AAC over tcp", functools.partial(published, transport="tcp"), "h264-plain.mp4"),
    ("ffmpeg announces H.264 (B) + AAC over tcp", functools.partial(published, transport="tcp"), "h264-aac.mp4"),
    ("ffmpeg announces H.264 (B) + AAC over udp", functools.partial(published, transport="udp"), "h264-aac.mp4"),
    ("ffmpeg announces H.265 (B) + Opus over tcp", functools.partial(published, transport="tcp"), "hevc-opus.mkv"),
    ("gst-rtsp-server over tcp", functools.partial(camera, transport="tcp"), "h264-long.mp4"),
    ("gst-rtsp-server over udp", functools.partial(camera, transport="udp"), "h264-long.mp4"),
]


def check(output, whole):
    """One cell: an error text, or how many units were compared."""
    url, *options = output
    # Of RTSP ffmpeg computes times anew from each sender report: a tick of the audio's clock is rounding.
    tick = fractions.Fraction(1, 40_000 if options else 80_000)
    part = units(url, *options, seconds=4)
    # ffmpeg 5 knows no time of an RTSP stream's first picture, from no server; the last frame of a limited copy may be cut.
    video, sound = part["video"][1:-2], part["audio"][:-2]
    if len(video) < 60:
        return f"only {len(video)} pictures", None
    if (error := same(video, whole["video"], tick)):
        return f"video: {error}", None
    if len(sound) < 60:
        return f"only {len(sound)} audio frames", None
    if (error := same(sound, whole["audio"], tick)):
        return f"audio: {error}", None
    return None, f"{len(video)} pictures, {len(sound)} audio frames"


def row(title, source, name):
    """Lines of one source against all outputs: (ok, text)."""
    path = clip(name)
    whole = units(path)
    with source(path) as server:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            results = {label: pool.submit(check, output, whole) for label, output in outputs(server, "s").items()}
        for label, result in results.items():
            try:
                error, count = result.result()
            except Exception as problem:
                error, count = f"{type(problem).__name__}: {problem}", None
            yield (False, f"FAILED {title} -> {label}: {error}") if error else (True, f"ok {title} -> {label}: {count}")


def main():
    wanted = sys.argv[1:]
    passed = failed = skipped = 0
    rows = [entry for entry in SOURCES if not wanted or any(word in entry[0] for word in wanted)]
    for name in {name for _, _, name in rows}:
        clip(name)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for entry, lines in [(entry, pool.submit(lambda entry=entry: list(row(*entry)))) for entry in rows]:
            try:
                for good, line in lines.result():
                    passed, failed = passed + good, failed + (not good)
                    print(line, flush=True)
            except Skip as reason:
                required = bool(os.environ.get("PATCHBAY_REQUIRE_PEERS"))
                failed, skipped = failed + required, skipped + (not required)
                print(f"{'FAILED' if required else 'skipped'} {entry[0]}: {reason}", flush=True)
            except Exception:
                failed += 1
                traceback.print_exc(file=sys.stdout)
                print(f"FAILED {entry[0]}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
