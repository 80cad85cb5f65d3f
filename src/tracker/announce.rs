//! The client's side of the tracker protocol: when to say what to which tracker, and what came back.
//!
//! An [`Announcer`] speaks for one peer in one swarm (RFC 7846 §2.3.2 has no other case) to every tracker listed. It
//! makes bodies and reads bodies; a shell posts them. Trackers help to find a stream and are no part of it: whatever
//! they do, nothing here ever ends it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::message::{
    Action, AddressKind, Body, ChannelAuth, ChannelInfo, Connect, Deal, Decimal, Find, Grant,
    Parent, PeerAddr, PeerMode, PeerNum, Redirect, RejectCode, Request, RequestExt, Response, Role,
    SealKeys, Stat, SwarmAction,
};
use super::ticket::Revocation;
use crate::rng::Rng;
use crate::seal::EpochId;
use crate::time::Instant;

mod access;
mod answers;
mod facts;
mod meter;

#[cfg(test)]
mod tests;

pub use access::Credentials;
pub use facts::{Facts, Identity, Service};
pub use meter::Meter;

use access::Held;

/// Most trackers spoken to; further ones are not used.
pub const TRACKERS_MAX: usize = 8;

/// Most parents kept of one tracker's answer.
pub const PARENTS_MAX: usize = 50;

/// Pauses after the first failures in a row.
const BACK_OFF: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// Pause after further failures, while the stream is there.
const BACK_OFF_LONG: Duration = Duration::from_secs(60);

/// How often a tracker is asked again for peers when it had none, at most and at least.
const FIND_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// How often the list is renewed while the stream is there: whoever loses its parent wants fresh names at once.
const FIND_REFRESH: Duration = Duration::from_secs(60);

/// Time between reports when the tracker does not say; RFC 7846 gives no value.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// Bounds for what a tracker may wish.
const REPORT_INTERVAL_S: (u64, u64) = (1, 600);

/// Least time between two reports when something changed that others wait for.
const REPORT_SOON: Duration = Duration::from_secs(1);

/// How often a source asks whether it is to use the next key.
const SEAL_POLL: Duration = Duration::from_secs(2);

/// After this time the shell has lost a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What an announcer has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Who we are to a provider, or are from now on.
    Granted(Grant),
    /// Whom to ask for the stream, best first, of all trackers together; empty when nobody is there yet. Where some have
    /// a mask they are to be the parents from now on, each for its substreams, the first for the hashes as well; that
    /// is told with every answer until the facts say so.
    Parents(Vec<Parent>),
    /// Who is to be the parent from now on; told with every answer until the facts say so.
    MoveTo(Parent),
    /// Another cluster than the peer's own serves it.
    Redirected(Redirect),
    /// The cluster that a relay is to serve, where it left that to the tracker.
    Cluster(String),
    /// The channel, as a tracker tells it; its description is yet to be verified.
    Channel(ChannelInfo),
    /// A tracker knows no channel of the name, yet. Told once until it does.
    NoSuchChannel {
        /// Position in the list of trackers.
        tracker: usize,
    },
    /// A tracker refuses. Told once for each reason; it is asked again.
    Refused {
        /// Position in the list of trackers.
        tracker: usize,
        /// The reason.
        code: RejectCode,
        /// The reason, for people.
        why: String,
    },
    /// A tracker does not answer, or not as a tracker. Told once until it does.
    Unreachable {
        /// Position in the list of trackers.
        tracker: usize,
        /// What happened, for people.
        why: String,
    },
    /// What opens the channel at neighbours, in place of the one before.
    Ticket(Bytes),
    /// How the channel is kept, as all trackers together say; told when that changes.
    Auth(ChannelAuth),
    /// Whose tickets are void though they have not ended; told when that changes.
    Revoked(Vec<Revocation>),
    /// What a tracker says of where we are, to be shown to neighbours, in place of the one before.
    Certificate(Bytes),
    /// Keys to a sealed channel, of all trackers together; told when they change.
    Seal(SealKeys),
    /// A tracker answers again after [`Event::Unreachable`].
    Recovered {
        /// Position in the list of trackers.
        tracker: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Join,
    Leave,
    Find,
    Report,
}

/// A request that has no answer yet. It is repeated as it is (RFC 7846 §4.2).
#[derive(Debug)]
struct Outgoing {
    kind: Kind,
    transaction_id: String,
    body: String,
    is_sent: bool,
    /// When to send it, or when to stop waiting for its answer.
    at: Instant,
}

