#!/usr/bin/env python3
"""Starts the built server as a user would and plays from it with real programs."""
import base64
import functools
import http.server
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

from runner import Skip, main, test

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BINARY = pathlib.Path(os.environ.get("PATCHBAY_BINARY", ROOT / "target/release/patchbay"))


def peer(name, package):
    if not shutil.which(name):
        raise Skip(f"{name} is missing: apt-get install {package}")


# Below the ports that the system hands out, so that nobody else takes one between here and the server that will listen on it; each of the
# scripts that run at once (lanes.py) has its own thousands.
PORTS = itertools.cycle(range(10_000 + 2_500 * (int(os.environ.get("PATCHBAY_LANE", 0)) % 9), 12_500 + 2_500 * (int(os.environ.get("PATCHBAY_LANE", 0)) % 9)))
for _ in range(os.getpid() * 37 % 2_500):
    next(PORTS)


def free_port():
    """A port that is free on TCP and UDP."""
    for port in PORTS:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


# All shipped plugins in processes of their own, when PATCHBAY_ISOLATION is `process`.
PLUGINS = sorted(path.stem.removeprefix("libpatchbay_plugin_") for path in BINARY.parent.glob("libpatchbay_plugin_*.so"))
ISOLATION = "plugins:\n" + "".join(f"  {name}: {{isolation: process}}\n" for name in PLUGINS)
ISOLATION = ISOLATION if os.environ.get("PATCHBAY_ISOLATION") == "process" else ""


class Server:
    """A running server with its own folder and free ports."""

    def __init__(self, streams="streams:\n  demo: \"demo:\"\n", extra="", binary=BINARY, preexec=None, api="", http=None, rtsp=None):
        self.folder = tempfile.TemporaryDirectory()
        self.http, self.rtsp = http or free_port(), rtsp or free_port()
        webrtc = "" if "webrtc:" in extra else f"webrtc:\n  listen: 127.0.0.1:{free_port()}\n"
        self.path = pathlib.Path(self.folder.name)
        (self.path / "plugins.yaml").write_text(
            f"api:\n  listen: 127.0.0.1:{self.http}\n{api}{webrtc}rtsp:\n  listen: 127.0.0.1:{self.rtsp}\n{ISOLATION}{extra}{streams}")
        self.log = open(self.path / "log", "w+b")
        self.process = subprocess.Popen([binary], cwd=self.path, stdout=self.log, stderr=subprocess.STDOUT, preexec_fn=preexec)

    def __enter__(self):
        self.wait_log("INF [api] listen addr=")
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if kind:
            print("  log: " + "\n  log: ".join(self.text().splitlines()[-30:]))
        self.log.close()
        self.folder.cleanup()

    def text(self):
        return (self.path / "log").read_text(errors="replace")

    def wait_log(self, text, limit=30):
        wait(lambda: text in self.text(), limit, f"log line {text!r}", self.process)

    def url(self, path):
        return f"http://127.0.0.1:{self.http}/{path}"

    def get(self, path, method="GET", data=None, headers=None):
        request = urllib.request.Request(self.url(path), data=data, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def json(self, path):
        status, _, body = self.get(path)
        assert status == 200, (path, status, body)
        return json.loads(body)


# What is waited for comes within moments or never: no machine is too slow for a minute, and how long it took is nobody's fault.
PATIENCE = 60


def wait(condition, limit, what, process=None):
    limit = max(limit, PATIENCE)
    end = time.monotonic() + limit
    while not condition():
        if process and process.poll() is not None:
            raise AssertionError(f"the server has ended with {process.returncode} while waiting for {what}")
        if time.monotonic() > end:
            raise AssertionError(f"no {what} within {limit} s")
        time.sleep(0.05)


def run(*command, limit=60, **more):
    return subprocess.run([str(part) for part in command], capture_output=True, timeout=limit + PATIENCE, stdin=subprocess.DEVNULL, **more)


def probe(source, *options):
    done = run("ffprobe", "-v", "error", *options, "-show_entries", "stream=codec_name,width,height,sample_rate", "-of", "json", source)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)["streams"]


def metrics(server):
    values = {}
    for line in server.get("metrics")[2].decode().splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name] = int(value)
    return values


