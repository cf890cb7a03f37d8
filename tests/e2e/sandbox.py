#!/usr/bin/env python3
"""What a plugin in a process of its own may do: with nothing allowed, with what its manifest asks for, and on a system without Landlock.

Needs the fixture beside the server (`cargo build -p patchbay-plugin-fixture`, in PATCHBAY_FIXTURES or target/debug).
"""
import contextlib
import ctypes
import http.server
import os
import shutil
import struct
import subprocess

import tempfile
import threading
import urllib.parse

from faults import FIXTURES, library, prefix
from run import Server

LANDLOCK = 444  # landlock_create_ruleset
ENOSYS = 38


def without_landlock():
    """Makes the kernel say that it has no Landlock, to this process and its children: seccomp's BPF."""
    load, equal, allow = 0x20, 0x15, 0x7FFF0000
    lines = [(load, 0, 0, 0), (equal, 0, 1, LANDLOCK), (6, 0, 0, 0x50000 | ENOSYS), (6, 0, 0, allow)]
    code = b"".join(struct.pack("HBBI", *line) for line in lines)
    libc, filter_ = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(filter_))
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()


def fixture(server):
    return {plugin["name"]: plugin for plugin in server.json("api/plugins")}["fixture"]


def attempt(server, what):
    status, _, body = server.get("api/fixture?try=" + urllib.parse.quote(what))
    assert status == 200, (what, status, body)
    return body.decode().strip()


@contextlib.contextmanager
def web():
    """Somebody to connect to."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def outcomes(server, address, folder):
    """What of a list of attempts succeeds."""
    written = folder + "/written"
    attempts = {
        "read": "read:/etc/passwd", "list": f"list:{folder}", "write": f"write:{written}", "run": "run:/bin/true",
        "connect": f"connect:{address}", "listen": "listen:127.0.0.1:0", "signal": f"signal:{server.process.pid}",
        "server's file": f"read:{server.path / 'plugins.yaml'}", "server's environment": f"read:/proc/{server.process.pid}/environ",
        "name": "name:localhost", "null": "write:/dev/null", "zone": "read:/usr/share/zoneinfo/UTC", "udp": "udp:127.0.0.1:9",
        "device": "list:/dev", "secret": "variable:PATCHBAY_PASSWORD", "path": "variable:PATH",
    }
    found = {}
    for name, what in attempts.items():
        said = attempt(server, what)
        found[name] = said == "ok"
        assert found[name] or "PermissionDenied" in said, (what, said)
    with contextlib.suppress(FileNotFoundError):
        os.remove(written)
    return {name for name, done in found.items() if done}


ALWAYS = {"name", "null", "udp", "path"} | ({"zone"} if os.path.exists("/usr/share/zoneinfo/UTC") else set())
SETTINGS = [
    # (allow, what it gets of what it asks for, what then succeeds)
    ("", ["net.tcp", "listen"], {"connect", "listen"}),
    ("allow: []", [], set()),
    ("allow: [files]", ["files"], {"read", "list", "server's file"}),
    ("allow: [files.write]", ["files.write"], {"read", "list", "write", "server's file"}),
    ("allow: [exec]", ["exec"], {"read", "list", "server's file", "run"}),
    ("allow: [devices]", ["devices"], {"device"}),
    ("allow: [net.tcp, files]", ["net.tcp", "files"], {"connect", "read", "list", "server's file"}),
]
EVERYTHING = {"read", "list", "write", "run", "connect", "listen", "server's file", "device", "signal"}


def check(binary, setting, landlock, got, succeeds, preexec, address, folder):
    extra = "fixture:\n  isolation: process\n  listen: \"\"\n" + (f"  {setting}\n" if setting else "")
    with Server(binary=binary, extra=extra, preexec=preexec) as server:
        done = outcomes(server, address, folder)
        found = fixture(server)["sandbox"]
        assert done - {"server's environment"} == succeeds | ALWAYS, (setting, sorted(done ^ (succeeds | ALWAYS)))
        assert ("server's environment" in done) == (not landlock), done
        assert bool(found["landlock"]) == landlock and found["granted"] == got, found
        assert found["no_new_privs"] and found["memory"] == 512 << 20 and found["memory_by"] in ("rlimit", "cgroup"), found
        assert found["unknown"] == ["moon"], found
        complaint = [line for line in server.text().splitlines() if " WRN [fixture] " in line and "does not get it" in line]
        assert bool(complaint) == bool(found.get("refused")) and len(complaint) < 2, complaint
        unheld = [line for line in server.text().splitlines() if "are not restricted by Landlock" in line]
        assert len(unheld) == (not landlock and setting != "allow: [all]"), unheld
        listed = subprocess.run([binary, "plugins", "list"], cwd=server.path, capture_output=True, text=True, timeout=20, preexec_fn=preexec).stdout
        line = [line for line in listed.splitlines() if "in a process of its own" in line]
        assert len(line) == 1 and (f"Landlock {found['landlock']}," if landlock else "no Landlock") in line[0], listed
        print(f"ok {setting or 'no setting'}{'' if landlock else ', no Landlock'}: {line[0].strip()}", flush=True)


def main():
    with tempfile.TemporaryDirectory() as plugins, tempfile.TemporaryDirectory() as folder, web() as address, prefix() as binary:
        shutil.copy(library(FIXTURES, "fixture"), plugins)
        os.environ["PATCHBAY_PLUGINS"] = plugins
        os.environ["PATCHBAY_PASSWORD"] = "secret"
        if ctypes.CDLL(None).syscall(LANDLOCK, None, 0, 1) > 0:
            for setting, got, succeeds in SETTINGS:
                check(binary, setting, True, got, succeeds, None, address, folder)
        else:
            print("skipped: this kernel has no Landlock")
        asked = ["net.tcp", "listen", "files", "files.write", "devices", "exec"]
        check(binary, "allow: [all]", False, asked, EVERYTHING, None, address, folder)
        check(binary, "", False, ["net.tcp", "listen"], EVERYTHING, without_landlock, address, folder)
    print("passed")


if __name__ == "__main__":
    main()
