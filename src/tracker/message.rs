//! Requests and responses of the PPSP tracker protocol (RFC 7846), with one extra member `x_ext`.
//!
//! What is written has the form of the schema; what is read may have any form that the RFC's own examples and its
//! few users show (`read.rs`). Whether a well-formed request is allowed is the registry's affair.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

pub use super::json::{
    ADDRESSES_MAX, ARRAY_MAX, BODY_BYTES_MAX, DEPTH_MAX, DESCRIPTION_BYTES_MAX,
    IDENTIFIER_BYTES_MAX, RESPONSE_BYTES_MAX, STRING_BYTES_MAX, SWARM_ID_BYTES_MAX,
};

mod access;
mod codes;
mod decimal;
mod ext;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use access::{AccessRequest, AccessResponse, ChannelAuth, SealKeys, Secret};
pub use codes::{ErrorCode, Reject, RejectCode};
pub use decimal::Decimal;
pub use ext::{Deal, EXT_VERSION, Feed, Grant, Redirect, Rental, RequestExt, ResponseExt};

/// Content type of requests and responses (RFC 7846 §4.2).
pub const CONTENT_TYPE: &str = "application/ppsp-tracker+json";

/// Version of the protocol (RFC 7846 §3.2.1).
pub const VERSION: u64 = 1;

/// Cluster name by which a relay asks to be put where it is needed.
pub const CLUSTER_AUTO: &str = "auto";

/// Longest channel name, in characters.
pub const NAME_CHARS_MAX: usize = 64;

/// Most substreams of a channel, and so the most parents of one peer and the width of a mask.
pub const SUBSTREAMS_MAX: u8 = 8;

/// Longest channel title, in bytes.
pub const TITLE_BYTES_MAX: usize = 256;

/// Whether a text may name a channel: 1 to 64 of `A-Z a-z 0-9 . _ -`, and not only dots.
///
/// The name ends up in URLs, file names, log lines and on terminals, hence so few characters.
pub fn is_channel_name(text: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        && text.bytes().any(|byte| byte != b'.')
}

/// One request: who asks, and what for (RFC 7846 §3.2.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Echoed in the response; repeated only with the identical request.
    pub transaction_id: String,
    /// Who asks; printable ASCII of at most 256 bytes.
    pub peer_id: String,
    /// What is asked.
    pub body: Body,
    /// What only our own tools say.
    pub ext: Option<RequestExt>,
}

/// The three kinds of request (RFC 7846 §4.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Registers a peer, joins and leaves swarms.
    Connect(Connect),
    /// Asks for peers of one swarm.
    Find(Find),
    /// Says that the peer is alive and how it does; without statistics a pure sign of life.
    StatReport(Vec<Stat>),
}

/// Body of CONNECT (RFC 7846 §4.1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Connect {
    /// How many peers are wanted; a SEEDER gets a list only when it is present.
    pub peer_num: Option<PeerNum>,
    /// Addresses that the peer claims.
    pub peer_addr: Vec<PeerAddr>,
    /// What to join and leave, at least one.
    pub swarm_action: Vec<SwarmAction>,
}

/// Body of FIND (RFC 7846 §4.1.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Find {
    /// The swarm; empty for the swarm of `x_ext.channel`.
    pub swarm_id: String,
    /// How many peers are wanted.
    pub peer_num: Option<PeerNum>,
}

/// How many peers are wanted, and how the asker is placed (RFC 7846 §3.2.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct PeerNum {
    /// Most peers to return; the RFC asks for less than 30.
    pub peer_count: u64,
    /// Preferred way through NAT: `NO_NAT`, `STUN`, `TURN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ability_nat: Option<String>,
    /// Links the asker has now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent_links: Option<u64>,
    /// Seconds online.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online_time: Option<u64>,
    /// Upload capability in kbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_bandwidth: Option<u64>,
}

impl PeerNum {
    /// Only a number of peers.
    pub const fn count(peer_count: u64) -> Self {
        Self {
            peer_count,
            ability_nat: None,
            concurrent_links: None,
            online_time: None,
            upload_bandwidth: None,
        }
    }
}

/// One step into or out of a swarm (RFC 7846 §3.2.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct SwarmAction {
    /// The swarm, an opaque string (ours: hexadecimal of the PPSPP swarm identifier); empty for the swarm of
    /// `x_ext.channel`.
    pub swarm_id: String,
    /// In or out.
    pub action: Action,
    /// As what; means nothing when leaving.
    pub peer_mode: PeerMode,
}

/// In or out of a swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// Take part.
    Join,
    /// Stop taking part.
    Leave,
    /// A word that no RFC defines: an invalid swarm action, not a malformed message (RFC 7846 §4.3, code 03).
    Unknown,
}

/// Whether a peer has the content or wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PeerMode {
    /// Has the content or makes it.
    Seeder,
    /// Consumes it, and may pass it on.
    Leech,
}

/// An address at which a peer may be reached (RFC 7846 §3.2.3); of our peers, the UDP address of RFC 7574.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr {
    /// Address; never an IPv4 address written as IPv6.
    pub ip: IpAddr,
    /// Service port.
    pub port: u16,
    /// Larger is preferred.
    pub priority: u64,
    /// How the address came to be known.
    pub kind: AddressKind,
    /// Peer protocol spoken there, `PPSP-PP` for RFC 7574.
    pub peer_protocol: Option<String>,
}