@test
def boot_lines_and_api():
    with Server() as server:
        info = server.json("api")
        assert info["version"].startswith("1.9.14+patchbay."), info
        assert "demo" in server.json("api/schemes")
        streams = server.json("api/streams")
        assert streams["demo"]["producers"][0]["url"] == "demo:", streams
        assert streams["demo"]["consumers"] is None, streams
        assert server.get("api/streams?src=nope")[0] == 404
        status, headers, _ = server.get("", "HEAD")
        assert status == 200, status
        for line in server.text().splitlines():
            assert line.split(" ")[1] in ("INF", "WRN", "ERR", "DBG"), line


@test
def stream_mp4_is_what_ffprobe_expects():
    peer("ffprobe", "ffmpeg")
    with Server() as server:
        done = run("ffmpeg", "-v", "error", "-i", server.url("api/stream.mp4?src=demo"), "-t", "3", "-c", "copy",
                   "-f", "framemd5", "-", limit=40)
        assert done.returncode == 0, done.stderr.decode()
        lines = [line.split(",") for line in done.stdout.decode().splitlines() if not line.startswith("#")]
        video = [int(line[1]) for line in lines if line[0].strip() == "0"]
        audio = [int(line[1]) for line in lines if line[0].strip() == "1"]
        assert len(video) > 50 and len(audio) > 80, (len(video), len(audio))
        assert all(b > a for a, b in zip(video, video[1:])), video


@test
def frame_mp4_is_one_picture():
    peer("ffprobe", "ffmpeg")
    with Server() as server:
        status, headers, body = server.get("api/frame.mp4?src=demo")
        assert status == 200 and int(headers["content-length"]) == len(body), (status, body[:200])
        path = server.path / "frame.mp4"
        path.write_bytes(body)
        done = run("ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames,width", "-of", "csv=p=0", path)
        assert done.stdout.decode().strip() == "640,1", (done.stdout, done.stderr)


@test
def errors_are_the_references():
    with Server() as server:
        assert server.get("api/stream.mp4?src=nope")[::2] == (404, b"stream not found\n")
        status, _, body = server.get("api/stream.mp4?src=demo&video=vp8")
        assert status == 500 and body.startswith(b"streams: codecs not matched: video:H264"), body
        for source, text in [("foo:bar", b"streams: source not supported\n"),
                             ("exec:sh", b"streams: source from insecure producer\n"),
                             ("demo:%20x", b"streams: source with spaces may be insecure\n")]:
            assert server.get(f"api/streams?name=x&src={source}", "PUT")[::2] == (400, text), source


@test
def put_is_kept_and_delete_removes():
    with Server() as server:
        assert server.get("api/streams?name=second&src=demo:", "PUT")[0] == 200
        assert "second" in server.json("api/streams")
        text = (server.path / "plugins.yaml").read_text()
        assert "second:" in text and "demo: \"demo:\"" in text, text
        assert server.get("api/streams?src=second", "DELETE")[0] == 200
        assert "second" not in server.json("api/streams")
        assert "second" not in (server.path / "plugins.yaml").read_text()


@test
def preloaded_streams_run_without_a_viewer():
    with Server(streams="streams:\n  demo: \"demo:\"\n  other: \"demo:?2\"\n", extra="preload:\n  demo: \"\"\n") as server:
        state = lambda name: server.json("api/streams")[name]["producers"][0]["state"]
        wait(lambda: state("demo") == "live", 5, "the preloaded stream")
        assert server.json("api/preload")["demo"]["query"] == "video&audio"
        assert server.get("api/preload?src=other&video=h264", "PUT")[0] == 200
        assert state("other") == "live" and "other: video=h264" in (server.path / "plugins.yaml").read_text()
        assert server.json("api/preload")["other"]["consumer"]["medias"] == ["video, sendonly, H264"]
        status, _, body = server.get("api/preload?src=none", "PUT")
        assert (status, body) == (500, b"streams: stream not found: none\n"), (status, body)
        assert server.get("api/preload?src=other", "DELETE")[0] == 200
        status, _, body = server.get("api/preload?src=other", "DELETE")
        assert (status, body) == (500, b"streams: preload not found: other\n"), (status, body)
        wait(lambda: state("other") == "idle", 8, "the other stream to end")
        assert state("demo") == "live"


