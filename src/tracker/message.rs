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

mod codes;
mod read;

#[cfg(test)]
mod tests;

pub use codes::{ErrorCode, Reject, RejectCode};

/// Content type of requests and responses (RFC 7846 §4.2).
pub const CONTENT_TYPE: &str = "application/ppsp-tracker+json";

/// Version of the protocol (RFC 7846 §3.2.1).
pub const VERSION: u64 = 1;

/// Version of our member `x_ext`.
pub const EXT_VERSION: u64 = 1;

/// Longest channel name, in characters.
pub const NAME_CHARS_MAX: usize = 64;

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

/// The member `x_ext` of a request. Everything in it is a claim of the peer; a request that carries it replaces all
/// that an earlier one said.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RequestExt {
    /// Version of this member, 1.
    pub v: u64,
    /// What the peer is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Name of the channel: announced by a source, looked up by everybody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Title of the channel, for people; from the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Signed channel description, from the source; base64 on the wire.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_base64"
    )]
    pub description: Option<Bytes>,
    /// UDP port on which the peer listens, where it is not that of `peer_addr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Upload capability in kbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink_kbps: Option<u64>,
    /// Children that the peer would still take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots_free: Option<u16>,
    /// Level below the source, which is at 1; absent while the peer has no parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u16>,
    /// The parent's `peer_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Rate at which the stream arrives, in kbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kbps: Option<u64>,
    /// Cumulative latency from the source, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
    /// Jitter with which the stream arrives, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_us: Option<u64>,
    /// Upload in use, in kbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_kbps: Option<u64>,
    /// What it wants of a provider.
    #[serde(flatten)]
    pub deal: Deal,
}

/// What a peer wants of a provider that sells the channel, and who it says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Deal {
    /// Name of the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Session of the provider's API in which it contracted or joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Packet that it buys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<String>,
    /// Bandwidth interval that it buys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Whom it wants to hang below: `provider`, or a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seller: Option<String>,
    /// Status that it wants: whom it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

impl Default for RequestExt {
    fn default() -> Self {
        Self {
            v: EXT_VERSION,
            role: None,
            channel: None,
            title: None,
            description: None,
            port: None,
            uplink_kbps: None,
            slots_free: None,
            depth: None,
            parent: None,
            kbps: None,
            latency_us: None,
            jitter_us: None,
            sent_kbps: None,
            deal: Deal::default(),
        }
    }
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

/// The member `x_ext` of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ResponseExt {
    /// The peers of the list again, best first, with what they said of themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Parent>,
    /// The channel that the request named, or that its swarm belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelInfo>,
    /// Who the asker is to a provider.
    #[serde(flatten)]
    pub grant: Option<Grant>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reject: Option<Reject>,
}

/// Who somebody is to the provider, and on which terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// Identifier that the provider assigned.
    pub id: String,
    /// Status: what it is, and whom it may serve.
    pub status: String,
    /// Below whom: `provider`, or a user.
    pub parent: String,
    /// The contract, of whoever pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contract: Option<serde_json::Value>,
}

/// A peer that one could ask for the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parent {
    /// Its `peer_id`.
    pub peer: String,
    /// Its UDP address.
    pub addr: SocketAddr,
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
        serialize_with = "write_base64"
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

/// Everything under one member, as both directions want it (RFC 7846 §3.2.1).
#[derive(Serialize)]
struct Envelope<T> {
    #[serde(rename = "PPSPTrackerProtocol")]
    protocol: T,
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("string keys and integers only")
}

impl Request {
    /// Reads a request in any of the forms seen.
    ///
    /// # Errors
    ///
    /// [`RequestError`], which says what to answer.
    pub fn from_json(body: &[u8]) -> Result<Self, RequestError> {
        read::request(body)
    }

    /// Writes the request in the form of the schema.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Wire<'a> {
            version: u64,
            request_type: &'static str,
            transaction_id: &'a str,
            peer_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            connect: Option<WireConnect<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            find: Option<WireFind<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            stat_report: Option<WireReport<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            x_ext: Option<&'a RequestExt>,
        }
        #[derive(Serialize)]
        struct WireConnect<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            peer_num: Option<&'a PeerNum>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            peer_addr: &'a [PeerAddr],
            swarm_action: &'a [SwarmAction],
        }
        #[derive(Serialize)]
        struct WireFind<'a> {
            swarm_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            peer_num: Option<&'a PeerNum>,
        }
        #[derive(Serialize)]
        struct WireReport<'a> {
            #[serde(rename = "type")]
            kind: &'static str,
            stat: &'a [Stat],
        }
        let mut wire = Wire {
            version: VERSION,
            request_type: "",
            transaction_id: &self.transaction_id,
            peer_id: &self.peer_id,
            connect: None,
            find: None,
            stat_report: None,
            x_ext: self.ext.as_ref(),
        };
        match &self.body {
            Body::Connect(connect) => {
                wire.request_type = "CONNECT";
                wire.connect = Some(WireConnect {
                    peer_num: connect.peer_num.as_ref(),
                    peer_addr: &connect.peer_addr,
                    swarm_action: &connect.swarm_action,
                });
            }
            Body::Find(find) => {
                wire.request_type = "FIND";
                wire.find = Some(WireFind {
                    swarm_id: &find.swarm_id,
                    peer_num: find.peer_num.as_ref(),
                });
            }
            Body::StatReport(stat) => {
                wire.request_type = "STAT_REPORT";
                // RFC 7846 §4.1.3: a sign of life has no statistics at all, and an array of none is not allowed.
                wire.stat_report = (!stat.is_empty()).then_some(WireReport {
                    kind: "STREAM_STATS",
                    stat,
                });
            }
        }
        to_json(&Envelope { protocol: wire })
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

    /// Writes the response in the form of the schema.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Wire<'a> {
            version: u64,
            response_type: u8,
            error_code: u8,
            transaction_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            peer_addr: Option<&'a PeerAddr>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            swarm_result: Vec<WireResult<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            x_p2ps_report_interval: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            x_ext: Option<&'a ResponseExt>,
        }
        #[derive(Serialize)]
        struct WireResult<'a> {
            swarm_id: &'a str,
            result: u8,
            #[serde(skip_serializing_if = "Option::is_none")]
            peer_group: Option<WireGroup<'a>>,
        }
        #[derive(Serialize)]
        struct WireGroup<'a> {
            peer_info: &'a [PeerInfo],
        }
        to_json(&Envelope {
            protocol: Wire {
                version: VERSION,
                response_type: u8::from(self.error_code != ErrorCode::None),
                error_code: self.error_code.code(),
                transaction_id: &self.transaction_id,
                peer_addr: self.peer_addr.as_ref(),
                swarm_result: self
                    .swarm_result
                    .iter()
                    .map(|result| WireResult {
                        swarm_id: &result.swarm_id,
                        result: u8::from(!result.is_ok),
                        peer_group: result
                            .peer_group
                            .as_deref()
                            .map(|peer_info| WireGroup { peer_info }),
                    })
                    .collect(),
                x_p2ps_report_interval: self.report_interval_s,
                x_ext: self.ext.as_ref(),
            },
        })
    }
}

fn write_base64<S: Serializer>(bytes: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => serializer.serialize_str(&data_encoding::BASE64.encode(bytes)),
        None => serializer.serialize_none(),
    }
}
