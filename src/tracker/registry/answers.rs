//! What goes into an answer: lists of peers in both forms, refusals, the one address of a peer that others learn.

use std::net::IpAddr;

use super::{Allowed, Channel, PEERS_PER_ANSWER_MAX, RETRY_CHANNEL_S, RETRY_S, Refusal, Registry};
use crate::time::Instant;
use crate::tracker::address::{PORT_MIN, Scope, scope};
use crate::tracker::message::{
    AddressKind, ChannelInfo, Connect, Parent, PeerAddr, PeerInfo, PeerNum, Reject, RejectCode,
    RequestExt, Response, ResponseExt, Role,
};
use crate::tracker::placement::{Choice, PeerNo, Placed};

impl Registry {
    /// At most `count` members of a swarm for `asker`, best first, in both forms of the response.
    pub(super) fn peer_list(
        &mut self,
        now: Instant,
        asker: PeerNo,
        swarm: &str,
        count: usize,
        placed: &Placed,
        allowed: Option<Allowed<'_>>,
    ) -> (Vec<PeerInfo>, Vec<Parent>) {
        let chosen = match placed {
            Placed::Listed => {
                let chosen = self.choose(now, asker, swarm, count, allowed);
                chosen.into_iter().map(Choice::to).collect()
            }
            Placed::Parents { parents, .. } => self.tellable(asker, swarm, parents, count, allowed),
        };
        let mut group = Vec::with_capacity(chosen.len());
        let mut parents = Vec::with_capacity(chosen.len());
        for (position, choice) in chosen.iter().enumerate() {
            let Some((peer, addr)) = self
                .peers
                .get(&choice.no)
                .and_then(|peer| Some((peer, peer.addr.as_ref()?)))
            else {
                continue;
            };
            group.push(PeerInfo {
                peer_id: peer.id.to_string(),
                peer_addr: PeerAddr {
                    priority: (chosen.len() - position) as u64,
                    ..addr.clone()
                },
            });
            parents.extend(self.parent_info(*choice, swarm));
        }
        // Whoever has the stream asks for a second choice, not for a slot.
        let is_waiting = self
            .peers
            .get(&asker)
            .is_some_and(|asker| asker.role != Some(Role::Source) && asker.depth.is_none());
        if let Some(first) = chosen.first()
            && is_waiting
            && matches!(placed, Placed::Listed)
        {
            self.promise(first.no);
        }
        (group, parents)
    }

    /// Says when the next report is wanted.
    pub(super) fn ask_to_report(&self, role: Option<Role>, response: &mut Response) {
        let auth = response
            .ext
            .as_ref()
            .and_then(|ext| ext.access.auth.as_ref());
        let is_closed = auth.is_some_and(|auth| auth.closed);
        let peers = self.peers.len();
        let interval = self.config.report_interval_of(role, is_closed, peers);
        response.report_interval_s = Some(interval.as_secs().max(1));
    }

    pub(in crate::tracker) fn refuse(
        &mut self,
        transaction_id: String,
        with_reason: bool,
        (code, text): Refusal,
    ) -> Response {
        self.stats.reject(code);
        let mut response = Response::failure(transaction_id, code.error_code());
        if with_reason {
            response.ext = Some(ResponseExt {
                reject: Some(Reject::new(code, text)),
                ..ResponseExt::default()
            });
        }
        response
    }
}

impl Reject {
    pub(super) fn new(code: RejectCode, text: String) -> Self {
        Self {
            code,
            text,
            retry_s: match code {
                RejectCode::NotRegistered => 0,
                RejectCode::NoSuchChannel => RETRY_CHANNEL_S,
                _ => RETRY_S,
            },
        }
    }
}

impl Channel {
    pub(super) fn info(&self, name: &str) -> ChannelInfo {
        ChannelInfo {
            name: name.to_owned(),
            swarm_id: self.swarm_id.to_string(),
            title: self.title.clone(),
            description: self.description.clone(),
        }
    }
}

pub(in crate::tracker) fn not_registered() -> Refusal {
    (
        RejectCode::NotRegistered,
        "peer_id: not registered, send CONNECT".to_owned(),
    )
}

pub(super) fn wanted(peer_num: Option<&PeerNum>) -> usize {
    let count = peer_num.map_or(u64::MAX, |num| num.peer_count);
    usize::try_from(count).map_or(PEERS_PER_ANSWER_MAX, |count| {
        count.min(PEERS_PER_ANSWER_MAX)
    })
}

/// The one address of a peer that is handed out: where its request came from, with the port that it announces (S-43).
///
/// Of several claimed ports, the one claimed for that very address counts, else the preferred one of its family.
pub(super) fn listed_addr(
    ip: IpAddr,
    connect: &Connect,
    ext: Option<&RequestExt>,
) -> Option<PeerAddr> {
    let claimed = connect.peer_addr.iter().max_by_key(|claimed| {
        (
            claimed.ip == ip,
            claimed.ip.is_ipv4() == ip.is_ipv4(),
            claimed.priority,
        )
    });
    let port = ext
        .and_then(|ext| ext.port)
        .or_else(|| claimed.map(|claimed| claimed.port))?;
    (port >= PORT_MIN && scope(ip) != Scope::Never).then(|| PeerAddr {
        ip,
        port,
        priority: 1,
        kind: match claimed {
            Some(claimed) if claimed.ip == ip => claimed.kind,
            _ => AddressKind::Reflexive,
        },
        peer_protocol: claimed.and_then(|claimed| claimed.peer_protocol.clone()),
    })
}
