//! Who is registered, in which swarms, under which names, until when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::{Channel, Peer, Refusal, Registry, Share, not_registered};
use crate::time::Instant;
use crate::tracker::address::network;
use crate::tracker::message::{
    ChannelInfo, Feed, PeerMode, RejectCode, RequestExt, Role, SUBSTREAMS_MAX,
};
use crate::tracker::placement::PeerNo;
use crate::wire::ChannelDescription;

impl Registry {
    pub(super) fn register(
        &mut self,
        now: Instant,
        from: IpAddr,
        id: &str,
    ) -> Result<PeerNo, Refusal> {
        let full = |what: &str| Err((RejectCode::Full, what.to_owned()));
        if self.peers.len() >= self.config.limits.peers {
            return full("the tracker is full");
        }
        let share = self.by_network.get(&network(from));
        if share.map_or(0, |share| share.peers) >= self.config.limits.per_address(from) {
            return full("too many peers from this address");
        }
        Ok(self.put_peer(now, from, id))
    }

    pub(super) fn remove(&mut self, now: Instant, no: PeerNo, has_left: bool) {
        self.unlist(no);
        let Some(peer) = self.peers.remove(&no) else {
            return;
        };
        self.note_removed(no, &peer, has_left);
        self.gone.push((Arc::clone(&peer.id), has_left));
        self.peer_timers.remove(&(peer.expires, no));
        for swarm in peer.swarms.keys() {
            self.drop_member(swarm);
            self.placement.on_gone(now, swarm, no);
        }
        if let Some(at) = self.by_id.get_mut(&peer.id) {
            at.remove(&peer.from);
            if at.is_empty() {
                self.by_id.remove(&peer.id);
            }
        }
        self.shrink_share(peer.from, |share| share.peers -= 1);
    }

    pub(super) fn shrink_share(&mut self, from: IpAddr, take: impl FnOnce(&mut Share)) {
        let network = network(from);
        if let Some(share) = self.by_network.get_mut(&network) {
            take(share);
            if (share.peers, share.channels) == (0, 0) {
                self.by_network.remove(&network);
            }
        }
    }

    /// Starts the track timer of a peer again, and keeps the names that it announced.
    pub(super) fn touch(&mut self, now: Instant, no: PeerNo) {
        self.keep_until(no, now + self.config.track_timeout);
        self.note_heard(no);
    }

    /// Sets when a peer is forgotten if nothing is heard, and the names that it announced with it.
    pub(super) fn keep_until(&mut self, no: PeerNo, expires: Instant) {
        let Some(peer) = self.peers.get_mut(&no) else {
            return;
        };
        self.peer_timers.remove(&(peer.expires, no));
        peer.expires = expires;
        self.peer_timers.insert((expires, no));
        for name in &peer.channels {
            if let Some(channel) = self.channels.get_mut(name) {
                self.channel_timers
                    .remove(&(channel.expires, Arc::clone(name)));
                channel.expires = expires;
                self.channel_timers.insert((expires, Arc::clone(name)));
            }
        }
    }

    /// Takes what a registered peer says of itself, and starts its track timer again.
    pub(super) fn refresh(&mut self, now: Instant, no: PeerNo, ext: Option<&RequestExt>) {
        self.unlist(no);
        if let Some(peer) = self.peers.get_mut(&no) {
            peer.update(ext);
        }
        self.list(no);
        self.touch(now, no);
        self.tell_placement(now, no);
    }

    /// The swarm that a request means: by its identifier, or by the name of its channel.
    pub(super) fn resolve(
        &self,
        swarm_id: &str,
        ext: Option<&RequestExt>,
    ) -> Result<Arc<str>, Refusal> {
        if !swarm_id.is_empty() {
            return Ok(match self.swarms.get_key_value(swarm_id) {
                Some((known, _)) => Arc::clone(known),
                None => swarm_id.into(),
            });
        }
        let Some(name) = ext.and_then(|ext| ext.channel.as_deref()) else {
            return Err((
                RejectCode::Forbidden,
                "swarm_id: empty, and no channel named".to_owned(),
            ));
        };
        match self.channels.get(name) {
            Some(channel) => Ok(Arc::clone(&channel.swarm_id)),
            None => Err((
                RejectCode::NoSuchChannel,
                format!("no channel {name:?} here"),
            )),
        }
    }

