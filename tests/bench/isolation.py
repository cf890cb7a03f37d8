#!/usr/bin/env python3
"""What a process of its own costs: the same streams with plugins in the server's process and in processes of their own.

`isolation.py [--streams 10] [--seconds 15] [--repeat 3]`. Builds nothing: needs `cargo build --release` and
`cargo build --release -p patchbay-plugin-fixture`. Each stream has 25 pictures of 20 kB a second (4 Mbit/s) and two viewers,
MP4 over HTTP and RTSP over TCP. Each picture carries the time of its push; a viewer, in another process, compares it with the time at which
it has read that. CPU is user and system time of the server and its children, memory their share of pages (PSS). Turns alternate, so that
the rows of one run can be compared.
"""
import argparse
import os
import pathlib
import select
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]
from faults import prefix  # noqa: E402
from run import Server, metrics, wait  # noqa: E402
from viewers import cpu  # noqa: E402
import viewers as clients  # noqa: E402

MARK, DIGITS = b"PBSTAMP0", 16
SHIPPED = ("mp4", "rtsp")
MODES = [
    # (what is measured, source, plugins in processes of their own)
    ("a source's plugin alone: all in the server", "fixture", ()),
    ("a source's plugin alone: source isolated", "fixture", ("fixture",)),
    ("a source's plugin alone: source, mp4, rtsp isolated", "fixture", ("fixture", "mp4", "rtsp")),
    ("RTSP cameras: all in the server", "rtsp", ()),
    ("RTSP cameras: rtsp isolated", "rtsp", ("rtsp",)),
    ("RTSP cameras: rtsp, mp4 isolated", "rtsp", ("rtsp", "mp4")),
]


def tree(pid):
    """The process and its children."""
    found = [pid]
    for task in os.listdir(f"/proc/{pid}/task"):
        for child in open(f"/proc/{pid}/task/{task}/children").read().split():
            found += tree(int(child))
    return found


def share(pid):
    """MB of the pages that are its own, and its part of those that it shares."""
    lines = dict(line.split(":", 1) for line in open(f"/proc/{pid}/smaps_rollup").read().splitlines()[1:])
    return int(lines["Pss"].split()[0]) / 1000


def viewer():
    """The viewers' own process: `--client HTTP RTSP STREAMS`; prints READY, then on each line of input what it has seen since the last."""
    http, rtsp, streams = (int(word) for word in sys.argv[2:5])
    connections, poll = {}, select.epoll()
    for number in range(streams):
        for kind, connection in (("mp4", mp4(http, number)), ("rtsp", play(rtsp, number))):
            connection.setblocking(False)
            connections[connection.fileno()] = [kind, connection, b""]
            poll.register(connection, select.EPOLLIN)
    poll.register(0, select.EPOLLIN)
    print("READY", flush=True)
    seen = {"mp4": [], "rtsp": []}
    while True:
        for fd, _ in poll.poll():
            if fd == 0:
                if not sys.stdin.readline():
                    return
                print(" ".join(f"{kind}:{','.join(str(value) for value in values)}" for kind, values in seen.items()), flush=True)
                seen = {"mp4": [], "rtsp": []}
                continue
            kind, connection, rest = connections[fd]
            try:
                data = connection.recv(1 << 18)
            except BlockingIOError:
                continue
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            if not data:
                raise SystemExit(f"a viewer of {kind} was sent away")
            data, at = rest + data, 0
            while (found := data.find(MARK, at)) >= 0 and found + len(MARK) + DIGITS <= len(data):
                at = found + len(MARK) + DIGITS
                seen[kind].append((now - int(data[found + len(MARK):at], 16)) // 1000)
            # A mark may go on in the next part.
            connections[fd][2] = data[max(at, len(data) - len(MARK) - DIGITS):]


def mp4(port, number):
    connection = clients.socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(f"GET /api/stream.mp4?src=s{number} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


def play(port, number):
    return clients.rtsp(port, f"s{number}")


class Viewers:
    def __init__(self, server, streams):
        arguments = [sys.executable, __file__, "--client", str(server.http), str(server.rtsp), str(streams)]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "READY\n"

    def seen(self):
        """us from push to socket, by kind."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        words = (word.split(":") for word in self.process.stdout.readline().split())
        return {kind: [int(value) for value in values.split(",") if value] for kind, values in words}

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def measure(binary, source, isolated, streams, seconds, camera):
    names = "streams:\n"
    for number in range(streams):
        url = f"fixture:stamps?{number}" if source == "fixture" else f"rtsp://127.0.0.1:{camera}/s{number}"
        names += f"  s{number}: \"{url}\"\n"
    extra = "plugins:\n" + "".join(f"  {name}: {{isolation: process}}\n" for name in isolated) if isolated else ""
    with Server(binary=binary, streams=names, extra=extra) as server:
        watching = Viewers(server, streams)
        wait(lambda: metrics(server)["patchbay_consumers"] == 2 * streams, 30, "all viewers", server.process)
        wait(lambda: all(len(values) > 10 * streams for values in watching.seen().values()) or time.sleep(1), 30, "pictures", server.process)
        processes = tree(server.process.pid)
        assert len(processes) == 1 + len(isolated), processes
        time.sleep(2)
        watching.seen()
        began, before = time.monotonic(), [cpu(pid) for pid in processes]
        time.sleep(seconds)
        seen, spent, took = watching.seen(), [cpu(pid) for pid in processes], time.monotonic() - began
        watching.stop()
        per_stream = [(after - first) * 1e6 / streams / took for first, after in zip(before, spent)]
        expected = streams * 25 * took
        for kind, values in seen.items():
            assert 0.9 * expected < len(values) < 1.1 * expected, (kind, len(values), expected)
        return per_stream[0], sum(per_stream[1:]), seen, sum(share(pid) for pid in processes)


def middle(values):
    return statistics.median(values)


def main():
    if sys.argv[1:2] == ["--client"]:
        return viewer()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    found = {what: [] for what, _, _ in MODES}
    with prefix("fixture", shipped=SHIPPED) as binary:
        cameras = "streams:\n" + "".join(f"  s{number}: fixture:stamps?{number}\n" for number in range(options.streams))
        with Server(binary=binary, streams=cameras) as camera:
            for _ in range(options.repeat):
                for what, source, isolated in MODES:
                    found[what].append(measure(binary, source, isolated, options.streams, options.seconds, camera.rtsp))
    print("| | server | children | push to MP4 viewer, median / p99 | push to RTSP viewer, median / p99 | memory |")
    print("|---|---|---|---|---|---|")
    for what, turns in found.items():
        late = {}
        for kind in ("mp4", "rtsp"):
            values = sorted(value for turn in turns for value in turn[2][kind])
            late[kind] = f"{middle(values) / 1000:.2f} / {values[len(values) * 99 // 100] / 1000:.1f} ms"
        host, children, memory = (middle([turn[at] for turn in turns]) for at in (0, 1, 3))
        print(f"| {what} | {host / 1000:.1f} ms | {children / 1000:.1f} ms | {late['mp4']} | {late['rtsp']} | {memory:.0f} MB |", flush=True)
    print(f"CPU per stream and second; {options.streams} streams, {options.seconds} s, {options.repeat} turns; load {os.getloadavg()[0]:.0f}")


if __name__ == "__main__":
    main()
