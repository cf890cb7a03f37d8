#!/usr/bin/env python3
"""What comes out is what went in: every source that there is a real program for, against every output.

Pictures are compared by the hash of their NAL units without parameter sets and delimiters, audio by the hash of whole frames, times
by their differences, which must be equal to the last tick of the coarser format. A combination that cannot work must end in one clear
error. One line a cell, then the table; the last line is `N passed, N failed, N skipped`. Words choose the sources that hold them.
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
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request

from run import CLIP_FOLDER, Camera, Ranges, Server, Skip, clip, free_port, probe_codec, run, wait

VIDEO = {"h264": "h264_mp4toannexb,filter_units=remove_types=7|8|9", "hevc": "hevc_mp4toannexb,filter_units=remove_types=32|33|34|35"}


def units(source, *options, seconds=None, video=True):
    """Per kind the list of (hash, presentation time in seconds), in decoding order."""
    bitstream = ["-bsf:v", VIDEO[probe_codec(source, *options)]] if video else []
    if str(source).split("?")[0].endswith((".ts", ".m3u8", ".aac")):
        codec = run("ffprobe", "-v", "error", "-select_streams", "a", "-show_entries", "stream=codec_name", "-of", "csv=p=0", source).stdout
        bitstream += ["-bsf:a", "aac_adtstoasc"] if codec.split()[:1] == [b"aac"] else []
    limit = ["-t", str(seconds)] if seconds else []
    maps = ["-map", "0:v", "-map", "0:a?"] if video else ["-map", "0:a"]
    done = run("ffmpeg", "-nostdin", "-v", "error", *options, "-i", source, *maps, *limit, "-c", "copy", *bitstream,
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
    assert found["video"] or found["audio"], done.stderr.decode()
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
            if tick and j > i and abs((whole[j][1] - whole[i][1]) - (b[1] - a[1])) > tick:
                return f"times differ after unit {i}: {float(whole[j][1] - whole[i][1])} is {float(b[1] - a[1])}"
        return None
    return f"{len(part)} units do not stand in the source in this order"


FINE, MILLISECOND = fractions.Fraction(1, 80_000), fractions.Fraction(1, 900)


class Output:
    """Where one format comes out, and how exact its times are."""

    def __init__(self, url, *options, tick=FINE, video=("h264", "hevc"), audio=("aac", "opus")):
        self.url, self.options, self.tick, self.video, self.audio = url, options, tick, video, audio


def outputs(server, name):
    rtsp = f"rtsp://127.0.0.1:{server.rtsp}/{name}?history=0"
    http = lambda path, query="": server.url(f"api/{path}?src={name}&{query}history=0")
    # Of RTSP ffmpeg computes times anew from each sender report: a tick of the audio's clock is rounding.
    coarse = fractions.Fraction(1, 40_000)
    return {
        "rtsp tcp": Output(rtsp, "-rtsp_transport", "tcp", tick=coarse),
        "rtsp udp": Output(rtsp, "-rtsp_transport", "udp", tick=coarse),
        "mp4": Output(http("stream.mp4", "video=all&audio=all&")),
        "ts": Output(http("stream.ts", "video=all&audio=all&")),
        # Enhanced FLV is newer than Debian's ffmpeg; what it says of H.265 and Opus is in the tests of sdk/mux.
        "flv": Output(http("stream.flv"), tick=MILLISECOND, video=("h264",), audio=("aac",)),
        "rtmp": Output(f"rtmp://127.0.0.1:{server.rtmp}/{name}?history=0", tick=MILLISECOND, video=("h264",), audio=("aac",)),
        "hls ts": Output(server.url(f"api/stream.m3u8?src={name}"), "-live_start_index", "0", audio=("aac",)),
        "hls fmp4": Output(server.url(f"api/stream.m3u8?src={name}&mp4=all"), "-live_start_index", "0"),
        "aac": Output(http("stream.aac"), video=(), audio=("aac",)),
    }


@contextlib.contextmanager
def program(*command):
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def serve(source):
    """A server with this source, which also speaks RTMP."""
    port = free_port()
    server = Server(streams=f"streams:\n  s: {source}\n", extra=f"rtmp:\n  listen: 127.0.0.1:{port}\n")
    server.rtmp = port
    return server


def live(server):
    return (server.json("api/streams")["s"]["producers"] or [{}])[0].get("state") == "live"


@contextlib.contextmanager
def from_file(path):
    with serve(f"file:{path}") as server:
        yield server


@contextlib.contextmanager
def from_exec(path, format):
    """Any program's output."""
    with serve(f'"exec:ffmpeg -nostdin -v error -re -stream_loop 9 -i {path} -c copy -f {format} -"') as server:
        yield server


