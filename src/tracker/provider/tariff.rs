//! What the provider sells, at which price, and when it wants more servers: a TOML file, read again on HUP.

use serde::{Deserialize, Serialize};

use super::money::Money;

/// Longest list of packets or intervals.
const ENTRIES_MAX: usize = 32;

/// Longest name of a packet, in characters.
const NAME_CHARS_MAX: usize = 32;

/// Most servers of others.
const SERVERS_MAX: usize = 1000;

/// A tariff to begin with, which stands among the examples.
pub const EXAMPLE: &str = include_str!("../../../examples/tariff.toml");

/// What quality a user has, as far as it is known: of the path from the source to the user, and the user's uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Qos {
    /// Bandwidth in Mbit/s that the user can carry.
    pub bw_mbps: Option<f64>,
    /// Cumulative latency from the source, in milliseconds.
    pub lat_ms: Option<f64>,
    /// Jitter of RFC 3550, in milliseconds.
    pub jit_ms: Option<f64>,
}

/// Limits of quality: at least so much bandwidth, at most so much latency and jitter.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Least bandwidth, in Mbit/s.
    pub bw_mbps: f64,
    /// Most latency, in milliseconds.
    pub lat_ms: f64,
    /// Most jitter, in milliseconds.
    pub jit_ms: f64,
}

impl Bounds {
    /// Whether all three are known and hold.
    pub fn hold(&self, qos: &Qos) -> bool {
        qos.bw_mbps.is_some_and(|bw| bw >= self.bw_mbps)
            && qos.lat_ms.is_some_and(|lat| lat <= self.lat_ms)
            && qos.jit_ms.is_some_and(|jit| jit <= self.jit_ms)
    }

    /// Whether something that is known is outside.
    pub fn are_missed(&self, qos: &Qos) -> bool {
        qos.bw_mbps.is_some_and(|bw| bw < self.bw_mbps)
            || qos.lat_ms.is_some_and(|lat| lat > self.lat_ms)
            || qos.jit_ms.is_some_and(|jit| jit > self.jit_ms)
    }
}

/// What a price is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Each minute begun.
    Minute,
    /// Each hour begun.
    Hour,
    /// The content, however long.
    Content,
}

impl Unit {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Content => "content",
        }
    }

    /// How long one lasts, in microseconds.
    pub const fn micros(self) -> Option<u64> {
        match self {
            Self::Minute => Some(60_000_000),
            Self::Hour => Some(3_600_000_000),
            Self::Content => None,
        }
    }

    /// Reads what [`name`](Self::name) writes.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Minute, Self::Hour, Self::Content]
            .into_iter()
            .find(|unit| unit.name() == name)
    }
}

/// A quality that is guaranteed, and its price.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// Name, such as `gold`.
    pub name: String,
    /// What is guaranteed.
    pub bounds: Bounds,
    /// Price of one unit.
    pub price: Money,
    /// What the price is for.
    pub unit: Unit,
}

/// A range of bandwidth, low end open and high end closed, and its price.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// Name: `0-2`, `2-5`; the last `10-`.
    pub name: String,
    /// Above so many Mbit/s.
    pub over_mbps: f64,
    /// Up to so many Mbit/s; none without end.
    pub to_mbps: Option<f64>,
    /// Price of one unit.
    pub price: Money,
    /// What the price is for.
    pub unit: Unit,
}

impl Interval {
    /// Whether a bandwidth falls into it.
    pub fn contains(&self, bw_mbps: f64) -> bool {
        bw_mbps > self.over_mbps && self.to_mbps.is_none_or(|to| bw_mbps <= to)
    }
}

/// Most that servers of others may cost, a Mbit/s of upload that they offer; without a price none are rented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RentRule {
    /// By the hour; a minute at most the sixtieth part.
    pub hour_max: Option<Money>,
    /// For a whole content.
    pub content_max: Option<Money>,
    /// Servers at a time.
    pub servers_max: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRent {
    hour_max: Option<String>,
    content_max: Option<String>,
    #[serde(default = "four")]
    servers_max: usize,
}

