#!/usr/bin/env python3
"""An RTSP camera with a loudspeaker, stricter than real ones: talkcamera.py --report FILE [--codecs PCMU/8000,PCMA/8000] [--refuse setup] ...

Prints `READY PORT`. Sends PCMA of 50 packets a second; what it hears is in FILE as JSON: packets, payload types, faults against RFC 3550
and ONVIF, how far it came ahead of its time, the pitch of its last second (not of AAC), and the payload as hex with --bytes (AAC as ADTS).
"""
import argparse
import json
import os
import socket
import struct
import threading
import time

REQUIRE = "www.onvif.org/ver20/backchannel"
STATIC = {"PCMU/8000": 0, "PCMA/8000": 8}
SILENT = b"\xd5" * 160

ap = argparse.ArgumentParser()
ap.add_argument("--report", required=True)
ap.add_argument("--codecs", default="PCMU/8000", help="of one media, in the order of preference")
ap.add_argument("--refuse", choices=["describe", "setup"], help="answers an error when the backchannel is asked for")
ap.add_argument("--bytes", action="store_true", help="the report has all bytes")
ap.add_argument("--no-config", action="store_true", help="does not say how its AAC is configured")
ap.add_argument("--connections", type=int, default=0, help="ends each connection after so many seconds")
a = ap.parse_args()

CODECS = a.codecs.split(",")
TYPES = {STATIC.get(codec, 97 + index): codec for index, codec in enumerate(CODECS)}
lock = threading.Lock()
seen = {"packets": 0, "types": [], "faults": [], "lead_ms": -1e9, "sizes": [], "hz": 0, "sessions": 0, "setups": 0, "asked": 0, "bytes": ""}
heard = bytearray()


def report():
    with open(a.report + ".new", "w") as out:
        json.dump(seen, out)
    os.replace(a.report + ".new", a.report)


def fault(text):
    if len(seen["faults"]) < 20:
        seen["faults"].append(text)


def linear(byte, is_alaw):
    if is_alaw:
        byte ^= 0x55
        exponent, mantissa = (byte >> 4) & 7, byte & 15
        value = (mantissa << 4) + 8 if exponent == 0 else ((mantissa << 4) + 0x108) << (exponent - 1)
        return value if byte & 0x80 else -value
    byte = ~byte & 0xff
    value = (((byte & 15) << 3) + 0x84 << ((byte >> 4) & 7)) - 0x84
    return -value if byte & 0x80 else value


