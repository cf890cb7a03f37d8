#!/usr/bin/env python3
"""The HTTP API's port: TLS, a Unix socket, a base path, other protocols on it; streams that come and go by the API.

Each test prints a line; the last line is `N passed, N failed, N skipped`.
"""
import http.client
import json
import socket
import ssl
import subprocess
import urllib.parse

from rtsp import IDENTITY, frames, gst
from run import HERE, Server, clip, free_port, peer, probe, run
from runner import main, test


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
def connections_that_end_in_their_first_line_cost_nothing():
    with Server(api="  unix_listen: api.sock\n") as server:
        ended = []
        for first in (b"G", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\n", b"OPTIONS rtsp:") * 5:
            ended += [socket.create_connection(("127.0.0.1", server.http)), socket.socket(socket.AF_UNIX)]
            ended[-1].connect(str(server.path / "api.sock"))
            for connection in ended[-2:]:
                connection.sendall(first)
                connection.shutdown(socket.SHUT_WR)
        for connection in ended:
            # The server ends its side, with or without a word; each of them once held a thread for ever.
            connection.settimeout(60)
            while connection.recv(4096):
                pass
        assert server.get("api")[0] == 200 and over_unix(server.path / "api.sock", "/api")[0] == 200


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
def http_2_over_tls():
    secure = free_port()
    api = f"  tls_listen: 127.0.0.1:{secure}\n  tls_cert: {IDENTITY}\n  tls_key: {IDENTITY}\n"
    with Server(api=api) as server:
        server.wait_log("[api] tls listen")
        at = f"https://127.0.0.1:{secure}"

        def curl(*words):
            done = run("curl", "-sk", "--max-time", "30", "-w", "\n%{http_version} %{http_code}", *words)
            return done.stdout.rsplit(b"\n", 1)

        assert curl("--http2", f"{at}/api/streams")[1] == b"2 200" and curl("--http1.1", f"{at}/api/streams")[1] == b"1.1 200"
        picture, told = curl("--http2", f"{at}/api/frame.mp4?src=demo")
        assert told == b"2 200" and picture[4:8] == b"ftyp", (told, picture[:40])
        # The rules about who may change anything hold: the name is in a field of its own there.
        put = ("--http2", "-X", "PUT", f"{at}/api/streams?name=more&src=rtsp://127.0.0.1:1/x")
        assert curl("-H", "Origin: https://elsewhere.example", *put)[1] == b"2 403"
        evil = curl("--resolve", f"evil.example:{secure}:127.0.0.1", "--http2", "-X", "PUT", f"https://evil.example:{secure}/api/streams?name=more&src=rtsp://127.0.0.1:1/x")
        assert evil[1] == b"2 403", evil
        assert curl(*put)[1] == b"2 200" and "more" in server.json("api/streams")
        # A body goes up and is published while it does.
        with subprocess.Popen(["curl", "-sk", "--http2", "--limit-rate", "300k", "-T", clip("h264-aac.ts"), "-X", "POST", f"{at}/api/stream.ts?dst=more"]) as sender:
            assert probe(server.url("api/stream.ts?src=more"))[0]["codec_name"] in ("h264", "aac")
            sender.kill()
        peer("chromium", "chromium")
        done = run("node", HERE / "http2.mjs", f"{at}/", 12, limit=90)
        assert done.returncode == 0, done.stderr.decode()
        seen = json.loads(done.stdout)
        print(f"  chromium: {seen}", flush=True)
        assert (seen["streams"], seen["opened"], seen["protocols"]) == (12, True, ["h2"]) and seen["least"] >= 40_000, seen
        assert "panicked" not in server.text()


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
        for path, listed in (("api", True), ("api/config", False), ("api/plugins", False), ("api/plugins/rtsp", False), ("api/streams", False)):
            assert (server.get(path)[0] == 200) == listed, path
    with Server(api="  allow_paths: [/api/plugins]\n") as server:
        assert server.get("api/plugins/rtsp")[0] == 200 and server.get("api")[0] == 404
    with Server(extra="app:\n  modules: [api, ws]\n") as server:
        assert not answers(server, ask).startswith(b"RTSP"), "the module is off"


@test
def streams_come_by_url_and_by_the_api():
    with Server() as camera, Server(streams="streams:\n  templ: http://127.0.0.1:1/{input}\n  other: \"demo:\"\n") as server:
        url = f"rtsp://127.0.0.1:{camera.rtsp}/demo"
        query = urllib.parse.urlencode({"src": url})
        # A URL in place of a name: under itself, or under a name.
        status, headers, body = server.get(f"api/frame.jpeg?{query}")
        assert (status, body[:2]) == (200, b"\xff\xd8"), (status, body[:100])
        assert url in server.json("api/streams")
        status, _, body = server.get(f"api/stream.mp4?{query}&name=by%20name&duration=1")
        assert status == 200 and b"moof" in body, (status, body[:100])
        assert "by name" in server.json("api/streams")
        assert (server.path / "plugins.yaml").read_text().count("rtsp://") == 0, "only in memory"
        # Not for a page of another site, not for what only the configuration may use, not on routes that take names only.
        pages = ({"Sec-Fetch-Site": "cross-site"}, {"Referer": "http://elsewhere.example/"}, {"Origin": "http://elsewhere.example"}, {"Host": "elsewhere.example"})
        for headers in pages:
            assert server.get("api/frame.jpeg?src=demo:other", headers=headers)[0] == 404, headers
        for source in ("exec:true", "echo:true", "file:/etc/passwd", "nothing:x", "rtsp://a/b c"):
            assert server.get("api/frame.jpeg?" + urllib.parse.urlencode({"src": source}))[0] == 404, source
        assert server.get(f"api/frame.mp4?{urllib.parse.urlencode({'src': url + '?other'})}")[0] == 404
        names = set(server.json("api/streams"))
        assert names == {"templ", "other", url, "by name"}, names
        # PUT, PATCH, DELETE.
        assert server.get(f"api/streams?name=cam&{query}", "PUT")[0] == 200
        assert "cam:" in (server.path / "plugins.yaml").read_text()
        for source, why in (("exec:true", b"insecure"), ("nothing:x", b"not supported"), ("rtsp://a b", b"spaces")):
            status, _, body = server.get("api/streams?name=bad&" + urllib.parse.urlencode({"src": source}), "PUT")
            assert status == 400 and why in body, (source, status, body)
        assert server.get(f"api/streams?name=alias&src=rtsp://any/cam", "PATCH")[0] == 200
        for source in ("rtsp://one", "rtsp://two"):
            assert server.get(f"api/streams?name=templ&{urllib.parse.urlencode({'src': source})}", "PATCH")[0] == 200
            assert server.json("api/streams?src=templ")["producers"][0]["url"] == f"http://127.0.0.1:1/{source}"
        assert server.get("api/streams?src=cam", "DELETE")[0] == 200
        assert "cam:" not in (server.path / "plugins.yaml").read_text()
        assert server.get("api/streams?dst=exec:true&src=other", "POST")[0] == 400
        assert server.get("api/streams?dst=nothing:x&src=other", "POST")[0] == 500
        assert server.get("api/streams?dst=nothing:x&src=nobody", "POST")[0] == 404


@test
def the_graph_shows_who_sends_to_whom():
    with Server() as server:
        player = socket.create_connection(("127.0.0.1", server.http), timeout=20)
        with player:
            player.sendall(b"GET /api/stream.ts?src=demo HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert player.recv(4096).startswith(b"HTTP/1.1 200")
            status, headers, body = server.get("api/streams.dot?src=demo")
        text = body.decode()
        assert status == 200 and headers["Content-Type"] == "text/vnd.graphviz"
        assert text.startswith("digraph {\n") and text.endswith("}") and "group=consumer" in text and 'label="h264"' in text, text
        status, _, body = server.get("api/stack")
        assert status == 200 and body.decode().splitlines()[-1].startswith("Total: "), body


@test
def a_socket_hears_why_and_may_not_flood():
    def frame(message):
        text = json.dumps(message).encode()
        return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text

    with Server() as server:
        def opened(name):
            client = socket.create_connection(("127.0.0.1", server.http), timeout=60)
            client.sendall(f"GET /api/ws?src={name} HTTP/1.1\r\nHost: 127.0.0.1:{server.http}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
            return client

        with opened("nope") as client:
            heard = b""
            for kind in ("mse", "mjpeg", "hls"):
                client.sendall(frame({"type": kind}))
                while f"{kind}: stream not found".encode() not in heard:
                    assert (part := client.recv(4096)), (kind, heard)
                    heard += part
        with opened("demo") as client:
            try:
                for _ in range(2_000):
                    client.sendall(frame({"type": "mse"}))
                while client.recv(1 << 16):
                    pass
            except ConnectionError:
                pass
        server.wait_log("says too much at once")
        assert server.get("api/frame.mp4?src=demo")[0] == 200


@test
def modules_that_are_left_out_do_not_exist():
    with Server(extra="app:\n  modules: [api, rtsp, http]\n") as server:
        for path in ("api/ws?src=demo", "api/stream.mp4?src=demo", "api/stack", "api/frame.jpeg?src=demo", "api/stream.m3u8?src=demo"):
            assert server.get(path)[0] == 404, path
        assert server.get("api/stream.ts?dst=demo", "POST", b"x")[0] == 404
        schemes = server.json("api/schemes")
        assert "rtsp" in schemes and "http" in schemes and not {"demo", "file", "rtmp", "exec"} & set(schemes), schemes


if __name__ == "__main__":
    main()
