//! Where an address is: its autonomous system, country and cluster, as a file says, and the links between clusters.
//!
//! ```toml
//! [[network]]
//! subnet = "198.51.100.0/24"    # the longest prefix that holds an address counts
//! asn = 64500
//! country = "DE"
//! cluster = "east"
//!
//! [[link]]
//! from = "source"               # or a cluster
//! to = "east"
//! latency_ms = 12.5
//! capacity_mbps = 400.0
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::paths::Link;
use crate::tracker::message::{CLUSTER_AUTO, is_channel_name};

/// Most networks and most links read.
pub const ROWS_MAX: usize = 100_000;

/// The end of a link that is the source and no cluster.
pub const SOURCE: &str = "source";

/// What a file says of the network.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    /// By family, length of the prefix and its bits: a look-up asks for each length, the longest first.
    places: BTreeMap<(bool, u8, u128), Place>,
    links: Vec<Link>,
}

/// Where somebody is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Autonomous system.
    pub asn: Option<u32>,
    /// Country, two capital letters.
    pub country: Option<String>,
    /// The cluster that serves this network.
    pub cluster: Option<Arc<str>>,
}

/// How near two places are; smaller is nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// The file puts the address into the cluster.
    Subnet,
    /// The same autonomous system.
    System,
    /// The same country.
    Country,
    /// Nothing in common that is known.
    Unknown,
}

impl Nearness {
    /// The words of a log line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subnet => "nearest by subnet",
            Self::System => "nearest by autonomous system",
            Self::Country => "nearest by country",
            Self::Unknown => "least loaded",
        }
    }
}

/// Why a file is none; one line for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NetworksError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    network: Vec<NetworkRow>,
    #[serde(default)]
    link: Vec<LinkRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkRow {
    subnet: String,
    asn: Option<u32>,
    country: Option<String>,
    cluster: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkRow {
    from: String,
    to: String,
    latency_ms: f64,
    capacity_mbps: f64,
}

/// Address bits from the top, and whether it is IPv6.
fn bits(ip: IpAddr) -> (bool, u128) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => (false, u128::from(ip.to_bits()) << 96),
        IpAddr::V6(ip) => (true, ip.to_bits()),
    }
}

/// The first `length` bits.
const fn prefix(bits: u128, length: u8) -> u128 {
    if length == 0 {
        0
    } else {
        bits >> (128 - length as u32) << (128 - length as u32)
    }
}

fn subnet(text: &str) -> Option<(bool, u8, u128)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let (is_v6, bits, most) = match address.parse::<Ipv4Addr>() {
        Ok(ip) => (false, u128::from(ip.to_bits()) << 96, 32),
        Err(_) => (true, address.parse::<Ipv6Addr>().ok()?.to_bits(), 128),
    };
    let length = length.unwrap_or(most);
    (length <= most && prefix(bits, length) == bits).then_some((is_v6, length, bits))
}

fn cluster(name: &str) -> Result<Arc<str>, NetworksError> {
    if is_channel_name(name) && name != CLUSTER_AUTO {
        Ok(name.into())
    } else {
        Err(NetworksError(format!(
            "bad cluster {name:?}: need 1 to 64 of A-Z a-z 0-9 . _ -, and not {CLUSTER_AUTO}"
        )))
    }
}

impl Networks {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// A line that names the row that is wrong.
    pub fn from_toml(text: &str) -> Result<Self, NetworksError> {
        let file: File =
            toml::from_str(text).map_err(|error| NetworksError(error.message().to_owned()))?;
        if file.network.len() > ROWS_MAX || file.link.len() > ROWS_MAX {
            return Err(NetworksError(format!("more than {ROWS_MAX} rows")));
        }
        let mut networks = Self::default();
        for row in file.network {
            let key = subnet(&row.subnet).ok_or_else(|| {
                NetworksError(format!(
                    "bad subnet {:?}: need an address and a prefix length, with no bits behind it",
                    row.subnet
                ))
            })?;
            let is_code =
                |code: &str| code.len() == 2 && code.bytes().all(|c| c.is_ascii_uppercase());
            if let Some(country) = row.country.as_deref().filter(|code| !is_code(code)) {
                let why = format!("bad country {country:?}: need two capital letters");
                return Err(NetworksError(why));
            }
            let place = Place {
                asn: row.asn,
                country: row.country,
                cluster: row.cluster.as_deref().map(cluster).transpose()?,
            };
            if networks.places.insert(key, place).is_some() {
                return Err(NetworksError(format!("subnet {} given twice", row.subnet)));
            }
        }
        for row in file.link {
            let is_fine = |number: f64, most: f64| (0.0..=most).contains(&number);
            if !is_fine(row.latency_ms, 60_000.0) || !is_fine(row.capacity_mbps, 1e6) {
                let why = format!(
                    "bad link from {:?} to {:?}: latency_ms is 0 to 60000, capacity_mbps 0 to 1000000",
                    row.from, row.to
                );
                return Err(NetworksError(why));
            }
            networks.links.push(Link {
                from: cluster(&row.from)?,
                to: cluster(&row.to)?,
                latency: Duration::from_secs_f64(row.latency_ms / 1000.0),
                capacity_kbps: (row.capacity_mbps * 1000.0) as u64,
            });
        }
        Ok(networks)
    }

