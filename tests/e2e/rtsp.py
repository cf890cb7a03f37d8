#!/usr/bin/env python3
"""RTSP beyond plain TCP and UDP with real programs: TLS, tunnels, multicast, foreign publishers, sound beside its picture.

Each test prints a line; the last line is `N passed, N failed, N skipped`.
"""
import concurrent.futures
import contextlib
import functools
import os
import pathlib
import queue
import shutil
import socket
import threading
import time

from exact import frames as hashes, program, stretches, units
from run import Camera, Server, Skip, clip, free_port, metrics, peer, probe, run, wait
from runner import main, test

IDENTITY = pathlib.Path(__file__).resolve().parent.parent.parent / "plugins/rtsp/tests/data/localhost.pem"
GROUPS = "239.255.78"


def gst(location, *options, more=()):
    """GStreamer's client takes 30 pictures."""
    peer("gst-launch-1.0", "gstreamer1.0-tools")
    done = run("gst-launch-1.0", "-q", *more, "rtspsrc", f"location={location}", "latency=100", *options, "!", "rtph264depay", "!", "h264parse", "!",
               "identity", "eos-after=30", "!", "fakesink", limit=30)
    # The PAUSE that GStreamer 1.22 sends behind the last picture fails now and then, with its own server as well (4 of 160).
    paused = b"gst_rtspsrc_pause" in done.stderr and b"Received end-of-file" in done.stderr
    assert done.returncode == 0 or paused, (location, done.stderr.decode())


def frames(*source):
    """ffmpeg takes a second of what is there; how many frames."""
    peer("ffmpeg", "ffmpeg")
    done = run("ffmpeg", "-nostdin", "-v", "error", *source, "-t", "1", "-c", "copy", "-f", "framemd5", "-", limit=30)
    count = sum(not line.startswith(b"#") for line in done.stdout.splitlines())
    assert count > 30, (source, count, done.stderr.decode())


def secure(**more):
    extra = f"  tls_cert: {IDENTITY}\n  tls_key: {IDENTITY}\n"
    return Server(extra=extra + more.pop("settings", ""), **more)


@test
def players_through_tls_and_tunnels_on_one_port():
    with secure() as server:
        at = f"127.0.0.1:{server.rtsp}/demo"
        frames("-rtsp_transport", "tcp", "-i", f"rtsp://{at}")
        frames("-i", f"rtsps://{at}")
        frames("-rtsp_transport", "http", "-i", f"rtsp://{at}")
        frames("-rtsp_transport", "https", "-i", f"rtsp://{at}")
        any_certificate = "tls-validation-flags=0"
        for scheme in ("rtspt", "rtsph", "rtspst", "rtspsh"):
            gst(f"{scheme}://{at}", any_certificate)


@test
def a_login_is_asked_through_tls_and_tunnels():
    settings = "  username: viewer\n  password: secret\n  local_auth: true\n"
    with secure(settings=settings) as server:
        at = f"127.0.0.1:{server.rtsp}/demo"
        for scheme, *way in (("rtsp", "-rtsp_transport", "http"), ("rtsps",)):
            frames(*way, "-i", f"{scheme}://viewer:secret@{at}")
            done = run("ffprobe", "-v", "error", *way, f"{scheme}://{at}", limit=30)
            assert done.returncode and b"401" in done.stderr, (scheme, done.stderr)
        gst(f"rtsph://{at}", "user-id=viewer", "user-pw=secret")


# Programs that encode a codec; with "ffmpeg" one that is new enough to send AV1.
ENCODERS = {
    "vp8": "libvpx -deadline realtime -cpu-used 8",
    "vp9": "libvpx-vp9 -deadline good -cpu-used 8 -auto-alt-ref 1 -lag-in-frames 12",
    "av1": "libaom-av1 -usage realtime -cpu-used 8 -lag-in-frames 0",
    "mpeg4": "mpeg4 -bf 2",
}


