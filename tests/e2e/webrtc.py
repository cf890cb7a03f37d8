#!/usr/bin/env python3
"""Browsers and other WebRTC peers watch streams, publish them and are dialled, over UDP and over TCP alone.

Chromium, aiortc and FFmpeg's WHIP (PyPI `av`; both in a virtual environment of their own under the target folder), GStreamer's
webrtcbin. Times are printed, not judged. `webrtc.py [name ...]` runs the named tests alone.
"""
import atexit
import concurrent.futures
import contextlib
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from run import HERE, ROOT, Server, Skip, free_port, metrics, peer, run, wait
from runner import main, test

PEERS = HERE.parent / "peers"
VENV = pathlib.Path(os.environ.get("PATCHBAY_VENV", ROOT / "target/venv"))

# A short offer of Chromium; nobody answers checks to it.
OFFER = "\r\n".join([
    "v=0", "o=- 4611731400430051336 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1", "a=msid-semantic: WMS",
    "m=video 9 UDP/TLS/RTP/SAVPF 96 102 108", "c=IN IP4 0.0.0.0", "a=rtcp:9 IN IP4 0.0.0.0", "a=ice-ufrag:EsAw", "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1",
    "a=ice-options:trickle", "a=fingerprint:sha-256 D2:B9:31:8F:DF:24:D8:0E:ED:D2:EF:25:9E:AF:6F:B8:34:AE:53:9C:E6:F3:8F:F2:64:15:FA:E8:7F:53:2D:38",
    "a=setup:actpass", "a=mid:0", "a=recvonly", "a=rtcp-mux", "a=rtpmap:96 VP8/90000", "a=rtpmap:102 H264/90000",
    "a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f", "a=rtpmap:108 H264/90000", "a=rtcp-fb:108 nack pli",
    "a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8", "c=IN IP4 0.0.0.0", "a=rtcp:9 IN IP4 0.0.0.0", "a=ice-ufrag:EsAw", "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1",
    "a=fingerprint:sha-256 D2:B9:31:8F:DF:24:D8:0E:ED:D2:EF:25:9E:AF:6F:B8:34:AE:53:9C:E6:F3:8F:F2:64:15:FA:E8:7F:53:2D:38",
    "a=setup:actpass", "a=mid:1", "a=recvonly", "a=rtcp-mux", "a=rtpmap:111 opus/48000/2", "a=fmtp:111 minptime=10;useinbandfec=1", ""])


def served(streams):
    """A server whose WebRTC port is free, on the machine's own addresses."""
    port = free_port()
    return Server(streams=streams, extra=f"webrtc:\n  listen: \":{port}\"\n  ice_servers: []\nlog:\n  webrtc: debug\n")


