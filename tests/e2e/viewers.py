#!/usr/bin/env python3
"""500 RTSP and 500 MP4 viewers of one stream: what is done once however many they are, that nothing stays when all leave at once,
and that one who does not read harms nobody.

`viewers.py [ROUNDS]`: how often all viewers of each kind leave at the same moment (20 when not given).
"""
import json
import os
import pathlib
import resource
import select
import socket
import sys
import tempfile
import time

from run import Server, http_viewer, metrics, rtsp_viewer, run, wait

COUNT = 500
# Those that read 2 Mbit/s each, all from this one process.
READING = min(COUNT, 125 * len(os.sched_getaffinity(0)))

# What the kernel may hold for one viewer that does not read: the limit of unsent bytes, and what one write adds.
KERNEL_MAX = 1 << 20


def read_all(viewers, seconds):
    """Reads from all for a while; bytes of each."""
    poll, count = select.epoll(), {viewer.fileno(): 0 for viewer in viewers}
    by_fd = {viewer.fileno(): viewer for viewer in viewers}
    for viewer in viewers:
        viewer.setblocking(False)
        poll.register(viewer, select.EPOLLIN)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for fd, _ in poll.poll(0.1):
            data = by_fd[fd].recv(1 << 18)
            assert data, "a viewer was closed"
            count[fd] += len(data)
    poll.close()
    return list(count.values())


def state(server):
    """What must come back: descriptors, threads, resident kB of the server."""
    folder = f"/proc/{server.process.pid}"
    status = dict(line.split(":", 1) for line in open(f"{folder}/status").read().splitlines())
    return len(os.listdir(f"{folder}/fd")), int(status["Threads"]), int(status["VmRSS"].split()[0])


def named(values, name, plugin):
    return values.get(f'patchbay_plugin_{name}{{plugin="{plugin}"}}', 0)


def pushed(values):
    """Units of all tracks that the source has brought."""
    return sum(value for name, value in values.items() if name.startswith("patchbay_source_units_total"))


def everything_is_done_once():
    with Server() as server:
        keep = [rtsp_viewer(server), http_viewer(server)]
        read_all(keep, 2)
        before = metrics(server)
        viewers = [rtsp_viewer(server) for _ in range(COUNT)] + [http_viewer(server) for _ in range(COUNT)]
        wait(lambda: metrics(server)["patchbay_consumers"] == 2 * COUNT + 2, 60, f"{2 * COUNT + 2} consumers")
        counts = read_all(viewers + keep, 4)
        assert min(counts) > 20_000, sorted(counts)[:5]
        # Reports come every 5 s, later on a busy machine: wait for one of each that is younger than the last viewer, and for another one.
        runs = (("rtsp", "units_copied"), ("mp4", "units_copied"), ("rtsp", "rtsp_packetized_units"))
        reading = lambda ready: read_all(viewers + keep, 1) and ready()
        wait(lambda: reading(lambda: named(metrics(server), "rtsp_joins", "rtsp") >= COUNT + 1), 120, "a report of the rtsp plugin")
        middle = metrics(server)
        wait(lambda: reading(lambda: all(named(metrics(server), units, plugin) > named(middle, units, plugin) for plugin, units in runs)), 120, "newer reports")
        values = metrics(server)
        assert values["patchbay_sources"] == 1 and values["patchbay_mux_runs"] == 1, values
        assert named(values, "mux_runs", "mp4") == 1, values
        tracks = 2
        assert named(values, "rtsp_packetize_runs", "rtsp") <= tracks, values
        for plugin, units in runs:
            copied, came = named(values, units, plugin), pushed(values)
            # Reports lag behind; a copy per viewer would be 500 times as many.
            assert 0 < copied <= came, (plugin, units, copied, came)
        for plugin in ("rtsp", "mp4"):
            histories = named(values, "histories_read", plugin) - named(before, "histories_read", plugin)
            assert histories <= COUNT, (plugin, histories)
            print(f"  {plugin}: {named(values, 'units_copied', plugin)} units copied of {pushed(values)} pushed, {histories} histories for {COUNT} joins")
        for viewer in viewers + keep:
            viewer.close()


def nothing_stays(rounds):
    with Server() as server:
        states = []
        for turn in range(rounds + 1):
            for join in (rtsp_viewer, http_viewer):
                viewers = [join(server) for _ in range(COUNT)]
                try:
                    wait(lambda: metrics(server)["patchbay_consumers"] == COUNT, 60, f"{COUNT} consumers")
                    assert min(read_all(viewers, 1.2)) > 5_000
                finally:
                    for viewer in viewers:
                        # Without a farewell: as when a network goes away and comes back.
                        viewer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                        viewer.close()
                wait(lambda: metrics(server)["patchbay_consumers"] == 0, 30, "end of all consumers")
            states.append(state(server))
        wait(lambda: metrics(server)["patchbay_sources"] == 0, 20, "end of the source")
        values = metrics(server)
        assert values["patchbay_ring_bytes"] == 0 and values["patchbay_mux_runs"] == 0, values
        # The first rounds fill the allocator's heaps.
        warm = min(3, rounds)
        first, last = states[warm], states[-1]
        print(f"  after round {warm + 1}: {first}, after round {rounds + 1}: {last} (descriptors, threads, resident kB)")
        assert last[0] <= first[0] + 4 and last[1] <= first[1], states
        assert last[2] < first[2] + 16_000, states