def new_ffmpeg():
    """The FFmpeg of PyPI's `imageio-ffmpeg`, which tests/run installs; Debian's sends no AV1."""
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    found = [os.environ.get("PATCHBAY_FFMPEG"), *(root / "target/peers").glob("lib/python*/site-packages/imageio_ffmpeg/binaries/ffmpeg-linux*")]
    return next((str(path) for path in found if path and pathlib.Path(path).exists()), None)


def shown(server, name):
    return server.json("api/streams")[name]["producers"][0]


def is_live(server, name, protocol=None, limit=20):
    """A player gets the stream, and it comes as expected."""
    codecs = [stream["codec_name"] for stream in probe(f"rtsp://127.0.0.1:{server.rtsp}/{name}", "-rtsp_transport", "tcp")]
    assert "h264" in codecs, (name, codecs)
    producer = shown(server, name)
    assert protocol is None or producer.get("protocol") == protocol, (name, producer)


@test
def another_patchbay_through_each_way():
    with secure(settings=f"  multicast: {GROUPS}.0/28\n") as camera:
        at = f"127.0.0.1:{camera.rtsp}/demo"
        ways = {
            "tls": (f"rtsps://{at}", "rtsps+tcp"),
            "unchecked": (f"rtspx://{at}", "rtsps+tcp"),
            "http": (f"rtsp://{at}#transport=http", "rtsp+http"),
            "https": (f"rtspx://{at}#transport=http", "rtsps+http"),
            "ws": (f"rtsp://{at}#transport=ws://127.0.0.1:{camera.rtsp}/any", "ws"),
            "wss": (f"rtsp://{at}#transport=wss://127.0.0.1:{camera.rtsp}/any", "wss"),
            "multicast": (f"rtsp://{at}#transport=multicast", "rtsp+multicast"),
        }
        streams = "streams:\n" + "".join(f"  {name}: {url}\n" for name, (url, _) in ways.items())
        with Server(streams=streams) as server:
            for name, (_, protocol) in ways.items():
                is_live(server, name, protocol)
        assert "panicked" not in camera.text()


@test
def gstreamers_cameras_behind_tls_and_in_an_http_tunnel():
    camera = Camera("--cert", str(IDENTITY))
    try:
        at = f"127.0.0.1:{camera.port}/cam"
        with Server(streams=f"streams:\n  tls: rtsps://{at}\n  unchecked: rtspx://{at}#transport=tcp\n  tunnel: rtspx://{at}#transport=http\n") as server:
            is_live(server, "tls", "rtsps+tcp")
            is_live(server, "unchecked", "rtsps+tcp")
            is_live(server, "tunnel", "rtsps+http")
    finally:
        camera.stop()
    camera = Camera("--auth", "digest")
    try:
        with Server(streams=f"streams:\n  tunnel: rtsp://admin:12345@127.0.0.1:{camera.port}/cam#transport=http\n") as server:
            is_live(server, "tunnel", "rtsp+http")
    finally:
        camera.stop()


@test
def a_cameras_backchannel_is_shown_and_one_that_has_none_plays():
    camera, plain = Camera("--backchannel"), Camera()
    try:
        streams = f"streams:\n  talks: rtsp://127.0.0.1:{camera.port}/cam#backchannel=1\n  plain: rtsp://127.0.0.1:{plain.port}/cam#backchannel=1\n"
        with Server(streams=streams) as server:
            for name, has_one in (("talks", True), ("plain", False)):
                is_live(server, name)
                medias = shown(server, name)["medias"]
                assert any("sendonly" in media for media in medias) == has_one, (name, medias)
    finally:
        camera.stop()
        plain.stop()
    with Server() as server:
        gst(f"rtspt://127.0.0.1:{server.rtsp}/demo", "backchannel=onvif")


@test
def gstreamers_players_share_a_group():
    with Server(extra=f"  multicast: {GROUPS}.128/28\n") as server:
        url = f"rtsp://127.0.0.1:{server.rtsp}/demo"
        play = functools.partial(gst, url, "protocols=udp-mcast", "multicast-iface=lo")
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for result in [pool.submit(play) for _ in range(3)]:
                result.result()
        made = lambda: [value for name, value in metrics(server).items() if "rtsp_packetize_runs" in name]
        wait(lambda: made() == [2], 10, "one run for each of the two tracks")


