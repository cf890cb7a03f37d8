#!/usr/bin/env python3
"""Formats without a container of their own, over every way that bytes can come: files, HTTP, TCP, programs, a pipe, POST.

What comes out is compared with what went in: pictures by the hash of their NAL units, audio by the hash of whole frames or of all samples,
times by their differences. Then what must go wrong does so in one clear line, in little memory, and no program is left behind. One line a
test; the last line is `N passed, N failed`.
"""
import concurrent.futures
import contextlib
import fractions
import functools
import http.server
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

import exact
import run as rig
from exact import same, units
from run import CLIP_FOLDER, Ranges, Server, clip, peer, run, wait
from runner import main, test

if rig.ISOLATION:
    names = sorted(path.stem.removeprefix("libpatchbay_plugin_") for path in rig.BINARY.parent.glob("libpatchbay_plugin_*.so"))
    rig.ISOLATION = "plugins:\n" + "".join(f"  {name}: {{isolation: process}}\n" for name in names if name not in ("raw", "fixture"))
FFMPEG = "ffmpeg -nostdin -v error"


def folder():
    return pathlib.Path(CLIP_FOLDER.name)


@functools.cache
def made(name, source, *options):
    """A file that ffmpeg made from a clip."""
    path = folder() / name
    done = run("ffmpeg", "-nostdin", "-v", "error", "-i", clip(source), *options, path)
    assert done.returncode == 0, done.stderr.decode()
    return path


def byte_streams():
    return {
        "h264, B-frames": (made("bytes.h264", "h264-aac.mp4", "-map", "0:v", "-c", "copy"), clip("h264-aac.mp4")),
        "hevc, B-frames": (made("bytes.h265", "hevc-opus.mkv", "-map", "0:v", "-c", "copy", "-f", "hevc"), clip("hevc-opus.mkv")),
    }


def sounds():
    return {
        "wav, PCM": made("pcm.wav", "h264-aac.mp4", "-vn", "-ar", "16000", "-ac", "2", "-c:a", "pcm_s16le"),
        "wav, A-law": made("alaw.wav", "h264-aac.mp4", "-vn", "-ar", "8000", "-ac", "1", "-c:a", "pcm_alaw"),
        "wav, mu-law": made("mulaw.wav", "h264-aac.mp4", "-vn", "-ar", "8000", "-ac", "1", "-c:a", "pcm_mulaw"),
    }


def adts():
    return made("sound.aac", "h264-aac.mp4", "-vn", "-c", "copy")


def y4m():
    return made("small.y4m", "h264-plain.mp4", "-an", "-vf", "scale=64:48", "-r", "10", "-pix_fmt", "yuv420p")


def frames(source, *options, seconds=None, kind="a"):
    """(hash, time) of each packet, of AAC without its ADTS header."""
    limit = ["-t", str(seconds)] if seconds else []
    limit += ["-bsf:a", "aac_adtstoasc"] if ".aac" in str(source) else []
    done = run("ffmpeg", "-nostdin", "-v", "error", *options, "-i", source, "-map", f"0:{kind}", *limit, "-c", "copy", "-f", "framemd5", "-")
    lines = done.stdout.decode().splitlines()
    base = next((fractions.Fraction(line.split()[-1]) for line in lines if line.startswith("#tb")), None)
    rows = [[word.strip() for word in line.split(",")] for line in lines if not line.startswith("#")]
    assert rows, done.stderr.decode()
    return [(row[5], int(row[2]) * base) for row in rows]


def samples(source, *options, seconds=None):
    """All samples as 16 bits."""
    limit = ["-t", str(seconds)] if seconds else []
    done = run("ffmpeg", "-nostdin", "-v", "error", *options, "-i", source, "-map", "0:a", *limit, "-f", "s16le", "-c:a", "pcm_s16le", "-")
    assert done.stdout, done.stderr.decode()
    return done.stdout


def rtsp(server, name):
    return f"rtsp://127.0.0.1:{server.rtsp}/{name}?history=0", "-rtsp_transport", "tcp"


def check_video(server, name, whole, tick=fractions.Fraction(1, 40_000), least=60):
    outputs = {"mp4": (server.url(f"api/stream.mp4?src={name}&video=all&history=0"),), "rtsp": rtsp(server, name),
               "ts": (server.url(f"api/stream.ts?src={name}&video=all&history=0"),)}
    with concurrent.futures.ThreadPoolExecutor(len(outputs)) as pool:
        parts = pool.map(lambda output: units(*output, seconds=4)["video"], outputs.values())
    for label, part in zip(outputs, parts):
        # ffmpeg 5 makes up the times of the first pictures of RTSP without sound, from any server.
        part = part[5 if label == "rtsp" else 1:-2]
        assert len(part) >= least, (label, len(part))
        error = same(part, whole, tick)
        assert error is None, (label, error)


