#!/usr/bin/env python3
"""HLS both ways: playlists against the rules, players, what many viewers cost, and playlists of others as sources.

`hls.py [SECONDS]`: how long hls.js plays in Chromium (60 when not given). One line a test; the last line is `N passed, N failed`.
"""
import concurrent.futures
import contextlib
import functools
import http.server
import json
import pathlib
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time

from exact import same, units
from run import HERE, ROOT, Server, clip, free_port, metrics, peer, run, wait
from runner import main, test

SECONDS = int(sys.argv[1]) if len(sys.argv) > 1 else 60
AIM_MS, OLDEST_MS = 1500, 3000
IDENTITY = ROOT / "plugins/rtsp/tests/data/localhost.pem"


class Camera:
    """Announces a picture with the wall clock in it, and a tone; a key frame every `group` pictures."""

    def __init__(self, url, group=25, rate="1M", size="640x360"):
        peer("ffmpeg", "ffmpeg")
        noise = [] if rate == "1M" else ["-vf", "noise=alls=40:allf=t"]
        generator = subprocess.Popen([sys.executable, HERE.parent / "peers/clockgen.py", "ms", size, "25"], stdout=subprocess.PIPE)
        self.processes = [generator, subprocess.Popen(
            ["ffmpeg", "-nostdin", "-v", "error", "-f", "yuv4mpegpipe", "-i", "-", "-f", "lavfi", "-i", "sine=440:r=48000", *noise, "-c:v", "libx264", "-preset", "ultrafast",
             "-tune", "zerolatency", "-threads", "1", "-g", str(group), "-b:v", rate, "-maxrate", rate, "-bufsize", rate, "-pix_fmt", "yuv420p", "-c:a", "aac",
             "-f", "rtsp", "-rtsp_transport", "tcp", url], stdin=generator.stdout, stderr=subprocess.DEVNULL)]
        generator.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def camera(**more):
    with Server(streams="streams:\n  cam:\n") as server, Camera(f"rtsp://127.0.0.1:{server.rtsp}/cam", **more):
        wait(lambda: (server.json("api/streams")["cam"]["producers"] or [{}])[0].get("state") == "live", 20, "the camera")
        yield server


def attributes(line):
    return {name: quoted or plain for name, quoted, plain in re.findall(r'([A-Z-]+)=(?:"([^"]*)"|([^,]*))', line.split(":", 1)[1])}


def media_url(server, query):
    """The media playlist's path below the base, from the multivariant playlist."""
    status, headers, body = server.get(f"api/stream.m3u8?{query}")
    assert status == 200, (status, body)
    assert headers["Content-Type"] == "application/vnd.apple.mpegurl" and headers["Access-Control-Allow-Origin"] == "*", headers
    text = body.decode()
    assert text.startswith("#EXTM3U\n"), text
    variant = attributes(next(line for line in text.splitlines() if line.startswith("#EXT-X-STREAM-INF:")))
    return "api/" + text.splitlines()[-1], variant