    /// Makes a peer a member of a swarm; also says whether it was none before.
    pub(super) fn join(
        &mut self,
        no: PeerNo,
        swarm_id: &str,
        mode: PeerMode,
        ext: Option<&RequestExt>,
    ) -> Result<(Arc<str>, bool), Refusal> {
        let swarm = self.resolve(swarm_id, ext)?;
        let limits = self.config.limits;
        let Some(peer) = self.peers.get(&no) else {
            return Err(not_registered());
        };
        let from = peer.from;
        let is_member = peer.swarms.contains_key(&swarm);
        if !is_member && peer.swarms.len() >= limits.swarms_per_peer {
            return Err((RejectCode::Full, "too many swarms of one peer".to_owned()));
        }
        if !self.swarms.contains_key(&swarm) && self.swarms.len() >= limits.swarms {
            return Err((
                RejectCode::Full,
                "the tracker has too many swarms".to_owned(),
            ));
        }
        let announced = match ext {
            Some(ext) if mode == PeerMode::Seeder && ext.role == Some(Role::Source) => {
                ext.channel.as_deref()
            }
            _ => None,
        };
        if let (Some(name), Some(ext)) = (announced, ext) {
            self.may_announce(from, name, &swarm, ext)?;
        }
        if let Some(peer) = self.peers.get_mut(&no) {
            peer.swarms.insert(Arc::clone(&swarm), mode);
        }
        let entry = self.swarms.entry(Arc::clone(&swarm)).or_default();
        if !is_member {
            // RFC 7846 leaves a second JOIN open; here it updates address and mode.
            entry.members += 1;
            self.stats.joins_total += 1;
        }
        if let (Some(name), Some(ext)) = (announced, ext) {
            self.announce(no, name, &swarm, ext);
        }
        Ok((swarm, !is_member))
    }

    pub(super) fn leave(
        &mut self,
        now: Instant,
        no: PeerNo,
        swarm_id: &str,
        ext: Option<&RequestExt>,
    ) -> Result<Arc<str>, Refusal> {
        let swarm = self.resolve(swarm_id, ext)?;
        let peer = self.peers.get_mut(&no);
        if peer.is_none_or(|peer| peer.swarms.remove(&swarm).is_none()) {
            return Err((
                RejectCode::Forbidden,
                "swarm_id: the peer is not in this swarm".to_owned(),
            ));
        }
        // Said to this tracker, whoever had the last word about him before: the others have to hear it.
        self.note_heard(no);
        self.drop_member(&swarm);
        self.placement.on_gone(now, &swarm, no);
        self.stats.leaves_total += 1;
        Ok(swarm)
    }

    pub(super) fn drop_member(&mut self, swarm: &Arc<str>) {
        if let Some(entry) = self.swarms.get_mut(swarm) {
            entry.members -= 1;
            if entry.members == 0 {
                self.swarms.remove(swarm);
            }
        }
    }

    /// Whether a source of `swarm` may have the name: the first key that announces it holds it until it expires.
    pub(super) fn may_announce(
        &self,
        from: IpAddr,
        name: &str,
        swarm: &Arc<str>,
        ext: &RequestExt,
    ) -> Result<(), Refusal> {
        match self.channels.get(name) {
            Some(channel) if channel.swarm_id != *swarm => {
                return Err((
                    RejectCode::NameTaken,
                    format!("channel {name:?} is announced by another key"),
                ));
            }
            Some(_) => {}
            None if self.channels.len() >= self.config.limits.channels => {
                return Err((
                    RejectCode::Full,
                    "the tracker has too many channels".to_owned(),
                ));
            }
            None => {
                let share = self.by_network.get(&network(from));
                if share.map_or(0, |share| share.channels) >= self.config.limits.per_address(from) {
                    return Err((
                        RejectCode::Full,
                        "too many channels from this address".to_owned(),
                    ));
                }
            }
        }
        if let Some(is_proof) = self.config.description_check
            && !ext
                .description
                .as_ref()
                .is_some_and(|description| is_proof(name, swarm, description))
        {
            return Err((
                RejectCode::BadDescription,
                format!("channel {name:?}: the description is not signed by the key of its swarm"),
            ));
        }
        Ok(())
    }

