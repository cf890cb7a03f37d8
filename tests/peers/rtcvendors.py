#!/usr/bin/env python3
"""Services that are dialled over WebRTC in ways of their own, made of aiortc: rtcvendors.py PORT. They check what they are asked.

/creality, /api (milestone), /wyze over HTTP; /kinesis, /switchbot, /openipc over WebSockets. What is wrong is printed and ends the session.
"""
# PyPI: aiortc aiohttp numpy.
import asyncio, base64, json, sys, urllib.parse
from aiohttp import WSMsgType, web
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp

PORT = int(sys.argv[1])
import rtcpeer  # noqa: E402

pcs = set()


def wrong(text):
    print("WRONG", text, flush=True)
    return web.Response(status=400, text=text)


async def connection(offer=None, kinds=("video", "audio")):
    """A connection that sends; answers `offer`, or makes one."""
    pc = RTCPeerConnection()
    pcs.add(pc)
    if offer is None:
        rtcpeer.sender(pc, "h264", kinds)
        for transceiver in pc.getTransceivers():
            transceiver.direction = "sendonly"
        await pc.setLocalDescription(await pc.createOffer())
    else:
        await pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        rtcpeer.sender(pc, kinds=[t.kind for t in pc.getTransceivers()])
        await pc.setLocalDescription(await pc.createAnswer())
    return pc


def decoded(text):
    return json.loads(base64.b64decode(text, validate=True))


def encoded(value):
    return base64.b64encode(json.dumps(value).encode()).decode()


async def creality(request):
    if request.headers.get("content-type") != "plain/text":
        return wrong(f"creality content type {request.headers.get('content-type')}")
    offer = decoded(await request.text())
    if list(offer) != ["sdp", "type"] or offer["type"] != "offer" or "m=audio" in offer["sdp"]:
        return wrong(f"creality offer {offer}")
    pc = await connection(offer["sdp"])
    lines = []
    for line in pc.localDescription.sdp.splitlines():
        if line.startswith("m=video"):
            head, formats = line.split("SAVPF ")
            line = f"{head}SAVPF 126 {formats}"
        lines.append(line)
        if line.startswith("a=mid"):
            lines += ["a=rtpmap:126 H264/90000", "a=fmtp:126 packetization-mode=0"]
    return web.Response(text=encoded({"sdp": "\r\n".join(lines) + "\r\n", "type": "answer"}))


async def wyze(_):
    return web.json_response({"ClientId": "viewer", "cam": "c", "result": "ok", "servers": [], "signalingUrl": f"ws://127.0.0.1:{PORT}/kinesis"})


async def kinesis(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str("")
    pc = None
    async for message in socket:
        if message.type != WSMsgType.TEXT:
            break
        message = json.loads(message.data)
        payload = decoded(message["messagePayload"])
        if set(message) - {"correlationId"} != {"action", "recipientClientId", "messagePayload"}:
            wrong(f"kinesis keys {list(message)}")
        if message["action"] == "SDP_OFFER":
            wanted = ["type", "sdp", "resolution", "play_type"] if request.path == "/switchbot" else ["type", "sdp"]
            if list(payload) != wanted or (request.path == "/switchbot" and (payload["resolution"], payload["play_type"]) != (1, 3)):
                wrong(f"{request.path} offer {list(payload)}")
                break
            pc = await connection(payload["sdp"])
            answer = {"type": "answer", "sdp": pc.localDescription.sdp}
            await socket.send_str(json.dumps({"messageType": "SDP_ANSWER", "messagePayload": encoded(answer), "senderClientId": "m"}))
        elif message["action"] == "ICE_CANDIDATE":
            if pc is None or not payload["candidate"].startswith("candidate:"):
                wrong(f"kinesis candidate {payload}")
                break
            candidate = candidate_from_sdp(payload["candidate"].split(":", 1)[1])
            candidate.sdpMid, candidate.sdpMLineIndex = payload["sdpMid"], payload["sdpMLineIndex"]
            await pc.addIceCandidate(candidate)
    print("CLOSED", request.path, pc and pc.connectionState, flush=True)
    return socket


async def openipc(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    pc = await connection()
    await socket.send_str(json.dumps({"reply": "webrtc_answer", "data": {"type": "offer", "sdp": pc.localDescription.sdp}}))
    async for message in socket:
        if message.type != WSMsgType.TEXT:
            break
        message = json.loads(message.data)
        if message["req"] == "answer":
            await pc.setRemoteDescription(RTCSessionDescription(message["data"], "answer"))
        elif message["req"] != "candidate":
            wrong(f"openipc {message}")
    print("CLOSED", request.path, pc.connectionState, flush=True)
    return socket


sessions = {}


async def token(request):
    form = urllib.parse.parse_qs(await request.text())
    if form != {"client_id": ["GrantValidatorClient"], "grant_type": ["password"], "username": ["us er"], "password": ["p&s"]}:
        return wrong(f"milestone form {form}")
    return web.json_response({"access_token": "T"})


async def session(request):
    body = await request.json()
    if request.headers.get("authorization") != "Bearer T" or body != {"cameraId": "C", "playbackTimeNode": {}}:
        return wrong(f"milestone session {body}")
    pc = await connection(kinds=("video",))
    sessions["S"] = pc
    return web.json_response({"sessionId": "S", "offerSDP": json.dumps({"type": "offer", "sdp": pc.localDescription.sdp})})


async def answer(request):
    body = json.loads((await request.json())["answerSDP"])
    if request.headers.get("authorization") != "Bearer T" or body["type"] != "answer":
        return wrong(f"milestone answer {body}")
    await sessions[request.match_info["id"]].setRemoteDescription(RTCSessionDescription(body["sdp"], "answer"))
    return web.json_response({})


async def main():
    app = web.Application()
    app.add_routes([web.post("/creality", creality), web.get("/wyze", wyze), web.get("/kinesis", kinesis), web.get("/switchbot", kinesis), web.get("/openipc", openipc),
                    web.post("/api/IDP/connect/token", token), web.post("/api/REST/v1/WebRTC/Session", session), web.patch("/api/REST/v1/WebRTC/Session/{id}", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", PORT).start()
    print("READY", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
