//! Nodes of ours that find each other through a tracker: the real [`Registry`] and the real [`Announcer`]s, with HTTP
//! replaced by a call that is answered a moment later.
//!
//! The tracker is one for the whole world and shared by its machines; it keeps a log of how they do, for tests to read
//! after the world has ended. Clocks of these worlds must agree: no drift, no wrong wall clocks.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::honest::{Honest, key};
use super::scenario::Role;
use super::{Boot, Facts, Machine, NodeId, Output, Port, Saved, Send};
use crate::chunk::{Layout, Parts};
use crate::integrity::key::SigningKey;
use crate::rng::Rng;
use crate::time::{Epoch, Instant};
use crate::tracker::announce::{Announcer, Event, Identity, Meter, Service};
use crate::tracker::message::{Deal, Parent, Role as TrackerRole};
use crate::tracker::placement::Overview;
use crate::tracker::registry::Registry;
use crate::wire::ChannelDescription;

/// How long a request and its answer are under way.
const ANSWER_TIME: Duration = Duration::from_millis(20);
/// How often reports get fresh facts, as the programs do.
const TELL: Duration = Duration::from_secs(1);
/// How often it is looked at how a node does.
const LOOK: Duration = Duration::from_millis(20);

/// How one node did, over all its starts. Times are the world's.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// When something new was last proven.
    pub last_media: Option<Instant>,
    /// The longest time without anything new since the first.
    pub longest_gap: Duration,
    /// When that ended.
    pub longest_gap_ended: Option<Instant>,
    /// Parents, each with the moment from which on it was the parent.
    pub parents: Vec<(Instant, SocketAddr)>,
    /// Media bytes that it read or received, and that it sent.
    pub media_bytes: (u64, u64),
    /// Most parents that it had at once, each for a part; none where one had it all.
    pub parents_most: usize,
    /// The level it was at last; the source is at 1.
    pub level: u64,
    verified: u64,
}

/// The tracker of a world, and what it saw.
#[derive(Debug)]
pub struct Office {
    registry: Registry,
    begin: Option<u64>,
    now: Instant,
    /// By node.
    pub records: BTreeMap<u16, Record>,
    /// What the tracker logged, with the time.
    pub log: Vec<(Instant, String)>,
    /// Clusters and their load, once a second.
    pub loads: Vec<(Instant, Overview)>,
    services: BTreeMap<u16, Service>,
    /// How the stream is cut.
    pub layout: Layout,
    /// What nodes may upload, in bit/s; the others have no limit.
    pub limits: BTreeMap<u16, u64>,
}

/// An [`Office`] that the machines of a world share.
pub type Shared = Rc<RefCell<Office>>;

impl Office {
    /// A tracker for one world; `services` are the clusters that its relays serve, by node.
    pub fn new(registry: Registry, services: BTreeMap<u16, Service>) -> Shared {
        Rc::new(RefCell::new(Self {
            registry,
            begin: None,
            now: Instant::ZERO,
            records: BTreeMap::new(),
            log: Vec::new(),
            loads: Vec::new(),
            services,
            layout: Layout::WHOLE,
            limits: BTreeMap::new(),
        }))
    }

    /// The tracker.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The parent that a node had at a moment.
    pub fn parent_at(&self, node: u16, at: Instant) -> Option<SocketAddr> {
        let parents = &self.records.get(&node)?.parents;
        parents
            .iter()
            .rfind(|(since, _)| *since <= at)
            .map(|(_, parent)| *parent)
    }

    /// The time of the world, which is that of the first to ask.
    fn world(&mut self, epoch: Epoch, now: Instant) -> Instant {
        let unix = epoch.unix_micros(now);
        let begin = *self.begin.get_or_insert(unix);
        self.now = self
            .now
            .max(Instant::from_micros(unix.saturating_sub(begin)));
        self.now
    }