@contextlib.contextmanager
def from_tcp(path, format):
    port = free_port()
    with program("ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "9", "-i", path, "-c", "copy", "-f", format,
                 f"tcp://127.0.0.1:{port}?listen=1"):
        time.sleep(0.5)
        with serve(f"tcp://127.0.0.1:{port}") as server:
            yield server


@contextlib.contextmanager
def posted(path, format, end):
    """A program sends its output to the API."""
    with serve("") as server:
        with program("ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "9", "-i", path, "-c", "copy", "-f", format,
                     "-method", "POST", server.url(f"api/stream.{end}?dst=s")) as publisher:
            wait(lambda: live(server), 15, "publisher", publisher)
            yield server


@contextlib.contextmanager
def rtmp_published(path):
    with serve("") as server:
        with program("ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "9", "-i", path, "-c", "copy", "-f", "flv",
                     f"rtmp://127.0.0.1:{server.rtmp}/s") as publisher:
            wait(lambda: live(server), 15, "publisher", publisher)
            yield server


@contextlib.contextmanager
def from_rtmp(path):
    """Another server's RTMP."""
    with rtmp_published(path) as other:
        with serve(f"rtmp://127.0.0.1:{other.rtmp}/s?history=0") as server:
            yield server


@contextlib.contextmanager
def from_hls(path, kind):
    """A live playlist that ffmpeg writes and a web server gives."""
    with tempfile.TemporaryDirectory() as folder:
        web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Ranges, directory=folder))
        threading.Thread(target=web.serve_forever, daemon=True).start()
        try:
            with program("ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "9", "-i", path, "-c", "copy", "-f", "hls", "-hls_time", "1",
                         "-hls_list_size", "6", "-hls_segment_type", kind, f"{folder}/list.m3u8"):
                wait(lambda: os.path.exists(f"{folder}/list.m3u8"), 15, "the playlist")
                with serve(f"http://u:p@ss@127.0.0.1:{web.server_address[1]}/list.m3u8") as server:
                    yield server
        finally:
            web.shutdown()


@contextlib.contextmanager
def from_http(path):
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Ranges, directory=CLIP_FOLDER.name))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        with serve(f"http://u:p@ss@127.0.0.1:{web.server_address[1]}/{path.name}") as server:
            yield server
    finally:
        web.shutdown()


@contextlib.contextmanager
def published(path, transport):
    with serve("") as server:
        with program("ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "9", "-i", path, "-c", "copy", "-f", "rtsp", "-rtsp_transport", transport,
                     f"rtsp://127.0.0.1:{server.rtsp}/s") as publisher:
            wait(lambda: live(server), 15, "publisher", publisher)
            yield server


@contextlib.contextmanager
def camera(path, transport):
    """gst-rtsp-server that sends a clip once, B-frames and all, without decoding."""
    source = Camera("--file", str(path))
    try:
        with serve(f"rtsp://127.0.0.1:{source.port}/cam#transport={transport}") as server:
            yield server
    finally:
        source.stop()


