#!/usr/bin/env python3
"""How often plugins are woken for units.

`wakes.py [--streams 1,20,100] [--seconds 10]`. Needs `cargo build --release`. Each stream is a demo of its own (75 units a second),
watched over RTSP and as MP4: each plugin reads all of them. Prints per plugin wakes a second, units a second, and the server's CPU.
"""
import argparse
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from run import Server, http_viewer, metrics, rtsp_viewer  # noqa: E402
from viewers import read_all  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def switches(pid):
    """Context switches of all threads."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total


def total(values, name, label=""):
    return sum(value for key, value in values.items() if key.startswith(name) and label in key)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", default="1,20,100")
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    print("| streams | units/s | wakes/s rtsp | wakes/s mp4 | context switches/s | CPU % of a core |\n|---|---|---|---|---|---|")
    for count in map(int, given.streams.split(",")):
        with Server(streams="streams:\n" + "".join(f"  s{n}: \"demo:?n={n}\"\n" for n in range(count))) as server:
            viewers = [join(server, f"s{n}") for n in range(count) for join in (rtsp_viewer, http_viewer)]
            read_all(viewers, 5)
            pid = server.process.pid
            before, used, switched = metrics(server), cpu(pid), switches(pid)
            read_all(viewers, given.seconds)
            after, used, switched = metrics(server), cpu(pid) - used, switches(pid) - switched
            rate = lambda name, label="": (total(after, name, label) - total(before, name, label)) / given.seconds
            wakes = [rate("patchbay_plugin_wakes_total", f'"{plugin}"') for plugin in ("rtsp", "mp4")]
            print(f"| {count} | {rate('patchbay_source_units_total'):.0f} | {wakes[0]:.0f} | {wakes[1]:.0f} | {switched / given.seconds:.0f} | {100 * used / given.seconds:.1f} |", flush=True)
            for viewer in viewers:
                viewer.close()


if __name__ == "__main__":
    main()
