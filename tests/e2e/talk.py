#!/usr/bin/env python3
"""Two-way audio: what players say arrives at cameras.

Needs the fixture beside the server (`cargo build -p patchbay-plugin-fixture`, in PATCHBAY_FIXTURES or target/debug). Each test prints a
line; the last line is `N passed, N failed, N skipped`.
"""
import contextlib
import functools
import http.server
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.parse

from faults import prefix
from run import HERE, Camera, Server, free_port, peer, run, wait
from runner import Skip, main, test


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
        with Talker(port, "cam", codec, packets=250) as talker:
            assert talker.answer == "accepted", talker.answer
            # What is said before the camera plays is not heard.
            report = camera.heard(40)
            heard = bytes.fromhex(report.pop("bytes"))
            assert report["faults"] == [] and report["types"] == [kind] and report["sizes"] == [160], report
            assert report["lead_ms"] <= 200, report
            assert heard in said(250), heard.hex()
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
    done = run("ffmpeg", "-y", "-v", "error", "-f", "lavfi", "-i", "sine=440:r=48000:d=10", "-af", "volume=6", "-ac", "1", tone)
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
    tone_arrives("", "PCMU/8000,PCMA/8000", mime="audio/PCMU")


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


@test
def a_browser_is_heard_by_the_camera_that_takes_the_place_of_another():
    with TalkCamera() as first, TalkCamera("--codecs", "PCMA/8000") as second, Server(f"streams:\n  cam: [\"demo:\", \"{first.url()}\"]\n") as server:
        with chromium(server, "cam"):
            first.heard(20)
            # The host ends the talk: its stream has other sources.
            new = "&".join("src=" + urllib.parse.quote(url, safe="") for url in ("demo:", second.url()))
            status, _, body = server.get(f"api/streams?name=cam&{new}", "PUT")
            assert status == 200, body
            report = second.heard(60)
            assert report["faults"] == [] and 430 <= report["hz"] <= 450, report
            print(f"  {report['packets']} packets, {report['hz']} Hz")


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


