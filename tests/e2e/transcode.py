#!/usr/bin/env python3
"""Sound that a player does not take reaches it in a codec that it takes.

Cameras are ffmpeg publishing over RTSP and the demo; players are Chromium over WebRTC and ffmpeg over RTSP, MP4 and HLS. What is judged:
the tone that is heard, codecs, even steps of time, how far sound and picture lie apart, how many transcoders run for how many listeners.
`transcode.py [name ...]` runs the named tests alone.
"""
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse

import webrtc
from run import HERE, Server, metrics, peer, run, wait
from runner import main, test

TONE = HERE.parent / "peers/tone.py"


def tone(url, *options, seconds=1.5):
    done = run(sys.executable, TONE, "--secs", seconds, "--", *options, "-i", url, limit=60)
    assert done.returncode == 0, (url, done.stdout, done.stderr.decode())
    return json.loads(done.stdout)["hz"]


def tracks(url, *options):
    """Codec, rate and channels of each track, as ffprobe sees them."""
    done = run("ffprobe", "-v", "error", *options, "-show_entries", "stream=codec_name,sample_rate,channels", "-of", "json", url)
    assert done.returncode == 0, (url, done.stderr.decode())
    streams = json.loads(done.stdout)["streams"]
    return [(s["codec_name"], *((int(s["sample_rate"]), s["channels"]) if "channels" in s else ())) for s in streams]


def producers(server, stream):
    return {producer["url"]: producer for producer in server.json(f"api/streams?src={stream}")["producers"]}


def camera(server, name, *audio, tone=440):
    """ffmpeg publishes a picture and a tone."""
    return webrtc.Camera(server, name, audio=audio, tone=tone)


TCP = ("-rtsp_transport", "tcp")


@test
def a_browser_hears_an_aac_camera():
    with webrtc.served("streams:\n  demo: \"demo:\"\n") as server:
        seen = webrtc.chromium(server, what="play", name="demo", form="whep", seconds=4)
        assert seen["video"]["frames"] > 50 and "opus" in seen["answer"], seen
        assert abs(seen["tone_hz"] - 440) < 12, seen
        assert seen["audio"]["packets"] > 100 and seen["audio"]["lost"] == 0, seen
        found = producers(server, "demo")
        transcoder = found["transcode:demo#audio=opus/48000/2"]
        assert transcoder["format_name"] == "transcode" and transcoder["medias"] == ["audio, recvonly, OPUS/48000/2"], transcoder
        # Nobody listens any more: it ends, and so does the camera.
        wait(lambda: list(producers(server, "demo").values())[0]["state"] == "idle" and len(producers(server, "demo")) == 1, 25, "end of the transcoder")
        print(f"  {seen['audio']['packets']} packets of Opus, {seen['tone_hz']} Hz, {seen['video']['frames']} pictures")


@test
def ten_listeners_share_one_transcoder():
    peer("ffmpeg", "ffmpeg")
    with Server(streams="streams:\n  demo: \"demo:\"\n") as server:
        url = f"rtsp://127.0.0.1:{server.rtsp}/demo?audio=opus"
        listeners = [subprocess.Popen(["ffmpeg", "-nostdin", "-v", "error", *TCP, "-i", url, "-t", "600", "-f", "null", "-"], stdin=subprocess.DEVNULL)
                     for _ in range(10)]
        try:
            ready = lambda: sum(c["format_name"] == "rtsp" and bool(c["senders"]) for c in server.json("api/streams?src=demo")["consumers"] or [])  # noqa: E731
            wait(lambda: ready() == 10, 40, "ten listeners")
            assert metrics(server)["patchbay_sources"] == 2, "the camera and one transcoder"
            # Who takes AAC gets it as it is.
            found = tracks(f"rtsp://127.0.0.1:{server.rtsp}/demo", *TCP)
            assert [track[0] for track in found] == ["h264", "aac"], found
            assert metrics(server)["patchbay_sources"] == 2, metrics(server)
            assert abs(tone(url, *TCP) - 440) < 8
        finally:
            for listener in listeners:
                listener.kill()
                listener.wait()