@test
def byte_streams_are_exact_in_order_and_time():
    for title, (path, origin) in byte_streams().items():
        whole = units(origin)["video"]
        with Server(streams=f"streams:\n  s: file:{path}\n") as server:
            check_video(server, "s", whole)
            producer = server.json("api/streams")["s"]["producers"][0]
            assert producer["format_name"] == path.suffix.replace(".h265", ".hevc")[1:], producer
        print(f"  {title}: {len(whole)} pictures in the file")


@test
def parameters_change_in_the_middle():
    small = made("small.h264", "h264-plain.mp4", "-an", "-t", "3", "-vf", "scale=160:120", "-c:v", "libx264", "-g", "25", "-bf", "0")
    large = made("large.h264", "h264-plain.mp4", "-an", "-t", "3", "-c:v", "libx264", "-g", "25", "-bf", "0")
    both = folder() / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    with Server(streams=f"streams:\n  s: file:{both}\n") as server:
        url, *options = rtsp(server, "s")
        done = run("ffmpeg", "-nostdin", "-v", "error", *options, "-i", url, "-t", "5", "-vf", "showinfo", "-f", "null", "-", "-loglevel", "info")
        sizes = {word for word in done.stderr.decode().split() if word in ("s:160x120", "s:320x240")}
        assert sizes == {"s:160x120", "s:320x240"}, done.stderr.decode()[-600:]


@test
def aac_is_exact_in_and_out():
    path = adts()
    whole = frames(path)
    with Server(streams=f"streams:\n  s: file:{path}\n") as server:
        for label, (url, *options) in (("aac", (server.url("api/stream.aac?src=s"),)), ("mp4", (server.url("api/stream.mp4?src=s&audio=all"),)),
                                       ("rtsp", rtsp(server, "s"))):
            part = frames(url, *options, seconds=3)[1:-2]
            error = same(part, whole, fractions.Fraction(1, 40_000))
            assert len(part) > 100 and error is None, (label, len(part), error)
        status, headers, _ = head(server, "api/stream.aac?src=s")
        assert (status, headers["Content-Type"]) == (200, "audio/aac"), headers
    with Server() as server:
        assert len(frames(server.url("api/stream.aac?src=demo"), seconds=2)) > 50


def head(server, path):
    """Status, headers and the first bytes of an endless answer."""
    with rig.urllib.request.urlopen(server.url(path), timeout=20) as answer:
        return answer.status, answer.headers, answer.read(1000)


@test
def wav_samples_are_all_there():
    for title, path in sounds().items():
        whole = samples(path)
        with Server(streams=f"streams:\n  s: file:{path}\n") as server:
            for label, (url, *options) in (("rtsp", rtsp(server, "s")), ("mp4", (server.url("api/stream.mp4?src=s&mp4=all"),))):
                part = samples(url, *options, seconds=3)
                # The clip is a tone: a piece of it may stand in several places, but only without a hole.
                assert len(part) > 2.5 * len(whole) / 10 and whole.find(part[:-4000]) >= 0, (title, label, len(part))