/// One tracker, as the announcer knows it.
#[derive(Debug)]
struct Tracker {
    request: Option<Outgoing>,
    is_registered: bool,
    /// When to send CONNECT while not registered.
    connect_at: Instant,
    report_at: Instant,
    reported_at: Instant,
    /// Whether others wait for us to say that the stream is here, and when that was last said at once.
    is_awaited: bool,
    hurried_at: Option<Instant>,
    /// Whether something changed that others wait for since the last request was made.
    has_news: bool,
    find_at: Instant,
    find_pause: Duration,
    report_interval: Duration,
    failures: usize,
    is_down: bool,
    /// It does not know `x_ext` and calls it a bad request (algorithms: the same request again without it).
    is_plain: bool,
    refused: Option<(RejectCode, String)>,
    parents: Vec<Parent>,
    redirect: Option<Redirect>,
    cluster: Option<String>,
    held: Held,
}

impl Tracker {
    /// When news may be told.
    fn soon(&self, now: Instant) -> Instant {
        let was_lately = |at| now - at < REPORT_SOON;
        match self.is_awaited && !self.hurried_at.is_some_and(was_lately) {
            true => now,
            false => (self.reported_at + REPORT_SOON).max(now),
        }
    }
}

/// Announces one peer of one swarm to several trackers.
#[derive(Debug)]
pub struct Announcer {
    identity: Identity,
    facts: Facts,
    trackers: Vec<Tracker>,
    rng: Rng,
    transaction_prefix: u32,
    transactions: u64,
    is_wanting: bool,
    is_leaving: bool,
    channel: Option<ChannelInfo>,
    granted: Option<Grant>,
    credentials: Option<Credentials>,
    is_sealing: bool,
    /// The key that a source was told to seal with, and the tracker that did.
    seals_with: Option<(EpochId, usize)>,
    revoked: Vec<Revocation>,
    events: VecDeque<Event>,
}