@test
def av1_vp8_vp9_mpeg4_and_l24_go_in_by_announce_and_by_rtsp_and_out_byte_for_byte():
    peer("ffmpeg", "ffmpeg")
    newer = new_ffmpeg()
    codecs = [*ENCODERS, "pcm_s24be"] if newer else ["vp8", "vp9", "mpeg4", "pcm_s24be"]
    lines = "".join(f"  {codec}:\n  {codec}-relay: rtsp://127.0.0.1:@PORT@/{codec}\n" for codec in codecs)

    def measure(server, codec):
        command = newer if codec == "av1" else shutil.which("ffmpeg")
        path = server.path / f"{codec}.nut"
        is_video = codec in ENCODERS
        source = "testsrc2=s=176x144:r=25:d=4" if is_video else "aevalsrc=random(0)*0.9:s=48000:d=4"
        encode = f"-c:v {ENCODERS[codec]} -g 25 -b:v 500k" if is_video else f"-c:a {codec}"
        made = run("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", source, *encode.split(), path, limit=120)
        assert made.returncode == 0, made.stderr.decode()
        # FFmpeg marks no packet of VP9 over RTP as a key, and copies none before one unless told to.
        look = lambda source, *options: run(command, "-nostdin", "-v", "error", *options, "-i", source, "-c", "copy", "-copyinkf", "-t", "2", "-f", "framemd5", "-", limit=120)
        sample = lambda source, *options: run(command, "-nostdin", "-v", "error", *options, "-i", source, "-t", "2", "-f", "s24be", "-", limit=120).stdout
        with program(command, "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", path, "-c", "copy", "-strict", "experimental", "-f", "rtsp",
                     "-rtsp_transport", "tcp", f"rtsp://127.0.0.1:{server.rtsp}/{codec}") as publisher:
            live = lambda: (server.json("api/streams")[codec]["producers"] or [{}])[0].get("state") == "live"
            wait(live, 60, f"{codec} published", publisher)
            for name in (codec, f"{codec}-relay"):
                url, way = f"rtsp://127.0.0.1:{server.rtsp}/{name}", ("-rtsp_transport", "tcp", "-analyzeduration", "500000")
                if is_video:
                    part = hashes(look(url, *way).stdout.decode())["video"]
                    whole = hashes(run(command, "-nostdin", "-v", "error", "-i", path, "-c", "copy", "-f", "framemd5", "-").stdout.decode())["video"]
                    assert len(part) > 30 and len(whole) == 100, (name, len(part), len(whole))
                    assert len(stretches(part, whole, again=False)) == 1, name
                else:
                    part, whole = sample(url, *way), run("ffmpeg", "-v", "error", "-i", path, "-f", "s24be", "-").stdout
                    assert len(part) > 100_000 and part in whole + whole, (name, len(part))
        return codec

    port = free_port()
    with Server(streams="streams:\n" + lines.replace("@PORT@", str(port)), rtsp=port) as server, concurrent.futures.ThreadPoolExecutor() as pool:
        done = [result.result() for result in [pool.submit(measure, server, codec) for codec in codecs]]
    return ", ".join(done) + ("" if newer else "; no ffmpeg that sends AV1: pip install imageio-ffmpeg")


