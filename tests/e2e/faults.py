#!/usr/bin/env python3
"""Breaks plugins in every way that the fixtures know, while another stream plays through the same server.

Needs the fixtures beside the server (`cargo build -p patchbay-plugin-raw -p patchbay-plugin-fixture`, in PATCHBAY_FIXTURES or
target/debug). Each test prints a line; the last line is `N passed, N failed`.
"""
import concurrent.futures
import contextlib
import os
import pathlib
import shutil
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request

from run import BINARY, ROOT, Server, free_port, metrics, wait
from runner import main, test

FIXTURES = pathlib.Path(os.environ.get("PATCHBAY_FIXTURES", ROOT / "target/debug"))
STREAMS = "streams:\n  demo: \"demo:\"\n"


@contextlib.contextmanager
def prefix(*fixtures, shipped=("demo", "mp4")):
    """A folder with a copy of the server, shipped plugins and fixtures."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name in shipped:
            shutil.copy(library(BINARY.parent, name), folder)
        for name in fixtures:
            shutil.copy(library(FIXTURES, name), folder)
        yield pathlib.Path(shutil.copy(BINARY, folder))


def library(folder, name):
    return folder / f"libpatchbay_plugin_{name}.so"


@contextlib.contextmanager
def fault(text):
    """What the fixture `raw` is told to do, for servers that start meanwhile."""
    os.environ["PATCHBAY_RAW_FAULT"] = text
    try:
        yield
    finally:
        del os.environ["PATCHBAY_RAW_FAULT"]


class Viewer:
    """Plays `demo` and counts its bytes; the answer may not end. Its longest pause is a figure, which a busy machine moves."""

    def __init__(self, server):
        self.bytes, self.error, self.longest = 0, None, 0.0
        self.answer = urllib.request.urlopen(server.url("api/stream.mp4?src=demo"), timeout=60)
        self.thread = threading.Thread(target=self.play, daemon=True)
        self.thread.start()

    def play(self):
        last = time.monotonic()
        try:
            while part := self.answer.read1(1 << 16):
                now = time.monotonic()
                self.longest, last = max(self.longest, now - last), now
                self.bytes += len(part)
            self.error = "the answer has ended"
        except Exception as error:  # noqa: BLE001 (the main thread shows it)
            self.error = error

    def goes_on(self, more=30_000):
        """Waits for `more` bytes from now on."""
        goal = self.bytes + more
        wait(lambda: self.bytes >= goal or self.error, 60, f"{more} more bytes of demo")
        assert self.error is None, self.error


@contextlib.contextmanager
def playing(binary, streams="", extra=""):
    """A server with a viewer of `demo` that plays before, during and after."""
    with Server(binary=binary, streams=STREAMS + streams, extra=extra) as server:
        viewer = Viewer(server)
        viewer.goes_on()
        yield server, viewer
        viewer.goes_on()
        assert server.process.poll() is None, server.process.returncode
        print(f"  demo paused for {viewer.longest:.2f} s at most", flush=True)


def errors(server):
    return [line for line in server.text().splitlines() if line.split(" ")[1:2] == ["ERR"]]


def one_line(server, *words):
    """Waits for a line of level ERR or WRN with all words, and for nothing else of these levels about it."""
    found = []

    def look():
        found[:] = [line for line in server.text().splitlines() if all(word in line for word in words)]
        return found
    wait(look, 10, f"log line with {words}", server.process)
    assert len(found) == 1, found
    assert len(found[0]) < 500, found
    return found[0]


def ask(server, path):
    """Status and first bytes of an answer, or the whole text of a refusal."""
    try:
        with urllib.request.urlopen(server.url(path), timeout=20) as answer:
            return answer.status, answer.read(12)
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def state(server, name):
    return {plugin["name"]: plugin for plugin in server.json("api/plugins")}[name]


@test
def libraries_that_are_none_are_refused_with_one_line_each():
    with prefix("raw") as binary:
        folder = binary.parent
        whole = library(folder, "raw").read_bytes()
        abi = b"{\"abi\":\"1.0.0\""
        assert whole.count(abi) == 1, whole.count(abi)
        other = whole.replace(abi, abi.replace(b"1", b"2"))
        library(folder, "raw").write_bytes(other)
        library(folder, "cut").write_bytes(whole[:len(whole) // 2])
        library(folder, "head").write_bytes(whole[:64])
        library(folder, "empty").write_bytes(b"")
        library(folder, "random").write_bytes(os.urandom(100_000))
        library(folder, "renamed").write_bytes(whole)
        library(folder, "nothing").write_bytes(pathlib.Path(BINARY).read_bytes())
        library(folder, "folder").mkdir()
        reasons = {"raw": "ABI 2.0.0", "cut": "ELF", "head": "ELF", "empty": "ELF", "random": "ELF",
                   "renamed": "its manifest says", "nothing": "no Patchbay plugin", "folder": "not a regular file"}
        with playing(binary) as (server, _):
            for name, reason in reasons.items():
                line = one_line(server, f"libpatchbay_plugin_{name}.so")
                assert " ERR [plugins] " in line and reason in line, (name, line)
                assert state(server, f"libpatchbay_plugin_{name}.so")["state"] == "refused", name
            assert "raw" not in server.json("api/schemes")


@test
def a_library_that_cannot_be_linked_is_refused_when_it_is_needed():
    with prefix("raw") as binary:
        path = library(binary.parent, "raw")
        whole = path.read_bytes()
        # Both doors: that of abi_stable and that of C.
        for symbol in (b"_1as_0lib_1header_0root_bmodule_bloader", b"patchbay_plugin_v1"):
            whole = whole.replace(symbol, b"x" * len(symbol))
        path.write_bytes(whole)
        with playing(binary, "  raw: \"raw:\"\n") as (server, _):
            status, body = ask(server, "api/stream.mp4?src=raw&video=all")
            assert status == 500 and b"linker" in body, (status, body)
            one_line(server, " ERR [raw] ", "undefined symbol")
            ask(server, "api/stream.mp4?src=raw&video=all")
            one_line(server, " ERR [raw] ", "undefined symbol")


@test
def a_panic_in_start_refuses_the_plugin():
    with prefix("raw") as binary, fault("start:panic"), playing(binary, "  raw: \"raw:\"\n") as (server, _):
        status, body = ask(server, "api/stream.mp4?src=raw&video=all")
        assert status == 500 and b"plugin raw: it refuses to start" in body, (status, body)
        one_line(server, " ERR [raw] ", "panic in start", "raw was told to panic in start")
        one_line(server, " ERR [raw] ", "refuses to start (the callee panicked)")


def panic_in(call, asked):
    with prefix("raw", "fixture") as binary, fault(f"{call}:panic"):
        with playing(binary, "  raw: \"raw:\"\n  fixture: \"fixture:ok\"\n") as (server, _):
            asked(server)
            told = lambda: [line for line in errors(server) if f"panic in {call}" in line]
            wait(told, 10, f"panic in {call}", server.process)
            line = told()[0]
            assert " ERR [raw] " in line and f": raw was told to panic in {call} (" in line, line
            # The plugin itself is still of use, and so is every other.
            assert ask(server, "api/stream.fixture?src=fixture")[1].startswith(b"FIXO\0\0\0\x04\xff\xd8\xff\xd9")


@test
def a_panic_in_open_fails_one_session():
    def asked(server):
        status, body = ask(server, "api/stream.fixture?src=raw")
        assert status == 500 and b"plugin raw: the callee panicked" in body, (status, body)
    panic_in("open", asked)


@test
def a_panic_in_command_fails_one_session():
    panic_in("command", lambda server: ask_and_leave(server, "raw"))


@test
def a_panic_in_close_fails_one_session():
    panic_in("close", lambda server: ask_and_leave(server, "raw"))


def ask_and_leave(server, name):
    """Opens a stream, waits a moment for its first bytes, and goes."""
    with socket.create_connection(("127.0.0.1", server.http), timeout=20) as connection:
        connection.sendall(f"GET /api/stream.fixture?src={name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        connection.settimeout(2)
        with contextlib.suppress(TimeoutError):
            connection.recv(4096)


@test
def a_panic_in_stop_does_not_disturb_the_end():
    with prefix("raw", "fixture") as binary, fault("stop:panic"):
        with playing(binary, "  raw: \"raw:\"\n") as (server, _):
            ask_and_leave(server, "raw")
        # `Server` sends SIGTERM and waits.
        assert server.process.returncode == 0, server.process.returncode


def block_in(call, asked, seconds=1):
    with prefix("raw", "fixture") as binary, fault(f"{call}:block"):
        with playing(binary, "  raw: \"raw:\"\n  fixture: \"fixture:ok\"\n") as (server, viewer):
            before = viewer.bytes
            asked(server)
            # Who plays goes on while the call lasts; one of a second is too short to tell that from a busy machine.
            assert viewer.bytes > before or seconds < 5, f"nothing for {seconds} s"
            one_line(server, " ERR [raw] ", f"has not returned for {seconds} s")
            # Who asks from now on is told so.
            status, body = ask(server, "api/stream.fixture?src=raw")
            assert status == 500 and f"has not returned for {seconds} s".encode() in body, (status, body)
            assert state(server, "raw")["state"] == "failed", state(server, "raw")
            assert ask(server, "api/stream.fixture?src=fixture")[0] == 200
        assert server.process.returncode == 0, server.process.returncode


@test
def a_block_in_start_fails_the_plugin():
    block_in("start", lambda server: ask(server, "api/stream.fixture?src=raw"), seconds=5)


@test
def a_block_in_open_fails_the_plugin():
    def asked(server):
        status, body = ask(server, "api/stream.fixture?src=raw")
        assert status == 500 and b"has not returned for 1 s" in body, (status, body)
    block_in("open", asked)


@test
def a_block_in_command_fails_the_plugin():
    block_in("command", lambda server: ask_and_leave(server, "raw"))


@test
def a_block_in_stop_does_not_hold_the_end():
    with prefix("raw", "fixture") as binary, fault("stop:block"):
        with playing(binary, "  raw: \"raw:\"\n") as (server, _):
            ask_and_leave(server, "raw")
        # `Server` kills what does not end within a minute of its SIGTERM.
        assert server.process.returncode == 0, server.process.returncode


@contextlib.contextmanager
def elsewhere(name):
    """The fixture `name` in a folder that is not the server's; settings by which it runs in the server's process all the same."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(library(FIXTURES, name), folder)
        os.environ["PATCHBAY_PLUGINS"] = folder
        try:
            yield f"{name}:\n  isolation: in-process\n"
        finally:
            del os.environ["PATCHBAY_PLUGINS"]


