#!/usr/bin/env python3
"""RTMP and FLV with real programs: what comes out is what went in, every player plays, every publisher publishes, nothing
that a stranger sends hurts.

One line a case; the last line is `N passed, N failed`. Enhanced RTMP needs an ffmpeg of version 7 or later: PATCHBAY_FFMPEG names it,
else the one of the Python package imageio-ffmpeg is used when it is there.
"""
import concurrent.futures
import contextlib
import fractions
import functools
import http.server
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time

import exact
import run as base
from run import HERE, Ranges, Server, Skip, clip, free_port, metrics, peer, run, wait
from runner import main, test

NGINX_MODULE = pathlib.Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
base.CLIPS.setdefault("h264-aac.flv", "-c:v libx264 -preset veryfast -bf 2 -g 25 -threads 2 -pix_fmt yuv420p -c:a aac -ac 1 -shortest -map_metadata -1")
base.CLIPS.setdefault("h264-audio-only.flv", "-vn -c:a aac -ac 1")
# FLV counts in milliseconds; ffmpeg rounds on the way in and out.
TICK = fractions.Fraction(1, 480)


class Rtmp(Server):
    """A server that listens for RTMP."""

    def __init__(self, streams, rtmp=None, settings="", **more):
        self.rtmp = rtmp or free_port()
        super().__init__(streams=streams, extra=f"rtmp:\n  listen: 127.0.0.1:{self.rtmp}\n{settings}", **more)

    def rtmp_url(self, name):
        return f"rtmp://127.0.0.1:{self.rtmp}/{name}"


def enhanced():
    """An ffmpeg that speaks Enhanced RTMP."""
    named = os.environ.get("PATCHBAY_FFMPEG")
    if named:
        return named
    try:
        import imageio_ffmpeg
        return imageio_ffmpeg.get_ffmpeg_exe()
    except ImportError:
        raise Skip("no ffmpeg that speaks Enhanced RTMP: pip install imageio-ffmpeg") from None


def live(server, name):
    return lambda: (server.json("api/streams")[name]["producers"] or [{}])[0].get("state") == "live"


def publish(path, url, ffmpeg="ffmpeg"):
    return exact.program(ffmpeg, "-nostdin", "-v", "error", "-re", "-stream_loop", "9", "-i", path, "-c", "copy", "-f", "flv", url)


@contextlib.contextmanager
def nginx(more=""):
    """nginx with its RTMP module; gives its port."""
    peer("nginx", "nginx")
    if not NGINX_MODULE.exists():
        raise Skip("nginx has no RTMP: apt-get install libnginx-mod-rtmp")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        path.chmod(0o755)
        (path / "n.conf").write_text(
            f"daemon off; master_process off; pid nginx.pid; worker_processes 1;\nload_module {NGINX_MODULE};\nerror_log stderr info;\n"
            f"events {{ worker_connections 64; }}\nrtmp {{ server {{ listen 127.0.0.1:{port}; chunk_size 4096;\n"
            f"  application live {{ live on; wait_key on; }}\n{more}\n}} }}\n")
        with exact.program("nginx", "-e", "stderr", "-p", f"{folder}/", "-c", "n.conf") as process:
            wait(lambda: listens(port), 10, "nginx", process)
            yield port


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


# ---- what comes out is what went in


@contextlib.contextmanager
def from_http(path):
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Ranges, directory=base.CLIP_FOLDER.name))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        with Rtmp(f"streams:\n  s: http://u:p@ss@127.0.0.1:{web.server_address[1]}/{path.name}\n") as server:
            yield server
    finally:
        web.shutdown()


@contextlib.contextmanager
def published(path, ffmpeg=None):
    with Rtmp("streams:\n  s:\n") as server:
        with publish(path, server.rtmp_url("live/s"), ffmpeg() if ffmpeg else "ffmpeg") as publisher:
            wait(live(server, "s"), 15, "publisher", publisher)
            yield server