@test
def foreign_pages_change_nothing():
    with Server() as server:
        evil = {"Origin": "http://evil.example"}
        assert server.get("api/streams?name=x&src=demo:", "PUT", headers=evil)[0] == 403
        assert server.get("api/streams?name=x&src=demo:", "PUT", headers={"Host": "evil.example"})[0] == 403
        assert "x" not in server.json("api/streams")
        for path in ("api/stream.ts?dst=demo", "api/webrtc?dst=demo"):
            assert server.get(path, "POST", b"x", evil)[0] == 403, path


@test
def one_run_for_many_viewers_and_nothing_left_behind():
    peer("curl", "curl")
    with Server() as server:
        viewers = [subprocess.Popen(["curl", "-s", "-o", os.devnull, server.url("api/stream.mp4?src=demo")]) for _ in range(50)]
        try:
            wait(lambda: metrics(server)["patchbay_consumers"] == 50 and metrics(server)["patchbay_mux_runs"] > 0, 20, "50 consumers")
            values = metrics(server)
            assert values["patchbay_mux_runs"] == 1, values
            assert values["patchbay_sources"] == 1, values
        finally:
            for viewer in viewers:
                viewer.terminate()
            for viewer in viewers:
                viewer.wait()
        wait(lambda: metrics(server)["patchbay_sources"] == 0, 20, "end of the source after its linger")
        values = metrics(server)
        assert values["patchbay_consumers"] == 0 and values["patchbay_mux_runs"] == 0, values
        assert values["patchbay_ring_bytes"] == 0, values


