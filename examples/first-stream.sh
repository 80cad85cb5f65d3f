#!/usr/bin/env bash
# A tree on one machine: ffmpeg -> source -> relay -> two peers, the first of which feeds two more, with a tracker beside.
# Streams a clip live, then shows what arrived. Exit 0 only if every peer got the source's bytes.
#
#   examples/first-stream.sh [FILE]      FILE: something ffmpeg can read; a clip of 32 s is made without it
#   P2PS_BIN=DIR                         programs to use, instead of building them
set -uo pipefail
export LC_ALL=C
PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin

usage='usage: examples/first-stream.sh [FILE]'
case ${1-} in -h | --help) echo "$usage"; exit 0 ;; esac
(($# <= 1)) || { echo "$usage" >&2; exit 2; }
film=${1-}
[ -z "$film" ] || film=$(realpath -e -- "$film") || exit 2
[ -z "${P2PS_BIN-}" ] || P2PS_BIN=$(realpath -e -- "$P2PS_BIN") || exit 2
cd "$(dirname "$0")/.." || exit 1

die() { echo "first-stream: $*" >&2; exit 1; }
say() { printf '%s\n' "$*"; }

# ---- What it needs

packages=
command -v ffmpeg >/dev/null && command -v ffprobe >/dev/null || packages=' ffmpeg'
[ -n "${P2PS_BIN-}" ] || command -v cc >/dev/null || packages+=' gcc libc6-dev'
if [ -n "$packages" ]; then
    as_root=()
    ((EUID == 0)) || as_root=(sudo -n)
    command -v apt-get >/dev/null && { ((EUID == 0)) || sudo -n true 2>/dev/null; } ||
        die "missing; this line gets it: sudo apt-get install$packages"
    say "installing from Debian:$packages"
    # shellcheck disable=SC2086 # a list of words
    { "${as_root[@]}" apt-get -qq update && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install -y --no-install-recommends $packages; } </dev/null >/dev/null ||
        die "cannot install; this line does: sudo apt-get install$packages"
fi
if [ -z "${P2PS_BIN-}" ]; then
    command -v cargo >/dev/null || die 'Rust is missing: https://rustup.rs has it'
    say 'building the programs'
    cargo build --release --bins || exit 1
    P2PS_BIN=${CARGO_TARGET_DIR:-target}/release
fi
for tool in tracker source relay peer; do
    [ -x "$P2PS_BIN/p2ps-$tool" ] || die "no p2ps-$tool in $P2PS_BIN"
done

# ---- What it starts, and how all of it ends

work=$(mktemp -d) || exit 1
mkfifo "$work/pause" "$work/media" && exec {pause}<>"$work/pause" || exit 1
declare -A pid=()
pause() { read -rt "$1" <&"$pause"; }
alive() { kill -0 "$1" 2>/dev/null; }

clean_up() {
    trap '' INT TERM HUP
    local one late
    for one in "${pid[@]}"; do kill "$one"; done 2>/dev/null
    (
        pause 5
        kill -KILL "${pid[@]}"
    ) 2>/dev/null &
    late=$!
    disown "$late"
    wait "${pid[@]}" 2>/dev/null
    kill -KILL "$late" 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

start() { # NAME TOOL ARGUMENTS...: starts a tool on a free port, with records in NAME.jsonl and messages in NAME.log
    local name=$1 tool=$2
    shift 2
    # Without <&0 the shell would give it an empty input.
    "$P2PS_BIN/p2ps-$tool" --listen 127.0.0.1:0 --stats "$work/$name.jsonl" --no-progress "$@" <&0 2>"$work/$name.log" &
    pid[$name]=$!
}
value() { # NAME EVENT FIELD [head]: that field of the last such record, or of the first
    grep -s "^{\"event\":\"$2\".*\"$3\":" "$work/$1.jsonl" | "${4:-tail}" -n 1 |
        grep -o "\"$3\":\(\[[^]]*\]\|\"[^\"]*\"\|[^,}]*\)" | head -n 1 |
        sed 's/^[^:]*://; s/^\["\([^"]*\)".*/\1/; s/"//g'
}
await() { # NAME PATTERN: until a record of that tool shows the pattern
    local one
    for _ in {1..150}; do
        grep -qs "$2" "$work/$1.jsonl" && return
        for one in "${!pid[@]}"; do
            alive "${pid[$one]}" && continue
            tail -n 3 "$work/$one.log" >&2
            die "$one ended too soon"
        done
        pause 0.1
    done
    tail -n 3 "$work/$1.log" >&2
    die "$1 did not come up"
}
address() { await "$1" '"event":"start"'; }

# ---- The clip: H.264 and AAC in a transport stream

clip=$work/clip.ts
if [ -n "$film" ]; then
    say "preparing $film"
    ffmpeg -nostdin -v error -i "$film" -map 0:v:0 -map '0:a:0?' -c copy -f mpegts "$clip" ||
        ffmpeg -nostdin -v error -y -i "$film" -map 0:v:0 -map '0:a:0?' -c:v libx264 -preset veryfast -g 50 \
            -pix_fmt yuv420p -c:a aac -f mpegts "$clip" || die "ffmpeg cannot read $film"
else
    say 'encoding a clip of 32 s'
    ffmpeg -nostdin -v error -f lavfi -i testsrc2=size=640x360:rate=25 -f lavfi -i sine=frequency=440:sample_rate=48000 \
        -t 32 -c:v libx264 -preset veryfast -g 25 -pix_fmt yuv420p -b:v 1500k -c:a aac -b:a 96k -f mpegts "$clip" ||
        die 'ffmpeg cannot encode H.264 and AAC'
fi
seconds=$(ffprobe -v error -show_entries format=duration -of csv=p=0 "$clip")
seconds=${seconds%.*}

# ---- The tree

start tracker tracker
address tracker
tracker=$(value tracker start listen)

ffmpeg -nostdin -v error -re -i "$clip" -map 0 -c copy -f mpegts - >"$work/media" 2>"$work/ffmpeg.log" &
pid[ffmpeg]=$!
# One child is what this source may have: the relay. The relay has room for two.
start source source --channel film --tracker "$tracker" --max-children 1 \
    --state-dir "$work" --tee "$work/source.ts" <"$work/media"
address source
swarm=$(value source start swarm)

start relay relay --channel film --tracker "$tracker" --max-children 2
await relay '"state":"buffering"'
# The source is full, so the tracker sends these two to the relay.
start peer1 peer "p2ps://$tracker/film" -o "$work/peer1.ts"
start peer2 peer "p2ps://$tracker/film" -o "$work/peer2.ts"
address peer1
first=$(value peer1 start listen)
# These two know no tracker: the channel and the address of a parent are enough.
start peer3 peer "p2ps://$swarm@$first" -o "$work/peer3.ts"
start peer4 peer "p2ps://$swarm@$first" -o "$work/peer4.ts"
peers=(peer1 peer2 peer3 peer4)

say "streaming for $seconds s: ffmpeg | source -> relay -> peer1, peer2; peer1 -> peer3, peer4"

# ---- Live

live=$([ -t 1 ] && echo yes)
began=$SECONDS shown=-1
kib() { local n; n=$(stat -c %s "$1" 2>/dev/null) || n=0; echo $((n / 1024)); }
progress() {
    local line one
    line=$(printf '%3d s  source %5d KiB' $((SECONDS - began)) "$(kib "$work/source.ts")")
    for one in "${peers[@]}"; do line+=$(printf '  %s %5d' "$one" "$(kib "$work/$one.ts")"); done
    if [ -n "$live" ]; then printf '\r%s' "$line"; else say "$line"; fi
}
running() { local one; for one in "${peers[@]}"; do alive "${pid[$one]}" && return; done; return 1; }
while running; do
    now=$((SECONDS - began))
    if ((now != shown)) && { [ -n "$live" ] || ((now % 5 == 0)); }; then
        progress
        shown=$now
    fi
    ((now < seconds + 30)) || break
    pause 0.2
done
[ -z "$live" ] || { progress; say ''; }

# ---- What arrived

faults=()
fault() { faults+=("$*"); }
for one in "${peers[@]}" source; do
    if alive "${pid[$one]}"; then
        fault "$one is still running"
        kill "${pid[$one]}"
    fi
    wait "${pid[$one]}" || fault "$one: exit $?: $(tail -n 1 "$work/$one.log")"
    unset "pid[$one]"
done

declare -A wanted=([peer1]=relay [peer2]=relay [peer3]=peer1 [peer4]=peer1) name_of=()
for one in source relay "${peers[@]}"; do name_of[$(value "$one" start listen)]=$one; done
total=$(stat -c %s "$work/source.ts")
say ''
say "the source read $total bytes; channel $swarm"
say ''
row='%-6s %-7s %10s  %-10s %9s %10s %10s %8s\n'
# shellcheck disable=SC2059 # one format for head and rows
printf "$row" peer parent bytes identical 'join ms' 'p50 ms' 'p99 ms' loss
for one in "${peers[@]}"; do
    bytes=$(stat -c %s "$work/$one.ts" 2>/dev/null || echo 0)
    sum=$(tail -c "$bytes" "$work/source.ts" | sha256sum)
    same=no
    if ((bytes > 0 && bytes <= total)) && [ "$sum" = "$(sha256sum <"$work/$one.ts")" ] &&
        [ "${sum%% *}" = "$(value "$one" end media_sha256)" ]; then same=yes; fi
    [ "$same" = yes ] || fault "$one: not the bytes of the source"
    # The first: when the channel ends, and its parent with it, a peer turns to another for what it may lack.
    parent=${name_of[$(value "$one" state address head)]-?}
    [ "$parent" = "${wanted[$one]}" ] || fault "$one: fed by $parent, not by ${wanted[$one]}"
    join=$(value "$one" end join_ms) p50=$(value "$one" end age_p50_ms) p99=$(value "$one" end age_p99_ms)
    loss=$(value "$one" end loss_ratio)
    [ -n "$join" ] && [ -n "$p50" ] && [ -n "$p99" ] && [ -n "$loss" ] || fault "$one: figures are missing from its records"
    # shellcheck disable=SC2059
    printf "$row" "$one" "$parent" "$bytes" "$same" "${join:--}" "${p50:--}" "${p99:--}" \
        "$(awk -v r="${loss:-0}" 'BEGIN { printf "%.2f %%", r * 100 }')"
done
say ''
say 'join: program start to first byte out; p50, p99: age of the media when put out (--latency is 1 s); loss: before repair'

decoded=$(ffprobe -v error -count_frames -show_entries stream=codec_name,nb_read_frames -of csv=p=0 "$work/peer4.ts" 2>"$work/decode.log")
decoded=$(grep . <<<"$decoded" | sort -u | sed 's/,/ /; s/$/ frames/' | paste -sd ';' | sed 's/;/, /g')
if [ -s "$work/decode.log" ] || [ -z "$decoded" ]; then
    fault "ffprobe: $(head -n 1 "$work/decode.log")"
else
    say "ffprobe decodes what peer4 got without an error: $decoded"
fi

((${#faults[@]} == 0)) && exit 0
printf 'FAILED: %s\n' "${faults[@]}" >&2
exit 1
