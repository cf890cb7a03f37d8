#!/usr/bin/env python3
"""The web page as a newcomer uses it, in Chromium: add a camera, see, hear, save a picture, switch a plugin, break and mend the
configuration, read why a camera is offline; then every page, light and dark, narrow and wide, with axe-core; then what happens to
somebody who watches. PATCHBAY_SCREENSHOTS names a folder for pictures of all of them."""
import json
import os
import re
import socket
import subprocess
import threading

from run import BINARY, HERE, Camera, Server, free_port, peer, run
from runner import main, test

WEBRTC = "webrtc:\n  listen: 127.0.0.1:%d\n  ice_servers: []\n  filters: {loopback: true}\n"


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


def script(name, *words):
    done = run("node", HERE / name, *words, limit=400)
    print(done.stdout.decode().rstrip())
    assert done.returncode == 0, done.stderr.decode()


@test
def a_newcomer_sees_every_page_and_every_way():
    peer("chromium", "chromium")
    peer("node", "nodejs")
    camera, porch = Camera("--auth", "digest"), Camera("--backchannel")
    # What MJPEG is for, and a stream that somebody publishes to.
    streams = """streams:
  demo: "demo:"
  jpeg: "exec:ffmpeg -v error -re -f lavfi -i testsrc=size=320x240:rate=10 -c:v mjpeg -f mjpeg -"
  studio:
  porch: rtsp://127.0.0.1:%d/cam#backchannel=1
""" % porch.port
    try:
        with Server(streams=streams, extra=WEBRTC % free_port()) as server:
            status, headers, _ = server.get("")
            assert status == 200 and "trusted-types" in headers["Content-Security-Policy"], headers
            assert b"<script>" not in server.get("")[2]
            script("page-newcomer.mjs", server.url(""), f"127.0.0.1:{camera.port}/cam", f"127.0.0.1:{free_port()}/cam",
                   os.environ.get("PATCHBAY_SCREENSHOTS", ""))
            script("page-modes.mjs", server.url(""))
            heard = re.findall(r"^TALK.*", porch.text(), re.M)
            assert heard, f"the camera heard nothing: {porch.text()}"
            settings_are_checked(server)
            return f"the camera heard: {heard[-1]}"
    finally:
        camera.stop()
        porch.stop()


@test
def cameras_and_servers_come_and_go_under_the_page():
    peer("chromium", "chromium")
    peer("node", "nodejs")
    cameras = {"door": Camera(), "porch": Camera("--backchannel")}
    # Takes connections and says nothing.
    silent = socket.create_server(("127.0.0.1", 0))
    streams = "streams:\n  studio:\n" + "".join(f"  demo{at}: \"demo:?{at}\"\n  silent{at}: rtsp://127.0.0.1:{silent.getsockname()[1]}/{at}\n" for at in range(8))
    streams += "".join(f"  {name}: rtsp://127.0.0.1:{camera.port}/cam#backchannel=1\n" for name, camera in cameras.items())
    try:
        with Server(streams=streams, extra=WEBRTC % free_port()) as server:
            def plug():
                cameras["door"] = Camera(port=cameras["door"].port)

            def stop():
                server.process.terminate()
                server.process.wait(20)

            def start():
                server.process = subprocess.Popen([BINARY], cwd=server.path, stdout=server.log, stderr=subprocess.STDOUT)
            deeds = {"pull the camera out": lambda: cameras["door"].stop(), "plug the camera in": plug, "stop the server": stop, "start the server": start}
            with subprocess.Popen(["node", HERE / "page-life.mjs", server.url("")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
                limit = threading.Timer(900, node.kill)
                limit.start()
                for line in node.stdout:
                    if line.startswith("DO "):
                        deeds[line[3:].strip()]()
                        print("done", file=node.stdin, flush=True)
                    else:
                        print(line.rstrip(), flush=True)
                node.wait()
                limit.cancel()
            assert node.returncode == 0, node.returncode
    finally:
        silent.close()
        for camera in cameras.values():
            camera.stop()


if __name__ == "__main__":
    main()