const fn four() -> usize {
    4
}

impl FileRent {
    fn rule(&self) -> Result<RentRule, TariffError> {
        let most =
            |text: &Option<String>| text.as_deref().map(|text| price("rent", text)).transpose();
        if !(1..=SERVERS_MAX).contains(&self.servers_max) {
            return fault("rent", "servers_max: need 1 to 1000");
        }
        Ok(RentRule {
            hour_max: most(&self.hour_max)?,
            content_max: most(&self.content_max)?,
            servers_max: self.servers_max,
        })
    }
}

/// When the provider wants more servers, or less.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScaleRule {
    /// Load above which a server is missing.
    pub high: f64,
    /// For how long, in seconds.
    pub high_s: u64,
    /// Share of users outside the bounds of their packet above which a server is missing.
    pub outside: f64,
    /// Load below which a server is too many.
    pub low: f64,
    /// For how long, in seconds.
    pub low_s: u64,
}

impl Default for ScaleRule {
    fn default() -> Self {
        Self {
            high: 0.8,
            high_s: 10,
            outside: 0.05,
            low: 0.3,
            low_s: 300,
        }
    }
}

/// Everything the provider's operator decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Tariff {
    /// Currency of every price, for people.
    pub currency: String,
    /// Packets, best and dearest first.
    pub packets: Vec<Packet>,
    /// Bandwidth intervals, lowest first, without gaps.
    pub intervals: Vec<Interval>,
    /// Quality below which a client may not serve clients.
    pub charge_floor: Bounds,
    /// What a client that serves peers saves, as a share of its price.
    pub peers_discount: f64,
    /// Whether free peers may hang below the provider's own servers, or below users only.
    pub peers_at_servers: bool,
    /// Command and arguments that take a payment; none: everything is free of charge, and booked.
    pub payment: Option<Vec<String>>,
    /// What servers of others may cost.
    pub rent: RentRule,
    /// Command and arguments that start and stop servers.
    pub scale_command: Option<Vec<String>>,
    /// When to call it.
    pub scale: ScaleRule,
    /// How long samples of quality are kept, in seconds.
    pub history_s: u64,
}