class Basic(http.server.BaseHTTPRequestHandler):
    """Bare mu-law samples, as a camera's audio URL gives them."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "audio/basic")
        self.end_headers()
        data = sounds()["wav, mu-law"].read_bytes()[100:]
        with contextlib.suppress(OSError):
            for at in range(0, len(data), 800):
                self.wfile.write(data[at:at + 800])
                time.sleep(0.1)


@test
def bare_samples_are_known_by_their_type():
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Basic)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        with Server(streams=f"streams:\n  s: http://127.0.0.1:{web.server_address[1]}/audio.cgi\n") as server:
            part = samples(rtsp(server, "s")[0], seconds=2)
            assert len(part) > 16_000 and samples(sounds()["wav, mu-law"]).find(part[:-4000]) >= 0, len(part)
            producer = server.json("api/streams")["s"]["producers"][0]
            assert (producer["format_name"], producer["medias"]) == ("pcm", ["audio, recvonly, PCMU/8000/1"]), producer
    finally:
        web.shutdown()


@test
def raw_pictures_pass_through():
    path = y4m()
    whole = frames(path, kind="v")
    with Server(streams=f"streams:\n  s: file:{path}\n") as server:
        status, headers, first = head(server, "api/stream.y4m?src=s")
        assert status == 200 and first.split(b"\n")[0] == path.read_bytes().split(b"\n")[0], first[:80]
        part = frames(server.url("api/stream.y4m?src=s"), seconds=3, kind="v")
        assert len(part) > 20 and same(part, whole, fractions.Fraction(1, 1000)) is None, len(part)
        status, _, body = server.get("api/stream.mp4?src=s")
        assert status == 500 and b"codecs not matched: video:RAW" in body, body


def endless(*command):
    """A server that gives each connection the output of a program."""
    listener = socket.create_server(("127.0.0.1", 0))
    programs = []

    def serve():
        while True:
            try:
                peer_socket, _ = listener.accept()
            except OSError:
                return
            programs.append(subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=peer_socket, stderr=subprocess.DEVNULL))
            peer_socket.close()

    threading.Thread(target=serve, daemon=True).start()
    return listener, programs


@test
def every_format_over_every_transport():
    live = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "9"]
    h264, aac, wav, raw = byte_streams()["h264, B-frames"][0], adts(), sounds()["wav, A-law"], y4m()
    cases = {
        "h264": (h264, "api/stream.mp4?src={}&video=all", [*live, "-i", h264, "-c", "copy", "-f", "h264", "-"]),
        "adts": (aac, "api/stream.aac?src={}", [*live, "-i", aac, "-c", "copy", "-f", "adts", "-"]),
        "wav": (wav, "api/stream.mp4?src={}&mp4=all", [*live, "-i", wav, "-c", "copy", "-f", "wav", "-"]),
        "yuv4mpegpipe": (raw, "api/stream.y4m?src={}", [*live, "-i", raw, "-f", "yuv4mpegpipe", "-"]),
        "mpegts": (clip("h264-aac.ts"), "api/stream.ts?src={}", [*live, "-i", clip("h264-aac.mp4"), "-c", "copy", "-f", "mpegts", "-"]),
    }
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Ranges, directory=CLIP_FOLDER.name))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    sockets = {name: endless(*command) for name, (_, _, command) in cases.items()}
    try:
        lines = ""
        for name, (path, _, command) in cases.items():
            lines += f"  file-{name}: file:{path}\n  http-{name}: http://u:p@ss@127.0.0.1:{web.server_address[1]}/{path.name}\n"
            lines += f"  tcp-{name}: tcp://127.0.0.1:{sockets[name][0].getsockname()[1]}\n"
            lines += f"  exec-{name}: exec:{' '.join(map(str, command))}\n"
        with Server(streams=f"streams:\n{lines}") as server:
            for name, (_, url, _) in cases.items():
                kind = "a" if name in ("adts", "wav") else "v"
                for way in ("file", "http", "tcp", "exec"):
                    stream = f"{way}-{name}"
                    came = frames(server.url(url.format(stream)), seconds=1, kind=kind)
                    producer = server.json("api/streams")[stream]["producers"][0]
                    assert producer["format_name"] == name and len(came) >= 8, (stream, len(came), producer)
    finally:
        web.shutdown()
        for listener, programs in sockets.values():
            listener.close()
            for program in programs:
                program.kill()
                program.wait()


@test
def standard_input_is_a_source():
    feeder = subprocess.Popen([*FFMPEG.split(), "-re", "-stream_loop", "9", "-i", byte_streams()["h264, B-frames"][0], "-c", "copy", "-f", "h264", "-"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    here = os.dup(0)
    os.dup2(feeder.stdout.fileno(), 0)
    try:
        with Server(streams="streams:\n  s: file:/dev/stdin\n") as server:
            assert len(units(server.url("api/stream.mp4?src=s&video=all&history=0"), seconds=2)["video"]) > 40
    finally:
        os.dup2(here, 0)
        os.close(here)
        feeder.kill()
        feeder.wait()


@contextlib.contextmanager
def posting(server, path, source, form, *options):
    program = subprocess.Popen([*FFMPEG.split(), "-re", "-stream_loop", "9", "-i", source, "-c", "copy", *options, "-f", form, "-method", "POST",
                                server.url(path)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


def producers(server, name):
    return server.json("api/streams")[name]["producers"] or []


@test
def bodies_of_posts_are_publishers():
    whole = units(clip("h264-plain.mp4"))
    with Server(streams="streams:\n  s:\n  other:\n") as server:
        for path, form, name in (("api/stream.ts?dst=s", "mpegts", "mpegts"), ("api/stream.flv?dst=s", "flv", "flv"), ("api/stream?dst=s", "mpegts", "mpegts")):
            with posting(server, path, clip("h264-plain.mp4"), form) as program:
                wait(lambda: [p.get("state") for p in producers(server, "s")] == ["live"], 15, f"publisher of {form}", program)
                one = producers(server, "s")[0]
                assert (one["format_name"], one["protocol"], one["url"]) == (name, "http", "external"), one
                part = units(server.url("api/stream.mp4?src=s&video=all&audio=all&history=0"), seconds=3)
                # FLV counts ms.
                error = same(part["video"][1:-2], whole["video"], fractions.Fraction(1, 500 if form == "flv" else 80_000))
                assert error is None and len(part["video"]) > 50 and len(part["audio"]) > 50, (form, error)
            wait(lambda: not producers(server, "s"), 10, "the end of the publisher")
        with posting(server, "api/stream.mjpeg?dst=s", clip("h264-plain.mp4"), "mpjpeg", "-an", "-vf", "scale=160:120", "-c:v", "mjpeg"):
            wait(lambda: [p.get("format_name") for p in producers(server, "s")] == ["mpjpeg"], 15, "a publisher of pictures")
            assert len(frames(server.url("api/stream.mjpeg?src=s"), seconds=1, kind="v")) > 15
        wait(lambda: not producers(server, "s"), 10, "the end of the publisher")
        # Untyped bytes of which the first few are few: a camera that has just been switched on.
        with posting(server, "api/stream?dst=s", byte_streams()["h264, B-frames"][0], "h264"):
            wait(lambda: [p.get("format_name") for p in producers(server, "s")] == ["h264"], 15, "a publisher of h264")


@test
def posts_end_with_an_answer():
    ts = clip("h264-aac.ts")
    with Server(streams="streams:\n  s:\n") as server:
        post = lambda path, data, **headers: server.get(path, "POST", data, headers)
        assert post("api/stream.ts?dst=none", b"x")[0::2] == (404, b"stream not found\n")
        assert post("api/stream?dst=s", b"hello")[0::2] == (500, b"magic: unsupported header: 68656c6c\n")
        assert post("api/stream?dst=s", b"")[0::2] == (500, b"magic: EOF before the first byte\n")
        status, _, body = post("api/stream.ts?dst=s", b"\x47" + b"\0" * 5000)
        assert status == 500 and b"mpegts" in body, (status, body)
        status, _, body = post("api/stream.ts?dst=s", b"x", Origin="http://evil.example")
        assert status == 403 and not producers(server, "s"), (status, body)
        # A file plays in real time.
        since = time.monotonic()
        short = folder() / "short.ts"
        run("ffmpeg", "-nostdin", "-v", "error", "-y", "-i", ts, "-t", "2", "-c", "copy", short)
        status, _, body = post("api/stream.ts?dst=s", short.read_bytes())
        assert (status, body) == (200, b"") and time.monotonic() - since > 1.5, (status, body, time.monotonic() - since)
        # The type tells what few bytes do not: slices without their parameter sets.
        sender = socket.create_connection(("127.0.0.1", server.http))
        sender.sendall(b"POST /api/stream?dst=s HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/h264\r\nTransfer-Encoding: chunked\r\n\r\n")
        sender.sendall(b"a\r\n\0\0\0\x01\x41\x9a\x24\x6c\x41\x4f\r\n")
        clip_bytes = byte_streams()["h264, B-frames"][0].read_bytes()
        time.sleep(1.2)
        sender.sendall(b"%x\r\n" % len(clip_bytes) + clip_bytes + b"\r\n")
        wait(lambda: [p.get("format_name") for p in producers(server, "s")] == ["h264"], 15, "a publisher of h264")
        sender.close()
        wait(lambda: not producers(server, "s"), 15, "the end of the publisher")


def memory(process):
    """Peak of the resident memory in MB."""
    text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM")) / 1024


@test
def broken_and_endless_inputs_end_in_a_line_and_little_memory():
    h264, ts = byte_streams()["h264, B-frames"][0].read_bytes(), clip("h264-aac.ts").read_bytes()
    cases = {
        "cut.h264": (h264[:300], b"h264: the bytes end before the first picture with its parameter sets"),
        "nosets.h264": (b"\0\0\0\x01\x67\x01" + b"\0\0\x01\x41\x9a\x24\x6c" * 1_000_000, b"h264: no parameter sets in the first 5 MiB"),
        "onenal.h264": (b"\0\0\0\x01\x67" + b"\x55" * 40_000_000, b"h264: no parameter sets in the first 5 MiB"),
        "cut.wav": (sounds()["wav, PCM"].read_bytes()[:40], b"wav: the bytes end before the samples"),
        "deep.wav": (b"RIFF\xff\xff\xff\xffWAVELIST\xff\xff\xff\x7f" + b"\0" * 20_000_000, b"wav: no samples in the first MiB"),
        "bits.wav": (b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\x80\xbb\0\0\0\0\0\0\x03\0\x18\0data\0\0\0\0", b"wav: PCM of 24 bits: 16 are read"),
        "junk.aac": (b"\xff\xf1" + b"\0" * 20_000_000, b"adts: no frame in the first MiB"),
        "huge.y4m": (b"YUV4MPEG2 W16000 H16000 C444\n", b"y4m: frames of 16000x16000 are larger than 32 MiB"),
        "line.y4m": (b"YUV4MPEG2 " + b"X" * 1_000_000, b"y4m: a line of more than 1024 bytes"),
        "cut.ts": (ts[:188 * 2], b"mpegts: mpegts: no track with a known codec"),
        "zero.bin": (b"\0" * 1_000_000, b"magic: unsupported header: 00000000"),
        "empty.bin": (b"", b"magic: EOF before the first byte"),
    }
    with Server(streams="streams:\n" + "".join(f"  {name}: file:{folder() / name}\n" for name in cases)) as server:
        server.get("api/streams")
        before = memory(server.process)
        for name, (data, message) in cases.items():
            (folder() / name).write_bytes(data)
        with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
            answers = {name: pool.submit(server.get, f"api/stream.mp4?src={name}&video=all&audio=all") for name in cases}
        for name, (_, message) in cases.items():
            status, _, body = answers[name].result()
            assert status == 500 and message in body, (name, status, body)
        grown = memory(server.process) - before
        assert grown < 80, f"{grown:.0f} MB more for {len(cases)} inputs at once"
        print(f"  {len(cases)} inputs at once: {grown:.0f} MB more than before")


class Hostile:
    """A server whose answer to each connection is some bytes, then junk until so many have gone or nobody reads."""

    def __init__(self, head, junk, most):
        self.head, self.junk, self.most = head, junk, most
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        with contextlib.suppress(OSError), connection:
            sent = 0
            if self.head.startswith(b"HTTP/"):
                connection.recv(65536)
            connection.sendall(self.head)
            while sent < self.most:
                connection.sendall(self.junk)
                sent += len(self.junk)

    def close(self):
        self.listener.close()


def hurt(data):
    """The same with one byte of a hundred changed, but for its start."""
    hurt = bytearray(data)
    for at in range(64, len(hurt), 97):
        hurt[at] ^= 1 << (at % 8)
    return bytes(hurt)


def damaged():
    """Per format: whole bytes, their MIME type when they come over HTTP, and the output that reads them."""
    mjpeg = made("pictures.mjpeg", "h264-plain.mp4", "-an", "-t", "4", "-c:v", "mjpeg", "-huffman", "default", "-pix_fmt", "yuvj420p", "-f", "mjpeg").read_bytes()
    parts = made("pictures.mpjpeg", "h264-plain.mp4", "-an", "-t", "4", "-c:v", "mjpeg", "-huffman", "default", "-pix_fmt", "yuvj420p", "-f", "mpjpeg").read_bytes()
    segments = made("list.m3u8", "h264-plain.mp4", "-c", "copy", "-f", "hls", "-hls_time", "2", "-hls_list_size", "0", "-hls_flags", "single_file").with_suffix(".ts").read_bytes()
    web = Hostile(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n" + segments, b"", 0)
    list = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://{web.address}/a.ts\n#EXT-X-ENDLIST\n".encode()
    mp4, jpeg = "stream.mp4?mp4=all&src={}", "stream.mjpeg?src={}"
    return {
        "adts": (adts().read_bytes(), None, mp4), "flv": (clip("h264-aac.flv").read_bytes(), None, mp4),
        "h264": (byte_streams()["h264, B-frames"][0].read_bytes(), None, mp4), "hevc": (byte_streams()["hevc, B-frames"][0].read_bytes(), None, mp4),
        "hls": (list, "application/vnd.apple.mpegurl", mp4), "image": (mjpeg[:mjpeg.index(b"\xff\xd9") + 2], "image/jpeg", jpeg),
        "mjpeg": (mjpeg, None, jpeg), "mp4": (made("fragments.mp4", "h264-aac.mp4", "-c", "copy", "-movflags", "frag_keyframe+empty_moov").read_bytes(), None, mp4),
        "mp3": (made("sound.mp3", "h264-aac.mp4", "-vn", "-c:a", "libmp3lame").read_bytes(), "audio/mpeg", mp4),
        "mpegts": (clip("h264-aac.ts").read_bytes(), None, mp4), "mpjpeg": (parts, None, jpeg),
        "pcm": (sounds()["wav, mu-law"].read_bytes()[100:], "audio/basic", mp4), "wav": (sounds()["wav, PCM"].read_bytes(), None, mp4),
        "yuv4mpegpipe": (y4m().read_bytes(), None, "stream.y4m?src={}"),
    }


def outcome(server, path):
    """What a viewer gets of it: so many bytes until it stalls or has seen enough, or one line."""
    size, end = 0, time.monotonic() + 10
    try:
        with rig.urllib.request.urlopen(server.url(path), timeout=40) as answer:
            answer.fp.raw._sock.settimeout(4)
            with contextlib.suppress(TimeoutError):
                while size < 12_000 and time.monotonic() < end and (data := answer.read1(4096)):
                    size += len(data)
            return size
    except rig.urllib.error.HTTPError as error:
        return error.read().decode().strip()
    except OSError as error:
        return f"nothing: {error}"


@test
def damaged_inputs_of_every_format_cost_little():
    cases, servers, junk = damaged(), {}, os.urandom(1 << 16)
    assert {f"demuxer {name}" for name in cases} == {name for name in exact.declared() if name.startswith("demuxer ")}
    for name, (data, kind, _) in cases.items():
        head = f"HTTP/1.0 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode() if kind else b""
        servers[name] = {"whole": Hostile(head + data, b"", 0), "cut": Hostile(head + data[:24], b"", 0), "hurt": Hostile(head + hurt(data), b"", 0),
                         "endless": Hostile(head + data[:5_000], junk, 80 << 20)}
    lines = "".join(f"  {name}-{way}: {'http' if cases[name][1] else 'tcp'}://{one.address}/\n" for name, ways in servers.items() for way, one in ways.items())
    # Each plugin in a process of its own, whose memory is its own.
    own = isolated()
    with contextlib.ExitStack() as stack:
        for ways in servers.values():
            for one in ways.values():
                stack.callback(one.close)
        server = stack.enter_context(Server(streams=f"streams:\n{lines}", extra="" if rig.ISOLATION else own))
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(len(cases) * 3))
        seen = {}
        for ways in (("whole",), ("cut", "hurt", "endless")):
            before = peaks(server)
            asked = {(name, way): pool.submit(outcome, server, f"api/{cases[name][2].format(f'{name}-{way}')}") for name in cases for way in ways}
            seen |= {key: answer.result() for key, answer in asked.items()}
        after = peaks(server)
        grown = {name: after[name] - before.get(name, after[name]) for name in after}
        print("  | format | cut | hurt | endless | MB more in its plugin |\n  |---|---|---|---|---|")
        for name in cases:
            words = [("plays" if one else "stays connected") if isinstance(one, int) else one for one in (seen[name, way] for way in ("cut", "hurt", "endless"))]
            plugin = {"image": "mjpeg", "mpjpeg": "mjpeg", "pcm": "wav", "yuv4mpegpipe": "y4m"}.get(name, name)
            size = f"{grown[plugin]:.0f}" if plugin in grown else "(in the server)"
            print(f"  | {name} | {' | '.join(words)} | {size} |")
            assert isinstance(seen[name, "whole"], int) and seen[name, "whole"] > 4_000, (name, seen[name, "whole"])
            assert grown.get(plugin, 0) < 100, (name, grown[plugin])
            for word in words:
                assert "\n" not in word and not word.startswith("nothing"), (name, word)
        print(f"  the server itself: {grown['']:.0f} MB more")
        assert grown[""] < 100, grown


def names_of_plugins():
    return [name for name in rig.PLUGINS if name not in ("raw", "fixture")]


def isolated():
    """Every plugin in a process of its own."""
    return "plugins:\n" + "".join(f"  {name}: {{isolation: process}}\n" for name in names_of_plugins())


@test
def recordings_sent_at_full_speed_come_in_real_time():
    """A program without `-re`, a body without a length, publishers: they wait in their pipes. A plugin that hurried would be ended as a flood."""
    sound, path = sounds()["wav, PCM"], clip("h264-plain.mp4")
    fast = f"{FFMPEG} -stream_loop 99 -i"
    ways = {"wav": f"exec:{fast} {sound} -c copy -f wav -", "ts": f"exec:{fast} {path} -c copy -f mpegts -", "h264": f"exec:{fast} {path} -an -c copy -f h264 -",
            "posted": "", "rtmp": "", "rtsp": "", "rtsp-udp": ""}
    with contextlib.ExitStack() as stack:
        rtmp = rig.free_port()
        lines = "".join(f"  {name}: {line}\n" for name, line in ways.items())
        server = stack.enter_context(Server(streams=f"streams:\n{lines}", extra=f"rtmp:\n  listen: 127.0.0.1:{rtmp}\n" + ("" if rig.ISOLATION else isolated())))
        publish = f"rtsp://127.0.0.1:{server.rtsp}"
        posted = ["sh", "-c", f"{fast} {path} -c copy -f mpegts - | curl -s -H Transfer-Encoding:chunked -T - -X POST '{server.url('api/stream.ts?dst=posted')}'"]
        programs = [posted, *([*fast.split(), str(path), "-c", "copy", *to] for to in (
            ("-f", "flv", f"rtmp://127.0.0.1:{rtmp}/rtmp"), ("-f", "rtsp", "-rtsp_transport", "tcp", f"{publish}/rtsp"), ("-f", "rtsp", f"{publish}/rtsp-udp")))]
        for program in programs:
            one = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
            stack.callback(one.wait)
            stack.callback(os.killpg, one.pid, signal.SIGKILL)
        viewers = {name: subprocess.Popen(["curl", "-s", "--retry", "9", "--retry-all-errors", "--retry-delay", "1", "-o", os.devnull, server.url(f"api/stream.mp4?src={name}&mp4=all")])
                   for name in ways if name != "rtsp-udp"}
        for viewer in viewers.values():
            stack.callback(viewer.wait)
            stack.callback(viewer.kill)
        since = time.monotonic()
        coming = lambda: {name: tracks for name in viewers if (tracks := units_of(server, name))}
        wait(lambda: len(coming()) == len(viewers), 60, f"units of {', '.join(viewers)}")
        begin = coming()
        wait(lambda: all(coming().get(name, 0) > begin[name] + 100 for name in viewers), 60, "more units of each")
        came, seconds = coming(), time.monotonic() - since
        # Over UDP what is too much is lost on its way. H.264 without times counts by its arrivals, at 300 pictures a second at most.
        for name, units in came.items():
            most = 300 if name == "h264" else 75
            assert units < (seconds + 15) * most, (name, units, seconds)
        for line in server.text().splitlines():
            assert "flood" not in line, line
        whole = samples(sound)
        part = samples(rtsp(server, "wav")[0], seconds=3)
        assert len(part) > 64_000 and (whole + whole).find(part[:-4000]) >= 0, len(part)
        print(f"  units in {seconds:.1f} s: {came}")


def units_of(server, name):
    """Units of all tracks of a stream."""
    return sum(track["packets"] for producer in producers(server, name) for track in producer.get("receivers", []))


def peaks(server):
    """Peak of the resident memory in MB: of each plugin with a process, and of the server under no name."""
    found = {"": memory(server.process)}
    for plugin in server.json("api/plugins"):
        if plugin.get("pid"):
            text = pathlib.Path(f"/proc/{plugin['pid']}/status").read_text()
            found[plugin["name"]] = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM")) / 1024
    return found


def family(pid):
    """Programs below `pid`, zombies too; not the server's own processes for plugins."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rsplit(")", 1)
                found[int(entry.name)] = (int(fields[1].split()[1]), fields[0].split("(", 1)[1], fields[1].split()[0])
    below, level = [], {pid}
    while level:
        level = {child for child, (parent, _, _) in found.items() if parent in level}
        below += [(child, *found[child][1:]) for child in level]
    return [entry for entry in below if not is_own(entry[0])]


