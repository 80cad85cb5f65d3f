//! The one table of what is counted: [`Counters`], and what each entry is called in records and metrics.
//!
//! A new counter is one line in the table below. It then appears in the records of the tools it names and on the
//! metrics page; tests insist that the JSON Schema and p2ps-stats(5) know it too.

use serde::{Deserialize, Serialize};

use crate::ids::PeerId;
use crate::qos::Histogram;

/// Which of the five programs writes a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tool {
    /// `p2ps-source`.
    #[serde(rename = "p2ps-source")]
    Source,
    /// `p2ps-relay`.
    #[serde(rename = "p2ps-relay")]
    Relay,
    /// `p2ps-peer`.
    #[serde(rename = "p2ps-peer")]
    Peer,
    /// `p2ps-tracker`.
    #[serde(rename = "p2ps-tracker")]
    Tracker,
    /// `p2ps-qos`.
    #[serde(rename = "p2ps-qos")]
    Qos,
}

impl Tool {
    /// The program's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "p2ps-source",
            Self::Relay => "p2ps-relay",
            Self::Peer => "p2ps-peer",
            Self::Tracker => "p2ps-tracker",
            Self::Qos => "p2ps-qos",
        }
    }
}

/// The tools whose records have a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tools(u8);

impl Tools {
    const S: Self = Self::only(Tool::Source);
    const T: Self = Self::only(Tool::Tracker);
    const P: Self = Self::only(Tool::Peer);
    const SP: Self = Self::S.and(Self::P);
    const RP: Self = Self::only(Tool::Relay).and(Self::P);
    const SRP: Self = Self::RP.and(Self::S);
    const ALL: Self = Self::SRP.and(Self::T);

    const fn only(tool: Tool) -> Self {
        Self(1 << tool as u8)
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `tool` has the field.
    pub const fn contains(self, tool: Tool) -> bool {
        self.0 & (1 << tool as u8) != 0
    }
}

/// How the media gets from the parent to here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// Straight, the remote's address reachable as it is.
    Direct,
    /// Straight, through holes punched in NATs.
    Punched,
    /// Through a relay because no straight way was found.
    Relayed,
}

/// Largest number in a record: 2^53 - 1, the last whole number that every JSON reader keeps exact.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

/// One counter that only grows.
#[derive(Clone, Copy, Debug)]
pub struct Total {
    /// Name on the metrics page, without prefix `p2ps_` and suffix `_total`.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Tools that have it.
    pub tools: Tools,
    /// Its value.
    pub get: fn(&Counters) -> u64,
}

/// One gauge: a value that comes and goes.
#[derive(Clone, Copy, Debug)]
pub struct Gauge {
    /// Name on the metrics page, without prefix.
    pub name: &'static str,
    /// What it measures.
    pub help: &'static str,
    /// Tools that have it.
    pub tools: Tools,
    /// Its value in base units (seconds, or a plain number).
    pub get: fn(&Counters) -> Option<f64>,
}

