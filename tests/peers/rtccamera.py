#!/usr/bin/env python3
"""A camera of a made-up vendor that speaks WebRTC (aiortc): rtccamera.py PORT; JSON lines on stdout. Signalling is a JSON text per line over
TCP; descriptions have their lines joined by `|` and must carry the vendor's mark. It sends H.264 with the clock picture, later, after a
renegotiation, a tone; it answers on the data channel `control`, sends bytes back on `events` and opens a channel of its own."""
import asyncio, json, os, sys
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rtcpeer

MARK = "a=x-vendor-session:1"

def say(**what): print(json.dumps(what), flush=True)

def to_vendor(sdp): return "|".join(sdp.splitlines()[:3] + [MARK] + sdp.splitlines()[3:])

def from_vendor(sdp):
    lines = sdp.split("|")
    if MARK not in lines or "\n" in sdp: raise ValueError("the description was not rewritten")
    return "\r\n".join(line for line in lines if line != MARK) + "\r\n"

class Camera:
    def __init__(self, reader, writer):
        self.reader, self.writer, self.has_channel = reader, writer, False
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.pc.on("connectionstatechange", lambda: say(state=self.pc.connectionState))
        self.pc.on("datachannel", self.channel)
        self.pc.on("track", lambda track: asyncio.ensure_future(self.hear(track)))

    def send(self, **message): self.writer.write(json.dumps(message).encode() + b"\n")

    async def hear(self, track):
        heard = 0
        try:
            while True:
                frame = await track.recv()
                heard += 1
                if heard % 25 == 0: say(heard=heard, kind=track.kind, rate=frame.sample_rate)
        except Exception: pass

    def channel(self, channel):
        if not self.has_channel:
            # aiortc numbers channels by its role in ICE, not by that in DTLS (RFC 8832 section 6): they are the other way round here.
            self.pc.sctp._data_channel_id ^= 1
            self.own_channel()
        say(channel=channel.label, ordered=channel.ordered, retransmits=channel.maxRetransmits, life=channel.maxPacketLifeTime)
        @channel.on("message")
        def _(message):
            if channel.label == "control": channel.send(message.replace("question", "answer"))
            elif isinstance(message, bytes): channel.send(message)

    def agreed_channel(self):
        channel = self.pc.createDataChannel("agreed", negotiated=True, id=100)
        channel.on("message", lambda message: channel.send(message + " upon"))

    def own_channel(self):
        self.has_channel = True
        channel = self.pc.createDataChannel("camera", maxPacketLifeTime=500)
        channel.on("open", lambda: channel.send("hello from the camera"))

    async def offer(self):
        await self.pc.setLocalDescription(await self.pc.createOffer())
        self.send(type="offer", sdp=to_vendor(self.pc.localDescription.sdp))

    async def run(self):
        role = None
        while line := await self.reader.readline():
            message = json.loads(line)
            kind = message["type"]
            if kind == "hello":
                role = message["role"]
                say(role=role)
                if role == "answerer":
                    rtcpeer.sender(self.pc, "h264", ("video",))
                    self.agreed_channel()
                    await self.offer()
            elif kind == "offer":
                sdp = from_vendor(message["sdp"])
                say(offer=sdp)
                await self.pc.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
                present = {sender.track.kind for sender in self.pc.getSenders() if sender.track}
                offered = {transceiver.kind for transceiver in self.pc.getTransceivers()}
                rtcpeer.sender(self.pc, "h264", offered - present)
                await self.pc.setLocalDescription(await self.pc.createAnswer())
                if not present: self.agreed_channel()
                self.send(type="answer", sdp=to_vendor(self.pc.localDescription.sdp))
            elif kind == "answer":
                await self.pc.setRemoteDescription(RTCSessionDescription(from_vendor(message["sdp"]), "answer"))
            elif kind == "candidate":
                candidate = candidate_from_sdp(message["candidate"].removeprefix("candidate:"))
                candidate.sdpMid, candidate.sdpMLineIndex = message.get("sdpMid"), message.get("sdpMLineIndex")
                await self.pc.addIceCandidate(candidate)
                say(candidate=message["candidate"])
            elif kind == "loudspeaker": say(loudspeaker=message["on"])
            elif kind == "report":
                say(report=message)
                # All is well: now it has a microphone, too.
                if not any(sender.track and sender.track.kind == "audio" for sender in self.pc.getSenders()):
                    if role == "answerer":
                        rtcpeer.sender(self.pc, None, ("audio",))
                        await self.offer()
                    else: self.send(type="microphone")
        say(hung_up=True)

async def serve(port):
    async def connection(reader, writer):
        camera = Camera(reader, writer)
        try: await camera.run()
        except Exception as error: say(error=repr(error))
        # The connection is left to find out by itself that nobody is there.
        writer.close()
    server = await asyncio.start_server(connection, "127.0.0.1", port, limit=1 << 20)
    say(ready=True)
    await server.serve_forever()

if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
