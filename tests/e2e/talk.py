#!/usr/bin/env python3
"""Two-way audio: what players say arrives at cameras.

Needs the fixture beside the server (`cargo build -p patchbay-plugin-fixture`, in PATCHBAY_FIXTURES or target/debug). Each test prints a
line; the last line is `N passed, N failed, N skipped`.
"""
import contextlib
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import traceback

from faults import prefix
from run import HERE, Server, Skip, free_port, wait

TESTS = []


def test(function):
    TESTS.append(function)
    return function


class TalkCamera:
    """tests/peers/talkcamera.py."""

    def __init__(self, *options):
        self.folder = tempfile.TemporaryDirectory()
        self.file = pathlib.Path(self.folder.name) / "report"
        command = [sys.executable, HERE.parent / "peers/talkcamera.py", "--report", self.file, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.port = int(self.process.stdout.readline().split()[1])

    def url(self, options=""):
        return f"rtsp://127.0.0.1:{self.port}/cam{options}"

    def report(self):
        return json.loads(self.file.read_text())

    def heard(self, packets, limit=30):
        wait(lambda: self.report()["packets"] >= packets, limit, f"{packets} packets")
        return self.report()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()


class Talker:
    """A client of the fixture's server, which speaks."""

    def __init__(self, port, stream, codec="pcm_alaw", packets=60):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.connection.sendall(f"talk {stream} {codec} {packets}\n".encode())
        self.answer = self.connection.makefile().readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


def said(packets):
    """What a `Talker` says."""
    return b"".join(bytes([number]) * 160 for number in range(packets))


@contextlib.contextmanager
def speaking(streams, isolated=()):
    """A server with the fixture's, at which `Talker`s speak."""
    port = free_port()
    settings = f"fixture:\n  listen: \"127.0.0.1:{port}\"\n"
    plugins = "plugins:\n" + "".join(f"  {name}: {{isolation: process}}\n" for name in isolated) if isolated else ""
    text = "streams:\n" + "".join(f"  {name}: \"{url}\"\n" for name, url in streams.items())
    with prefix("fixture", shipped=("demo", "mp4", "rtsp")) as binary, Server(text, settings + plugins, binary) as server:
        server.wait_log("[fixture] listen")
        yield server, port


def producer(server, name):
    return server.json("api/streams")[name]["producers"][0]


def echo(server, port):
    """The camera of the fixture says what it hears."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as listener:
        listener.sendall(b"listen cam\n")
        sound = listener.makefile("rb")
        assert sound.readline() == b"accepts pcm_alaw\n"
        with Talker(port, "cam") as talker:
            assert talker.answer == "accepted", talker.answer
            got = sound.read(len(said(60)) - 320)
            assert got in said(60), got.hex()
            shown = producer(server, "cam")
            assert "audio, sendonly, PCMA/8000/1" in shown["medias"], shown
            assert shown["senders"][0]["packets"] >= 19, shown
            consumer = [one for one in server.json("api/streams")["cam"]["consumers"] if "receivers" in one][0]
            assert consumer["medias"] == ["audio, recvonly, PCMA/8000/1"], consumer
            with Talker(port, "cam") as second:
                assert second.answer.startswith("Busy talk: somebody else is speaking"), second.answer
        wait(lambda: "senders" not in producer(server, "cam"), 10, "the camera is free again")
        with Talker(port, "cam", packets=3) as third:
            assert third.answer == "accepted", third.answer
        with Talker(port, "cam", "opus") as other:
            assert other.answer == "Unsupported talk: codecs not matched: the camera takes PCMA/8000, not OPUS/48000", other.answer


@test
def a_plugin_in_this_process_hears():
    with speaking({"cam": "fixture:talk"}) as (server, port):
        echo(server, port)


@test
def a_plugin_in_a_process_of_its_own_hears():
    with speaking({"cam": "fixture:talk"}, ["fixture"]) as (server, port):
        echo(server, port)


def arrives(options, codecs="PCMU/8000,PCMA/8000", codec="pcm_alaw", kind=8, isolated=()):
    with TalkCamera("--codecs", codecs, "--bytes") as camera, speaking({"cam": camera.url(options)}, isolated) as (server, port):
        with Talker(port, "cam", codec) as talker:
            assert talker.answer == "accepted", talker.answer
            # What is said before the camera plays is not heard.
            report = camera.heard(40)
            assert report["faults"] == [] and report["types"] == [kind] and report["sizes"] == [160], report
            assert report["lead_ms"] <= 200, report
            assert bytes.fromhex(report["bytes"]) in said(60), report["bytes"]
            assert producer(server, "cam")["senders"], producer(server, "cam")
        print(f"  {options or 'no options'}: {report['packets']} packets, at most {report['lead_ms']} ms ahead", flush=True)


@test
def an_rtsp_camera_hears_over_tcp():
    arrives("")


@test
def an_rtsp_camera_hears_over_udp():
    arrives("#transport=udp#backchannel=1")


@test
def an_rtsp_camera_hears_by_its_first_codec_and_an_isolated_plugin():
    arrives("#backchannel=1", codec="pcm_mulaw", kind=0, isolated=["rtsp"])


@test
def a_camera_that_plays_is_set_up_anew_when_somebody_speaks():
    with TalkCamera() as camera, speaking({"cam": camera.url()}) as (server, port):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as listener:
            listener.sendall(b"listen cam\n")
            sound = listener.makefile("rb")
            assert sound.readline() == b"accepts pcm_mulaw\n"
            sound.read(1600)
            assert camera.report()["setups"] == 0, camera.report()
            with Talker(port, "cam", "pcm_mulaw") as talker:
                assert talker.answer == "accepted", talker.answer
                report = camera.heard(20)
            assert (report["setups"], report["sessions"], report["faults"]) == (1, 2, []), report
            # The listener is still there.
            sound.read(16_000)


@test
def cameras_that_refuse_are_played_without():
    for refuse, asked in (("describe", 1), ("setup", 1)):
        with TalkCamera("--refuse", refuse) as camera, speaking({"cam": camera.url("#backchannel=1")}) as (server, port):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as listener:
                listener.sendall(b"listen cam\n")
                sound = listener.makefile("rb")
                sound.readline()
                sound.read(8000)
            with Talker(port, "cam", "pcm_mulaw") as talker:
                assert talker.answer.startswith("Unsupported talk: no source of cam takes sound"), talker.answer
            assert camera.report()["asked"] == asked, (refuse, camera.report())
    with TalkCamera() as camera, speaking({"cam": camera.url("#backchannel=0")}) as (server, port):
        with Talker(port, "cam", "pcm_mulaw") as talker:
            assert talker.answer.startswith("Unsupported"), talker.answer
        assert camera.report()["asked"] == 0, camera.report()


def main():
    names = sys.argv[1:]
    passed, failed, skipped = 0, 0, 0
    for function in TESTS:
        if names and function.__name__ not in names:
            continue
        try:
            function()
            passed += 1
            print(f"ok {function.__name__}", flush=True)
        except Skip as reason:
            skipped += 1
            print(f"skipped {function.__name__}: {reason}", flush=True)
        except Exception:
            failed += 1
            traceback.print_exc()
            print(f"FAILED {function.__name__}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
