//! What a newcomer would get, without his coming: nothing is registered, no slot is promised.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use super::{Allowed, PEERS_PER_ANSWER_MAX, Registry};
use crate::time::Instant;
use crate::tracker::message::Parent;

/// Whom a newcomer would be sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// The channel.
    pub content: String,
    /// Parents, best first; none while nobody can be asked.
    pub parents: Vec<Parent>,
    /// Level that the newcomer would have below the first of them; the source is at 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u16>,
    /// What a provider would ask for it, and as whom the newcomer would come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<Value>,
    /// Why a provider would not let him in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl Registry {
    /// The list that somebody at `from` would get if he joined a channel now, of those whom a provider would allow; none
    /// when nobody announces the channel.
    pub fn offer(
        &self,
        now: Instant,
        from: IpAddr,
        content: &str,
        allowed: Option<Allowed<'_>>,
    ) -> Option<Offer> {
        let swarm = &self.channels.get(content)?.swarm_id;
        let from = from.to_canonical();
        let chosen = self.choose_for(now, from, None, swarm, PEERS_PER_ANSWER_MAX, allowed);
        let parents: Vec<Parent> = chosen
            .into_iter()
            .filter_map(|no| {
                let peer = self.peers.get(&no)?;
                Some(peer.as_parent(swarm, peer.addr.as_ref()?))
            })
            .collect();
        Some(Offer {
            content: content.to_owned(),
            depth: parents
                .first()
                .and_then(|parent| parent.depth)
                .map(|depth| depth.saturating_add(1)),
            parents,
            price: None,
            refused: None,
        })
    }
}