@test
def a_library_whose_constructor_blocks_holds_nobody():
    with prefix("fixture") as binary, elsewhere("raw") as extra, fault("load:block"):
        with playing(binary, "  raw: \"raw:\"\n  fixture: \"fixture:ok\"\n", extra) as (server, viewer):
            asked = threading.Thread(target=ask, args=(server, "api/stream.fixture?src=raw"))
            asked.start()
            wait(lambda: state(server, "raw")["state"] == "starting", 5, "the library to be loaded", server.process)
            # Everything else is answered meanwhile, also by a plugin that is loaded now.
            assert ask(server, "api/stream.fixture?src=fixture")[0] == 200 and server.get("api/streams")[0] == 200
            assert state(server, "raw")["state"] == "starting", "others were answered when it was over"
            wait(lambda: state(server, "raw")["state"] != "starting", 15, "the end of the trial", server.process)
            asked.join(60)
            assert not asked.is_alive()
            one_line(server, " ERR [raw] ", "it has not loaded within 5 s")
            status, body = ask(server, "api/stream.fixture?src=raw")
            assert status == 500 and b"it has not loaded within 5 s" in body, (status, body)
            viewer.goes_on()
        assert server.process.returncode == 0, server.process.returncode


@test
def a_library_whose_constructor_ends_the_process_is_not_loaded():
    with prefix("fixture") as binary, elsewhere("raw") as extra, fault("load:abort"):
        with playing(binary, "  raw: \"raw:\"\n", extra) as (server, _):
            status, body = ask(server, "api/stream.fixture?src=raw")
            assert status == 500 and b"it ended the process (signal: 6" in body, (status, body)
    # One that is whole is loaded behind its trial.
    with prefix("fixture") as binary, elsewhere("raw") as extra:
        with playing(binary, "  raw: \"raw:\"\n", extra) as (server, _):
            ask_and_leave(server, "raw")
            found = state(server, "raw")
            assert (found["state"], found["isolation"]) == ("running", "in-process"), found