def tone(data, *options):
    """The strongest frequency of sound in a file or in bytes."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        done = run(sys.executable, HERE.parent / "peers/tone.py", "--secs", 2, "--", *options, "-i", file.name, limit=60)
    assert done.returncode == 0, (done.stdout, done.stderr.decode())
    return json.loads(done.stdout)["hz"]


# What programs take, as ffmpeg reads it.
SAMPLES = {"": ("s16le", 16_000), "#audio=s16be/48000": ("s16be", 48_000), "#audio=alaw/16000": ("alaw", 16_000),
           "#audio=aac/16000": ("aac", None), "#audio=flac/16000": ("flac", None)}


def raw(form, rate):
    return ("-f", form, *(("-ar", str(rate), "-ac", "1") if rate else ()))


@contextlib.contextmanager
def loudspeakers(isolated, options):
    """Streams with cameras that take what no browser says: AAC over RTSP, and what programs take."""
    with TalkCamera("--codecs", "MPEG4-GENERIC/16000/1", "--bytes") as camera, tempfile.TemporaryDirectory() as folder:
        heard = {f"exec{index}": (pathlib.Path(folder) / str(index), *form) for index, form in enumerate(map(SAMPLES.get, options))}
        streams = {name: f"exec:tee {file}#backchannel=1{option}" for (name, (file, *_)), option in zip(heard.items(), options)}
        plugins = "plugins:\n" + "".join(f"  {name}: {{isolation: process}}\n" for name in isolated) if isolated else ""
        text = "streams:\n" + "".join(f"  {name}: {json.dumps(['demo:', url])}\n" for name, url in {"aac": camera.url(), **streams}.items())
        with Server(text, plugins) as server:
            yield server, camera, heard


def transcoded_for_a_browser(isolated, options):
    with loudspeakers(isolated, options) as (server, camera, heard):
        with chromium(server, "aac") as found:
            report = camera.heard(60)
            assert found == [{"direction": "sendonly", "codec": "audio/opus"}], found
            shown = server.json("api/streams")["aac"]["producers"]
            sender = shown[1]["senders"][0]
            assert (sender["codec"]["codec_name"], sender["codec"]["sample_rate"]) == ("aac", 16_000), shown
            # The demo's own transcoder for the browser may be there; the one for the talk is not shown.
            assert not [one for one in shown if "talk:" in one["url"]], shown
        hz = tone(bytes.fromhex(report["bytes"]), "-f", "aac")
        assert report["faults"] == [] and 430 <= hz <= 450 and report["lead_ms"] <= 300, (hz, {**report, "bytes": ""})
        print(f"  AAC over RTSP: {report['packets']} packets, {hz} Hz, at most {report['lead_ms']} ms ahead", flush=True)
        wait(lambda: "senders" not in server.json("api/streams")["aac"]["producers"][1], 30, "the camera is free again")
        for name, (file, form, rate) in heard.items():
            least = 3 * {"aac": 2000, "flac": 32_000}.get(form, (rate or 0) * (2 if form.startswith("s16") else 1))
            with chromium(server, name) as found:
                assert found[0]["direction"] == "sendonly", found
                wait(lambda: file.exists() and file.stat().st_size >= least, 30, f"3 s of {form}")
            hz = tone(file.read_bytes()[-(least // 3 * 2):] if rate else file.read_bytes(), *raw(form, rate))
            assert 430 <= hz <= 450, (name, form, hz)
            print(f"  {form} {rate or ''} to a program, from {found[0]['codec']}: {hz} Hz", flush=True)


@test
def what_no_browser_says_is_made_of_what_it_says():
    transcoded_for_a_browser([], SAMPLES)


@test
def the_same_with_isolated_plugins():
    transcoded_for_a_browser(["rtsp", "exec", "transcode", "webrtc"], [""])


@test
def gstreamers_player_speaks_to_an_aac_camera():
    with TalkCamera("--codecs", "MPEG4-GENERIC/16000/1", "--bytes") as camera, Server(f"streams:\n  cam: [\"{camera.url()}\", \"demo:\"]\n") as server:
        done = gstreamer_speaks(f"rtsp://127.0.0.1:{server.rtsp}/cam")
        report = camera.report()
        assert report["packets"] >= 50 and report["faults"] == [], ({**report, "bytes": ""}, done.stdout.decode())
        hz = tone(bytes.fromhex(report["bytes"]), "-f", "aac")
        assert 430 <= hz <= 450, hz
        print(f"  {report['packets']} packets, {hz} Hz, at most {report['lead_ms']} ms ahead", flush=True)


class Files(http.server.SimpleHTTPRequestHandler):
    """`NAME?chunked` has no length."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        # What is not wanted any more is not read to its end.
        with contextlib.suppress(OSError):
            self.give()

    def give(self):
        name, _, query = self.path.partition("?")
        if query != "chunked":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(name))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        data = pathlib.Path(self.translate_path(name)).read_bytes()
        for at in range(0, len(data), 5000):
            piece = data[at:at + 5000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")


@contextlib.contextmanager
def recordings(seconds=2):
    """A tone of 440 Hz in files of several formats, and where they are served."""
    with tempfile.TemporaryDirectory() as folder:
        for name, options in (("tone.mp3", ("-b:a", "64k")), ("tone.wav", ()), ("tone.aac", ()), ("tone.mp4", ("-c:a", "aac"))):
            picture = ("-f", "lavfi", "-i", f"testsrc=d={seconds}:s=320x240:r=10", "-pix_fmt", "yuv420p") if name.endswith("mp4") else ()
            done = run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"sine=440:r=44100:d={seconds}", *picture, "-af", "volume=6", *options,
                       pathlib.Path(folder) / name)
            assert done.returncode == 0, done.stderr.decode()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield pathlib.Path(folder), f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()


def play(server, dst, src):
    status, _, body = server.get(f"api/streams?dst={dst}&src={urllib.parse.quote(src, safe='')}", "POST")
    return status, body.decode()


def playing(server, name):
    """What is played to the camera of a stream, as Home Assistant's media player looks for it."""
    return [one["url"] for one in server.json("api/streams")[name]["producers"] if "type" in one]