# FLV files, POST, ffmpeg and nginx are rows of exact.py.
SOURCES = [
    ("flv over http", from_http, "h264-aac.flv"),
    ("ffmpeg 9 publishes H.265 (B) + Opus", functools.partial(published, ffmpeg=enhanced), "hevc-opus.mkv"),
]


def outputs(server, is_enhanced):
    every = "video=all&audio=all&history=0"
    found = {
        "rtsp": (f"rtsp://127.0.0.1:{server.rtsp}/s?{every}", "-rtsp_transport", "tcp"),
        "mp4": (server.url(f"api/stream.mp4?src=s&{every}"),),
        "ts": (server.url(f"api/stream.ts?src=s&{every}"),),
    }
    if not is_enhanced:
        found["flv"] = (server.url(f"api/stream.flv?src=s&{every}"),)
        found["rtmp"] = (server.rtmp_url(f"s?{every}"),)
    return found


def compared(output, whole):
    url, *options = output
    part = exact.units(url, *options, seconds=4)
    video, sound = part["video"][1:-2], part["audio"][1:-2]
    assert len(video) > 60 and len(sound) > 60, (len(video), len(sound))
    for kind, units in [("video", video), ("audio", sound)]:
        error = exact.same(units, whole[kind], TICK)
        assert not error, f"{kind}: {error}"
    return f"{len(video)} pictures, {len(sound)} audio frames"


def cells():
    """(title, function) of each source against each output."""
    for title, source, name in SOURCES:
        def cell(source=source, name=name):
            path = clip(name)
            whole = exact.units(path)
            with source(path) as server, concurrent.futures.ThreadPoolExecutor() as pool:
                results = {label: pool.submit(compared, output, whole) for label, output in outputs(server, "hevc" in name).items()}
                return "; ".join(f"{label} {result.result()}" for label, result in results.items())
        cell.__name__ = f"exact: {title}"
        yield cell


# ---- players


PLAYERS = {
    "ffprobe": ("ffmpeg", lambda url: ["ffprobe", "-v", "error", "-read_intervals", "%+1", "-show_entries", "packet=size", url]),
    "mpv": ("mpv", lambda url: ["mpv", "--no-config", "--vo=null", "--ao=null", "--length=2", "--msg-level=all=error", url]),
    "gst-launch-1.0": ("gstreamer1.0-tools", lambda url: [
        "gst-launch-1.0", "-q", "rtmp2src", f"location={url}", "!", "flvdemux", "!", "h264parse", "!", "identity", "eos-after=30", "!", "fakesink"]),
}


@test
def players_play():
    with Rtmp("streams:\n  demo: \"demo:\"\n") as server:
        for name, (package, command) in PLAYERS.items():
            peer(name, package)
            done = run(*command(server.rtmp_url("live/demo")), limit=40)
            assert done.returncode == 0, (name, done.stdout, done.stderr)
        done = run("mpv", "--no-config", "--vo=null", "--ao=null", "--length=2", "--msg-level=all=error", server.url("api/stream.flv?src=demo"), limit=40)
        assert done.returncode == 0, done.stderr


@test
def rtmpdump_records():
    peer("rtmpdump", "rtmpdump")
    with Rtmp("streams:\n  demo: \"demo:\"\n") as server:
        path = server.path / "dump.flv"
        with exact.program("rtmpdump", "-q", "-v", "-r", server.rtmp_url("live/demo"), "-o", path) as process:
            wait(lambda: path.exists() and path.stat().st_size > 60_000, 20, "recording", process)
        done = run("ffprobe", "-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", path)
        assert sorted(done.stdout.split()) == [b"aac", b"h264"], done


@test
def nginx_plays():
    rtmp = free_port()
    with nginx(f"application edge {{ live on; pull rtmp://127.0.0.1:{rtmp}/demo name=demo live=1; }}") as port:
        with Server(extra=f"rtmp:\n  listen: 127.0.0.1:{rtmp}\n"):
            done = run("ffmpeg", "-v", "error", "-i", f"rtmp://127.0.0.1:{port}/edge/demo", "-t", "2", "-f", "null", "-", limit=40)
            assert done.returncode == 0 and not done.stderr, done.stderr


