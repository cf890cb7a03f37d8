#!/usr/bin/env python3
"""What somebody does who writes a plugin: makes one, builds it, drops it into a plugin folder, sees its picture in the browser and
runs `plugins check` on it.

`kit.py [TEST...]`. PATCHBAY_SCREENSHOTS names a folder for screenshots.
"""
import contextlib
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time

from run import BINARY, HERE, ROOT, Server, clip, metrics, peer, run, wait, within
from runner import main, test

# What the test builds goes where cargo puts the rest, so that nothing is compiled twice.
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PYTHON = ROOT / "host/templates/python"


def done(*command, limit=120, **more):
    """Runs a program that must succeed; its output."""
    result = run(*command, limit=limit, **more)
    assert result.returncode == 0, f"{command}:\n{result.stdout.decode()}{result.stderr.decode()}"
    return result.stdout.decode() + result.stderr.decode()


@contextlib.contextmanager
def installed(*files, streams, extra=""):
    """A server with these files in a plugin folder that is not Patchbay's."""
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            shutil.copy(file, folder)
        os.environ["PATCHBAY_PLUGINS"] = folder
        try:
            server = Server(streams=streams, extra=extra)
        finally:
            del os.environ["PATCHBAY_PLUGINS"]
        with server:
            yield server


def plugin(server, name):
    return {plugin["name"]: plugin for plugin in server.json("api/plugins")}[name]


def seen_in_chromium(server, path, name):
    """Opens a page; its picture must be there and move."""
    peer("chromium", "chromium")
    peer("node", "nodejs")
    folder = os.environ.get("PATCHBAY_SCREENSHOTS")
    shot = pathlib.Path(folder) / f"{name}.png" if folder else ""
    print("  chromium: " + done("node", HERE / "kit.mjs", server.url(path), shot, limit=90).strip(), flush=True)


def added_by_the_form(server, name, scheme, **fields):
    """Adds a stream by the form that the page makes from the plugin's schema; the source as it stands in the form."""
    peer("chromium", "chromium")
    peer("node", "nodejs")
    source = done("node", HERE / "kit-form.mjs", server.url(""), name, scheme, json.dumps(fields), limit=120).strip()
    print(f"  added by the form: {source}", flush=True)
    return source


def checked(file, url, *more, plays="source: plays"):
    """`plugins check` on a file; nothing may be broken, and its source must have been played."""
    text = done(BINARY, "plugins", "check", file, "-url", url, *more, limit=180)
    assert f"ok      {plays}" in text and "skipped" not in text.replace("skipped source: tells a refused login", ""), text
    print("  check: " + text.strip().splitlines()[-1], flush=True)
    return text


class AcmeCamera:
    """The camera of the crate that `plugins new` writes: see wire.rs there."""

    def __init__(self):
        peer("ffmpeg", "ffmpeg")
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "clip.h264"
            done("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-t", "4", "-c:v", "libx264", "-preset",
                 "veryfast", "-threads", "2", "-pix_fmt", "yuv420p", "-x264-params", "aud=1:keyint=25:bframes=0:scenecut=0", path)
            self.pictures = [b"\0\0\0\1\x09" + part for part in path.read_bytes().split(b"\0\0\0\1\x09")[1:]]
        assert len(self.pictures) == 100, len(self.pictures)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.play, args=(connection,), daemon=True).start()

    def play(self, connection):
        with contextlib.suppress(OSError, struct.error), connection:
            kind, length, _ = struct.unpack(">IIQ", connection.recv(16, socket.MSG_WAITALL))
            login = connection.recv(length, socket.MSG_WAITALL)
            right = kind == 1 and login == b"user:right"
            connection.sendall(struct.pack(">IIQ", 2, 1, 0) + bytes([not right]))
            begin, number = time.monotonic(), 0
            while right:
                picture = self.pictures[number % len(self.pictures)]
                connection.sendall(struct.pack(">IIQ", 3, len(picture), number * 40_000) + picture)
                number += 1
                time.sleep(max(0, begin + number * 0.04 - time.monotonic()))


def new(name, folder, language):
    done(BINARY, "plugins", "new", name, "--lang", language, "--dir", folder)
    assert run(BINARY, "plugins", "new", name, "--dir", folder).returncode == 1, "sources were overwritten"