@test
def sources_of_the_sdk_that_misbehave_fail_alone():
    words = ["panic-open", "panic-task", "refuse-auth", "not-found", "garbage", "eof", "ok"]
    streams = "".join(f"  {word}: \"fixture:{word}\"\n  b-{word}: \"fixturebytes:{word}\"\n" for word in words)
    said = {"panic-open": b"panicked", "refuse-auth": b"login was refused", "not-found": b"no such camera"}
    with prefix("fixture") as binary, playing(binary, streams) as (server, viewer):
        # At once: a refusal takes as long as the host tries the source again.
        asked = [(word, name) for word in words for name in (word, f"b-{word}")]
        with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
            answers = pool.map(lambda one: ask(server, f"api/stream.fixture?src={one[1]}"), asked)
            for (word, name), (status, body) in zip(asked, answers):
                if word in said:
                    assert status == 500 and said[word] in body, (name, status, body)
                elif word != "garbage" and name != "b-panic-task":
                    assert status == 200 and body.startswith(b"FIXO"), (name, status, body)
        viewer.goes_on()


@test
def outputs_routes_and_servers_that_misbehave_fail_alone():
    port = free_port()
    extra = f"fixture:\n  listen: \"127.0.0.1:{port}\"\n"
    with prefix("fixture") as binary, playing(binary, "  ok: \"fixture:ok\"\n  pub:\n", extra) as (server, _):
        assert f"[fixture] listen addr=127.0.0.1:{port}" in server.text(), server.text()
        for word in ("panic-open", "panic-task", "not-found", "garbage"):
            ask_cut(server, f"api/stream.fixture?src=ok&behaviour={word}")
        assert ask(server, "api/stream.fixture?src=ok")[1].startswith(b"FIXO")
        assert server.get("api/fixture", "POST", b"abc")[::2] == (200, b"abc")
        ask_cut(server, "api/fixture?behaviour=garbage")
        for word in ("panic-open", "panic-task", "refuse-auth", "not-found"):
            assert ask_cut(server, f"api/fixture?behaviour={word}") != 200, word
        with socket.create_connection(("127.0.0.1", port), timeout=20) as publisher:
            publisher.sendall(b"publish pub ok\n")
            wait(lambda: (server.json("api/streams")["pub"]["producers"] or [{}])[0].get("state") == "live", 10, "publisher")
            with socket.create_connection(("127.0.0.1", port), timeout=20) as player:
                player.sendall(b"play pub\n")
                first = player.makefile("rb").read(8)
                assert first == b"\0\0\0\x04\xff\xd8\xff\xd9", first
        with socket.create_connection(("127.0.0.1", port), timeout=20) as publisher:
            publisher.sendall(b"publish pub garbage\n")
            ask_and_leave(server, "pub")