/// How an address came to be known, in the words of ICE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AddressKind {
    /// On an interface of the host.
    Host,
    /// As others see the host.
    Reflexive,
    /// On a relay.
    Proxy,
}

impl Serialize for PeerAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Ip {
            address_type: &'static str,
            address: IpAddr,
        }
        let mut object = serializer.serialize_struct("peer_addr", 5)?;
        object.serialize_field(
            "ip_address",
            &Ip {
                address_type: if self.ip.is_ipv4() { "ipv4" } else { "ipv6" },
                address: self.ip,
            },
        )?;
        object.serialize_field("port", &self.port)?;
        object.serialize_field("priority", &self.priority)?;
        object.serialize_field("type", &self.kind)?;
        if let Some(protocol) = &self.peer_protocol {
            object.serialize_field("peer_protocol", protocol)?;
        }
        object.end()
    }
}

/// What a peer did in one swarm (RFC 7846 §3.2.5). Counters count from the JOIN; they are claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Stat {
    /// The swarm.
    pub swarm_id: String,
    /// Bytes sent to the swarm.
    pub uploaded_bytes: u64,
    /// Bytes received from the swarm.
    pub downloaded_bytes: u64,
    /// Upload available now; bit/s from our tools, the RFC names no unit.
    pub available_bandwidth: u64,
    /// Links to other peers.
    pub concurrent_links: u64,
}

/// What a peer is in its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Makes the stream.
    Source,
    /// Passes it on and does nothing else.
    Relay,
    /// Plays it, and passes it on.
    Peer,
}

/// One response (RFC 7846 §3.2.2). With an error code there is neither an address nor a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Copied from the request; empty when that could not be read.
    pub transaction_id: String,
    /// [`ErrorCode::None`] for success.
    pub error_code: ErrorCode,
    /// The asker's address as the tracker sees it.
    pub peer_addr: Option<PeerAddr>,
    /// One for each swarm of the request.
    pub swarm_result: Vec<SwarmResult>,
    /// Seconds between two STAT_REPORTs that the tracker wishes for.
    pub report_interval_s: Option<u64>,
    /// Membership certificate of the asker, for its neighbours (RFC 7574 §8.13): X.509 in DER.
    pub certificate: Option<Bytes>,
    /// What only our own tools say.
    pub ext: Option<ResponseExt>,
}

impl Response {
    /// A success without results yet.
    pub const fn success(transaction_id: String) -> Self {
        Self::failure(transaction_id, ErrorCode::None)
    }

    /// The empty response that goes with an error code.
    pub const fn failure(transaction_id: String, error_code: ErrorCode) -> Self {
        Self {
            transaction_id,
            error_code,
            peer_addr: None,
            swarm_result: Vec::new(),
            report_interval_s: None,
            certificate: None,
            ext: None,
        }
    }
}

/// What became of one swarm of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwarmResult {
    /// The swarm.
    pub swarm_id: String,
    /// Whether it was done.
    pub is_ok: bool,
    /// Peers of the swarm, best first; absent where no list was asked for.
    pub peer_group: Option<Vec<PeerInfo>>,
}

/// One address of one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerInfo {
    /// The peer.
    pub peer_id: String,
    /// Where it is.
    pub peer_addr: PeerAddr,
}

/// A peer that one could ask for the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parent {
    /// Its `peer_id`.
    pub peer: String,
    /// Its UDP address.
    pub addr: SocketAddr,
    /// What to ask it for: bit s is substream s. Where one parent of a list has a mask, those that have one give
    /// together the whole stream and nothing twice, and the others stand in; where none has, each gives all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<u32>,
    /// Its level; the source is at 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u16>,
    /// Children that it would still take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots_free: Option<u16>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

/// A channel, as its source announced it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelInfo {
    /// Name.
    pub name: String,
    /// Swarm identifier.
    pub swarm_id: String,
    /// Title, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Signed description; believe nothing else of this record.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "ext::write_base64"
    )]
    pub description: Option<Bytes>,
}

/// Why bytes are no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Too long, or no JSON text: there is nothing to answer to.
    #[error("{0}")]
    NotJson(String),
    /// JSON, but no request: answer with the code.
    #[error("{why}")]
    Malformed {
        /// What could be read of it, else empty.
        transaction_id: String,
        /// [`RejectCode::BadRequest`] or [`RejectCode::Version`].
        code: RejectCode,
        /// What is wrong, one line.
        why: String,
    },
}

/// Why bytes are no response; one line for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ResponseError(pub String);

impl Request {
    /// Reads a request in any of the forms seen.
    ///
    /// # Errors
    ///
    /// [`RequestError`], which says what to answer.
    pub fn from_json(body: &[u8]) -> Result<Self, RequestError> {
        read::request(body)
    }
}

impl Response {
    /// Reads a response in any of the forms seen.
    ///
    /// # Errors
    ///
    /// A line that says why it is none.
    pub fn from_json(body: &[u8]) -> Result<Self, ResponseError> {
        read::response(body).map_err(ResponseError)
    }
}
