"""Every way that a stream can come in, with real programs that give it: the rows of the matrix (exact.py).

An input writes one line of configuration and may start a program when its row is run. `declares` names what of the plugins'
manifests it is a proof of: `scheme X`, `demuxer X`, `server X`.
"""
import contextlib
import json
import pathlib
import shutil
import subprocess
import tempfile

import run as base
from run import CLIP_FOLDER, HERE, Camera, Skip, clip, free_port, peer, run, wait

NGINX_MODULE = pathlib.Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
MEDIA_SERVER = HERE / "node_modules/node-media-server/bin/app.js"
FFMPEG = ("ffmpeg", "-nostdin", "-v", "error")
LIVE = (*FFMPEG, "-re", "-stream_loop", "9")
# A sound that is nowhere the same, so that a hole in it is seen.
RISING = "aevalsrc='0.4*sin(2*PI*(220+90*t)*t)|0.4*sin(2*PI*(330+90*t)*t)':s=48000:d=10"
MADE = {
    "pictures.avi": ("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=10", "-c:v", "mjpeg", "-huffman", "default", "-q:v", "5", "-pix_fmt", "yuvj420p"),
    "raw.y4m": ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=10", "-pix_fmt", "yuv420p"),
    "sound.mp3": ("-f", "lavfi", "-i", RISING, "-c:a", "libmp3lame", "-write_xing", "0"),
    "s16.wav": ("-f", "lavfi", "-i", RISING, "-ar", "16000", "-c:a", "pcm_s16le"),
    "alaw.wav": ("-f", "lavfi", "-i", RISING, "-ar", "8000", "-ac", "1", "-c:a", "pcm_alaw"),
    "mulaw.wav": ("-f", "lavfi", "-i", RISING, "-ar", "8000", "-ac", "1", "-c:a", "pcm_mulaw"),
}
base.CLIPS.setdefault("h264-opus.mkv", "-c:v libx264 -preset veryfast -bf 0 -g 25 -threads 2 -pix_fmt yuv420p -c:a libopus -ac 2")


def media(name):
    """A clip of 10 s (the long ones: 40 s)."""
    if name.startswith("demo."):
        return demo()
    if name not in MADE:
        return clip(name)
    peer("ffmpeg", "ffmpeg")
    path = pathlib.Path(CLIP_FOLDER.name) / name
    with base.CLIP_LOCK:
        if not path.exists():
            done = run(*FFMPEG, *MADE[name], path, limit=120)
            assert done.returncode == 0, done.stderr.decode()
    return path


def demo():
    """What the plugin `demo` plays, as a file."""
    data, path = base.ROOT / "plugins/demo/data", pathlib.Path(CLIP_FOLDER.name) / "demo.mp4"
    with base.CLIP_LOCK:
        if not path.exists():
            done = run(*FFMPEG, "-r", "25", "-i", data / "clip.h264", "-i", data / "clip.aac", "-c", "copy", "-bsf:a", "aac_adtstoasc", path)
            assert done.returncode == 0, done.stderr.decode()
    return path