# Role, what is asked for, and whether an answer begins before the panic.
PANICS = [
    ("source", "api/stream.fixture?src=source-{}", True),
    ("transport", "api/stream.fixture?src=transport-{}", True),
    ("demuxer", "api/stream.fixture?src=demuxer-{}", True),
    ("output", "api/stream.fixture?src=ok&behaviour=panic-{}", False),
    ("routes", "api/fixture?behaviour=panic-{}", False),
]


@test
def a_panic_in_any_role_ends_one_session_and_is_one_line():
    streams = "  ok: \"fixture:ok\"\n"
    for at in ("open", "task"):
        streams += f"  source-{at}: \"fixture:panic-{at}\"\n  transport-{at}: \"fixturebytes:panic-{at}\"\n"
        streams += f"  demuxer-{at}: \"fixturebytes:panic-demuxer-{at}\"\n"
    with prefix("fixture") as binary, playing(binary, streams) as (server, viewer):
        assert ask(server, "api/stream.fixture?src=ok")[1].startswith(b"FIXO")
        for role, path, dialled in PANICS:
            for at in ("open", "task"):
                told = len(panics(server))
                ask_cut(server, path.format(at))
                wait(lambda: len(panics(server)) > told, 5, f"a line about the panic in {role} ({at})", server.process)
                # What is dialled is dialled again as long as somebody asks.
                assert dialled or len(panics(server)) == told + 1, panics(server)[told:]
                assert ask(server, "api/stream.fixture?src=ok")[1].startswith(b"FIXO"), (role, at)
        viewer.goes_on()
        for line in server.text().splitlines():
            assert line[2:3] == ":" and line.split(" ")[1] in ("INF", "WRN", "ERR", "DBG"), line
        back_to_the_viewer(server)
    for setting, lines in (("listen: panic-open", 1), ("listen: panic-task", 1), ("start: panic", 1)):
        extra = f"fixture:\n  {setting}\n"
        with prefix("fixture") as binary, playing(binary, "  ok: \"fixture:ok\"\n", extra) as (server, viewer):
            status, body = ask(server, "api/stream.fixture?src=ok")
            assert (status == 200) == (setting != "start: panic"), (setting, status, body)
            assert len(panics(server)) == lines, (setting, panics(server))
            viewer.goes_on()
            back_to_the_viewer(server)


def panics(server):
    return [line for line in server.text().splitlines() if " ERR [fixture] " in line and "panic in " in line and "the fixture was told to panic" in line]


def back_to_the_viewer(server):
    """Only the viewer of `demo` is left, with what it needs."""
    def left():
        values = metrics(server)
        return [values[f"patchbay_{name}"] for name in ("sources", "consumers", "mux_runs")]
    wait(lambda: left() == [1, 1, 1], 15, "sources, consumers and runs of one viewer", server.process)


def ask_cut(server, path):
    """Status of an answer that may break off."""
    with socket.create_connection(("127.0.0.1", server.http), timeout=20) as connection:
        connection.sendall(f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        connection.settimeout(3)
        with contextlib.suppress(TimeoutError, ConnectionError):
            head = connection.recv(64)
            return int(head.split(b" ")[1]) if head.startswith(b"HTTP/1.1 ") else 0
    return 0


if __name__ == "__main__":
    main()
