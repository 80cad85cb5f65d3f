//! What the pages of the programs say beyond their arguments.

use super::Manual;
use crate::cli::{access, clone};

const CONFIG_FILE: (&str, &str) = (
    "FILE of --config",
    "TOML; keys are the long option names, the channel address is uri. An unknown key is an error.",
);

const BUG_TICKETS: &str = "Secrets are never taken from the command line, where other users see them; the token inside \
    a ticket is, because a ticket is one word. Treat such a ticket as its token.";

const BUG_CLOCK: &str = "Ages in the records (age_ms) compare two clocks, and are as wrong as these are apart; \
    latencies do not.";

const BUG_MEMORY: &str =
    "Channel names are free again after a restart: the first source that announces one holds it.";

const NOTE_UNITS: &str = "Durations, rates and sizes need their unit (250ms, 8Mbit, 64KiB): tools next door \
    count the same options in different units, so a bare number is refused.";

const NOTE_HOOKS: &str = "Commands of --on-ready and --on-exit run in /bin/sh with standard output joined to \
    standard error. What they may want to know stands in variables: P2PS_FACT_TOOL, P2PS_FACT_PID and others; for \
    --on-exit also P2PS_FACT_EXIT and P2PS_FACT_REASON. Nothing is pasted into the command itself.";

const NOTE_PORT: &str = "A default port that is taken gives way to a free one, so that several tools share a \
    host; a port that was asked for does not.";

/// `p2ps-source`.
pub const SOURCE: Manual = Manual {
    exits: &[],
    files: &[
        CONFIG_FILE,
        (
            "NAME.key in the state directory",
            "secret key of the channel, mode 0600, made at the first start. Whoever holds it is the channel.",
        ),
    ],
    is_daemon: true,
    examples: &[
        (
            "Encode a film and stream it, with a tracker on the same machine:",
            "ffmpeg -re -i film.mp4 -c copy -f mpegts - | p2ps-source --channel film --tracker 127.0.0.1",
        ),
        (
            "Stream a transport stream file at its own speed, without a tracker; peers use the ticket:",
            "p2ps-source keygen -o film.key\np2ps-source ticket --key film.key --relay 192.0.2.1\n\
             p2ps-source -i film.ts --channel film --key film.key",
        ),
        (
            "Stay on the air while the encoder restarts:",
            "p2ps-source -i udp://239.0.0.1:5000 --on-eof wait --channel news --tracker tracker.example.org",
        ),
    ],
    notes: &[
        "Input that is not a transport stream is sent as it is; late joiners cannot decode it. Use -f mpegts with \
         ffmpeg.",
        "The end of the input ends the channel, and peers with it; a signal does not: viewers wait for the source to \
         come back under the same key.",
        NOTE_PORT,
        NOTE_UNITS,
        NOTE_HOOKS,
    ],
    bugs: BUG_TICKETS,
    see_also: &[
        ("p2ps-relay", 1),
        ("p2ps-peer", 1),
        ("p2ps-tracker", 1),
        ("p2ps-stats", 5),
    ],
};

/// `p2ps-relay`.
pub const RELAY: Manual = Manual {
    exits: &[],
    files: &[CONFIG_FILE, access::PEER_KEY_FILE],
    is_daemon: true,
    examples: &[
        (
            "Carry a channel that a tracker on the same machine knows:",
            "p2ps-relay --channel film --tracker 127.0.0.1",
        ),
        (
            "Carry a channel from a source named by hand, with a second choice:",
            "p2ps-relay --channel film --parent 192.0.2.1 --parent relay2.example.org:7850",
        ),
        (
            "Serve at most 500 children with at most 4 Gbit/s, and keep records:",
            "p2ps-relay p2ps://tracker.example.org/film --max-children 500 --upload-limit 4Gbit --stats relay.jsonl",
        ),
        (
            "Serve the viewers of one cluster of a tracker that runs with --placement psp:",
            "p2ps-relay p2ps://tracker.example.org/film --cluster east --capacity 1Gbit",
        ),
        (
            "Be one user's machine in the cloud: join when his peer, whose key is in phones, says watch or record:",
            "p2ps-relay p2ps://tracker.example.org/film --token-file ann --ask phones --record film.ts",
        ),
    ],
    notes: &[
        access::NOTE_RELAY,
        clone::NOTE_ASK,
        clone::NOTE_RECORD,
        "Tools may be started in any order; without --timeout they wait for each other for ever.",
        NOTE_PORT,
        NOTE_UNITS,
        NOTE_HOOKS,
    ],
    bugs: BUG_TICKETS,
    see_also: &[
        ("p2ps-source", 1),
        ("p2ps-peer", 1),
        ("p2ps-tracker", 1),
        ("p2ps-stats", 5),
    ],
};