    /// Where an address is, by the longest prefix that holds it.
    pub fn place(&self, ip: IpAddr) -> Place {
        let (is_v6, bits) = bits(ip);
        (0..=if is_v6 { 128 } else { 32 })
            .rev()
            .find_map(|length| self.places.get(&(is_v6, length, prefix(bits, length))))
            .cloned()
            .unwrap_or_default()
    }

    /// How near an address is to a cluster with servers at `servers`.
    pub fn nearness(&self, ip: IpAddr, name: &str, servers: &[IpAddr]) -> Nearness {
        let place = self.place(ip);
        if place.cluster.as_deref() == Some(name) {
            return Nearness::Subnet;
        }
        let there: Vec<Place> = servers.iter().map(|server| self.place(*server)).collect();
        let shares =
            |is_same: fn(&Place, &Place) -> bool| there.iter().any(|other| is_same(&place, other));
        if shares(|one, other| one.asn.is_some() && one.asn == other.asn) {
            Nearness::System
        } else if shares(|one, other| one.country.is_some() && one.country == other.country) {
            Nearness::Country
        } else {
            Nearness::Unknown
        }
    }

    /// Links between clusters.
    pub fn links(&self) -> &[Link] {
        &self.links
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [[network]]
        subnet = "10.0.0.0/8"
        asn = 64500
        country = "DE"
        [[network]]
        subnet = "10.1.0.0/16"
        asn = 64501
        country = "DE"
        cluster = "east"
        [[network]]
        subnet = "10.1.2.3"
        cluster = "west"
        [[network]]
        subnet = "2001:db8::/32"
        country = "FR"
        [[link]]
        from = "source"
        to = "east"
        latency_ms = 12.5
        capacity_mbps = 0.5
    "#;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_longest_prefix_counts() {
        let networks = Networks::from_toml(FILE).expect("a file");
        for (address, asn, country, cluster) in [
            ("10.9.9.9", Some(64500), Some("DE"), None),
            ("10.1.9.9", Some(64501), Some("DE"), Some("east")),
            ("::ffff:10.1.9.9", Some(64501), Some("DE"), Some("east")),
            ("10.1.2.3", None, None, Some("west")),
            ("2001:db8:1::1", None, Some("FR"), None),
            ("192.0.2.1", None, None, None),
        ] {
            let place = networks.place(ip(address));
            assert_eq!(
                (
                    place.asn,
                    place.country.as_deref(),
                    place.cluster.as_deref()
                ),
                (asn, country, cluster),
                "{address}"
            );
        }
        let link = &networks.links()[0];
        assert_eq!(
            (link.latency.as_micros(), link.capacity_kbps),
            (12_500, 500)
        );
    }

    #[test]
    fn nearest_by_subnet_then_system_then_country() {
        let networks = Networks::from_toml(FILE).expect("a file");
        for (peer, cluster, server, nearness) in [
            ("10.1.9.9", "east", "192.0.2.1", Nearness::Subnet),
            ("10.9.9.9", "east", "10.8.0.1", Nearness::System),
            ("10.9.9.9", "east", "10.1.0.1", Nearness::Country),
            ("10.9.9.9", "east", "2001:db8::1", Nearness::Unknown),
            ("192.0.2.7", "east", "192.0.2.1", Nearness::Unknown),
        ] {
            let found = networks.nearness(ip(peer), cluster, &[ip(server)]);
            assert_eq!(found, nearness, "{peer} {server}");
        }
        assert!(Nearness::Subnet < Nearness::System && Nearness::System < Nearness::Country);
    }

    #[test]
    fn wrong_rows_are_named() {
        for (text, word) in [
            ("[[network]]\nsubnet = \"10.0.0.1/8\"", "10.0.0.1/8"),
            ("[[network]]\nsubnet = \"10.0.0.0/33\"", "/33"),
            ("[[network]]\nsubnet = \"ten\"", "ten"),
            (
                "[[network]]\nsubnet = \"10.0.0.0/8\"\ncountry = \"Germany\"",
                "Germany",
            ),
            (
                "[[network]]\nsubnet = \"10.0.0.0/8\"\ncluster = \"auto\"",
                "auto",
            ),
            (
                "[[network]]\nsubnet = \"10.0.0.0/8\"\ncluster = \"a b\"",
                "a b",
            ),
            (
                "[[network]]\nsubnet = \"1.0.0.0/8\"\n[[network]]\nsubnet = \"1.0.0.0/8\"",
                "twice",
            ),
            ("[[network]]\nsubnet = \"10.0.0.0/8\"\nsystem = 7", "system"),
            (
                "[[link]]\nfrom = \"a\"\nto = \"b\"\nlatency_ms = -1.0\ncapacity_mbps = 1.0",
                "latency_ms",
            ),
            (
                "[[link]]\nfrom = \"a\"\nto = \"b\"\nlatency_ms = nan\ncapacity_mbps = 1.0",
                "latency_ms",
            ),
        ] {
            let error = Networks::from_toml(text).expect_err(text).to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
