//! Who announces, and how it does.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::tracker::message::{Deal, Decimal, Feed, Role, SUBSTREAMS_MAX};

/// Who announces: what does not change while the program runs.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `peer_id`, 1 to 256 printable characters.
    pub peer_id: String,
    /// A source joins as SEEDER and asks for nobody.
    pub role: Role,
    /// Name of the channel; needed without `swarm_id`.
    pub channel: Option<String>,
    /// Swarm identifier; learnt from the first tracker that knows the channel when absent.
    pub swarm_id: Option<String>,
    /// Title, from a source.
    pub title: Option<String>,
    /// Signed channel description, from a source.
    pub description: Option<Bytes>,
    /// UDP port on which the peer listens.
    pub port: u16,
    /// Own addresses, for trackers that believe them; ours does not.
    pub addresses: Vec<SocketAddr>,
    /// What is wanted of a provider.
    pub deal: Deal,
    /// The cluster that a relay serves.
    pub service: Option<Service>,
}

/// What a relay offers to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name of the cluster; [`CLUSTER_AUTO`](crate::tracker::message::CLUSTER_AUTO) leaves it to the tracker.
    pub cluster: String,
    /// What the relay may send to it, in kbit/s.
    pub capacity_kbps: u64,
}

/// How the announcing peer does: what every report carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Children that it would still take; none before that is known.
    pub slots_free: Option<u16>,
    /// Its level, the source's is 1; none without a parent.
    pub depth: Option<u16>,
    /// Its parent's `peer_id`.
    pub parent: Option<String>,
    /// Whom it gets which substreams from (bit s is substream s), the parent among them, at most
    /// [`SUBSTREAMS_MAX`]; empty with one parent or none.
    pub parents: Vec<(String, u32)>,
    /// Upload capability in kbit/s.
    pub uplink_kbps: Option<u64>,
    /// Rate at which the stream arrives, or is made, in kbit/s.
    pub kbps: Option<u64>,
    /// Share of it that did not come the first time.
    pub loss: Option<Decimal>,
    /// Media held and not yet due.
    pub buffer: Option<Duration>,
    /// Cumulative latency in microseconds.
    pub latency_us: Option<u64>,
    /// Jitter in microseconds.
    pub jitter_us: Option<u64>,
    /// Media sent, in kbit/s.
    pub sent_kbps: Option<u64>,
    /// Bytes sent to the swarm.
    pub uploaded_bytes: u64,
    /// Bytes received from the swarm.
    pub downloaded_bytes: u64,
    /// Upload available now, in bit/s.
    pub available_bps: u64,
    /// Neighbours.
    pub links: u64,
}

impl Facts {
    /// Whether these say something that others wait for: a parent found or lost, slots used up or free again.
    pub(super) fn are_news(&self, before: &Self) -> bool {
        let has_room = |facts: &Self| facts.slots_free.is_some_and(|slots| slots > 0);
        self.depth != before.depth
            || self.parent != before.parent
            || self.parents != before.parents
            || has_room(self) != has_room(before)
    }

    /// Several parents, as a request names them.
    pub(super) fn feeds(&self) -> Vec<Feed> {
        let feeds = self.parents.iter().take(usize::from(SUBSTREAMS_MAX));
        feeds
            .map(|(peer, mask)| Feed {
                peer: peer.clone(),
                mask: *mask,
            })
            .collect()
    }
}