SOURCES = [
    ("mp4 file, B-frames, index at the end", from_file, "h264-aac.mp4"),
    ("ts file, B-frames", from_file, "h264-aac.ts"),
    ("mp4 over http", from_http, "h264-aac.mp4"),
    ("ts over http", from_http, "h264-aac.ts"),
    ("ffmpeg announces H.264 + AAC over tcp", functools.partial(published, transport="tcp"), "h264-plain-long.mp4"),
    ("ffmpeg announces H.264 (B) + AAC over tcp", functools.partial(published, transport="tcp"), "h264-aac.mp4"),
    ("ffmpeg announces H.264 (B) + AAC over udp", functools.partial(published, transport="udp"), "h264-aac.mp4"),
    ("ffmpeg announces H.265 (B) + Opus over tcp", functools.partial(published, transport="tcp"), "hevc-opus.mkv"),
    ("gst-rtsp-server over tcp", functools.partial(camera, transport="tcp"), "h264-long.mp4"),
    ("gst-rtsp-server over udp", functools.partial(camera, transport="udp"), "h264-long.mp4"),
    ("flv file", from_file, "h264-aac.flv"),
    ("h264 over exec", functools.partial(from_exec, format="h264"), "h264-plain.mp4"),
    ("hevc over exec", functools.partial(from_exec, format="hevc"), "hevc-long.mp4"),
    ("ts over exec", functools.partial(from_exec, format="mpegts"), "h264-aac.mp4"),
    ("adts over exec", functools.partial(from_exec, format="adts"), "aac.m4a"),
    ("ts over tcp", functools.partial(from_tcp, format="mpegts"), "h264-aac.mp4"),
    ("flv over tcp", functools.partial(from_tcp, format="flv"), "h264-aac.mp4"),
    ("ts posted", functools.partial(posted, format="mpegts", end="ts"), "h264-aac.mp4"),
    ("flv posted", functools.partial(posted, format="flv", end="flv"), "h264-aac.mp4"),
    ("ffmpeg publishes over rtmp", rtmp_published, "h264-aac.mp4"),
    ("rtmp dialled", from_rtmp, "h264-aac.mp4"),
    ("hls of ts", functools.partial(from_hls, kind="mpegts"), "h264-aac.mp4"),
    ("hls of fmp4", functools.partial(from_hls, kind="fmp4"), "h264-aac.mp4"),
]
# Sources whose own clock is coarser than a track's.
COARSE = {"flv": MILLISECOND, "rtmp": MILLISECOND}
# Byte streams without times: pictures come at the rate that their parameters say.
WITHOUT_TIMES = ("h264 over exec", "hevc over exec")


def refused(output):
    """A combination that cannot work says so in one line, within 20 s."""
    if not output.url.startswith("http"):
        done = run("ffmpeg", "-nostdin", "-v", "error", *output.options, "-i", output.url, "-t", "1", "-f", "null", "-", limit=30)
        return (None, "refused") if done.returncode else ("it should have been refused", None)
    try:
        with urllib.request.urlopen(output.url, timeout=30) as answer:
            return f"it should have been refused: {answer.status}", None
    except urllib.error.HTTPError as error:
        text = error.read().decode().strip()
        return (None, f"refused: {text}") if text and "\n" not in text else (f"{error.code} {text!r}", None)


def check(title, output, whole, codecs):
    """One cell: an error text, or how many units were compared."""
    pictures = bool(whole["video"]) and codecs.get("video") in output.video
    sounds = bool(whole["audio"]) and codecs.get("audio") in output.audio
    if not pictures and not sounds:
        return refused(output)
    tick = max([output.tick] + [tick for word, tick in COARSE.items() if word in title])
    part = units(output.url, *output.options, seconds=4, video=pictures)
    # ffmpeg 5 knows no time of an RTSP stream's first picture, from no server; the last frame of a limited copy may be cut.
    video, sound = part["video"][1:-2], part["audio"][:-2]
    texts = []
    for kind, wanted, got in (("video", pictures, video), ("audio", sounds, sound)):
        if not wanted:
            continue
        if len(got) < 60:
            return f"only {len(got)} units of {kind}", None
        if (error := same(got, whole[kind], tick if title not in WITHOUT_TIMES else None)):
            return f"{kind}: {error}", None
        texts.append(f"{len(got)} of {kind}")
    return None, ", ".join(texts)


TABLE = {}


def kinds(path):
    done = run("ffprobe", "-v", "error", "-show_entries", "stream=codec_type,codec_name", "-of", "csv=p=0", path)
    return {kind: name for name, kind in (line.strip(",").split(",")[:2] for line in done.stdout.decode().split())}


def table():
    """The table of the README."""
    labels = list(next(iter(TABLE.values())))
    print("| in \\ out | " + " | ".join(labels) + " |")
    print("|---" * (len(labels) + 1) + "|")
    for title, cells in TABLE.items():
        print(f"| {title} | " + " | ".join(cells.get(label, "") for label in labels) + " |")


def row(title, source, name):
    """Lines of one source against all outputs: (ok, text)."""
    path = clip(name)
    codecs = kinds(path)
    whole = units(path, video="video" in codecs)
    if title in WITHOUT_TIMES:
        whole["audio"] = []
    with source(path) as server:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            results = {label: pool.submit(check, title, output, whole, codecs) for label, output in outputs(server, "s").items()}
        for label, result in results.items():
            try:
                error, count = result.result()
            except Exception as problem:
                error, count = f"{type(problem).__name__}: {problem}", None
            TABLE.setdefault(title, {})[label] = "**no**" if error else "-" if count.startswith("refused") else "yes"
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
    if TABLE:
        table()
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
