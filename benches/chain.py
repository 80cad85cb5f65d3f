#!/usr/bin/env python3
"""Latency: what one relay adds, from the source's input to a peer's output, and how long a peer takes to join.

    cargo build --release && benches/chain.py [--secs 20] [--sign-delay 20] [--joins 20]

Every datagram of the feed carries its send time. `hop`: the difference between chains with one and with two relays, udp:// in
and out, --latency 0. `stdin to stdout`: source and peer alone. `join`: from the start of the process to the first byte
on its standard output, the channel being live. The stream has no clock references, so no output is paced.
"""
import argparse, select
from common import *


def plain_clip(secs=10, rate=8_000_000):
    """A transport stream of one program identifier without clock references or access points."""
    path = os.path.join(TOOLS, "plain.ts")
    if not os.path.exists(path):
        with open(path + ".new", "wb") as f:
            for at in range(int(secs * rate / 8 / 188)):
                f.write(bytes([0x47, 0x01, 0x00, 0x10 | at & 15]) + bytes((at + i) & 255 for i in range(184)))
        os.rename(path + ".new", path)
    return path


def skip(args):
    return int(args.rate / 8 / DATAGRAM * 3)


def chain(args, relays):
    procs, channel = Procs(), Channel()
    try:
        sink = Sink(procs, 1, "--skip %d" % skip(args))
        source(procs, channel, "--sign-delay %gms" % args.sign_delay)
        time.sleep(0.3)
        sender = feed(procs, args.ts, args.rate, args.secs + 4, "--mark")
        parent = ("127.0.0.1", SOURCE_PORT)
        for at in range(relays):
            time.sleep(0.4)
            relay(procs, channel, listen="127.0.0.1:%d" % (RELAY_PORT + at), parent=parent)
            parent = ("127.0.0.1", RELAY_PORT + at)
        time.sleep(0.4)
        peer(procs, channel, "--latency 0s --no-upload -o udp://127.0.0.1:%d" % SINK_PORT, parent=parent)
        sender.wait(args.secs + 15)
        time.sleep(0.5)
        return sink.result()
    finally:
        procs.stop()


def pipes(args):
    procs, channel = Procs(), Channel()
    try:
        sender = procs.start("%s --file %s --rate %g --secs %g --mark --stdout" % (tool("tssend"), args.ts, args.rate, args.secs + 4), stdout=subprocess.PIPE)
        source(procs, channel, "--sign-delay %gms" % args.sign_delay, media="-", stdin=sender.stdout)
        sender.stdout.close()
        time.sleep(0.4)
        out = peer(procs, channel, "--latency 0s --no-upload -o -", parent=("127.0.0.1", SOURCE_PORT), stdout=subprocess.PIPE)
        sink = procs.start("%s --stdin --skip %d" % (tool("tssink"), skip(args)), stdin=out.stdout, stdout=subprocess.PIPE)
        out.stdout.close()
        sender.wait(args.secs + 15)
        sink.wait(15)
        return last_json(sink.communicate()[0])
    finally:
        procs.stop()


def joins(args):
    procs, channel = Procs(), Channel()
    took = {"source": [], "relay": []}
    try:
        source(procs, channel, "--sign-delay %gms" % args.sign_delay)
        time.sleep(0.3)
        feed(procs, args.ts, args.rate, args.joins * 3 + 10)
        relay(procs, channel)
        time.sleep(1.5)
        for at in range(args.joins):
            for name, port in (("source", SOURCE_PORT), ("relay", RELAY_PORT)):
                began = time.monotonic()
                one = peer(procs, channel, "--latency 0s --no-upload -o -", parent=("127.0.0.1", port), stdout=subprocess.PIPE)
                if select.select([one.stdout], [], [], 5)[0]:
                    os.read(one.stdout.fileno(), 1)
                    took[name].append(1e3 * (time.monotonic() - began))
                else:
                    took[name].append(float("inf"))
                end(one)
                time.sleep(0.013)
        return took
    finally:
        procs.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=8e6)
    parser.add_argument("--secs", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sign-delay", type=float, default=20, help="ms")
    parser.add_argument("--joins", type=int, default=20)
    args = parser.parse_args()
    private_network()
    prepare()
    args.ts = plain_clip()
    added = []
    for _ in range(args.rounds):
        one, two = chain(args, 1), chain(args, 2)
        for name, got in (("1 relay ", one), ("2 relays", two)):
            print("chain of %s  p50 %.2f  p90 %.2f  p99 %.2f  max %.2f ms  datagrams %d  late %d" % (
                name, got["p50_ms"], got["p90_ms"], got["p99_ms"], got["max_ms"], got["uniq"], got["late"]), flush=True)
        added.append((two["p50_ms"] - one["p50_ms"], two["p99_ms"] - one["p99_ms"]))
    print("one relay hop adds (median of %d): p50 %.2f ms, p99 %.2f ms" % (len(added), median([a for a, _ in added]), median([b for _, b in added])), flush=True)
    got = [pipes(args) for _ in range(args.rounds)]
    print("stdin to stdout, sign delay %g ms (median of %d): p50 %.2f  p99 %.2f ms" % (args.sign_delay, len(got), median([g["p50_ms"] for g in got]), median([g["p99_ms"] for g in got])), flush=True)
    for name, took in joins(args).items():
        took.sort()
        print("join under a %s, %d times: median %.1f  worst %.1f ms" % (name, len(took), median(took), took[-1]), flush=True)


main()