impl Announcer {
    /// An announcer to `trackers` trackers, at most [`TRACKERS_MAX`], that begins at once.
    pub fn new(now: Instant, identity: Identity, trackers: usize, mut rng: Rng) -> Self {
        let tracker = || Tracker {
            request: None,
            is_registered: false,
            connect_at: now,
            report_at: now,
            reported_at: now,
            is_awaited: false,
            hurried_at: None,
            has_news: false,
            find_at: now,
            find_pause: FIND_PAUSE.0,
            report_interval: REPORT_INTERVAL,
            failures: 0,
            is_down: false,
            is_plain: false,
            refused: None,
            parents: Vec::new(),
            redirect: None,
            cluster: None,
            held: Held::default(),
        };
        Self {
            is_wanting: identity.role != Role::Source,
            identity,
            facts: Facts::default(),
            trackers: (0..trackers.min(TRACKERS_MAX)).map(|_| tracker()).collect(),
            transaction_prefix: rng.next_u32(),
            transactions: 0,
            rng,
            is_leaving: false,
            channel: None,
            granted: None,
            credentials: None,
            is_sealing: false,
            seals_with: None,
            revoked: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// The swarm, once it is known.
    pub fn swarm_id(&self) -> Option<&str> {
        self.identity.swarm_id.as_deref()
    }

    /// Takes what the next request will say; a parent found or lost, and slots used up or free again, are told soon, and
    /// at once that the stream is here, for newcomers are sent to those alone who have it.
    pub fn set_facts(&mut self, now: Instant, facts: Facts) {
        let is_news = facts.are_news(&self.facts);
        let has_come = facts.depth.is_some() && self.facts.depth.is_none();
        let has_gone = facts.depth.is_none();
        self.facts = facts;
        if is_news {
            for tracker in &mut self.trackers {
                tracker.has_news = true;
                tracker.is_awaited = (tracker.is_awaited || has_come) && !has_gone;
                tracker.report_at = tracker.report_at.min(tracker.soon(now));
            }
        }
    }

    /// Says whether parents are wanted: then trackers are asked again and again, at least every few seconds.
    ///
    /// To be called with `true` also when all the parents told so far turned out to be of no use.
    pub fn want_parents(&mut self, now: Instant, is_wanting: bool) {
        if self.identity.role == Role::Source {
            return;
        }
        for tracker in &mut self.trackers {
            if !is_wanting {
                tracker.find_at = tracker.find_at.max(now + FIND_REFRESH);
                tracker.find_pause = FIND_PAUSE.0;
            } else if !self.is_wanting {
                tracker.find_at = now;
                let soon = now + FIND_PAUSE.0;
                tracker.connect_at = tracker.connect_at.min(soon);
                if let Some(request) = tracker.request.as_mut().filter(|request| !request.is_sent) {
                    request.at = request.at.min(soon);
                }
            } else {
                tracker.find_at = tracker.find_at.min(now + tracker.find_pause);
            }
        }
        self.is_wanting = is_wanting;
    }

    /// Somebody came with a ticket: trackers are asked soon whether it has been revoked since they last answered.
    pub fn check_tickets(&mut self, now: Instant) {
        for tracker in &mut self.trackers {
            tracker.has_news = true;
            tracker.report_at = tracker.report_at.min(tracker.soon(now));
        }
    }

    /// Says goodbye to every tracker, once; nothing else is said afterwards. What is under way is not waited for: who ends
    /// with the channel often asks for parents in that moment, and there is no time for an answer.
    pub fn leave(&mut self) {
        self.is_leaving = true;
        for tracker in &mut self.trackers {
            if let Some(request) = tracker.request.take() {
                // A tracker that is just told of us may know us before the answer is here.
                tracker.is_registered |= request.is_sent && request.kind == Kind::Join;
            }
        }
    }

    /// Whether every tracker that knew of the peer was told, or did not want to hear it.
    pub fn is_gone(&self) -> bool {
        self.is_leaving
            && self
                .trackers
                .iter()
                .all(|tracker| tracker.request.is_none() && !tracker.is_registered)
    }

    /// The next body to post, and the position of the tracker to post it to.
    pub fn poll_request(&mut self, now: Instant) -> Option<(usize, String)> {
        for index in 0..self.trackers.len() {
            self.prepare(now, index);
            if let Some(request) = self
                .trackers
                .get_mut(index)
                .and_then(|tracker| tracker.request.as_mut())
                && !request.is_sent
                && request.at <= now
            {
                request.is_sent = true;
                request.at = now + ANSWER_TIMEOUT;
                return Some((index, request.body.clone()));
            }
        }
        None
    }

    /// Takes what came back for the last body posted to a tracker: a body, or why there is none.
    pub fn handle_response(&mut self, now: Instant, index: usize, answer: Result<String, String>) {
        let Some(tracker) = self.trackers.get_mut(index) else {
            return;
        };
        let Some(request) = tracker.request.take_if(|request| request.is_sent) else {
            return;
        };
        let read =
            |body: String| Response::from_json(body.as_bytes()).map_err(|error| error.to_string());
        let response = match answer.and_then(read) {
            Ok(response) if response.transaction_id == request.transaction_id => Ok(response),
            // To what was under way when we said goodbye.
            Ok(_) if self.is_leaving => {
                tracker.request = Some(request);
                return;
            }
            Ok(_) => Err("answers another transaction".to_owned()),
            Err(why) => Err(why),
        };
        match response {
            Ok(response) => self.judge(now, index, request, response),
            Err(why) => self.fail(now, index, request, why),
        }
    }

    /// Gives up waiting for answers that the shell lost.
    pub fn handle_timeout(&mut self, now: Instant) {
        for index in 0..self.trackers.len() {
            let Some(tracker) = self.trackers.get_mut(index) else {
                continue;
            };
            if let Some(request) = tracker
                .request
                .take_if(|request| request.is_sent && request.at <= now)
            {
                self.fail(now, index, request, "no answer".to_owned());
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) or [`poll_request`](Self::poll_request) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.trackers
            .iter()
            .filter_map(|tracker| match &tracker.request {
                Some(request) => Some(request.at),
                None if self.is_leaving => None,
                None if !tracker.is_registered => Some(tracker.connect_at),
                None if self.identity.role == Role::Source => Some(tracker.report_at),
                None => Some(tracker.report_at.min(tracker.find_at)),
            })
            .min()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Makes the next request to a tracker that has none, when it is time.
    fn prepare(&mut self, now: Instant, index: usize) {
        let Some(tracker) = self.trackers.get(index) else {
            return;
        };
        if tracker.request.is_some() {
            return;
        }
        let kind = match (tracker.is_registered, self.is_leaving) {
            (true, true) => Kind::Leave,
            (false, true) => return,
            (false, false) if tracker.connect_at <= now => Kind::Join,
            (true, false) if self.identity.role != Role::Source && tracker.find_at <= now => {
                Kind::Find
            }
            (true, false) if tracker.report_at <= now => Kind::Report,
            _ => return,
        };
        let is_plain = tracker.is_plain;
        if is_plain && self.identity.swarm_id.is_none() {
            let why = "this tracker knows no channel names: give the channel id".to_owned();
            self.refused(now, index, RejectCode::NoSuchChannel, why, BACK_OFF_LONG);
            return;
        }
        self.transactions += 1;
        let request = Request {
            transaction_id: format!("{:08x}-{}", self.transaction_prefix, self.transactions),
            peer_id: self.identity.peer_id.clone(),
            body: self.body(kind),
            ext: (!is_plain).then(|| self.ext(now, index, kind)),
        };
        if let Some(tracker) = self.trackers.get_mut(index) {
            if kind != Kind::Leave {
                // Every request carries the facts.
                tracker.reported_at = now;
                tracker.has_news = false;
                if std::mem::take(&mut tracker.is_awaited) {
                    tracker.hurried_at = Some(now);
                }
            }
            tracker.request = Some(Outgoing {
                kind,
                body: request.to_json(),
                transaction_id: request.transaction_id,
                is_sent: false,
                at: now,
            });
        }
    }

    fn body(&self, kind: Kind) -> Body {
        let swarm_id = self.identity.swarm_id.clone().unwrap_or_default();
        match kind {
            Kind::Join | Kind::Leave => Body::Connect(Connect {
                peer_num: None,
                peer_addr: self
                    .identity
                    .addresses
                    .iter()
                    .map(|addr| PeerAddr {
                        ip: addr.ip().to_canonical(),
                        port: addr.port(),
                        priority: 1,
                        kind: AddressKind::Host,
                        peer_protocol: Some("PPSP-PP".to_owned()),
                    })
                    .collect(),
                swarm_action: vec![SwarmAction {
                    swarm_id,
                    action: if kind == Kind::Join {
                        Action::Join
                    } else {
                        Action::Leave
                    },
                    peer_mode: if self.identity.role == Role::Source {
                        PeerMode::Seeder
                    } else {
                        PeerMode::Leech
                    },
                }],
            }),
            Kind::Find => Body::Find(Find {
                swarm_id,
                peer_num: Some(PeerNum::count(30)),
            }),
            Kind::Report => Body::StatReport(vec![Stat {
                swarm_id,
                uploaded_bytes: self.facts.uploaded_bytes,
                downloaded_bytes: self.facts.downloaded_bytes,
                available_bandwidth: self.facts.available_bps,
                concurrent_links: self.facts.links,
            }]),
        }
    }

    fn ext(&self, now: Instant, index: usize, kind: Kind) -> RequestExt {
        let (identity, facts) = (&self.identity, &self.facts);
        let is_source = identity.role == Role::Source;
        let announced = kind == Kind::Join && is_source;
        RequestExt {
            role: Some(identity.role),
            channel: identity
                .channel
                .clone()
                .filter(|_| matches!(kind, Kind::Join | Kind::Leave)),
            title: identity.title.clone().filter(|_| announced),
            description: identity.description.clone().filter(|_| announced),
            port: Some(identity.port),
            uplink_kbps: facts.uplink_kbps,
            slots_free: facts.slots_free,
            depth: if is_source { Some(1) } else { facts.depth },
            parent: facts.parent.clone(),
            parents: facts.feeds(),
            sent_kbps: facts.sent_kbps,
            jitter_us: facts.jitter_us,
            deal: Deal {
                user: self.user().or_else(|| identity.deal.user.clone()),
                ..identity.deal.clone()
            },
            kbps: facts.kbps,
            loss: facts.loss,
            buffer_s: facts
                .buffer
                .map(|buffer| Decimal::from_millionths(crate::time::micros(buffer))),
            latency_us: facts.latency_us,
            cluster: identity.service.as_ref().map(|of| of.cluster.clone()),
            capacity_kbps: identity.service.as_ref().map(|of| of.capacity_kbps),
            certify: self
                .trackers
                .get(index)
                .is_some_and(|tracker| tracker.held.wants_certificate(now)),
            access: self.access(now, index),
            ..RequestExt::default()
        }
    }
}
