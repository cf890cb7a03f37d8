#!/usr/bin/env python3
"""What a viewer costs: CPU of the server per viewer and second, and per 20 kB sent, beside a bare loop of write(2).

`viewers.py [--viewers 500] [--seconds 10] [--rate-kbit 4000] [--keys]`; with `--keys` nearly all of 4 Mbit/s are key pictures of 1 MB, one in
2 s. Builds nothing: needs `cargo build --release` and
`cargo build --release -p patchbay-bench`. Server, floor and viewers are processes of their own; all run at the same time of day
on the same machine, so that only the ratios mean something. ffmpeg makes the clip.
"""
import argparse
import os
import pathlib
import resource
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from run import BINARY, Server, free_port, metrics, wait  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(pid):
    status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status").read().splitlines())
    return int(status["VmRSS"].split()[0]) / 1000


def rtsp(server, name="clip"):
    connection = socket.create_connection(("127.0.0.1", server), timeout=20)
    stream, url = connection.makefile("rb"), f"rtsp://127.0.0.1:{server}/{name}"

    def ask(method, target, number, extra=""):
        connection.sendall(f"{method} {target} RTSP/1.0\r\nCSeq: {number}\r\n{extra}\r\n".encode())
        headers = {}
        stream.readline()
        while (line := stream.readline().decode().strip()):
            key, _, value = line.partition(":")
            headers[key.lower()] = value.strip()
        stream.read(int(headers.get("content-length", 0)))
        return headers

    ask("DESCRIBE", url, 1)
    session = ask("SETUP", f"{url}/trackID=0", 2, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n")["session"].split(";")[0]
    connection.sendall(f"PLAY {url} RTSP/1.0\r\nCSeq: 3\r\nSession: {session}\r\n\r\n".encode())
    return connection


def http(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(b"GET /api/stream.mp4?src=clip HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection


def websocket(port):
    """A page's player: asks for MSE and gets each chunk as one message."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(b"GET /api/ws?src=clip HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                       b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert b" 101 " in head, head
    ask = b'{"type":"mse","value":"avc1.640029"}'
    # A mask of zeros leaves the text as it is.
    connection.sendall(bytes([0x81, 0x80 | len(ask)]) + bytes(4) + ask)
    return connection


def flv(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(b"GET /api/stream.flv?src=clip HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection


def rtmp(port):
    """Handshake, connect, createStream, play: all asked at once, each command in one chunk."""
    text = lambda value: b"\x02" + struct.pack(">H", len(value)) + value
    number = lambda value: b"\0" + struct.pack(">d", value)
    command = lambda body, stream: b"\x03\0\0\0" + struct.pack(">I", len(body))[1:] + b"\x14" + struct.pack("<I", stream) + body
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(b"\x03" + bytes(1536))
    left = 3073
    while left:
        left -= len(connection.recv(left))
    connection.sendall(bytes(1536) + command(text(b"connect") + number(1) + b"\x03\0\x03app" + text(b"clip") + b"\0\0\x09", 0)
                       + command(text(b"createStream") + number(2) + b"\x05", 0) + command(text(b"play") + number(3) + b"\x05" + text(b""), 1))
    return connection


def viewers():
    """The viewers' own process: `--client KIND PORT COUNT`; prints READY, then on each line of input the bytes so far."""
    kind, port, count = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    connect = {"rtsp": rtsp, "mp4": http, "ws": websocket, "flv": flv, "rtmp": rtmp, "floor": lambda port: socket.create_connection(("127.0.0.1", port))}[kind]
    connections = {}
    poll = select.epoll()
    for _ in range(count):
        connection = connect(port)
        connection.setblocking(False)
        connections[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)
    poll.register(0, select.EPOLLIN)
    print("READY", flush=True)
    total, room = 0, bytearray(1 << 18)
    while True:
        for fd, _ in poll.poll():
            if fd == 0:
                if not sys.stdin.readline():
                    return
                print(total, flush=True)
            else:
                try:
                    got = connections[fd].recv_into(room)
                except BlockingIOError:
                    continue
                if not got:
                    poll.unregister(fd)
                total += got


class Client:
    def __init__(self, kind, port, count):
        self.process = subprocess.Popen([sys.executable, __file__, "--client", kind, str(port), str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ready(self):
        assert self.process.stdout.readline() == "READY\n"

    def bytes(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def floor(count, rate, size, seconds):
    """CPU us per 20 kB of a bare write loop of buffers of `size`."""
    process = subprocess.Popen([BINARY.parent / "floor", str(count), str(size), str(rate), str(seconds)], stdout=subprocess.PIPE, text=True)
    client = Client("floor", int(process.stdout.readline().split()[1]), count)
    client.ready()
    words = process.stdout.readline().split()
    process.wait()
    client.stop()
    spent, writes, short = int(words[1]), int(words[3]), int(words[5])
    assert short < writes / 100, "the clients were too slow: the floor means nothing"
    return spent / (writes * size / 20_000)


def served(kind, clip, count, seconds):
    """CPU us per viewer and second, per 20 kB, and resident MB of the server."""
    port = free_port()
    with Server(streams=f"streams:\n  clip: file:{clip}\n", extra=f"rtmp:\n  listen: 127.0.0.1:{port}\n") as server:
        client = Client(kind, {"rtsp": server.rtsp, "rtmp": port}.get(kind, server.http), count)
        client.ready()
        wait(lambda: metrics(server)["patchbay_consumers"] == count, 30, "all viewers")
        time.sleep(2)
        began, first, before = time.monotonic(), client.bytes(), cpu(server.process.pid)
        time.sleep(seconds)
        spent, sent, took = cpu(server.process.pid) - before, client.bytes() - first, time.monotonic() - began
        memory = resident(server.process.pid)
        client.stop()
        return spent * 1e6 / count / took, spent * 1e6 / (sent / 20_000), memory, sent * 8 / count / took / 1000


def main():
    if sys.argv[1:2] == ["--client"]:
        return viewers()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rate-kbit", type=int, default=4000)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=("rtsp", "mp4", "ws", "flv", "rtmp"), default=("rtsp", "mp4", "ws", "flv", "rtmp"))
    parser.add_argument("--keys", action="store_true")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        clip = pathlib.Path(folder) / "clip.mp4"
        rate = f"{options.rate_kbit}k"
        constant = ["-b:v", rate, "-minrate", rate, "-maxrate", rate, "-bufsize", "800k", "-x264-params", "nal-hrd=cbr"]
        # Noise that stays as it is costs its bits once in a group.
        source, quality = ("smptehdbars=size=1280x720:rate=25,noise=alls=60", ["-qp", "20"]) if options.keys else ("testsrc2=size=1280x720:rate=25,noise=alls=40:allf=t", constant)
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", source, "-t", str(2 * options.seconds + 30), "-c:v", "libx264", "-preset", "ultrafast", "-g", "50",
                        *quality, "-pix_fmt", "yuv420p", clip], check=True)
        size = options.rate_kbit * 1000 // 8 // 25
        for _ in range(options.repeat):
            base = floor(options.viewers, 25, size, options.seconds)
            print(f"floor: {base:.2f} us per 20 kB")
            for kind in options.only:
                second, buffer, memory, kbit = served(kind, clip, options.viewers, options.seconds)
                print(f"{kind}: {second:.0f} us per viewer and second of {kbit:.0f} kbit/s, {buffer:.2f} us per 20 kB = {buffer / base:.2f} x floor, {memory:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
