#!/usr/bin/env python3
"""go2rtc's documented lines: sources, configuration and queries of the modules that there are, each against a stand-in peer.

A row is what a user writes and what must come of it: the codecs that come, or the words of the error. One line a row; the last line is
`N passed, N failed`. Words choose the rows that hold them.
"""
import concurrent.futures
import contextlib
import functools
import http.server
import json
import os
import pathlib
import socket
import sys
import tempfile
import threading
import time
import urllib.request

from exact import AS_IT_COMES
from formats import endless
from inputs import FFMPEG, LIVE, demo, media, program
from run import BINARY, Camera, Server, Skip, clip, free_port, peer, run, wait

JPEG = {"video": "mjpeg"}
BOTH = {"video": "h264", "audio": "aac"}


class Web(http.server.BaseHTTPRequestHandler):
    """What cameras and services give over HTTP."""

    def log_message(self, *_):
        pass

    def give(self, kind, body, **headers):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path = self.path.split("?")[0]
        with contextlib.suppress(OSError):
            if path == "/guarded.jpg" and self.headers.get("Authorization") != "Basic dXNlcjpwYXNz":
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.send_header("Content-Length", "0")
                return self.end_headers()
            if path == "/keyed.jpg" and self.headers.get("X-Key") != "a b:c":
                return self.send_error(403, "Forbidden")
            if path.endswith(".jpg"):
                return self.give("image/jpeg", still())
            if path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/snapshot.jpg")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            if path in ("/stream.mjpeg", "/bare.mjpeg"):
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame" if path == "/stream.mjpeg" else "video/x-motion-jpeg")
                self.end_headers()
                while True:
                    self.wfile.write((b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" if path == "/stream.mjpeg" else b"") + still() + b"\r\n" * (path == "/stream.mjpeg"))
                    time.sleep(0.05)
            if path == "/text":
                return self.give("text/html", b"<html>please log in</html>")
            if path == "/audio.cgi":
                data = media("mulaw.wav").read_bytes()[100:]
                self.send_response(200)
                self.send_header("Content-Type", "audio/basic")
                self.end_headers()
                for at in range(0, len(data), 800):
                    self.wfile.write(data[at:at + 800])
                    time.sleep(0.1)
                return None
            if path.startswith("/hls/"):
                file = playlist().parent / path.removeprefix("/hls/")
                return self.give("application/vnd.apple.mpegurl" if file.suffix == ".m3u8" else "video/mp2t", file.read_bytes())
            file = {"/clip.mp4": "h264-aac.mp4", "/clip.ts": "h264-aac.ts", "/clip.flv": "h264-aac.flv"}.get(path)
            if file:
                return self.give("application/octet-stream", clip(file).read_bytes())
            return self.send_error(404, "Not Found")


@functools.cache
def still():
    path = pathlib.Path(tempfile.gettempdir()) / f"documented-{os.getpid()}.jpg"
    run("ffmpeg", "-nostdin", "-v", "error", "-i", clip("h264-aac.mp4"), "-frames:v", "1", "-pix_fmt", "yuvj420p", "-y", path)
    data = path.read_bytes()
    path.unlink()
    return data


@functools.cache
def playlist():
    folder = clip("h264-aac.mp4").parent / "documented"
    folder.mkdir(exist_ok=True)
    run("ffmpeg", "-nostdin", "-v", "error", "-i", clip("h264-aac.mp4"), "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0", folder / "x.m3u8")
    return folder / "x.m3u8"


# ---- sources: what is written, what comes of it. `{...}` are addresses of stand-in peers.

PLAYS = {
    # RTSP
    "rtsp://admin:12345@{camera}/cam": {"video": "h264", "audio": "pcm_alaw"},
    "rtsp://admin:12345@{camera}/cam#backchannel=0": {"video": "h264", "audio": "pcm_alaw"},
    "rtsp://admin:12345@{camera}/cam#backchannel=1": {"video": "h264", "audio": "pcm_alaw"},
    "rtsp://admin:12345@{camera}/cam#media=video": {"video": "h264"},
    "rtsp://admin:12345@{camera}/cam#media=audio": {"audio": "pcm_alaw"},
    "rtsp://admin:12345@{camera}/cam#timeout=30": {"video": "h264", "audio": "pcm_alaw"},
    "rtsp://admin:12345@{camera}/cam#transport=udp": {"video": "h264", "audio": "pcm_alaw"},
    "rtsp://admin:12345@{camera}/cam#transport=tcp#media=video#backchannel=0#timeout=10": {"video": "h264"},
    "rtsp://{far_rtsp}/demo#transport=ws://{far_rtsp}/any/path": BOTH,
    "rtsp://{far_rtsp}/demo?video&audio=aac": BOTH,
    "rtsp://{far_rtsp}/demo?mp4": BOTH,
    "rtsp://{far_rtsp}/demo?video=copy": {"video": "h264"},
    "rtsp://{far_rtsp}/demo?video=h264,h265#unknown=option": {"video": "h264"},
    # HTTP
    "http://{web}/snapshot.jpg": JPEG,
    "http://user:pass@{web}/guarded.jpg": JPEG,
    "http://{web}/keyed.jpg#header=X-Key: a b:c#header=Accept: image/jpeg": JPEG,
    "http://{web}/moved": JPEG,
    "http://{web}/stream.mjpeg": JPEG,
    "http://{web}/bare.mjpeg": JPEG,
    "http://{web}/clip.mp4": BOTH,
    "http://{web}/clip.ts?a=b&c=d": BOTH,
    "http://{web}/clip.flv": BOTH,
    "http://{web}/hls/x.m3u8": BOTH,
    "http://{web}/audio.cgi": {"audio": "pcm_mulaw"},
    "http://{far}/api/stream.ts?src=demo": BOTH,
    "http://{far}/api/stream.mp4?src=demo": BOTH,
    "http://{far}/api/stream.flv?src=demo": BOTH,
    "http://{far}/api/stream.aac?src=demo": {"audio": "aac"},
    "http://{far}/api/stream.m3u8?src=demo&mp4": BOTH,
    # TCP
    "tcp://{feed}": BOTH,
    # RTMP
    "rtmp://{far_rtmp}/demo": BOTH,
    "rtmp://{far_rtmp}/live/demo?token=x": BOTH,
    # WebRTC
    "webrtc:http://{far}/api/webrtc?src=demo": {"video": "h264"},
    "webrtc:ws://{far}/api/ws?src=demo": {"video": "h264"},
    "webrtc:ws://{far}/api/ws?src=demo#ice_servers=[]": {"video": "h264"},
    # Programs
    "exec:{live} -i {mp4} -c copy -f mpegts -": BOTH,
    "exec:{live} -i {mp4} -c copy -f flv pipe:1": BOTH,
    "exec:{live} -i {mp4} -an -c copy -f h264 -#killsignal=15#killtimeout=5": {"video": "h264"},
    "exec:{live} -i {mp4} -vn -c:a copy -f adts -": {"audio": "aac"},
    "exec:{live} -i {mp4} -vn -ar 8000 -ac 1 -c:a pcm_alaw -f wav -": {"audio": "pcm_alaw"},
    "exec:{live} -i {mp4} -an -vf scale=64:48 -c:v mjpeg -f mjpeg -": JPEG,
    "exec:{live} -i {mp4} -an -vf scale=64:48 -pix_fmt yuv420p -f yuv4mpegpipe -": {"video": "rawvideo"},
    "exec:{live} -i {mp4} -c copy -rtsp_transport tcp -f rtsp {{output}}": BOTH,
    "exec:{live} -i {mp4} -c copy -rtsp_transport tcp -f rtsp {{output}}#starttimeout=15#killsignal=2": BOTH,
    "exec:sh -c '{live} -i {mp4} -c copy -f mpegts -'": BOTH,
}
FAILS = {
    "rtsp://admin:wrong@{camera}/cam": "login",
    "rtsp://{camera}/cam": "login",
    "rtsp://admin:12345@{camera}/other": "404",
    "rtsp://127.0.0.1:{closed}/cam": "refused",
    "http://{web}/nothing": "404 Not Found",
    "http://{web}/keyed.jpg": "403 Forbidden",
    "http://{web}/text": "unsupported header: 3c68746d",
    "http://127.0.0.1:{closed}/": "refused",
    "tcp://127.0.0.1:{closed}": "refused",
    "rtmp://{far_rtmp}/nothing": "not found",
    "webrtc:http://{far}/api/webrtc?src=nothing": "404",
    "exec:sh -c 'echo no camera here >&2; exit 3'": "exec/pipe: EOF exit status 3\nno camera here",
    "exec:/nonexistent/program": "exec",
    "exec:ffmpeg -i 'unterminated": "exec",
    "exec:sh -c 'sleep 20' {{output}}#starttimeout=1": "exec: timeout",
    "exec:echo text": "magic: unsupported header: 74657874",
    "unknown:line": "streams: unsupported scheme: unknown",
}

# ---- queries of the API to a stream with H.264 and AAC: status, words of the type or the body.

QUERIES = {
    "api/stream.mp4?src=own&duration=1": (200, 'video/mp4; codecs="avc1.', b"ftyp"),
    "api/stream.mp4?src=own&mp4&duration=1": (200, "mp4a.40.2", b"moof"),
    "api/stream.mp4?src=own&mp4=flac&duration=1": (200, "mp4a.40.2", b"moof"),
    "api/stream.mp4?src=own&mp4=all&duration=1": (200, "mp4a.40.2", b"moof"),
    "api/stream.mp4?src=own&video=h264&audio=aac&duration=1": (200, "mp4a.40.2", b"moof"),
    "api/stream.mp4?src=own&video=h265,h264&duration=1": (200, 'codecs="avc1.', b"moof"),
    "api/stream.mp4?src=own&audio=aac,opus&duration=1": (200, 'codecs="mp4a.40.2"', b"moof"),
    "api/stream.mp4?src=own&video=copy&duration=1&rotate=90&scale=4:3": (200, "avc1", b"pasp"),
    "api/stream.mp4?src=own&video=vp9&duration=1": (500, "text/plain", b"streams: codecs not matched: video:H264, audio:AAC => video:VP9"),
    "api/stream.mp4?src=own&duration=1&filename=x.mp4": (200, "video/mp4", b"ftyp"),
    "api/frame.mp4?src=own": (200, "video/mp4", b"moof"),
    "api/frame.mp4?src=own&filename=still.mp4": (200, "video/mp4", b"moof"),
    "api/frame.jpeg?src=own": (200, "image/jpeg", b"\xff\xd8"),
    "api/frame.jpeg?src=own&w=160": (200, "image/jpeg", b"\xff\xd8"),
    "api/frame.jpeg?src=own&width=160&height=120&rotate=180": (200, "image/jpeg", b"\xff\xd8"),
    "api/frame.jpeg?src=own&h=90&hw=vaapi&cache=1m": (200, "image/jpeg", b"\xff\xd8"),
    "api/frame.jpeg?src=pictures": (200, "image/jpeg", b"\xff\xd8"),
    "api/stream.m3u8?src=own": (200, "application/vnd.apple.mpegurl", b"hls/playlist.m3u8?id="),
    "api/stream.m3u8?src=own&mp4": (200, "application/vnd.apple.mpegurl", b'CODECS="avc1.'),
    "api/stream.m3u8?src=own&mp4=flac": (200, "application/vnd.apple.mpegurl", b"#EXT-X-STREAM-INF:"),
    "api/stream.m3u8?src=nothing": (404, "text/plain", b"stream not found"),
    "api/stream.mp4?src=nothing": (404, "text/plain", b"stream not found"),
    "api/stream.mjpeg?src=nothing": (404, "text/plain", b"stream not found"),
    "api/stream.mjpeg?src=own": (500, "text/plain", b"streams: codecs not matched: video:H264, audio:AAC => video:JPEG, video:RAW"),
    "api/stream.y4m?src=own": (500, "text/plain", b"=> video:RAW"),
    "api/hls/playlist.m3u8?id=nothing1": (404, "", b""),
    "api/streams?src=own": (200, "application/json", b'"producers"'),
    "api/streams?src=own&video=all&audio=all&microphone": (200, "application/json", b"video, recvonly, H264"),
    "api/streams?src=nothing": (404, "", b"\n"),
    "api/streams": (200, "application/json", b'"own"'),
    "api/streams.dot?src=own": (200, "text/vnd.graphviz", b"digraph {"),
    "api/schemes": (200, "application/json", b'"rtspx"'),
    "api/preload": (200, "application/json", b"{"),
    "api/log": (200, "application/jsonlines", b'"level"'),
    "api/config": (200, "application/yaml", b"streams:"),
    "api": (200, "application/json", b'"rtsp":{"'),
    "POST api/streams": (400, "text/plain", b"\n"),
    "POST api/exit": (400, "text/plain", b"Code must be in the range [0, 125]"),
    "POST api/stream?dst=nothing": (404, "text/plain", b"stream not found"),
    "POST api/stream.ts?dst=nothing": (404, "text/plain", b"stream not found"),
    "POST api/stream.flv?dst=nothing": (404, "text/plain", b"stream not found"),
    "POST api/stream.mjpeg?dst=nothing": (404, "text/plain", b"stream not found"),
    "POST api/webrtc": (400, "", b""),
    "DELETE api/log": (200, "text/plain", b"OK"),
    "DELETE api/preload?src=nothing": (500, "text/plain", b"streams: preload not found: nothing"),
    "PUT api/preload?src=nothing": (500, "text/plain", b"streams: stream not found: nothing"),
    "PUT api/streams?name=x&src=exec:true": (400, "text/plain", b"streams: source from insecure producer"),
    "PUT api/streams?name=x&src=echo:true": (400, "text/plain", b"streams: source"),
    "PUT api/streams?name=x&src=foo:bar": (400, "text/plain", b"streams: source not supported"),
    "PUT api/streams?name=x&src=rtsp://h/a%20b": (400, "text/plain", b"streams: source with spaces may be insecure"),
    "PATCH api/streams?src=rtsp://h/a": (400, "text/plain", b"\n"),
    "OPTIONS api/stream.m3u8?src=own": (200, "", b""),
    "OPTIONS api/webrtc": (204, "", b""),
}

# ---- lines of the configuration: that `patchbay check` reads them without a word, and what it says of others.

LINES = {
    "api: {listen: \":1984\", username: admin, password: pass, local_auth: true, base_path: /go2rtc, origin: \"*\"}": "",
    "api: {listen: \"\", unix_listen: /tmp/go2rtc.sock}": "",
    "api: {static_dir: www, allow_paths: [/, /api, /api/streams, /api/ws]}": "",
    "app: {modules: [api, rtsp, webrtc, http, ws, exec, ffmpeg, mjpeg, onvif, rtmp, srtp]}": "",
    "rtsp: {listen: \":8554\", username: admin, password: pass, default_query: video&audio, pkt_size: 1200}": "",
    "rtsp: {listen: \"\"}": "",
    "rtsp: {default_query: \"mp4\"}": "",
    "rtmp: {listen: \":1935\"}": "",
    "webrtc: {listen: \":8555/tcp\", candidates: [\"192.168.1.2:8555\", \"stun:8555\"]}": "",
    "webrtc: {ice_servers: [{urls: [\"stun:stun.l.google.com:19302\"]}, {urls: [\"turn:123.123.123.123:3478\"], username: u, credential: p}]}": "",
    "webrtc: {filters: {candidates: [], loopback: true, interfaces: [eno1], ips: [192.168.1.123], networks: [udp4, tcp4], udp_ports: [50000, 50100]}}": "",
    "streams: {cam: \"rtsp://admin:pass@192.168.1.2/1\"}": "",
    "streams: {cam: [\"rtsp://h/1\", \"http://h/snap.jpg#header=X-A: b\"]}": "",
    "streams: {cam: {url: \"rtsp://h/1\"}}": "",
    "streams: {cam: }": "",
    "streams: {\"a/b.c d\": \"tcp://h:1\"}": "",
    "streams: {cam: \"exec:ffmpeg -i x {output}#killsignal=15#killtimeout=5#backchannel=1#audio=alaw/8000\"}": "",
    "publish: {cam: \"rtmp://h/a/b\"}": "",
    "publish: {cam: [\"rtmp://h/a/b\", \"rtmps://h/a/c\"]}": "",
    "preload: {cam: \"\"}": "",
    "preload: {cam: \"video&audio=aac\"}": "",
    "exec: {allow_paths: [ffmpeg]}": "",
    "log: {level: debug, format: json, output: stdout, time: UNIXMS, rtsp: trace, streams: error}": "",
    "log: {output: \"file:go2rtc.log\", format: text, time: \"15:04:05.000\"}": "",
    "env: {PASS: secret}\nstreams: {cam: \"rtsp://u:${PASS}@h/1\", two: \"rtsp://h/${NONE:x}\"}": "",
    "streams: {cam: 5}": "cam",
    "streams: [a, b]": "streams",
    "streams:\n\tcam: x": ":2:2: error",
    "rtps: {listen: \":1\"}": "rtps",
}


def codecs(server, name):
    """What of the stream comes."""
    answer = server.json(f"api/streams?src={name}&video=all&audio=all")
    return {receiver["codec"]["codec_type"]: receiver["codec"]["codec_name"] for producer in answer["producers"] or [] for receiver in producer.get("receivers") or []}


def check_source(server, name, wanted):
    status, _, body = server.get(f"api/streams?src={name}&video=all&audio=all")
    if isinstance(wanted, str):
        text = body.decode()
        assert status == 500 and wanted in text, (status, text)
        return text.strip().splitlines()[0]
    assert status == 200, (status, body)
    found = codecs(server, name)
    assert found == wanted, found
    # It moves: bytes come while somebody watches.
    kind = "y4m" if "rawvideo" in wanted.values() else "mjpeg" if "mjpeg" in wanted.values() else "aac" if wanted == {"audio": "aac"} else "mp4"
    with contextlib.closing(rig_open(server, f"api/stream.{kind}?src={name}" + ("&mp4=all" if kind == "mp4" else ""))) as answer:
        size = len(answer.read(20_000 if kind in ("mp4", "mjpeg") and "video" in wanted else 4_000))
    return f"{' and '.join(found.values())}, {size} bytes"


def rig_open(server, path):
    return urllib.request.urlopen(server.url(path), timeout=40)


def check_query(server, line, wanted):
    method, path = line.split(" ", 1) if " " in line.split("?")[0] else ("GET", line)
    status, headers, body = server.get(path, method, b"" if method == "POST" else None)
    number, kind, words = wanted
    assert status == number and kind in (headers["Content-Type"] or "") and words in body, (status, headers["Content-Type"], body[:300])
    if "filename=" in path:
        name = path.split("filename=")[1]
        assert headers["Content-Disposition"] == f'attachment; filename="{name}"', headers["Content-Disposition"]
    return f"{status} {headers['Content-Type']}"


def check_line(text, wanted):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "go2rtc.yaml"
        # What lines name is there: a folder, and a stream.
        (pathlib.Path(folder) / "www").mkdir()
        path.write_text(text + "\n" + ("" if "streams:" in text else "streams: {cam: \"rtsp://h/1\"}\n"))
        done = run(BINARY, "check", path, cwd=folder)
    said = (done.stdout + done.stderr).decode()
    problems = [line for line in said.splitlines() if "go2rtc.yaml:" in line]
    if wanted:
        assert problems and any(wanted in line for line in problems) or done.returncode and wanted in said, said
        return (problems or said.splitlines())[0]
    assert done.returncode == 0 and not problems, said
    return "no problem"


@contextlib.contextmanager
def peers():
    """The stand-in peers' addresses by name."""
    peer("ffmpeg", "ffmpeg")
    still(), playlist(), media("mulaw.wav"), clip("h264-aac.flv"), clip("h264-aac.ts"), demo()
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    web.daemon_threads = True
    threading.Thread(target=web.serve_forever, daemon=True).start()
    feed, programs = endless(*LIVE, "-i", clip("h264-aac.mp4"), "-c", "copy", "-f", "mpegts", "-")
    camera, rtmp = Camera("--auth", "digest"), free_port()
    # gst-rtsp-server answers 503 to whom comes while its pipeline ends: somebody watches all the time.
    watching = contextlib.ExitStack()
    viewer = program(*FFMPEG, "-rtsp_transport", "tcp", "-i", f"rtsp://admin:12345@127.0.0.1:{camera.port}/cam", "-c", "copy", "-f", "null", "-")
    try:
        watching.enter_context(viewer)
        wait(lambda: "PLAY " in camera.text(), 30, "a camera that plays", camera.process)
        with Server(extra=f"rtmp:\n  listen: 127.0.0.1:{rtmp}\n" + AS_IT_COMES) as far:
            yield {"web": f"127.0.0.1:{web.server_port}", "feed": f"127.0.0.1:{feed.getsockname()[1]}", "camera": f"127.0.0.1:{camera.port}",
                   "far": f"127.0.0.1:{far.http}", "far_rtsp": f"127.0.0.1:{far.rtsp}", "far_rtmp": f"127.0.0.1:{rtmp}", "closed": free_port(),
                   "mp4": clip("h264-aac.mp4"), "live": " ".join(LIVE)}
    finally:
        watching.close()
        camera.stop()
        feed.close()
        web.shutdown()
        for one in programs:
            one.kill()
            one.wait()


def main():
    wanted, counts = sys.argv[1:], {"ok": 0, "FAILED": 0, "skipped": 0}

    def tell(kind, text):
        counts[kind] += 1
        print(f"{kind} {text}", flush=True)

    def all_of(checks):
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            chosen = [(line, check) for line, check in checks if not wanted or any(word in line for word in wanted)]
            again = []
            for line, check, result in [(line, check, pool.submit(check)) for line, check in chosen]:
                try:
                    tell("ok", f"{line!r}: {result.result()}")
                except Exception as problem:
                    print(f"again {line!r}: {type(problem).__name__}: {problem}", flush=True)
                    again.append((line, check))
            # What failed beside many others is tried once more by itself.
            for line, check in again:
                try:
                    tell("ok", f"{line!r}: {check()}")
                except Exception as problem:
                    tell("FAILED", f"{line!r}: {type(problem).__name__}: {problem}")

    try:
        all_of([(line, functools.partial(check_line, line, said)) for line, said in LINES.items()])
        with peers() as addresses:
            rows = [(line.format(**addresses), line, expected) for line, expected in [*PLAYS.items(), *FAILS.items()]]
            lines = "".join(f"  s{at}: {json.dumps(line)}\n" for at, (line, _, _) in enumerate(rows))
            lines += f"  own: \"demo:\"\n  pictures: http://{addresses['web']}/stream.mjpeg\n"
            with Server(streams=f"streams:\n{lines}", extra=AS_IT_COMES) as server:
                all_of([(line, functools.partial(check_source, server, f"s{at}", expected)) for at, (_, line, expected) in enumerate(rows)])
                with contextlib.closing(rig_open(server, "api/stream.ts?src=own")) as viewer:
                    viewer.read(1000)
                    all_of([(line, functools.partial(check_query, server, line, said)) for line, said in QUERIES.items()])
    except Skip as reason:
        tell("FAILED" if os.environ.get("PATCHBAY_REQUIRE_PEERS") else "skipped", f"all: {reason}")
    print(f"{counts['ok']} passed, {counts['FAILED']} failed, {counts['skipped']} skipped")
    sys.exit(1 if counts["FAILED"] else 0)


if __name__ == "__main__":
    main()