@test
def a_new_rust_plugin_plays():
    peer("cargo", "cargo")
    with tempfile.TemporaryDirectory() as folder:
        new("acme", folder, "rust")
        crate = pathlib.Path(folder) / "patchbay-plugin-acme"
        # As published crates would be found: by version, here taken from this checkout. The versions of all others are ours.
        (crate / ".cargo").mkdir()
        (crate / ".cargo/config.toml").write_text(
            f'[patch.crates-io]\npatchbay-sdk = {{ path = "{ROOT}/sdk" }}\npatchbay-testkit = {{ path = "{ROOT}/sdk/testkit" }}\n')
        shutil.copy(ROOT / "Cargo.lock", crate)
        build = {**os.environ, "CARGO_TARGET_DIR": str(TARGET)}
        done("cargo", "fmt", "--check", cwd=crate)
        text = done("cargo", "test", "--offline", cwd=crate, env=build, limit=600)
        assert "test keeps_the_rules ... ok" in text, text
        done("cargo", "build", "--offline", cwd=crate, env=build, limit=600)
        # Away from where the server may lie: what is beside it counts as shipped.
        library = pathlib.Path(shutil.move(TARGET / "debug/libpatchbay_plugin_acme.so", folder))
        camera = AcmeCamera()
        url = f"acme://user:right@{camera.address}/"
        text = checked(library, url, "-refused", f"acme://user:wrong@{camera.address}/")
        assert "ok      source: hears what players say" in text, text
        with installed(library, streams=f"streams:\n  door: {url}\n  shut: acme://user:wrong@{camera.address}/\n") as server:
            seen_in_chromium(server, "stream.html?src=door", "rust")
            found = plugin(server, "acme")
            assert found["isolation"] == "process" and not found["shipped"] and found["pid"], found
            status, _, body = server.get("api/stream.mp4?src=shut")
            assert status == 500 and b"login" in body, (status, body)
            source = added_by_the_form(server, "shed", "acme", address=camera.address, username="user", password="right")
            assert source == f"acme://user:***@{camera.address}", source
            assert "audio, sendonly, PCMA/8000/1" in server.json("api/streams")["shed"]["producers"][0]["medias"], server.json("api/streams")
            assert "right@" not in server.text() and "user:wrong" not in server.text(), "a secret is in the log"


def hashes(source, count, *options):
    """Hashes of so many pictures, decoded: every decoder must take them without a word."""
    text = done("ffmpeg", "-v", "error", *options, "-i", source, "-map", "0:v", "-frames:v", count, "-f", "framemd5", "-")
    found = [line.split(",")[5].strip() for line in text.splitlines() if not line.startswith("#")]
    assert len(found) == count, text
    return found


@test
def a_new_c_plugin_plays():
    peer("cc", "gcc")
    peer("make", "make")
    with tempfile.TemporaryDirectory() as folder:
        new("acme", folder, "c")
        done("make", "-C", f"{folder}/patchbay-plugin-acme", "CFLAGS=-Werror -pedantic")
        library = f"{folder}/patchbay-plugin-acme/libpatchbay_plugin_acme.so"
        checked(library, "acme:")
        for setting, isolation in (("", "process"), ("plugins:\n  acme: {isolation: in-process}\n", "in-process")):
            with installed(library, streams="streams:\n  bars: \"acme:\"\n", extra=setting) as server:
                assert len(set(hashes(server.url("api/stream.mp4?src=bars"), 20))) > 15
                found = plugin(server, "acme")
                assert found["isolation"] == isolation and found["restarts"] == 0 and found["state"] == "running", found
                if not setting:
                    seen_in_chromium(server, "stream.html?src=bars", "c")
                    assert added_by_the_form(server, "more", "acme") == "acme:"