@test
def mpegts_js_plays_in_chromium():
    peer("chromium", "chromium")
    if not (HERE / "node_modules/mpegts.js").exists():
        raise Skip("mpegts.js is missing: npm ci in tests/e2e")
    with Server() as server:
        done = run("node", HERE / "flv.mjs", server.url(""), "demo", "4", limit=60)
        assert done.returncode == 0, done.stderr.decode()
        seen = json.loads(done.stdout)
        assert not seen["errors"] and seen["frames"] > 80 and seen["dropped"] < 5 and seen["audio"] > 10_000, seen
        assert abs(seen["played"] - 4) < 0.5 and seen["behind"] < 1.5, seen
        return f"{seen['frames']} pictures, {seen['behind']:.2f} s of buffer"


@test
def enhanced_players_get_what_they_understand():
    ffmpeg = enhanced()
    with published(clip("hevc-opus.mkv"), enhanced) as server:
        told = ["-rtmp_enhanced_codecs", "hvc1,Opus"]
        done = run(ffmpeg, "-nostdin", "-hide_banner", *told, "-i", server.rtmp_url("s"), "-t", "2", "-f", "null", "-", limit=40)
        text = done.stderr.decode()
        assert done.returncode == 0 and "Video: hevc" in text and "Audio: opus" in text, text
        # One that has never heard of it is told why it gets nothing.
        done = run("ffprobe", "-v", "error", server.rtmp_url("s"), limit=40)
        assert b"codecs not matched" in done.stderr, done.stderr


@test
def one_run_serves_all_viewers():
    with Rtmp("streams:\n  demo: \"demo:\"\n") as server:
        command = lambda index: ["ffmpeg", "-nostdin", "-v", "error", "-i", server.rtmp_url("demo"), "-t", "8", "-c", "copy", "-f", "null", "-"]
        with contextlib.ExitStack() as stack:
            players = [stack.enter_context(exact.program(*command(index))) for index in range(8)]
            joins = lambda: metrics(server).get('patchbay_plugin_rtmp_joins{plugin="rtmp"}', 0)
            wait(lambda: joins() == 8, 20, "8 viewers")
            values = metrics(server)
            assert values['patchbay_plugin_rtmp_mux_runs{plugin="rtmp"}'] == 1, values
            assert [player.wait(30) for player in players] == [0] * 8
            return "8 viewers, 1 muxing run"


@test
def flv_times_begin_at_zero_for_a_late_viewer():
    with Rtmp("streams:\n  demo: \"demo:\"\npreload:\n  demo: \"\"\n") as server:
        wait(live(server, "demo"), 10, "stream")
        wait(lambda: server.json("api/streams")["demo"]["producers"][0]["bytes_recv"] > 200_000, 30, "some seconds")
        for url in (server.url("api/stream.flv?src=demo"), server.rtmp_url("demo")):
            done = run("ffprobe", "-v", "error", "-read_intervals", "%+1", "-show_entries", "packet=stream_index,pts_time,dts_time", "-of", "json", url, limit=40)
            packets = json.loads(done.stdout)["packets"]
            first = min(float(packet["dts_time"]) for packet in packets)
            assert 0 <= first < 0.2, (url, packets[:3])


# ---- publishers


@test
def gstreamer_publishes():
    peer("gst-launch-1.0", "gstreamer1.0-tools")
    with Rtmp("streams:\n  s:\n") as server:
        with exact.program("gst-launch-1.0", "-q", "videotestsrc", "is-live=true", "!", "x264enc", "tune=zerolatency", "key-int-max=30", "!", "h264parse",
                           "!", "flvmux", "streamable=true", "!", "rtmp2sink", f"location={server.rtmp_url('live/s')}") as publisher:
            wait(live(server, "s"), 20, "publisher", publisher)
            assert [s["codec_name"] for s in base.probe(f"rtsp://127.0.0.1:{server.rtsp}/s")] == ["h264"]