def read(text):
    """A media playlist; asserts the rules of RFC 8216 and its draft successor that one playlist can break."""
    lines = text.splitlines()
    assert lines[0] == "#EXTM3U" and text.endswith("\n"), text
    found = {"segments": [], "parts": [], "sequence": 0, "map": None, "hint": None}
    extinf, sum_of_parts, count, gap = None, 0.0, 0, False
    for line in lines[1:]:
        if line.startswith("#EXT-X-TARGETDURATION:"):
            found["target"] = int(line.split(":")[1])
        elif line.startswith("#EXT-X-MEDIA-SEQUENCE:"):
            found["sequence"] = int(line.split(":")[1])
        elif line.startswith("#EXT-X-PART-INF:"):
            found["part_target"] = float(attributes(line)["PART-TARGET"])
        elif line.startswith("#EXT-X-SERVER-CONTROL:"):
            found["control"] = attributes(line)
        elif line.startswith("#EXT-X-MAP:"):
            found["map"] = attributes(line)["URI"]
        elif line.startswith("#EXT-X-PART:"):
            part = attributes(line)
            found["parts"].append({"uri": part["URI"], "duration": float(part["DURATION"]), "independent": part.get("INDEPENDENT") == "YES",
                                   "msn": found["sequence"] + len(found["segments"]), "index": count, "last": False})
            sum_of_parts, count = sum_of_parts + float(part["DURATION"]), count + 1
        elif line.startswith("#EXTINF:"):
            extinf = float(line[8:].rstrip(","))
        elif line == "#EXT-X-GAP":
            gap = True
        elif line.startswith("#EXT-X-PRELOAD-HINT:"):
            found["hint"] = attributes(line)["URI"]
        elif not line.startswith("#"):
            assert round(extinf) <= found["target"], (extinf, found["target"])
            assert not count or abs(sum_of_parts - extinf) < 0.001, (sum_of_parts, extinf)
            if count:
                found["parts"][-1]["last"] = True
            assert not gap or not found["segments"] or found["segments"][-1]["gap"], "a gap in the middle"
            found["segments"].append({"uri": line, "duration": extinf, "gap": gap})
            extinf, sum_of_parts, count, gap = None, 0.0, 0, False
    assert float(found["control"]["PART-HOLD-BACK"]) >= 3 * found["part_target"] - 0.0005, found
    for part in found["parts"]:
        assert part["duration"] <= found["part_target"] + 0.0005, part
        assert part["last"] or part["duration"] >= 0.85 * found["part_target"] - 0.0005, part
    assert "EXT-X-PROGRAM-DATE-TIME" in text
    return found


def playlists_keep_the_rules(query, mime):
    with camera() as server:
        path, variant = media_url(server, query)
        assert re.fullmatch(r"avc1\.[0-9A-F]{6},mp4a\.40\.2", variant["CODECS"]) and variant["RESOLUTION"] == "640x360", variant
        assert 24 <= float(variant["FRAME-RATE"]) <= 26 and int(variant["BANDWIDTH"]) >= int(variant["AVERAGE-BANDWIDTH"]) > 100_000, variant
        last = read(server.get(path)[2].decode())
        folder, bodies, waited = "api/hls/", {}, []
        for _ in range(25):
            newest = last["parts"][-1]
            msn, part = (newest["msn"] + 1, 0) if newest["last"] else (newest["msn"], newest["index"] + 1)
            began = time.monotonic()
            status, headers, body = server.get(f"{path}&_HLS_msn={msn}&_HLS_part={part}")
            waited.append(time.monotonic() - began)
            assert status == 200, (status, body)
            now = read(body.decode())
            assert (now["target"], now["part_target"]) == (last["target"], last["part_target"])
            known = {part["uri"] for part in last["parts"]}
            fresh = [part for part in now["parts"] if part["uri"] not in known]
            # What was waited for is there, and the hint named it.
            assert fresh and fresh[0]["uri"] == last["hint"], (fresh, last["hint"])
            assert (fresh[-1]["msn"], fresh[-1]["index"]) >= (msn, part) or fresh[-1]["msn"] > msn, (fresh, msn, part)
            for part in fresh:
                status, headers, bodies[part["uri"]] = server.get(folder + part["uri"])
                assert status == 200 and headers["Content-Type"] == mime and headers["Cache-Control"] == "max-age=3600", headers
            last = now
        # Waiting is what takes the time, as something new was in each: about one part each.
        print(f"  waited {sum(waited) / (25 * last['part_target']):.2f} parts for each answer")
        # A segment is its parts, one behind the other.
        compared = 0
        text = server.get(path)[2].decode()
        for segment in read(text)["segments"]:
            if segment["gap"]:
                assert server.get(folder + segment["uri"])[2] == b""
                continue
            block = text[:text.index(segment["uri"])].rsplit("#EXT-X-PROGRAM-DATE-TIME", 1)[1]
            uris = re.findall(r'#EXT-X-PART:.*URI="([^"]*)"', block)
            if uris and all(uri in bodies for uri in uris):
                assert server.get(folder + segment["uri"])[2] == b"".join(bodies[uri] for uri in uris)
                compared += 1
        assert compared >= 1, text
        independent = [part for part in last["parts"] if part["independent"]]
        assert independent and all(part["index"] == 0 for part in independent), last["parts"]
        print(f"  {query}: parts of {last['parts'][0]['duration']} s, {len(last['segments'])} segments, target {last['target']} s")


