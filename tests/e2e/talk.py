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

from faults import prefix
from run import HERE, Camera, Server, free_port, peer, run, wait
from runner import main, test


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
def speaking(streams, isolated=(), shipped=("demo", "mp4", "rtsp")):
    """A server with the fixture's, at which `Talker`s speak."""
    port = free_port()
    settings = f"fixture:\n  listen: \"127.0.0.1:{port}\"\n"
    plugins = "plugins:\n" + "".join(f"  {name}: {{isolation: process}}\n" for name in isolated) if isolated else ""
    text = "streams:\n" + "".join(f"  {name}: \"{url}\"\n" for name, url in streams.items())
    with prefix("fixture", shipped=shipped) as binary, Server(text, settings + plugins, binary) as server:
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
            # What is said before the plugin reads is not heard.
            got = sound.read(len(said(40)))
            assert got in said(60), got.hex()
            shown = producer(server, "cam")
            assert "audio, sendonly, PCMA/8000/1" in shown["medias"], shown
            assert shown["senders"][0]["packets"] >= 13, shown
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


@test
def a_program_hears_on_its_standard_input():
    with tempfile.TemporaryDirectory() as folder:
        heard = pathlib.Path(folder) / "heard"
        command = f"exec:tee {heard}#backchannel=1#audio=alaw/8000"
        with speaking({"cam": command}, shipped=("demo", "mp4", "rtsp", "exec")) as (server, port):
            assert not heard.exists()
            with Talker(port, "cam") as talker:
                assert talker.answer == "accepted", talker.answer
                wait(lambda: heard.exists() and heard.stat().st_size >= 40 * 160, 30, "40 packets")
                assert "audio, sendonly, PCMA/8000/1" in producer(server, "cam")["medias"], producer(server, "cam")
            with Talker(port, "cam", "opus") as talker:
                assert talker.answer.startswith("Unsupported"), talker.answer
        assert heard.read_bytes() in said(60), heard.read_bytes().hex()


def arrives(options, codecs="PCMU/8000,PCMA/8000", codec="pcm_alaw", kind=8, isolated=()):
    with TalkCamera("--codecs", codecs, "--bytes") as camera, speaking({"cam": camera.url(options)}, isolated) as (server, port):
        with Talker(port, "cam", codec) as talker:
            assert talker.answer == "accepted", talker.answer
            # What is said before the camera plays is not heard.
            report = camera.heard(40)
            heard = bytes.fromhex(report.pop("bytes"))
            assert report["faults"] == [] and report["types"] == [kind] and report["sizes"] == [160], report
            assert report["lead_ms"] <= 200, report
            assert heard in said(60), heard.hex()
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