def pitch(codec, data):
    """Zero crossings of the last second, upwards, in Hz; 0 for silence."""
    name, rate = codec.split("/")[:2]
    if name == "L16":
        samples = struct.unpack(f">{len(data) // 2}h", data[:len(data) // 2 * 2])
    else:
        samples = [linear(byte, name == "PCMA") for byte in data]
    # The silence behind the last word does not count.
    while samples and abs(samples[-1]) < 16:
        samples.pop()
    samples = samples[-int(rate):]
    if not samples or max(map(abs, samples)) < 500:
        return 0
    floor, above, count = max(samples) / 4, False, 0
    for sample in samples:
        if above and sample < -floor:
            above = False
        elif not above and sample > floor:
            above, count = True, count + 1
    return round(count * int(rate) / len(samples))


RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)


def is_aac(codec):
    return codec.startswith("MPEG4-GENERIC/")


def adts(codec, payload):
    """The access unit of a packet of RFC 3640's AAC-hbr, which has one here, as an ADTS frame; nothing when it is none."""
    _, rate, channels = codec.split("/")
    bits, header = struct.unpack(">HH", payload[:4].ljust(4, b"\0"))
    data = payload[4:]
    if bits != 16 or header >> 3 != len(data):
        fault(f"{bits} bits of AU headers, {header >> 3} bytes behind them of {len(data)}")
        return b""
    length = len(data) + 7
    return bytes([0xff, 0xf1, 0x40 | RATES.index(int(rate)) << 2, int(channels) << 6 | length >> 11, length >> 3 & 255, (length & 7) << 5 | 0x1f, 0xfc]) + data


class Hears:
    """What comes in one session."""

    def __init__(self):
        self.last, self.start, self.is_playing = None, None, False

    def packet(self, data):
        now = time.monotonic()
        with lock:
            if not self.is_playing:
                fault("sound before the answer to PLAY")
            if len(data) < 12 or data[0] >> 6 != 2:
                return fault("no RTP")
            if 200 <= data[1] <= 207:
                return
            kind, sequence, stamp, ssrc = data[1] & 0x7f, *struct.unpack(">HII", data[2:12])
            payload = data[12 + 4 * (data[0] & 15):]
            codec = TYPES.get(kind)
            if codec is None:
                return fault(f"payload type {kind}")
            rate = int(codec.split("/")[1])
            width = 2 if codec.startswith("L16") else 1
            if self.last and self.last[2] == ssrc:
                before, was, _, length = self.last
                if sequence != (before + 1) & 0xffff:
                    fault(f"sequence {sequence} behind {before}")
                step = (stamp - was) & 0xffffffff
                if codec[:4] in ("PCMU", "PCMA", "L16/") and step != length and step < rate:
                    fault(f"a step of {step} behind {length} samples")
                if is_aac(codec) and step != 1024 and step < rate:
                    fault(f"a step of {step} in AAC")
            else:
                self.start = (now, stamp)
                if not data[1] & 0x80:
                    fault("the first packet is not marked")
            lead = ((stamp - self.start[1]) & 0xffffffff) / rate - (now - self.start[0])
            self.last = (sequence, stamp, ssrc, len(payload) // width)
            seen["packets"] += 1
            seen["lead_ms"] = max(seen["lead_ms"], round(lead * 1000))
            for key, value in (("types", kind), ("sizes", len(payload))):
                if value not in seen[key]:
                    seen[key].append(value)
            heard.extend(adts(codec, payload) if is_aac(codec) else payload)
            if seen["packets"] % 10 == 0:
                if codec[:4] in ("PCMU", "PCMA", "L16/"):
                    seen["hz"] = pitch(codec, bytes(heard[-2 * rate:]))
                if a.bytes:
                    seen["bytes"] = heard.hex()
                report()


def description(asked):
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=camera", "t=0 0", "a=control:*", "m=audio 0 RTP/AVP 8", "a=recvonly", "a=control:0"]
    if asked:
        lines += ["m=audio 0 RTP/AVP " + " ".join(map(str, TYPES)), "a=sendonly", "a=control:1"]
        lines += [f"a=rtpmap:{kind} {codec}" for kind, codec in TYPES.items()]
        for kind, codec in TYPES.items():
            if is_aac(codec) and not a.no_config:
                config = 2 << 11 | RATES.index(int(codec.split("/")[1])) << 7 | int(codec.split("/")[2]) << 3
                lines.append(f"a=fmtp:{kind} streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config={config:04x}")
    return "\r\n".join(lines) + "\r\n"


class Connection:
    def __init__(self, peer):
        self.peer, self.file = peer, peer.makefile("rb")
        self.hears, self.ways, self.over, self.asked = Hears(), {}, threading.Event(), False
        self.writing = threading.Lock()

    def run(self):
        since = time.monotonic()
        try:
            while not a.connections or time.monotonic() - since < a.connections:
                head = self.file.peek(1)[:1]
                if not head:
                    return
                if head == b"$":
                    _, channel, length = struct.unpack(">BBH", self.file.read(4))
                    data = self.file.read(length)
                    if channel == self.ways.get(1, {}).get("channel"):
                        self.hears.packet(data)
                    continue
                lines = []
                while line := self.file.readline().decode().strip():
                    lines.append(line)
                if not lines:
                    continue
                headers = {key.strip().lower(): value.strip() for key, value in (line.split(":", 1) for line in lines[1:])}
                method, url, _ = lines[0].split(" ", 2)
                if not self.answer(method, url, headers):
                    return
        except OSError:
            return
        finally:
            self.over.set()
            self.peer.close()

    def reply(self, headers, status="200 OK", fields=(), body=""):
        lines = [f"RTSP/1.0 {status}", f"CSeq: {headers.get('cseq')}", *fields]
        if body:
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        self.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())

    def write(self, data):
        with self.writing:
            self.peer.sendall(data)

    def answer(self, method, url, headers):
        asks = REQUIRE in headers.get("require", "")
        if method == "DESCRIBE":
            with lock:
                seen["asked"] += asks
            if asks and a.refuse == "describe":
                self.reply(headers, "551 Option not supported")
            else:
                self.asked = asks
                self.reply(headers, body=description(asks))
        elif method == "SETUP":
            index = int(url.rsplit("/", 1)[1])
            if index == 1 and (a.refuse == "setup" or not asks):
                self.reply(headers, "453 Not Enough Bandwidth")
                return True
            with lock:
                seen["setups"] += index
            transport = headers["transport"].split(",")[0]
            parts = dict(part.partition("=")[::2] for part in transport.split(";"))
            way = {}
            if "interleaved" in parts:
                way["channel"] = int(parts["interleaved"].split("-")[0])
            else:
                way["socket"] = socket.socket(type=socket.SOCK_DGRAM)
                way["socket"].bind(("127.0.0.1", 0))
                way["to"] = (self.peer.getpeername()[0], int(parts["client_port"].split("-")[0]))
                port = way["socket"].getsockname()[1]
                transport += f";server_port={port}-{port + 1}"
                if index == 1:
                    threading.Thread(target=self.datagrams, args=(way["socket"],), daemon=True).start()
            self.ways[index] = way
            self.reply(headers, fields=["Session: 7;timeout=60", f"Transport: {transport}"])
        elif method == "PLAY":
            with lock:
                seen["sessions"] += 1
                report()
            self.hears.is_playing = True
            self.reply(headers, fields=["Session: 7"])
            threading.Thread(target=self.send, daemon=True).start()
        elif method == "TEARDOWN":
            self.reply(headers)
            return False
        else:
            self.reply(headers, fields=["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"])
        return True

    def datagrams(self, port):
        port.settimeout(1)
        while not self.over.is_set():
            try:
                data = port.recv(2000)
            except TimeoutError:
                continue
            # The packets that open a firewall have no payload.
            if len(data) > 12:
                self.hears.packet(data)

    def send(self):
        way = self.ways.get(0)
        if way is None:
            return
        for number in range(1 << 30):
            packet = struct.pack(">BBHII", 0x80, 8, number & 0xffff, number * 160, 7) + SILENT
            try:
                if "channel" in way:
                    self.write(struct.pack(">BBH", 0x24, way["channel"], len(packet)) + packet)
                else:
                    way["socket"].sendto(packet, way["to"])
            except OSError:
                return
            if self.over.wait(0.02):
                return


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    report()
    print("READY", listener.getsockname()[1], flush=True)
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=Connection(peer).run, daemon=True).start()


if __name__ == "__main__":
    main()