@test
def a_c_output_reads_streams():
    with tempfile.TemporaryDirectory() as folder:
        library = pathlib.Path(folder) / "libpatchbay_plugin_cannexb.so"
        done("cc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-I",
             ROOT / "plugin-api/include", ROOT / "tests/kit/c/cannexb.c", "-o", library, "-lpthread")
        text = done(BINARY, "plugins", "check", library)
        assert "ok      output cannexb: muxes" in text and "skipped" not in text, text
        path = clip("h264-long.mp4")
        streams = f"streams:\n  clip: file:{path}\n  demo: \"demo:\"\n"
        for setting, isolation in (("", "process"), ("plugins:\n  cannexb: {isolation: in-process}\n", "in-process")):
            with installed(library, streams=streams, extra=setting) as server:
                whole = hashes(path, 1000)
                part = hashes(server.url("api/stream.cannexb?src=clip"), 100, "-f", "h264")
                assert within(part, whole), "pictures are missing, or others than they were"
                # Two at once share a run, and one that leaves takes nothing from the other.
                one = subprocess.Popen(["curl", "-s", "-N", "-o", os.devnull, server.url("api/stream.cannexb?src=demo")])
                wait(lambda: metrics(server)["patchbay_consumers"] == 1, 10, "a viewer", server.process)
                assert len(hashes(server.url("api/stream.cannexb?src=demo"), 60, "-f", "h264")) == 60
                assert metrics(server)["patchbay_mux_runs"] <= 2, metrics(server)
                one.kill()
                one.wait()
                found = plugin(server, "cannexb")
                assert found["isolation"] == isolation and found["restarts"] == 0 and found["state"] == "running", found
                assert server.get("api/stream.cannexb")[0] == 400
                assert server.get("api/stream.cannexb?src=nope")[0] == 404
            print(f"  {isolation}: pictures are the file's", flush=True)


@test
def a_plugin_of_abi_1_0_is_served():
    """The kept plugin of that version, with the header of that version: every rule, its pictures, what it reads, what it keeps."""
    kept = ROOT / "tests/abi/1.0"
    with tempfile.TemporaryDirectory() as folder:
        library = pathlib.Path(folder) / "libpatchbay_plugin_old.so"
        done("cc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-I", kept,
             kept / "old.c", "-o", library)
        checked(library, "old:")
        for setting, isolation in (("", "process"), ("plugins:\n  old: {isolation: in-process}\n", "in-process")):
            with installed(library, streams="streams:\n  old: \"old:\"\n  demo: \"demo:\"\n", extra=setting) as server:
                status, _, picture = server.get("api/frame.jpeg?src=old")
                assert status == 200 and picture[:2] == b"\xff\xd8", (status, picture[:100])
                # It waits for nothing: what it reads has to be there.
                assert server.get("api/frame.jpeg?src=demo")[0] == 200
                status, _, units = server.get("api/stream.old?src=demo")
                assert status == 200 and len(units) > 1000, (status, len(units), units[:20])
                assert [server.get("api/old")[2] for _ in range(3)] == [b"1", b"2", b"3"]
                found = plugin(server, "old")
                assert found["isolation"] == isolation and found["restarts"] == 0 and found["state"] == "running", found
                if found.get("pid"):
                    os.kill(found["pid"], 9)
                    wait(lambda: server.get("api/old")[2] == b"4", 10, "what it has kept", server.process)
            print(f"  {isolation}: a picture of {len(picture)} bytes, {len(units)} bytes of units", flush=True)