    pub(super) fn announce(&mut self, no: PeerNo, name: &str, swarm: &Arc<str>, ext: &RequestExt) {
        let Some(peer) = self.peers.get_mut(&no) else {
            return;
        };
        let name: Arc<str> = match self.channels.get_key_value(name) {
            Some((known, _)) => Arc::clone(known),
            None => name.into(),
        };
        peer.channels.insert(Arc::clone(&name));
        let (mut from, expires) = (peer.from, peer.expires);
        if let Some(swarm) = self.swarms.get_mut(swarm) {
            swarm.channel = Some(Arc::clone(&name));
        }
        // Somebody else who claims to be the same source does not change what a source that is alive announced; from
        // the same address it is that source, started again.
        let holder = self.channels.get(&name).map(|channel| channel.holder);
        if let Some(holder) = holder.and_then(|holder| self.peers.get(&holder))
            && holder.from != from
        {
            return;
        }
        match self.channels.get(&name) {
            Some(old) => {
                from = old.from;
                self.channel_timers
                    .remove(&(old.expires, Arc::clone(&name)));
            }
            None => self.by_network.entry(network(from)).or_default().channels += 1,
        }
        self.channel_timers.insert((expires, Arc::clone(&name)));
        self.channels.insert(
            name,
            Channel {
                swarm_id: Arc::clone(swarm),
                title: ext.title.clone(),
                description: ext.description.clone(),
                substreams: ext.description.as_ref().and_then(substreams),
                holder: no,
                from,
                expires,
            },
        );
    }

    pub(super) fn forget_channel(&mut self, name: &Arc<str>) {
        let Some(channel) = self.channels.remove(name) else {
            return;
        };
        self.shrink_share(channel.from, |share| share.channels -= 1);
        if let Some(swarm) = self.swarms.get_mut(&channel.swarm_id)
            && swarm.channel.as_ref() == Some(name)
        {
            swarm.channel = None;
        }
    }

    pub(super) fn channel_info(&self, swarm: &str) -> Option<ChannelInfo> {
        let name = self.swarms.get(swarm)?.channel.as_ref()?;
        self.channels.get(name).map(|channel| channel.info(name))
    }
}

/// How many substreams a channel description names, where that is a number that streams are cut into.
fn substreams(description: &Bytes) -> Option<u8> {
    let described = ChannelDescription::decode(description.clone()).ok()?;
    let is_usual = described.substreams <= SUBSTREAMS_MAX && described.substreams.is_power_of_two();
    is_usual.then_some(described.substreams)
}

impl Peer {
    /// A peer of which nothing is known yet.
    pub(super) fn new(id: Arc<str>, from: IpAddr, expires: Instant, salt: u32) -> Self {
        Self {
            id,
            from,
            addr: None,
            expires,
            swarms: BTreeMap::new(),
            channels: BTreeSet::new(),
            is_ours: false,
            is_from_others: false,
            role: None,
            depth: None,
            slots_free: None,
            promised: 0,
            parent: None,
            parents: Vec::new(),
            told: super::placing::Told::default(),
            reading: None,
            salt,
        }
    }

    /// What it last said of itself, as it would say it.
    pub(super) fn as_ext(&self) -> RequestExt {
        RequestExt {
            role: self.role,
            port: self.addr.as_ref().map(|addr| addr.port),
            slots_free: self.slots_free,
            depth: self.depth,
            parent: self.parent.as_ref().map(ToString::to_string),
            parents: self
                .parents
                .iter()
                .map(|(peer, mask)| Feed {
                    peer: peer.to_string(),
                    mask: *mask,
                })
                .collect(),
            ..self.told.as_ext()
        }
    }

    /// Takes what the peer says of itself; a plain RFC 7846 peer says nothing.
    pub(super) fn update(&mut self, ext: Option<&RequestExt>) {
        let Some(ext) = ext else { return };
        self.is_ours = true;
        self.role = ext.role;
        self.depth = ext.depth;
        self.slots_free = ext.slots_free;
        self.promised = 0;
        self.parent = ext.parent.as_deref().map(Arc::from);
        let parents = ext.parents.iter();
        self.parents = parents
            .map(|at| (at.peer.as_str().into(), at.mask))
            .collect();
        self.told = super::placing::Told::of(ext);
    }
}