/// Why a text is no tariff.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TariffError {
    /// Not TOML, or not these members.
    #[error("{0}")]
    Syntax(String),
    /// A value that makes no sense.
    #[error("{what}: {why}")]
    Value {
        /// Where.
        what: String,
        /// Why not.
        why: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "euro")]
    currency: String,
    #[serde(default)]
    packet: Vec<FilePacket>,
    #[serde(default)]
    interval: Vec<FileInterval>,
    charge_floor: Option<Bounds>,
    #[serde(default)]
    peers_discount: f64,
    #[serde(default)]
    peers_at_servers: bool,
    payment: Option<Vec<String>>,
    scale_command: Option<Vec<String>>,
    rent: Option<FileRent>,
    #[serde(default)]
    scale: ScaleRule,
    #[serde(default = "an_hour")]
    history_s: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePacket {
    name: String,
    bw_mbps: f64,
    lat_ms: f64,
    jit_ms: f64,
    price: String,
    unit: Unit,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileInterval {
    to_mbps: Option<f64>,
    price: String,
    unit: Unit,
}

fn euro() -> String {
    "EUR".to_owned()
}

const fn an_hour() -> u64 {
    3600
}

impl Tariff {
    /// Reads a tariff.
    ///
    /// # Errors
    ///
    /// [`TariffError`], one line for people.
    pub fn parse(text: &str) -> Result<Self, TariffError> {
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(1, |before| before.matches('\n').count() + 1);
            TariffError::Syntax(format!("line {line}: {}", first_line(error.message())))
        })?;
        if file.packet.len() > ENTRIES_MAX || file.interval.len() > ENTRIES_MAX {
            return fault("packet", "at most 32 packets and 32 intervals");
        }
        let mut packets: Vec<Packet> = Vec::new();
        for packet in file.packet {
            let what = || format!("packet {:?}", packet.name);
            let is_name = (1..=NAME_CHARS_MAX).contains(&packet.name.len())
                && packet
                    .name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
            if !is_name {
                return fault(what(), "a name has 1 to 32 of A-Z a-z 0-9 _ -");
            }
            if packets.iter().any(|known| known.name == packet.name) {
                return fault(what(), "named twice");
            }
            let bounds = Bounds {
                bw_mbps: packet.bw_mbps,
                lat_ms: packet.lat_ms,
                jit_ms: packet.jit_ms,
            };
            check_bounds(&what(), &bounds)?;
            packets.push(Packet {
                bounds,
                price: price(&what(), &packet.price)?,
                unit: packet.unit,
                name: packet.name,
            });
        }
        let mut intervals: Vec<Interval> = Vec::new();
        for interval in file.interval {
            let over_mbps = match intervals.last() {
                None => 0.0,
                Some(last) => match last.to_mbps {
                    Some(to) => to,
                    None => return fault("interval", "behind the one without an end"),
                },
            };
            if interval
                .to_mbps
                .is_some_and(|to| !to.is_finite() || to <= over_mbps)
            {
                return fault("interval", "to_mbps must grow from one to the next");
            }
            let name = match interval.to_mbps {
                Some(to) => format!("{over_mbps}-{to}"),
                None => format!("{over_mbps}-"),
            };
            intervals.push(Interval {
                price: price(&format!("interval {name}"), &interval.price)?,
                name,
                over_mbps,
                to_mbps: interval.to_mbps,
                unit: interval.unit,
            });
        }
        // Every bandwidth falls in exactly one interval.
        if intervals.last().is_some_and(|last| last.to_mbps.is_some()) {
            return fault("interval", "the last one has no to_mbps: it has no end");
        }
        let charge_floor = file.charge_floor.unwrap_or(Bounds {
            bw_mbps: 4.0,
            lat_ms: 90.0,
            jit_ms: 3.0,
        });
        check_bounds("charge_floor", &charge_floor)?;
        if !(0.0..=1.0).contains(&file.peers_discount) {
            return fault("peers_discount", "need 0.0 to 1.0");
        }
        for (what, command) in [
            ("payment", &file.payment),
            ("scale_command", &file.scale_command),
        ] {
            if command.as_ref().is_some_and(Vec::is_empty) {
                return fault(what, "need a command and its arguments");
            }
        }
        let shares = [file.scale.high, file.scale.outside, file.scale.low];
        if !shares.iter().all(|share| (0.0..=1.0).contains(share)) {
            return fault("scale", "shares are 0.0 to 1.0");
        }
        if !(60..=30 * 86_400).contains(&file.history_s) {
            return fault("history_s", "need 60 to 2592000");
        }
        let rent = file.rent.as_ref().map(FileRent::rule).transpose()?;
        Ok(Self {
            currency: file.currency,
            packets,
            intervals,
            charge_floor,
            peers_discount: file.peers_discount,
            peers_at_servers: file.peers_at_servers,
            payment: file.payment,
            scale_command: file.scale_command,
            rent: rent.unwrap_or(RentRule {
                hour_max: None,
                content_max: None,
                servers_max: 0,
            }),
            scale: file.scale,
            history_s: file.history_s,
        })
    }

    /// The best packet whose bounds all hold.
    pub fn classify(&self, qos: &Qos) -> Option<&Packet> {
        self.packets.iter().find(|packet| packet.bounds.hold(qos))
    }

    /// A packet by its name.
    pub fn packet(&self, name: &str) -> Option<&Packet> {
        self.packets.iter().find(|packet| packet.name == name)
    }

    /// An interval by its name.
    pub fn interval(&self, name: &str) -> Option<&Interval> {
        self.intervals.iter().find(|interval| interval.name == name)
    }

    /// The interval that a bandwidth falls into.
    pub fn interval_of(&self, bw_mbps: f64) -> Option<&Interval> {
        self.intervals
            .iter()
            .find(|interval| interval.contains(bw_mbps))
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

fn fault<T>(what: impl Into<String>, why: &'static str) -> Result<T, TariffError> {
    Err(TariffError::Value {
        what: what.into(),
        why,
    })
}

fn price(what: &str, text: &str) -> Result<Money, TariffError> {
    text.parse().map_err(|_| TariffError::Value {
        what: what.to_owned(),
        why: "price: need an amount such as 0.60",
    })
}

fn check_bounds(what: &str, bounds: &Bounds) -> Result<(), TariffError> {
    let all = [bounds.bw_mbps, bounds.lat_ms, bounds.jit_ms];
    match all.iter().all(|value| value.is_finite() && *value >= 0.0) {
        true => Ok(()),
        false => fault(what, "bounds are numbers from 0 on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qos(bw: f64, lat: f64, jit: f64) -> Qos {
        Qos {
            bw_mbps: Some(bw),
            lat_ms: Some(lat),
            jit_ms: Some(jit),
        }
    }

    #[test]
    fn the_packets_admit_the_users_of_the_paper() {
        let tariff = Tariff::parse(EXAMPLE).unwrap();
        for (bw, lat, jit, packet) in [
            (25.0, 20.0, 0.0435, Some("gold")),
            (19.0, 10.0, 0.5366, Some("gold")),
            (13.0, 40.0, 1.4785, Some("silver")),
            (11.0, 60.0, 1.3299, Some("silver")),
            (4.0, 80.0, 2.3401, Some("bronze")),
            (5.0, 90.0, 2.7832, Some("bronze")),
            (2.0, 90.0, 3.03, None),
            (1.0, 110.0, 3.44, None),
        ] {
            let found = tariff.classify(&qos(bw, lat, jit));
            assert_eq!(found.map(|found| found.name.as_str()), packet, "{bw}");
        }
        // What is not known is not guaranteed, and not missed.
        let unknown = Qos::default();
        assert_eq!(tariff.classify(&unknown), None);
        assert!(!tariff.charge_floor.are_missed(&unknown));
        assert!(tariff.charge_floor.are_missed(&qos(2.0, 90.0, 2.55)));
    }

    #[test]
    fn every_bandwidth_is_in_one_interval() {
        let tariff = Tariff::parse(EXAMPLE).unwrap();
        for (bw, name) in [
            (0.1, "0-2"),
            (2.0, "0-2"),
            (2.001, "2-5"),
            (5.0, "2-5"),
            (10.0, "5-10"),
            (10.5, "10-"),
        ] {
            let count = tariff.intervals.iter().filter(|i| i.contains(bw)).count();
            assert_eq!(count, 1, "{bw}");
            assert_eq!(tariff.interval_of(bw).map(|i| i.name.as_str()), Some(name));
        }
    }

    #[test]
    fn a_bad_tariff_is_one_line_that_says_where() {
        let packet = "[[packet]]\nname=\"g\"\nbw_mbps=1\nlat_ms=1\njit_ms=1\nunit=\"hour\"\n";
        for (text, line) in [
            ("x = 1", "line 1: unknown field `x`"),
            ("peers_discount = 2.0", "peers_discount: need 0.0 to 1.0"),
            (
                "[[interval]]\nto_mbps = 2\nprice = \"1\"\nunit = \"hour\"",
                "interval: the last one has no to_mbps: it has no end",
            ),
            ("payment = []", "payment: need a command and its arguments"),
            (
                &format!("{packet}price=\"x\""),
                "packet \"g\": price: need an amount such as 0.60",
            ),
            (
                &format!("{packet}price=\"1\"\n{packet}price=\"1\""),
                "packet \"g\": named twice",
            ),
        ] {
            let error = Tariff::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(line), "{error}");
        }
    }
}
