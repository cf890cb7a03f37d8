#!/usr/bin/env python3
"""`patchbay plugins check` on every shipped plugin, with something to play for each; and on fixtures, whose faults it must name."""
import concurrent.futures
import functools
import http.server
import os
import pathlib
import sys
import threading

from run import BINARY, ROOT, Camera, Server, clip, run
from talk import TalkCamera

FIXTURES = pathlib.Path(os.environ.get("PATCHBAY_FIXTURES", ROOT / "target/debug"))


def check(folder, name, *material):
    done = run(BINARY, "plugins", "check", folder / f"libpatchbay_plugin_{name}.so", *material, limit=180)
    return done.returncode, done.stdout.decode() + done.stderr.decode()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def recording(folder, port):
    """A recorded playlist with whole addresses; a web server on `port` has the segments."""
    run("ffmpeg", "-v", "error", "-i", clip("h264-aac.mp4"), "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0",
        "-hls_base_url", f"http://127.0.0.1:{port}/", folder / "recording.m3u8")
    return folder / "recording.m3u8"


def main():
    failed = 0
    camera, closed = Camera(), Camera("--auth", "digest")
    try:
        # WebRTC's usual port is for the plugin that is checked.
        with Server(extra="webrtc:\n  listen: \"\"\n") as server:
            web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=server.path))
            threading.Thread(target=web.serve_forever, daemon=True).start()
            fragmented = server.path / "clip.mp4"
            run("ffmpeg", "-v", "error", "-i", clip("h264-aac.mp4"), "-c", "copy", "-movflags", "frag_keyframe+empty_moov", fragmented)
            materials = {
                "demo": ["-url", "demo:"],
                "file": ["-url", f"file:{clip('h264-aac.mp4')}"],
                "http": ["-url", server.url("api/stream.mp4?src=demo")],
                "mp4": ["-input", fragmented],
                "mpegts": ["-input", clip("h264-aac.ts")],
                "rtsp": ["-url", f"rtsp://127.0.0.1:{camera.port}/cam", "-refused", f"rtsp://admin:no@127.0.0.1:{closed.port}/cam"],
            }
            materials["hls"] = ["-input", recording(server.path, web.server_address[1])]
            names = {path.name.removeprefix("libpatchbay_plugin_").removesuffix(".so") for path in BINARY.parent.glob("libpatchbay_plugin_*.so")}
            # Most of a check is waiting for what must not happen.
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                for code, text in pool.map(lambda name: check(BINARY.parent, name, *materials.get(name, [])), sorted(names)):
                    failed += code != 0
                    print(("ok " if code == 0 else "FAILED ") + text.strip().splitlines()[-1] + ("" if code == 0 else "\n" + text), flush=True)
        hears = "ok      source: hears what players say"
        with TalkCamera("--codecs", "PCMU/8000,PCMA/8000") as listener:
            code, text = check(BINARY.parent, "rtsp", "-url", listener.url("#backchannel=1"))
        good = code == 0 and hears in text
        failed += not good
        print(f"ok rtsp: {hears}" if good else f"FAILED rtsp with a camera that hears\n{text}", flush=True)
        code, text = check(BINARY.parent, "exec", "-url", "exec:cat#backchannel=1#audio=alaw/8000")
        good = code == 0 and "ok      transport: hears what players say" in text
        failed += not good
        print("ok exec: hears what players say" if good else f"FAILED exec with a program that hears\n{text}", flush=True)
        for name, material, rule in (("raw", [], "BROKEN  plugin: its runtime answers a ping"),
                                     ("fixture", ["-url", "fixture:garbage"], "BROKEN  source: units are valid"),
                                     ("fixture", ["-url", "fixture:deaf"], "BROKEN  source: hears what players say"),
                                     ("fixture", ["-url", "fixture:talk", "-refused", "fixture:refuse-auth"], hears)):
            code, text = check(FIXTURES, name, *material)
            good = code == rule.startswith("BROKEN") and rule in text
            failed += not good
            print((f"ok {name}: {rule}" if good else f"FAILED {name}\n{text}"), flush=True)
    finally:
        camera.stop()
        closed.stop()
    print(f"{failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