@contextlib.contextmanager
def chromium(server, name, **ask):
    """Chromium speaks with a tone of 440 Hz; what it says of each of its connections."""
    peer("chromium", "chromium")
    tone = server.path / "tone.wav"
    done = run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=440:r=48000:d=10", "-af", "volume=6", "-ac", "1", tone)
    assert done.returncode == 0, done.stderr
    ask = {"base": server.url(""), "name": name, "tone": str(tone), **ask}
    browser = subprocess.Popen(["node", HERE / "talk.mjs", json.dumps(ask)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        line = browser.stdout.readline()
        assert line, "Chromium did not connect"
        yield json.loads(line)
    finally:
        browser.stdin.close()
        browser.stdout.close()
        browser.wait(30)


def tone_arrives(options, codecs, both=False, mime="audio/PCMA", direction="sendonly"):
    with TalkCamera("--codecs", codecs) as camera:
        # The picture is the test pattern's, the loudspeaker the camera's.
        sources = ["demo:", camera.url(options)]
        sources = sources[::-1] if both else sources
        with Server(f"streams:\n  cam: {json.dumps(sources)}\n") as server, chromium(server, "cam", both=both) as found:
            report = camera.heard(150)
            assert report["faults"] == [] and report["sizes"] == [160], report
            assert 430 <= report["hz"] <= 450, report
            assert report["lead_ms"] <= 200, report
            assert found == [{"direction": direction, "codec": mime}], found
            consumer = [one for one in server.json("api/streams")["cam"]["consumers"] if "receivers" in one][0]
            assert consumer["receivers"][0]["packets"] > 50 and consumer["senders"], consumer
        print(f"  {options or 'no options'} {mime}: {report['hz']} Hz, at most {report['lead_ms']} ms ahead", flush=True)


@test
def chromiums_microphone_arrives_at_an_rtsp_camera_over_tcp():
    tone_arrives("", "PCMU/8000,PCMA/8000")


@test
def chromiums_microphone_arrives_at_an_rtsp_camera_over_udp():
    tone_arrives("#transport=udp#backchannel=1", "PCMA/8000")


@test
def a_section_for_both_ways_speaks_as_it_hears():
    tone_arrives("", "PCMU/8000,PCMA/8000", both=True, mime="audio/PCMA", direction="sendrecv")


@test
def opus_is_passed_on_while_the_page_hears_another_codec():
    with TalkCamera("--codecs", "opus/48000/2") as camera, Server(f"streams:\n  cam: [\"{camera.url()}\", \"demo:\"]\n") as server:
        with chromium(server, "cam") as found:
            report = camera.heard(100)
            assert report["types"] == [97] and report["faults"] == [], report
            assert found == [{"direction": "sendonly", "codec": "audio/opus"}], found
            shown = server.json("api/streams")["cam"]
            assert shown["producers"][0]["senders"][0]["codec"]["codec_name"] == "opus", shown
            senders = [sender["codec"]["codec_name"] for one in shown["consumers"] for sender in one["senders"]]
            assert sorted(senders) == ["h264", "pcm_alaw"], senders


@test
def gstreamers_camera_hears_chromium():
    camera = Camera("--backchannel")
    try:
        with Server(f"streams:\n  cam: \"rtsp://127.0.0.1:{camera.port}/cam\"\n") as server, chromium(server, "cam") as found:
            assert found == [{"direction": "sendonly", "codec": "audio/PCMU"}], found
            wait(lambda: "TALK 50 8000" in camera.text(), 30, "50 packets at the camera")
    finally:
        camera.stop()


def gstreamer_speaks(url, seconds=6):
    if not pathlib.Path("/usr/bin/python3").exists():
        raise Skip("/usr/bin/python3 is missing: apt-get install python3-gi gstreamer1.0-plugins-good")
    return run("/usr/bin/python3", HERE.parent / "peers/gsttalk.py", url, seconds, limit=60)


@test
def gstreamers_player_speaks_to_an_rtsp_camera():
    for options in ("", "#transport=udp#backchannel=1"):
        with TalkCamera() as camera, Server(f"streams:\n  cam: [\"{camera.url(options)}\", \"demo:\"]\n") as server:
            done = gstreamer_speaks(f"rtsp://127.0.0.1:{server.rtsp}/cam")
            report = camera.report()
            assert report["packets"] >= 100 and report["faults"] == [] and 430 <= report["hz"] <= 450, (report, done.stdout.decode())
            assert b"RECEIVED 0" not in done.stdout, done.stdout
        print(f"  {options or 'no options'}: {report['packets']} packets, {report['hz']} Hz, at most {report['lead_ms']} ms ahead", flush=True)


@test
def an_rtsp_player_is_told_that_somebody_speaks():
    with TalkCamera() as camera, speaking({"cam": camera.url()}) as (server, port), Talker(port, "cam", "pcm_mulaw") as talker:
        assert talker.answer == "accepted", talker.answer
        camera.heard(10)
        with socket.create_connection(("127.0.0.1", server.rtsp), timeout=20) as player:
            answers = player.makefile("rb")

            def ask(method, url, *headers):
                lines = [f"{method} {url} RTSP/1.0", "CSeq: 1", *headers]
                player.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
                status, length = int(answers.readline().split()[1]), 0
                while line := answers.readline().strip():
                    length = int(line.split(b":")[1]) if line.lower().startswith(b"content-length") else length
                return status, answers.read(length)

            url = f"rtsp://127.0.0.1:{server.rtsp}/cam"
            status, text = ask("DESCRIBE", url, "Require: www.onvif.org/ver20/backchannel")
            assert status == 200 and b"a=sendonly" in text and b"PCMU/8000" in text, (status, text)
            assert ask("SETUP", f"{url}/trackID=1", "Transport: RTP/AVP/TCP;unicast;interleaved=2-3")[0] == 453


@test
def the_second_page_is_told_that_somebody_speaks():
    with TalkCamera() as camera, Server(f"streams:\n  cam: [\"demo:\", \"{camera.url()}\"]\n") as server:
        with chromium(server, "cam", pages=2) as found:
            assert found[0]["direction"] == "sendonly" and "title" not in found[0], found
            assert found[1]["direction"] == "inactive" and found[1]["title"].startswith("talk: somebody else"), found
            camera.heard(20)
        wait(lambda: len(server.json("api/streams")["cam"]["producers"]) == 2 and "senders" not in server.json("api/streams")["cam"]["producers"][1],
             30, "the camera is free again")


if __name__ == "__main__":
    main()
