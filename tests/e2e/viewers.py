#!/usr/bin/env python3
"""500 RTSP and 500 MP4 viewers of one stream: what is done once however many they are, and that nothing stays when all leave at once.

`viewers.py [ROUNDS]`: how often all viewers of each kind leave at the same moment (20 when not given).
"""
import os
import resource
import select
import socket
import sys
import time

from run import Server, http_viewer, metrics, rtsp_viewer, wait

COUNT = 500


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
        # Reports come every 5 s: wait for one of each that is younger than the last viewer.
        middle = metrics(server)
        wait(lambda: named(metrics(server), "rtsp_joins", "rtsp") >= COUNT + 1, 20, "a report of the rtsp plugin")
        read_all(viewers + keep, 6)
        values = metrics(server)
        assert values["patchbay_sources"] == 1 and values["patchbay_mux_runs"] == 1, values
        assert named(values, "mux_runs", "mp4") == 1, values
        tracks = 2
        assert named(values, "rtsp_packetize_runs", "rtsp") <= tracks, values
        for plugin, units in (("rtsp", "units_copied"), ("mp4", "units_copied"), ("rtsp", "rtsp_packetized_units")):
            copied, came = named(values, units, plugin), pushed(values)
            # Reports lag behind; a copy per viewer would be 500 times as many.
            assert 0 < copied <= came, (plugin, units, copied, came)
            assert copied > named(middle, units, plugin) > 0, (plugin, units)
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


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65_536, hard))
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    everything_is_done_once()
    print("ok everything is done once", flush=True)
    nothing_stays(rounds)
    print(f"ok nothing stays after {rounds} rounds")
    print("2 passed, 0 failed")


if __name__ == "__main__":
    main()
