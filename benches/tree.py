#!/usr/bin/env python3
"""Tree beside star: what a source sends and what it costs, with 16 receivers that one tracker places.

    cargo build --release && benches/tree.py [--n 16] [--rounds 3]

For each round and rule: p2ps-tracker --placement balanced (or star), one p2ps-source, N p2ps-peer that know nothing but
the tracker, on a private loopback. Printed side by side: children of the source, copies that it sends (its media bytes
sent by those read), its CPU in percent of a core, and the levels of the receivers. Fails when the tree's source sends
more than two copies and a bit, or costs more than half of the star's.
"""
import argparse
from common import *

TRACKER_PORT = 7851


def run(args, rule):
    procs, channel = Procs(), Channel()
    stats = os.path.join(TMP, "stats.%d" % time.monotonic_ns())
    at = "p2ps://127.0.0.1:%d/bench" % TRACKER_PORT
    try:
        procs.start("%s -q --listen 127.0.0.1:%d --placement %s" % (ours("p2ps-tracker"), TRACKER_PORT, rule))
        time.sleep(0.3)
        proc = source(procs, channel, "--tracker 127.0.0.1:%d --stats %s" % (TRACKER_PORT, stats))
        time.sleep(0.5)
        feed(procs, args.ts, args.rate, args.warm + args.window + 10 + args.n * 0.2, "--mark")
        outs = []
        for number in range(args.n):
            outs.append(os.path.join(TMP, "peer.%s.%d" % (rule, number)))
            procs.start("%s -q --no-progress --listen 127.0.0.1:0 -o /dev/null --stats %s %s" % (ours("p2ps-peer"), outs[-1], at))
            time.sleep(0.2)
        time.sleep(args.warm)
        if proc.poll() is not None:
            raise RuntimeError("the source ended: " + complaint(proc))
        cpu0, before, began = cpu(proc.pid), records(stats, "interval")[-1], time.monotonic()
        time.sleep(args.window)
        cpu1, after, ended = cpu(proc.pid), records(stats, "interval")[-1], time.monotonic()
        grown = lambda name: after[name] - before[name]
        last = [records(out, "interval")[-1] for out in outs]
        return {
            "children": after["children"],
            "copies": grown("sent_media_bytes_total") / max(1, grown("media_bytes_total")),
            "share": (cpu1 - cpu0) / (ended - began),
            "levels": sorted(record.get("depth", 0) + 1 for record in last),
            "missing": sum(record["due_packets_total"] - record["played_packets_total"] for record in last),
        }
    finally:
        procs.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ts", help="transport stream of constant rate (made with ffmpeg unless given)")
    parser.add_argument("--rate", type=float, default=8e6)
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", type=float, default=8)
    parser.add_argument("--window", type=float, default=8)
    args = parser.parse_args()
    private_network()
    args.ts = clip(args.ts)
    shares = {"balanced": [], "star": []}
    copies = {"balanced": [], "star": []}
    for round_at in range(args.rounds):
        for rule in ("balanced", "star"):
            got = run(args, rule)
            shares[rule].append(got["share"])
            copies[rule].append(got["copies"])
            print("%-8s children %-3d copies %5.2f  %5.2f %% of a core  missing %d  levels %s" % (
                rule, got["children"], got["copies"], 100 * got["share"], got["missing"], " ".join(map(str, got["levels"]))), flush=True)
    tree, star = median(shares["balanced"]), median(shares["star"])
    print("MEDIAN   copies %.2f beside %.2f, CPU %.2f %% beside %.2f %% of a core: %.2f of it" % (
        median(copies["balanced"]), median(copies["star"]), 100 * tree, 100 * star, tree / star), flush=True)
    if median(copies["balanced"]) > 2.2 or tree > star / 2:
        sys.exit("the tree does not spare the source")


main()
