#!/usr/bin/env python3
"""How old is the picture of a player that joins 9.6 s into a group of pictures of 10 s?

A camera with its clock burned into the picture announces to the server; mpv, ffplay (RTSP, no low-latency options, each on a display
of its own) and Chromium (the page's MSE player) join, and 3 s later their screens are read. One line a player, with the age of its picture. The times that the server needs for its first bytes are printed, not judged.
"""
import json
import os
import socket
import subprocess
import sys
import time
import traceback

from run import HERE, Server, peer, wait

sys.path.insert(0, str(HERE.parent / "peers"))
import clockread  # noqa: E402

# The aim is 1.5 s. A player that stays behind by what it was sent at the join is 10 s behind: that fails on any machine.
AIM_MS = 1500
OLDEST_MS = 5000
GROUP = 10.0


def age(gray, width, height, now):
    value = clockread.decode(gray, width, height)
    assert value is not None, "no clock in the picture"
    return (now - value) & 0xFFFFFFFF


def now_ms():
    return int(time.time() * 1000) & 0xFFFFFFFF


class Display:
    """A screen without a monitor."""

    def __enter__(self):
        peer("Xvfb", "xvfb")
        read, write = os.pipe()
        self.process = subprocess.Popen(["Xvfb", "-displayfd", str(write), "-screen", "0", "640x360x24", "-nolisten", "tcp"], pass_fds=[write],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(write)
        with os.fdopen(read) as pipe:
            self.name = ":" + pipe.readline().strip()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def picture(self):
        done = subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-f", "x11grab", "-draw_mouse", "0", "-video_size", "640x360", "-i", self.name, "-frames:v", "1",
                               "-pix_fmt", "gray", "-f", "rawvideo", "-"], capture_output=True, timeout=20)
        assert len(done.stdout) == 640 * 360, done.stderr.decode()
        return done.stdout


class Camera:
    """Announces a picture with the wall clock in it; a key frame every 10 s."""

    def __init__(self, url):
        generator = subprocess.Popen([sys.executable, HERE.parent / "peers/clockgen.py", "ms", "640x360", "25"], stdout=subprocess.PIPE)
        self.processes = [generator, subprocess.Popen(
            ["ffmpeg", "-nostdin", "-v", "error", "-f", "yuv4mpegpipe", "-i", "-", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-threads", "1",
             "-g", "250", "-pix_fmt", "yuv420p", "-f", "rtsp", "-rtsp_transport", "tcp", url], stdin=generator.stdout, stderr=subprocess.DEVNULL)]
        generator.stdout.close()

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()


def consumers(server):
    return len(server.json("api/streams")["cam"]["consumers"] or [])


def player(server, command, options):
    """Age of what a player shows 3 s after it joined."""
    with Display() as display:
        environment = {**os.environ, "DISPLAY": display.name, "SDL_VIDEODRIVER": "x11", "SDL_AUDIODRIVER": "dummy"}
        before = consumers(server)
        process = subprocess.Popen([command, *options, f"rtsp://127.0.0.1:{server.rtsp}/cam"], env=environment, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait(lambda: consumers(server) > before, 10, f"{command} to join", process)
            time.sleep(3)
            ages = []
            for _ in range(3):
                gray = display.picture()
                ages.append(age(gray, 640, 360, now_ms()))
            return ages
        finally:
            process.kill()
            process.wait()


def mpv(server):
    peer("mpv", "mpv")
    return player(server, "mpv", ["--no-config", "--vo=x11", "--ao=null", "--no-border", "--no-osc", "--osd-level=0", "--geometry=640x360+0+0",
                                  "--rtsp-transport=tcp", "--really-quiet"])


def ffplay(server):
    peer("ffplay", "ffmpeg")
    return player(server, "ffplay", ["-v", "error", "-noborder", "-left", "0", "-top", "0", "-x", "640", "-y", "360", "-rtsp_transport", "tcp"])


def chromium(server, page="stream.html?src=cam&mode=mse", *plain):
    peer("chromium", "chromium")
    done = subprocess.run(["node", HERE / "join.mjs", server.url(page), "3", *plain], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    picture = json.loads(done.stdout.decode().splitlines()[-1])
    print(f"  {picture['total']} frames, {picture['dropped']} dropped, {picture['behind']:.3f} s behind the end of its buffer")
    return [age(bytes(picture["gray"]), 128, 72, picture["now"] & 0xFFFFFFFF)]


def plain_mse_page(server):
    """A page that never seeks: the stream's clock, which counts since the machine's start, must begin near 0 for it."""
    print(f"  the stream's clock is at {time.clock_gettime(time.CLOCK_MONOTONIC) / 3600:.2f} h")
    return chromium(server, "stream.html?src=cam", "plain")


def first_bytes(server):
    """ms from the request to the first 20 kB of stream.mp4."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.http), timeout=10) as connection:
        connection.sendall(b"GET /api/stream.mp4?src=cam HTTP/1.1\r\nHost: localhost\r\n\r\n")
        count = 0
        while count < 20_000:
            count += len(connection.recv(1 << 16))
    return (time.monotonic() - began) * 1000


def main():
    failed = 0
    with Server(streams="streams:\n  cam:\n") as server:
        camera = Camera(f"rtsp://127.0.0.1:{server.rtsp}/cam")
        try:
            wait(lambda: (server.json("api/streams")["cam"]["producers"] or [{}])[0].get("state") == "live", 20, "the camera")
            began = time.monotonic()
            for join in (mpv, ffplay, chromium, plain_mse_page):
                late = 9.6 if join in (mpv, ffplay) else 8.0  # the browser takes that long to start
                time.sleep(GROUP - (time.monotonic() - began - late) % GROUP)
                try:
                    ages = join(server)
                    good = max(ages) <= OLDEST_MS
                    failed += not good
                    print(f"{'ok' if good else 'FAILED'} {join.__name__}: picture {ages} ms old 3 s after the join (aim {AIM_MS})", flush=True)
                except Exception:
                    failed += 1
                    traceback.print_exc(file=sys.stdout)
                    print(f"FAILED {join.__name__}", flush=True)
            time.sleep(GROUP - (time.monotonic() - began - 9.6) % GROUP)
            print("stream.mp4: first 20 kB after " + ", ".join(f"{first_bytes(server):.1f}" for _ in range(5)) + " ms")
        finally:
            camera.stop()
    print(f"{4 - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
