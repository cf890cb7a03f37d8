#!/usr/bin/env python3
"""Motion JPEG, snapshots and text pictures, with real programs at the other end.

Each test prints a line; the last line is `N passed, N failed, N skipped`. `images.py NAME ...` runs some of them.
"""
import contextlib
import functools
import http.client
import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import run as harness
from join import Camera
from run import HERE, Server, free_port, metrics, peer, run, wait
from runner import main, test

sys.path.insert(0, str(HERE.parent / "peers"))
import clockread  # noqa: E402


@functools.cache
def jpegs():
    """50 pictures, all different, made by ffmpeg."""
    peer("ffmpeg", "ffmpeg")
    done = run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-frames:v", "50", "-f", "mpjpeg", "-", limit=30)
    assert done.returncode == 0, done.stderr.decode()
    found, at = [], 0
    for length in re.finditer(rb"Content-length: (\d+)\r\n\r\n", done.stdout):
        at = length.end()
        found.append(done.stdout[at:at + int(length[1])])
    assert len(set(found)) == 50
    return found


# How a part begins and ends; {n} is its length.
FRAMINGS = {
    "plain": ("multipart/x-mixed-replace; boundary=frame", "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {n}\r\n\r\n", "\r\n"),
    "no-length": ("multipart/x-mixed-replace; boundary=frame", "--frame\r\nContent-Type: image/jpeg\r\n\r\n", "\r\n"),
    "wrong-length": ("multipart/x-mixed-replace; boundary=frame", "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 7\r\n\r\n", "\r\n"),
    "dashes": ("multipart/x-mixed-replace; boundary=--frame", "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {n}\r\n\r\n", "\r\n"),
    "quoted": ("Multipart/X-Mixed-Replace;boundary=\"frame\"", "--frame\r\ncontent-type:image/jpeg\r\ncontent-length:{n}\r\n\r\n", "\r\n"),
    "line-feeds": ("multipart/x-mixed-replace; boundary=frame", "--frame\nContent-Type: image/jpeg\nContent-Length: {n}\n\n", "\n"),
    "preamble": ("multipart/x-mixed-replace; boundary=frame", "Hello, this is a camera.\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n", "\r\n"),
    "no-boundary": ("multipart/x-mixed-replace", "--x\r\nContent-Type: image/jpeg\r\n\r\n", "\r\n"),
    "motion-jpeg": ("video/x-motion-jpeg", "", ""),
    "no-type": ("application/octet-stream", "", ""),
}


class Pictures(http.server.BaseHTTPRequestHandler):
    """/FRAMING: an endless stream of the 50 pictures; /still.jpg: the next one each time."""

    asked = 0

    def do_GET(self):
        kind = self.path.strip("/")
        with contextlib.suppress(ConnectionError):
            if kind == "still.jpg":
                Pictures.asked += 1
                body = jpegs()[Pictures.asked % 50]
                self.send_response(200)
                self.send_header("Content-Type", "image/jpeg")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
            mime, begin, end = FRAMINGS[kind]
            self.send_response(200)
            self.send_header("Content-Type", mime)
            self.end_headers()
            while True:
                for picture in jpegs():
                    self.wfile.write(begin.format(n=len(picture)).encode() + picture + end.encode())
                    time.sleep(0.04)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def camera():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def parts(url, count):
    """So many pictures of a multipart answer, taken by their Content-Length."""
    found = []
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame", answer.headers
        assert answer.headers["Cache-Control"] == "no-cache", answer.headers
        while len(found) < count:
            assert answer.readline() == b"--frame\r\n"
            assert answer.readline() == b"Content-Type: image/jpeg\r\n"
            length = int(re.fullmatch(rb"Content-Length: (\d+)\r\n", answer.readline())[1])
            assert answer.readline() == b"\r\n"
            found.append(answer.read(length))
            assert answer.readline() == b"\r\n"
    return found


@test
def pictures_come_out_as_they_went_in():
    with camera() as url:
        names = "".join(f"  {kind}: {url}{kind}\n" for kind in FRAMINGS)
        with Server(streams=f"streams:\n{names}") as server:
            for kind in FRAMINGS:
                found = [jpegs().index(picture) for picture in parts(server.url(f"api/stream.mjpeg?src={kind}"), 60)]
                assert all(b == (a + 1) % 50 for a, b in zip(found, found[1:])), (kind, found)
                [producer] = server.json(f"api/streams?src={kind}")["producers"]
                expected = "mjpeg" if FRAMINGS[kind][1] == "" else "mpjpeg"
                assert producer["format_name"] == expected, (kind, producer)