@test
def plugins_that_are_none_are_refused_and_the_rest_runs():
    folder = tempfile.mkdtemp()
    try:
        for file in BINARY.parent.glob("libpatchbay_plugin_*.so"):
            shutil.copy(file, folder)
        binary = pathlib.Path(shutil.copy(BINARY, folder))
        whole = (binary.parent / "libpatchbay_plugin_mp4.so").read_bytes()
        (binary.parent / "libpatchbay_plugin_cut.so").write_bytes(whole[: len(whole) // 2])
        (binary.parent / "libpatchbay_plugin_junk.so").write_bytes(b"junk" * 100)
        with Server(binary=binary) as server:
            states = {plugin["name"]: plugin for plugin in server.json("api/plugins")}
            assert states["libpatchbay_plugin_cut.so"]["state"] == "refused", states
            assert states["libpatchbay_plugin_junk.so"]["state"] == "refused", states
            assert server.get("api/frame.mp4?src=demo")[0] == 200
        (binary.parent / "libpatchbay_plugin_demo.so").unlink()
        with Server(binary=binary) as server:
            assert "demo" not in server.json("api/schemes")
            status, _, body = server.get("api/stream.mp4?src=demo")
            assert (status, body) == (500, b"streams: unsupported scheme: demo\n"), body
    finally:
        shutil.rmtree(folder)


@test
def the_host_links_no_plugin():
    done = run("ldd", BINARY)
    assert b"patchbay_plugin" not in done.stdout, done.stdout


@test
def the_page_plays_in_chromium():
    peer("chromium", "chromium")
    peer("node", "nodejs")
    with Server() as server:
        done = run("node", HERE / "page.mjs", server.url(""), os.environ.get("PATCHBAY_SCREENSHOT", ""), limit=90)
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        print("  " + done.stdout.decode().strip())


@test
def sigterm_ends_within_a_second_with_a_viewer():
    peer("curl", "curl")
    with Server() as server:
        viewer = subprocess.Popen(["curl", "-s", "-o", os.devnull, server.url("api/stream.mp4?src=demo")])
        wait(lambda: metrics(server)["patchbay_consumers"] == 1, 10, "consumer")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(5) == 0
        viewer.wait(5)


CLIPS = {
    "h264-aac.mp4": "-c:v libx264 -preset veryfast -bf 3 -g 25 -threads 2 -pix_fmt yuv420p -c:a aac -ac 1",
    "h264-plain.mp4": "-c:v libx264 -preset veryfast -bf 0 -g 25 -threads 2 -pix_fmt yuv420p -c:a aac -ac 1",
    "h264-plain-long.mp4": "-c:v libx264 -preset veryfast -bf 0 -g 25 -threads 2 -pix_fmt yuv420p -c:a aac -ac 1",
    "h264-long.mp4": "-c:v libx264 -preset veryfast -bf 3 -g 25 -threads 2 -pix_fmt yuv420p -c:a aac -ac 1",
    "hevc-long.mp4": "-c:v libx265 -preset ultrafast -x265-params log-level=error:info=0:keyint=25 -pix_fmt yuv420p -an",
    "h264-aac.ts": "-c:v libx264 -preset veryfast -bf 2 -g 25 -threads 2 -pix_fmt yuv420p -c:a aac -ac 1",
    "h264-aac.flv": "-c:v libx264 -preset veryfast -bf 3 -g 25 -threads 2 -pix_fmt yuv420p -c:a aac -ac 1",
    "aac.m4a": "-vn -c:a aac -ac 1",
    "hevc-opus.mkv": "-c:v libx265 -preset ultrafast -x265-params log-level=error:info=0:keyint=25:bframes=2 -pix_fmt yuv420p -c:a libopus -ac 2",
}
CLIP_FOLDER = tempfile.TemporaryDirectory()
CLIP_LOCK = threading.Lock()


def clip(name):
    """A clip of 10 s (the long one: 40 s) made by ffmpeg; mp4 with its index at the end."""
    peer("ffmpeg", "ffmpeg")
    path = pathlib.Path(CLIP_FOLDER.name) / name
    with CLIP_LOCK:
        make_clip(name, path)
    return path


def make_clip(name, path):
    if not path.exists():
        done = run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-f", "lavfi", "-i",
                   "sine=frequency=440:sample_rate=48000", "-t", "40" if "long" in name else "10", *CLIPS[name].split(), path, limit=120)
        assert done.returncode == 0, done.stderr.decode()


def pictures(source, *options, seconds=None):
    """Hashes of the pictures' bitstream without parameter sets, in decoding order."""
    codec = probe_codec(source, *options)
    filters = {"h264": "h264_mp4toannexb,filter_units=remove_types=7|8|9", "hevc": "hevc_mp4toannexb,filter_units=remove_types=32|33|34|35"}
    limit = ["-t", str(seconds)] if seconds else []
    done = run("ffmpeg", "-v", "error", *options, "-i", source, "-map", "0:v", *limit, "-c", "copy", "-bsf:v", filters[codec],
               "-f", "framemd5", "-", limit=60)
    lines = [line.split(",") for line in done.stdout.decode().splitlines() if not line.startswith("#")]
    assert lines, done.stderr.decode()
    return [line[5].strip() for line in lines], [int(line[2]) for line in lines]


def probe_codec(source, *options):
    done = run("ffprobe", "-v", "error", *options, "-select_streams", "v", "-show_entries", "stream=codec_name", "-of", "csv=p=0", source)
    return done.stdout.decode().split()[0].strip(",")


def within(part, whole):
    """Whether `part` stands in `whole` without a hole (the source may start again at its end)."""
    twice = whole + whole
    return any(twice[at:at + len(part)] == part for at in range(len(whole)))


@test
def files_come_out_as_they_went_in():
    for name in ("h264-aac.mp4", "h264-plain.mp4"):
        path = clip(name)
        whole, _ = pictures(path)
        with Server(streams=f"streams:\n  clip: file:{path}\n") as server:
            for url, options in ((server.url("api/stream.mp4?src=clip"), ()),
                                 (f"rtsp://127.0.0.1:{server.rtsp}/clip", ("-rtsp_transport", "tcp"))):
                part, _ = pictures(url, *options, seconds=3)
                assert len(part) > 50, (name, url, len(part))
                assert within(part, whole), (name, url)


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A file server with ranges and a login."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.headers.get("Authorization") != "Basic " + base64.b64encode(b"u:p@ss").decode():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = pathlib.Path(self.directory, self.path.lstrip("/")).read_bytes()
        start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        try:
            self.wfile.write(data[start:])
        except OSError:
            pass


@test
def files_over_http():
    paths = [clip("h264-aac.mp4"), clip("h264-aac.ts")]
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Ranges, directory=CLIP_FOLDER.name))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        base = f"http://u:p@ss@127.0.0.1:{web.server_address[1]}"
        lines = "".join(f"  c{i}: {base}/{path.name}\n" for i, path in enumerate(paths))
        with Server(streams=f"streams:\n{lines}  none: http://127.0.0.1:{web.server_address[1]}/x\n") as server:
            for i, path in enumerate(paths):
                whole, _ = pictures(path)
                part, _ = pictures(server.url(f"api/stream.mp4?src=c{i}"), seconds=3)
                assert len(part) > 50 and within(part, whole), (path.name, len(part))
            status, _, body = server.get("api/stream.mp4?src=none")
            assert status == 500 and b"login" in body, (status, body)
            assert "p@ss" not in server.text() and "u:p" not in server.text()
    finally:
        web.shutdown()


