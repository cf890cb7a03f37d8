#!/usr/bin/env python3
"""Firefox plays by every way it has. Not among what tests/run asks for: Debian's firefox-esr is needed."""
import tempfile

from run import HERE, Server, free_port, peer, run
from runner import main, test

STREAMS = """streams:
  demo: "demo:"
  jpeg: "exec:ffmpeg -v error -re -f lavfi -i testsrc=size=320x240:rate=10 -c:v mjpeg -f mjpeg -"
"""


@test
def firefox_plays():
    peer("firefox-esr", "firefox-esr")
    peer("node", "nodejs")
    extra = f"webrtc:\n  listen: \":{free_port()}\"\n  ice_servers: []\n  filters: {{loopback: true}}\n"
    with Server(streams=STREAMS, extra=extra) as server, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = run("node", HERE / "firefox.mjs", server.url(""), profile, limit=150)
        print(done.stdout.decode().rstrip())
        assert done.returncode == 0, done.stderr.decode()


if __name__ == "__main__":
    main()