def played(isolated, names):
    peer("ffmpeg", "ffmpeg")
    plugins = "plugins:\n" + "".join(f"  {name}: {{isolation: process}}\n" for name in isolated) if isolated else ""
    with recordings() as (folder, web), TalkCamera("--codecs", "PCMA/8000", "--bytes") as camera, Server(f"streams:\n  cam: {camera.url()}\n", plugins) as server:
        for name in names:
            source = name.format(web=web, folder=folder)
            before = camera.report()["packets"]
            status, body = play(server, "cam", source)
            assert status == 200, (source, status, body)
            assert [one for one in json.loads(body)["producers"] if "type" in one], body
            wait(lambda: not playing(server, "cam"), 30, f"the end of {source}")
            # Its 2 s, silence behind the last word, and what is at the edges of packets.
            report = camera.report()
            packets = report["packets"] - before
            assert 80 <= packets <= 120 and report["faults"] == [] and report["lead_ms"] <= 200, (source, packets, {**report, "bytes": ""})
            heard = bytes.fromhex(report["bytes"])
            hz = tone(heard[160 * (before + 20):160 * (before + 75)], *raw("alaw", 8000))
            assert 430 <= hz <= 450, (source, hz)
            print(f"  {source.removeprefix(web)}: {packets} packets, {hz} Hz", flush=True)


@test
def files_are_played_to_a_camera():
    played([], ["{web}/tone.mp3", "{web}/tone.mp3?chunked", "ffmpeg:{web}/tone.wav#audio=pcma#input=file", "ffmpeg:{folder}/tone.aac#audio=auto#input=file",
                "{web}/tone.mp4"])


@test
def files_are_played_to_a_camera_by_isolated_plugins():
    played(["rtsp", "transcode", "http", "file", "mp3", "adts"], ["{web}/tone.mp3", "ffmpeg:{folder}/tone.aac#audio=auto#input=file"])


@test
def what_is_played_gives_way_is_stopped_and_told():
    # A camera that does not say how its AAC is configured.
    with recordings(60) as (folder, web), TalkCamera("--codecs", "MPEG4-GENERIC/16000/1", "--no-config", "--bytes") as camera, \
            Server(f"streams:\n  cam: {camera.url()}\n  mute: \"demo:\"\n") as server:
        for name in ("mp3", "wav"):
            assert play(server, "cam", f"{web}/tone.{name}")[0] == 200
            assert playing(server, "cam") == [f"{web}/tone.{name}"]
        camera.heard(40)
        # A browser has to wait; what is played is not stopped by it.
        with chromium(server, "cam") as found:
            assert found[0]["direction"] == "inactive" and found[0]["title"].startswith("talk: somebody else"), found
        assert playing(server, "cam") == [f"{web}/tone.wav"]
        status, body = play(server, "cam", "")
        assert status == 200 and playing(server, "cam") == [], (status, body)
        report = camera.report()
        assert report["faults"] == [] and 430 <= tone(bytes.fromhex(report["bytes"]), "-f", "aac") <= 450, {**report, "bytes": ""}
        for dst, src, status, text in (("cam", f"{web}/none.mp3", 500, "404"), ("mute", f"{web}/tone.wav", 500, "can't find consumer"),
                                       ("cam", "exec:cat /dev/zero", 400, "insecure"), ("cam", f"file:{folder}/tone.wav", 400, "insecure"),
                                       ("cam", "nothing:x", 400, "not supported"), ("none", f"{web}/tone.wav", 404, "")):
            answer = play(server, dst, src)
            assert answer[0] == status and text in answer[1], (dst, src, answer)
        assert server.get(f"api/ffmpeg?dst=cam&file={web}/tone.mp3", "POST")[0] == 200
        assert playing(server, "cam") == [f"{web}/tone.mp3"]
        # From a page of another site.
        assert server.get(f"api/streams?dst=cam&src=", "POST", headers={"Origin": "http://elsewhere.example"})[0] == 403


def streams_are_played(isolated):
    plugins = "plugins:\n" + "".join(f"  {name}: {{isolation: process}}\n" for name in isolated) if isolated else ""
    with TalkCamera("--codecs", "PCMA/8000", "--bytes") as camera:
        streams = {"cam": camera.url(), "yard": "demo:", "phone": "transcode:yard#audio=pcmu"}
        with Server("streams:\n" + "".join(f"  {name}: \"{url}\"\n" for name, url in streams.items()), plugins) as server:
            for source in ("yard", "ffmpeg:yard#audio=pcma", "phone"):
                before = camera.report()["packets"]
                status, body = play(server, "cam", source)
                assert status == 200 and playing(server, "cam") == [source], (source, status, body)
                assert playing(server, "yard") == [], server.json("api/streams")["yard"]
                report = camera.heard(before + 100)
                assert report["faults"] == [] and report["lead_ms"] <= 200, {**report, "bytes": ""}
                heard = bytes.fromhex(report["bytes"])
                hz = tone(heard[160 * (before + 20):160 * (before + 95)], *raw("alaw", 8000))
                assert 430 <= hz <= 450, (source, hz)
                assert play(server, "cam", "")[0] == 200 and playing(server, "cam") == []
                print(f"  {source}: {hz} Hz, at most {report['lead_ms']} ms ahead", flush=True)
            for source in ("nowhere", "ffmpeg:nowhere#audio=pcma"):
                status, body = play(server, "cam", source)
                assert status == 400 and "not supported" in body, (source, status, body)


