#!/usr/bin/env python3
"""What comes out is what went in: every input that the plugins declare against every output that they declare.

Inputs are in inputs.py, with real programs that give them; the outputs here are read by ffmpeg, or by what is said beside them. Pictures of
H.264 and H.265 are compared by the hash of their NAL units without parameter sets and delimiters, JPEG and raw pictures by the hash of what
is decoded, audio by the hash of whole frames or by all samples. Times are compared from the first live unit on: the differences within a track to
the tick of the coarser format, and how sound lies beside its picture to a millisecond (or two ticks, of formats that count milliseconds). A combination that cannot work must end in one clear error that names the codecs.

A plugin's format, scheme, server or output without a cell fails. One line a cell, then the table, which must be the one of the README (`--write`
puts it there). The last line is `N passed, N failed, N skipped`. Words choose the inputs that hold them.
"""
import base64
import bisect
import concurrent.futures
import contextlib
import fractions
import functools
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request

from inputs import INPUTS, Peers, media, program  # noqa: F401: other tests take `program` from here
from run import BINARY, ROOT, Server, Skip, free_port, probe_codec, run, wait

VIDEO = {"h264": "h264_mp4toannexb,filter_units=remove_types=7|8|9", "hevc": "hevc_mp4toannexb,filter_units=remove_types=32|33|34|35"}
PCM = ("pcm_s16le", "pcm_alaw", "pcm_mulaw")


def units(source, *options, seconds=None, video=True, codecs=None):
    """Per kind the list of (hash, presentation time in seconds), in decoding order."""
    bitstream = ["-bsf:v", VIDEO[codecs["video"] if codecs else probe_codec(source, *options)]] if video else []
    if str(source).split("?")[0].endswith((".ts", ".m3u8", ".aac")):
        codec = codecs.get("audio") if codecs else probe_audio(source)
        bitstream += ["-bsf:a", "aac_adtstoasc"] if codec == "aac" else []
    limit = ["-t", str(seconds)] if seconds else []
    maps = ["-map", "0:v", "-map", "0:a?"] if video else ["-map", "0:a"]
    done = run("ffmpeg", "-nostdin", "-v", "error", *options, "-i", source, *maps, *limit, "-c", "copy", *bitstream,
               "-f", "framemd5", "-", limit=90)
    found = frames(done.stdout.decode())
    assert found["video"] or found["audio"], done.stderr.decode()
    return found


def probe_audio(source):
    done = run("ffprobe", "-v", "error", "-select_streams", "a", "-show_entries", "stream=codec_name", "-of", "csv=p=0", source)
    return "".join(done.stdout.decode().split()[:1])


def frames(text):
    """What the muxer framemd5 says, per kind."""
    base, kinds, found = {}, {}, {"video": [], "audio": []}
    for line in text.splitlines():
        if line.startswith("#"):
            words = line[1:].replace(":", " ").split()
            if words[0] == "tb":
                base[words[1]] = fractions.Fraction(words[2])
            elif words[0] == "media_type":
                kinds[words[1]] = words[2]
        else:
            stream, _, pts, _, _, digest = (word.strip() for word in line.split(",")[:6])
            found[kinds[stream]].append((digest, int(pts) * base[stream]))
    return found


def pictures(source, *options, seconds=None):
    """(hash, time) of each decoded picture."""
    limit = ["-t", str(seconds)] if seconds else []
    done = run("ffmpeg", "-nostdin", "-v", "error", *options, "-i", source, "-map", "0:v", *limit, "-f", "framemd5", "-fps_mode", "passthrough", "-", limit=90)
    found = frames(done.stdout.decode())["video"]
    assert found, done.stderr.decode()
    return found


def samples(source, *options, seconds=None):
    """All samples in 16 bits."""
    limit = ["-t", str(seconds)] if seconds else []
    done = run("ffmpeg", "-nostdin", "-v", "error", *options, "-i", source, "-map", "0:a", *limit, "-f", "s16le", "-c:a", "pcm_s16le", "-", limit=90)
    assert done.stdout, done.stderr.decode()
    return done.stdout