@test
def a_g711_camera_is_heard_in_mp4_and_hls():
    with Server(streams="streams:\n  cam:\n") as server, camera(server, "cam", "pcm_alaw", "-ar", "8000", "-ac", "1"):
        for path, options in [("api/stream.mp4?src=cam", ()), ("api/stream.m3u8?src=cam", ()), ("api/stream.ts?src=cam", ()), ("api/stream.aac?src=cam", ())]:
            url = server.url(path)
            found = tracks(url, *options)
            assert ("aac", 8_000, 1) in found, (path, found)
            assert abs(tone(url, *options) - 440) < 8, path
        done = run("ffmpeg", "-nostdin", "-v", "error", "-i", server.url("api/stream.mp4?src=cam"), "-t", "4", "-map", "0:a", "-c", "copy", "-f", "framemd5", "-", limit=60)
        times = [int(line.split(",")[1]) for line in done.stdout.decode().splitlines() if not line.startswith("#")]
        steps = {b - a for a, b in zip(times, times[1:])}
        assert len(times) > 25 and steps == {1024}, (len(times), steps)
        # The camera's own sound is still there for those who take it.
        assert ("pcm_alaw", 8_000, 1) in tracks(f"rtsp://127.0.0.1:{server.rtsp}/cam", *TCP)


@test
def an_opus_camera_is_heard_as_g711_by_rtsp():
    with Server(streams="streams:\n  cam:\n  phone: transcode:cam#audio=pcmu#ptime=40\n  both: transcode:cam#video=copy#audio=aac/16000#audio=copy\n") as server:
        with camera(server, "cam", "libopus", "-ar", "48000"):
            rtsp = f"rtsp://127.0.0.1:{server.rtsp}/"
            for name, wanted in [("cam?audio=pcma", [("pcm_alaw", 8_000, 1)]), ("phone", [("pcm_mulaw", 8_000, 1)]), ("cam?audio=l16", [("pcm_s16be", 8_000, 1)]),
                                 ("cam?video&audio=aac", [("h264",), ("aac", 48_000, 2)]),
                                 ("both?video&audio=all", [("h264",), ("aac", 16_000, 1), ("opus", 48_000, 2)])]:
                found = tracks(rtsp + name, *TCP)
                assert found == wanted, (name, found)
                assert abs(tone(rtsp + name, *TCP) - 440) < 8, name
            found = producers(server, "phone")
            assert list(found) == ["transcode:cam#audio=pcmu#ptime=40"], found


@test
def lines_for_ffmpeg_that_ask_for_sound():
    """What Home Assistant adds to each of its cameras, by its own call; a stream and a URL that are passed on."""
    with Server(streams="streams:\n  src:\n") as server:
        with camera(server, "src", "aac"):
            rtsp = f"rtsp://127.0.0.1:{server.rtsp}/"
            for name, sources in [("camera.yard", [rtsp + "src", "ffmpeg:camera.yard#audio=opus#query=log_level=debug"]),
                                  ("all", ["ffmpeg:src"]), ("url", [f"ffmpeg:{rtsp}src#video=copy#audio=pcma"])]:
                query = "&".join("src=" + urllib.parse.quote(source, safe="") for source in sources)
                status, _, body = server.get(f"api/streams?name={name}&{query}", "PUT")
                assert status == 200, (status, body)
            for name, wanted in [("camera.yard?video&audio=opus", [("h264",), ("opus", 48_000, 2)]), ("camera.yard?video&audio=aac", [("h264",), ("aac", 48_000, 1)]),
                                 ("all", [("h264",), ("aac", 48_000, 1)]), ("url", [("h264",), ("pcm_alaw", 8_000, 1)])]:
                found = tracks(rtsp + name, *TCP)
                assert found == wanted, (name, found)
                assert abs(tone(rtsp + name, *TCP) - 440) < 8, name
            status, _, body = server.get(f"api/streams?name=turned&src={urllib.parse.quote('ffmpeg:src#video=h264#rotate=90', safe='')}", "PUT")
            assert status == 200, (status, body)
            status, _, body = server.get("api/stream.mp4?src=turned")
            assert status >= 400 and b"pictures are not transcoded yet" in body, (status, body)