@test
def a_new_python_program_plays():
    streams = "streams:\n  jpeg: \"acme:\"\n  avc: \"acme:h264\"\n"
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        new("acme", folder, "python")
        program = pathlib.Path(folder) / "patchbay-plugin-acme/patchbay-plugin-acme"
        checked(program, "acme:")
        checked(program, "acme:h264")
        server = stack.enter_context(installed(program, program.with_suffix(".json"), streams=streams))
        seen_in_chromium(server, "api/stream.mjpeg?src=jpeg", "python-jpeg")
        seen_in_chromium(server, "stream.html?src=avc", "python-h264")
        assert added_by_the_form(server, "more", "acme", address="h264") == "acme:h264"
        found = plugin(server, "acme")
        assert found["isolation"] == "process" and not found["shipped"] and found["restarts"] == 0, found
        # It has what it was given and nothing of the host's: no terminal, two pipes for its words, the socket.
        open_files = {int(fd): os.readlink(f"/proc/{found['pid']}/fd/{fd}") for fd in os.listdir(f"/proc/{found['pid']}/fd")}
        assert sorted(open_files)[:3] == [0, 1, 2] and len(open_files) == 4 and open_files[0] == "/dev/null", open_files
        assert list(open_files.values())[3].startswith("socket:"), open_files
        print(f"  sandbox: {json.dumps(found.get('sandbox'))}")
        # JPEG over RTSP, to a player that stays while the program dies and is started again.
        player = subprocess.Popen(["ffmpeg", "-v", "error", "-rtsp_transport", "tcp", "-i", f"rtsp://127.0.0.1:{server.rtsp}/jpeg", "-frames:v", "60",
                                   "-f", "framemd5", "-"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait(lambda: (server.json("api/streams")["jpeg"]["consumers"] or [{}])[0].get("bytes_send", 0) > 5000, 10, "bytes to the player", server.process)
        os.kill(found["pid"], 9)
        wait(lambda: plugin(server, "acme").get("pid") not in (None, found["pid"]), 10, "a new process", server.process)
        out, words = player.communicate(timeout=60)
        pictures = [line for line in out.decode().splitlines() if not line.startswith("#")]
        assert player.returncode == 0 and len(pictures) == 60, (len(pictures), words.decode())
        assert plugin(server, "acme")["restarts"] == 1, plugin(server, "acme")
        pid = plugin(server, "acme")["pid"]
        server.process.kill()
        server.process.wait()
        wait(lambda: not pathlib.Path(f"/proc/{pid}").exists() or ") Z " in pathlib.Path(f"/proc/{pid}/stat").read_text(), 5, "the program to end with its host")


# A program of other roles: `pyall://host:port` brings the bytes of a TCP connection, `api/pyall` answers requests, and it publishes
# the pictures of `pybars` by itself. Its second part; the first is the protocol, and pictures, of that.
ALL = """
class Bytes(threading.Thread):
    def __init__(self, host, id, address):
        super().__init__(daemon=True)
        self.host, self.id, self.address = host, id, address
        self.credit, self.room, self.closing = 256 << 10, threading.Condition(), False

    def run(self):
        name, _, port = self.address.rpartition(":")
        try:
            peer = socket.create_connection((name, int(port)), 5)
        except (OSError, ValueError) as error:
            return self.host.emit(self.id, EVENT_ENDED, {"class": "not_found", "message": f"{self.address}: {error}"})
        self.host.emit(self.id, 6, {"mime": "video/mp2t", "live": True})
        peer.settimeout(0.2)
        while not self.closing:
            with self.room:
                if self.credit <= 0:
                    self.room.wait(0.2)
                    continue
            try:
                data = peer.recv(1 << 16)
            except TimeoutError:
                continue
            if not data:
                break
            with self.room:
                self.credit -= len(data)
            self.host.send(36, self.id, payload=bytes(24) + data)
        self.host.emit(self.id, EVENT_ENDED, {"class": "eof", "message": "the end"})


def main():
    host, sessions, published = Host(), {}, 1 << 63
    hello = json.loads(host.receive()[4])
    host.send(READY)
    starts = int(bytes(hello["state"].get("starts", b"0"))) + 1
    host.send(39, y=6, payload=b"starts" + str(starts).encode())
    beside = open(os.path.abspath(__file__) + ".d/words").read()
    while True:
        kind, id, x, _, payload = host.receive()
        if kind == PING:
            host.send(PONG, id)
        elif kind == COMMAND and x == COMMAND_PING:
            host.send(EMIT, id, EVENT_PONG, payload=payload)
        elif kind == OPEN and x not in (3, 5, 6):
            host.fail(id, UNSUPPORTED)
        elif kind == OPEN:
            try:
                request = json.loads(payload)
                if x == 3:
                    sessions[id] = Bytes(host, id, request["url"].split("//")[1].split("#")[0].strip("/"))
                    sessions[id].start()
                elif x == 6:
                    answer = {"query": request["query"], "starts": starts, "beside": beside, "settings": hello["settings"]}
                    host.emit(id, 10, {"status": 200, "headers": [["Content-Type", "application/json"]]})
                    host.send(36, id, payload=bytes(24) + json.dumps(answer).encode())
                    host.emit(id, EVENT_ENDED, {"class": "eof"})
                else:
                    sessions[id] = None
                    host.emit(id, 16, {"protocol": "pyall", "addr": "nowhere"})
                    host.emit(published, 14, {"stream": "pushed"})
            except (ValueError, TypeError, KeyError, IndexError, AttributeError):
                host.fail(id, INVALID)
        elif kind == COMMAND and x == 13:
            sessions[id] = Session(host, id, "pybars:h264")
            sessions[id].start()
        elif kind == COMMAND and x == COMMAND_DEMAND and id in sessions:
            (sessions[id].wanted.set if json.loads(payload)["tracks"] else sessions[id].wanted.clear)()
        elif kind == COMMAND and x == 4 and id in sessions:
            with sessions[id].room:
                sessions[id].credit += json.loads(payload)["bytes"]
                sessions[id].room.notify()
        elif kind == CLOSE and id in sessions:
            session = sessions.pop(id)
            if isinstance(session, Bytes):
                session.closing = True
            elif session:
                session.closing.set()
            else:
                host.emit(id, EVENT_ENDED, {"class": "eof"})
        elif kind == STOP:
            return


main()
"""


class Feed:
    """Sends a transport stream to whoever connects, in real time, or as fast as it is read."""

    def __init__(self, data, rate):
        self.data, self.rate, self.listener = data, rate, socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.play, args=(connection,), daemon=True).start()

    def play(self, connection):
        step = 188 * 20
        with contextlib.suppress(OSError), connection:
            while True:
                for at in range(0, len(self.data), step):
                    connection.sendall(self.data[at:at + step])
                    time.sleep(step / self.rate if self.rate else 0)


@test
def a_program_of_other_roles():
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "patchbay-plugin-pyall"
        example = (PYTHON / "patchbay-plugin-pybars").read_text()
        program.write_text(example.split("def main():")[0] + ALL)
        program.chmod(0o755)
        manifest = json.loads((PYTHON / "patchbay-plugin-pybars.json").read_text())
        manifest |= {"name": "pyall", "roles": ["transport", "routes", "server"], "routes": [{"path": "api/pyall"}], "capabilities": ["net.tcp"],
                     "schemes": [{"name": "pyall", "role": "transport", "api": True}], "listen": {"default": "nowhere"}}
        program.with_suffix(".json").write_text(json.dumps(manifest))
        program.with_suffix(".d").mkdir()
        (program.with_suffix(".d") / "words").write_text("beside it")
        data = clip("h264-aac.ts").read_bytes()
        feed, flood = Feed(data, len(data) / 10), Feed(data, 0)
        checked(program, f"pyall://{flood.address}/", plays="transport: waits for a slow reader")
        os.environ["PATCHBAY_PLUGINS"] = folder
        try:
            server = Server(streams=f"streams:\n  ts: pyall://{feed.address}/\n  pushed:\n", extra="pyall:\n  colour: blue\n")
        finally:
            del os.environ["PATCHBAY_PLUGINS"]
        with server:
            seen_in_chromium(server, "stream.html?src=ts", "python-transport")
            answer = server.json("api/pyall?a=b")
            assert (answer["query"], answer["starts"], answer["beside"]) == ("a=b", 1, "beside it") and "blue" in answer["settings"], answer
            seen_in_chromium(server, "stream.html?src=pushed", "python-publisher")
            # What it has kept is there when it is started again.
            os.kill(plugin(server, "pyall")["pid"], 9)
            wait(lambda: server.get("api/pyall")[0] == 200 and server.json("api/pyall")["starts"] == 2, 10, "the second start", server.process)


@test
def a_program_comes_changes_and_goes_while_the_server_runs():
    source = PYTHON / "patchbay-plugin-pybars"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PATCHBAY_PLUGINS"] = folder
        try:
            server = Server(streams="streams:\n  bars: \"pybars:h264\"\n  later: \"pybars:h264#late\"\n")
        finally:
            del os.environ["PATCHBAY_PLUGINS"]
        with server:
            found = lambda: {plugin["name"]: plugin for plugin in server.json("api/plugins")}.get("pybars", {})
            assert "pybars" not in server.json("api/schemes")
            shutil.copy(source, folder)
            shutil.copy(source.with_suffix(".json"), folder)
            wait(lambda: "pybars" in server.json("api/schemes"), 5, "the scheme", server.process)
            assert server.get("api/frame.mp4?src=bars")[0] == 200
            before = found()["pid"]
            manifest = pathlib.Path(folder) / "patchbay-plugin-pybars.json"
            changed = manifest.with_suffix(".new")
            changed.write_text(manifest.read_text().replace("0.1.0", "0.2.0"))
            changed.rename(manifest)
            wait(lambda: found().get("version") == "0.2.0", 5, "the new version", server.process)
            assert server.get("api/frame.mp4?src=bars")[0] == 200
            assert found()["pid"] != before and found()["restarts"] == 0, (before, found())
            manifest.unlink()
            wait(lambda: "pybars" not in server.json("api/schemes"), 5, "the end of the scheme", server.process)
            # What runs goes on; nothing new is dialled.
            status, _, body = server.get("api/frame.mp4?src=later")
            assert status == 500 and b"unsupported scheme" in body, (status, body)


# What the host does not forgive: what a program does once it has started, and the host's words for it.
WRONGS = {
    "silent": ("while True: time.sleep(1)", "it has not answered for 2 s"),
    "garbage": ("host.socket.sendall(os.urandom(4096)); time.sleep(99)", "a frame that breaks the protocol"),
    "toolong": ("host.socket.sendall(HEADER.pack(2 << 20, EMIT, 0, 0, 0, 0)); time.sleep(99)", "a frame that breaks the protocol"),
    "unknown": ("[host.send(999) for _ in range(30)]; time.sleep(99)", "it breaks the protocol (a frame of no kind)"),
    "again": ("[host.send(44) for _ in range(30)]; time.sleep(99)", "it breaks the protocol (a frame of no kind)"),
    "units": ("[host.send(PUSH, 1, payload=bytes(100)) for _ in range(30_000)]; time.sleep(99)", "it floods the host with units"),
    "closed": ("host.socket.shutdown(2); time.sleep(99)", "it closed its socket"),
    "gone": ("os._exit(7)", "exit status: 7"),
}


@test
def programs_that_do_wrong_are_ended_with_a_reason():
    example = (PYTHON / "patchbay-plugin-pybars").read_text().split("# ---- Pictures")[0]
    manifest = json.loads((PYTHON / "patchbay-plugin-pybars.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, (wrong, _) in WRONGS.items():
            path = pathlib.Path(folder) / f"patchbay-plugin-{name}"
            path.write_text(f"{example}\nhost = Host()\nhost.receive()\nhost.send(READY)\n{wrong}\n")
            path.chmod(0o755)
            path.with_suffix(".json").write_text(json.dumps({**manifest, "name": name, "schemes": [{"name": name, "role": "source", "api": True}]}))
            files += [path, path.with_suffix(".json")]
        streams = "streams:\n  demo: \"demo:\"\n" + "".join(f"  {name}: \"{name}:\"\n" for name in WRONGS)
        with installed(*files, streams=streams) as server:
            viewer = subprocess.Popen(["curl", "-s", "-o", os.devnull, server.url("api/stream.mp4?src=demo")])
            viewers = [subprocess.Popen(["curl", "-s", "-o", os.devnull, server.url(f"api/stream.mp4?src={name}")]) for name in WRONGS]
            try:
                for name, (_, reason) in WRONGS.items():
                    wait(lambda: any(f"ERR [{name}]" in line and reason in line for line in server.text().splitlines()), 15, f"{name}: {reason}", server.process)
                assert viewer.poll() is None, "the player of another stream was cut off"
            finally:
                for one in (viewer, *viewers):
                    one.kill()
                    one.wait()


@test
def programs_are_refused_with_a_reason():
    source = PYTHON / "patchbay-plugin-pybars"
    manifest = json.loads(source.with_suffix(".json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        def write(name, mode=0o755, text=None, **changes):
            path = pathlib.Path(folder) / f"patchbay-plugin-{name}"
            path.write_text(text if text is not None else source.read_text())
            path.chmod(mode)
            path.with_suffix(".json").write_text(json.dumps({**manifest, "name": name, **changes}))
            return [path, path.with_suffix(".json")]

        files = [*write("mode", 0o644), *write("old", abi="1.0.0-draft.4"), *write("role", roles=["output"]),
                 *write("lost", text="#!/nowhere/python\n", schemes=[{"name": "lost", "role": "source"}]),
                 *write("mute", text="#!/bin/sh\nexit 3\n", schemes=[{"name": "mute", "role": "source"}])]
        (pathlib.Path(folder) / "patchbay-plugin-alone").write_text("no manifest: not looked at")
        with installed(*files, streams="streams:\n  lost: \"lost:\"\n  mute: \"mute:\"\n") as server:
            reasons = {plugin["name"]: plugin.get("why", "") for plugin in server.json("api/plugins") if plugin["state"] == "refused"}
            for name, reason in (("mode", "chmod +x"), ("old", "draft.4"), ("role", "output")):
                assert reason in reasons[f"patchbay-plugin-{name}"], reasons
            assert not any("alone" in name for name in reasons), reasons
            for name, reason in (("lost", b"cannot be run"), ("mute", b"exit status: 3")):
                status, _, body = server.get(f"api/stream.mp4?src={name}")
                assert status == 500 and reason in body, (status, body)


if __name__ == "__main__":
    main()