/// `p2ps-peer`.
pub const PEER: Manual = Manual {
    exits: &[],
    files: &[CONFIG_FILE, access::PEER_KEY_FILE],
    is_daemon: true,
    examples: &[
        (
            "Watch a channel:",
            "p2ps-peer p2ps://tracker.example.org/film | mpv -",
        ),
        (
            "Watch it with records beside the media, at half a second of delay:",
            "p2ps-peer p2ps://127.0.0.1/film --latency 500ms --stats fd:3 3>qos.jsonl | ffplay -",
        ),
        (
            "Record it in files of ten minutes, passing nothing on:",
            "p2ps-peer p2ps://127.0.0.1/film -o film.ts --rotate 10min --no-upload",
        ),
        (
            "Serve it to players on this machine:",
            "p2ps-peer p2ps://127.0.0.1/film -o http://127.0.0.1:7852/",
        ),
        (
            "See which channels a tracker has, and what one of them would offer, without joining:",
            "p2ps-peer --list p2ps://tracker.example.org/\np2ps-peer p2ps://tracker.example.org/film --dry-run",
        ),
        (
            "Have a relay started with --ask --record keep the film, and fetch it from there later:",
            "p2ps-peer p2ps://CHANNELID@relay.example.org --key phone.pem --answer record\n\
             p2ps-peer p2ps://CHANNELID@relay.example.org --key phone.pem --from oldest --no-skip --blocking -o film.ts",
        ),
    ],
    notes: &[
        "A reader that closes standard output has seen enough: the tool ends with 0 and says nothing.",
        "Media goes nowhere near a terminal: redirect it, or name an output.",
        "--list and --dry-run print words on a terminal and JSON lines in a pipe. They ask once and do not wait: exit 4 \
         when no tracker answers, 6 when none knows the channel.",
        NOTE_PORT,
        NOTE_UNITS,
        NOTE_HOOKS,
    ],
    bugs: BUG_TICKETS,
    see_also: &[
        ("p2ps-source", 1),
        ("p2ps-relay", 1),
        ("p2ps-qos", 1),
        ("p2ps-stats", 5),
    ],
};

/// `p2ps-tracker`.
pub const TRACKER: Manual = Manual {
    exits: &[],
    files: &[
        CONFIG_FILE,
        (
            "tracker.redb in the state directory",
            "durable state, mode 0600, made at the first start; used by one tracker at a time. While one is made or \
             mended its name ends in .new, and a damaged one is kept with .damaged behind its name.",
        ),
        (
            "tracker.redb.control",
            "Unix socket, mode 0600, while the tracker runs, unless its store is a Redis: here user, channel, contracts and ledger reach it. One JSON object on a line \
             ({\"order\":\"user_add\",\"name\":\"ann\",\"roles\":[\"watch\"]}) is answered by one with status and body.",
        ),
    ],
    is_daemon: true,
    examples: &[
        ("Serve the tools on this machine:", "p2ps-tracker"),
        (
            "Serve everybody, with a certificate that is renewed now and then:",
            "p2ps-tracker --listen :7851 --tls-cert fullchain.pem --tls-key privkey.pem",
        ),
        (
            "Serve a network that is trusted, and tell the shell when it is ready:",
            "p2ps-tracker --listen 192.0.2.1:7851 --insecure-http --ready-fd 3 3>ready",
        ),
        (
            "Send viewers to supporting viewers and servers of the nearest cluster:",
            "p2ps-tracker --placement psp --networks networks.toml",
        ),
        (
            "Add up what everybody paid in the last month:",
            "p2ps-tracker ledger --since 30d | jq -s 'map(select(.reason == \"charge\") | .amount | tonumber) | add'",
        ),
        (
            "Two trackers that are one to sources and peers, which name both:",
            "P2PS_STORE=redis://:PASSWORD@cache.example p2ps-tracker --listen 192.0.2.1:7851 --insecure-http",
        ),
    ],
    notes: &[
        "Plain HTTP is served on loopback only, unless --insecure-http says otherwise; elsewhere give --tls-cert and \
         --tls-key. Both are read again on HUP; when they are bad, those in use stay.",
        "Who is on which channel is kept in memory; after a restart the tools announce themselves again, sources within \
         three seconds, others within ten, or within a minute when it was away for longer. Only what --store keeps \
         survives.",
        "Any number of trackers share a Redis or Valkey with --store redis[s]://[[USER]:PASSWORD@]HOST[:PORT][/DB]; the \
         password is shown nowhere, and best given in P2PS_STORE. Each tells the others within a moment whom it heard, so \
         a peer goes on at any of them and a newcomer is sent to peers of all. While the store is away they go on with \
         what they know, and tell each other everything when it is back. Of those with --tariff one sells: it has a \
         lease of 5 s, the others refuse with its address, and one of them takes over, with its contracts, when it is \
         silent; nothing is sold that the store did not take. All want the same --placement and --tariff, and the tools \
         the list of all. A store for contracts has appendonly yes and appendfsync always. Its keys begin with p2ps. Tickets \
         and keys of sealed channels are in it, so it is on a network that is trusted, or behind TLS: rediss:// with a \
         certificate of a usual authority, or of one in --tls-ca. Orders (user, channel) go to the store, and reach every \
         tracker from there: whoever is revoked is cut off at all of them, and gets none of the keys that follow. Keys of \
         sealed channels are the same at all, and stay as they are while the store is away; give all one --key-life.",
        "The file of --networks has tables [[network]] with subnet (address/length) and any of asn, country, cluster, \
         and [[link]] with from, to (clusters, or source), latency_ms, capacity_mbps. The file of --graph has one \
         table [friends]: peer id = [peer ids]. On HUP they are read again, like the tariff; when one is bad, the old one \
         stays. Viewers stay where they are, newcomers and the ways of streams go by the new file. Clusters and their \
         load: GET /v1/clusters.",
        "--tariff makes the tracker a provider (examples/tariff.toml explains every member). Its API: login, choose, contract, \
         join, set_status, leave as POST /v1/NAME with a JSON object; get_user_table, get_price_packets, get_price_intervals, \
         get_clients, get_peers, get_bandwidth, get_latency, get_jitter, get_bandwidth_and_latency, get_qos, \
         get_direct_clients_of_packet, get_clients_status and history also as GET /v1/NAME?content=CHANNEL. A POST shows the \
         session that login gave; a GET needs none from this machine, which alone may ask for get_contracts and get_ledger; with --admin-token-file, from \
         whoever shows the token (p2ps-qos --token-file), and from nobody else, the page included. \
         Accounts are names that viewers give; one that user add made proves itself with its secret (--token-file; in \
         login the member secret). Of contracts that are over and of entries of the ledger the last 10000 are shown there; \
         p2ps-tracker contracts and p2ps-tracker ledger print all of them, while the tracker runs or from its store.",
        "A server of somebody else (p2ps-relay --offer --price) is taken under a contract when the table [rent] of the \
         tariff has a price for it. A unit is paid once, however often the server comes back under its account; a contract \
         by the minute or hour is renewed while it is there, one for a content ends a minute after its last source.",
        "A browser finds a page at the address of the tracker: channels, the tree of each drawn, users, prices. It reads \
         and never writes, and loads nothing from anywhere else. /v1/channels, /v1/overview and /v1/offer?content=NAME \
         say the same in JSON.",
        NOTE_HOOKS,
    ],
    bugs: BUG_MEMORY,
    see_also: &[
        ("p2ps-source", 1),
        ("p2ps-relay", 1),
        ("p2ps-peer", 1),
        ("p2ps-stats", 5),
    ],
};

