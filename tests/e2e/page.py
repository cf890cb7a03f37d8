#!/usr/bin/env python3
"""The web page as a newcomer uses it, in Chromium: add a camera, see, hear, save a picture, switch a plugin, break and mend the
configuration, read why a camera is offline; then every page, light and dark, narrow and wide, with axe-core. PATCHBAY_SCREENSHOTS
names a folder for pictures of all of them."""
import json
import os
import re
import sys

from run import HERE, Camera, Server, free_port, peer, run


def settings_are_checked(server):
    """What the page's editor asks before it saves."""
    text = "rtsp:\n  listn: ':8554'\n  pkt_size: many\nstreams:\n  odd: nothing:x\n"
    status, _, body = server.get("api/config?check", "POST", text.encode())
    found = {(one["severity"], one["line"]): one["message"] + (one["hint"] or "") for one in json.loads(body)}
    assert status == 200 and sorted(found) == [("warning", 2), ("warning", 3), ("warning", 5)], (status, found)
    assert "listen" in found["warning", 2] and "whole number" in found["warning", 3] and "nothing" in found["warning", 5], found
    plugins = {plugin["name"]: plugin for plugin in server.json("api/plugins")}
    assert plugins["rtsp"]["options"]["properties"]["password"]["writeOnly"], plugins["rtsp"]
    for name, plugin in plugins.items():
        assert plugin["options"]["type"] == "object" and len(plugin["description"]) > 20, plugin
        assert not plugin["sources"] or "source" in plugin["options"]["$defs"], f"{name} has sources and no schema of them"
    sections = server.json("schema.json")["properties"]
    assert sections["rtsp"]["properties"]["listen"]["default"] == ":8554" and "listen" in sections["api"]["properties"], sections
    camera = server.json("api/streams")["demo"]
    assert camera["producers"][0]["state"] == "idle" or camera["producers"][0]["since"] > 1.6e12, camera


def main():
    peer("chromium", "chromium")
    peer("node", "nodejs")
    camera, porch = Camera("--auth", "digest"), Camera("--backchannel")
    extra = f"webrtc:\n  listen: 127.0.0.1:{free_port()}\n  ice_servers: []\n  filters: {{loopback: true}}\n"
    # What MJPEG is for, and a stream that somebody publishes to.
    streams = """streams:
  demo: "demo:"
  jpeg: "exec:ffmpeg -v error -re -f lavfi -i testsrc=size=320x240:rate=10 -c:v mjpeg -f mjpeg -"
  studio:
  porch: rtsp://127.0.0.1:%d/cam#backchannel=1
""" % porch.port
    try:
        with Server(streams=streams, extra=extra) as server:
            status, headers, _ = server.get("")
            assert status == 200 and "trusted-types" in headers["Content-Security-Policy"], headers
            assert b"<script>" not in server.get("")[2]
            done = run("node", HERE / "page-newcomer.mjs", server.url(""), f"127.0.0.1:{camera.port}/cam", f"127.0.0.1:{free_port()}/cam",
                       os.environ.get("PATCHBAY_SCREENSHOTS", ""), limit=400)
            print(done.stdout.decode().rstrip())
            assert done.returncode == 0, done.stderr.decode()
            done = run("node", HERE / "page-modes.mjs", server.url(""), limit=400)
            print(done.stdout.decode().rstrip())
            assert done.returncode == 0, done.stderr.decode()
            heard = re.findall(r"^TALK.*", porch.text(), re.M)
            assert heard, f"the camera heard nothing: {porch.text()}"
            print(f"  the camera heard: {heard[-1]}")
            settings_are_checked(server)
    except AssertionError as error:
        print(f"FAILED {error}")
        sys.exit(1)
    finally:
        camera.stop()
        porch.stop()
    print("ok the page")


if __name__ == "__main__":
    main()
