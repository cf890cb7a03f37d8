#!/usr/bin/env python3
"""The client library of Home Assistant (PyPI `go2rtc-client`, CPython 3.12 or newer) against the built server.

Started with any Python: it looks for one that is new enough, installs the library into a virtual environment under `target/`, and
starts itself anew in it. Without one the test is skipped with the reason.
"""
import glob
import os
import pathlib
import shutil
import subprocess
import sys

from run import ROOT, Server

PACKAGE = "go2rtc-client==0.4.0"


def interpreters():
    yield sys.executable
    for minor in (12, 13, 14):
        if (path := shutil.which(f"python3.{minor}")):
            yield path
    yield from sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python3")))


def new_enough(path):
    code = "import sys, venv; sys.exit(sys.version_info < (3, 12))"
    return subprocess.run([path, "-c", code], capture_output=True).returncode == 0


def environment():
    """Python of an environment that has the library, or None."""
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "go2rtc-client"
    python = folder / "bin/python"
    if not python.exists():
        base = next((path for path in interpreters() if new_enough(path)), None)
        if not base:
            return None
        print(f"installing {PACKAGE} from PyPI", flush=True)
        subprocess.run([base, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PACKAGE], check=True)
    return python


async def calls(server):
    import aiohttp
    from go2rtc_client import Go2RtcRestClient

    async with aiohttp.ClientSession() as session:
        client = Go2RtcRestClient(session, f"http://127.0.0.1:{server.http}")
        info = await client.application.get_info()
        assert str(info.version).startswith("1.9.14"), info
        print(f"ok get_info: {info}")
        print(f"ok validate_server_version: {await client.validate_server_version()}")
        schemes = await client.schemes.list()
        assert {"rtsp", "rtsps", "http"} <= schemes, schemes
        print(f"ok schemes.list: {sorted(schemes)}")
        streams = await client.streams.list()
        assert set(streams) == {"demo"}, streams
        await client.streams.add("one", "rtsp://127.0.0.1:1/cam")
        # As Home Assistant adds a camera.
        await client.streams.add("two", ["rtsp://u:p@127.0.0.1:1/cam", "ffmpeg:two#audio=opus#query=log_level=debug"])
        streams = await client.streams.list()
        assert [producer.url for producer in streams["one"].producers] == ["rtsp://127.0.0.1:1/cam"], streams
        assert len(streams["two"].producers) == 2, streams
        print(f"ok streams.add and list: {sorted(streams)}")
        # A stream that plays lists what its producer says of itself.
        async with session.get(f"http://127.0.0.1:{server.http}/api/frame.mp4?src=demo") as answer:
            assert answer.status == 200, answer.status
        streams = await client.streams.list()
        print(f"ok streams.list while it runs: {streams['demo']}")
        picture = await client.get_jpeg_snapshot("demo", 320, None)
        assert picture.startswith(b"\xff\xd8") and picture.endswith(b"\xff\xd9"), picture[:20]
        # A camera that is away: an empty answer is its "no picture".
        assert await client.get_jpeg_snapshot("one", None, None) == b""
        print(f"ok get_jpeg_snapshot: {len(picture)} bytes")


def main():
    if os.environ.get("PATCHBAY_IN_ENVIRONMENT"):
        import asyncio
        with Server() as server:
            asyncio.run(calls(server))
        print("6 passed, 0 failed")
        return
    python = environment()
    if not python:
        print(f"skipped: {PACKAGE} needs Python 3.12 or newer, and there is none")
        return
    sys.exit(subprocess.run([python, __file__], env={**os.environ, "PATCHBAY_IN_ENVIRONMENT": "1"}).returncode)


if __name__ == "__main__":
    main()