@test
def a_still_picture_is_polled():
    with camera() as url, Server(streams=f"streams:\n  still: {url}still.jpg\n") as server:
        began, asked = time.monotonic(), Pictures.asked
        found = [jpegs().index(picture) for picture in parts(server.url("api/stream.mjpeg?src=still"), 30)]
        assert all(b == (a + 1) % 50 for a, b in zip(found, found[1:])), found
        rate = (Pictures.asked - asked) / (time.monotonic() - began)
        assert rate < 26, rate
        print(f"  asked {rate:.0f} times a second")
        status, headers, body = server.get("api/frame.jpeg?src=still")
        assert status == 200 and body in jpegs() and headers["Content-Type"] == "image/jpeg", headers
        [producer] = server.json("api/streams?src=still")["producers"]
        assert producer["format_name"] == "image", producer


@test
def ffmpeg_at_both_ends():
    peer("ffmpeg", "ffmpeg")
    port = free_port()
    with Server(streams=f"streams:\n  cam: http://127.0.0.1:{port}/x.mjpg\n  text: 'demo:'\n  again:\n") as server:
        source = subprocess.Popen(
            ["ffmpeg", "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-c:v", "mjpeg", "-huffman", "default",
             "-q:v", "5", "-pix_fmt", "yuvj420p", "-f", "mpjpeg", "-boundary_tag", "frame", "-content_type", "multipart/x-mixed-replace;boundary=frame",
             "-listen", "1", f"http://127.0.0.1:{port}/x.mjpg"], stderr=subprocess.DEVNULL)
        try:
            for options, address in [(["-f", "mpjpeg"], server.url("api/stream.mjpeg?src=cam")),
                                     (["-rtsp_transport", "tcp"], f"rtsp://127.0.0.1:{server.rtsp}/cam")]:
                done = run("ffmpeg", "-v", "error", *options, "-i", address, "-frames:v", "40", "-f", "framemd5", "-", limit=30)
                lines = [line.split(",") for line in done.stdout.decode().splitlines() if not line.startswith("#")]
                assert len(lines) == 40 and len({line[5] for line in lines}) >= 39, (address, len(lines), done.stderr.decode())
                assert not done.stderr.strip(), (address, done.stderr.decode())
            # Through RTP and back: the same pictures with headers of their own.
            assert server.get(f"api/streams?name=again&src=rtsp://127.0.0.1:{server.rtsp}/cam", "PUT")[0] == 200
            assert [size(picture) for picture in parts(server.url("api/stream.mjpeg?src=again"), 5)] == [(320, 240)] * 5
        finally:
            source.kill()
            source.wait()
        status, _, body = server.get("api/stream.mjpeg?src=text")
        assert (status, body) == (500, b"streams: codecs not matched: video:H264, audio:AAC => video:JPEG, video:RAW\n"), body


def clock_camera(port, size="640x360"):
    """Pictures with the wall clock in them, as a camera with Motion JPEG sends them."""
    generator = subprocess.Popen([sys.executable, HERE.parent / "peers/clockgen.py", "ms", size, "25"], stdout=subprocess.PIPE)
    sender = subprocess.Popen(
        ["ffmpeg", "-nostdin", "-v", "error", "-f", "yuv4mpegpipe", "-i", "-", "-vf", "noise=alls=12:allf=t", "-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p",
         "-threads", "1", "-f", "mpjpeg", "-boundary_tag", "frame", "-content_type", "multipart/x-mixed-replace;boundary=frame", "-listen", "1",
         f"http://127.0.0.1:{port}/x.mjpg"], stdin=generator.stdout, stderr=subprocess.DEVNULL)
    generator.stdout.close()
    return [generator, sender]


