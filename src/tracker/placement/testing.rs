//! A tracker with a policy, and members that talk to it: each test is a story.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Placement;
use crate::ids::SwarmId;
use crate::rng::Seed;
use crate::time::Instant;
use crate::tracker::message::{
    Action, Body, Connect, Decimal, Find, Parent, PeerMode, Request, RequestExt, Response, Role,
    Stat, SwarmAction,
};
use crate::tracker::registry::{Allowed, Config, Registry};
use crate::wire::ChannelDescription;

/// A tracker and the time.
#[derive(Debug)]
pub(super) struct Town {
    pub(super) registry: Registry,
    now: Instant,
    transactions: u64,
    /// The peers that a provider lets members ask, where there is one.
    allowed: Option<Vec<Arc<str>>>,
}

/// What a member says of itself, with what all of them have in common.
pub(super) fn role(role: Role) -> RequestExt {
    RequestExt {
        role: Some(role),
        port: Some(7850),
        slots_free: Some(50),
        ..RequestExt::default()
    }
}

/// A member that gets the stream from another.
pub(super) fn below(parent: &str, depth: u16) -> RequestExt {
    RequestExt {
        parent: Some(parent.to_owned()),
        depth: Some(depth),
        ..role(Role::Peer)
    }
}

pub(super) const fn ratio(percent: u64) -> Option<Decimal> {
    Some(Decimal::from_millionths(percent * 10_000))
}

/// The description of a channel that is cut into so many substreams; nobody here reads who signed it.
pub(in crate::tracker) fn described(channel: &str, substreams: u8) -> Bytes {
    let description = ChannelDescription {
        name: channel.to_owned(),
        title: String::new(),
        swarm_id: SwarmId::new(Bytes::from_static(b"film")).expect("it is short"),
        chunk_bytes_max: 1316,
        munro_width: 64,
        substreams,
        data_substreams: substreams,
        run_length: 1,
        signature: Bytes::from_static(b"unread"),
    };
    description.encode().expect("it is short")
}

impl Town {
    pub(super) fn new(placement: Box<dyn Placement>) -> Self {
        let registry = Registry::new(Config::default(), Seed::from_number(1));
        Self {
            registry: registry.with_placement(placement),
            now: Instant::ZERO,
            transactions: 0,
            allowed: None,
        }
    }

    pub(super) const fn now(&self) -> Instant {
        self.now
    }

    pub(super) fn wait(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        self.registry.handle_timeout(self.now);
    }

    /// From now on a provider lets members ask those peers alone.
    pub(super) fn allow(&mut self, peers: &[&str]) {
        self.allowed = Some(peers.iter().map(|peer| (*peer).into()).collect());
    }

    fn ask(&mut self, ip: &str, peer: &str, body: Body, ext: RequestExt) -> Response {
        self.transactions += 1;
        let request = Request {
            transaction_id: self.transactions.to_string(),
            peer_id: peer.to_owned(),
            body,
            ext: Some(ext),
        };
        let ip = ip.parse().expect("an address");
        let from = std::net::SocketAddr::new(ip, 40_000);
        let allowed = self.allowed.as_deref().map(|peers| Allowed {
            servers: false,
            peers,
        });
        self.registry
            .handle_allowed(self.now, from, &request, allowed)
    }

    fn act(
        &mut self,
        ip: &str,
        peer: &str,
        swarm: &str,
        action: Action,
        ext: RequestExt,
    ) -> Response {
        let is_source = ext.role == Some(Role::Source);
        let body = Body::Connect(Connect {
            swarm_action: vec![SwarmAction {
                swarm_id: swarm.to_owned(),
                action,
                peer_mode: if is_source {
                    PeerMode::Seeder
                } else {
                    PeerMode::Leech
                },
            }],
            ..Connect::default()
        });
        self.ask(ip, peer, body, ext)
    }

    pub(super) fn join(&mut self, ip: &str, peer: &str, swarm: &str, ext: RequestExt) -> Response {
        self.act(ip, peer, swarm, Action::Join, ext)
    }

    pub(super) fn leave(&mut self, ip: &str, peer: &str, swarm: &str) -> Response {
        self.act(ip, peer, swarm, Action::Leave, role(Role::Peer))
    }

    /// A source of the channel that its swarm is named like.
    pub(super) fn source(&mut self, ip: &str, peer: &str, channel: &str, kbps: u64) {
        let ext = RequestExt {
            channel: Some(channel.to_owned()),
            kbps: Some(kbps),
            ..role(Role::Source)
        };
        let response = self.join(ip, peer, channel, ext);
        assert!(response.swarm_result.iter().all(|result| result.is_ok));
    }

    /// The same, of a channel that is cut into so many substreams.
    pub(super) fn source_of(&mut self, peer: &str, channel: &str, kbps: u64, substreams: u8) {
        let ext = RequestExt {
            channel: Some(channel.to_owned()),
            kbps: Some(kbps),
            description: Some(described(channel, substreams)),
            ..role(Role::Source)
        };
        self.join("10.9.0.1", peer, channel, ext);
    }

    pub(super) fn find(&mut self, ip: &str, peer: &str, swarm: &str, ext: RequestExt) -> Response {
        let find = Find {
            swarm_id: swarm.to_owned(),
            peer_num: None,
        };
        self.ask(ip, peer, Body::Find(find), ext)
    }

    /// A report; gives whom the member is told to move to.
    pub(super) fn report(
        &mut self,
        ip: &str,
        peer: &str,
        swarm: &str,
        ext: RequestExt,
    ) -> Option<String> {
        let response = self.reported(ip, peer, swarm, ext);
        response.ext?.move_to.map(|parent| parent.peer)
    }

    /// A report, and the whole answer.
    pub(super) fn reported(
        &mut self,
        ip: &str,
        peer: &str,
        swarm: &str,
        ext: RequestExt,
    ) -> Response {
        let stat = Stat {
            swarm_id: swarm.to_owned(),
            ..Stat::default()
        };
        let response = self.ask(ip, peer, Body::StatReport(vec![stat]), ext);
        assert_eq!(response.error_code.code(), 0, "{peer}");
        response
    }

    /// What was logged since the last call.
    pub(super) fn log(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.registry.poll_log()).collect()
    }
}

/// Whom an answer names, in order.
pub(super) fn named(response: &Response) -> Vec<&str> {
    let parents = response.ext.iter().flat_map(|ext| &ext.parents);
    parents.map(|parent| parent.peer.as_str()).collect()
}

/// The same with masks, as `peer:mask`.
pub(super) fn shares(response: &Response) -> Vec<String> {
    let parents = response.ext.iter().flat_map(|ext| &ext.parents);
    let text = |parent: &Parent| match parent.mask {
        Some(mask) => format!("{}:{mask:04b}", parent.peer),
        None => parent.peer.clone(),
    };
    parents.map(text).collect()
}

/// Why an answer refuses.
pub(super) fn refusal(response: &Response) -> Option<(u8, &str, u64)> {
    let reject = response.ext.as_ref()?.reject.as_ref()?;
    Some((
        response.error_code.code(),
        reject.text.as_str(),
        reject.retry_s,
    ))
}
