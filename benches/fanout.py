#!/usr/bin/env python3
"""Fan-out cost: CPU time of the relay alone beside a relay without any protocol, in one run.

    cargo build --release && benches/fanout.py [--n 1,16] [--rounds 3] [--modes sendmmsg,tick]

For every N and round: relayfloor (reads a datagram, sends it to N ports, nothing else) and p2ps-relay (source before it,
N p2ps-peer behind it, records on), one after the other, on a private loopback. Printed: CPU seconds (user + system) for
each gigabit offered, the ratio to `floor-sendmmsg` of the same round, resident memory, and the window's bytes.
Receivers take segmented trains whole (GRO), as p2ps-peer does; --no-gro for the floor's otherwise.
"""
import argparse
from common import *


class Job:
    """One relay under load, measured over a window of time."""

    def __init__(self, args, count):
        self.args, self.count, self.procs = args, count, Procs()

    def window(self, proc, taken):
        time.sleep(self.args.warm)
        if proc.poll() is not None:
            raise RuntimeError("the relay ended: " + complaint(proc))
        cpu0, bytes0, at0 = cpu(proc.pid), taken(), time.monotonic()
        time.sleep(self.args.window)
        cpu1, bytes1, at1 = cpu(proc.pid), taken(), time.monotonic()
        gbit = self.args.rate * self.count * (at1 - at0) * 1e-9
        return {"cost": (cpu1 - cpu0) / gbit, "share": (cpu1 - cpu0) / (at1 - at0), "delivered": (bytes1 - bytes0) * 8e-9 / gbit, "rss": rss(proc.pid)}

    def seconds(self):
        return self.args.warm + self.args.window + 6 + self.count * 0.1


def floor(args, count, mode):
    job = Job(args, count)
    try:
        sink = Sink(job.procs, count, "" if args.no_gro else "--gro")
        extra = "--hold-us 20000" if mode == "tick" else "--seg 8 --hold-us 12000" if mode == "gso" else ""
        proc = job.procs.start("%s --in %d --out %d --n %d --mode %s %s" % (tool("relayfloor"), FEED_PORT, SINK_PORT, count, mode, extra))
        time.sleep(0.3)
        feed(job.procs, args.ts, args.rate, job.seconds(), "--mark")
        return job.window(proc, sink.bytes)
    finally:
        job.procs.stop()


def own(args, count):
    job = Job(args, count)
    channel = Channel()
    stats = os.path.join(TMP, "stats.%d" % time.monotonic_ns())
    outs = []
    try:
        source(job.procs, channel)
        time.sleep(0.3)
        feed(job.procs, args.ts, args.rate, job.seconds(), "--mark")
        proc = relay(job.procs, channel, "--stats %s" % stats)
        time.sleep(0.7)
        for at in range(count):
            outs.append(os.path.join(TMP, "peer.%d" % at))
            peer(job.procs, channel, "-o /dev/null --no-upload --latency 300ms --stats %s" % outs[-1])
        time.sleep(1)
        if args.perf:
            perf = job.procs.start(["sh", "-c", "sleep %g; exec perf record -q -F 1999 -g -p %d -o %s.%d -- sleep %g" % (args.warm, proc.pid, args.perf, count, args.window)])
        result = job.window(proc, lambda: sum(played(path)[0] for path in outs))
        held = records(stats, "interval")[-1]
        result["window"] = held["recv_media_bytes_total"] * min(1, WINDOW_SECS * 1e3 / held["up_ms"]) / (1 << 20)
        result["missing"] = sum(played(path)[1] for path in outs)
        if args.perf:
            perf.wait(20)
        return result
    finally:
        job.procs.stop()


def played(path):
    """Bytes of media that a peer put out, and chunks that it did not have in time."""
    found = records(path, "interval")
    last = found[-1] if found else {}
    return last.get("media_bytes_total", 0), last.get("due_packets_total", 0) - last.get("played_packets_total", 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ts", help="transport stream of constant rate (made with ffmpeg unless given)")
    parser.add_argument("--rate", type=float, default=8e6)
    parser.add_argument("--n", default="1,16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--modes", default="sendmmsg", help="floors beside ours: sendmmsg, sendto, gso, tick, uring")
    parser.add_argument("--warm", type=float, default=3)
    parser.add_argument("--window", type=float, default=6)
    parser.add_argument("--no-gro", action="store_true")
    parser.add_argument("--perf", help="profile our relay into FILE.N")
    args = parser.parse_args()
    private_network()
    prepare()
    args.ts = clip(args.ts)
    for count in [int(n) for n in args.n.split(",")]:
        ratios, costs = {}, {}
        for round_at in range(args.rounds):
            runs = [("floor-" + mode, floor, (mode,)) for mode in args.modes.split(",")] + [("p2ps-relay", own, ())]
            base = None
            for name, run, extra in runs:
                got = run(args, count, *extra)
                base = got["cost"] if name == "floor-sendmmsg" else base
                ratio = got["cost"] / base if base else float("nan")
                ratios.setdefault(name, []).append(ratio)
                costs.setdefault(name, []).append(got["cost"])
                more = "  window %.1f MiB  missing %d" % (got["window"], got["missing"]) if "window" in got else ""
                print("n=%-3d %-15s ratio %.2f  %.4f CPU-s/Gbit  %5.2f %% of a core  delivered %.3f  RSS %.1f MiB%s" % (
                    count, name, ratio, got["cost"], 100 * got["share"], got["delivered"], got["rss"], more), flush=True)
        for name in ratios:
            print("n=%-3d %-15s MEDIAN ratio %.2f (%s)  %.4f CPU-s/Gbit; of the medians %.2f" % (
                count, name, median(ratios[name]), " ".join("%.2f" % r for r in ratios[name]), median(costs[name]), median(costs[name]) / median(costs.get("floor-sendmmsg", []))), flush=True)


main()
