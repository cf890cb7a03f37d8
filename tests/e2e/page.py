#!/usr/bin/env python3
"""The web page as a newcomer uses it, in Chromium: add a camera, see, hear, save a picture, switch a plugin, break and mend the
configuration, read why a camera is offline; then every page, light and dark, narrow and wide, with axe-core. PATCHBAY_SCREENSHOTS
names a folder for pictures of all of them."""
import os
import sys

from run import HERE, Camera, Server, free_port, peer, run


def main():
    peer("chromium", "chromium")
    peer("node", "nodejs")
    camera = Camera("--auth", "digest")
    extra = f"webrtc:\n  listen: 127.0.0.1:{free_port()}\n  ice_servers: []\n  filters: {{loopback: true}}\n"
    try:
        with Server(extra=extra) as server:
            status, headers, _ = server.get("")
            assert status == 200 and "trusted-types" in headers["Content-Security-Policy"], headers
            assert b"<script>" not in server.get("")[2]
            done = run("node", HERE / "page-newcomer.mjs", server.url(""), f"127.0.0.1:{camera.port}/cam", f"127.0.0.1:{free_port()}/cam",
                       os.environ.get("PATCHBAY_SCREENSHOTS", ""), limit=400)
            print(done.stdout.decode().rstrip())
            assert done.returncode == 0, done.stderr.decode()
    except AssertionError as error:
        print(f"FAILED {error}")
        sys.exit(1)
    finally:
        camera.stop()
    print("ok the page")


if __name__ == "__main__":
    main()
