//! Users of a content: who they are, whom they hang below, how they do.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::status::{Kind, Status};
use super::tariff::Qos;
use crate::stats::timestamp::Timestamp;
use crate::time::Instant;

/// What stands for the provider where a seller or parent is named.
pub const PROVIDER: &str = "provider";

/// Whom a user hangs below, and whom it pays if it is a client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seller {
    /// A server of the provider.
    Provider,
    /// A user, by its identifier.
    User(Arc<str>),
}

impl Seller {
    /// As it is written.
    pub fn name(&self) -> &str {
        match self {
            Self::Provider => PROVIDER,
            Self::User(id) => id,
        }
    }

    /// Reads what [`name`](Self::name) writes.
    pub fn from_name(name: &str) -> Self {
        match name {
            PROVIDER => Self::Provider,
            id => Self::User(id.into()),
        }
    }
}

/// One user of one content.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// Assigned by the provider: `C1`, `C1_2`, `P3`, `P3_1`.
    pub id: Arc<str>,
    /// Who it is: the name it logged in with, or its peer identifier.
    pub account: Arc<str>,
    /// Channel name.
    pub content: Arc<str>,
    /// What it is, and whom it serves.
    pub status: Status,
    /// Below whom.
    pub seller: Seller,
    /// Name of the packet it bought.
    pub packet: Option<String>,
    /// Name of the bandwidth interval it bought.
    pub interval: Option<String>,
    /// Its contract, if it pays.
    pub contract: Option<u64>,
    /// When it came, in Unix microseconds.
    pub since: u64,
    /// Its quality, as last reported.
    pub qos: Qos,
    /// Children whose identifiers were made from this one.
    pub children: u64,
    /// The peer that it is now.
    pub peer: Option<Arc<str>>,
    /// When it was last heard of.
    pub heard: Instant,
    /// Whether it had the stream since its peer connected.
    pub has_streamed: bool,
    /// Since when its peer has no parent.
    pub parentless: Option<Instant>,
    /// Whether a child complained since it last reported.
    pub is_doubted: bool,
    /// Upload in use, in Mbit/s.
    pub used_mbps: f64,
    /// Children that it would still take.
    pub slots_free: Option<u16>,
    /// Rate at which the stream reaches it, in kbit/s.
    pub kbps: Option<u64>,
    /// Whether it gets less than its packet guarantees.
    pub is_outside: bool,
}

impl User {
    /// Levels below the provider's servers: 1 for `C4`, 2 for `C4_1`; free peers count on from their parent in the
    /// same way.
    pub fn level(&self) -> usize {
        1 + self.id.matches('_').count()
    }

    /// Whether a peer of it is connected.
    pub const fn is_here(&self) -> bool {
        self.peer.is_some()
    }

    /// Whether it is kept over a restart: whoever pays is.
    pub fn is_durable(&self) -> bool {
        self.status.kind() == Kind::Client
    }

    /// Upload that is left, in Mbit/s; none while its capacity is not known.
    pub fn free_mbps(&self) -> Option<f64> {
        self.qos.bw_mbps.map(|bw| bw - self.used_mbps)
    }

    /// The row of the tables.
    pub fn row(&self) -> Value {
        let mut row = Map::new();
        let mut put = |name: &str, value: Value| {
            row.insert(name.to_owned(), value);
        };
        put("id", json!(&*self.id));
        put("status", json!(self.status.name()));
        for (name, text) in [("packet", &self.packet), ("interval", &self.interval)] {
            if let Some(text) = text {
                put(name, json!(text));
            }
        }
        let qos = &self.qos;
        for (name, value) in [
            ("bw_mbps", qos.bw_mbps),
            ("lat_ms", qos.lat_ms),
            ("jit_ms", qos.jit_ms),
        ] {
            if let Some(value) = value {
                put(name, json!(value));
            }
        }
        put("used_mbps", json!(self.used_mbps));
        put("level", json!(self.level()));
        put("parent", json!(self.seller.name()));
        put("content", json!(&*self.content));
        put(
            "since",
            json!(Timestamp::from_unix_micros(self.since).to_string()),
        );
        put("is_here", json!(self.is_here()));
        Value::Object(row)
    }