@test
def a_login_is_asked():
    """Adobe's login with the clients of FFmpeg, GStreamer and Patchbay itself."""
    with Rtmp("streams:\n  s:\n  demo: \"demo:\"\n", settings="  username: bob\n  password: secret\n  local_auth: true\n") as server:
        url = lambda login, name: server.rtmp_url(name).replace("rtmp://", f"rtmp://{login}@" if login else "rtmp://")
        with publish(clip("h264-plain.mp4"), url("bob:secret", "live/s")) as publisher:
            wait(live(server, "s"), 15, "publisher", publisher)
            assert len(base.probe(url("bob:secret", "live/s"))) == 2
        for login in ("", "bob:wrong", "eve:secret"):
            done = run("ffprobe", "-v", "error", url(login, "live/demo"), limit=30)
            assert done.returncode != 0, (login, done)
        with Server(streams=f"streams:\n  right: {url('bob:secret', 'demo')}\n  wrong: {url('bob:wrong', 'demo')}\n") as client:
            assert len(base.probe(f"rtsp://127.0.0.1:{client.rtsp}/right")) == 2
            assert run("ffprobe", "-v", "error", f"rtsp://127.0.0.1:{client.rtsp}/wrong", limit=40).returncode != 0
        peer("gst-launch-1.0", "gstreamer1.0-tools")
        with exact.program("gst-launch-1.0", "-q", "videotestsrc", "is-live=true", "!", "x264enc", "tune=zerolatency", "key-int-max=30", "!", "h264parse", "!", "flvmux",
                           "streamable=true", "!", "rtmp2sink", f"location={server.rtmp_url('live/s')}", "username=bob", "password=secret") as publisher:
            wait(live(server, "s"), 20, "publisher", publisher)


@test
def the_second_publisher_takes_the_stream():
    with Rtmp("streams:\n  s:\n") as server, publish(clip("h264-plain.mp4"), server.rtmp_url("s/one")) as first:
        wait(live(server, "s"), 15, "publisher", first)
        before = server.json("api/streams")["s"]["producers"][0]["remote_addr"]
        with publish(clip("h264-plain.mp4"), server.rtmp_url("s/two")) as second:
            assert first.wait(15) != 0, "the first publisher goes on"
            assert b"another publisher has taken this stream" in first.stderr.read()
            wait(live(server, "s"), 15, "second publisher", second)
            producers = server.json("api/streams")["s"]["producers"]
            assert len(producers) == 1 and producers[0]["remote_addr"] != before, producers
            assert len(base.probe(server.url("api/stream.flv?src=s"))) == 2


@test
def names_that_do_not_exist_are_told():
    with Rtmp("streams:\n  s:\n") as server:
        done = run("ffmpeg", "-v", "error", "-re", "-i", clip("h264-plain.mp4"), "-c", "copy", "-f", "flv", server.rtmp_url("nope/x"), limit=30)
        assert done.returncode != 0 and b"stream not found" in done.stderr, done.stderr
        done = run("ffprobe", "-v", "error", server.rtmp_url("live/nope"), limit=30)
        assert done.returncode != 0 and b"stream not found" in done.stderr, done.stderr