@test
def gstreamers_cameras_and_players_of_vp8_vp9_and_l24():
    """One camera with all of them: also what of several tracks a player asks for."""
    peer("gst-launch-1.0", "gstreamer1.0-tools")
    raw = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1"
    camera = Camera("--launch", f"( {raw} ! vp8enc deadline=1 keyframe-max-dist=25 ! rtpvp8pay name=pay0 pt=96 picture-id-mode=15-bit "
                    f"{raw} ! vp9enc deadline=1 cpu-used=8 keyframe-max-dist=25 ! rtpvp9pay name=pay1 pt=97 "
                    "audiotestsrc is-live=true freq=440 ! audio/x-raw,rate=48000,channels=2 ! rtpL24pay name=pay2 pt=98 )")
    try:
        with Server(streams=f"streams:\n  cam: rtsp://127.0.0.1:{camera.port}/cam\n") as server:
            def play(query, *depayload):
                done = run("gst-launch-1.0", "-q", "rtspsrc", f"location=rtspt://127.0.0.1:{server.rtsp}/cam?{query}", "latency=100", "!",
                           *depayload, "!", "identity", "eos-after=30", "!", "fakesink", limit=60)
                paused = b"gst_rtspsrc_pause" in done.stderr and b"Received end-of-file" in done.stderr
                assert done.returncode == 0 or paused, (query, done.stderr.decode())
            ways = (("video=vp8", "rtpvp8depay", "!", "vp8dec"), ("video=vp9", "rtpvp9depay", "!", "vp9dec"), ("audio=l24", "rtpL24depay"))
            with concurrent.futures.ThreadPoolExecutor() as pool:
                for result in [pool.submit(play, *way) for way in ways]:
                    result.result()
    finally:
        camera.stop()


@test
def rtspclientsink_publishes_over_udp_and_tcp():
    peer("gst-launch-1.0", "gstreamer1.0-tools")
    if run("gst-inspect-1.0", "rtspclientsink").returncode:
        raise Skip("rtspclientsink is missing: apt-get install gstreamer1.0-rtsp")
    for protocols in ("udp", "tcp"):
        with Server(streams="streams:\n  s:\n") as server:
            with program("gst-launch-1.0", "-q", "videotestsrc", "is-live=true", "!", "video/x-raw,width=320,height=240,framerate=25/1", "!",
                         "x264enc", "tune=zerolatency", "key-int-max=25", "!", "h264parse", "!", "rtspclientsink", "name=s",
                         f"location=rtsp://127.0.0.1:{server.rtsp}/s", f"protocols={protocols}",
                         "audiotestsrc", "is-live=true", "!", "audio/x-raw,rate=8000,channels=1", "!", "alawenc", "!", "s.") as publisher:
                live = lambda: (server.json("api/streams")["s"]["producers"] or [{}])[0].get("state") == "live"
                wait(live, 15, f"publisher over {protocols}", publisher)
                codecs = sorted(stream["codec_name"] for stream in probe(f"rtsp://127.0.0.1:{server.rtsp}/s", "-rtsp_transport", "tcp"))
                assert codecs == ["h264", "pcm_alaw"], codecs