@test
def transport_streams_in_and_out():
    path = clip("h264-aac.ts")
    whole, _ = pictures(path)
    with Server(streams=f"streams:\n  clip: file:{path}\n") as server:
        for route in ("api/stream.ts?src=clip", "api/stream.mp4?src=clip"):
            part, _ = pictures(server.url(route), seconds=3)
            assert len(part) > 50 and within(part, whole), (route, len(part))
        codecs = sorted(stream["codec_name"] for stream in probe(server.url("api/stream.ts?src=clip")))
        assert codecs == ["aac", "h264"], codecs


class Camera:
    """gst-rtsp-server with live H.264 and G.711."""

    def __init__(self, *options, port=None):
        if not pathlib.Path("/usr/bin/python3").exists():
            raise Skip("/usr/bin/python3 is missing: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0")
        self.port = port or free_port()
        self.log = tempfile.NamedTemporaryFile()
        self.process = subprocess.Popen(["/usr/bin/python3", HERE.parent / "peers/rtspserver.py", "--port", str(self.port), *options],
                                        stdout=self.log, stderr=subprocess.STDOUT)
        wait(lambda: "READY" in self.text(), 20, "camera", self.process)

    def text(self):
        # By its name: the place in the file is the process's own.
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def stop(self):
        self.process.kill()
        self.process.wait()


def times(url, seconds):
    """Times of the first track of `url` in the order of arrival, for a while."""
    done = run("ffmpeg", "-v", "error", "-i", url, "-map", "0:v", "-t", str(seconds), "-c", "copy", "-f", "framemd5", "-", limit=seconds + 40)
    return [int(line.split(",")[2]) for line in done.stdout.decode().splitlines() if not line.startswith("#")]


@test
def an_rtsp_camera_over_tcp_udp_and_with_digest():
    peer("ffprobe", "ffmpeg")
    for options, user in (((), ""), (("--auth", "digest"), "admin:12345@")):
        camera = Camera(*options)
        try:
            url = f"rtsp://{user}127.0.0.1:{camera.port}/cam"
            streams = f"streams:\n  tcp: {url}\n  udp: {url}#transport=udp\n  wrong: {url.replace('12345', 'no')}\n"
            with Server(streams=streams) as server:
                for name in ("tcp", "udp"):
                    codecs = sorted(stream["codec_name"] for stream in probe(f"rtsp://127.0.0.1:{server.rtsp}/{name}", "-rtsp_transport", "tcp"))
                    assert codecs == ["h264", "pcm_alaw"], (name, codecs)
                if user:
                    status, _, body = server.get("api/stream.mp4?src=wrong")
                    assert status == 500 and b"login" in body.lower() or b"401" in body, (status, body)
                    assert "12345" not in server.text() and "admin:" not in server.text(), "a secret is in the log"
        finally:
            camera.stop()