macro_rules! table {
    (
        both { $( $(#[doc = $bh:literal])+ $b:ident $bt:ident $btools:ident; )* }
        totals { $( $(#[doc = $th:literal])+ $t:ident $tt:ident $ttools:ident; )* }
        times { $( $(#[doc = $mh:literal])+ $m:ident $mf:ident $mp:literal $mtools:ident; )* }
        numbers { $( $(#[doc = $nh:literal])+ $n:ident $ntools:ident; )* }
        other { $( $(#[doc = $oh:literal])+ $o:ident: $ot:ty, )* }
    ) => {
        /// Everything one node counted since its start, and its gauges as they are now.
        ///
        /// Totals only grow. A gauge that is not known is `None` and stays out of records and metrics. A *packet* is a
        /// datagram with a chunk in it (a DATA message); a *datagram* is any. Bytes are UDP payload, headers of IP and
        /// UDP not included. Copies are cheap enough for one a second (two histograms of 24 KiB).
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Counters {
            $( $(#[doc = $bh])+ pub $b: u64, )*
            $( $(#[doc = $th])+ pub $t: u64, )*
            $( $(#[doc = $mh])+ pub $m: Option<u64>, )*
            $( $(#[doc = $nh])+ pub $n: Option<u64>, )*
            $( $(#[doc = $oh])+ pub $o: $ot, )*
        }

        /// What was counted between two snapshots; the fields without `_total` of an `interval` record.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Deltas {
            $( $(#[doc = $bh])+ #[serde(default, skip_serializing_if = "Option::is_none")] pub $b: Option<u64>, )*
        }

        impl Deltas {
            /// `after - before`, zero where a counter fell (a node that was replaced).
            pub fn between(before: &Counters, after: &Counters) -> Self {
                Self { $( $b: Some(after.$b.saturating_sub(before.$b).min(NUMBER_MAX)), )* }
            }

            /// Leaves out what `tool` does not have.
            pub fn retain(&mut self, tool: Tool) {
                $( if !Tools::$btools.contains(tool) { self.$b = None; } )*
            }
        }

        /// Counts since the start; the `_total` fields of records.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Totals {
            $( $(#[doc = $bh])+ #[serde(default, skip_serializing_if = "Option::is_none")] pub $bt: Option<u64>, )*
            $( $(#[doc = $th])+ #[serde(default, skip_serializing_if = "Option::is_none")] pub $tt: Option<u64>, )*
            /// Time that output stood still though it was due, in ms.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub stall_ms_total: Option<u64>,
        }

        impl Totals {
            /// All totals of a snapshot.
            pub fn of(counters: &Counters) -> Self {
                Self {
                    $( $bt: Some(counters.$b.min(NUMBER_MAX)), )*
                    $( $tt: Some(counters.$t.min(NUMBER_MAX)), )*
                    stall_ms_total: Some((counters.stall_us / 1000).min(NUMBER_MAX)),
                }
            }

            /// Leaves out what `tool` does not have.
            pub fn retain(&mut self, tool: Tool) {
                $( if !Tools::$btools.contains(tool) { self.$bt = None; } )*
                $( if !Tools::$ttools.contains(tool) { self.$tt = None; } )*
                if !Tools::P.contains(tool) { self.stall_ms_total = None; }
            }
        }

        /// Gauges as records show them; times in ms.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub struct Gauges {
            $( $(#[doc = $mh])+ #[serde(default, skip_serializing_if = "Option::is_none")] pub $mf: Option<f64>, )*
            $( $(#[doc = $nh])+ #[serde(default, skip_serializing_if = "Option::is_none")] pub $n: Option<u64>, )*
        }

        impl Gauges {
            /// All gauges of a snapshot.
            pub fn of(counters: &Counters) -> Self {
                Self {
                    $( $mf: counters.$m.map(milliseconds), )*
                    $( $n: counters.$n.map(|value| value.min(NUMBER_MAX)), )*
                }
            }

            /// Leaves out what `tool` does not have.
            pub fn retain(&mut self, tool: Tool) {
                $( if !Tools::$mtools.contains(tool) { self.$mf = None; } )*
                $( if !Tools::$ntools.contains(tool) { self.$n = None; } )*
            }
        }

        /// Every plain counter, in the order of the records.
        pub const TOTALS: &[Total] = &[
            $( Total { name: stringify!($b), help: concat!($($bh),+), tools: Tools::$btools, get: |c| c.$b }, )*
            $( Total { name: stringify!($t), help: concat!($($th),+), tools: Tools::$ttools, get: |c| c.$t }, )*
        ];

        /// Every plain gauge, in the order of the records.
        pub const GAUGES: &[Gauge] = &[
            $( Gauge {
                name: $mp,
                help: concat!($($mh),+),
                tools: Tools::$mtools,
                get: |c| c.$m.map(|micros| micros as f64 / 1e6),
            }, )*
            $( Gauge {
                name: stringify!($n),
                help: concat!($($nh),+),
                tools: Tools::$ntools,
                get: |c| c.$n.map(|value| value as f64),
            }, )*
        ];
    };
}

table! {
    both {
        /// Packets sent.
        sent_packets sent_packets_total SRP;
        /// Packets received, repairs and duplicates included.
        recv_packets recv_packets_total RP;
        /// Bytes sent, in datagrams of every kind.
        sent_bytes sent_bytes_total SRP;
        /// Bytes received, in datagrams of every kind.
        recv_bytes recv_bytes_total SRP;
        /// Packets noticed missing, before repair.
        lost_packets lost_packets_total RP;
        /// Packets sent again because they were asked for.
        retransmitted_packets retransmitted_packets_total SRP;
        /// Packets that were asked for again.
        requested_packets requested_packets_total RP;
        /// Packets noticed missing that a repair brought in time.
        repaired_packets repaired_packets_total RP;
        /// Packets that came after their deadline and were dropped.
        dropped_late_packets dropped_late_packets_total RP;
        /// Packets that were already held.
        duplicate_packets duplicate_packets_total RP;
        /// Datagrams the kernel dropped because our socket buffer was full (SO_RXQ_OVFL); looked up when chunks were lost,
        /// every 10 s, and at the end.
        kernel_dropped_packets kernel_dropped_packets_total SRP;
        /// Parity packets sent.
        fec_sent_packets fec_sent_packets_total SRP;
        /// Packets rebuilt from parity.
        fec_repaired_packets fec_repaired_packets_total RP;
        /// Packets that parity could not rebuild.
        fec_failed_packets fec_failed_packets_total RP;
        /// Packets due for output.
        due_packets due_packets_total P;
        /// Packets that were there when they were due.
        played_packets played_packets_total P;
        /// Joins that were admitted.
        joins joins_total T;
        /// Joins that were rejected, for any reason.
        rejects rejects_total T;
    }
    totals {
        /// Datagrams sent.
        sent_datagrams sent_datagrams_total SRP;
        /// Datagrams received.
        recv_datagrams recv_datagrams_total SRP;
        /// Media bytes sent in chunks.
        sent_media_bytes sent_media_bytes_total SRP;
        /// Media bytes received in chunks.
        recv_media_bytes recv_media_bytes_total RP;
        /// Bytes of hashes and signatures sent.
        sent_hash_bytes sent_hash_bytes_total SRP;
        /// Bytes of hashes and signatures received.
        recv_hash_bytes recv_hash_bytes_total RP;
        /// Media bytes read from the input (source) or written to the output (peer).
        media_bytes media_bytes_total SP;
        /// Audio packets of the stream seen.
        audio_packets audio_packets_total SRP;
        /// Video packets of the stream seen.
        video_packets video_packets_total SRP;
        /// Munros signed.
        signed_munros signed_munros_total S;
        /// Munros whose signature was verified.
        verified_munros verified_munros_total RP;
        /// Munros whose signature was wrong.
        bad_signatures bad_signatures_total RP;
        /// Packets proven to be the author's.
        verified_packets verified_packets_total RP;
        /// Packets whose hash was wrong.
        bad_hash_packets bad_hash_packets_total RP;
        /// Datagrams that were no message of the protocol.
        malformed_datagrams malformed_datagrams_total SRP;
        /// Messages that their sender may not send at that moment.
        violations violations_total SRP;
        /// Handshakes completed.
        handshakes handshakes_total SRP;
        /// Handshakes that failed or ran out of time.
        failed_handshakes failed_handshakes_total SRP;
        /// Subscriptions of children that were accepted.
        accepted_subscriptions accepted_subscriptions_total SRP;
        /// Subscriptions of children that were refused.
        refused_subscriptions refused_subscriptions_total SRP;
        /// Changes of parent.
        parent_changes parent_changes_total RP;
        /// Packets that were there and could not be opened: sealed with a key that nobody gave us, or damaged.
        unopened_packets unopened_packets_total P;
        /// Stalls of the output begun.
        stalls stalls_total P;
        /// Packets dropped because the reader of the output was too slow.
        output_dropped_packets output_dropped_packets_total P;
        /// Requests answered.
        requests requests_total T;
        /// Requests that could not be understood.
        bad_requests bad_requests_total T;
        /// Leaves, announced.
        leaves leaves_total T;
        /// Peers that fell silent and were removed.
        expired_peers expired_peers_total T;
        /// Joins rejected because no server or peer had room.
        rejects_capacity rejects_capacity_total T;
        /// Joins rejected for a missing, wrong or expired token or ticket.
        rejects_token rejects_token_total T;
        /// Joins rejected because the price was not met.
        rejects_price rejects_price_total T;
        /// Joins rejected because there is no such channel.
        rejects_channel rejects_channel_total T;
        /// Records dropped because a stats sink was slow or gone.
        dropped_records dropped_records_total ALL;
    }
    times {
        /// Smoothed round trip time to the parent, or the mean over neighbours without one.
        rtt_us rtt_ms "rtt_seconds" SRP;
        /// Its mean deviation.
        rtt_var_us rtt_var_ms "rtt_var_seconds" SRP;
        /// Interarrival jitter (RFC 3550) from the parent.
        jitter_us jitter_ms "jitter_seconds" RP;
        /// Delay from the parent to here.
        hop_latency_us hop_latency_ms "hop_latency_seconds" RP;
        /// Cumulative latency from the source: the sum of hop delays.
        latency_us latency_ms "latency_seconds" RP;
        /// Cumulative latency of audio packets, where streams are known.
        audio_latency_us audio_latency_ms "audio_latency_seconds" RP;
        /// Cumulative latency of video packets, where streams are known.
        video_latency_us video_latency_ms "video_latency_seconds" RP;
        /// Now minus the signed time of the newest chunk, where clocks agree.
        age_us age_ms "age_seconds" RP;
        /// Media held and not yet due.
        buffer_us buffer_ms "buffer_seconds" RP;
        /// The latency asked for.
        target_latency_us target_latency_ms "target_latency_seconds" P;
        /// From the start to the first media byte put out.
        join_us join_ms "join_seconds" P;
        /// Wait of a packet in our own send queue.
        send_queue_us send_queue_ms "send_queue_seconds" SRP;
    }
    numbers {
        /// Parents that push media here.
        parents RP;
        /// Children that are pushed media.
        children SRP;
        /// Neighbours of any kind.
        neighbours SRP;
        /// Hops from the source; the source has 0.
        depth SRP;
        /// Children that would still be accepted.
        slots_free SRP;
        /// Peers registered.
        peers T;
        /// Registered peers that serve others.
        supporters T;
        /// Supporters that there should be by the model of the service guaranteed period.
        model_supporters T;
        /// Joins that should be rejected by it, in thousandths.
        model_reject_permille T;
        /// Channels known.
        channels T;
    }
    other {
        /// Time that output stood still though it was due, in µs, the stall that lasts included.
        stall_us: u64,
        /// Bits in the audio packets counted by `audio_packets`.
        audio_bits: u64,
        /// Bits in the video packets counted by `video_packets`.
        video_bits: u64,
        /// Upload capacity estimated, in bit/s.
        uplink_bps: Option<u64>,
        /// How media gets here from the parent.
        path: Option<Path>,
        /// Peers from the source to our parent, the source first.
        root_path: Vec<PeerId>,
        /// Parents that push substreams, a bit each, where there are several; the main one first.
        shares: Vec<(PeerId, u32)>,
        /// SHA-256 over all media read (source) or written (peer) so far.
        media_sha256: Option<[u8; 32]>,
        /// The first chunk signed (source), received and proven (relay) or put out (peer).
        first_chunk: Option<u64>,
        /// The last one.
        last_chunk: Option<u64>,
        /// Cumulative latency, sampled.
        latency: Histogram,
        /// Age of each chunk when it was put out, where clocks agree.
        age: Histogram,
    }
}

/// Microseconds to milliseconds with three decimals.
pub fn milliseconds(micros: u64) -> f64 {
    micros.min(NUMBER_MAX) as f64 / 1000.0
}