def is_own(pid):
    with contextlib.suppress(OSError):
        return os.path.samefile(f"/proc/{pid}/exe", rig.BINARY)
    return False


def running(marker):
    """Processes with `marker` among their words."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if marker.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


@test
def programs_come_and_go_with_their_viewers():
    source = byte_streams()["h264, B-frames"][0]
    mark = f"{folder()}/mark"
    command = f"sh -c 'trap \"\" TERM; ffmpeg -nostdin -v error -re -stream_loop 9 -i {source} -c copy -f h264 - & sleep 7654; wait' {mark}"
    with Server(streams=f"streams:\n  s: \"exec:{command.replace(chr(34), chr(92) + chr(34))}#killsignal=15#killtimeout=1\"\n") as server:
        for _ in range(3):
            assert len(units(server.url("api/stream.mp4?src=s&video=all"), seconds=1)["video"]) > 20
            assert len(family(server.process.pid)) >= 3, family(server.process.pid)
            # 5 s after its last viewer a source goes; this one ignores its signal and is killed a second later, with all it has started.
            wait(lambda: not family(server.process.pid), 15, "the end of the programs")
            assert not running(mark)


@test
def a_killed_program_is_started_again():
    source = byte_streams()["h264, B-frames"][0]
    with Server(streams=f"streams:\n  s: exec:{FFMPEG} -re -stream_loop 9 -i {source} -c copy -f h264 -\n") as server:
        with contextlib.closing(rig.urllib.request.urlopen(server.url("api/stream.mp4?src=s&video=all"), timeout=30)) as viewer:
            viewer.read(1000)
            (first, *_), = family(server.process.pid)
            os.kill(first, signal.SIGKILL)
            wait(lambda: [pid for pid, _, _ in family(server.process.pid) if pid != first], 10, "another program")
            assert "exec/pipe: signal 9" in server.text()
            assert viewer.read(200_000), "the viewer stays"
        assert all(state != "Z" for _, _, state in family(server.process.pid))


@test
def programs_publish_to_an_address_of_their_own():
    path = clip("h264-plain.mp4")
    whole = units(path)
    streams = {
        "s": f"{FFMPEG} -re -stream_loop 9 -i {path} -c copy -rtsp_transport tcp -f rtsp {{output}}",
        "ends": f"{FFMPEG} -re -t 2 -i {path} -c copy -f rtsp {{output}}#killsignal=15",
        "fails": f"{FFMPEG} -i /nonexistent -c copy -f rtsp {{output}}",
        "hangs": "sh -c 'sleep 7531' {output}#starttimeout=2",
    }
    with Server(streams="streams:\n" + "".join(f"  {name}: exec:{line}\n" for name, line in streams.items())) as server:
        part = units(server.url("api/stream.mp4?src=s&video=all&audio=all&history=0"), seconds=4)
        error = same(part["video"][1:-2], whole["video"], fractions.Fraction(1, 40_000))
        assert error is None and len(part["video"]) > 60 and len(part["audio"]) > 60, error
        producer = server.json("api/streams")["s"]["producers"][0]
        assert (producer["format_name"], producer["protocol"], producer["url"]) == ("rtsp", "rtsp+tcp", f"exec:{streams['s']}"), producer
        assert f"rtsp://127.0.0.1:{server.rtsp}/" in producer["source"] and "{output}" not in producer["source"], producer
        # Nobody else publishes to that name, nor to another.
        for name in (producer["source"].rsplit("/", 1)[1], "0" * 32):
            done = run(*FFMPEG.split(), "-re", "-i", path, "-c", "copy", "-f", "rtsp", f"rtsp://127.0.0.1:{server.rtsp}/{name}", limit=20)
            assert done.returncode != 0 and b"404" in done.stderr, done.stderr
        wait(lambda: not family(server.process.pid), 20, "the end of the program")
        # One that has ended is started again as long as somebody watches.
        with contextlib.closing(rig.urllib.request.urlopen(server.url("api/stream.mp4?src=ends&video=all"), timeout=30)) as viewer:
            viewer.read(1000)
            (first, *_), = family(server.process.pid)
            wait(lambda: [pid for pid, _, _ in family(server.process.pid) if pid != first], 15, "another program")
            assert viewer.read(100_000)
        wait(lambda: not family(server.process.pid), 20, "the end of the program")
        for name, text in (("fails", b"exec/rtsp: exit status 1\n/nonexistent: No such file or directory"), ("hangs", b"exec: timeout")):
            status, _, body = server.get(f"api/stream.mp4?src={name}&video=all")
            assert status == 500 and text in body, (name, body)
        wait(lambda: not family(server.process.pid), 20, "the end of the programs")
    with Server(streams="streams:\n  s: exec:sleep 1 {output}\n", extra="plugins:\n  rtsp: off\n") as server:
        assert b"exec: rtsp module disabled" in server.get("api/stream.mp4?src=s&video=all")[2]


@test
def no_program_outlives_a_killed_server():
    with Server(streams="streams:\n  s: exec:sleep 8765\n") as server:
        viewer = subprocess.Popen(["curl", "-s", "-o", os.devnull, server.url("api/stream.mp4?src=s")])
        wait(lambda: family(server.process.pid), 10, "the program")
        (program, *_), = family(server.process.pid)
        server.process.kill()
        server.process.wait()
        viewer.wait(10)
        wait(lambda: not pathlib.Path(f"/proc/{program}").exists(), 5, "the end of the program")


@test
def only_the_configuration_runs_programs():
    with Server(streams="streams:\n  s: exec:cat /etc/hostname\n  t: exec:sh -c 'echo no camera here >&2; exit 3'\n", extra="exec:\n  allow_paths: [sh]\n") as server:
        for method in ("PUT", "PATCH"):
            assert server.get("api/streams?name=x&src=exec:true", method)[0::2] == (400, b"streams: source from insecure producer\n")
        assert server.get("api/stream.mp4?src=exec:true&name=y")[0] == 404
        status, _, body = server.get("api/stream.mp4?src=s")
        assert status == 500 and b"exec: bin not in allow_paths: cat" in body, body
        status, _, body = server.get("api/stream.mp4?src=t")
        assert status == 500 and b"exec/pipe: EOF exit status 3\nno camera here" in body, body


if __name__ == "__main__":
    main(before=lambda: peer("ffmpeg", "ffmpeg"))
