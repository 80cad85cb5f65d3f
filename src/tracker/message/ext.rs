//! The one member beside RFC 7846: what only our own tools say to each other, `x_ext` of requests and responses.

use bytes::Bytes;
use serde::Serialize;
use serde::ser::Serializer;

use super::{AccessRequest, AccessResponse, ChannelInfo, Decimal, Parent, Reject, Role};
use crate::tracker::provider::money::Money;
use crate::tracker::provider::tariff::Unit;

/// Version of our member `x_ext`.
pub const EXT_VERSION: u64 = 1;

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
    /// Whom it gets which substreams from, when that is more than one; `parent` is the one that pushes hashes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Feed>,
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
    /// Name of the cluster that a relay serves; [`CLUSTER_AUTO`](super::CLUSTER_AUTO) leaves it to the tracker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// What a relay may send to its cluster, in kbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_kbps: Option<u64>,
    /// Share of the stream that did not come the first time, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Decimal>,
    /// Media held and not yet due, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer_s: Option<Decimal>,
    /// Whether a new membership certificate is wanted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub certify: bool,
    /// What it wants of a provider.
    #[serde(flatten)]
    pub deal: Deal,
    /// Who asks.
    #[serde(flatten)]
    pub access: AccessRequest,
}

/// One of several parents of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Feed {
    /// The parent's `peer_id`.
    pub peer: String,
    /// What comes from it: bit s is substream s.
    pub mask: u32,
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
    /// What a server of somebody else offers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer: Option<Rental>,
}

/// What a server offers a provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Rental {
    /// Upload, in kbit/s.
    pub kbps: u64,
    /// Price of one unit.
    pub price: Money,
    /// What the price is for.
    pub unit: Unit,
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
            parents: Vec::new(),
            kbps: None,
            latency_us: None,
            jitter_us: None,
            sent_kbps: None,
            certify: false,
            deal: Deal::default(),
            access: AccessRequest::default(),
            cluster: None,
            capacity_kbps: None,
            loss: None,
            buffer_s: None,
        }
    }
}

/// The member `x_ext` of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ResponseExt {
    /// The peers of the list again, best first, with what they said of themselves. In the answer to a report, whom to
    /// get which substreams from, from now on.
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
    /// The cluster that serves the asker, where it is not the one it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Who is to be the asker's parent from now on; the old one is kept until it delivers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub move_to: Option<Parent>,
    /// The cluster that a relay is to serve, where it left that to the tracker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Tickets.
    #[serde(flatten)]
    pub access: AccessResponse,
}

/// Another cluster than the asker's own serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redirect {
    /// Name of the cluster.
    pub cluster: String,
    /// The `peer_id` of its server.
    pub server: String,
    /// Why, for people.
    pub reason: String,
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

pub(super) fn write_base64<S: Serializer>(
    bytes: &Option<Bytes>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => serializer.serialize_str(&data_encoding::BASE64.encode(bytes)),
        None => serializer.serialize_none(),
    }
}
