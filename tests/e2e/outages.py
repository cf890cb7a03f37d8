#!/usr/bin/env python3
"""A camera goes away and comes back while players watch: `outages.py [SECONDS ...]` (1 and 10 when none is given).

Players are an RTSP client over TCP that reads packets itself, and ffmpeg on `stream.mp4`. Their connections must hold, the first
picture must come within the wait that `/api/streams` announced plus 2 s, times must grow, the hole must be one. Then a camera that comes back with
another codec, and one that is not there at the start. One line a case; the last line is `N passed, N failed`.
"""
import pathlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback

from run import HERE, Camera, Server, clip, free_port, peer, probe, wait


class RtspPlayer(threading.Thread):
    """Plays the video of a stream over TCP; keeps (arrival, RTP time) of each packet."""

    def __init__(self, server, name):
        super().__init__(daemon=True)
        self.url = f"rtsp://127.0.0.1:{server.rtsp}/{name}"
        self.connection = socket.create_connection(("127.0.0.1", server.rtsp), timeout=90)
        self.stream = self.connection.makefile("rb")
        self.packets, self.ended = [], None
        self.sequence = 0
        self.ask("DESCRIBE", self.url, "Accept: application/sdp\r\n")
        session = self.ask("SETUP", f"{self.url}/trackID=0", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n")["session"].split(";")[0]
        self.ask("PLAY", self.url, f"Session: {session}\r\n")
        self.start()

    def ask(self, method, url, headers):
        self.sequence += 1
        self.connection.sendall(f"{method} {url} RTSP/1.0\r\nCSeq: {self.sequence}\r\n{headers}\r\n".encode())
        status, answer = self.stream.readline().decode(), {}
        while (line := self.stream.readline().decode().strip()):
            key, _, value = line.partition(":")
            answer[key.lower()] = value.strip()
        self.stream.read(int(answer.get("content-length", 0)))
        assert " 200 " in status, (method, status)
        return answer

    def run(self):
        try:
            while True:
                head = self.stream.read(4)
                if len(head) < 4 or head[0] != 0x24:
                    self.ended = head
                    return
                data = self.stream.read(struct.unpack(">H", head[2:])[0])
                if head[1] == 0:
                    self.packets.append((time.monotonic(), struct.unpack(">I", data[4:8])[0]))
        except OSError as error:
            self.ended = error


def state(server):
    return server.json("api/streams")["cam"]["producers"][0]


def until_retry(server):
    """Seconds until the next dial that the API announces."""
    at = state(server).get("retry_at")
    if not at:
        return 0.0
    return max(0.0, at / 1000 - time.time())


def grows(stamps, what):
    for a, b in zip(stamps, stamps[1:]):
        assert ((b - a) & 0xFFFFFFFF) < 1 << 31, (what, a, b)


def outage(seconds):
    """The camera is gone for a while."""
    camera = Camera()
    try:
        with Server(streams=f"streams:\n  cam: rtsp://127.0.0.1:{camera.port}/cam\n") as server:
            player = RtspPlayer(server, "cam")
            length = seconds + 45
            copy = subprocess.Popen(["ffmpeg", "-nostdin", "-v", "error", "-i", server.url("api/stream.mp4?src=cam"), "-map", "0:v", "-c", "copy", "-t",
                                     str(length), "-f", "framemd5", "-flush_packets", "1", "-"], stdout=subprocess.PIPE)
            lines = []
            threading.Thread(target=lambda: lines.extend((time.monotonic(), line) for line in copy.stdout), daemon=True).start()
            try:
                wait(lambda: len(player.packets) > 60 and len(lines) > 60, 20, "pictures at both players")
                camera.stop()
                gone = time.monotonic()
                wait(lambda: state(server)["state"] == "offline", 15, "state offline")
                assert state(server)["error"] and state(server)["retry_at"], state(server)
                while time.monotonic() < gone + seconds:
                    time.sleep(0.05)
                camera = Camera(port=camera.port)
                back, limit = time.monotonic(), until_retry(server) + 2
                first = lambda times: next((at for at in times if at > gone + 1), None)
                wait(lambda: first([at for at, _ in player.packets]) and first([at for at, _ in lines]), limit + 20, "pictures after the outage")
                took = [first([at for at, _ in player.packets]) - back, first([at for at, _ in lines]) - back]
                assert max(took) < limit + 0.5, f"first picture after {took} s, announced {limit} s"
                wait(lambda: player.packets[-1][0] > back + limit + 2 and lines[-1][0] > back + limit + 2, limit + 20, "the stream to go on")
                assert player.ended is None and copy.poll() is None, (player.ended, copy.poll())
                grows([stamp for _, stamp in player.packets], "RTP times")
                stamps = [int(line.split(b",")[2]) for _, line in list(lines) if not line.startswith(b"#")]
                assert all(b > a for a, b in zip(stamps, stamps[1:])), "times of stream.mp4"
                holes = [b - a for a, b in zip(stamps, stamps[1:]) if b - a > 45_000]
                assert len(holes) == 1, holes
                return f"first picture {took[0]:.2f} s (RTSP), {took[1]:.2f} s (MP4) after the camera was back, announced {limit - 2:.2f} s"
            finally:
                copy.kill()
                copy.wait()
    finally:
        camera.stop()


def another_codec():
    """The camera comes back as H.265."""
    path = clip("hevc-long.mp4")
    camera = Camera()
    try:
        with Server(streams=f"streams:\n  cam: rtsp://127.0.0.1:{camera.port}/cam\n") as server:
            player = RtspPlayer(server, "cam")
            copy = subprocess.Popen(["ffmpeg", "-nostdin", "-v", "error", "-i", server.url("api/stream.mp4?src=cam"), "-map", "0:v", "-f", "null", "-"],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                wait(lambda: len(player.packets) > 60, 20, "pictures")
                camera.stop()
                wait(lambda: state(server)["state"] == "offline", 15, "state offline")
                camera = Camera("--launch", f"( filesrc location={path} ! qtdemux name=d d.video_0 ! queue ! h265parse ! rtph265pay name=pay0 pt=96 config-interval=-1 )",
                                port=camera.port)
                wait(lambda: state(server)["state"] == "live", 30, "the camera")
                back = time.monotonic()
                wait(lambda: player.ended is not None or player.packets[-1][0] > back + 1, 15, "an end or pictures for the RTSP player")
                shown = "shown" if player.ended is None else "ended"
                if player.ended is not None:
                    wait(lambda: "H265" in server.text().upper().replace(".", "") or "HEVC" in server.text().upper(), 5, "a log line that names the codec")
                # A new player gets the new codec at once.
                codecs = [stream["codec_name"] for stream in probe(f"rtsp://127.0.0.1:{server.rtsp}/cam", "-rtsp_transport", "tcp")]
                assert codecs == ["hevc"], (codecs, state(server))
                wait(lambda: copy.poll() is not None, 15, "an end for the MP4 player, whose answer has the old codec's type")
                said = [line for line in server.text().splitlines() if "hvc1" in line or "hevc" in line]
                assert len(said) >= 2, server.text()
                return f"RTSP player {shown}, MP4 player ended; log: " + " | ".join(line.split("INF ")[-1].split(" remote")[0] for line in said)
            finally:
                copy.kill()
                copy.communicate()
    finally:
        camera.stop()


def the_page():
    """The page's player over a camera that comes back with another size and no sound, then with a codec that the browser lacks."""
    peer("chromium", "chromium")
    source = "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=1280,height=720,framerate=25/1 ! x264enc tune=zerolatency speed-preset=ultrafast " \
             "threads=1 key-int-max=25 ! video/x-h264,profile=constrained-baseline ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
    hevc = f"( filesrc location={clip('hevc-long.mp4')} ! qtdemux name=d d.video_0 ! queue ! h265parse ! rtph265pay name=pay0 pt=96 config-interval=-1 )"
    camera = Camera()
    try:
        with Server(streams=f"streams:\n  cam: rtsp://127.0.0.1:{camera.port}/cam\n") as server:
            page = subprocess.Popen(["node", HERE / "watch.mjs", server.url("stream.html?src=cam&mode=mse")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            seen = []
            threading.Thread(target=lambda: seen.extend(json.loads(line) for line in page.stdout), daemon=True).start()
            try:
                wait(lambda: seen and seen[-1]["width"] == 640 and seen[-1]["time"] > 1, 30, "pictures in the page")
                camera.stop()
                camera = Camera("--launch", source, port=camera.port)
                wait(lambda: seen[-1]["width"] == 1280 and seen[-1]["time"] > 1, 30, "pictures of the other size in the page")
                camera.stop()
                camera = Camera("--launch", hevc, port=camera.port)
                wait(lambda: "H265" in seen[-1]["text"] or seen[-1]["width"] == 320, 30, "a picture or a reason in the page")
                return f"640, then 1280 wide, then {seen[-1]['text'].splitlines()[0]!r}"
            except AssertionError as error:
                raise AssertionError(f"{error}; the page shows {seen[-3:]}, streams {server.json('api/streams')}") from None
            finally:
                page.stdin.close()
                page.wait(20)
    finally:
        camera.stop()


def not_there_at_start():
    """A player waits for a camera that is switched on later."""
    port = free_port()
    with Server(streams=f"streams:\n  cam: rtsp://127.0.0.1:{port}/cam\n") as server:
        asked = []

        def ask():
            for _ in range(4):
                asked.append(server.get("api/frame.mp4?src=cam"))
                if asked[-1][0] == 200:
                    return
        player = threading.Thread(target=ask)
        player.start()
        camera = None
        try:
            wait(lambda: state(server).get("retry_at"), 15, "a time of the next try")
            first = state(server)
            assert first["state"] == "offline" and "connect" in first["error"], first
            camera = Camera(port=port)
            player.join(60)
            assert asked[-1][0] == 200, asked
            return f"said {first['error']!r}; a picture in try {len(asked)}"
        finally:
            if camera:
                camera.stop()


def main():
    peer("ffmpeg", "ffmpeg")
    lengths = [int(word) for word in sys.argv[1:]] or [1, 10]
    cases = [(f"outage of {seconds} s", lambda seconds=seconds: outage(seconds)) for seconds in lengths]
    cases += [("back as H.265", another_codec), ("not there at the start", not_there_at_start), ("the page over changes", the_page)]
    results = {}

    def work(title, case):
        try:
            results[title] = f"ok {title}: {case()}"
        except Exception:
            results[title] = f"{traceback.format_exc()}FAILED {title}"
        print(results[title], flush=True)

    threads = [threading.Thread(target=work, args=case) for case in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = sum("FAILED" in result for result in results.values())
    print(f"{len(results) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