    fn answer(&mut self, now: Instant, from: SocketAddr, body: &str) -> String {
        let reply = self.registry.handle_body(now, from, body.as_bytes());
        while let Some(line) = self.registry.poll_log() {
            self.log.push((now, line));
        }
        let last = self.loads.last().map(|(at, _)| *at);
        if last.is_none_or(|last| now.since(last) >= Duration::from_secs(1)) {
            self.loads.push((now, self.registry.clusters(now)));
        }
        reply.body
    }
}

/// A node with its announcer.
#[derive(Debug)]
pub struct Tracked {
    id: NodeId,
    inner: Honest,
    announcer: Announcer,
    meter: Meter,
    office: Shared,
    epoch: Epoch,
    answers: VecDeque<(Instant, usize, String)>,
    tell_at: Instant,
    look_at: Instant,
}

/// The machine of one process in a world with a tracker.
pub fn cast(office: &Shared) -> impl FnMut(&Boot<'_>) -> Box<dyn Machine> + use<> {
    let office = Rc::clone(office);
    move |boot: &Boot<'_>| Box::new(Tracked::new(boot, Rc::clone(&office))) as Box<dyn Machine>
}

/// What the source says of its channel, when that is more than that there is one.
fn describe(key: &SigningKey, layout: Layout) -> Option<Bytes> {
    let mut description = ChannelDescription {
        name: "film".to_owned(),
        title: String::new(),
        swarm_id: key.swarm_id(),
        chunk_bytes_max: 1316,
        munro_width: 32,
        substreams: layout.substreams(),
        data_substreams: layout.substreams(),
        run_length: 1,
        signature: Bytes::new(),
    };
    description.signature = key.sign(&description.signed_bytes());
    description.encode().filter(|_| layout != Layout::WHOLE)
}

impl Tracked {
    /// The node of one process, told of others by the tracker alone.
    pub fn new(boot: &Boot<'_>, office: Shared) -> Self {
        let (service, limit, layout) = {
            let office = office.borrow();
            let service = office.services.get(&boot.id.0).cloned();
            (
                service,
                office.limits.get(&boot.id.0).copied(),
                office.layout,
            )
        };
        let description = describe(&key(boot.scenario.seed), layout);
        let inner = Honest::configured(boot, |config| {
            config.upload_limit_bps = limit;
            for swarm in &mut config.swarms {
                swarm.description.clone_from(&description);
            }
        });
        let role = match boot.spec.role {
            Role::Source => TrackerRole::Source,
            Role::Relay => TrackerRole::Relay,
            Role::Peer | Role::Liar => TrackerRole::Peer,
        };
        let identity = Identity {
            peer_id: inner.node().peer_id().to_string(),
            role,
            channel: Some("film".to_owned()),
            swarm_id: Some(key(boot.scenario.seed).swarm_id().to_string()),
            title: None,
            description: description.filter(|_| role == TrackerRole::Source),
            port: boot.id.address(Port::Listen).port(),
            addresses: Vec::new(),
            deal: Deal::default(),
            service,
        };
        let announcer = Announcer::new(boot.now, identity, 1, Rng::new(boot.seed).child());
        office.borrow_mut().world(boot.epoch, boot.now);
        Self {
            id: boot.id,
            inner,
            announcer,
            meter: Meter::default(),
            office,
            epoch: boot.epoch,
            answers: VecDeque::new(),
            tell_at: boot.now,
            look_at: boot.now,
        }
    }