def kernel_queue(port):
    """The most bytes that the kernel holds for one client of a port: sent and not acknowledged, or unsent."""
    most = 0
    for name in ("tcp", "tcp6"):
        for line in open(f"/proc/net/{name}").read().splitlines()[1:]:
            words = line.split()
            if int(words[1].rsplit(":", 1)[1], 16) == port:
                most = max(most, int(words[4].split(":")[0], 16))
    return most


def receive(viewer, seconds):
    """What a viewer that reads again gets."""
    viewer.settimeout(1)
    data, end = bytearray(), time.monotonic() + seconds
    while time.monotonic() < end:
        got = viewer.recv(1 << 18)
        assert got, "the viewer that stalled was closed"
        data += got
    return bytes(data)


def old_http_viewer(server):
    """HTTP/1.0: the body is the file."""
    connection = socket.create_connection(("127.0.0.1", server.http), timeout=20)
    connection.sendall(b"GET /api/stream.mp4?src=demo HTTP/1.0\r\nHost: localhost\r\n\r\n")
    return connection


def key_after_gap_mp4(data, path):
    """Plays on after the only gap, with a key picture; every box is whole."""
    path.write_bytes(data.split(b"\r\n\r\n", 1)[1])
    done = run("ffprobe", "-v", "error", "-show_entries", "packet=dts_time,flags", "-of", "json", path)
    packets = [(float(packet["dts_time"]), packet["flags"]) for packet in json.loads(done.stdout)["packets"]]
    gaps = [(now[0] - last[0], at) for at, (last, now) in enumerate(zip(packets, packets[1:]), 1) if now[0] - last[0] > 0.5]
    assert len(gaps) == 1, (gaps, done.stderr)
    gap, at = gaps[0]
    assert "K" in packets[at][1] and len(packets) - at > 50, (gap, at, packets[at], len(packets))
    return gap


def key_after_gap_rtsp(data, _):
    """Every interleaved frame is whole, and the first packet after the only gap begins a key picture."""
    at = data.index(b"\r\n\r\n") + 4
    last, gaps, after = None, [], 0
    while at + 4 <= len(data):
        assert data[at] == ord("$"), f"no frame at {at} of {len(data)}: {data[at:at + 8]}"
        channel, size = data[at + 1], int.from_bytes(data[at + 2:at + 4], "big")
        packet = data[at + 4:at + 4 + size]
        at += 4 + size
        if channel or len(packet) < 14:
            continue
        sequence, stamp = int.from_bytes(packet[2:4], "big"), int.from_bytes(packet[4:8], "big")
        if last and sequence != (last[0] + 1) & 0xFFFF:
            kind = packet[12] & 0x1F
            gaps.append(((stamp - last[1]) / 90_000, packet[13] & 0x1F if kind == 28 else kind))
            after = 0
        last, after = (sequence, stamp), after + 1
    assert len(gaps) == 1 and after > 50, (gaps, after)
    gap, kind = gaps[0]
    # An IDR slice, parameter sets, or both in an aggregation packet.
    assert kind in (5, 7, 8, 24), (gap, kind)
    return gap


def one_of_many_stalls(kind, join, stalled_join, port_of, seconds, check):
    """One of many does not read for a while: bounded memory, the others get all, and it goes on at a key picture."""
    with tempfile.TemporaryDirectory() as folder:
        clip = pathlib.Path(folder) / "clip.mp4"
        rate = "2M"
        run("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=50,noise=alls=40:allf=t", "-t", "90", "-c:v", "libx264", "-preset", "ultrafast",
            "-g", "100", "-b:v", rate, "-minrate", rate, "-maxrate", rate, "-bufsize", "400k", "-x264-params", "nal-hrd=cbr", "-pix_fmt", "yuv420p", clip, limit=120, check=True)
        with Server(streams=f"streams:\n  demo: file:{clip}\n") as server:
            viewers = [join(server) for _ in range(READING - 1)]
            stalled = stalled_join(server)
            wait(lambda: metrics(server)["patchbay_consumers"] == READING, 60, f"{READING} consumers")
            read_all(viewers, 1)
            before, counts = state(server), read_all(viewers, seconds)
            after, queue = state(server), kernel_queue(port_of(server))
            # The others go on: where this machine sends and reads all that in time, none is left behind by more than a second of the stream.
            assert min(counts) > 0, counts
            if sum(counts) > 0.9 * 250_000 * seconds * len(counts):
                assert min(counts) > max(counts) - 250_000, (min(counts), max(counts))
            assert queue < KERNEL_MAX, queue
            # The shared log is 16 MiB at most; nothing else may grow.
            assert after[2] < before[2] + 24_000, (before, after)
            gap = check(receive(stalled, 4), pathlib.Path(folder) / "stalled.mp4")
            if kind == "mp4":
                skips = sum(value for name, value in metrics(server).items() if name.startswith("patchbay_mux_skips_total"))
                assert skips == 1, skips
            print(f"  {kind}: the kernel held {queue} bytes, resident {before[2]} to {after[2]} kB, {gap:.1f} s left out, {READING - 1} others {min(counts)} to {max(counts)} bytes in {seconds} s")
            for viewer in [*viewers, stalled]:
                viewer.close()