@test
def chromium_shows_a_stream_in_an_img():
    peer("chromium", "chromium")
    peer("node", "nodejs")
    port = free_port()
    with Server(streams=f"streams:\n  cam: http://127.0.0.1:{port}/x.mjpg\n") as server:
        processes = clock_camera(port)
        try:
            done = run("node", HERE / "images.mjs", server.url(""), "cam", "3", os.environ.get("PATCHBAY_SCREENSHOT", ""), limit=60)
            assert done.returncode == 0, done.stderr.decode()
            shown = json.loads(done.stdout.decode().splitlines()[-1])
            value = clockread.decode(bytes(shown["gray"]), 128, 72)
            assert value is not None and shown["width"] == 640, shown["width"]
            age = (shown["now"] - value) & 0xFFFFFFFF
            assert shown["texts"] == ['{"type":"mjpeg"}\n'], shown["texts"]
            assert shown["pictures"] > 50 and shown["bad"] == 0, shown
            print(f"  the <img> is {age} ms old after 3 s; {shown['pictures']} pictures over the WebSocket")
            assert age < 3000, age
            values = metrics(server)
            assert values["patchbay_sources"] == 1, values
        finally:
            for process in processes:
                process.kill()
                process.wait()


@test
def a_slow_viewer_is_shown_the_newest():
    """One that takes 4 pictures a second of 25 sees what is new, but for what its connection holds (about 1 MB)."""
    port = free_port()
    with Server(streams=f"streams:\n  cam: http://127.0.0.1:{port}/x.mjpg\n") as server:
        processes = clock_camera(port, "960x540")
        try:
            with socket.create_connection(("127.0.0.1", server.http), timeout=20) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
                connection.sendall(b"GET /api/stream.mjpeg?src=cam HTTP/1.0\r\nHost: localhost\r\n\r\n")
                began, data, seen = time.monotonic(), b"", []
                while len(seen) < 60:
                    while (found := re.search(rb"Content-Length: (\d+)\r\n\r\n", data)) is None or len(data) < found.end() + int(found[1]):
                        data += connection.recv(1 << 14)
                    end = found.end() + int(found[1])
                    seen.append((int(time.time() * 1000), data[found.end():end]))
                    data = data[end:]
                    time.sleep(max(0, began + len(seen) / 4 - time.monotonic()))
            ages = [(now - clock(picture)) & 0xFFFFFFFF for now, picture in seen]
            held = 12 + 1_500_000 / (sum(len(picture) for _, picture in seen) / len(seen))
            print(f"  {len(seen[0][1])} bytes a picture; ages {ages[::10]} ms; the connection may hold {held:.0f} pictures")
            # Each picture in its turn would make the last one 15 - 60 / 25 s old.
            assert max(ages) < 1_000 + 250 * held < 10_000, (ages, held)
        finally:
            for process in processes:
                process.kill()
                process.wait()


def size(data):
    """Width and height by ffprobe, which decodes it."""
    done = subprocess.run(["ffprobe", "-v", "error", "-f", "jpeg_pipe", "-i", "-", "-show_entries", "stream=width,height", "-of", "csv=p=0"], input=data, capture_output=True,
                          timeout=20)
    assert done.returncode == 0, done.stderr.decode()
    width, height = done.stdout.decode().split()[0].split(",")[:2]
    return int(width), int(height)


def clock(data):
    """The clock in a JPEG file."""
    done = subprocess.run(["ffmpeg", "-v", "error", "-f", "jpeg_pipe", "-i", "-", "-vf", "scale=128:72:flags=area,format=gray", "-f", "rawvideo", "-"], input=data,
                          capture_output=True, timeout=20)
    value = clockread.decode(done.stdout, 128, 72)
    assert value is not None, done.stderr.decode()
    return value


def counter(server, name):
    return metrics(server).get(f'patchbay_plugin_{name}{{plugin="snapshot"}}', 0)