@test
def fragmented_mp4_keeps_the_rules():
    playlists_keep_the_rules("src=cam&mp4", "video/iso.segment")


@test
def transport_streams_keep_the_rules():
    playlists_keep_the_rules("src=cam", "video/mp2t")


@test
def requests_are_answered_as_they_should():
    with Server() as server:
        path, _ = media_url(server, "src=demo&mp4")
        identifier = path.split("=")[1]
        assert re.fullmatch(r"[0-9a-zA-Z]{8}", identifier), path
        playlist = read(server.get(path)[2].decode())
        assert playlist["parts"] and all(segment["gap"] for segment in playlist["segments"]), playlist
        # Waits until it is complete.
        number = playlist["sequence"] + len(playlist["segments"])
        segment = f"api/hls/segment.m4s?id={identifier}&n={number}"
        status, headers, whole = server.get(segment)
        assert status == 200 and headers["Accept-Ranges"] == "bytes", headers
        status, headers, body = server.get(segment, method="HEAD")
        assert (status, int(headers["Content-Length"]), body) == (200, len(whole), b""), headers
        for text, expected, piece in (("bytes=0-9", 206, whole[:10]), ("bytes=-7", 206, whole[-7:]), (f"bytes={len(whole)}-", 416, b""), ("bytes=2-1", 200, whole)):
            status, headers, body = server.get(segment, headers={"Range": text})
            assert (status, body) == (expected, piece), (text, status, len(body))
        assert headers["Content-Length"] == str(len(whole))
        assert server.get("api/hls/" + playlist["map"])[2][4:8] == b"ftyp"
        status, headers, body = server.get(segment, method="OPTIONS")
        assert (status, headers["Access-Control-Allow-Methods"], body) == (200, "GET", b""), headers
        for target, expected in (("api/stream.m3u8?src=nothing", 404), ("api/hls/playlist.m3u8?id=nothing0", 404), ("api/hls/playlist.m3u8", 404),
                                 (f"{path}&_HLS_part=1", 400), (f"{path}&_HLS_msn=x", 400), (f"{path}&_HLS_msn=1000", 400), (f"{path}&_HLS_msn=-1", 400),
                                 (f"api/hls/segment.m4s?id={identifier}", 400), (f"api/hls/segment.m4s?id={identifier}&n=1000", 404),
                                 (f"api/hls/part.m4s?id={identifier}&n=1000", 404), (f"api/hls/segment.ts?id={identifier}&n=0", 404),
                                 (f"api/hls/init.mp4?id={identifier}&n=9", 404), ("api/stream.m3u8?src=demo&video=mjpeg", 500)):
            status, headers, body = server.get(target)
            assert status == expected, (target, status, body)
        message = server.get("api/stream.m3u8?src=demo&video=mjpeg")[2]
        assert b"codecs not matched" in message, message


@test
def h44_low_latency_over_http_2():
    """The segment that is being made, a reload that waits for it and the part that comes next, at once on one connection."""
    peer("curl", "curl")
    secure = free_port()
    with Server(api=f"  tls_listen: 127.0.0.1:{secure}\n  tls_cert: {IDENTITY}\n  tls_key: {IDENTITY}\n") as server:
        path, _ = media_url(server, "src=demo&mp4")
        found = read(server.get(path)[2].decode())
        number = found["sequence"] + len(found["segments"])
        targets = [f"{path}&_HLS_msn={number + 1}", f"api/hls/{found['hint']}", f"api/hls/segment.m4s?id={path.split('=')[1]}&n={number}"]
        words = [word for target in targets for word in ("-o", "/dev/null", f"https://127.0.0.1:{secure}/{target}")]
        done = run("curl", "-sk", "--http2", "--parallel", "--max-time", "20", "-w", "%{http_version} %{response_code} %{num_connects}\n", *words)
        answers = [line.split() for line in done.stdout.decode().splitlines()]
        assert [answer[:2] for answer in answers] == [["2", "200"]] * 3 and sum(int(answer[2]) for answer in answers) == 1, (answers, done.stderr)


