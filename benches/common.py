"""What the benchmarks share: private networks, processes ended by pid, CPU and memory of a process, our programs.

Linux and root (network namespaces). Standard library only.
"""
import atexit, json, mmap, os, shlex, shutil, signal, statistics, struct, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
TOOLS = os.environ.get("P2PS_BENCH_TOOLS") or os.path.join(ROOT, "target", "bench-tools")
RELEASE = os.environ.get("P2PS_BENCH_BIN") or os.path.join(ROOT, "target", "release")
TMP = tempfile.mkdtemp(prefix="p2ps-bench-")
atexit.register(shutil.rmtree, TMP, ignore_errors=True)

DATAGRAM = 1316
SOURCE_PORT, RELAY_PORT, FEED_PORT, SINK_PORT = 7850, 7900, 20000, 21000
WINDOW_SECS = 10


def tool(name):
    """One of the C programs here."""
    return os.path.join(TOOLS, name)


def ours(name):
    """One of the five programs."""
    return os.path.join(RELEASE, name)


def prepare():
    """Builds the C programs, and says what is missing."""
    subprocess.run(["make", "-s", "-C", HERE, "OUT=" + TOOLS], check=True, stdout=subprocess.DEVNULL)
    if not os.path.exists(ours("p2ps-relay")):
        sys.exit("build first: cargo build --release")


def private_network():
    """Starts this script again in a network of its own, which ends with it: no port can clash, nothing gets out."""
    if os.environ.get("P2PS_BENCH_NET"):
        return
    if os.geteuid():
        sys.exit("needs root, for a private network")
    prepare()
    shutil.rmtree(TMP, ignore_errors=True)
    script = 'ip link set lo up && exec "$@"'
    os.environ["P2PS_BENCH_NET"] = "1"
    os.execvp("unshare", ["unshare", "--net", "sh", "-c", script, "sh", sys.executable] + sys.argv)


def clip(path, secs=20, rate=8_000_000):
    """A transport stream of constant rate: `path`, or one made here."""
    if path:
        return path
    made = os.path.join(TOOLS, "bench-%d.ts" % rate)
    if not os.path.exists(made):
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25", "-t", str(secs), "-c:v", "mpeg2video", "-b:v", str(rate * 7 // 8),
                        "-maxrate", str(rate * 7 // 8), "-bufsize", "1M", "-g", "25", "-f", "mpegts", "-muxrate", str(rate), made + ".new.ts"], check=True)
        os.rename(made + ".new.ts", made)
    return made


class Procs:
    """Starts processes and ends exactly those, by pid, in reverse order."""

    def __init__(self):
        self.all = []

    def start(self, cmd, netns=None, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=None):
        args = cmd if isinstance(cmd, list) else shlex.split(cmd)
        if netns:
            args = ["ip", "netns", "exec", netns] + args
        errfile = None
        if stderr is None:
            errfile = os.path.join(TMP, "err.%d.%d" % (len(self.all), time.monotonic_ns()))
            stderr = open(errfile, "wb")
        proc = subprocess.Popen(args, stdin=stdin, stdout=stdout, stderr=stderr, env=dict(os.environ, HOME=TMP))
        proc.errfile = errfile
        self.all.append(proc)
        return proc

    def stop(self):
        for proc in reversed(self.all):
            if proc.poll() is None:
                proc.send_signal(signal.SIGTERM)
        limit = time.time() + 5
        for proc in reversed(self.all):
            try:
                proc.wait(max(0.02, limit - time.time()))
            except subprocess.TimeoutExpired:
                proc.kill()
                proc.wait()
        self.all = []


def complaint(proc):
    """The end of what a process said."""
    if not proc.errfile:
        return ""
    with open(proc.errfile, "rb") as f:
        return f.read()[-600:].decode("utf8", "replace")


def end(proc, sig=signal.SIGTERM, wait=8):
    """Ends one process and gives its standard output."""
    if proc.poll() is None:
        proc.send_signal(sig)
    try:
        out, _ = proc.communicate(timeout=wait)
    except subprocess.TimeoutExpired:
        proc.kill()
        out, _ = proc.communicate()
    return out or b""


def cpu(pid):
    """CPU seconds (user + system, all live threads), to the nanosecond."""
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        try:
            with open("/proc/%d/task/%s/schedstat" % (pid, task)) as f:
                total += int(f.read().split()[0])
        except OSError:
            pass
    return total * 1e-9


def rss(pid):
    """Resident memory in MiB."""
    with open("/proc/%d/status" % pid) as f:
        for line in f:
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    return 0.0


def last_json(raw):
    try:
        return json.loads(raw.decode().strip().splitlines()[-1])
    except (ValueError, IndexError):
        return {}


class Sink:
    """tssink: counts what arrives on UDP ports."""

    def __init__(self, procs, count=1, args="", netns=None, bind="127.0.0.1"):
        self.path = os.path.join(TMP, "live.%d" % time.monotonic_ns())
        self.proc = procs.start("%s --port %d --n %d --bind %s --live %s %s" % (tool("tssink"), SINK_PORT, count, bind, self.path, args), netns=netns, stdout=subprocess.PIPE)
        for _ in range(250):
            if os.path.exists(self.path) and os.path.getsize(self.path) == 64:
                break
            time.sleep(0.02)
        with open(self.path, "rb") as f:
            self.map = mmap.mmap(f.fileno(), 64, prot=mmap.PROT_READ)

    def bytes(self):
        return struct.unpack("Q", self.map[:8])[0]

    def result(self):
        return last_json(end(self.proc))


class Channel:
    """A key, and the word to join its channel by."""

    def __init__(self):
        self.key = os.path.join(TMP, "key.%d" % time.monotonic_ns())
        out = subprocess.run([ours("p2ps-source"), "keygen", "-o", self.key], check=True, stdout=subprocess.PIPE).stdout.decode().split()
        self.id = out[-1]

    def at(self, host, port):
        return "p2ps://%s@%s:%d" % (self.id, host, port)


def source(procs, channel, args="", listen="127.0.0.1:%d" % SOURCE_PORT, media="udp://127.0.0.1:%d" % FEED_PORT, **how):
    state = tempfile.mkdtemp(dir=TMP)
    return procs.start("%s -q --no-progress -i %s --key %s --state-dir %s --listen %s --channel bench --window %ds %s" % (ours("p2ps-source"), media, channel.key, state, listen, WINDOW_SECS, args), **how)


def relay(procs, channel, args="", listen="127.0.0.1:%d" % RELAY_PORT, parent=("127.0.0.1", SOURCE_PORT), **how):
    return procs.start("%s -q --no-progress --listen %s --window %ds %s %s" % (ours("p2ps-relay"), listen, WINDOW_SECS, args, channel.at(*parent)), **how)


def peer(procs, channel, args="", listen="127.0.0.1:0", parent=("127.0.0.1", RELAY_PORT), **how):
    return procs.start("%s -q --no-progress --listen %s %s %s" % (ours("p2ps-peer"), listen, args, channel.at(*parent)), **how)


def feed(procs, ts, rate, secs, args="", to="127.0.0.1:%d" % FEED_PORT, **how):
    return procs.start("%s --file %s --rate %g --secs %g --to %s %s" % (tool("tssend"), ts, rate, secs, to, args), **how)


def records(path, kind=None):
    """Records of a stats file, of one kind."""
    with open(path) as f:
        found = [json.loads(line) for line in f if line.strip()]
    return [record for record in found if kind is None or record.get("event") == kind]


def median(values):
    return statistics.median(values) if values else float("nan")
