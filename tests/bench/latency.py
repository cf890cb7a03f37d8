#!/usr/bin/env python3
"""How old is a picture when a viewer has it? WebRTC, MSE, RTSP and MP4 over HTTP, each beside the same pictures without a server.

`latency.py [--seconds 20]`. Builds nothing: needs `cargo build --release`. A camera (ffmpeg, x264 zerolatency, 640x360, 25 pictures a
second) burns the time into its pictures, announces them over RTSP and sends the same packets to a decoder beside it: the floor, which is
encoder, RTP and decoder alone. Chromium's pictures are read when it shows them, ffmpeg's when it has decoded them. Median and 99th percentile in ms;
the floor is measured in the same seconds as each player.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from run import HERE, Server, free_port, peer, wait  # noqa: E402

sys.path.insert(0, str(HERE.parent / "peers"))
import clockread  # noqa: E402

SIZE = clockread.W * clockread.H
GRAY = ["-an", "-vf", f"scale={clockread.W}:{clockread.H}:flags=area,format=gray", "-fps_mode", "passthrough", "-flush_packets", "1", "-f", "rawvideo", "-"]
# What a decoder needs not to wait for more than it has.
NOW = ["-fflags", "nobuffer", "-flags", "low_delay", "-threads", "1"]


class Ages:
    """Reads gray pictures for ever and notes when each came and how old it was."""

    def __init__(self, stream):
        self.stream, self.seen = stream, []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while len(gray := self.stream.read(SIZE)) == SIZE:
            now = time.time()
            if (value := clockread.decode(gray)) is not None:
                self.seen.append((now, (int(now * 1000) - value) & 0xFFFFFFFF))

    def between(self, start, end):
        return [age for at, age in self.seen if start <= at < end]


class Camera:
    """The pictures, announced to `url`; `floor` are their ages behind a decoder of its own."""

    def __init__(self, url):
        peer("ffmpeg", "ffmpeg")
        pipe = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        port = free_port()
        self.folder = tempfile.TemporaryDirectory()
        description = pathlib.Path(self.folder.name) / "floor.sdp"
        description.write_text(f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=1\n")
        clock = subprocess.Popen([sys.executable, HERE.parent / "peers/clockgen.py", "ms", "640x360", "25"], **pipe)
        encoder = subprocess.Popen(
            ["ffmpeg", "-nostdin", "-v", "error", "-fflags", "nobuffer", "-probesize", "32", "-f", "yuv4mpegpipe", "-i", "-", "-c:v", "libx264", "-preset", "ultrafast", "-tune",
             "zerolatency", "-threads", "1", "-g", "50", "-pix_fmt", "yuv420p", "-flags", "+global_header", "-map", "0:v", "-flush_packets", "1", "-f", "tee",
             f"[f=rtsp:rtsp_transport=tcp]{url}|[f=rtp:bsfs/v=dump_extra]rtp://127.0.0.1:{port}"],
            **{**pipe, "stdin": clock.stdout, "stdout": subprocess.DEVNULL})
        decoder = subprocess.Popen(["ffmpeg", "-nostdin", "-v", "error", *NOW, "-protocol_whitelist", "file,udp,rtp", "-reorder_queue_size", "0", "-i", description, *GRAY], **pipe)
        self.processes = [clock, encoder, decoder]
        clock.stdout.close()
        self.floor = Ages(decoder.stdout)

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.folder.cleanup()


def ffmpeg(url, *options):
    def play(seconds):
        player = subprocess.Popen(["ffmpeg", "-nostdin", "-v", "error", *NOW, *options, "-i", url, *GRAY], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            ages = Ages(player.stdout)
            wait(lambda: ages.seen, 20, f"pictures of {url}", player)
            # What it takes to catch up with the history does not count.
            time.sleep(3)
            start = time.time()
            time.sleep(seconds)
            return ages.between(start, time.time())
        finally:
            player.kill()
            player.wait()
    return play


def chromium(url):
    def play(seconds):
        peer("chromium", "chromium")
        done = subprocess.run(["node", HERE / "latency.mjs", url, str(seconds)], capture_output=True, timeout=60 + seconds, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout.decode().splitlines()[-1])["ages"]
    return play


def at(ages, part):
    return sorted(ages)[min(int(len(ages) * part), len(ages) - 1)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=20)
    seconds = parser.parse_args().seconds
    with Server(streams="streams:\n  cam:\n", extra=f"webrtc:\n  listen: \":{free_port()}\"\n  ice_servers: []\n") as server:
        rtsp = f"rtsp://127.0.0.1:{server.rtsp}/cam"
        camera = Camera(rtsp)
        try:
            wait(lambda: server.json("api/streams?src=cam")["producers"], 15, "camera")
            players = {
                "WebRTC, Chromium": chromium(server.url("stream.html?src=cam&mode=webrtc")),
                "MSE, Chromium": chromium(server.url("stream.html?src=cam&mode=mse")),
                "RTSP over TCP, ffmpeg": ffmpeg(rtsp, "-rtsp_transport", "tcp"),
                "RTSP over UDP, ffmpeg": ffmpeg(rtsp, "-rtsp_transport", "udp", "-reorder_queue_size", "0"),
                "MP4 over HTTP, ffmpeg": ffmpeg(server.url("api/stream.mp4?src=cam"), "-probesize", "5000"),
            }
            print(f"{'player':24}{'pictures':>10}{'median':>8}{'p99':>8}   floor: {'median':>6}{'p99':>8}  (ms)")
            for name, play in players.items():
                ages = play(seconds)
                end = time.time()
                floor = camera.floor.between(end - seconds, end)
                print(f"{name:24}{len(ages):>10}{at(ages, .5):>8}{at(ages, .99):>8}          {at(floor, .5):>6}{at(floor, .99):>8}", flush=True)
        finally:
            camera.stop()


if __name__ == "__main__":
    main()
