#!/usr/bin/env python3
"""A tree on lossy wires: source, relay and N peers in three networks; chunks that the peers did not have in time.

    cargo build --release && benches/loss.py [--loss 0,2] [--rtt 40] [--peers 16] [--secs 60] [--latency 300]

The wire source to relay and the wire relay to peers lose packets at random in both directions and delay them by half of the
round-trip time each way (tunwire). Every chunk that was due at a peer and not played counts as missing.
"""
import argparse
from common import *


def ip(text):
    subprocess.run(["ip"] + text.split(), check=True)


def wire(procs, seed, a, b, dev, subnet, loss, rtt):
    ready = os.path.join(TMP, "ready.%d" % time.monotonic_ns())
    proc = procs.start("%s --a %s --b %s --dev-a %s --dev-b %s --loss %g --delay %g --seed %d --ready %s" % (
        tool("tunwire"), a, b, dev, dev, loss, rtt / 2, seed, ready), stdout=subprocess.PIPE)
    for _ in range(250):
        if os.path.exists(ready):
            break
        time.sleep(0.02)
    for netns, mine, other in ((a, 1, 2), (b, 2, 1)):
        ip("-n %s addr add %s.%d peer %s.%d dev %s" % (netns, subnet, mine, subnet, other, dev))
        ip("-n %s link set %s mtu 1500 up txqueuelen 10000" % (netns, dev))
    return proc


def run(args, loss, rtt):
    names = ["p2psb%d%s" % (os.getpid(), end_) for end_ in "srp"]
    at_source, at_relay, at_peers = names
    procs, channel = Procs(), Channel()
    for name in names:
        ip("netns add " + name)
    try:
        for name in names:
            ip("-n %s link set lo up" % name)
        wires = [wire(procs, args.seed, at_source, at_relay, "w0", "10.66.1", loss, rtt), wire(procs, args.seed + 100, at_relay, at_peers, "w1", "10.66.2", loss, rtt)]
        stats = lambda name: os.path.join(TMP, "%s.%g.%g.stats" % (name, loss, rtt))
        for name in ["relay"] + ["peer%d" % at for at in range(args.peers)]:
            if os.path.exists(stats(name)):
                os.remove(stats(name))
        source(procs, channel, listen="10.66.1.1:7850", netns=at_source)
        time.sleep(0.5)
        sender = feed(procs, args.ts, args.rate, args.secs + 6, "--mark", netns=at_source)
        relay(procs, channel, "--stats %s %s" % (stats("relay"), args.relay_args), listen="0.0.0.0:7900", parent=("10.66.1.1", 7850), netns=at_relay)
        time.sleep(1.5)
        peers = []
        for at in range(args.peers):
            extra = "--latency %gms --no-upload -o /dev/null --stats %s" % (args.latency, stats("peer%d" % at))
            peers.append(peer(procs, channel, extra, listen="0.0.0.0:0", parent=("10.66.2.1", 7900), netns=at_peers))
        time.sleep(args.secs)
        alive = sum(proc.poll() is None for proc in peers)
        sender.terminate()
        sender.wait(5)
        time.sleep(1)
        print("loss %g %%  rtt %g ms  latency %g ms  %d s  %d of %d peers up" % (loss, rtt, args.latency, args.secs, alive, args.peers))
        worst = total = due_all = 0
        for name in ["relay"] + ["peer%d" % at for at in range(args.peers)]:
            found = records(stats(name), "interval")
            last = found[-1] if found else {}
            due, played = last.get("due_packets_total", 0), last.get("played_packets_total", 0)
            text = "lost on the wire %d  asked %d  repaired %d  duplicates %d  stalls %s" % tuple(
                last.get(key + "_total", 0) for key in ("lost_packets", "requested_packets", "repaired_packets", "duplicate_packets", "stalls"))
            if name == "relay":
                print("  %-7s chunks %d  %s" % (name, last.get("recv_packets_total", 0), text))
                continue
            print("  %-7s due %d  played %d  missing %d  %s" % (name, due, played, due - played, text))
            total, worst, due_all = total + due - played, max(worst, due - played), due_all + due
        print("  missing in all %d of %d, at the worst peer %d" % (total, due_all, worst))
        for at, proc in enumerate(wires):
            got = last_json(end(proc))
            print("  wire %d: %d packets down, %d lost; %d up, %d lost; %d queue drops" % (at, got.get("ab_in", 0), got.get("ab_lost", 0), got.get("ba_in", 0), got.get("ba_lost", 0), got.get("ab_full", 0) + got.get("ba_full", 0)), flush=True)
        return total
    finally:
        procs.stop()
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ts")
    parser.add_argument("--rate", type=float, default=8e6)
    parser.add_argument("--loss", default="0,2")
    parser.add_argument("--rtt", type=float, default=40)
    parser.add_argument("--peers", type=int, default=16)
    parser.add_argument("--secs", type=float, default=60)
    parser.add_argument("--latency", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--relay-args", default="")
    args = parser.parse_args()
    if os.geteuid():
        sys.exit("needs root, for private networks")
    prepare()
    args.ts = clip(args.ts)
    bad = 0
    for loss in [float(x) for x in args.loss.split(",")]:
        bad += run(args, loss, args.rtt if loss else 0)
    sys.exit(1 if bad else 0)


main()