@test
def players_stay_over_an_outage():
    peer("ffmpeg", "ffmpeg")
    camera = Camera()
    try:
        with Server(streams=f"streams:\n  cam: rtsp://127.0.0.1:{camera.port}/cam\n") as server:
            player = subprocess.Popen(["ffmpeg", "-v", "error", "-i", server.url("api/stream.mp4?src=cam"), "-t", "20", "-map", "0:v", "-c", "copy",
                                       "-f", "framemd5", "-"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            wait(lambda: metrics(server)["patchbay_consumers"] == 1, 10, "player")
            wait(lambda: any("units_total" in k and v > 50 for k, v in metrics(server).items()), 20, "units")
            camera.stop()
            wait(lambda: server.json("api/streams")["cam"]["producers"][0]["state"] == "offline", 15, "state offline")
            producer = lambda: server.json("api/streams")["cam"]["producers"][0]
            assert producer()["error"] and producer()["retry_at"], producer()
            wait(lambda: "cannot connect" in producer().get("error", ""), 15, "failed dial")
            camera = Camera(port=camera.port)
            out, _ = player.communicate(timeout=60)
            stamps = [int(line.split(",")[2]) for line in out.decode().splitlines() if not line.startswith("#")]
            assert len(stamps) > 200, len(stamps)
            assert all(b > a for a, b in zip(stamps, stamps[1:])), stamps
            holes = [b - a for a, b in zip(stamps, stamps[1:]) if b - a > 90_000]
            assert len(holes) == 1, holes
    finally:
        camera.stop()


def rtsp_viewer(server, stream="demo"):
    """A player that has said PLAY over TCP."""
    url = f"rtsp://127.0.0.1:{server.rtsp}/{stream}"
    connection = socket.create_connection(("127.0.0.1", server.rtsp), timeout=20)
    lines = connection.makefile("rb")

    def ask(method, target, sequence, extra=""):
        connection.sendall(f"{method} {target} RTSP/1.0\r\nCSeq: {sequence}\r\n{extra}\r\n".encode())
        status, headers = lines.readline().decode(), {}
        while (line := lines.readline().decode().strip()):
            key, _, value = line.partition(":")
            headers[key.lower()] = value.strip()
        lines.read(int(headers.get("content-length", 0)))
        assert " 200 " in status, (method, status)
        return headers

    ask("DESCRIBE", url, 1, "Accept: application/sdp\r\n")
    session = ask("SETUP", f"{url}/trackID=0", 2, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n")["session"].split(";")[0]
    connection.sendall(f"PLAY {url} RTSP/1.0\r\nCSeq: 3\r\nSession: {session}\r\n\r\n".encode())
    connection.settimeout(None)
    return connection


def http_viewer(server, stream="demo"):
    connection = socket.create_connection(("127.0.0.1", server.http), timeout=20)
    connection.sendall(f"GET /api/stream.mp4?src={stream} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


@test
def rtsp_players_play():
    peer("ffprobe", "ffmpeg")
    with Server() as server:
        url = f"rtsp://127.0.0.1:{server.rtsp}/demo"
        for transport in ("tcp", "udp"):
            codecs = sorted(stream["codec_name"] for stream in probe(url, "-rtsp_transport", transport))
            assert codecs == ["aac", "h264"], (transport, codecs)
        peer("gst-launch-1.0", "gstreamer1.0-tools")
        for scheme in ("rtspt", "rtspu"):
            location = url.replace("rtsp", scheme, 1)
            done = run("gst-launch-1.0", "-q", "rtspsrc", f"location={location}", "latency=100", "!", "rtph264depay", "!",
                       "h264parse", "!", "identity", "eos-after=30", "!", "fakesink", limit=30)
            assert done.returncode == 0, (scheme, done.stderr.decode())
        done = run("ffprobe", "-v", "error", "-rtsp_transport", "tcp", f"rtsp://127.0.0.1:{server.rtsp}/nope")
        assert b"404" in done.stderr, done.stderr


@test
def a_publisher_is_seen_by_players_as_it_sends():
    for name, codecs in (("h264-aac.mp4", ["aac", "h264"]), ("hevc-opus.mkv", ["hevc", "opus"])):
        path = clip(name)
        whole, _ = pictures(path)
        with Server(streams="streams:\n  cam:\n") as server:
            url = f"rtsp://127.0.0.1:{server.rtsp}/cam"
            publisher = subprocess.Popen(["ffmpeg", "-v", "error", "-re", "-stream_loop", "3", "-i", path, "-c", "copy",
                                          "-f", "rtsp", "-rtsp_transport", "tcp", url],
                                         stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                wait(lambda: (server.json("api/streams")["cam"]["producers"] or [{}])[0].get("state") == "live", 15, "publisher")
                found = sorted(stream["codec_name"] for stream in probe(url, "-rtsp_transport", "tcp"))
                assert found == codecs, found
                for source, options in ((url, ("-rtsp_transport", "tcp")), (server.url("api/stream.mp4?src=cam&video&audio"), ())):
                    part, _ = pictures(source, *options, seconds=3)
                    assert len(part) > 50 and within(part, whole), (name, source, len(part))
            finally:
                publisher.kill()
                publisher.communicate()


if __name__ == "__main__":
    main()