@test
def a_streams_sound_is_played_to_a_camera():
    streams_are_played([])


@test
def a_streams_sound_is_played_by_isolated_plugins():
    streams_are_played(["rtsp", "transcode", "demo"])


def loud(data):
    """How much of sound of 8 kHz in A-law is no silence, in packets."""
    packets = [data[at:at + 160] for at in range(0, len(data), 160)]
    return sum(any((byte ^ 0x55) & 0x7f > 0x20 for byte in packet) for packet in packets)


@test
def a_text_is_spoken_to_a_camera():
    peer("ffmpeg", "ffmpeg")
    if b" flite " not in run("ffmpeg", "-hide_banner", "-filters").stdout:
        raise Skip("ffmpeg has no filter flite")
    text = "One at 10:30, two [or so]; three."
    done = run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "flite=text='" + text.replace(":", "\\:") + "':voice=slt", "-ar", "8000", "-f", "alaw", "-")
    assert len(done.stdout) > 16_000, (len(done.stdout), done.stderr)
    with tempfile.TemporaryDirectory() as folder, TalkCamera("--codecs", "PCMA/8000", "--bytes") as camera:
        # An ffmpeg that has no such filter when it is to speak in this voice.
        program = pathlib.Path(folder) / "speaker"
        program.write_text("#!/bin/sh\ncase \"$*\" in *voice=none*) echo \"No such filter: 'flite'\" >&2; exit 1;; esac\nexec ffmpeg \"$@\"\n")
        program.chmod(0o755)
        streams = f"streams:\n  cam: \"{camera.url()}\"\n"
        say = lambda server, **query: server.get("api/ffmpeg?" + urllib.parse.urlencode({"dst": "cam", **query}), "POST")[::2]
        with Server(streams, f"ffmpeg:\n  bin: {program}\n") as server:
            assert say(server, text=text, voice="slt") == (200, b"")
            assert playing(server, "cam") == [f"ffmpeg:tts?text={text}&voice=slt"]
            wait(lambda: not playing(server, "cam"), 30, "the end of the text")
            report = camera.report()
            heard = bytes.fromhex(report["bytes"])
            assert report["faults"] == [] and report["lead_ms"] <= 200, {**report, "bytes": ""}
            # What ffmpeg makes of it by itself is heard, with what is at the edges of packets.
            assert abs(len(heard) - len(done.stdout)) <= 4000, (len(heard), len(done.stdout))
            assert abs(loud(heard) - loud(done.stdout)) <= 10 and loud(heard) > 50, (loud(heard), loud(done.stdout))
            for query, status, words in (({"text": text, "voice": "none"}, 500, "has no filter flite"), ({"text": "a", "voice": "nobody"}, 500, "no such voice"),
                                         ({"text": "50%"}, 400, "none of"), ({"text": "a", "voice": "a:b"}, 400, "voice"), ({"text": " "}, 400, "")):
                answer = say(server, **query)
                assert answer[0] == status and words in answer[1].decode() and answer[1].count(b"\n") == 1, (query, answer)
            assert play(server, "cam", "ffmpeg:tts?text=two%20words&voice=slt#audio=auto")[0] == 200
            assert playing(server, "cam") == ["ffmpeg:tts?text=two words&voice=slt"]
        with Server(streams, "ffmpeg:\n  bin: no-such-ffmpeg\n") as server:
            status, words = say(server, text="a")
            assert status == 500 and b"cannot run no-such-ffmpeg" in words, (status, words)
        print(f"  {len(heard) // 160} packets, {loud(heard)} of them loud; ffmpeg by itself {len(done.stdout) // 160} and {loud(done.stdout)}")


if __name__ == "__main__":
    main()