@test
def snapshots_have_the_size_that_was_asked_for():
    peer("ffprobe", "ffmpeg")
    with Server() as server:
        for query, expected in [("", (640, 360)), ("&width=320", (320, 180)), ("&w=320&h=320", (320, 320)), ("&height=90", (160, 90)),
                                ("&rotate=90", (360, 640)), ("&w=320&rotate=-90", (180, 320)), ("&rotate=180&hw=vaapi", (640, 360)), ("&width=abc", (640, 360))]:
            status, headers, body = server.get(f"api/frame.jpeg?src=demo{query}")
            assert status == 200 and headers["Content-Type"] == "image/jpeg" and int(headers["Content-Length"]) == len(body), (query, headers)
            assert headers["Cache-Control"] == headers["Pragma"] == "no-cache", headers
            assert size(body) == expected, (query, size(body))
            assert 0 <= int(headers["X-Frame-Age-Ms"]) < 20_000, headers
        fine, coarse = (len(server.get(f"api/frame.jpeg?src=demo&quality={q}")[2]) for q in (95, 10))
        assert coarse < fine / 2, (coarse, fine)
        decoded = counter(server, "pictures_decoded")
        for query in ("w=99999", "h=99999999999999999999", "w=8192&h=8192"):
            status, _, body = server.get(f"api/frame.jpeg?src=demo&{query}&cache=0")
            assert status == 400 and body.startswith(b"snapshot: a picture of ") and body.endswith(b" pixels is not made\n"), (query, status, body)
        assert counter(server, "pictures_decoded") == decoded


@test
def snapshots_that_cannot_be():
    with Server(streams='streams:\n  demo: "demo:"\n  nowhere: rtsp://127.0.0.1:9/x\n') as server:
        assert server.get("api/frame.jpeg?src=nope")[::2] == (404, b"stream not found\n")
        status, headers, body = server.get("api/frame.jpeg?src=nowhere")
        # Home Assistant takes an empty answer for "no picture" and logs a fault for every other status.
        assert (status, body) == (200, b"") and "Connection refused" in headers["X-Error"], (status, body, headers)
        assert counter(server, "snapshots") == 0


@test
def kept_pictures_are_given_again():
    with Server() as server:
        first = server.get("api/frame.jpeg?src=demo&cache=1m")
        wait(lambda: server.get("api/frame.jpeg?src=demo")[2] != first[2], 20, "another key picture")
        again = server.get("api/frame.jpeg?src=demo&cache=1m")
        assert again[2] == first[2] and int(again[1]["X-Frame-Age-Ms"]) > int(first[1]["X-Frame-Age-Ms"]), again[1]
        assert server.get("api/frame.jpeg?src=demo&cache=1ms")[2] != first[2]
        assert server.get("api/frame.jpeg?src=demo&cache=never")[2] != first[2]


@test
def h265_by_ffmpeg_and_a_clear_error_without():
    peer("ffmpeg", "ffmpeg")
    clip = harness.clip("hevc-long.mp4")
    with Server(streams=f"streams:\n  cam: file:{clip}\n") as server:
        status, headers, body = server.get("api/frame.jpeg?src=cam&width=160")
        assert status == 200 and size(body) == (160, 120), (status, body[:200])
        decoded = counter(server, "pictures_decoded")
        assert decoded == 1, decoded
    with Server(streams=f"streams:\n  cam: file:{clip}\n", extra="snapshot: {ffmpeg: /nowhere/ffmpeg}\n") as server:
        status, _, body = server.get("api/frame.jpeg?src=cam")
        assert status == 500 and body.startswith(b"snapshot: hevc pictures") and b"install ffmpeg" in body, (status, body)