@test
def a_player_stays_while_the_publisher_is_away():
    with Rtmp("streams:\n  s:\n") as server:
        path = server.path / "player.flv"
        with publish(clip("h264-plain.mp4"), server.rtmp_url("s")) as publisher:
            wait(live(server, "s"), 15, "publisher", publisher)
            player = subprocess.Popen(["ffmpeg", "-nostdin", "-v", "error", "-i", server.rtmp_url("s"), "-c", "copy", "-flush_packets", "1", str(path)],
                                      stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
            wait(lambda: path.exists() and path.stat().st_size > 30_000, 20, "the player's first bytes")
        try:
            wait(lambda: not live(server, "s")(), 10, "the end of the publisher")
            size = path.stat().st_size
            with publish(clip("h264-plain.mp4"), server.rtmp_url("s")):
                wait(lambda: path.stat().st_size > size + 100_000, 20, "more for the player")
                assert player.poll() is None, player.stderr.read()
                # Behind a silent source it would not hear this.
                player.terminate()
                errors = player.communicate(timeout=10)[1].decode()
        finally:
            player.kill()
            player.wait()
        assert "monoton" not in errors, errors
        done = run("ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "packet=dts", "-of", "csv=p=0", path)
        times = [int(line) for line in done.stdout.split()]
        assert all(b > a for a, b in zip(times, times[1:])), "times do not grow"


# ---- dialling


@test
def a_server_that_comes_back_is_dialled_again():
    rtmp = free_port()
    with Server(streams=f"streams:\n  s: rtmp://127.0.0.1:{rtmp}/demo\n") as server:
        player = None
        path = server.path / "player.ts"
        try:
            for turn in range(2):
                with Server(extra=f"rtmp:\n  listen: 127.0.0.1:{rtmp}\n"):
                    size = path.stat().st_size if path.exists() else 0
                    if not player:
                        player = subprocess.Popen(["curl", "-s", "-o", str(path), server.url("api/stream.ts?src=s")])
                    wait(lambda: path.exists() and path.stat().st_size > size + 100_000, 30, f"bytes in turn {turn}")
            assert player.poll() is None
        finally:
            player.kill()
            player.wait()


class Tls(threading.Thread):
    """TLS in front of a port, with a certificate of its own."""

    def __init__(self, to, folder):
        super().__init__(daemon=True)
        self.to = to
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", folder / "key", "-out", folder / "cert")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "cert", folder / "key")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.relay, args=(client,), daemon=True).start()

    def relay(self, client):
        try:
            outer = self.context.wrap_socket(client, server_side=True)
        except (ssl.SSLError, OSError):
            return
        inner = socket.create_connection(("127.0.0.1", self.to))

        def copy(a, b):
            with contextlib.suppress(OSError):
                while (data := a.recv(65536)):
                    b.sendall(data)
            for end in (a, b):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        threading.Thread(target=copy, args=(inner, outer), daemon=True).start()
        copy(outer, inner)


@test
def rtmps_is_dialled():
    peer("openssl", "openssl")
    with Rtmp("streams:\n  demo: \"demo:\"\n") as server:
        tls = Tls(server.rtmp, server.path)
        streams = f"streams:\n  any: rtmpx://localhost:{tls.port}/demo\n  strict: rtmps://localhost:{tls.port}/demo\n"
        with Server(streams=streams) as client:
            assert len(base.probe(client.url("api/stream.ts?src=any"))) >= 2
            status, _, body = client.get("api/stream.ts?src=strict")
            assert status == 500 and b"certificate" in body, (status, body)


# ---- pushing to other servers


@test
def streams_are_pushed_to_nginx():
    path = clip("h264-long.mp4")
    whole = exact.units(path)
    with nginx() as port, Rtmp(f"streams:\n  s: file:{path}\n  unused:\n" f"publish:\n  s: rtmp://127.0.0.1:{port}/live/x\n") as server:
        def consumers():
            return [c for c in server.json("api/streams")["s"]["consumers"] or [] if c["format_name"] == "flv"]
        wait(lambda: consumers() and consumers()[0].get("bytes_send", 0) > 10_000, 20, "bytes sent")
        return compared((f"rtmp://127.0.0.1:{port}/live/x",), whole)


@test
def a_push_begins_again_when_its_server_comes_back():
    rtmp = free_port()
    with Server(extra=f"publish:\n  demo: rtmp://127.0.0.1:{rtmp}/live/s\n"):
        for turn in range(2):
            with Rtmp("streams:\n  s:\n", rtmp=rtmp) as other:
                wait(live(other, "s"), 25, f"the publisher in turn {turn}")
                assert [s["codec_name"] for s in base.probe(other.url("api/stream.flv?src=s"))] == ["h264", "aac"]


@test
def streams_are_pushed_over_tls():
    with Rtmp("streams:\n  s:\n") as other:
        tls = Tls(other.rtmp, other.path)
        with Server(extra=f"publish:\n  demo: rtmpx://localhost:{tls.port}/s\n"):
            wait(live(other, "s"), 25, "the publisher")


# ---- strangers


def memory(server):
    for line in pathlib.Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])


