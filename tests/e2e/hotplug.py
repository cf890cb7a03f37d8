#!/usr/bin/env python3
"""Plugins come, change and go, and plugins.yaml is edited, while others watch: `hotplug.py [ROUNDS]` (5 when not given).

Each round: a plugin is dropped in, replaced, switched off and on (API and file), plugins.yaml is broken and mended, streams are added,
changed and removed, the plugin is removed. Players of streams that none of it concerns read every packet themselves: none may end, no frame may
be missing. Needs the fixture beside the server (`cargo build -p patchbay-plugin-fixture`, in PATCHBAY_FIXTURES or target/debug).
"""
import collections
import http.client
import json
import os
import shutil
import socket
import struct
import sys
import threading
import time

from faults import FIXTURES, library, prefix
from isolation import state
from outages import RtspPlayer
from run import BINARY, Server, metrics, wait

STEP = 3600  # the demo camera: 25 pictures a second at 90 kHz
SLOWEST = collections.defaultdict(float)


class Mp4Player(threading.Thread):
    """Plays `stream.mp4`; keeps (first time, pictures) of each fragment with video."""

    def __init__(self, server, name):
        super().__init__(daemon=True)
        self.connection = socket.create_connection(("127.0.0.1", server.http), timeout=60)
        self.connection.sendall(f"GET /api/stream.mp4?src={name}&video HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        self.fragments, self.ended = [], None
        self.start()

    def run(self):
        stream = self.connection.makefile("rb")
        status = stream.readline()
        while stream.readline().strip():
            pass
        if b" 200 " not in status:
            self.ended = status
            return
        try:
            while True:
                size, kind = struct.unpack(">I4s", stream.read(8))
                body = stream.read(size - 8)
                if kind == b"moof":
                    time_at, count_at = body.index(b"tfdt") + 8, body.index(b"trun") + 8
                    self.fragments.append((struct.unpack(">Q", body[time_at:time_at + 8])[0], struct.unpack(">I", body[count_at:count_at + 4])[0]))
        except (OSError, struct.error) as error:
            self.ended = error

    def count(self):
        return sum(count for _, count in self.fragments)

    def missing(self):
        live = self.fragments[2:]
        return sum(abs((then + count * STEP) - now) > STEP // 2 for (then, count), (now, _) in zip(live, live[1:]))


class PacketPlayer(RtspPlayer):
    """Plays over RTSP; counts pictures and holes between them."""

    def count(self):
        return len({stamp for _, stamp in list(self.packets)})

    def missing(self):
        stamps = list(dict.fromkeys(stamp for _, stamp in list(self.packets)))
        # The history of the join has times of its own.
        first = next(at for at, (a, b) in enumerate(zip(stamps, stamps[1:])) if b - a == STEP)
        return sum((b - a) % (1 << 32) != STEP for a, b in zip(stamps[first:], stamps[first + 1:]))


class BytesPlayer(threading.Thread):
    """Reads an answer to its end."""

    def __init__(self, server, path):
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection("127.0.0.1", server.http, timeout=60)
        self.connection.request("GET", f"/{path}")
        self.answer = self.connection.getresponse()
        self.got, self.over = 0, False
        self.start()

    def run(self):
        try:
            while data := self.answer.read1(1 << 16):
                self.got += len(data)
        except (OSError, http.client.HTTPException):
            pass
        self.over = True

    def goes_on(self, what):
        mark = self.got
        soon(lambda: self.got > mark or self.over, f"pictures after {what}", 5)
        assert not self.over, f"the player has ended after {what}"

    def close(self):
        self.connection.sock.shutdown(socket.SHUT_RDWR)


def soon(condition, what, limit=1.0):
    """Waits; the slowest of each kind is reported."""
    began = time.monotonic()
    wait(condition, limit, what)
    SLOWEST[what] = max(SLOWEST[what], time.monotonic() - began)


def plugins(server):
    return {plugin["name"]: plugin for plugin in server.json("api/plugins")}


def plugin_is(server, name, wanted):
    return plugins(server).get(name, {}).get("state") in wanted


class File:
    """plugins.yaml, edited as an editor does: a new file in the old one's place, or the old one rewritten."""

    def __init__(self, server):
        self.path, self.server = server.path / "plugins.yaml", server
        self.in_place = False

    def edit(self, change):
        text = change(self.path.read_text())
        self.in_place = not self.in_place
        if self.in_place:
            # It is empty for a while: that is no edit.
            with self.path.open("w") as file:
                time.sleep(0.4)
                file.write(text)
        else:
            new = self.path.with_suffix(".new")
            new.write_text(text)
            new.rename(self.path)


def put(source, target, in_place):
    """Copies a plugin file: over the old one, or beside it and renamed."""
    target.parent.mkdir(exist_ok=True)
    if in_place:
        shutil.copyfile(source, target)
        return
    new = target.with_suffix(".part")
    shutil.copyfile(source, new)
    new.rename(target)


def one_round(server, file, turn):
    target = server.path / "plugins/libpatchbay_plugin_fixture.so"
    put(library(FIXTURES, "fixture"), target, turn % 2)
    soon(lambda: plugin_is(server, "fixture", ("ready", "running")), "a dropped plugin is there")
    player = BytesPlayer(server, "api/stream.fixture?src=fix")
    player.goes_on("a plugin was added")

    was = plugins(server)["fixture"]["pid"]
    put(library(FIXTURES, "fixture"), target, (turn + 1) % 2)
    soon(lambda: plugins(server)["fixture"].get("pid") not in (None, was), "a replaced plugin has another process", 3)
    player.goes_on("its plugin was replaced")

    (server.path / "part.so").write_bytes(target.read_bytes()[:5000])
    put(server.path / "part.so", target, False)
    soon(lambda: any(p.get("state") == "refused" and "stays in use" in p["why"] for p in server.json("api/plugins")), "a broken plugin file is refused")
    player.goes_on("its plugin's file was broken")
    put(library(FIXTURES, "fixture"), target, False)
    soon(lambda: not any(p.get("state") == "refused" for p in server.json("api/plugins")), "a mended plugin file is taken")

    status, _, body = server.get("api/plugins/fixture", "POST", b'{"enabled": false}')
    assert status == 200 and json.loads(body)["state"] == "off", (status, body)
    soon(lambda: player.over, "its players end when a plugin is switched off")
    assert "fixture: off" in file.path.read_text() or "enabled: off" in file.path.read_text(), file.path.read_text()
    file.edit(lambda text: text.replace("  fixture: off\n", "  fixture: on\n").replace("enabled: off", "enabled: on"))
    soon(lambda: plugin_is(server, "fixture", ("ready", "running")), "a plugin is switched on in the file")
    player = BytesPlayer(server, "api/stream.fixture?src=fix")
    player.goes_on("a plugin was switched on")

    good = file.path.read_text()
    before = server.text().count("the edit is not taken over")
    file.edit(lambda text: text + "  bad: [\n")
    soon(lambda: server.text().count("the edit is not taken over") > before, "a broken file is refused")
    line = good.count("\n") + 1
    error = server.json("api")["config_error"]
    assert f"plugins.yaml:{line}" in error or f"plugins.yaml:{line + 1}" in error, error
    player.goes_on("plugins.yaml was broken")
    file.edit(lambda _: good.replace("streams:\n", f"streams:\n  new{turn}: \"demo:?new\"\n").replace("demo:?changed", "demo:?changed2") if turn % 2
              else good.replace("demo:?changed2", "demo:?changed"))
    soon(lambda: "config_error" not in server.json("api"), "a mended file is taken")
    if turn % 2:
        soon(lambda: f"new{turn}" in server.json("api/streams"), "an added stream is there")
        changed = Mp4Player(server, "changed")
        soon(lambda: changed.count() > 3, "a changed stream plays", 5)
        file.edit(lambda text: text.replace(f"  new{turn}: \"demo:?new\"\n", "").replace("demo:?changed2", "demo:?changed"))
        soon(lambda: f"new{turn}" not in server.json("api/streams"), "a removed stream is gone")
        marks = changed.count()
        soon(lambda: changed.count() > marks + 10 or changed.ended, "a viewer of a changed stream goes on", 8)
        assert not changed.ended, changed.ended
        changed.connection.shutdown(socket.SHUT_RDWR)

    # A write by the API is no edit: nothing is restarted.
    pid = plugins(server)["fixture"].get("pid")
    lines = server.text().count("stream changed")
    assert server.get(f"api/streams?name=api&src=demo:?{turn}", "PUT")[0] == 200
    time.sleep(0.4)
    assert plugins(server)["fixture"].get("pid") == pid and server.text().count("stream changed") == lines

    target.unlink()
    soon(lambda: "fixture" not in plugins(server), "a removed plugin is gone")
    player.goes_on("its plugin was removed")
    player.close()
    soon(lambda: state(server)[3] == 0, "the removed plugin's process ends with its last player", 8)


def shipped(server, folder):
    """Plugins of this process are replaced: who watches goes on with the old code, who comes gets the new one."""
    before = [Mp4Player(server, "a"), PacketPlayer(server, "a")]
    soon(lambda: all(player.count() > 10 for player in before), "players of plugins that will be replaced", 8)
    lines = server.text().count("plugin replaced")
    for name in ("mp4", "rtsp", "demo"):
        put(library(BINARY.parent, name), folder / f"libpatchbay_plugin_{name}.so", False)
    soon(lambda: server.text().count("plugin replaced") == lines + 3, "plugins of this process are replaced")
    soon(lambda: server.text().count("[rtsp] listen") == 2, "the new server listens")
    after = [Mp4Player(server, "a"), PacketPlayer(server, "a")]
    marks = [player.count() for player in before]
    soon(lambda: all(player.count() > 10 for player in after), "players of replaced plugins", 8)
    soon(lambda: all(player.count() > mark + 10 for player, mark in zip(before, marks)), "players from before", 8)
    for player in before + after:
        assert not player.ended and not player.missing(), (player.ended, player.missing())
        player.connection.shutdown(socket.SHUT_RDWR)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    streams = "streams:\n  a: \"demo:?a\"\n  b: \"demo:?b\"\n  changed: \"demo:?changed\"\n  fix: fixture:ok\n"
    extra = "log:\n  demo: debug\n  mp4: debug\n  rtsp: debug\n  fixture: debug\nfixture:\n  restart: {backoff: 100ms..1s, breaker: off}\n"
    with prefix(shipped=("demo", "mp4", "mpegts", "rtsp")) as binary, Server(binary=binary, streams=streams, extra=extra) as server:
        file = File(server)
        assert server.get(f"api/streams?name=loop&src=rtsp://127.0.0.1:{server.rtsp}/b", "PUT")[0] == 200
        players = [Mp4Player(server, name) for name in ("a", "b", "loop")] + [PacketPlayer(server, name) for name in ("a", "b", "loop")]
        wait(lambda: all(player.count() > 20 for player in players), 20, "all players", server.process)
        began = time.monotonic()
        start = None
        for turn in range(rounds):
            if turn == min(2, rounds - 1):
                start = state(server)
            one_round(server, file, turn)
            ended = [player.ended for player in players if player.ended]
            assert not ended, ended
            if turn % 10 == 9:
                print(f"  after {turn + 1} rounds: missing {[player.missing() for player in players]}, {state(server)}", flush=True)
        seconds = time.monotonic() - began
        missing, counts = [player.missing() for player in players], [player.count() for player in players]
        for what, took in sorted(SLOWEST.items()):
            print(f"ok {what}: {took * 1000:.0f} ms at most")
        assert not any(missing), missing
        # Without a hole they only have to come as far: none stands still.
        wait(lambda: min(player.count() for player in players) > seconds * 24, 30, f"{seconds * 24:.0f} pictures at each")
        end = state(server)
        print(f"{rounds} rounds in {seconds:.0f} s: {sum(counts)} pictures at {len(players)} untouched players, {sum(missing)} missing, 0 ended; "
              f"descriptors, threads, resident kB, children {start} -> {end}")
        assert end[0] <= start[0] + 5 and end[1] <= start[1] + 3, (start, end)
        old = server.text().count("replaced plugin ended")
        shipped(server, binary.parent)
        for player in players:
            player.connection.shutdown(socket.SHUT_RDWR)
        soon(lambda: server.text().count("replaced plugin ended") >= old + 3, "the old code ends with its last players", 25)
        print("ok plugins of this process are replaced while they play")
        assert metrics(server)["patchbay_streams"] == 6
    print("1 passed, 0 failed")


if __name__ == "__main__":
    main()