    /// How the paper writes a user in the packet table: `C1: 25, 20, 0.0435`.
    pub fn summary(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| v.to_string());
        format!(
            "{}: {}, {}, {}",
            self.id,
            number(self.qos.bw_mbps),
            number(self.qos.lat_ms),
            number(self.qos.jit_ms)
        )
    }

    /// The durable part.
    pub fn to_json(&self) -> String {
        json!({
            "account": &*self.account,
            "content": &*self.content,
            "status": self.status.name(),
            "seller": self.seller.name(),
            "packet": self.packet,
            "interval": self.interval,
            "contract": self.contract,
            "since": self.since,
            "children": self.children,
            "bw_mbps": self.qos.bw_mbps,
            "lat_ms": self.qos.lat_ms,
            "jit_ms": self.qos.jit_ms,
        })
        .to_string()
    }

    /// Reads a user back; nobody is it yet.
    pub fn from_json(id: &str, text: &str, now: Instant) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let float = |name: &str| value.get(name).and_then(Value::as_f64);
        Some(Self {
            id: id.into(),
            account: text("account")?.into(),
            content: text("content")?.into(),
            status: Status::from_name(text("status")?)?,
            seller: Seller::from_name(text("seller")?),
            packet: text("packet").map(str::to_owned),
            interval: text("interval").map(str::to_owned),
            contract: value.get("contract").and_then(Value::as_u64),
            since: value.get("since").and_then(Value::as_u64)?,
            children: value.get("children").and_then(Value::as_u64).unwrap_or(0),
            qos: Qos {
                bw_mbps: float("bw_mbps"),
                lat_ms: float("lat_ms"),
                jit_ms: float("jit_ms"),
            },
            peer: None,
            heard: now,
            has_streamed: false,
            parentless: None,
            is_doubted: false,
            used_mbps: 0.0,
            slots_free: None,
            kbps: None,
            is_outside: false,
        })
    }
}

/// The order in which people count: `C2` before `C10`, `C2` before `C2_1`.
pub fn natural(id: &str) -> (String, Vec<u64>) {
    let letters = id.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (kind, numbers) = id.split_at(letters);
    let numbers = numbers.split('_').map(|part| part.parse().unwrap_or(0));
    (kind.to_owned(), numbers.collect())
}

/// The identifier of a newcomer: its parent's with a number behind it, where parent and child are of one kind; else one
/// of its own.
pub fn child_id(kind: Kind, seller: &Seller, of_its_own: u64, of_parent: u64) -> String {
    match (kind, seller) {
        (Kind::Client, Seller::User(parent)) => format!("{parent}_{of_parent}"),
        (Kind::Peer, Seller::User(parent)) if parent.starts_with('P') => {
            format!("{parent}_{of_parent}")
        }
        (Kind::Client, Seller::Provider) => format!("C{of_its_own}"),
        (Kind::Peer, _) => format!("P{of_its_own}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_tell_the_way() {
        let below = |id: &str| Seller::User(id.into());
        for (kind, seller, id) in [
            (Kind::Client, Seller::Provider, "C7"),
            (Kind::Client, below("C1"), "C1_2"),
            (Kind::Client, below("C1_2"), "C1_2_2"),
            (Kind::Peer, below("C1"), "P7"),
            (Kind::Peer, below("P3"), "P3_2"),
            (Kind::Peer, Seller::Provider, "P7"),
        ] {
            assert_eq!(child_id(kind, &seller, 7, 2), id);
        }
    }

    #[test]
    fn people_count_in_numbers() {
        let mut ids = ["P1", "C10", "C2_1", "C2", "C1_10", "C1_9", "C1"];
        ids.sort_by_key(|id| natural(id));
        assert_eq!(ids, ["C1", "C1_9", "C1_10", "C2", "C2_1", "C10", "P1"]);
    }
}