def apart(source, whole, *options):
    """How much further sound and picture are from each other than in the clip, in seconds."""
    part = units(source, *options, seconds=4)

    def offset(kind):
        times = {}
        for digest, at in whole[kind]:
            times.setdefault(digest, at)
        found = [at - times[digest] for digest, at in part[kind][5:40] if digest in times]
        assert len(found) > 20, (kind, len(found))
        # A clip that starts again is later by its length.
        return sorted(found)[len(found) // 2]

    return float(offset("audio") - offset("video"))


@test
def sound_and_picture_are_as_far_apart_as_they_were_sent():
    path = clip("h264-long.mp4")
    whole = units(path)

    def measure(server, source, label):
        error = apart(server.url("api/stream.ts?src=s&video=all&audio=all&history=0"), whole)
        print(f"  {source}: {error * 1000:.1f} ms", flush=True)
        assert abs(error) < 0.040, (label, error)

    def announced(transport):
        with Server(streams="streams:\n  s:\n") as server:
            with program("ffmpeg", "-nostdin", "-v", "error", "-re", "-i", path, "-c", "copy", "-f", "rtsp", "-rtsp_transport", transport,
                         f"rtsp://127.0.0.1:{server.rtsp}/s") as publisher:
                live = lambda: (server.json("api/streams")["s"]["producers"] or [{}])[0].get("state") == "live"
                wait(live, 15, "publisher", publisher)
                measure(server, f"ffmpeg announces over {transport}", transport)

    def dialled(transport):
        camera = Camera("--file", str(path))
        try:
            with Server(streams=f"streams:\n  s: rtsp://127.0.0.1:{camera.port}/cam#transport={transport}\n") as server:
                measure(server, f"gst-rtsp-server over {transport}", transport)
        finally:
            camera.stop()

    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = [pool.submit(way, transport) for way in (announced, dialled) for transport in ("tcp", "udp")]
        for result in results:
            result.result()


class Detour:
    """A way to a server on which reports get lost for 3 s and the packets of one channel take longer by 150 ms."""

    LOST_S, LONGER_S = 3, 0.15

    def __init__(self, port, channel):
        self.server, self.channel = port, channel
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        near, _ = self.listener.accept()
        far = socket.create_connection(("127.0.0.1", self.server))
        threading.Thread(target=self.copy, args=(far, near), daemon=True).start()
        late, since, file = queue.SimpleQueue(), None, near.makefile("rb")
        lock = threading.Lock()

        def send_late():
            while (item := late.get()):
                time.sleep(max(0, item[0] - time.monotonic()))
                with lock, contextlib.suppress(OSError):
                    far.sendall(item[1])
        threading.Thread(target=send_late, daemon=True).start()
        with contextlib.suppress(OSError):
            while (first := file.read(1)):
                if first != b"$":
                    with lock:
                        far.sendall(first + file.readline())
                    continue
                head = file.read(3)
                frame = first + head + file.read(int.from_bytes(head[1:], "big"))
                now = time.monotonic()
                since = since or now
                if head[0] % 2 and now - since < self.LOST_S:
                    continue
                if head[0] // 2 == self.channel // 2:
                    late.put((now + self.LONGER_S, frame))
                else:
                    with lock:
                        far.sendall(frame)
        late.put(None)
        far.close()

    @staticmethod
    def copy(source, target):
        with contextlib.suppress(OSError):
            while (data := source.recv(65536)):
                target.sendall(data)


@test
def reports_that_come_late_move_the_sound_once():
    """By what the way of one of them was longer, in the fourfold of that; the picture stays, and so do all other distances."""
    path = clip("h264-long.mp4")
    whole = units(path)

    def measure(server, name, channel):
        way = Detour(server.rtsp, channel)
        with program("ffmpeg", "-nostdin", "-v", "error", "-re", "-i", path, "-c", "copy", "-f", "rtsp", "-rtsp_transport", "tcp",
                     f"rtsp://127.0.0.1:{way.port}/{name}") as publisher:
            wait(lambda: server.json("api/streams")[name]["producers"], 15, "publisher", publisher)
            part = units(server.url(f"api/stream.mp4?src={name}&mp4=all&history=0"), seconds=9)
        lies = {}
        assert all(after >= before for (_, before), (_, after) in zip(part["audio"], part["audio"][1:])), "times go back"
        for kind, found in part.items():
            times = dict(whole[kind])
            lies[kind] = [at - times[digest] for digest, at in found[:-2]]
        picture, sound = lies["video"], lies["audio"]
        assert max(picture) - min(picture) < 1 / 40_000, "the picture was moved"
        moved = [at for at, (before, after) in enumerate(zip(sound, sound[1:])) if abs(after - before) > 1 / 40_000]
        by, left = float(sound[-1] - sound[0]), float(sound[-1] - picture[-1])
        # A frame of AAC is 21.3 ms.
        assert moved and (moved[-1] - moved[0]) * 0.0213 <= 4 * abs(by) + 0.1, (by, moved)
        assert all(abs(after - before) < 0.006 for before, after in zip(sound, sound[1:])), "a hole or an overlap"
        assert 0.1 < abs(by) < 0.8 and (by < 0) == (channel == 2) and abs(left) < 0.001, (by, left)
        return f"{name} {by * 1000:.0f} ms within {len(moved)} frames, then {left * 1000:.2f} ms off"

    with Server(streams="streams:\n  sound:\n  picture:\n") as server, concurrent.futures.ThreadPoolExecutor() as pool:
        results = [pool.submit(measure, server, name, channel) for name, channel in (("sound", 2), ("picture", 0))]
        return "; ".join(result.result() for result in results)


if __name__ == "__main__":
    main()