def same(part, whole, tick):
    """What is wrong when `part` does not stand in `whole` (which may start again at its end) with the same distances in time."""
    try:
        compared(part, whole, tick)
    except AssertionError as wrong:
        return str(wrong)
    return None


def stretches(part, whole, again, cut=False):
    """Where the units of `part` stand in `whole`, which may start again at its end: (first, last, place of the first) of each stretch in which
    they follow each other. More than one only `again`, where a group of pictures may be given anew, and where a program that plays a clip again has to
    leave out a frame, as the sound is longer than the pictures (`cut`)."""
    places = {}
    for place, (digest, _) in enumerate(whole):
        places.setdefault(digest, []).append(place)
    found, at = [], 0
    while at < len(part):
        def length(place):
            count = 0
            while at + count < len(part) and part[at + count][0] == whole[(place + count) % len(whole)][0]:
                count += 1
            return count
        candidates = places.get(part[at][0], [])
        ends = (found[-1][2] + at - found[-1][0]) % len(whole) if found else 0
        is_cut = cut and found and (ends >= len(whole) - 2 or ends <= 2)
        assert candidates and (again or is_cut or not found), f"{len(part)} units do not stand in the source in this order: see unit {at}"
        place = max(candidates, key=length)
        last = at + length(place)
        if found:  # It goes on, or back by less than half of the clip.
            before = found[-1][2] + at - found[-1][0]
            place = before + (place - before + len(whole) // 2) % len(whole) - len(whole) // 2
        found.append((at, last, place))
        at = last
    return found


def before_the_start(part, whole, tick, place):
    """How many units of sound are first that belong before the output's time 0, where its first picture lies: they are put behind it at once, over
    each other, and those that follow are where they belong. A few at most."""
    where = [(place + at) % len(whole) for at in range(min(len(part), 12))]
    if where[-1] < where[0]:
        return 0
    lies = part[len(where) - 1][1] - whole[where[-1]][1]
    if part[0][1] - whole[where[0]][1] - lies <= tick or whole[where[0]][1] + lies >= 0:
        return 0
    return next(at for at in range(len(where)) if abs(part[at][1] - whole[where[at]][1] - lies) <= tick)


def compared(part, whole, tick, again=False, is_sound=False, cut=False):
    """Whether `part` stands in `whole` with the same distances in time from its first live unit on. How much later it lies there, for each time
    that the clip is played, and how many units are live: a history before them, which may come `again`, is squeezed into next to no time."""
    assert part, "nothing came"
    offsets, live = {}, 0
    for first, last, place in stretches(part, whole, again, cut):
        spots = [(at, *divmod(place + at - first, len(whole))) for at in range(first, last)]
        if tick is None:
            live += len(spots)
            continue
        lies = lambda at, where: part[at][1] - whole[where][1]
        begin = first + (before_the_start(part, whole, tick, place) if is_sound and not first else 0)
        if again:
            # Where the last ones of this time that the clip is played lie.
            newest, known = None, {}
            for at, turn, where in reversed(spots):
                if turn and where < SEAM:
                    continue
                if abs(lies(at, where) - known.setdefault(turn, lies(at, where))) > tick:
                    newest, begin = part[at][1], at + 1
                    break
            if newest is not None and begin == last - 1:
                begin = last  # A history and nothing else.
            squeezed = [time for _, time in part[first:begin]]
            assert newest is None or max(squeezed) - min(squeezed) <= 2 * tick * len(squeezed), \
                f"times differ at unit {begin} of {len(part)}, and what is before is no history: {len(squeezed)} units in {float(max(squeezed) - min(squeezed)) * 1000:.2f} ms"
        live += last - begin
        for at, turn, where in spots[begin - first:]:
            if not (turn and where < SEAM):
                known = offsets.setdefault(turn, [])
                known.append(lies(at, where))
                assert abs(known[-1] - known[0]) <= tick, f"times differ at unit {at} of {len(part)}: it lies {float(known[-1] - known[0]) * 1000:.2f} ms off"
    return {turn: sorted(known)[len(known) // 2] for turn, known in offsets.items()}, live


# Of sound beside its picture: each goes through clocks of its own and is rounded there, at most.
APART = fractions.Fraction(1, 1000)
# Where a program plays a clip again, its first frames of sound lie as the program likes.
SEAM = 10
FINE, MILLISECOND = fractions.Fraction(1, 80_000), fractions.Fraction(1, 900)
SECONDS = 3
# So much more where sender reports come, every 5 s from most.
LATER = 4.5


class Output:
    """A column: where one format comes out, what it takes, how exact its times are, and how it is read."""

    def __init__(self, declares, url, *options, tick=FINE, video=("h264", "hevc"), audio=("aac", "opus"), changed=None, read=None, refused=None, again=False, reports=False, order=True):
        self.declares, self.url, self.options, self.tick = set(declares.split(", ")), url, options, tick
        # Codecs that pass as they are, and what others are made into.
        self.video, self.audio, self.changed = video, audio, changed or {}
        self.read, self.refused = read, refused or refused_over_http
        # As of an input; a slow viewer skips.
        self.again, self.reports, self.order = again, reports, order


def outputs(server, name):
    """The columns for one stream."""
    rtsp = f"rtsp://127.0.0.1:{server.rtsp}/{name}?history=0"
    http = lambda path, query="": server.url(f"api/{path}?src={name}&{query}history=0")
    # Of RTSP ffmpeg computes times anew from each sender report: a tick of the audio's clock is rounding.
    coarse = fractions.Fraction(1, 40_000)
    sound = {"video": ("h264",), "audio": ("aac", "pcm_alaw", "pcm_mulaw")}
    raw = {"video": ("mjpeg",), "audio": (), "changed": {"rawvideo": "as JPEG"}, "order": False}
    return {
        "rtsp tcp": Output("server rtsp", rtsp, "-rtsp_transport", "tcp", tick=coarse, video=(*VIDEO, "mjpeg"), audio=("aac", "opus", "mp3", *PCM), refused=refused_over_rtsp),
        "rtsp udp": Output("server rtsp", rtsp, "-rtsp_transport", "udp", tick=coarse, video=(*VIDEO, "mjpeg"), audio=("aac", "opus", "mp3", *PCM), refused=refused_over_rtsp),
        # Another stream of this server dials that stream and is read as MP4. It asks for a key picture at first and is
        # given the group anew; its times follow the sender reports, which tell them to less than a millisecond.
        "webrtc": Output("server webrtc", server.url(f"api/stream.mp4?src={name}-webrtc&mp4=all&history=0"), tick=MILLISECOND,
                         audio=("opus", "pcm_alaw", "pcm_mulaw"), changed={"pcm_s16le": "as G.711"}, refused=refused_over_webrtc, again=True, reports=True),
        "mp4": Output("output mp4, routes mp4", http("stream.mp4", "mp4=all&"), audio=("aac", "opus", "mp3", *PCM)),
        "mse": Output("output mp4", f"mse {name}", audio=("aac", "opus", *PCM), read=read_mse, refused=refused_over_websocket),
        "ts": Output("output mpegts, routes mpegts", http("stream.ts", "video=h264,h265&audio=aac,opus,mp3&"), audio=("aac", "opus", "mp3")),
        # Enhanced FLV is newer than Debian's ffmpeg; rtmp.py has it.
        "flv": Output("output flv, routes flv", http("stream.flv", "video=h264&audio=aac,pcma,pcmu&"), tick=MILLISECOND, **sound),
        "rtmp": Output("server rtmp", f"rtmp://127.0.0.1:{server.rtmp}/{name}?video=h264&audio=aac,pcma,pcmu&history=0", tick=MILLISECOND, **sound, refused=refused_over_rtmp),
        "hls ts": Output("routes hls", server.url(f"api/stream.m3u8?src={name}"), "-live_start_index", "0", audio=("aac",)),
        "hls fmp4": Output("routes hls", server.url(f"api/stream.m3u8?src={name}&mp4=all"), "-live_start_index", "0", audio=("aac", "opus", "mp3", *PCM)),
        "aac": Output("output adts, routes adts", http("stream.aac"), video=(), audio=("aac",)),
        "mjpeg": Output("output mpjpeg, routes mjpeg", http("stream.mjpeg"), "-f", "mpjpeg", **raw),
        "mjpeg ws": Output("output mjpeg, routes mjpeg", f"mjpeg {name}", **raw, read=read_mjpeg, refused=refused_over_websocket),
        "ascii": Output("output ascii, routes mjpeg", http("stream.ascii"), video=(), audio=(), changed={"mjpeg": "as text", "rawvideo": "as text"}, read=read_ascii),
        "y4m": Output("output yuv4mpegpipe, routes y4m", http("stream.y4m"), video=("rawvideo",), audio=()),
        "jpeg": Output("routes snapshot", http("frame.jpeg"), video=("mjpeg",), audio=(), changed={"h264": "a picture", "hevc": "a picture", "rawvideo": "a picture"},
                       read=read_snapshot, refused=refused_snapshot),
    }


# Sound that does not match is left out, not made to match.
AS_IT_COMES = "plugins:\n  transcode: off\n"

# What has a test of its own, where it is compared or shown: (file, test).
ELSEWHERE = {
    "scheme transcode": ("transcode.py", "an_opus_camera_is_heard_as_g711_by_rtsp"),
    "scheme ffmpeg": ("transcode.py", "lines_for_ffmpeg_that_ask_for_sound"),
    "sink rtmp": ("rtmp.py", "streams_are_pushed_to_nginx"), "sink rtmps": ("rtmp.py", "streams_are_pushed_over_tls"),
    "sink rtmpx": ("rtmp.py", "streams_are_pushed_over_tls"),
}


def declared():
    """What the plugins' manifests say that they take and give: `scheme X`, `demuxer X`, `output X`, `server X`, `sink X`, `routes X`."""
    found = set()
    for path in sorted(BINARY.parent.glob("libpatchbay_plugin_*.so")):
        name = path.stem.removeprefix("libpatchbay_plugin_")
        if name in ("raw", "fixture"):
            continue  # plugins of the tests
        done = run(BINARY, "plugins", "inspect", path)
        assert done.returncode == 0, done.stderr.decode()
        manifest = json.loads(done.stdout)
        found |= {f"{'sink' if scheme['role'] == 'sink' else 'scheme'} {scheme['name']}" for scheme in manifest["schemes"]}
        found |= {f"demuxer {demuxer['format']}" for demuxer in manifest["demuxes"]} | {f"output {output}" for output in manifest["outputs"]}
        if manifest["listen"]:
            found.add(f"server {name}")
        elif manifest["routes"]:
            found.add(f"routes {name}")
    return found


# ---- how outputs are read that ffmpeg does not read by itself


class Socket:
    """A WebSocket of the API, as much of RFC 6455 as it takes."""

    def __init__(self, server, name):
        self.socket = socket.create_connection(("127.0.0.1", server.http), timeout=30)
        self.socket.sendall(f"GET /api/ws?src={name}&history=0 HTTP/1.1\r\nHost: 127.0.0.1:{server.http}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n".encode())
        self.file = self.socket.makefile("rb")
        assert b"101" in self.file.readline()
        while self.file.readline().strip():
            pass

    def send(self, **message):
        data, mask = json.dumps(message).encode(), os.urandom(4)
        assert len(data) < 126
        self.socket.sendall(bytes([0x81, 0x80 | len(data)]) + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)))

    def receive(self):
        """One message: text or bytes."""
        whole, kind, last = b"", 0, False
        while not last:
            first, length = self.file.read(2)
            length = struct.unpack(">H", self.file.read(2))[0] if length == 126 else struct.unpack(">Q", self.file.read(8))[0] if length == 127 else length
            kind, last = first & 15 or kind, first & 128
            whole += self.file.read(length)
        return whole.decode() if kind == 1 else whole

    def close(self):
        self.file.close()
        self.socket.close()


def ask(server, words):
    kind, name = words.split()
    one = Socket(server, name)
    one.send(type=kind, **({"value": "avc1.640029,hvc1.1.6.L153.B0,mp4a.40.2,flac,opus"} if kind == "mse" else {}))
    return one


def read_mse(server, output, cell):
    """The messages of a page with Media Source Extensions, as a file."""
    one = ask(server, output.url)
    first = one.receive()
    assert isinstance(first, str) and json.loads(first)["type"] == "mse", first
    end = time.monotonic() + SECONDS + 1 + LATER * cell.reports
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        while time.monotonic() < end:
            file.write(one.receive())
        one.close()
        file.flush()
        return cell.read(file.name)


def read_mjpeg(server, output, cell):
    """A JPEG picture a message."""
    one = ask(server, output.url)
    assert json.loads(one.receive())["type"] == "mjpeg"
    with tempfile.NamedTemporaryFile(suffix=".mjpeg") as file:
        for _ in range(40):
            file.write(one.receive())
        one.close()
        file.flush()
        if "rawvideo" in cell.codecs.values():
            return f"{len(pictures(file.name, '-f', 'mjpeg'))} pictures"
        return cell.read(file.name, "-f", "mjpeg", times=False)


def read_ascii(server, output, cell):
    with urllib.request.urlopen(output.url, timeout=30) as answer:
        start, text = answer.read(4), b""
        assert start == b"\x1b[2J", start
        while text.count(b"\x1b[H") < 4:
            text += answer.read1(65536)
    rows = {part.count(b"\n") for part in text.split(b"\x1b[H")[1:3]}
    assert len(rows) == 1 and rows.pop() > 10, text[:200]
    return "3 pictures of text"


def read_snapshot(server, output, cell):
    with urllib.request.urlopen(output.url, timeout=30) as answer, tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        assert answer.headers["Content-Type"] == "image/jpeg", (answer.headers, answer.read(200))
        file.write(answer.read())
        file.flush()
        if "mjpeg" in cell.codecs.values():
            digest = pictures(file.name)[0][0]
            assert digest in {one for one, _ in cell.input.whole["video"]}, "the picture is none of the source's"
            return "1 picture of the source"
        size = run("ffprobe", "-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0", file.name).stdout
        assert size.strip() == cell.size, (size, cell.size)
        return "1 picture of its size"


# ---- refusals


# What a browser that has H.264 and Opus says.
OFFER = "\r\n".join([
    "v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1",
    *(line for at, (kind, codec) in enumerate([("video 9 UDP/TLS/RTP/SAVPF 102", "102 H264/90000"), ("audio 9 UDP/TLS/RTP/SAVPF 111", "111 opus/48000/2")]) for line in (
        f"m={kind}", "c=IN IP4 0.0.0.0", f"a=rtpmap:{codec}", "a=ice-ufrag:EsAw", "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1", "a=setup:actpass", f"a=mid:{at}", "a=recvonly",
        "a=rtcp-mux", "a=fingerprint:sha-256 " + ":".join(["AB"] * 32))), ""])

def clear(text):
    """One line that names what the stream has and what the output takes."""
    lines = text.strip().splitlines()
    assert len(lines) == 1 and re.search(r"streams: codecs not matched: \S+:\S+.* => \S+:\S+", lines[0]), text
    return f"refused: {lines[0]}"


def refused_over_http(server, output, cell):
    try:
        with urllib.request.urlopen(output.url, timeout=40) as answer:
            raise AssertionError(f"it should have been refused: {answer.status}")
    except urllib.error.HTTPError as error:
        return clear(error.read().decode())


def refused_snapshot(server, output, cell):
    """Home Assistant wants an empty answer; the reason is in its head."""
    status, headers, body = server.get(output.url.split("/", 3)[3])
    assert (status, body) == (200, b""), (status, body[:300])
    return clear(headers["X-Error"])


def refused_over_websocket(server, output, cell):
    one = ask(server, output.url)
    answer = json.loads(one.receive())
    one.close()
    assert answer["type"] == "error" and answer["value"].startswith(output.url.split()[0] + ": "), answer
    return clear(answer["value"])


def refused_over_webrtc(server, output, cell):
    status, _, body = server.get(f"api/webrtc?src={cell.name}", "POST", OFFER.encode(), {"Content-Type": "application/sdp"})
    assert status in (404, 500), status
    return clear(body.decode())


def refused_over_rtsp(server, output, cell):
    """ffmpeg shows the status alone; the reason is in the log."""
    done = run("ffmpeg", "-nostdin", "-v", "error", *output.options, "-i", output.url, "-t", "1", "-f", "null", "-", limit=60)
    assert done.returncode and b"DESCRIBE failed: 406 Not Acceptable" in done.stderr, done.stderr.decode()
    told = lambda: [line for line in server.text().splitlines() if "[rtsp]" in line and "codecs not matched" in line]
    wait(told, 5, "a line of the log")
    return clear(told()[-1].split(" ", 3)[3])


def refused_over_rtmp(server, output, cell):
    done = run("ffmpeg", "-nostdin", "-v", "error", *output.options, "-i", output.url, "-t", "1", "-f", "null", "-", limit=60)
    assert done.returncode, "it should have been refused"
    return clear(done.stderr.decode().splitlines()[0].split("Server error: ")[1])


# ---- cells


class Cell:
    """One input at one output."""

    def __init__(self, one, name, output):
        self.input, self.name, self.output, self.codecs, self.size = one, name, output, one.codecs, one.size
        self.again, self.reports = one.again or output.again, one.reports or output.reports

    def passing(self, kind):
        return self.codecs.get(kind) in getattr(self.output, kind)

    def run(self, server):
        """What it says in the table, and what was compared."""
        made = [self.output.changed[codec] for codec in self.codecs.values() if codec in self.output.changed]
        if not made and not self.passing("video") and not self.passing("audio"):
            return "-", self.output.refused(server, self.output, self)
        if self.output.read:
            text = self.output.read(server, self.output, self)
        elif made:
            text = self.exists()
        else:
            text = self.read(self.output.url, *self.output.options, seconds=SECONDS + LATER * self.reports)
        return (made[0] if made else "yes"), text

    def exists(self):
        """Something else is made of it: that it comes."""
        if "video" in self.codecs:
            return f"{len(pictures(self.output.url, *self.output.options, seconds=1))} pictures"
        return f"{len(samples(self.output.url, *self.output.options, seconds=1))} bytes of samples"

    def read(self, source, *options, seconds=None, times=True):
        """Compares what ffmpeg reads with what went in."""
        tick = max(self.output.tick, MILLISECOND if self.input.coarse else FINE) if times and self.input.times else None
        codec, texts, apart = self.codecs, [], {}
        if self.passing("video") and codec["video"] not in VIDEO:
            got = pictures(source, *options, seconds=seconds)
            self.compare("video", got[:-2], tick, texts)
        elif self.passing("video") or codec.get("audio") not in PCM:
            got = units(source, *options, seconds=seconds, video=self.passing("video"), codecs=codec)
            # ffmpeg 5 knows no time of an RTSP stream's first picture, from no server; the last frame of a limited copy may be cut.
            for kind, part in (("video", got["video"][1:-2]), ("audio", got["audio"][:-2])):
                if self.passing(kind):
                    apart[kind] = self.compare(kind, part, tick, texts)
        else:
            got, whole = samples(source, *options, seconds=seconds)[:-4000], self.input.whole["audio"]
            assert len(got) > 16_000 and (whole + whole).find(got) >= 0, f"{len(got)} bytes of samples do not stand in the source"
            texts.append(f"{len(got)} bytes of samples")
        if tick and len(apart) == 2:
            # Of each time that the clip is played, one is shared.
            off = min((audio - video for audio in apart["audio"].values() for video in apart["video"].values()), key=abs)
            texts.append(f"{float(off) * 1000:.2f} ms apart")
            assert abs(off) <= max(2 * tick, APART), ", ".join(texts)
        return ", ".join(texts)

    def compare(self, kind, got, tick, texts):
        """Compares one track; where it lies."""
        assert len(got) >= 20, f"only {len(got)} of {kind}"
        if not self.input.order or not self.output.order:
            strangers = len([digest for digest, _ in got if digest not in {one for one, _ in self.input.whole[kind]}])
            assert not strangers, f"{strangers} of {kind} are not in the source"
            texts.append(f"{len(got)} of {kind}")
            return {}
        try:
            offsets, live = compared(got, self.input.whole[kind], tick, self.again and kind == "video", kind == "audio", kind == "audio" and self.input.is_cut)
        except AssertionError as wrong:
            raise AssertionError(f"{kind}: {wrong}") from None
        assert live >= 20, f"only {live} of {kind} are live"
        texts.append(f"{live} of {kind}")
        return offsets


def learn(one):
    """Reads the clip of an input."""
    path = media(one.clip)
    done = run("ffprobe", "-v", "error", "-show_entries", "stream=codec_type,codec_name,width,height", "-of", "json", path)
    streams = {stream["codec_type"]: stream for stream in json.loads(done.stdout)["streams"]}
    one.codecs = {kind: stream["codec_name"] for kind, stream in streams.items()}
    one.size = "{width},{height}".format(**streams["video"]).encode() if "video" in streams else None
    if one.title.split()[0] in ("h264", "hevc"):
        one.codecs.pop("audio", None)
    return path


@functools.cache
def whole(name, video, audio):
    """What is in a clip."""
    path = media(name)
    if video and video not in VIDEO:
        return {"video": pictures(path)}
    if audio in PCM:
        return {"audio": samples(path)}
    return units(path, video=bool(video))


def row(server, one, name, start, labels=None):
    """Lines of one input at all outputs, or at some: (label, word of the table, text)."""
    one.whole = whole(one.clip, one.codecs.get("video"), one.codecs.get("audio"))
    columns = {label: output for label, output in outputs(server, name).items() if labels is None or label in labels}
    with start(server), concurrent.futures.ThreadPoolExecutor(len(columns)) as pool:
        if not server.json("api/streams")[name]["producers"]:
            wait(lambda: server.json("api/streams")[name]["producers"], 30, f"a publisher to {one.title}")
        results = {label: pool.submit(Cell(one, name, output).run, server) for label, output in columns.items()}
        for label, result in results.items():
            try:
                yield label, *result.result()
            except Skip:
                raise
            except Exception as problem:
                yield label, "**no**", f"{type(problem).__name__}: {problem}"


# ---- the table


BEGIN, END = "<!-- matrix: tests/e2e/exact.py --write -->\n", "<!-- /matrix -->\n"


def table(found):
    """The table of the README."""
    labels = list(next(iter(found.values())))
    lines = ["| in \\ out | " + " | ".join(labels) + " |", "|---" * (len(labels) + 1) + "|"]
    lines += [f"| {title} | " + " | ".join(cells[label] for label in labels) + " |" for title, cells in found.items()]
    return "\n".join(lines) + "\n"


def readme(text, write):
    """Whether the README has this table; puts it there when told to."""
    path = ROOT / "README.md"
    before, _, rest = path.read_text().partition(BEGIN)
    there, _, after = rest.partition(END)
    if write:
        path.write_text(before + BEGIN + text + END + after)
        return None
    return None if there == text else "the table of the README is another one: run exact.py --write"


def main():
    wanted = [word for word in sys.argv[1:] if not word.startswith("--")]
    chosen = [one for one in INPUTS if not wanted or any(word in one.title for word in wanted)]
    counts, found = {"ok": 0, "FAILED": 0, "skipped": 0}, {}

    def tell(kind, text):
        counts[kind] += 1
        print(f"{kind} {text}", flush=True)

    with contextlib.ExitStack() as stack:
        try:
            http, rtmp = free_port(), free_port()
            peers = Peers(stack, rtmp, http)
            paths = {one: learn(one) for one in chosen}
            rows = [(one, f"row{at}", *one.source(peers, f"row{at}", paths[one])) for at, one in enumerate(chosen)]
            lines = "".join(f"  {name}: {line}\n  {name}-webrtc: webrtc:http://127.0.0.1:{http}/api/webrtc?src={name}\n" for _, name, line, _ in rows)
            server = Server(streams=f"streams:\n{lines}", extra=f"rtmp:\n  listen: 127.0.0.1:{rtmp}\nlog:\n  rtsp: debug\n" + AS_IT_COMES, http=http)
            server.rtmp = rtmp
            stack.enter_context(server)
            pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(3))
            running = [(one, name, start, pool.submit(lambda *words: list(row(*words)), server, one, name, start)) for one, name, _, start in rows]
            again = []
            for one, name, start, cells in running:
                try:
                    wrong = {}
                    for label, word, text in cells.result():
                        found.setdefault(one.title, {})[label] = word
                        if word == "**no**":
                            wrong[label] = text
                        else:
                            tell("ok", f"{one.title} -> {label}: {text}")
                    again += [(one, name, start, wrong)] if wrong else []
                except Exception:
                    traceback.print_exc(file=sys.stdout)
                    again.append((one, name, start, None))
            # With fifty programs at once a camera's reports, a publisher's start or an answer may come late: what failed is tried once more by itself.
            for one, name, start, wrong in again:
                for label, text in (wrong or {}).items():
                    print(f"again {one.title} -> {label}: {text}", flush=True)
                try:
                    for label, word, text in row(server, one, name, start, wrong):
                        found.setdefault(one.title, {})[label] = word
                        tell("FAILED" if word == "**no**" else "ok", f"{one.title} -> {label}: {text}")
                except Exception:
                    traceback.print_exc(file=sys.stdout)
                    tell("FAILED", one.title)
        except Skip as reason:
            tell("FAILED" if os.environ.get("PATCHBAY_REQUIRE_PEERS") else "skipped", f"all: {reason}")
    if found:
        print(table(found))
    if found and not wanted:
        shown = set().union(*(one.declares for one in INPUTS), *(output.declares for output in outputs(server, "x").values()))
        shown |= {name for name, (file, test) in ELSEWHERE.items() if f"def {test}(" in (ROOT / "tests/e2e" / file).read_text()}
        missing = declared() - shown
        tell(*(("FAILED", f"declared without a cell: {', '.join(sorted(missing))}") if missing else ("ok", f"{len(declared())} declared inputs and outputs have cells")))
        error = readme(table(found), "--write" in sys.argv and not counts["FAILED"])
        tell(*(("FAILED", error) if error else ("ok", "the README's table is this one")))
    print(f"{counts['ok']} passed, {counts['FAILED']} failed, {counts['skipped']} skipped")
    sys.exit(1 if counts["FAILED"] else 0)


if __name__ == "__main__":
    main()