@test
def a_hundred_snapshots_a_second():
    """A stream with a key picture every 10 s: what comes is the newest key picture, decoded once, within some milliseconds."""
    seconds, rate, workers = 22, 100, 12
    with Server(streams="streams:\n  cam:\n") as server:
        source = Camera(f"rtsp://127.0.0.1:{server.rtsp}/cam")
        try:
            wait(lambda: (server.json("api/streams")["cam"]["producers"] or [{}])[0].get("state") == "live", 20, "the camera")
            wait(lambda: server.get("api/frame.jpeg?src=cam")[2], 20, "a picture")
            decoded = counter(server, "pictures_decoded")
            answers, lock = [], threading.Lock()
            start = time.monotonic() + 0.1

            def ask(worker):
                for index in range(worker, seconds * rate, workers):
                    due = start + index / rate
                    time.sleep(max(0, due - time.monotonic()))
                    began = time.monotonic()
                    connection = http.client.HTTPConnection("127.0.0.1", server.http, timeout=20)
                    connection.request("GET", "/api/frame.jpeg?src=cam")
                    answer = connection.getresponse()
                    body = answer.read()
                    took, now = (time.monotonic() - began) * 1000, int(time.time() * 1000) & 0xFFFFFFFF
                    connection.close()
                    with lock:
                        answers.append((due, took, now, int(answer.headers["X-Frame-Age-Ms"]), body))

            threads = [threading.Thread(target=ask, args=(worker,)) for worker in range(workers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            decoded = counter(server, "pictures_decoded") - decoded
            times = sorted(answer[1] for answer in answers)
            clocks = {body: clock(body) for body in {answer[4] for answer in answers}}
            print(f"  {len(times)} pictures in {seconds} s: p50 {times[len(times) // 2]:.1f} ms, p99 {times[len(times) * 99 // 100]:.1f} ms, "
                  f"worst {times[-1]:.1f} ms (aim: p99 60 ms); {len(clocks)} different, {decoded} decoded")
            assert len(times) == seconds * rate and all(answer[4] for answer in answers)
            assert len(clocks) - 1 <= decoded <= len(clocks), (len(clocks), decoded)
            # Key pictures are 10 s apart; the newest is never older than that and what it takes to arrive. The one before it is, half of the time.
            ages = [((now - clocks[body]) & 0xFFFFFFFF, told, took) for _, took, now, told, body in answers]
            assert all(age < 15_000 + took for age, _, took in ages), max(ages)
            assert all(abs(age - told) < 1_500 + took for age, told, took in ages), max(ages, key=lambda answer: abs(answer[0] - answer[1]))
            order = [clocks[body] for _, _, _, _, body in sorted(answers, key=lambda answer: answer[2])]
            assert all((b - a) & 0x80000000 == 0 for a, b in zip(order, order[1:]) if b != a), "an older picture came after a newer one"
            # A whole group later than the key picture: decoded on to the newest.
            wait(lambda: int(server.get("api/frame.jpeg?src=cam")[1]["X-Frame-Age-Ms"]) > 6_000, 12, "an old key picture")
            before = counter(server, "pictures_decoded")
            for _ in range(3):
                began = time.monotonic()
                status, headers, body = server.get("api/frame.jpeg?src=cam&max_age=500ms")
                took, now = time.monotonic() - began, int(time.time() * 1000) & 0xFFFFFFFF
                age = (now - clock(body)) & 0xFFFFFFFF
                print(f"  max_age=500ms: a picture {age} ms old, in {took * 1000:.0f} ms; told {headers['X-Frame-Age-Ms']} ms")
                assert status == 200 and age < 3_000, (status, age)
                time.sleep(0.6)
            # The second and third go on where the one before stopped: no picture is decoded twice.
            decoded = counter(server, "pictures_decoded") - before
            assert 150 < decoded < 300, decoded
        finally:
            source.stop()


@test
def pictures_behind_the_key_picture_of_a_stream_with_b_frames():
    with Server(streams=f"streams:\n  cam: file:{harness.clip('h264-long.mp4')}\n") as server:
        viewer = subprocess.Popen(["curl", "-s", "-o", os.devnull, server.url("api/stream.mp4?src=cam")])
        seen = set()
        try:
            for _ in range(4):
                status, headers, body = server.get("api/frame.jpeg?src=cam&max_age=1ms")
                assert status == 200 and int(headers["X-Frame-Age-Ms"]) < 3_000, headers
                seen.add(body)
                time.sleep(0.3)
        finally:
            viewer.kill()
            viewer.wait()
        assert len(seen) == 4, len(seen)


@test
def other_codecs_are_given_to_ffmpeg():
    peer("ffmpeg", "ffmpeg")
    encoders = {"vp9": ["libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime"], "av1": ["libaom-av1", "-cpu-used", "8", "-usage", "realtime"]}
    folder, made = pathlib.Path(harness.CLIP_FOLDER.name), []
    for codec, options in encoders.items():
        done = run("ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=10", "-t", "4", "-pix_fmt", "yuv420p", "-g", "10", "-c:v", *options,
                   folder / f"{codec}.mp4", limit=120)
        assert done.returncode == 0, done.stderr.decode()
        made.append(codec)
    with Server(streams="streams:\n" + "".join(f"  {codec}: file:{folder}/{codec}.mp4\n" for codec in made)) as server:
        for codec in made:
            status, headers, body = server.get(f"api/frame.jpeg?src={codec}")
            assert status == 200 and body and size(body) == (320, 240), (codec, status, headers, body[:200])


@test
def other_kinds_of_h264_are_given_to_ffmpeg():
    peer("ffmpeg", "ffmpeg")
    kinds = {"fields": ["-x264-params", "interlaced=1"], "422": ["-pix_fmt", "yuv422p"], "10-bits": ["-pix_fmt", "yuv420p10le"]}
    folder = pathlib.Path(harness.CLIP_FOLDER.name)
    for kind, options in kinds.items():
        done = run("ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-t", "4", "-pix_fmt", "yuv420p", "-c:v", "libx264", *options,
                   folder / f"{kind}.mp4")
        assert done.returncode == 0, done.stderr.decode()
    streams = "streams:\n" + "".join(f"  {kind}: file:{folder}/{kind}.mp4\n" for kind in kinds)
    with Server(streams=streams) as server:
        for kind in kinds:
            status, _, body = server.get(f"api/frame.jpeg?src={kind}")
            assert status == 200 and size(body) == (320, 240), (kind, status, body[:200])
    with Server(streams=streams, extra="snapshot: {ffmpeg: /nowhere/ffmpeg}\n") as server:
        for kind in kinds:
            status, _, body = server.get(f"api/frame.jpeg?src={kind}")
            assert status == 500 and body.startswith(b"snapshot: h264 pictures of this kind are decoded by ffmpeg"), (kind, status, body)


@test
def pictures_are_posted():
    """A program sends its pictures to a stream: `POST api/stream.mjpeg?dst=`."""
    peer("ffmpeg", "ffmpeg")
    with Server(streams="streams:\n  cam:\n") as server:
        sender = subprocess.Popen(["ffmpeg", "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-c:v", "mjpeg", "-f", "mpjpeg",
                                   "-method", "POST", server.url("api/stream.mjpeg?dst=cam")], stderr=subprocess.DEVNULL)
        try:
            wait(lambda: server.get("api/frame.jpeg?src=cam")[2], 20, "a picture", server.process)
            assert [size(picture) for picture in parts(server.url("api/stream.mjpeg?src=cam"), 3)] == [(320, 240)] * 3
            [producer] = server.json("api/streams?src=cam")["producers"]
            assert (producer["url"], producer["format_name"]) == ("external", "mpjpeg"), producer
        finally:
            sender.kill()
            sender.wait()


@test
def text_for_a_terminal():
    with camera() as url, Server(streams=f"streams:\n  cam: {url}plain\n") as server:
        def frames(query, count):
            with urllib.request.urlopen(server.url(f"api/stream.ascii?src=cam{query}"), timeout=20) as answer:
                assert answer.headers["Content-Type"] == "text/plain; charset=utf-8", answer.headers
                text = b""
                while text.count(b"\x1b[0m") < count:
                    text += answer.read1(1 << 16)
            assert text.startswith(b"\x1b[2J\x1b[H"), text[:20]
            return text.decode(errors="ignore").removeprefix("\x1b[2J").split("\x1b[H")[1:count]

        for query, columns, rows in [("&width=100", 100, 38), ("&width=64&height=20&text=block", 64, 20), ("", 160, 60)]:
            for frame in frames(query, 3):
                lines = frame.removesuffix("\x1b[0m").splitlines()
                assert len(lines) == rows and {len(line) for line in lines} == {columns}, (query, len(lines))
        assert "\x1b[38;2;" in frames("&color=rgb", 2)[0]
        assert "\x1b[48;5;" in frames("&back=256&text=%20", 2)[0]
        assert server.get("api/stream.ascii?src=nope")[::2] == (404, b"stream not found\n")


@test
def raw_frames_are_pictures_too():
    peer("ffmpeg", "ffmpeg")
    path = pathlib.Path(harness.CLIP_FOLDER.name) / "raw.y4m"
    done = run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=10", "-t", "3", "-pix_fmt", "yuv420p", path)
    assert done.returncode == 0, done.stderr.decode()
    with Server(streams=f"streams:\n  raw: file:{path}\n") as server:
        status, _, body = server.get("api/frame.jpeg?src=raw&width=160")
        assert status == 200 and size(body) == (160, 120), (status, body[:100])
        assert [size(picture) for picture in parts(server.url("api/stream.mjpeg?src=raw"), 3)] == [(320, 240)] * 3


if __name__ == "__main__":
    main()
