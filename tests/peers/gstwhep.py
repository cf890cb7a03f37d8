#!/usr/bin/python3
"""GStreamer webrtcbin as WHEP player: gstwhep.py URL [frames] [udp|tcp|all] [TURN URL, for a relay alone]; prints frames per media, once there are so many of both or after 40 s. H.264/VP8/Opus as the answer chooses."""
# Debian: gstreamer1.0-nice gir1.2-gst-plugins-bad-1.0 gstreamer1.0-plugins-bad gstreamer1.0-libav. Use /usr/bin/python3.
import sys, time, urllib.request, gi  # noqa: E401
for lib in ("Gst", "GstWebRTC", "GstSdp"): gi.require_version(lib, "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC
Gst.init(None)
url, wanted = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100
pipe = Gst.Pipeline.new("p"); rtc = Gst.ElementFactory.make("webrtcbin"); rtc.set_property("bundle-policy", 3); pipe.add(rtc)
net, turn = (sys.argv[3:] + ["all", ""][len(sys.argv[3:]):])
def only(sdp):
    return "".join(line for line in sdp.splitlines(True) if not line.startswith("a=candidate") or net == "all" or line.split()[2].lower() == net)
if turn: rtc.set_property("turn-server", turn); rtc.set_property("ice-transport-policy", 1)
loop, count, begin = GLib.MainLoop(), {}, time.monotonic()
def gathered(*_):
    if rtc.get_property("ice-gathering-state") != GstWebRTC.WebRTCICEGatheringState.COMPLETE: return
    sdp = only(rtc.get_property("local-description").sdp.as_text())
    r = urllib.request.urlopen(urllib.request.Request(url, sdp.encode(), {"Content-Type": "application/sdp"}))
    msg = GstSdp.SDPMessage.new_from_text(only(r.read().decode()))[1]
    rtc.emit("set-remote-description", GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, msg), Gst.Promise.new())
def created(promise, *_):
    promise.wait(); reply = promise.get_reply(); offer = reply.get_value("offer")     # keep reply alive, or the offer is freed memory
    rtc.emit("set-local-description", offer, Gst.Promise.new())
def pad_added(_e, pad):
    if pad.direction != Gst.PadDirection.SRC: return
    dec = Gst.ElementFactory.make("decodebin")
    def raw(_d, p):
        kind = p.get_current_caps().to_string().split("/")[0]; sink = Gst.ElementFactory.make("fakesink"); sink.set_property("signal-handoffs", True)
        def handoff(*_):
            if kind == "video" and kind not in count: count["first_ms"] = round((time.monotonic() - begin) * 1000)
            count[kind] = count.get(kind, 0) + 1
            if all(count.get(one, 0) >= wanted for one in ("video", "audio")): GLib.idle_add(loop.quit)
        sink.connect("handoff", handoff); pipe.add(sink); sink.sync_state_with_parent(); p.link(sink.get_static_pad("sink"))
    dec.connect("pad-added", raw); pipe.add(dec); dec.sync_state_with_parent(); pad.link(dec.get_static_pad("sink"))
rtc.connect("notify::ice-gathering-state", lambda *_: GLib.idle_add(gathered)); rtc.connect("pad-added", pad_added)
pipe.set_state(Gst.State.PLAYING)
for caps in ("application/x-rtp,media=video,encoding-name=H264,clock-rate=90000,payload=97,packetization-mode=(string)1,profile-level-id=(string)42e01f", "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,encoding-params=(string)2,payload=98"):
    rtc.emit("add-transceiver", GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY, Gst.Caps.from_string(caps))
rtc.emit("create-offer", None, Gst.Promise.new_with_change_func(created))
GLib.timeout_add(40_000, loop.quit); loop.run()
print("STATE", rtc.get_property("connection-state").value_nick, "FRAMES", count); pipe.set_state(Gst.State.NULL)
sys.exit(0 if count else 1)
