#!/usr/bin/env python3
"""One plugin in a process of its own goes wrong in every way, while 50 streams of five plugins play through the same server.

`isolation.py [FAULTS]`: after one fault of each kind, FAULTS more at random (40 when not given): nothing may stay behind.
Needs the fixture beside the server (`cargo build -p patchbay-plugin-fixture`, in PATCHBAY_FIXTURES or target/debug).
"""
import contextlib
import os
import pathlib
import random
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.request

from faults import FIXTURES, library, prefix
from run import Server, clip, metrics, wait

VICTIM = "  isolation: process\n  restart: {backoff: 100ms..300ms, breaker: off}\n  limits: {memory: 256M}\n"
FAULTS = ["segv", "abort", "loop", "overflow", "exit", "allocate", "flood-units", "flood-events", "garbage", "close", "stop"]


class Players(threading.Thread):
    """Plays many streams over HTTP; the largest pause and the end of each."""

    def __init__(self, server, paths):
        super().__init__(daemon=True)
        self.poll = select.epoll()
        self.sockets, self.last, self.pause, self.bytes, self.ended = {}, {}, {}, {}, {}
        for path in paths:
            connection = socket.create_connection(("127.0.0.1", server.http), timeout=20)
            connection.sendall(f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            connection.setblocking(False)
            fd = connection.fileno()
            self.sockets[fd] = (path, connection)
            self.bytes[path], self.pause[path], self.last[path] = 0, 0.0, None
            self.poll.register(fd, select.EPOLLIN)
        self.start()

    def run(self):
        while True:
            for fd, _ in self.poll.poll(1):
                path, connection = self.sockets[fd]
                try:
                    data = connection.recv(1 << 18)
                except OSError as error:
                    data, self.ended[path] = b"", error
                now = time.monotonic()
                if not data:
                    self.ended.setdefault(path, "end")
                    self.poll.unregister(fd)
                    continue
                if self.last[path]:
                    self.pause[path] = max(self.pause[path], now - self.last[path])
                self.last[path] = now
                self.bytes[path] += len(data)

    def playing(self):
        return all(count > 1000 for count in self.bytes.values())

    def largest(self):
        """The largest pause since the last call."""
        largest = max(self.pause.values())
        self.pause = dict.fromkeys(self.pause, 0.0)
        return largest


def victim(server):
    return {plugin["name"]: plugin for plugin in server.json("api/plugins")}["fixture"]


def state(server):
    """Descriptors, threads, own resident kB of the host (without the rings, which are still filling), and its children."""
    folder = f"/proc/{server.process.pid}"
    status = dict(line.split(":", 1) for line in open(f"{folder}/status").read().splitlines())
    children = []
    for task in os.listdir(f"{folder}/task"):
        with contextlib.suppress(OSError):
            children += open(f"{folder}/task/{task}/children").read().split()
    return len(os.listdir(f"{folder}/fd")), int(status["Threads"]), int(status["RssAnon"].split()[0]), len(children)


def settled(server):
    """The most of each over 4 s: files close and open as they start again."""
    samples = []
    for _ in range(20):
        samples.append(state(server))
        time.sleep(0.2)
    return tuple(max(column) for column in zip(*samples))


def cause(server, fault):
    """Does it, and waits until the process has gone."""
    pid = victim(server)["pid"]
    if fault == "stop":
        os.kill(pid, signal.SIGSTOP)
    else:
        threading.Thread(target=lambda: contextlib.suppress(Exception).__enter__() or ask(server, fault), daemon=True).start()
    began = time.monotonic()
    wait(lambda: victim(server).get("pid") not in (pid, None), 15, f"a new process after {fault}", server.process)
    return time.monotonic() - began


def ask(server, fault):
    try:
        server.get(f"api/fixture?fault={fault}")
    except OSError:
        pass


def third_party():
    """A plugin from a folder that is not Patchbay's runs in a process of its own, unless it is trusted."""
    with tempfile.TemporaryDirectory() as folder, prefix() as binary:
        shutil.copy(library(FIXTURES, "fixture"), folder)
        os.environ["PATCHBAY_PLUGINS"] = folder
        try:
            for setting, isolation in (("", "process"), ("fixture:\n  isolation: in-process\n", "in-process")):
                streams = "streams:\n  demo: \"demo:\"\n  delegated: fixture:delegate\n"
                with Server(binary=binary, streams=streams, extra=setting) as server:
                    assert server.get("api/fixture", "POST", b"abc")[::2] == (200, b"abc")
                    found = victim(server)
                    assert found["isolation"] == isolation and ("pid" in found) == (isolation == "process") and not found["shipped"], found
                    if "pid" in found:
                        name, first = (pathlib.Path(f"/proc/{found['pid']}/{file}").read_bytes() for file in ("comm", "cmdline"))
                        assert (name, first) == (b"pb-fixture\n", b"pb-fixture\0runner\0"), (name, first)
                    with socket.create_server(("127.0.0.1", 0)) as to:
                        to.settimeout(10)
                        sink = f"fixturesink://127.0.0.1:{to.getsockname()[1]}"
                        assert server.get(f"api/streams?src=demo&dst={sink}", "POST")[0] == 200
                        for _ in range(2):
                            # Cut off, it begins again.
                            connection, _ = to.accept()
                            with connection:
                                connection.settimeout(10)
                                size = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
                                assert 10 < size < 100_000 and len(connection.recv(size, socket.MSG_WAITALL)) == size, size
                    # A source that another plugin's service feeds, here its own; more than a window of messages goes both ways.
                    with urllib.request.urlopen(server.url("api/stream.fixture?src=delegated"), timeout=20) as stream:
                        for _ in range(40):
                            assert stream.read(100), "a picture"
                    (source,) = server.json("api/streams?src=delegated")["producers"]
                    assert source["state"] == "live" and "error" not in source, source
                    assert [receiver["id"] % 64 for receiver in source["receivers"]] == [32], source
                    wait(lambda: not server.json("api/streams?src=delegated")["consumers"], 10, "end of the viewer")
                    before = metrics(server)["patchbay_sessions"]
                    # The source lingers 5 s; then both ends of its call are gone.
                    wait(lambda: metrics(server)["patchbay_sessions"] <= before - 3, 20, "end of the call with its source")
                    print(f"ok a third-party plugin with {setting.split() or 'no settings'}: {isolation}", flush=True)
        finally:
            del os.environ["PATCHBAY_PLUGINS"]


def main():
    third_party()
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    mp4, ts = clip("h264-aac.mp4"), clip("h264-aac.ts")
    streams, others, files, victims = "streams:\n", [], [], []
    for number in range(10):
        own = [shutil.copy(path, path.with_stem(f"{path.stem}-{number}")) for path in (mp4, ts)]
        streams += f"  demo{number}: demo:?{number}\n  file{number}: file:{own[0]}\n  ts{number}: file:{own[1]}\n"
        streams += f"  fixture{number}: fixture:ok?{number}\n"
        others += [f"api/stream.mp4?src=demo{number}", f"api/stream.ts?src=demo{number}"]
        files += [f"api/stream.mp4?src=file{number}", f"api/stream.ts?src=ts{number}"]
        victims.append(f"api/stream.fixture?src=fixture{number}")
    random.seed(1)
    failed = 0
    with prefix("fixture", shipped=("demo", "file", "http", "mp4", "mpegts", "rtsp")) as binary:
        with Server(binary=binary, streams=streams, extra="fixture:\n" + VICTIM) as server:
            for number in range(10):
                assert server.get(f"api/streams?name=loop{number}&src=rtsp://127.0.0.1:{server.rtsp}/demo{number}", "PUT")[0] == 200
                others.append(f"api/stream.mp4?src=loop{number}")
            # A file starts again at its end, after a pause of its own: its players must only stay.
            healthy, looped, broken = Players(server, others), Players(server, files), Players(server, victims)
            wait(lambda: healthy.playing() and looped.playing() and all(broken.bytes.values()), 30, "all players", server.process)
            healthy.largest()
            for fault in FAULTS:
                took = cause(server, fault)
                marks = dict(broken.bytes)
                wait(lambda: all(broken.bytes[path] > marks[path] or path in broken.ended for path in victims), 15, "the victim's pictures")
                pause, gone = healthy.largest(), {**healthy.ended, **looped.ended, **broken.ended}
                good = not gone and server.process.poll() is None
                failed += not good
                why = [line for line in server.text().splitlines() if " ERR [fixture] " in line][-1].split("ERR [fixture] ")[1]
                print(f"{'ok' if good else 'FAILED'} {fault}: new process after {took:.2f} s, others paused {pause * 1000:.0f} ms at most; {why}", flush=True)
                assert not gone, gone
            for number in range(many):
                if number == many // 2:
                    # The first half fills what is kept for reuse: heaps, buffers of the log.
                    start = settled(server)
                cause(server, random.choice(["segv", "abort", "exit", "overflow", "garbage", "close"]))
                if number % 50 == 49:
                    print(f"  after {number + 1}: {state(server)}", flush=True)
            print(f"others paused {healthy.largest() * 1000:.0f} ms at most over {many} more; {victim(server)['restarts']} restarts")
            assert not healthy.ended and not looped.ended and not broken.ended, (healthy.ended, looped.ended, broken.ended)
            wait(lambda: state(server)[3] == start[3], 10, "one child")
            end = settled(server)
            print(f"descriptors, threads, resident kB, children: {start} after half of them, {end} behind them")
            assert end[0] <= start[0] + 5 and end[1] <= start[1] + 3 and end[2] < start[2] + 24_000, (start, end)
            assert metrics(server)["patchbay_sources"] == 50, metrics(server)["patchbay_sources"]
            child = victim(server)["pid"]
            server.process.kill()
            server.process.wait()
            wait(lambda: not os.path.exists(f"/proc/{child}") or open(f"/proc/{child}/stat").read().split(")")[1].split()[0] == "Z", 5, "the child to die with its host")
            print("ok the child dies with a host that is killed")
    print(f"{len(FAULTS) + 1 - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
