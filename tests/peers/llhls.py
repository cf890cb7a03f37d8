#!/usr/bin/env python3
"""Small LL-HLS origin (fMP4, parts, blocking reload, preload hint): llhls.py PORT [CLIP]; live clockgen.py picture unless CLIP. /live.m3u8"""
# Needs ffmpeg. Part target 0.2 s, segments of 1 s (one GOP of 25 frames).
import asyncio, os, signal, subprocess, struct, sys, time
from urllib.parse import parse_qs, urlparse
port, clip = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
here = os.path.dirname(os.path.abspath(__file__))
init, segs, cond, kids = b"", [], None, []          # segs: list of {"n", "parts": [(bytes, independent)], "done"}

def boxes(f):
    while len(h := f.read(8)) == 8:
        n, t = struct.unpack(">I4s", h)
        yield t, h + f.read(n - 8)

def source(loop):
    global init
    enc = "-c:v libx264 -preset ultrafast -tune zerolatency -threads 1 -pix_fmt yuv420p -g 25 -sc_threshold 0".split()
    out = "-f mp4 -movflags empty_moov+default_base_moof+frag_every_frame+skip_trailer pipe:1".split()
    if clip: cmd = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", clip, "-an", *enc, *out]
    else: cmd = ["sh", "-c", f"exec {sys.executable} {here}/clockgen.py ms 640x360 25 | exec ffmpeg -v error -f yuv4mpegpipe -probesize 32 -i - {' '.join(enc + out)}"]
    p = subprocess.Popen(cmd, stdout=subprocess.PIPE, start_new_session=True)
    kids.append(p.pid)
    head, cur, n = b"", b"", 0
    for t, b in boxes(p.stdout):
        if t in (b"ftyp", b"moov"):
            head += b
            if t == b"moov": init = head
        else:
            cur += b
            if t == b"mdat":
                n += 1
                if n % 5 == 0:                                   # 5 frames = one part of 0.2 s
                    asyncio.run_coroutine_threadsafe(add(cur, (n - 5) % 25 == 0), loop); cur = b""

async def add(data, key):
    async with cond:
        if key:
            if segs: segs[-1]["done"] = True
            segs.append({"n": segs[-1]["n"] + 1 if segs else 0, "parts": [], "done": False, "t": time.time()})
            del segs[:-8]
        segs[-1]["parts"].append((data, key)); cond.notify_all()

def playlist():
    o = ["#EXTM3U", "#EXT-X-VERSION:9", "#EXT-X-TARGETDURATION:1", "#EXT-X-PART-INF:PART-TARGET=0.2",
         "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.6", f"#EXT-X-MEDIA-SEQUENCE:{segs[0]['n']}", '#EXT-X-MAP:URI="init.mp4"']
    for s in segs:
        if s in segs[-3:]:
            o.append("#EXT-X-PROGRAM-DATE-TIME:" + time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(s["t"] - .2)) + f".{int((s['t'] - .2) % 1 * 1000):03}Z")
            o += [f'#EXT-X-PART:DURATION=0.2,URI="part{s["n"]}.{i}.m4s"' + (",INDEPENDENT=YES" if k else "") for i, (_, k) in enumerate(s["parts"])]
        if s["done"]: o += ["#EXTINF:1.0,", f"seg{s['n']}.m4s"]
    s = segs[-1]; nxt = (s["n"], len(s["parts"])) if len(s["parts"]) < 5 else (s["n"] + 1, 0)
    return "\n".join(o + [f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="part{nxt[0]}.{nxt[1]}.m4s"', ""])

def have(n, i): return any(s["n"] == n and (len(s["parts"]) > i or s["done"]) or s["n"] > n for s in segs)

async def handle(r, w):
    try:
        while head := await r.readuntil(b"\r\n\r\n"):
            u = urlparse(head.split(b" ")[1].decode()); q = parse_qs(u.query); name = u.path.lstrip("/"); body, typ = None, "video/mp4"
            async with cond:
                if name == "live.m3u8":
                    typ = "application/vnd.apple.mpegurl"; want = (int(q["_HLS_msn"][0]), int(q.get("_HLS_part", ["4"])[0])) if "_HLS_msn" in q else (segs[-1]["n"] if segs else 0, 0)
                    await asyncio.wait_for(cond.wait_for(lambda: len(segs) > 1 and have(*want)), 10); body = playlist().encode()
                elif name == "init.mp4": body = init
                elif name.startswith("part"):
                    n, i = map(int, name[4:-4].split(".")); await asyncio.wait_for(cond.wait_for(lambda: have(n, i)), 5)
                    s = next((s for s in segs if s["n"] == n), None); body = s["parts"][i][0] if s and i < len(s["parts"]) else None
                elif name.startswith("seg"):
                    s = next((s for s in segs if s["n"] == int(name[3:-4])), None); body = s and b"".join(p for p, _ in s["parts"])
            print(round(time.time() % 1000, 3), u.path, u.query, "404" if body is None else len(body), flush=True)
            w.write(f"HTTP/1.1 {'404 Not Found' if body is None else '200 OK'}\r\nContent-Type: {typ}\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: {len(body or b'')}\r\n\r\n".encode() + (body or b"")); await w.drain()
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.TimeoutError): pass
    finally: w.close()

async def main():
    global cond
    cond = asyncio.Condition(); loop = asyncio.get_running_loop()
    def stop():
        for k in kids: os.killpg(k, signal.SIGKILL)
        os._exit(0)
    for sig in (signal.SIGTERM, signal.SIGINT): loop.add_signal_handler(sig, stop)
    loop.run_in_executor(None, source, loop)
    async with await asyncio.start_server(handle, "127.0.0.1", port) as s: print("READY", flush=True); await s.serve_forever()
asyncio.run(main())