/// `p2ps-qos`.
pub const QOS: Manual = Manual {
    exits: &[
        (0, "done; check: every threshold was kept"),
        (
            1,
            "check: a threshold was missed; a record was bad, with --strict",
        ),
        (2, "usage error"),
        (3, "there was no record"),
        (4, "the tracker, or node, could not be reached"),
        (5, "refused: token, terms, capacity"),
        (6, "no such channel"),
        (8, "output failed"),
    ],
    files: &[(
        "FILE of --token-file",
        "a token in one line, mode 0600. It is sent to the trackers that are asked, and nowhere else.",
    )],
    is_daemon: false,
    examples: &[
        ("Say how well a peer did:", "p2ps-qos summary qos.jsonl"),
        (
            "Fail a deployment that StreamSmart would not accept:",
            "p2ps-qos check --standard streamsmart qos.jsonl",
        ),
        (
            "Stop as soon as a running peer has been bad for half a minute:",
            "tail -f qos.jsonl | p2ps-qos check --window 30s --max-loss 5% --max-latency 4s --max-stall 0s",
        ),
        (
            "See who watches a channel, and how well, until interrupted:",
            "p2ps-qos users p2ps://tracker.example.org/film --watch",
        ),
        (
            "Find clients that could serve a newcomer with 10 Mbit/s at 60 ms:",
            "p2ps-qos clients film --tracker 127.0.0.1 --bandwidth 10Mbit --latency 60ms",
        ),
        (
            "Read what a peer remembers of its last ten minutes:",
            "p2ps-qos history --from http://127.0.0.1:9100/history --since 10min",
        ),
    ],
    notes: &[
        "summary, check and schema read records; every other command asks a tracker, the first of several that answers. \
         Tables have the order that the tracker gave: users by ID, packets from gold down, the status table in the \
         columns c, c-c, c-p, c-c,p, p, p-p, the greatest bandwidth first in each.",
        "In a pipe every row is one JSON object a line; with --watch it has the member round. Bandwidths are in Mbit/s \
         (bw_mbps), latencies and jitter in ms (lat_ms, jit_ms).",
        "--watch ends at once when the tracker cannot be reached at the beginning; later it goes on asking.",
    ],
    bugs: BUG_CLOCK,
    see_also: &[("p2ps-peer", 1), ("p2ps-stats", 5)],
};