def a_crowd_that_reads_nothing():
    """Viewers who connect and take nothing hold what the kernel and HTTP's queue take, and a share of 64 MiB; others go on."""
    with tempfile.TemporaryDirectory() as folder:
        clip = pathlib.Path(folder) / "clip.mp4"
        rate = "4M"
        run("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25,noise=alls=40:allf=t", "-t", "60", "-c:v", "libx264", "-preset", "ultrafast",
            "-g", "100", "-b:v", rate, "-minrate", rate, "-maxrate", rate, "-bufsize", "400k", "-x264-params", "nal-hrd=cbr", "-pix_fmt", "yuv420p", clip, limit=120, check=True)
        with Server(streams=f"streams:\n  demo: file:{clip}\n") as server:
            keep = http_viewer(server)
            read_all([keep], 5)
            before, crowd = state(server)[2], []
            # One after another, so that each has a start of its own; then some more when those have stalled for 10 s.
            for count, rest in ((120, 11), (40, 1)):
                for _ in range(count):
                    crowd.append(http_viewer(server))
                    read_all([keep], 0.05)
                counts = read_all([keep], rest)
            values, after, queue = metrics(server), state(server)[2], kernel_sum(server.http)
            held, given_up = values["patchbay_http_held_bytes"], values["patchbay_http_given_up_total"]
            print(f"  {len(crowd)} viewers that read nothing: {(after - before) / len(crowd):.0f} kB each in the server, {queue / len(crowd) / 1000:.0f} kB each in the kernel; "
                  f"starts of {held / 1e6:.0f} MB wait, {given_up:.0f} viewers given up")
            assert counts[0] > 200_000, counts
            assert held <= (64 << 20) + (4 << 20) and given_up > 0, (held, given_up)
            # The starts, what HTTP's queue takes, and the room of the allocator and of the shared log.
            assert after - before < (64 << 10) + len(crowd) * 200 + 32_000, (before, after)
            # They were closed, so that nothing of theirs stays; whoever holds what is within the limit was not.
            ended = set()
            wait(lambda: ended.update(viewer for viewer in crowd if has_ended(viewer)) or len(ended) >= given_up, 30, "the end of those given up")
            assert len(ended) < len(crowd), given_up
            for viewer in [keep, *crowd]:
                viewer.close()
            wait(lambda: metrics(server)["patchbay_http_held_bytes"] == 0, 30, "nothing that waits")


def has_ended(viewer):
    """Whether the server has closed the connection, which shows behind what the kernel still held: takes what is there."""
    viewer.setblocking(False)
    try:
        while data := viewer.recv(1 << 18):
            if len(data) < 1 << 16:
                return False
        return True
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def kernel_sum(port):
    """Bytes that the kernel holds for all clients of a port."""
    total = 0
    for name in ("tcp", "tcp6"):
        for line in open(f"/proc/net/{name}").read().splitlines()[1:]:
            words = line.split()
            if int(words[1].rsplit(":", 1)[1], 16) == port:
                total += int(words[4].split(":")[0], 16)
    return total


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65_536, hard))
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    everything_is_done_once()
    print("ok everything is done once", flush=True)
    nothing_stays(rounds)
    print(f"ok nothing stays after {rounds} rounds")
    # An RTSP player that takes nothing for 15 s is gone; a run of an output keeps 1024 chunks: 20 s of this stream.
    one_of_many_stalls("rtsp", rtsp_viewer, rtsp_viewer, lambda server: server.rtsp, 10, key_after_gap_rtsp)
    print("ok one of many RTSP viewers stalls", flush=True)
    one_of_many_stalls("mp4", http_viewer, old_http_viewer, lambda server: server.http, 30, key_after_gap_mp4)
    print("ok one of many MP4 viewers stalls")
    a_crowd_that_reads_nothing()
    print("ok a crowd reads nothing")
    print("5 passed, 0 failed")


if __name__ == "__main__":
    main()