    /// Does what is due between node, announcer and tracker.
    fn step(&mut self, now: Instant) {
        self.inner.drain_events();
        if let Some(wanting) = self.inner.take_wanting() {
            self.announcer.want_parents(now, wanting);
        }
        if now >= self.tell_at {
            self.tell_at = now + TELL;
            let node = self.inner.node();
            let facts = self
                .meter
                .facts(now, &node.counters(now, 0), node.slots_free());
            self.announcer.set_facts(now, facts);
        }
        while self.answers.front().is_some_and(|(at, ..)| *at <= now) {
            if let Some((_, tracker, body)) = self.answers.pop_front() {
                self.announcer.handle_response(now, tracker, Ok(body));
            }
        }
        self.announcer.handle_timeout(now);
        while let Some((tracker, body)) = self.announcer.poll_request(now) {
            let from = SocketAddr::from(self.id.address(Port::Dial));
            let mut office = self.office.borrow_mut();
            let world = office.world(self.epoch, now);
            let answer = office.answer(world, from, &body);
            self.answers.push_back((now + ANSWER_TIME, tracker, answer));
        }
        while let Some(event) = self.announcer.poll_event() {
            match event {
                Event::Parents(parents) => {
                    let addrs: Vec<SocketAddr> = parents.iter().map(|parent| parent.addr).collect();
                    let part = |parent: &Parent| {
                        let bits = u8::try_from(parent.mask?).ok()?;
                        Some((parent.addr, Parts::from_bits(bits)))
                    };
                    let parts: Vec<_> = parents.iter().filter_map(part).collect();
                    let node = self.inner.node_mut();
                    node.set_candidates(now, 0, &addrs);
                    if !parts.is_empty() {
                        node.set_shares(now, 0, &parts);
                    }
                }
                Event::MoveTo(parent) => self.inner.node_mut().move_to(now, 0, parent.addr),
                _ => {}
            }
        }
    }

    /// Writes down how the node does.
    fn look(&mut self, now: Instant) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK;
        let counters = self.inner.node().counters(now, 0);
        let parent = self.inner.node().parent_addr(0);
        let mut office = self.office.borrow_mut();
        let world = office.world(self.epoch, now);
        let record = office.records.entry(self.id.0).or_default();
        record.level = counters.depth.map_or(0, |hops| hops + 1);
        let came = counters.media_bytes.max(counters.recv_media_bytes);
        record.media_bytes = (came, counters.sent_media_bytes);
        record.parents_most = record.parents_most.max(counters.shares.len());
        if let Some(parent) = parent
            && record.parents.last().map(|(_, parent)| *parent) != Some(parent)
        {
            record.parents.push((world, parent));
        }
        if counters.verified_packets > record.verified {
            if let Some(last) = record.last_media {
                let gap = world.since(last);
                if gap > record.longest_gap {
                    record.longest_gap = gap;
                    record.longest_gap_ended = Some(world);
                }
            }
            record.last_media = Some(world);
        }
        record.verified = counters.verified_packets;
    }
}

impl Machine for Tracked {
    fn handle_datagrams(
        &mut self,
        now: Instant,
        arrived: Instant,
        port: Port,
        from: SocketAddr,
        train: Bytes,
        stride: usize,
    ) {
        self.inner
            .handle_datagrams(now, arrived, port, from, train, stride);
        self.step(now);
        self.look(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.inner.poll_timeout(now).is_some_and(|at| at <= now) {
            self.inner.handle_timeout(now);
        }
        self.step(now);
        self.look(now);
    }

    fn push_media(&mut self, now: Instant, data: &[u8]) {
        self.inner.push_media(now, data);
    }

    fn end_media(&mut self, now: Instant) {
        self.inner.end_media(now);
    }

    fn poll_transmit(&mut self, now: Instant, send: &mut Send<'_>) {
        self.inner.poll_transmit(now, send);
    }

    fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let answer = self.answers.front().map(|(at, ..)| *at);
        [
            self.inner.poll_timeout(now),
            self.announcer.poll_timeout(),
            answer,
            Some(self.tell_at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn drain_output(&mut self, out: &mut Vec<Output>) {
        self.inner.drain_output(out);
    }

    fn facts(&self, now: Instant, facts: &mut Facts) {
        self.inner.facts(now, facts);
    }

    fn describe(&self, now: Instant) -> String {
        self.inner.describe(now)
    }

    fn saved(&self, now: Instant) -> Saved {
        self.inner.saved(now)
    }
}
