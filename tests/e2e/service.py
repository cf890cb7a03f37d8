#!/usr/bin/env python3
"""A vendor's plugin in a process of its own has the service `webrtc` hold its connections and feed its source.

The plugin is tests/rtcvendor (`cargo build -p patchbay-plugin-rtcvendor`, in PATCHBAY_FIXTURES or target/debug), its camera
tests/peers/rtccamera.py (aiortc). `service.py [name ...]` runs the named tests alone.
"""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import urllib.request

from faults import FIXTURES, library, prefix
from run import Server, free_port, metrics, run, wait
from runner import main, test
from webrtc import PEERS, python

SOUND = {"pcm_alaw": "pcma", "opus": "opus"}


class Camera:
    """The vendor's camera; what it says is in `lines`."""

    def __init__(self):
        self.port, self.lines = free_port(), []
        self.process = subprocess.Popen([python(), PEERS / "rtccamera.py", str(self.port)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def said(self, key, value=None):
        return [line for line in list(self.lines) if key in line and value in (None, line[key])]

    def __enter__(self):
        wait(lambda: self.said("ready"), 30, "the camera", self.process)
        return self

    def __exit__(self, kind, *_):
        self.process.kill()
        self.process.wait()
        if kind:
            print("  camera: " + "\n  camera: ".join(json.dumps(line)[:300] for line in self.lines[-30:]))


@contextlib.contextmanager
def served(streams):
    """A server with the vendor's plugin in a folder that is not Patchbay's: it runs in a process of its own."""
    with tempfile.TemporaryDirectory() as folder, prefix(shipped=("mp4", "rtsp", "webrtc")) as binary:
        for name in ("rtcvendor", "fixture"):
            shutil.copy(library(FIXTURES, name), folder)
        talk = free_port()
        os.environ["PATCHBAY_PLUGINS"] = folder
        try:
            server = Server(binary=binary, streams=streams, extra=f"webrtc:\n  listen: \":{free_port()}\"\n  ice_servers: []\nlog:\n  webrtc: debug\n"
                            f"fixture:\n  listen: 127.0.0.1:{talk}\n")
            server.talk = talk
        finally:
            del os.environ["PATCHBAY_PLUGINS"]
        with server:
            yield server


class Viewer:
    """Plays a stream as MP4 until it is left."""

    def __init__(self, server, name):
        self.answer = urllib.request.urlopen(server.url(f"api/stream.mp4?src={name}"), timeout=40)
        self.bytes = 0
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            while data := self.answer.read(4096):
                self.bytes += len(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.answer.close()


def producer(server, name):
    (found,) = server.json(f"api/streams?src={name}")["producers"]
    return found


def tracks(server, name):
    """Codecs of a source by the ids of its tracks."""
    return {receiver["id"] % 64: receiver["codec"]["codec_name"] for receiver in producer(server, name).get("receivers", [])}


def probed(server, name):
    """Frames of 3 s over RTSP, by codec."""
    done = run("ffprobe", "-v", "error", "-rtsp_transport", "tcp", "-count_frames", "-read_intervals", "%+3", "-show_entries",
               "stream=codec_name,nb_read_frames", "-of", "json", f"rtsp://127.0.0.1:{server.rtsp}/{name}", limit=60)
    streams = json.loads(done.stdout)["streams"]
    return {stream["codec_name"]: int(stream["nb_read_frames"]) for stream in streams}


def socket_bytes(server):
    return sum(value for name, value in metrics(server).items() if name.startswith('patchbay_plugin_socket_bytes_total{plugin="rtcvendor"'))


def source_bytes(server):
    return sum(value for name, value in metrics(server).items() if name.startswith("patchbay_source_bytes_total"))


def spoken(port, line):
    """What the fixture's server says to a line: it lets players speak."""
    with socket.create_connection(("127.0.0.1", port), 20) as peer:
        peer.sendall(line.encode() + b"\n")
        return peer.makefile().readline()


def vendor(server):
    return {plugin["name"]: plugin for plugin in server.json("api/plugins")}["rtcvendor"]


def holds(server, camera, name, role, sound, own=None):
    """Everything but the end of a connection in one role; a viewer is there all the while."""
    wait(lambda: camera.said("report"), 40, "answers on all data channels", server.process)
    assert camera.said("role", role) and camera.said("state", "connected"), camera.lines
    opened = {line["channel"]: line for line in camera.said("channel")}
    control, events = opened["control"], opened["events"]
    assert (control["ordered"], control["retransmits"], control["life"]) == (True, None, None), control
    assert (events["ordered"], events["retransmits"]) == (False, 3), events
    report = camera.said("report")[-1]["report"]
    assert report["control"] == 100 and report["events"] > 0 and report["camera"] >= 2, report
    # The camera had a microphone after that, and both sides agreed anew.
    microphone = lambda: list(tracks(server, name).values()).count(sound) == 1  # noqa: E731
    wait(microphone, 30, "the microphone", server.process)
    expected = {**(own or {}), 32: "h264", 33: sound}
    assert tracks(server, name) == expected, tracks(server, name)
    assert producer(server, name)["protocol"] == "tcp+udp", producer(server, name)
    seen = probed(server, f"{name}?video&audio={SOUND[sound]}")
    assert seen["h264"] > 20 and seen[sound] > 50, seen
    print(f"  {role}: {report}; ffprobe read {seen} of 3 s over RTSP")


@test
def the_service_offers():
    with Camera() as camera, served(f"streams:\n  cam: rtcvendor://127.0.0.1:{camera.port}/offerer\n") as server, Viewer(server, "cam") as viewer:
        holds(server, camera, "cam", "offerer", "pcm_alaw")
        # Its one section of sound goes both ways.
        assert spoken(server.talk, "talk cam pcm_alaw 100").startswith("accepted"), server.text()
        wait(lambda: camera.said("heard"), 20, "sound at the camera", server.process)
        assert camera.said("loudspeaker", True), camera.lines
        wait(lambda: camera.said("loudspeaker", False), 20, "end of the talk", server.process)
        assert "isolation" in vendor(server) and vendor(server)["isolation"] == "process", vendor(server)
        # The vendor's marks are in what the camera got, and no codec that was not asked for.
        (first, *_) = camera.said("offer")
        assert "H264" in first["offer"] and "H265" not in first["offer"] and "m=application" in first["offer"], first
        # While media flows nothing but signs of life goes to the vendor's process and comes from it.
        socket, media, played = socket_bytes(server), source_bytes(server), viewer.bytes
        wait(lambda: source_bytes(server) > media + 100_000 and viewer.bytes > played, 60, "100 KB of media")
        crossed = socket_bytes(server) - socket
        assert crossed < 20_000, f"{crossed} bytes crossed the vendor's socket"
        print(f"  {source_bytes(server) - media} bytes of media came meanwhile, {crossed} bytes of pings crossed the vendor's socket")
        # When the plugin is killed its connection is closed; it comes back, and the viewer has stayed.
        os.kill(vendor(server)["pid"], signal.SIGKILL)
        wait(lambda: camera.said("state", "closed"), 20, "end of the connection", server.process)
        wait(lambda: len(camera.said("role")) > 1 and camera.said("state", "connected")[1:], 30, "a new connection", server.process)
        played = viewer.bytes
        wait(lambda: viewer.bytes > played + 20_000, 30, "more for the viewer", server.process)


@test
def the_camera_offers():
    streams = f"streams:\n  cam: rtcvendor://127.0.0.1:{{port}}/answerer?own\n"
    with Camera() as camera, served(streams.format(port=camera.port)) as server:
        with Viewer(server, "cam"):
            # Beside what the service brings the plugin pushes a track itself.
            holds(server, camera, "cam", "answerer", "opus", own={0: "pcm_mulaw"})
            assert camera.said("candidate"), camera.lines
            assert probed(server, "cam?video&audio=pcmu")["pcm_mulaw"] > 50
        # Nobody watches any more: the source ends, and with it the connection.
        wait(lambda: camera.said("state", "closed"), 30, "end of the connection", server.process)
        assert vendor(server)["state"] == "running", vendor(server)


@test
def without_the_service_there_is_a_reason():
    with Camera() as camera, served(f"streams:\n  cam: rtcvendor://127.0.0.1:{camera.port}/offerer\n") as server:
        assert server.get("api/plugins/webrtc", "POST", b'{"enabled": false}', {"content-type": "application/json"})[0] == 200
        status, _, body = server.get("api/frame.mp4?src=cam")
        assert status >= 400 and b"webrtc" in body and b"switched off" in body, (status, body)


if __name__ == "__main__":
    main()
