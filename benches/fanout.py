#!/usr/bin/env python3
"""Fan-out cost: CPU time of the relay alone beside a relay without any protocol, in one run.

    cargo build --release && benches/fanout.py [--n 1,16] [--rounds 3] [--modes sendmmsg,tick]

For every N and round: relayfloor (reads a datagram, sends it to N ports, nothing else) and p2ps-relay (source before it,
N p2ps-peer behind it, records on), one after the other, on a private loopback. Printed: CPU seconds (user + system) for
each gigabit offered, the ratio to `floor-sendmmsg` of the same round, resident memory, and the window's bytes.
--crowd: the receivers are nodes in one process (benches/crowd.rs; cargo build --release --bench crowd).
Receivers take segmented trains whole (GRO), as p2ps-peer does; --no-gro for the floor's otherwise.
"""
import argparse, glob, resource
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


def crowd(args, count):
    """Ours, the receivers being nodes in one process."""
    job = Job(args, count)
    channel = Channel()
    try:
        source(job.procs, channel)
        time.sleep(0.3)
        feed(job.procs, args.ts, args.rate, 45 + args.warm + args.window, "--mark")
        proc = relay(job.procs, channel, "--stats %s" % os.path.join(TMP, "stats.%d" % time.monotonic_ns()))
        time.sleep(0.7)
        alone = rss(proc.pid)
        many = job.procs.start("%s --parent 127.0.0.1:%d --channel %s --count %d --full %d --warm %g --window %g" % (
            args.crowd, RELAY_PORT, channel.id, count, args.full, args.warm, args.window + 1), stdout=subprocess.PIPE)
        joined = int(many.stdout.readline().split()[-1])
        args.warm, warm = 0, args.warm
        cpu0 = cpu(many.pid)
        try:
            result = job.window(proc, lambda: 0)
        finally:
            args.warm = warm
        crowd_share = (cpu(many.pid) - cpu0) / args.window
        got = json.loads(many.stdout.readline())
        result.update(window=min(WINDOW_SECS, 99) * args.rate / 8 / (1 << 20), missing=got["missing"], delivered=1 - got["missing"] / max(1, got["due"]))
        print("n=%-3d joined %d  RSS before children %.1f MiB  crowd itself %.0f %% of a core  %s" % (count, joined, alone, 100 * crowd_share, got), flush=True)
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
    parser.add_argument("--crowd", nargs="?", const="", help="receivers in one process: the built bench `crowd` (found under target/ unless given)")
    parser.add_argument("--full", type=int, default=64, help="children of the crowd that are whole nodes; the others count and acknowledge")
    parser.add_argument("--no-floor", action="store_true", help="ours alone")
    args = parser.parse_args()
    private_network()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    prepare()
    args.ts = clip(args.ts)
    if args.crowd == "":
        args.crowd = max((f for f in glob.glob(os.path.join(RELEASE, "deps", "crowd-*")) if os.access(f, os.X_OK)), key=os.path.getmtime, default=None) or sys.exit("build first: cargo build --release --bench crowd")
    for count in [int(n) for n in args.n.split(",")]:
        ratios, costs = {}, {}
        for round_at in range(args.rounds):
            floors = [] if args.no_floor else [("floor-" + mode, floor, (mode,)) for mode in args.modes.split(",")]
            runs = floors + [("p2ps-relay", crowd if args.crowd else own, ())]
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
                count, name, median(ratios[name]), " ".join("%.2f" % r for r in ratios[name]), median(costs[name]), median(costs[name]) / median(costs.get("floor-sendmmsg", costs[name]))), flush=True)


main()
