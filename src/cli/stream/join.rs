//! How a channel is found: parents by their names, the channel by its identifier or at a tracker.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::{Base, check_description};
use crate::cli::common::{ChannelKey, Join};
use crate::cli::exit::{CliError, Exit};
use crate::cli::progress::Progress;
use crate::cli::value::{Family, Host, ParentAddr, StartAt};
use crate::ids::{PeerId, SwarmId};
use crate::io::clock::Clock;
use crate::io::engine::{NotFound, Rendezvous, find_channel};
use crate::io::signal::{Signal, Signals};
use crate::node::{Role, StartFrom, SwarmConfig};
use crate::store::playout::PlayoutConfig;
use crate::time::Instant;
use crate::tracker::announce::Identity;
use crate::tracker::message::Role as TrackerRole;

/// Looks a parent up. Names that are not known yet are asked again by the caller.
async fn resolve(parent: &ParentAddr, family: Family) -> Option<SocketAddr> {
    let fits = |addr: &SocketAddr| match family {
        Family::V4 => addr.is_ipv4(),
        Family::V6 => addr.is_ipv6(),
        Family::Any => true,
    };
    match &parent.host {
        Host::Ip(ip) => Some(SocketAddr::new(*ip, parent.port)).filter(fits),
        Host::Name(name) => tokio::net::lookup_host((name.as_str(), parent.port))
            .await
            .ok()?
            .find(fits),
    }
}

/// Looks parents up, waiting for names that are not known yet: the network may come up later than we do.
async fn resolve_all(
    clock: &Clock,
    parents: &[ParentAddr],
    family: Family,
    timeout: Option<Duration>,
    progress: &Progress,
) -> Result<Vec<SocketAddr>, CliError> {
    let mut told = false;
    let end = timeout.map(|timeout| Instant::ZERO + timeout);
    loop {
        let mut addrs = Vec::new();
        let mut unknown = None;
        for parent in parents {
            let answer = resolve(parent, family);
            // Servers of names may be silent for longer than we are to wait.
            let answer = match end {
                Some(end) => tokio::time::timeout_at(clock.to_system(end), answer).await,
                None => Ok(answer.await),
            };
            match answer.ok().flatten() {
                Some(addr) => addrs.push(addr),
                None => unknown = Some(parent),
            }
        }
        let Some(unknown) = unknown else {
            return Ok(addrs);
        };
        // One that can be called is enough to begin with.
        if !addrs.is_empty() {
            tracing::warn!("cannot look up {unknown}: going on without it");
            return Ok(addrs);
        }
        if end.is_some_and(|end| clock.now() >= end) {
            return Err(CliError::new(
                Exit::Unreachable,
                format!("cannot reach {unknown}"),
                "name not found",
            ));
        }
        if !std::mem::replace(&mut told, true) {
            tracing::warn!("cannot look up {unknown}: name not found; trying again");
        }
        progress.set(&format!("waiting for the name {}", unknown.host));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Waits for a signal that ends the tool; nobody hangs on it yet, so draining does.
async fn asked_to_stop(signals: &mut Signals) {
    while !matches!(signals.next().await, Signal::Stop | Signal::Drain) {}
}

/// One channel to take part in, found and described.
pub(in crate::cli) struct Found {
    pub(in crate::cli) name: String,
    pub(in crate::cli) swarm: SwarmConfig,
    pub(in crate::cli) rendezvous: Option<Rendezvous>,
}

/// Finds a channel by its identifier, its name at a tracker, or both.
pub(in crate::cli) async fn find(
    base: &mut Base,
    signals: &mut Signals,
    peer_id: PeerId,
    join: &Join,
    role: Role,
    plays: bool,
    skip: bool,
) -> Result<Option<Found>, CliError> {
    let parents = resolve_all(
        &base.clock,
        &join.parents,
        base.net.family,
        join.timeout,
        &base.progress,
    );
    let parents = tokio::select! {
        biased;
        () = asked_to_stop(signals) => return Ok(None),
        parents = parents => parents?,
    };
    let identity = Identity {
        peer_id: peer_id.to_string(),
        role: if role == Role::Relay {
            TrackerRole::Relay
        } else {
            TrackerRole::Peer
        },
        channel: match &join.channel {
            ChannelKey::Name(name) => Some(name.to_string()),
            ChannelKey::Id(_) => None,
        },
        swarm_id: match &join.channel {
            ChannelKey::Id(id) => Some(id.to_string()),
            ChannelKey::Name(_) => None,
        },
        title: None,
        description: None,
        port: base.listen.local().port(),
        addresses: Vec::new(),
        deal: join.deal.clone(),
        service: join.service.clone(),
    };
    let announcer = (!join.trackers.is_empty()).then(|| base.announcer(identity, &join.trackers));
    let playout = plays.then_some(PlayoutConfig {
        latency: join.latency,
        skip,
    });
    let swarm = |swarm_id| SwarmConfig {
        swarm_id,
        window: join.window,
        playout,
        from: match join.from {
            StartAt::Live => StartFrom::Live,
            StartAt::Oldest => StartFrom::Oldest,
        },
        parents: parents.clone(),
        source: None,
        description: None,
    };
    match (&join.channel, announcer) {
        (ChannelKey::Id(id), announcer) => Ok(Some(Found {
            name: id.to_string(),
            swarm: swarm(id.clone()),
            rendezvous: announcer.map(|(announcer, urls)| Rendezvous::new(announcer, urls)),
        })),
        (ChannelKey::Name(name), None) => Err(CliError::usage(
            format!("no tracker for channel {name}"),
            "name one with --tracker, or give the channel id",
        )),
        (ChannelKey::Name(name), Some((announcer, urls))) => {
            base.progress.set(&format!("looking for channel {name}"));
            let stop = asked_to_stop(signals);
            let say = |text: &str| tracing::warn!("{text}");
            let found = find_channel(&base.clock, announcer, &urls, join.timeout, stop, say).await;
            match found {
                Ok((announcer, mut found)) => {
                    let mut swarm = swarm(found.swarm_id.clone());
                    let mut rendezvous = Rendezvous::new(announcer, urls);
                    rendezvous.begin_with(&mut found);
                    swarm.description = genuine(found.description, &found.swarm_id);
                    Ok(Some(Found {
                        name: name.to_string(),
                        swarm,
                        rendezvous: Some(rendezvous),
                    }))
                }
                Err(NotFound::Stopped) => Ok(None),
                Err(NotFound::NoChannel) => Err(CliError::new(
                    Exit::NoChannel,
                    format!("no channel {name}"),
                    "no tracker knows it",
                )),
                Err(NotFound::Refused(why)) => {
                    Err(CliError::new(Exit::Refused, "refused by tracker", why))
                }
                Err(NotFound::Unreachable(list)) => Err(unreachable(&list)),
            }
        }
    }
}

fn unreachable(list: &[(String, String)]) -> CliError {
    let each: Vec<String> = list
        .iter()
        .map(|(url, why)| format!("{} ({why})", host_of(url)))
        .collect();
    let why = if each.is_empty() {
        "no answer in time".to_owned()
    } else {
        each.join(", ")
    };
    CliError::new(Exit::Unreachable, "cannot reach any tracker", why)
}

/// Host of a tracker's address, as error lines name it.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// A description whose signature holds for the swarm.
fn genuine(description: Option<Bytes>, swarm_id: &SwarmId) -> Option<Bytes> {
    let bytes = description?;
    check_description(&bytes)
        .filter(|description| description.swarm_id == *swarm_id)
        .map(|_| bytes)
}