@test
def a_run_ends_by_itself_and_leaves_nothing():
    with Server() as server:
        path, _ = media_url(server, "src=demo&mp4")
        target = read(server.get(path)[2].decode())["target"]
        values = metrics(server)
        assert values["patchbay_blobs"] > 1 and len(server.json("api/streams")["demo"]["consumers"]) == 1
        began = time.monotonic()
        wait(lambda: not server.json("api/streams")["demo"]["consumers"], 3 * target + 10, "the end of the run")
        assert time.monotonic() - began >= 4, "it ended too early"
        wait(lambda: metrics(server)["patchbay_blobs"] == 0, 5, "the end of the blobs")
        assert metrics(server)["patchbay_blob_bytes"] == 0
        assert server.get(path)[0] == 404


def chromium(query, rate=1):
    peer("chromium", "chromium")
    with camera() as server:
        done = subprocess.run(["node", HERE / "hls.mjs", server.url(f"api/stream.m3u8?{query}"), str(SECONDS), str(rate)], capture_output=True, timeout=SECONDS + 60)
        assert done.returncode == 0, done.stderr.decode()
        seen = json.loads(done.stdout.decode().splitlines()[-1])
        print(f"  {query}: {seen}")
        assert seen["stalls"] == 0 and not seen["errors"], seen
        assert seen["parts"] and 0.95 < seen["drift"] < 1.05 and seen["audio_bytes"] > 10_000, seen
        # How many are shown and how old they are follows from the machine too: what was possible once is not the server's doing when it is not kept.
        assert seen["frames"] > 5 * SECONDS and seen["clocks"] > SECONDS and seen["age_min_ms"] <= OLDEST_MS, seen
        if SECONDS >= 60:
            assert seen["frames"] >= 0.9 * 25 * (SECONDS - 3) and seen["dropped"] <= seen["frames"] * 0.02, seen
            assert seen["age_ms"] <= OLDEST_MS, seen
        print(f"  {seen['frames']} pictures, {seen['dropped']} dropped, {seen['age_ms']} ms old, 95 % {seen['age_p95_ms']}, most {seen['age_max_ms']} (aim {AIM_MS})")


@test
def hls_js_plays_fragmented_mp4_with_low_latency():
    chromium("src=cam&mp4")


@test
def hls_js_plays_transport_streams_with_low_latency():
    chromium("src=cam")


@test
def hls_js_that_may_play_faster_comes_nearer():
    chromium("src=cam&mp4", 1.5)


