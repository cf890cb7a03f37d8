#!/usr/bin/env python3
"""The HTTP API's port: TLS, a Unix socket, a base path, other protocols on it; streams that come and go by the API.

Each test prints a line; the last line is `N passed, N failed, N skipped`.
"""
import http.client
import json
import os
import socket
import ssl
import sys
import traceback

from rtsp import IDENTITY, frames, gst
from run import Server, Skip, free_port, probe, run

TESTS = []


def test(function):
    TESTS.append(function)
    return function


def over_unix(path, target):
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    connection.request("GET", target)
    answer = connection.getresponse()
    return answer.status, answer.read()


def untrusted():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@test
def tls_a_unix_socket_and_a_base_path():
    secure = free_port()
    api = f"  tls_listen: 127.0.0.1:{secure}\n  tls_cert: {IDENTITY}\n  tls_key: {IDENTITY}\n  unix_listen: api.sock\n  base_path: /patch\n"
    with Server(api=api) as server:
        server.wait_log("[api] tls listen")
        connection = http.client.HTTPSConnection("127.0.0.1", secure, context=untrusted())
        for _ in range(2):
            connection.request("GET", "/patch/api/streams")
            answer = connection.getresponse()
            assert (answer.status, list(json.loads(answer.read()))) == (200, ["demo"])
        assert over_unix(server.path / "api.sock", "/patch/api")[0] == 200
        assert over_unix(server.path / "api.sock", "/api")[0] == 404
        assert server.get("patch/api/streams")[0] == 200 and server.get("api/streams")[0] == 404
        # A picture over TLS, from the first byte to the last.
        done = run("curl", "-sk", "--max-time", "20", f"https://127.0.0.1:{secure}/patch/api/frame.mp4?src=demo", "-o", server.path / "frame.mp4")
        assert done.returncode == 0, done
        assert probe(server.path / "frame.mp4")[0]["codec_name"] == "h264"
        # RTSP and its tunnels through the TLS of the API.
        at = f"127.0.0.1:{secure}/demo"
        frames("-i", f"rtsps://{at}")
        gst(f"rtspsh://{at}", "tls-validation-flags=0")


@test
def certificates_as_text_and_ones_that_do_not_work():
    secure = free_port()
    text = "|\n" + "".join(f"    {line}\n" for line in IDENTITY.read_text().splitlines())
    with Server(api=f"  tls_listen: 127.0.0.1:{secure}\n  tls_cert: {text}  tls_key: {text}") as server:
        server.wait_log("[api] tls listen")
        connection = http.client.HTTPSConnection("127.0.0.1", secure, context=untrusted())
        connection.request("GET", "/api")
        assert connection.getresponse().status == 200
    with Server(api=f"  tls_listen: 127.0.0.1:{secure}\n  tls_cert: /nowhere.pem\n  tls_key: {IDENTITY}\n") as server:
        server.wait_log("/nowhere.pem")
        assert server.get("api")[0] == 200, "the other listener serves"


@test
def rtsp_and_its_tunnels_on_the_apis_port():
    with Server() as camera:
        at = f"127.0.0.1:{camera.http}/demo"
        frames("-rtsp_transport", "tcp", "-i", f"rtsp://{at}")
        frames("-rtsp_transport", "http", "-i", f"rtsp://{at}")
        gst(f"rtsph://{at}")
        ways = {"http": f"rtsp://{at}#transport=http", "ws": f"rtsp://{at}#transport=ws://127.0.0.1:{camera.http}/any", "tcp": f"rtsp://{at}"}
        with Server(streams="streams:\n" + "".join(f"  {name}: {url}\n" for name, url in ways.items())) as server:
            for name in ways:
                codecs = [stream["codec_name"] for stream in probe(f"rtsp://127.0.0.1:{server.http}/{name}", "-rtsp_transport", "tcp")]
                assert "h264" in codecs, (name, codecs)
        # HTTP goes on beside it, also when its head comes in pieces.
        with socket.create_connection(("127.0.0.1", camera.http), timeout=10) as client:
            for part in (b"GE", b"T /api/streams HT", b"TP/1.1\r\nHost: localhost\r\nCon", b"nection: close\r\n\r\n"):
                client.sendall(part)
                assert camera.get("api")[0] == 200
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200") and b"demo" in answer, answer
        assert "panicked" not in camera.text()


@test
def other_protocols_follow_the_apis_rules():
    ask = "OPTIONS rtsp://{0}/demo RTSP/1.0\r\nCSeq: 1\r\n\r\n"

    def answers(server, request):
        with socket.create_connection(("127.0.0.1", server.http), timeout=10) as client:
            client.sendall(request.format(f"127.0.0.1:{server.http}").encode())
            try:
                return client.recv(4096)
            except ConnectionResetError:
                return b""

    page = ("GET /demo HTTP/1.1\r\nHost: {0}\r\nOrigin: http://elsewhere.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: rtsp.onvif.org\r\n\r\n")
    with Server() as server:
        assert answers(server, ask).startswith(b"RTSP/1.0 200")
        assert answers(server, page).startswith(b"HTTP/1.1 404"), "a page of another site"
        assert answers(server, page.replace("Origin: http://elsewhere.example\r\n", "")).startswith(b"HTTP/1.1 101")
    with Server(api="  username: u\n  password: p\n  local_auth: true\n") as server:
        assert answers(server, ask) == b"", "the API has a login and RTSP none"
    with Server(api="  allow_paths: [/api]\n") as server:
        assert not answers(server, ask).startswith(b"RTSP")
    with Server(extra="app:\n  modules: [api, ws]\n") as server:
        assert not answers(server, ask).startswith(b"RTSP"), "the module is off"


def main():
    wanted = sys.argv[1:]
    passed = failed = skipped = 0
    for function in TESTS:
        name = function.__name__
        if wanted and name not in wanted:
            continue
        try:
            function()
            passed += 1
            print(f"ok {name}", flush=True)
        except Skip as reason:
            required = bool(os.environ.get("PATCHBAY_REQUIRE_PEERS"))
            failed, skipped = failed + required, skipped + (not required)
            print(f"{'FAILED' if required else 'skipped'} {name}: {reason}", flush=True)
        except Exception:
            failed += 1
            traceback.print_exc(file=sys.stdout)
            print(f"FAILED {name}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