class Camera:
    """ffmpeg publishes a picture and a tone to a stream over RTSP."""

    def __init__(self, server, name, audio=("libopus", "-ar", "48000"), group=2, tone=440):
        self.server, self.name = server, name
        peer("ffmpeg", "ffmpeg")
        codec, *options = audio
        self.process = subprocess.Popen(
            ["ffmpeg", "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=s=640x360:r=25", "-f", "lavfi", "-i", f"sine={tone}:r=48000",
             "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-bf", "0", "-g", str(25 * group), "-pix_fmt", "yuv420p",
             "-b:v", "1M", "-c:a", codec, *options, "-f", "rtsp", "-rtsp_transport", "tcp", f"rtsp://127.0.0.1:{server.rtsp}/{name}"],
            stdin=subprocess.DEVNULL)

    def __enter__(self):
        wait(lambda: self.server.json(f"api/streams?src={self.name}")["producers"], 15, f"publisher of {self.name}")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Browser:
    """One Chromium for all tests. What it is asked for goes on at the same time, each in a profile of its own."""

    def __init__(self):
        peer("chromium", "chromium")
        self.process = subprocess.Popen(["node", HERE / "webrtc.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.asked = {}
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            answer = json.loads(line)
            asked = self.asked.pop(answer["id"])
            if "error" in answer:
                asked.set_exception(AssertionError(answer["error"]))
            else:
                asked.set_result(answer["seen"])
        for asked in self.asked.values():
            asked.set_exception(AssertionError("the browser has ended"))

    def tell(self, **line):
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


BROWSERS = []


def close_browsers():
    while BROWSERS:
        BROWSERS.pop().close()


atexit.register(close_browsers)


class Page:
    """Something that Chromium does."""

    LAST = 0

    def __init__(self, server, **ask):
        if BROWSERS and BROWSERS[0].process.poll() is not None:
            close_browsers()
        if not BROWSERS:
            BROWSERS.append(Browser())
        self.browser = BROWSERS[0]
        Page.LAST += 1
        self.id = Page.LAST
        self.answer = self.browser.asked[self.id] = concurrent.futures.Future()
        self.browser.tell(id=self.id, base=server.url(""), **ask)

    def seen(self, limit=90):
        try:
            return self.answer.result(limit)
        except concurrent.futures.TimeoutError:
            # The next test gets another one.
            close_browsers()
            raise AssertionError(f"no answer of the browser within {limit} s") from None

    def poll(self):
        """As that of a process, for `wait`: whether it has failed."""
        return 1 if self.answer.done() else None

    returncode = "what it saw or why not"

    def stop(self):
        self.browser.tell(stop=self.id)
        return self.seen()


def chromium(server, limit=90, **ask):
    return Page(server, **ask).seen(limit)


HOMES = contextlib.ExitStack()
HOME = []


@contextlib.contextmanager
def home():
    """A server with a camera (`cam`: H.264 with a key picture every 2 s, 440 Hz as Opus), and a place to publish to (`own`). Tests share it until one fails."""
    if not HOME:
        server = HOMES.enter_context(served("streams:\n  cam:\n  own:\n"))
        HOMES.enter_context(Camera(server, "cam"))
        HOME.append(server)
    try:
        yield HOME[0]
    except BaseException:
        print("  log: " + "\n  log: ".join(HOME.pop().text().splitlines()[-30:]))
        HOMES.close()
        raise


atexit.register(HOMES.close)


def at_once(task, *lists):
    """`task` with each of the arguments, all at the same time; what they gave back, in order."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(task, *lists))


def frames_over_rtsp(server, name, seconds, limit=40):
    """Frames of each codec that ffprobe reads of a stream."""
    done = run("ffprobe", "-v", "error", "-rtsp_transport", "tcp", "-count_frames", "-read_intervals", f"%+{seconds}", "-show_entries", "stream=codec_name,nb_read_frames",
               "-of", "json", f"rtsp://127.0.0.1:{server.rtsp}/{name}", limit=limit)
    streams = json.loads(done.stdout).get("streams", [])
    assert streams, (name, done.stderr.decode())
    return {stream["codec_name"]: int(stream["nb_read_frames"]) for stream in streams}


def python():
    """A Python with aiortc and av."""
    binary = VENV / "bin/python"
    VENV.parent.mkdir(parents=True, exist_ok=True)
    # Tests that run at the same time make it once.
    with open(VENV.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return made(binary)


def made(binary):
    if not binary.exists():
        done = run(sys.executable, "-m", "venv", VENV, limit=120)
        if done.returncode == 0:
            done = run(binary, "-m", "pip", "install", "-q", "aiortc==1.14.0", "aiohttp", "av", "numpy", limit=300)
        if done.returncode != 0:
            shutil.rmtree(VENV, ignore_errors=True)
            raise Skip("aiortc cannot be installed from PyPI")
    return binary


def aiortc(server, name, *options):
    """What aiortc sees of a stream: 60 pictures and 2 s of sound."""
    done = run(python(), PEERS / "rtcpeer.py", "whep", server.url(f"api/webrtc?src={name}"), "40", "--frames", "60", *options, limit=90)
    assert done.returncode == 0, done.stderr.decode()
    seen = [json.loads(line) for line in done.stdout.decode().splitlines()]
    return next(line for line in seen if "state" not in line)


def idle(server, name, limit=30):
    """Waits until nobody watches a stream."""
    wait(lambda: not server.json(f"api/streams?src={name}")["consumers"], limit, f"end of all viewers of {name}")


@test
def requests_get_the_right_status():
    pictures = "exec:ffmpeg -v error -re -f lavfi -i testsrc2=s=160x96:r=5 -c:v mjpeg -f mpjpeg -"
    with served(f"streams:\n  demo: \"demo:\"\n  empty:\n  pictures: {pictures}\n") as server:
        post = lambda path, body=OFFER, kind="application/sdp": server.get(path, "POST", body.encode(), {"content-type": kind})  # noqa: E731
        assert post("api/webrtc")[0] == 400
        # An unknown stream is told before whatever else is wrong.
        for body, kind in ((OFFER, "application/sdp"), ("abc", "application/sdp"), ("{", "application/json"), (OFFER.replace("H264", "H269").replace("opus", "opium"), "")):
            for key in ("src", "dst"):
                assert post(f"api/webrtc?{key}=nope", body, kind)[::2] == (404, b"stream not found\n"), (key, body)
        status, _, body = post("api/webrtc?dst=nope", OFFER.replace("recvonly", "sendonly"))
        assert status == 404, (status, body)
        assert post("api/webrtc?src=demo", "{", "application/json")[0] == 400
        assert post("api/webrtc?src=demo", "data=%%%", "application/x-www-form-urlencoded")[0] == 400
        status, _, body = post("api/webrtc?src=demo", "abc")
        assert (status, b"sdp" in body) == (500, True), (status, body)
        # It is there, but has nothing for this player.
        status, _, body = post("api/webrtc?src=pictures")
        assert (status, b"codecs not matched" in body) == (500, True), (status, body)
        assert server.get("api/webrtc", "OPTIONS")[0] == 204
        assert server.get("api/webrtc?src=demo", "PUT", b"")[0] == 405
        status, headers, body = post("api/webrtc?src=demo")
        answer = body.decode()
        assert status == 201 and headers["content-type"] == "application/sdp", (status, body)
        # One format of video, the first in packetization mode 1; the demo's AAC is transcoded.
        assert "m=video 9 UDP/TLS/RTP/SAVPF 108\r\n" in answer and "a=sendonly" in answer, answer
        audio = answer[answer.index("m=audio"):]
        assert "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n" in audio and "a=sendonly" in audio and "a=candidate" not in audio, audio
        kinds = [line.split()[2] for line in answer.splitlines() if line.startswith("a=candidate")]
        assert kinds and kinds == sorted(kinds, reverse=True), kinds
        location = headers["location"]
        assert re.fullmatch(r"webrtc\?id=[A-Za-z0-9]{24}", location), location
        fragment = b"a=ice-ufrag:EsAw\r\na=mid:0\r\na=candidate:1 1 udp 2130706431 192.0.2.9 9 typ host\r\n"
        patch = lambda tag, path=location: server.get("api/" + path, "PATCH", fragment, {"content-type": "application/trickle-ice-sdpfrag", **tag})[0]  # noqa: E731
        assert patch({"if-match": headers["etag"]}) == 204
        assert patch({"if-match": '"other"'}) == 412
        assert patch({}) == 428
        assert patch({"if-match": "*", "content-type": "application/sdp"}) == 415
        # Other credentials start ICE anew: another fragment, another entity tag.
        again = fragment.replace(b"EsAw", b"EsAx").replace(b"a=mid", b"a=ice-pwd:Q2uYro0UCOQ4zxjKXaWCBui1\r\na=mid")
        status, restarted, body = server.get("api/" + location, "PATCH", again, {"content-type": "application/trickle-ice-sdpfrag", "if-match": "*"})
        assert (status, restarted["content-type"]) == (200, "application/trickle-ice-sdpfrag") and restarted["etag"] != headers["etag"], (status, restarted)
        ufrag = lambda text: re.search(r"a=ice-ufrag:(\S+)", text)[1]  # noqa: E731
        assert ufrag(body.decode()) != ufrag(answer) and "a=candidate:" in body.decode() and "a=mid:0\r\n" in body.decode(), body
        assert patch({"if-match": headers["etag"]}) == 412
        headers = {**headers, "etag": restarted["etag"]}
        assert patch({"if-match": "*"}, "webrtc?id=nope") == 404
        viewers = [c for c in server.json("api/streams?src=demo")["consumers"] if c["format_name"] != "transcode"]
        assert len(viewers) == 1, viewers
        assert server.get("api/" + location, "DELETE")[0] == 200
        wait(lambda: server.get("api/" + location, "DELETE")[0] == 404, 5, "end of the session")
        idle(server, "demo")
        assert server.get("api/webrtc", "DELETE")[0] == 400


@test
def chromium_plays_every_form_of_signalling():
    with home() as server:
        for form in ("whep", "json", "form", "ws1", "ws2"):
            seen = chromium(server, what="play", name="cam", form=form, frames=60, tone=440, reports=True)
            assert seen["state"] == "connected" and seen["video"]["frames"] >= 60, seen
            assert seen["width"] == 640 and seen["video"]["lost"] == 0, seen
            assert abs(seen["tone_hz"] - 440) < 12 and seen["pair"] == "udp", seen
            assert seen["reports_video"] > 0 and seen["reports_audio"] > 0, seen
            protocols = re.findall(r"DBG \[webrtc\] connected .*protocol=(\S+)", server.text())
            assert protocols[-1].startswith("ws+" if form.startswith("ws") else "http+"), protocols
            print(f"  {form}: first picture {seen['first_ms']} ms after the page began, {seen['video']['frames']} pictures, {seen['tone_hz']} Hz")
        idle(server, "cam")


def speaking_camera(heard):
    """A picture and a tone from one program, and another that takes what is said."""
    play = ("exec:ffmpeg -nostdin -v error -re -f lavfi -i testsrc2=s=640x360:r=25 -f lavfi -i sine=440:r=48000 -c:v libx264 -preset ultrafast -tune zerolatency -bf 0 -g 250"
            " -pix_fmt yuv420p -b:v 1M -c:a libopus -f rtsp -rtsp_transport tcp {output}")
    return [play, f"exec:tee {heard}#backchannel=1#audio=alaw/8000"]


def sections(answer):
    """Port and direction of each section of a description."""
    return [(media.split()[1], re.search(r"^a=(sendrecv|sendonly|recvonly|inactive)", media, re.M)[1]) for media in re.split(r"^m=", answer, flags=re.M)[1:]]


@test
def a_page_offers_again_on_the_same_connection():
    with tempfile.TemporaryDirectory() as folder:
        heard = pathlib.Path(folder) / "heard"
        with served(f"streams:\n  cam: {json.dumps(speaking_camera(heard))}\n") as server:
            steps = ["play", "nothing", "speak", "restart", "mute", "dark", "light", "speak"]
            seen = chromium(server, what="again", name="cam", key="src", steps=steps, seconds=1)["seen"]
            for step in seen:
                print("  " + json.dumps({key: value for key, value in step.items() if key != "answer"}))
            by = dict(zip(["play", "nothing", "speak", "restart", "mute", "dark", "light", "again"], seen))
            assert all(step["state"] == "connected" for step in seen), seen
            # The picture goes on while the page offers again: nothing is asked for and nothing begins anew. A group of pictures is 10 s long.
            assert sum(step["asked"] for step in seen[1:5]) == 0 and sum(step["keys"] for step in seen[1:5]) <= 1, seen
            for name in ("nothing", "speak", "restart", "mute", "light", "again"):
                assert by[name]["frames"] > 12 and by[name]["sound"] > 25, by[name]
            assert by["speak"]["out"] > 20 and by["again"]["out"] > 20, seen
            assert sections(by["speak"]["answer"]) == [("9", "sendonly"), ("9", "sendonly"), ("9", "recvonly")], by["speak"]["answer"]
            assert sections(by["mute"]["answer"])[2][0] == "0" and sections(by["dark"]["answer"])[0] == ("9", "inactive"), seen
            assert by["dark"]["frames"] < 10 and by["dark"]["sound"] > 25, by["dark"]
            assert by["play"]["ufrag"] == by["speak"]["ufrag"] != by["restart"]["ufrag"] == by["again"]["ufrag"], seen
            # 8000 samples a second from the two times it spoke.
            wait(lambda: heard.exists() and heard.stat().st_size > 8_000, 15, "what was said")
            assert server.text().count("] connected") == 1 and metrics(server)[next(n for n in metrics(server) if "webrtc_sessions" in n)] == 1, server.text()
            idle(server, "cam")


@test
def a_page_takes_and_sends_more_on_the_same_connection():
    with tempfile.TemporaryDirectory() as folder:
        heard = pathlib.Path(folder) / "heard"
        with served(f"streams:\n  cam: {json.dumps(speaking_camera(heard))}\n  own:\n") as server:
            seen = chromium(server, what="again", name="cam", key="src", steps=["picture", "sound"], seconds=1)["seen"]
            assert seen[1]["frames"] > 12 and seen[1]["sound"] > 25, seen
            assert sections(seen[1]["answer"]) == [("9", "sendonly"), ("9", "sendonly")], seen
            sender = Page(server, what="again", name="own", key="dst", steps=["publish sound", "publish picture", "restart"], seconds=[1, 6, 3])
            wait(lambda: any("H264" in media for one in server.json("api/streams?src=own")["producers"] or [] for media in one.get("medias") or []), 40, "the picture", sender)
            streams = frames_over_rtsp(server, "own", 3)
            assert streams["h264"] > 20 and streams["opus"] > 50, streams
            print(f"  published: {streams} of 3 s over RTSP")
            seen = sender.seen()["seen"]
            assert seen[2]["state"] == "connected" and seen[2]["encoded"] > 20 and seen[2]["out"] > 50, seen


@test
def chromium_plays_over_tcp_alone():
    with home() as server:
        for form in ("whep", "ws1"):
            seen = chromium(server, what="play", name="cam", form=form, net="tcp", frames=60)
            assert seen["pair"] == "tcp" and seen["video"]["frames"] >= 60, seen
            print(f"  {form}: first picture after {seen['first_ms']} ms, {seen['video']['frames']} pictures")


def open_port(address, port):
    try:
        socket.create_connection((address, port), 2).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def turn():
    """coturn on the machine's own address, over UDP, TCP and TLS; its logins and what it is asked for go to a log."""
    peer("turnserver", "coturn")
    address = json.loads(run("ip", "-j", "route", "get", "192.0.2.1").stdout)[0]["prefsrc"]
    port, tls, first = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", folder / "key.pem", "-out", folder / "cert.pem",
            "-days", "2", "-subj", "/CN=turn.test")
        (folder / "turn.conf").write_text("\n".join([
            f"listening-ip={address}", f"relay-ip={address}", f"listening-port={port}", f"tls-listening-port={tls}", f"min-port={first}", f"max-port={first + 100}",
            "lt-cred-mech", "user=u:p", "realm=peer.test", "no-cli", "cli-password=x", f"cert={folder}/cert.pem", f"pkey={folder}/key.pem", f"pidfile={folder}/pid",
            f"userdb={folder}/db", "log-file=stdout", "simple-log", "verbose", ""]))
        log = open(folder / "log", "w+")
        process = subprocess.Popen(["turnserver", "-c", folder / "turn.conf"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        urls = {"udp": f"turn:{address}:{port}?transport=udp", "tcp": f"turn:{address}:{port}?transport=tcp", "tls": f"turns:{address}:{tls}?transport=tcp"}
        try:
            for listening in (port, tls):
                wait(lambda: open_port(address, listening), 15, "coturn")  # noqa: B023
            yield urls, lambda: (folder / "log").read_text(errors="replace")
        finally:
            process.terminate()
            process.wait()
            log.close()


def carried(log, allocations):
    """Waits until coturn has told of so many allocations over which a stream went; the bytes between relay and peers of each."""
    def found():
        usage = re.findall(r"peer usage: .*?\brb=(\d+).*?\bsb=(\d+)", log())
        return [sum(map(int, both)) for both in usage if sum(map(int, both)) > 100_000]
    wait(lambda: len(found()) >= allocations, 20, f"{allocations} allocations with a stream")
    return found()


@test
def players_behind_turn():
    with turn() as (urls, log), home() as server:
        # TLS needs a certificate that the browser knows.
        for transport in ("udp", "tcp"):
            ice = [{"urls": urls[transport], "username": "u", "credential": "p"}]
            seen = chromium(server, what="play", name="cam", form="whep", frames=60, ice=ice, policy="relay")
            assert seen["ways"][:2] == ["relay", transport] and seen["video"]["frames"] >= 60, seen
            print(f"  Chromium over {transport}: first picture {seen['first_ms']} ms after the page began, {seen['video']['frames']} pictures")
        ways = ("udp", "tcp")
        for transport, seen in zip(ways, at_once(lambda way: aiortc(server, "cam", "--turn", urls[way], "u", "p"), ways)):
            assert seen["video"]["frames"] >= 60, seen
            print(f"  aiortc over {transport}: {seen['video']['frames']} pictures")
        ways = ("udp", "tcp", "tls") if has_webrtcbin() else ()
        login = lambda way: urls[way].replace("turn:", "turn://u:p@").replace("turns:", "turns://u:p@")  # noqa: E731
        for transport, counts in zip(ways, at_once(lambda way: webrtcbin(server, "60", "all", login(way)), ways)):
            assert counts["video"] >= 60, counts
            print(f"  webrtcbin over {transport}: {counts}")
        # webrtcbin takes no leave: its relay over UDP is not told of in time.
        print(f"  bytes over coturn's relays: {carried(log, 4 + 2 * has_webrtcbin())}")


@test
def a_server_behind_turn():
    # It tells nobody its own addresses and has no UDP port: what reaches it comes from its relay.
    with turn() as (urls, log):
        for form, (transport, url) in zip(("whep", "ws1", "whep"), urls.items()):
            port = free_port()
            login = f"{{urls: [\"{url}\"], username: u, credential: p}}"
            extra = f"webrtc:\n  listen: \":{port}\"\n  ice_servers: [{login}]\n  filters: {{candidates: [], networks: [tcp4]}}\nlog:\n  webrtc: debug\n"
            with Server(streams="streams:\n  cam:\n", extra=extra) as server, Camera(server, "cam"):
                before = log().count("delete")
                seen = chromium(server, what="play", name="cam", form=form, frames=60, tone=440)
                assert seen["ways"][2] == "relay" and seen["video"]["frames"] >= 60 and seen["video"]["lost"] == 0, seen
                assert abs(seen["tone_hz"] - 440) < 12, seen
                print(f"  {form}, relay over {transport}: first picture after {seen['first_ms']} ms, {seen['video']['frames']} pictures")
                assert server.text().count("a relay is allocated") == 1, server.text()
                # Switched off, it gives the allocation back.
                assert server.get("api/plugins/webrtc", "POST", b'{"enabled": false}', {"content-type": "application/json"})[0] == 200
                wait(lambda: log().count("delete") > before, 10, "end of the allocation")
        print(f"  bytes over coturn's relays: {carried(log, 3)}")


@test
def sources_behind_turn():
    # They tell nobody their own addresses and use none: all media comes over the relay.
    with turn() as (urls, log), served("streams:\n  cam:\n") as far, Camera(far, "cam", tone=600):
        source = f"webrtc:{far.url('api/webrtc?src=cam')}#ice_transport_policy=relay"
        streams = "".join(f"  {name}: {json.dumps(source + '#ice_servers=' + json.dumps([{'urls': url, 'username': 'u', 'credential': 'p'}], separators=(',', ':')))}\n" for name, url in urls.items())
        with served("streams:\n" + streams) as near:
            wait(lambda: "[rtsp] listen" in near.text(), 15, "RTSP server")
            for name, found in zip(urls, at_once(lambda name: frames_over_rtsp(near, name, 2), urls)):
                assert found.get("h264", 0) > 30, (name, found)
                print(f"  {name}: {found} in 2 s")
            allocated = log().count("ALLOCATE processed, success")
            assert allocated >= 3, allocated
        print(f"  bytes over coturn's relays: {carried(log, 3)}")


@test
def g711_and_a_long_group_of_pictures():
    with served("streams:\n  cam:\n") as server, Camera(server, "cam", audio=("pcm_alaw", "-ar", "8000", "-ac", "1"), group=60):
        came = lambda: max((one.get("packets", 0) for one in server.json("api/streams?src=cam")["producers"][0].get("receivers") or []), default=0)  # noqa: E731
        wait(lambda: came() > 25, 15, "pictures")
        # The next key picture is a minute away: the player is given what lies before it.
        seen = chromium(server, what="play", name="cam", form="whep", frames=60, tone=440)
        assert "PCMA/8000" in seen["answer"] and abs(seen["tone_hz"] - 440) < 12, seen
        assert seen["video"]["frames"] >= 60, seen
        print(f"  group of 60 s: first picture after {seen['first_ms']} ms, {seen['video']['frames']} pictures, {seen['tone_hz']} Hz")


@test
def samples_become_g711():
    with served("streams:\n  cam:\n") as server, Camera(server, "cam", audio=("pcm_s16be", "-ar", "44100", "-ac", "2"), tone=900):
        seen = chromium(server, what="play", name="cam", form="whep", frames=25, tone=900)
        assert "PCMA/8000" in seen["answer"] and abs(seen["tone_hz"] - 900) < 12, seen
        print(f"  L16 44100 Hz stereo is heard as PCMA: {seen['tone_hz']} Hz")


# Loses 5 % of the packets but no retransmissions, then asks for a key picture.
LOSSY = """
import asyncio, json, random, sys
from aiohttp import ClientSession
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.rtcicetransport import RTCIceTransport
random.seed(7)
start, lost, again, rtx = RTCIceTransport.start, set(), set(), []
async def started(self, remote):
    await start(self, remote)
    receive = self._recv
    async def lossy():
        while True:
            data = await receive()
            key = bytes(data[2:4] + data[8:12])
            if data[0] >= 128 and data[1] & 127 in rtx: again.add(key)
            if not 128 <= data[0] < 192 or 192 <= data[1] < 224 or data[1] & 127 in rtx or random.random() >= 0.05:
                return data
            lost.add(key)
    self._recv = lossy
RTCIceTransport.start = started
async def main():
    pc, seen = RTCPeerConnection(), {"frames": 0, "keys": []}
    @pc.on("track")
    def _(track):
        async def consume():
            while True:
                frame = await track.recv()
                if track.kind == "video":
                    if frame.key_frame: seen["keys"].append(seen["frames"])
                    seen["frames"] += 1
        asyncio.ensure_future(consume())
    pc.addTransceiver("video", direction="recvonly")
    await pc.setLocalDescription(await pc.createOffer())
    async with ClientSession() as s, s.post(sys.argv[1], data=pc.localDescription.sdp, headers={"content-type": "application/sdp"}) as r:
        answer = await r.text()
        rtx.extend(int(line.split(":")[1].split()[0]) for line in answer.splitlines() if line.startswith("a=rtpmap:") and "rtx/" in line)
        await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    for _ in range(400):
        await asyncio.sleep(0.1)
        if seen["frames"] > 100 and len(lost) > 20: break
    out = {"frames_lossy": seen["frames"], "lost": len(lost), "came_again": len(again), "keys_before": len(seen["keys"])}
    receiver = pc.getReceivers()[0]
    for tenths in range(300):
        # A request may come while the one before is heeded.
        if tenths % 50 == 0: await receiver._send_rtcp_pli(next(iter(receiver.getSynchronizationSources())).source)
        await asyncio.sleep(0.1)
        if len(seen["keys"]) > out["keys_before"] and seen["frames"] > out["frames_lossy"] + 60: break
    print(json.dumps({**out, "keys_after": len(seen["keys"]), "frames": seen["frames"]}))
    await pc.close()
asyncio.run(main())
"""


@test
def losses_are_repaired_and_key_pictures_given():
    # A key picture every 60 s: only the history of the join and of the request has any.
    with served("streams:\n  cam:\n") as server, Camera(server, "cam", group=60):
        done = run(python(), "-c", LOSSY, server.url("api/webrtc?src=cam"), limit=100)
        assert done.returncode == 0, done.stderr.decode()
        seen = json.loads(done.stdout)
        assert seen["lost"] > 10 and seen["came_again"] > 0.9 * seen["lost"] and seen["frames_lossy"] > 90, seen
        assert seen["keys_after"] > seen["keys_before"] and seen["frames"] > seen["frames_lossy"] + 30, seen
        print(f"  {seen}")


@test
def aiortc_plays_and_publishes():
    with home() as server:
        seen = aiortc(server, "cam")
        assert seen["video"]["frames"] >= 60 and abs(seen["audio"]["tone_hz"] - 440) < 12, seen
        print(f"  plays: {seen}")
        publisher = subprocess.Popen([python(), PEERS / "rtcpeer.py", "whip", server.url("api/webrtc?dst=own"), "60"], stdout=subprocess.DEVNULL,
                                     stdin=subprocess.DEVNULL, env={**os.environ, "CODEC": "h264"})
        try:
            wait(lambda: server.json("api/streams?src=own")["producers"], 10, "publisher")
            seen = aiortc(server, "own")
            # Its clock is in the picture.
            assert seen["video"]["frames"] >= 60 and "latency_ms" in seen["video"], seen
            assert abs(seen["audio"]["tone_hz"] - 440) < 12, seen
            print(f"  published: {seen}")
        finally:
            publisher.kill()
            publisher.wait()
        wait(lambda: not server.json("api/streams?src=own")["producers"], 30, "end of the publisher that vanished")


@test
def chromium_publishes():
    with turn() as (urls, log), home() as server:
        relay = {"ice": [{"urls": urls["udp"], "username": "u", "credential": "p"}], "policy": "relay"}
        for way, form, more in (("udp", "whip", {}), ("tcp", "ws1", {"net": "tcp"}), ("a relay", "whip", relay), ("a screen", "ws2", {"media": "display"})):
            before = server.text().count("publisher connected")
            sender = Page(server, what="publish", name="own", form=form, **more)
            wait(lambda: server.json("api/streams?src=own")["producers"], 15, "publisher", sender)
            wait(lambda: server.text().count("publisher connected") > before, 20, "connection", sender)  # noqa: B023
            streams = frames_over_rtsp(server, "own", 3)
            assert streams["h264"] > (20 if way != "a screen" else 2) and (streams.get("opus", 0) > 50 or way == "a screen"), streams
            shown = re.findall(r"publisher connected .*protocol=(\S+)", server.text())[-1]
            assert shown.endswith("tcp") or way != "tcp", shown
            sender.stop()
            print(f"  {form} over {way} ({shown}): ffprobe read {streams} of 3 s over RTSP")
            wait(lambda: not server.json("api/streams?src=own")["producers"], 30, "end of the publisher")
        print(f"  bytes over coturn's relay: {carried(log, 1)}")


def ffmpeg_with_whip():
    """The FFmpeg of PyPI's `imageio-ffmpeg`, which tests/run installs; Debian's has no WHIP."""
    found = [os.environ.get("PATCHBAY_FFMPEG"), *(ROOT / "target/peers").glob("lib/python*/site-packages/imageio_ffmpeg/binaries/ffmpeg-linux*")]
    for binary in filter(None, found):
        if b" whip " in run(binary, "-hide_banner", "-muxers").stdout:
            return binary
    raise Skip("no FFmpeg with WHIP: pip install imageio-ffmpeg into target/peers")


@test
def ffmpeg_publishes():
    binary = ffmpeg_with_whip()
    has_roles = b"dtls_active" in run(binary, "-hide_banner", "-h", "muxer=whip").stdout
    with served("streams:\n  waits:\n  begins:\n") as server:
        def publish(name, flags):
            sender = subprocess.Popen(
                [binary, "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=s=640x360:r=25", "-f", "lavfi", "-i", "sine=880:r=48000", "-t", "90", "-c:v", "libx264",
                 "-preset", "ultrafast", "-tune", "zerolatency", "-profile:v", "baseline", "-bf", "0", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "libopus", "-ac", "2", "-ar", "48000",
                 "-f", "whip", *flags, server.url(f"api/webrtc?dst={name}")], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                wait(lambda: any(one.get("receivers") for one in server.json(f"api/streams?src={name}")["producers"] or []), 20, "publisher", sender)
                seen = aiortc(server, name)
                # 10 s: the one that begins answers no check of this side, which makes its media the only sign of life.
                came = lambda: max((one.get("packets", 0) for one in server.json(f"api/streams?src={name}")["producers"][0]["receivers"]), default=0)  # noqa: E731
                wait(lambda: came() > 250, 60, "10 s of pictures", sender)
                sender.send_signal(signal.SIGINT)
                _, said = sender.communicate(timeout=40)
                # Interrupted, it leaves in order, but does not wait for the answer to that.
                assert all(b"DELETE" in line for line in said.splitlines() if line), said.decode()
                wait(lambda: not server.json(f"api/streams?src={name}")["producers"], 30, "end of the publisher")
            finally:
                sender.kill()
            return seen
        # In the handshake of DTLS it waits, and begins.
        roles = {"waits": [], **({"begins": ["-whip_flags", "dtls_active"]} if has_roles else {})}
        for flags, seen in zip(roles.values(), at_once(publish, roles, roles.values())):
            assert seen["video"]["frames"] >= 60 and abs(seen["audio"]["tone_hz"] - 880) < 12, seen
            print(f"  aiortc plays what FFmpeg {' '.join(flags)} publishes: {seen}")
        text = server.text()
        assert text.count("publisher connected") == text.count("publisher is gone: closed by request") == len(roles), text


def has_webrtcbin():
    return not run("gst-inspect-1.0", "webrtcbin").returncode and not run("gst-inspect-1.0", "nice").returncode


def webrtcbin(server, *options):
    done = run("/usr/bin/python3", PEERS / "gstwhep.py", server.url("api/webrtc?src=cam"), *options)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return json.loads(done.stdout.decode().split("FRAMES ")[1].replace("'", '"'))


@test
def gstreamer_plays():
    if not has_webrtcbin():
        raise Skip("webrtcbin or its ICE are missing: apt-get install gstreamer1.0-nice gir1.2-gst-plugins-bad-1.0")
    with home() as server:
        for net in ("udp", "tcp"):
            counts = webrtcbin(server, "60", net)
            assert counts["video"] >= 60 and counts["audio"] >= 60, counts
            assert re.findall(r"\] connected .*protocol=(\S+)", server.text())[-1] == f"http+{net}", server.text()
            print(f"  webrtcbin over {net}: {counts}, the first picture after {counts['first_ms']} ms")


@test
def other_servers_are_sources():
    with served("streams:\n  cam:\n") as far, Camera(far, "cam", tone=600):
        with served(f"streams:\n  whep: webrtc:{far.url('api/webrtc?src=cam')}\n  socket: webrtc:ws://127.0.0.1:{far.http}/api/ws?src=cam\n") as near:
            for name in ("whep", "socket"):
                seen = chromium(near, what="play", name=name, form="whep", frames=60, tone=600)
                assert seen["video"]["frames"] >= 60 and abs(seen["tone_hz"] - 600) < 12, seen
                producer = near.json(f"api/streams?src={name}")["producers"][0]
                print(f"  {name}: {seen['video']['frames']} pictures through two servers, first after {seen['first_ms']} ms; {producer.get('format_name')} {producer.get('protocol')}")
        # The server is gone, its sessions too.
        idle(far, "cam")


@test
def services_with_ways_of_their_own_are_sources():
    port = free_port()
    http, socket = f"webrtc:http://127.0.0.1:{port}", f"webrtc:ws://127.0.0.1:{port}"
    streams = {
        "creality": f"{http}/creality#format=creality",
        "milestone": f"{http}/api#format=milestone#username=us er#password=p&s#cameraId=C",
        "wyze": f"{http}/wyze#format=wyze",
        "kinesis": f"{socket}/kinesis#format=kinesis#client_id=viewer#ice_servers=[]",
        "switchbot": f"{socket}/switchbot#format=switchbot#client_id=viewer#resolution=sd#play_type=3",
        "openipc": f"{socket}/openipc#format=openipc",
    }
    services = subprocess.Popen([python(), PEERS / "rtcvendors.py", str(port)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        assert services.stdout.readline() == "READY\n"
        with served("streams:\n" + "".join(f"  {name}: {json.dumps(url)}\n" for name, url in streams.items())) as server:
            wait(lambda: "[rtsp] listen" in server.text(), 15, "RTSP server")
            for name, found in zip(streams, at_once(lambda name: frames_over_rtsp(server, name, 3), streams)):
                assert found.get("h264", 0) > 20, (name, found)
                assert ("opus" in found) == (name in ("wyze", "kinesis", "openipc")), (name, found)
                print(f"  {name}: {found} in 3 s")
    finally:
        services.kill()
        said = services.stdout.read()
    assert "WRONG" not in said, said
    assert said.count("CLOSED") == 4, said


@test
def hevc_goes_through_two_servers():
    # Groups begin with CRA pictures, whose leading pictures refer to the group before.
    with served("streams:\n  cam:\n") as far:
        camera = subprocess.Popen(["ffmpeg", "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=s=640x360:r=25", "-c:v", "libx265", "-preset", "ultrafast",
                                   "-x265-params", "log-level=error:bframes=3:b-adapt=0:keyint=40:open-gop=1", "-f", "rtsp", "-rtsp_transport", "tcp", f"rtsp://127.0.0.1:{far.rtsp}/cam"],
                                  stdin=subprocess.DEVNULL)
        port, api = free_port(), free_port()
        streams = f"streams:\n  cam: webrtc:{far.url('api/webrtc?src=cam')}\n  again: webrtc:http://127.0.0.1:{api}/api/webrtc?src=cam\n"
        counts = lambda server, name: next(value for key, value in metrics(server).items() if name in key)  # noqa: E731
        try:
            wait(lambda: far.json("api/streams?src=cam")["producers"], 15, "publisher")
            with Server(streams=streams, extra=f"webrtc:\n  listen: \":{port}\"\n  ice_servers: []\nlog:\n  webrtc: debug\n", http=api) as near:
                wait(lambda: "[rtsp] listen" in near.text(), 15, "RTSP server")
                reader = subprocess.Popen(["ffmpeg", "-nostdin", "-v", "fatal", "-rtsp_transport", "tcp", "-i", f"rtsp://127.0.0.1:{near.rtsp}/cam", "-c", "copy", "-f", "hevc",
                                           "-flush_packets", "1", "-"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
                received = []
                reading = threading.Thread(target=lambda: [received.append(part) for part in iter(lambda: reader.stdout.read1(1 << 16), b"")], daemon=True)
                reading.start()

                def slices():
                    kinds = [found[1][0] >> 1 & 63 for found in re.finditer(b"\0\0\1(.)", b"".join(received), re.S)]
                    return [kind for kind in kinds if kind < 32]

                def is_enough():
                    """Whether there is a picture that begins anew, and a whole group of the camera's after it."""
                    kinds = slices()[1:]
                    return 17 in kinds and 21 in kinds[kinds.index(17) + 1:-12]
                came = lambda: sum(one.get("packets", 0) for one in near.json("api/streams?src=cam")["producers"][0].get("receivers") or [])  # noqa: E731
                wait(lambda: came() > 60, 30, "60 pictures", reader)
                # Whoever joins asks for a key picture, the server's server too: a group is sent again in the middle of the stream.
                before = counts(far, "webrtc_histories")
                done = run("ffprobe", "-v", "error", "-rtsp_transport", "tcp", "-count_frames", "-read_intervals", "%+2", "-show_entries", "stream=codec_name,nb_read_frames",
                           "-of", "json", f"rtsp://127.0.0.1:{near.rtsp}/again", limit=40)
                stream = json.loads(done.stdout)["streams"][0]
                assert stream["codec_name"] == "hevc" and int(stream["nb_read_frames"]) > 25 and not done.stderr, (stream, done.stderr)
                wait(is_enough, 60, "group that is sent again", reader)
                reader.send_signal(signal.SIGINT)
                reading.join(20)
                histories, kinds = counts(far, "webrtc_histories") - before, slices()
                # CRA with leading pictures (RASL: 8, 9) as the camera sent them; what was sent again is a BLA picture (17) without any.
                pairs = list(zip(kinds, kinds[1:]))
                assert histories > 0 and not {(17, 8), (17, 9)} & set(pairs), (histories, kinds)
                assert (21, 9) in pairs or (21, 8) in pairs, kinds
                decode = ["ffmpeg", "-v", "warning", "-f", "hevc", "-i", "-", "-f", "null", "-"]
                said = subprocess.run(decode, input=b"".join(received), capture_output=True, timeout=60).stderr.decode()
                assert not said, said
                print(f"  {stream['nb_read_frames']} pictures in 2 s; {histories} groups sent again, {len(kinds)} pictures decoded without a word")
        finally:
            camera.kill()
            camera.wait()


@test
def av1_goes_through_to_chromium():
    encode = ("ffmpeg -nostdin -v error -re -f lavfi -i testsrc2=s=640x360:r=25 -c:v libaom-av1 -usage realtime -cpu-used 8 -g 50 -lag-in-frames 0 -b:v 500k"
              " -pix_fmt yuv420p -f mp4 -movflags frag_every_frame+empty_moov+default_base_moof pipe:1")
    peer("ffmpeg", "ffmpeg")
    with served(f"streams:\n  cam: \"exec:{encode}\"\n") as server:
        seen = chromium(server, what="play", name="cam", form="whep", frames=60)
        assert "AV1/90000" in seen["answer"] and "H264" not in seen["answer"], seen["answer"]
        assert seen["video"]["frames"] >= 60 and seen["video"]["lost"] == 0 and seen["width"] == 640, seen
        print(f"  {seen['video']['frames']} pictures, the first after {seen['first_ms']} ms")


@test
def what_a_browser_publishes_in_vp8_and_vp9_goes_through_to_another():
    with served("streams:\n  VP8:\n  VP9:\n") as server:
        def measure(codec):
            sender = Page(server, what="publish", name=codec, form="whip", codec=codec)
            producer = lambda: (server.json(f"api/streams?src={codec}")["producers"] or [{}])[0]
            wait(lambda: f"video, recvonly, {codec}" in (producer().get("medias") or []), 30, f"publisher of {codec}", sender)
            seen = chromium(server, what="play", name=codec, form="whep", frames=30)
            assert f"{codec}/90000" in seen["answer"] and "H264" not in seen["answer"], seen["answer"]
            assert seen["video"]["frames"] >= 30 and seen["video"]["lost"] == 0 and seen["video"]["keys"] > 0, seen
            sender.stop()
            return f"{codec} {seen['video']['frames']} pictures, the first after {seen['first_ms']} ms"

        return "; ".join(at_once(measure, ("VP8", "VP9")))


@test
def a_process_of_its_own_does_as_well():
    with Server(streams="streams:\n  cam:\n", extra=f"webrtc:\n  listen: \":{free_port()}\"\n  ice_servers: []\nplugins:\n  webrtc: {{isolation: process}}\n") as server:
        with Camera(server, "cam"):
            for net in ("all", "tcp"):
                seen = chromium(server, what="play", name="cam", form="ws1", net=net, frames=60, tone=440)
                assert seen["video"]["frames"] >= 60 and abs(seen["tone_hz"] - 440) < 12, seen
                print(f"  {seen['pair']}: first picture after {seen['first_ms']} ms, {seen['video']['frames']} pictures")


def figures(server):
    """Descriptors, threads and memory (KiB) of a server."""
    root = pathlib.Path(f"/proc/{server.process.pid}")
    status = (root / "status").read_text()
    return {"fds": len(list((root / "fd").iterdir())), "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]), "rss": int(re.search(r"VmRSS:\s+(\d+)", status)[1])}


def visit(server, turn):
    """100 viewers: 20 never come after their offer, 50 leave as pages do, 30 vanish with their browser. So 80 connect in each turn."""
    for _ in range(20):
        assert server.get("api/webrtc?src=demo", "POST", OFFER.encode(), {"content-type": "application/sdp"})[0] == 201
    # The demo's sound is AAC: its transcoder is a consumer as well.
    viewers = lambda: [one for one in server.json("api/streams?src=demo")["consumers"] or [] if one.get("format_name", "").startswith("webrtc")]  # noqa: E731
    assert len(viewers()) == 20, viewers()
    chromium(server, what="play", name="demo", form="whep", count=10, rounds=5, limit=150)
    connected = lambda: next(value for name, value in metrics(server).items() if "webrtc_connected" in name)  # noqa: E731
    for gone in range(3):
        folder = tempfile.mkdtemp()
        # Over UDP alone: nothing tells the server that they are gone.
        ask = {"base": server.url(""), "what": "play", "name": "demo", "form": "ws1", "net": "udp", "count": 10, "hold": True}
        page = subprocess.Popen(["node", HERE / "webrtc.mjs", json.dumps(ask)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
                                env={**os.environ, "TMPDIR": folder})
        assert json.loads(page.stdout.readline())["connected"] == 10
        # Of all turns: a plugin reports its figures a few seconds late.
        wait(lambda: connected() >= 80 * turn + 50 + 10 * (gone + 1), 20, "ten viewers")  # noqa: B023
        os.killpg(page.pid, signal.SIGKILL)
        page.wait()
        for process in run("pgrep", "-f", folder).stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
    idle(server, "demo", 60)
    # The source ends a little after its last viewer.
    wait(lambda: not any(producer.get("receivers") for producer in server.json("api/streams?src=demo")["producers"]), 15, "end of the source")


@test
def hundreds_of_viewers_leave_nothing_behind():
    with served("streams:\n  demo: \"demo:\"\n") as server:
        seen = []
        turns = int(os.environ.get("PATCHBAY_TURNS", 3))
        for turn in range(turns):
            visit(server, turn)
            seen.append(figures(server))
            print(f"  after {100 * len(seen)} viewers: {seen[-1]}", flush=True)
        values = metrics(server)
        name = next(name for name in values if "webrtc_sessions" in name)
        assert values[name] == 100 * turns, values[name]
        first, last = seen[0], seen[-1]

        def is_settled():
            """A thread for something that blocks, or a descriptor, may be there for some seconds more."""
            now = figures(server)
            return now["fds"] <= first["fds"] + 2 and now["threads"] <= first["threads"] + 1
        wait(is_settled, 60, f"end of descriptors and threads: {seen}")
        # What the allocator keeps depends on how many were there at once, not on how many came.
        assert last["rss"] < first["rss"] + 6144, seen


if __name__ == "__main__":
    main()