@test
def a_publisher_that_comes_back_larger_is_shown():
    peer("chromium", "chromium")
    with Server(streams="streams:\n  cam:\n") as server:
        url, playlist = f"rtsp://127.0.0.1:{server.rtsp}/cam", "api/stream.m3u8?src=cam&mp4"
        with Camera(url):
            wait(lambda: (server.json("api/streams")["cam"]["producers"] or [{}])[0].get("state") == "live", 20, "the camera")
            player = subprocess.Popen(["node", HERE / "hls.mjs", server.url(playlist), "25"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            wait(lambda: server.json("api/streams")["cam"]["consumers"], 20, "the player")
            before = server.get(playlist)[2]
            wait(lambda: (server.json("api/streams")["cam"]["consumers"] or [{}])[0].get("bytes_send", 0) > 300_000, 20, "some seconds of media")
        with Camera(url, size="1280x720"):
            seen = json.loads(player.communicate(timeout=60)[0].decode().splitlines()[-1])
            assert seen["width"] == 1280 and not any("fatal" in error for error in seen["errors"]), seen
            assert seen["age_min_ms"] <= OLDEST_MS, seen
            # The same run, with another init segment behind a discontinuity.
            now = server.get(playlist)[2]
            assert before.splitlines()[-1] == now.splitlines()[-1] and b"RESOLUTION=1280x720" in now, (before, now)
            assert b"&n=1\"" in server.get("api/" + now.splitlines()[-1].decode())[2]


@test
def players_without_low_latency():
    with Server(streams=f"streams:\n  clip: file:{clip('h264-aac.mp4')}\n") as server:
        source = units(str(clip("h264-aac.mp4")))
        peer("mpv", "mpv")
        peer("gst-launch-1.0", "gstreamer1.0-tools")

        def players(query):
            url = server.url(f"api/stream.m3u8?{query}")
            played = units(url, seconds=4)
            # Of MPEG-TS the sound has other headers; a tick is 1/90000 there.
            for kind in ("video", "audio")[:1 if query == "src=clip" else 2]:
                difference = same(played[kind], source[kind], 1 / 40_000)
                assert difference is None, (query, kind, difference)
            assert len(played["video"]) >= 75
            done = run("mpv", "--no-config", "--vo=null", "--ao=null", "--frames=40", "--really-quiet", url, limit=40)
            assert done.returncode == 0, (query, done.stderr.decode()[-500:])
            # Its HLS of live streams never ends by itself.
            done = run("timeout", "12", "gst-launch-1.0", "-v", "souphttpsrc", f"location={url}", "!", "hlsdemux", "!", "tsdemux" if query == "src=clip" else "qtdemux", "!",
                       "h264parse", "!", "identity", "silent=false", "!", "fakesink", limit=40)
            assert done.stdout.count(b"chain   ***") >= 60, (query, done.stdout[-500:], done.stderr[-500:])

        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(players, ("src=clip", "src=clip&mp4")))


def threads(pid):
    """CPU seconds of each thread's name, counted by the scheduler in nanoseconds."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            name = (task / "comm").read_text().strip()
            found[name] = found.get(name, 0) + int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


class Viewer:
    """A low-latency player without a screen: waits for each part's playlist, then fetches the part. One connection kept."""

    def __init__(self, server, path, selector):
        self.path, self.sent, self.parts, self.bytes, self.buffer = path, None, 0, 0, b""
        self.socket = socket.create_connection(("127.0.0.1", server.http))
        self.socket.setblocking(False)
        selector.register(self.socket, selectors.EVENT_READ, self)
        self.ask(path)

    def ask(self, target):
        self.sent = target
        self.socket.send(f"GET /{target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def readable(self):
        data = self.socket.recv(1 << 18)
        assert data, "the server has closed a viewer"
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        if len(self.buffer) < end + 4 + length:
            return
        assert head.startswith(b"http/1.1 200"), (self.sent, head)
        body, self.buffer = self.buffer[end + 4:end + 4 + length], self.buffer[end + 4 + length:]
        self.bytes += length
        if "playlist" not in self.sent:
            self.parts += 1
            self.ask(self.next)
            return
        newest = body.rindex(b'URI="', 0, body.rindex(b"#EXT-X-PRELOAD-HINT")) + 5
        part = body[newest:body.index(b'"', newest)].decode()
        sequence = int(re.search(rb"MEDIA-SEQUENCE:(\d+)", body)[1])
        tail = body[body.rfind(b"\nsegment"):] if b"\nsegment" in body else body
        msn, count = sequence + body.count(b"\nsegment"), tail.count(b"#EXT-X-PART:")
        self.next = f"{self.path}&_HLS_msn={msn}&_HLS_part={count}"
        self.ask("api/hls/" + part)


def watch(server, path, count, seconds, goal=0):
    """CPU per thread name, parts and bytes of `count` viewers for a while, and until each has as many parts as the goal."""
    with selectors.DefaultSelector() as selector:
        viewers = [Viewer(server, path, selector) for _ in range(count)]

        def serve(until):
            while time.monotonic() < until:
                for key, _ in selector.select(0.1):
                    key.data.readable()
        serve(time.monotonic() + 2)
        before, began = threads(server.process.pid), time.monotonic()
        start = sum(viewer.parts for viewer in viewers), sum(viewer.bytes for viewer in viewers)
        serve(began + seconds)
        elapsed, after = time.monotonic() - began, threads(server.process.pid)
        parts, size = sum(viewer.parts for viewer in viewers) - start[0], sum(viewer.bytes for viewer in viewers) - start[1]
        slowest = min(viewer.parts for viewer in viewers)
        # Here they are one process: a busy machine serves them later.
        end = time.monotonic() + 60
        while min(viewer.parts for viewer in viewers) < goal:
            assert time.monotonic() < end, f"viewers starve: {slowest} parts at one, {goal} are the goal"
            serve(time.monotonic() + 0.2)
        for viewer in viewers:
            viewer.socket.close()
        return {name: (after[name] - before.get(name, 0)) / elapsed for name in after}, parts / elapsed, size / elapsed, slowest


@test
def two_hundred_viewers_are_one_run():
    with camera(rate="4M") as server:
        path, _ = media_url(server, "src=cam&mp4")
        seconds = 10
        results, kept = {}, {}
        for count in (1, 200):
            results[count] = watch(server, path, count, seconds, 0.9 * results[1][3] if results else 0)
            cpu, parts, size, slowest = results[count]
            # tokio's workers of the host answer HTTP: what remains is muxing, rings, plugins.
            sending = sum(value for name, value in cpu.items() if name.startswith("tokio"))
            work = sum(cpu.values()) - sending
            results[count] = (work, sending, parts, slowest)
            print(f"  {count} viewers: {100 * work:.2f} % of a core beside HTTP, {100 * sending:.2f} % in HTTP's threads, {parts:.0f} parts/s, {size * 8 / 1e6:.1f} Mbit/s; "
                  + ", ".join(f"{name} {100 * value:.2f}" for name, value in sorted(cpu.items()) if value))
            assert len(server.json("api/streams")["cam"]["consumers"]) == 1, "more than one run"
            kept[count] = metrics(server)["patchbay_blobs"]
        assert kept[200] < 1.5 * kept[1] + 5, f"blobs kept for one viewer and for 200: {kept}"
        # A figure, not a judgement: whoever shares the machine moves it.
        print(f"  beside HTTP 200 viewers cost {results[200][0] / results[1][0]:.2f} times what one costs (aim 1.3)")


class Origin(http.server.ThreadingHTTPServer):
    """Serves a folder; `/odd/KIND/FILE` in odd ways."""

    def __init__(self, folder):
        self.folder = folder
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"

    def handle_error(self, *_):
        """Clients leave as they like."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        kind, name = re.match(r"/(?:odd/(\w+)/)?(.*)", self.path).groups()
        path = self.server.folder / name.split("?")[0]
        if kind == "redirect" and not name.startswith("to/"):
            self.answer(302, b"", ("Location", f"/odd/redirect/to/{name}"))
        elif kind == "redirect":
            self.send(self.server.folder / name.removeprefix("to/"))
        elif kind == "cookie" and not name.endswith(".m3u8") and "pass=1" not in self.headers.get("Cookie", ""):
            self.answer(403, b"no cookie")
        elif kind == "cookie":
            self.send(path, ("Set-Cookie", "pass=1; Path=/"))
        elif kind == "header" and self.headers.get("X-Key") != "a b":
            self.answer(403, b"no key")
        elif kind == "norange":
            self.answer(200, path.read_bytes())
        elif kind == "cut" and name.endswith(".ts"):
            body = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:len(body) // 2])
            self.close_connection = True
        elif kind == "garbage" and name.endswith(".ts"):
            self.answer(200, b"<html>not a segment</html>" * 50)
        elif kind == "endless":
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.apple.mpegurl")
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n")
                while True:
                    self.wfile.write(b"#EXTINF:2,\nx.ts\n" * 1000)
            self.close_connection = True
        else:
            self.send(path)

    def send(self, path, *headers):
        if not path.is_file():
            return self.answer(404, b"nothing")
        body, text = path.read_bytes(), self.headers.get("Range")
        if text and not text.endswith("-"):
            first, last = re.fullmatch(r"bytes=(\d+)-(\d+)", text).groups()
            return self.answer(206, body[int(first):int(last) + 1], *headers)
        mime = "application/vnd.apple.mpegurl" if path.suffix == ".m3u8" else "video/mp2t"
        self.answer(200, body, ("Content-Type", mime), *headers)

    def answer(self, status, body, *headers):
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def recordings(folder):
    """The clip as playlists of every kind, by ffmpeg."""
    source = clip("h264-aac.mp4")
    common = ["ffmpeg", "-nostdin", "-v", "error", "-i", source, "-c", "copy", "-f", "hls", "-hls_time", "2", "-hls_list_size", "0"]
    fragments = ["-hls_segment_type", "fmp4"]
    for name, options in {"ts": [], "fmp4": [*fragments, "-hls_fmp4_init_filename", "init.mp4"], "range": [*fragments, "-hls_flags", "single_file"],
                          "tsrange": ["-hls_flags", "single_file"]}.items():
        done = run(*common, *options, f"{name}.m3u8", cwd=folder)
        assert done.returncode == 0, done.stderr.decode()
    done = run("ffmpeg", "-nostdin", "-v", "error", "-i", source, "-map", "0:v", "-map", "0:a", "-c", "copy", "-f", "hls", "-hls_time", "2", "-hls_list_size", "0", *fragments,
               "-hls_fmp4_init_filename", "in_%v.mp4", "-var_stream_map", "a:0,agroup:aud,default:yes v:0,agroup:aud", "-master_pl_name", "apart.m3u8", "apart_%v.m3u8", cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    (folder / "key").write_bytes(bytes(range(16)))
    (folder / "key_info").write_text("key\nkey\n")
    done = run(*common, "-hls_key_info_file", "key_info", "aes.m3u8", cwd=folder)
    assert done.returncode == 0 and "METHOD=AES-128" in (folder / "aes.m3u8").read_text(), done.stderr.decode()
    (folder / "wrong").write_bytes(bytes(16))
    (folder / "wrong.m3u8").write_text((folder / "aes.m3u8").read_text().replace('URI="key"', 'URI="wrong"'))
    segments = re.findall(r"^#EXTINF.*\n.*$", (folder / "ts.m3u8").read_text(), re.M)
    # Twice the same, with a discontinuity: times begin anew.
    (folder / "twice.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n" + "\n".join(segments) + "\n#EXT-X-DISCONTINUITY\n" + "\n".join(segments) + "\n#EXT-X-ENDLIST")
    (folder / "key.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\"\n" + "\n".join(segments) + "\n#EXT-X-ENDLIST")
    (folder / "void.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"dvh1.05.06\"\nts.m3u8\n")
    (folder / "lost.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n" + "\n".join(segments + [f"#EXTINF:2,\nlost{i}.ts" for i in range(9)]) + "\n#EXT-X-ENDLIST")
    (folder / "still.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n" + "\n".join(segments))


@test
def playlists_of_others_come_out_as_they_went_in():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        recordings(folder)
        with Origin(folder) as origin:
            urls = {"ts": "ts.m3u8", "fmp4": "fmp4.m3u8", "range": "range.m3u8", "tsrange": "tsrange.m3u8", "apart": "apart.m3u8", "aes": "aes.m3u8", "twice": "twice.m3u8",
                    "redirect": "odd/redirect/ts.m3u8", "cookie": "odd/cookie/ts.m3u8", "header": "odd/header/ts.m3u8#header=X-Key: a b", "norange": "odd/norange/range.m3u8"}
            streams = "streams:\n" + "".join(f"  {key}: \"{origin.url(path)}\"\n" for key, path in urls.items())
            source = units(str(clip("h264-aac.mp4")))
            with Server(streams=streams) as server:
                with concurrent.futures.ThreadPoolExecutor(6) as pool:
                    parts = {key: pool.submit(units, server.url(f"api/stream.mp4?src={key}&history=0"), seconds=13 if key == "twice" else 5) for key in urls}
                # Over the discontinuity in the middle.
                twice = parts["twice"].result()["video"]
                shown = sorted(float(time) for _, time in twice)
                steps = [b - a for a, b in zip(shown, shown[1:])]
                assert same(twice, source["video"], 1 / 40_000) is None and 0.019 < min(steps) and max(steps) < 0.25, (min(steps), max(steps))
                for key, result in parts.items():
                    played = result.result()
                    # Where a recording ends and begins again no unit is missing, but times are the next turn's.
                    for kind in ("video", "audio"):
                        part = played[kind][:100]
                        difference = same(part, source[kind], 1 / 40_000)
                        assert difference is None and len(part) >= 75, (key, kind, difference, len(part))
                    print(f"  {key}: {len(played['video'])} pictures, {len(played['audio'])} frames of sound")


@test
def broken_playlists_end_in_one_clear_error():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        recordings(folder)
        with Origin(folder) as origin:
            urls = {"key.m3u8": "segments encrypted with SAMPLE-AES cannot be played", "wrong.m3u8": "a segment is neither MPEG-TS, MP4 nor AAC", "void.m3u8": "no variant has codecs that are known here",
                    "odd/garbage/ts.m3u8": "a segment is neither MPEG-TS, MP4 nor AAC", "odd/endless/x.m3u8": "the body is larger than 1048576 bytes",
                    "odd/header/ts.m3u8": "403", "nothing.m3u8": "404", "lost.m3u8": "404"}
            streams = "streams:\n" + "".join(f"  s{i}: \"{origin.url(path)}\"\n" for i, path in enumerate(urls))
            with Server(streams=streams) as server:
                resident = lambda: int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{server.process.pid}/status").read())[1])  # noqa: E731
                with concurrent.futures.ThreadPoolExecutor(len(urls)) as pool:
                    players = list(pool.map(lambda i: run("ffmpeg", "-nostdin", "-v", "error", "-t", "30", "-i", server.url(f"api/stream.mp4?src=s{i}"), "-c", "copy",
                                                          "-f", "null", "-", limit=90), range(len(urls))))
                for (path, expected), done in zip(urls.items(), players):
                    lines = [line for line in server.text().splitlines() if "source is down" in line and origin.url(path) in line]
                    assert lines and expected in lines[0], (path, lines, done.stderr.decode())
                    print(f"  {path}: {lines[0].split('error=')[1].split(' url=')[0]}")
                print(f"  at most {resident() / 1000:.0f} MB resident")


@test
def live_playlists_are_followed():
    peer("ffmpeg", "ffmpeg")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with Origin(folder) as origin:
            command = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", clip("h264-aac.mp4"), "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_flags",
                       "delete_segments", folder / "live.m3u8"]
            encoder = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            port = free_port()
            low = subprocess.Popen([sys.executable, HERE.parent / "peers/llhls.py", str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            try:
                assert low.stdout.readline() == b"READY\n"
                threading.Thread(target=low.stdout.read, daemon=True).start()
                wait(lambda: (folder / "live.m3u8").exists() and (folder / "live.m3u8").read_text().count("EXTINF") >= 3, 20, "a playlist", encoder)
                streams = f"streams:\n  live: \"{origin.url('live.m3u8')}\"\n  low: http://127.0.0.1:{port}/live.m3u8\n  demo: \"demo:\"\n"
                with Server(streams=streams) as server:
                    source = units(str(clip("h264-aac.mp4")))["video"]
                    played = units(server.url("api/stream.mp4?src=live&history=0"), seconds=12)
                    digests = [digest for digest, _ in source]
                    got = [digest for digest, _ in played["video"]]
                    start = digests.index(got[0])
                    assert got == [digests[(start + i) % len(digests)] for i in range(len(got))] and len(got) >= 275, len(got)
                    shown = sorted(float(time) for _, time in played["video"])
                    steps = [b - a for a, b in zip(shown, shown[1:])]
                    assert max(steps) < 0.25 and min(steps) > 0.01, (min(steps), max(steps))
                    done = run(sys.executable, HERE.parent / "peers/clockread.py", "--ms", "--frames", "100", "--", "-fflags", "nobuffer", "-flags", "low_delay",
                               "-rtsp_transport", "tcp", "-i", f"rtsp://127.0.0.1:{server.rtsp}/low", limit=60)
                    seen = json.loads(done.stdout.decode().splitlines()[-1])
                    assert seen["good"] == 100 and seen["backward"] == 0 and seen["repeated"] == 0, seen
                    print(f"  a low-latency origin: {seen}")
            finally:
                for process in (encoder, low):
                    process.terminate()
                    process.wait()


@test
def its_own_playlists_are_a_source():
    with Server() as first:
        streams = f"streams:\n  ts: \"{first.url('api/stream.m3u8?src=demo')}\"\n  mp4: \"{first.url('api/stream.m3u8?src=demo&mp4')}\"\n"
        with Server(streams=streams) as second:
            for name in ("ts", "mp4"):
                played = units(second.url(f"api/stream.mp4?src={name}&history=0"), seconds=6)
                steps = [float(b[1] - a[1]) for a, b in zip(played["video"], played["video"][1:])]
                assert len(played["video"]) >= 140 and max(steps) - min(steps) < 0.002, (name, len(played["video"]), min(steps), max(steps))


if __name__ == "__main__":
    main(sys.argv[2:])
