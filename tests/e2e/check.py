#!/usr/bin/env python3
"""`patchbay plugins check` on every shipped plugin, with something to play for each; and on fixtures, whose faults it must name."""
import os
import pathlib
import sys

from run import BINARY, ROOT, Camera, Server, clip, run

FIXTURES = pathlib.Path(os.environ.get("PATCHBAY_FIXTURES", ROOT / "target/debug"))


def check(folder, name, *material):
    done = run(BINARY, "plugins", "check", folder / f"libpatchbay_plugin_{name}.so", *material, limit=180)
    return done.returncode, done.stdout.decode() + done.stderr.decode()


def main():
    failed = 0
    camera, closed = Camera(), Camera("--auth", "digest")
    try:
        with Server() as server:
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
            # The demo stream of a moment ago, as a recording with whole addresses.
            media = "api/" + server.get("api/stream.m3u8?src=demo")[2].decode().splitlines()[-1]
            lines = server.get(media)[2].decode().splitlines()
            recording = server.path / "recording.m3u8"
            recording.write_text("\n".join(server.url("api/hls/" + line) if line.startswith("segment") else line for line in lines) + "\n#EXT-X-ENDLIST\n")
            materials["hls"] = ["-input", recording]
            names = {path.name.removeprefix("libpatchbay_plugin_").removesuffix(".so") for path in BINARY.parent.glob("libpatchbay_plugin_*.so")}
            for name in sorted(names):
                code, text = check(BINARY.parent, name, *materials.get(name, []))
                failed += code != 0
                print(("ok " if code == 0 else "FAILED ") + text.strip().splitlines()[-1] + ("" if code == 0 else "\n" + text), flush=True)
        for name, material, rule in (("raw", [], "BROKEN  plugin: its runtime answers a ping"),
                                     ("fixture", ["-url", "fixture:garbage"], "BROKEN  source: units are valid")):
            code, text = check(FIXTURES, name, *material)
            good = code == 1 and rule in text
            failed += not good
            print((f"ok {name}: {rule}" if good else f"FAILED {name}\n{text}"), flush=True)
    finally:
        camera.stop()
        closed.stop()
    print(f"{failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