@contextlib.contextmanager
def program(*command, **more):
    more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} | more
    process = subprocess.Popen([str(word) for word in command], **more)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def listens(port):
    """Whether somebody listens on a port of this machine, without calling there."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in pathlib.Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return any(row[3] == "0A" and int(row[1].rsplit(":", 1)[1], 16) == port for row in rows)


class Peers:
    """Servers of others that all rows share: nginx with files and with its RTMP module, node-media-server."""

    def __init__(self, stack, rtmp, http):
        peer("nginx", "nginx")
        if not NGINX_MODULE.exists():
            raise Skip("nginx has no RTMP: apt-get install libnginx-mod-rtmp")
        if not MEDIA_SERVER.exists():
            raise Skip("node-media-server is missing: npm ci in tests/e2e")
        self.rtmp, self.http = rtmp, http
        self.folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.folder.chmod(0o755)
        self.root = self.folder / "files"
        self.root.mkdir()
        (self.root / "clips").symlink_to(CLIP_FOLDER.name)
        pathlib.Path(CLIP_FOLDER.name).chmod(0o755)
        self.cert = self.folder / "cert.pem"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", self.folder / "key.pem",
            "-out", self.cert)
        self.both = self.folder / "both.pem"
        self.both.write_text((self.folder / "key.pem").read_text() + self.cert.read_text())
        (self.folder / "users").write_text("u:{PLAIN}p@ss\n")
        self.web, self.tls, self.nginx, self.node, self.node_tls, admin = (free_port() for _ in range(6))
        (self.folder / "nginx.conf").write_text(NGINX.format(
            module=NGINX_MODULE, folder=self.folder, web=self.web, tls=self.tls, rtmp=self.nginx, own=rtmp))
        (self.folder / "node.json").write_text(json.dumps({
            "bind": "127.0.0.1", "store": {"path": str(self.folder / "data")}, "auth": {"play": False, "publish": False, "secret": ""},
            "rtmp": {"port": self.node}, "rtmps": {"port": self.node_tls, "key": str(self.folder / "key.pem"), "cert": str(self.cert)},
            "http": {"port": admin}}))
        servers = [program("nginx", "-e", "stderr", "-p", f"{self.folder}/", "-c", "nginx.conf", stderr=subprocess.DEVNULL),
                   program("node", MEDIA_SERVER, "-c", self.folder / "node.json", "--no-admin", cwd=self.folder, stderr=subprocess.DEVNULL)]
        for server, port in zip(servers, (self.web, self.node_tls)):
            process = stack.enter_context(server)
            wait(lambda port=port: listens(port), 20, "a server of others", process)


NGINX = """daemon off; master_process off; pid nginx.pid; worker_processes 1;
load_module {module};
error_log stderr info;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  types {{ video/mp4 mp4; video/mp2t ts; application/vnd.apple.mpegurl m3u8; image/jpeg jpg; audio/wav wav; }}
  ssl_certificate cert.pem; ssl_certificate_key key.pem;
  server {{
    listen 127.0.0.1:{web}; listen 127.0.0.1:{tls} ssl;
    root {folder}/files; auth_basic "files"; auth_basic_user_file {folder}/users;
    location /basic/ {{ types {{ }} default_type audio/basic; limit_rate 8000; }}
  }}
}}
rtmp {{ server {{ listen 127.0.0.1:{rtmp}; chunk_size 4096;
  application live {{ live on; wait_key on; }}
  application relay {{ live on; push rtmp://127.0.0.1:{own}; }}
}} }}
"""


class Input:
    """A row: a title, what it proves, the clip that goes in, and how."""

    def __init__(self, title, declares, name, source, coarse=None, times=True, order=True, again=False, reports=False):
        self.title, self.declares, self.clip, self.source = title, set(declares.split(", ")), name, source
        # Of a clock that is coarser than a track's; whether times are in the bytes at all; whether every unit comes, once.
        self.coarse, self.times, self.order = coarse, times, order
        # Whether a group of pictures may be given anew at first; whether sender reports place its tracks: it is read for longer, so that more come.
        self.again, self.reports = again, reports
        # Opus that libopus makes begins before the pictures and ends behind them.
        self.is_cut = name == "h264-opus.mkv"


def given(line):
    """A source that is there without a program; `{...}` in the line are ports, the clip's path and name."""
    def source(peers, name, path):
        ports = {"web": peers.web, "tls": peers.tls, "nginx": peers.nginx, "node": peers.node, "node_tls": peers.node_tls, "http": peers.http}
        return line.format(path=path, file=path.name, row=name, **ports), lambda _: contextlib.nullcontext()
    return source


def publishing(*command, line=""):
    """A program that sends to this server or to one that this server dials."""
    def source(peers, name, path):
        def words(server):
            ports = {"rtsp": server.rtsp, "rtmp": peers.rtmp, "http": peers.http, "nginx": peers.nginx, "node": peers.node}
            return [word.format(path=path, row=name, **ports) for word in command]
        written = line.format(row=name, http=peers.http, nginx=peers.nginx, node=peers.node, node_tls=peers.node_tls)
        return written, lambda server: program(*words(server))
    return source


def piped(*options):
    """What a program writes."""
    return given(f"exec:{' '.join(LIVE)} -i {{path}} {' '.join(options)} -")


def over_tcp(*options):
    """A program waits for a connection and writes into it."""
    def source(peers, name, path):
        port = free_port()

        @contextlib.contextmanager
        def start(_):
            with program(*LIVE, "-i", path, *options, f"tcp://127.0.0.1:{port}?listen=1") as process:
                wait(lambda: listens(port), 10, "a listening program", process)
                yield
        return f"tcp://127.0.0.1:{port}", start
    return source


def served_by_ffmpeg(*options):
    """ffmpeg as an HTTP server, to one client."""
    def source(peers, name, path):
        port = free_port()

        @contextlib.contextmanager
        def start(_):
            with program(*LIVE, "-i", path, *options, "-listen", "1", f"http://127.0.0.1:{port}/x") as process:
                wait(lambda: listens(port), 10, "a listening program", process)
                yield
        return f"http://127.0.0.1:{port}/x", start
    return source


def playlist(kind, scheme="http"):
    """A live playlist that ffmpeg writes and nginx gives."""
    def source(peers, name, path):
        folder = peers.root / name
        port = peers.web if scheme == "http" else peers.tls

        @contextlib.contextmanager
        def start(_):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            with program(*LIVE, "-i", path, "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "6", "-hls_segment_type", kind, folder / "list.m3u8") as process:
                wait((folder / "list.m3u8").exists, 15, "the playlist", process)
                yield
        return f"{scheme}://u:p@ss@127.0.0.1:{port}/{name}/list.m3u8", start
    return source


def bare():
    """Samples without a header, as a camera's audio URL gives them, from nginx at the rate of the sound."""
    def source(peers, name, path):
        wav = path.read_bytes()
        (peers.root / "basic").mkdir(exist_ok=True)
        (peers.root / "basic" / name).write_bytes(wav[wav.index(b"data") + 8:] * 12)
        return f"http://u:p@ss@127.0.0.1:{peers.web}/basic/{name}", lambda _: contextlib.nullcontext()
    return source


def dialled_again():
    """A second stream of this server, published by RTSP, by WebRTC."""
    def source(peers, name, path):
        @contextlib.contextmanager
        def start(server):
            with program(*LIVE, "-i", path, "-c", "copy", "-f", "rtsp", "-rtsp_transport", "tcp", f"rtsp://127.0.0.1:{server.rtsp}/{name}-first") as process:
                wait(lambda: server.json("api/streams")[f"{name}-first"]["producers"], 30, "a publisher", process)
                yield
        return f"webrtc:http://127.0.0.1:{peers.http}/api/webrtc?src={name}-first\n  {name}-first:", start
    return source


def polled():
    """A picture that ffmpeg writes again and again and nginx gives."""
    def source(peers, name, path):
        folder = peers.root / name

        @contextlib.contextmanager
        def start(_):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            with program(*LIVE, "-i", path, "-c", "copy", "-f", "image2", "-update", "1", "-atomic_writing", "1", folder / "now.jpg") as process:
                wait((folder / "now.jpg").exists, 15, "the picture", process)
                yield
        return f"http://u:p@ss@127.0.0.1:{peers.web}/{name}/now.jpg", start
    return source


def camera(scheme, transport):
    """gst-rtsp-server that sends a clip once, B-frames and all, without decoding."""
    def source(peers, name, path):
        port = free_port()

        @contextlib.contextmanager
        def start(_):
            one = Camera("--file", str(path), *(["--cert", str(peers.both)] if scheme != "rtsp" else []), port=port)
            try:
                yield
            finally:
                one.stop()
        return f"{scheme}://127.0.0.1:{port}/cam#transport={transport}", start
    return source


def announced(transport):
    return publishing(*LIVE, "-i", "{path}", "-c", "copy", "-f", "rtsp", "-rtsp_transport", transport, "rtsp://127.0.0.1:{rtsp}/{row}")


def posted(form, end, *options):
    return publishing(*LIVE, "-i", "{path}", "-c", "copy", *options, "-f", form, "-method", "POST", "http://127.0.0.1:{http}/api/stream" + end + "?dst={row}")


def to_rtmp(url, line=""):
    return publishing(*LIVE, "-i", "{path}", "-c", "copy", "-f", "flv", url, line=line)


INPUTS = [
    Input("the demo", "scheme demo", "demo.mp4", given("\"demo:\"")),
    Input("mp4 file, B-frames, index at the end", "scheme file, demuxer mp4", "h264-aac.mp4", given("file:{path}")),
    Input("ts file, B-frames", "scheme file, demuxer mpegts", "h264-aac.ts", given("file:{path}")),
    Input("flv file", "scheme file, demuxer flv", "h264-aac.flv", given("file:{path}"), coarse="ms"),
    Input("mp4 from nginx over http", "scheme http", "h264-aac.mp4", given("http://u:p@ss@127.0.0.1:{web}/clips/{file}")),
    Input("mp4 from nginx over https", "scheme https", "h264-aac.mp4", given("https://u:p@ss@127.0.0.1:{tls}/clips/{file}")),
    Input("ts from nginx over TLS unchecked", "scheme httpx", "h264-aac.ts", given("httpx://u:p@ss@localhost:{tls}/clips/{file}")),
    Input("hls of ts from nginx", "demuxer hls", "h264-aac.mp4", playlist("mpegts")),
    Input("hls of fmp4 from nginx", "demuxer hls", "h264-aac.mp4", playlist("fmp4", "https")),
    Input("gst-rtsp-server over tcp", "scheme rtsp", "h264-long.mp4", camera("rtsp", "tcp"), reports=True),
    Input("gst-rtsp-server over udp", "scheme rtsp", "h264-long.mp4", camera("rtsp", "udp"), reports=True),
    Input("gst-rtsp-server over TLS", "scheme rtsps", "h264-long.mp4", camera("rtsps", "tcp"), reports=True),
    Input("gst-rtsp-server over TLS unchecked", "scheme rtspx", "h264-long.mp4", camera("rtspx", "tcp"), reports=True),
    Input("ffmpeg announces H.264 (B) + AAC over tcp", "server rtsp", "h264-aac.mp4", announced("tcp"), reports=True),
    Input("ffmpeg announces H.264 (B) + AAC over udp", "server rtsp", "h264-aac.mp4", announced("udp"), reports=True),
    Input("ffmpeg announces H.265 (B) + Opus over tcp", "server rtsp", "hevc-opus.mkv", announced("tcp"), reports=True),
    Input("ffmpeg announces H.264 + Opus over tcp", "server rtsp", "h264-opus.mkv", announced("tcp"), reports=True),
    Input("ffmpeg publishes over rtmp", "server rtmp", "h264-aac.mp4", to_rtmp("rtmp://127.0.0.1:{rtmp}/{row}"), coarse="ms"),
    Input("nginx pushes over rtmp", "server rtmp", "h264-aac.mp4", to_rtmp("rtmp://127.0.0.1:{nginx}/relay/{row}"), coarse="ms"),
    Input("rtmp from nginx", "scheme rtmp", "h264-aac.mp4",
          to_rtmp("rtmp://127.0.0.1:{nginx}/live/{row}", "rtmp://127.0.0.1:{nginx}/live/{row}"), coarse="ms"),
    Input("rtmp from node-media-server over TLS", "scheme rtmps", "h264-aac.mp4",
          to_rtmp("rtmp://127.0.0.1:{node}/live/{row}", "rtmps://127.0.0.1:{node_tls}/live/{row}"), coarse="ms"),
    Input("rtmp from node-media-server over TLS unchecked", "scheme rtmpx", "h264-aac.mp4",
          to_rtmp("rtmp://127.0.0.1:{node}/live/{row}", "rtmpx://localhost:{node_tls}/live/{row}"), coarse="ms"),
    Input("WebRTC (WHEP) from a second stream", "scheme webrtc", "h264-opus.mkv", dialled_again(), coarse="ms", again=True, reports=True),
    Input("h264 over exec", "scheme exec, demuxer h264", "h264-plain.mp4", piped("-map", "0:v", "-c", "copy", "-f", "h264"), times=False),
    Input("hevc over exec", "scheme exec, demuxer hevc", "hevc-long.mp4", piped("-map", "0:v", "-c", "copy", "-f", "hevc"), times=False),
    Input("ts over exec", "scheme exec", "h264-aac.mp4", piped("-c", "copy", "-f", "mpegts")),
    Input("ts over tcp", "scheme tcp", "h264-aac.mp4", over_tcp("-c", "copy", "-f", "mpegts")),
    Input("flv over tcp", "scheme tcp", "h264-aac.mp4", over_tcp("-c", "copy", "-f", "flv"), coarse="ms"),
    Input("ts posted", "demuxer mpegts", "h264-aac.mp4", posted("mpegts", ".ts")),
    Input("flv posted", "demuxer flv", "h264-aac.mp4", posted("flv", ".flv"), coarse="ms"),
    Input("AAC in ADTS over exec", "demuxer adts", "aac.m4a", piped("-c", "copy", "-f", "adts")),
    Input("MP3 over exec", "demuxer mp3", "sound.mp3", piped("-c", "copy", "-f", "mp3", "-write_xing", "0")),
    Input("16-bit PCM, a wav file", "demuxer wav", "s16.wav", given("file:{path}")),
    Input("A-law, wav over exec", "demuxer wav", "alaw.wav", piped("-c", "copy", "-f", "wav")),
    Input("mu-law, wav posted", "demuxer wav", "mulaw.wav", posted("wav", "")),
    Input("mu-law, bare, from nginx", "demuxer pcm", "mulaw.wav", bare()),
    Input("JPEG pictures over exec", "demuxer mjpeg", "pictures.avi", piped("-c", "copy", "-f", "mjpeg"), times=False),
    Input("JPEG pictures, multipart, from ffmpeg over http", "demuxer mpjpeg", "pictures.avi",
          served_by_ffmpeg("-c", "copy", "-f", "mpjpeg", "-boundary_tag", "frame", "-content_type", "multipart/x-mixed-replace;boundary=frame"), times=False),
    Input("JPEG pictures, multipart, posted", "demuxer mpjpeg", "pictures.avi", posted("mpjpeg", ".mjpeg"), times=False),
    Input("a JPEG picture polled from nginx", "demuxer image", "pictures.avi", polled(), times=False, order=False),
    Input("raw pictures, a y4m file", "demuxer yuv4mpegpipe", "raw.y4m", given("file:{path}")),
]