HANDS = b"\x03" + bytes(1536)


@test
def garbage_is_closed_and_costs_nothing():
    huge = HANDS + bytes(1536) + b"\x02\0\0\0\0\0\x04\x01\0\0\0\0\x7f\xff\xff\xff" + b"\x03\0\0\0\xff\xff\xff\x14\0\0\0\0"
    hostile = {
        "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "encrypted": b"\x06" + bytes(1536),
        "a message of 16 MiB": huge + bytes(100_000),
        "a chunk of nothing": HANDS + bytes(1536) + b"\xc3" + bytes(50),
        "noise": HANDS + bytes(1536) + os.urandom(20_000),
        "deep objects": HANDS + bytes(1536) + b"\x03\0\0\0\x00\x20\x00\x14\0\0\0\0" + (b"\x03\0\x01a" * 2048)[:128],
    }
    with Rtmp("streams:\n  demo: \"demo:\"\n") as server:
        run("ffprobe", "-v", "error", server.rtmp_url("demo"), limit=30)
        before = memory(server)
        for turn in range(20):
            sockets = []
            for data in hostile.values():
                s = socket.create_connection(("127.0.0.1", server.rtmp), timeout=20)
                with contextlib.suppress(OSError):
                    s.sendall(data)
                sockets.append(s)
            for name, s in zip(hostile, sockets):
                if name in ("http", "encrypted", "a message of 16 MiB", "a chunk of nothing"):
                    with contextlib.suppress(ConnectionError):
                        while s.recv(65536):
                            pass
                s.close()
        grown = memory(server) - before
        assert grown < 16_000, f"{grown} KiB more"
        done = run("ffprobe", "-v", "error", server.rtmp_url("demo"), limit=30)
        assert done.returncode == 0, done.stderr
        return f"120 connections, {max(grown, 0)} KiB more"


@test
def those_who_say_nothing_are_closed():
    with Rtmp("streams:\n  s:\n") as server:
        silent = [socket.create_connection(("127.0.0.1", server.rtmp), timeout=20) for _ in range(50)]
        slow = socket.create_connection(("127.0.0.1", server.rtmp), timeout=20)
        start = time.monotonic()
        ended = threading.Event()

        def drip():
            with contextlib.suppress(OSError):
                for byte in HANDS:
                    slow.sendall(bytes([byte]))
                    if ended.wait(0.1):
                        return
        threading.Thread(target=drip, daemon=True).start()
        for s in [*silent, slow]:
            with contextlib.suppress(ConnectionError):
                assert s.recv(1) == b""
        ended.set()
        return f"all closed after {time.monotonic() - start:.0f} s"


@test
def a_viewer_that_does_not_read_disturbs_nobody():
    with Rtmp("streams:\n  demo: \"demo:\"\n") as server:
        # A player that takes nothing behind its own request: ffmpeg, stopped.
        stuck = subprocess.Popen(["ffmpeg", "-nostdin", "-v", "quiet", "-i", server.rtmp_url("demo"), "-c", "copy", "-f", "null", "-"], stdin=subprocess.DEVNULL)
        try:
            wait(lambda: metrics(server)["patchbay_consumers"] == 1, 15, "player")
            stuck.send_signal(signal.SIGSTOP)
            part = exact.units(server.rtmp_url("demo?history=0"), seconds=6)
            assert len(part["video"]) > 100, len(part["video"])
            steps = [b - a for (_, a), (_, b) in zip(part["video"], part["video"][1:])]
            assert max(steps) < 0.2, max(steps)
        finally:
            stuck.kill()
            stuck.wait()


if __name__ == "__main__":
    main(more=cells())