@test
def what_is_not_possible_is_said():
    streams = "streams:\n  demo: \"demo:\"\n  small: \"transcode:demo#video=h264\"\n  loud: \"transcode:demo#audio=mp3\"\n  none: \"transcode:nothing#audio=opus\"\n"
    with Server(streams=streams) as server:
        for name, text in [("small", "video=h264 is not transcoded yet"), ("loud", "audio=mp3 is not encoded here"), ("none", "stream not found")]:
            status, _, body = server.get(f"api/stream.mp4?src={name}")
            assert status >= 400 and text in body.decode(), (name, status, body)
    # Switched off: what does not match is left out, as without it.
    with Server(streams="streams:\n  demo: \"demo:\"\n", extra="plugins:\n  transcode: off\n") as server:
        assert tracks(server.url("api/stream.mp4?src=demo&video=h264&audio=opus")) == [("h264",)]
        status, _, body = server.get("api/stream.mp4?src=demo&audio=opus")
        assert body == b"streams: codecs not matched: video:H264, audio:AAC => audio:OPUS\n", (status, body)


def offsets(url, *options):
    """Seconds from each flash to the beep beside it."""
    done = run("ffmpeg", "-nostdin", "-v", "info", *options, "-i", url, "-t", "4.5", "-filter_complex",
               "[0:v]signalstats,metadata=print:key=lavfi.signalstats.YAVG:file=-[v];[0:a]silencedetect=n=-20dB:d=0.2[a]", "-map", "[v]", "-map", "[a]", "-f", "null", "-", limit=60)
    beeps = [float(found) for found in re.findall(r"silence_end: ([0-9.]+)", done.stderr.decode())]
    flashes, last = [], 255.0
    for at, value in re.findall(r"pts_time:([0-9.]+)\nlavfi.signalstats.YAVG=([0-9.]+)", done.stdout.decode()):
        if float(value) > 120 >= last:
            flashes.append(float(at))
        last = float(value)
    near = [min((beep - flash for beep in beeps), key=abs) for flash in flashes if beeps]
    return [offset for offset in near if abs(offset) < 0.4]


@test
def sound_stays_beside_the_picture():
    """A flash and a beep every second: how far they lie apart is the same with and without a transcoder, within 20 ms."""
    peer("ffmpeg", "ffmpeg")
    with Server(streams="streams:\n  cam:\n") as server, tempfile.TemporaryDirectory() as folder:
        for codec, outputs in [(("aac", "-ar", "48000"), ("rtsp", "mp4")), (("pcm_alaw", "-ar", "8000", "-ac", "1"), ("rtsp",))]:
            publisher = subprocess.Popen(
                ["ffmpeg", "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "color=black:s=320x180:r=50,geq=lum='if(lt(mod(T,1),0.2),235,16)':cb=128:cr=128",
                 "-f", "lavfi", "-i", "aevalsrc='0.8*sin(2*PI*1000*t)*lt(mod(t,1),0.2)':s=48000", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-bf", "0", "-g", "50",
                 "-pix_fmt", "yuv420p", "-c:a", *codec, "-f", "rtsp", "-rtsp_transport", "tcp", f"rtsp://127.0.0.1:{server.rtsp}/cam"], stdin=subprocess.DEVNULL, cwd=folder)
            try:
                wait(lambda: server.json("api/streams?src=cam")["producers"], 15, "the publisher")
                time.sleep(1)
                rtsp = f"rtsp://127.0.0.1:{server.rtsp}/cam?video&audio="
                direct = offsets(rtsp + "copy", *TCP)
                for output in outputs:
                    url = rtsp + "opus" if output == "rtsp" else server.url("api/stream.mp4?src=cam&video=h264&audio=opus")
                    transcoded = offsets(url, *(TCP if output == "rtsp" else ()))
                    assert len(direct) > 1 and len(transcoded) > 1, (output, direct, transcoded)
                    middle = [sorted(found)[len(found) // 2] for found in (direct, transcoded)]
                    print(f"  {codec[0]} to opus by {output}: beeps {middle[0] * 1000:.1f} ms behind flashes, transcoded {middle[1] * 1000:.1f} ms", flush=True)
                    assert abs(middle[1] - middle[0]) < 0.02, (output, direct, transcoded)
            finally:
                publisher.kill()
                publisher.wait()
            wait(lambda: not server.json("api/streams?src=cam")["producers"], 15, "end of the publisher")


if __name__ == "__main__":
    main()
