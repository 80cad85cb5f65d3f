//! Who may do what, and the tickets that say so: what the registry knows of channels, put to the ticket office.

use std::net::{IpAddr, SocketAddr};

use super::{Refusal, Registry};
use crate::ids::SwarmId;
use crate::time::Instant;
use crate::tracker::address::{Scope, scope};
use crate::tracker::message::{
    AccessRequest, Action, Body, RejectCode, Request, Response, ResponseExt, Role,
};
use crate::tracker::ticket::office::{Reading, Visit};

impl Registry {
    /// Who asks, when he said so. `from` is where he does.
    pub(super) fn greet(
        &self,
        now: Instant,
        from: IpAddr,
        request: &Request,
    ) -> Result<Option<String>, Refusal> {
        let Some(office) = &self.office else {
            return Ok(None);
        };
        let nobody = AccessRequest::default();
        let access = request.ext.as_ref().map_or(&nobody, |ext| &ext.access);
        let role = request.ext.as_ref().and_then(|ext| ext.role);
        let claimed = request
            .ext
            .as_ref()
            .and_then(|ext| ext.deal.user.as_deref());
        let mut user = None;
        // One of several swarms must not open the others.
        for channel in self.channels_of(request) {
            let visit = Visit {
                access,
                user: claimed,
                channel,
                role,
                peer: &request.peer_id,
                is_private: scope(from) == Scope::Loopback,
            };
            user = match office.admit(now, &visit) {
                Ok(user) => user,
                // Nobody needs leave to go.
                Err(_) if is_goodbye(request) => None,
                Err(why) => return Err((why.code(), why.to_string())),
            };
        }
        Ok(user)
    }

    /// Who proved himself with a request: none where nobody has to.
    ///
    /// # Errors
    ///
    /// What he said is not true; or he names an account of somebody and proves nothing.
    pub(in crate::tracker) fn proven(
        &self,
        now: Instant,
        from: IpAddr,
        request: &Request,
    ) -> Result<Option<String>, Refusal> {
        let proven = self.greet(now, from, request)?;
        let claimed = request
            .ext
            .as_ref()
            .and_then(|ext| ext.deal.user.as_deref());
        if let (None, Some(office), Some(name)) = (&proven, &self.office, claimed)
            && office.has_user(name)
        {
            let why = format!("user {name} proves itself with a secret: give --token-file");
            return Err((RejectCode::NotAdmitted, why));
        }
        Ok(proven)
    }

    /// Whether an account may be used by whoever shows that secret: of those that the operator made, each proves itself;
    /// any other name is whoever took it first.
    ///
    /// # Errors
    ///
    /// Why not, for people.
    pub(in crate::tracker) fn check_account(
        &self,
        name: &str,
        secret: Option<&str>,
    ) -> Result<(), String> {
        let Some(office) = &self.office else {
            return Ok(());
        };
        match secret {
            Some(secret) if office.knows(name, secret) => Ok(()),
            Some(_) => Err("unknown user or wrong secret".to_owned()),
            None if office.has_user(name) => {
                Err(format!("user {name} proves itself: secret is missing"))
            }
            None => Ok(()),
        }
    }

    /// The channels that a request is about: at least one, which may have no name.
    fn channels_of<'a>(&'a self, request: &'a Request) -> Vec<Option<&'a str>> {
        let named = request.ext.as_ref().and_then(|ext| ext.channel.as_deref());
        let name_of = |swarm_id: &str| {
            let swarm = self.swarms.get(swarm_id)?;
            swarm.channel.as_deref()
        };
        let mut channels: Vec<Option<&str>> = match &request.body {
            Body::Connect(connect) => {
                let actions = connect.swarm_action.iter();
                actions.map(|action| name_of(&action.swarm_id)).collect()
            }
            Body::Find(find) => vec![name_of(&find.swarm_id)],
            Body::StatReport(stats) => stats.iter().map(|stat| name_of(&stat.swarm_id)).collect(),
        };
        channels.push(named);
        // Nothing is gained by leaving the name out where another member gives it.
        channels.retain(Option::is_some);
        channels.dedup();
        if channels.is_empty() {
            channels.push(None);
        }
        channels
    }

    /// Looks whether a store that other trackers share has to be asked before a request is answered: the source of a sealed
    /// channel hears of no key that is not everybody's. Nothing else is done with the request.
    pub(in crate::tracker) fn awaits_agreement(
        &mut self,
        now: Instant,
        from: IpAddr,
        request: &Request,
    ) -> bool {
        let from = from.to_canonical();
        let Some(ext) = request.ext.as_ref().filter(|ext| ext.access.seal) else {
            return false;
        };
        if is_goodbye(request) {
            return false;
        }
        // Whoever is refused is answered at once.
        let Ok(Some(user)) = self.greet(now, from, request) else {
            return false;
        };
        let channels = self.channels_of(request).into_iter().flatten();
        let channels: Vec<String> = channels.map(str::to_owned).collect();
        let Some(office) = &mut self.office else {
            return false;
        };
        channels.iter().any(|channel| {
            let visit = Visit {
                access: &ext.access,
                user: ext.deal.user.as_deref(),
                channel: Some(channel),
                role: ext.role,
                peer: &request.peer_id,
                is_private: scope(from) == Scope::Loopback,
            };
            office.propose(now, &visit, &user)
        })
    }

    /// Puts what the asker may know of tickets into the answer.
    pub(super) fn give_tickets(
        &mut self,
        now: Instant,
        from: IpAddr,
        request: &Request,
        user: Option<&str>,
        sells: bool,
        response: &mut Response,
    ) {
        let Some(ext) = &request.ext else {
            return;
        };
        let done = response.swarm_result.iter().find(|result| result.is_ok);
        let Some(swarm) = done.map(|result| result.swarm_id.as_str()) else {
            return;
        };
        let channel = self.swarms.get(swarm).and_then(|it| it.channel.clone());
        let swarm_id: Option<SwarmId> = swarm.parse().ok();
        let placed = self
            .by_id
            .get(request.peer_id.as_str())
            .and_then(|at| self.peers.get(at.get(&from)?))
            .and_then(|peer| peer.addr.as_ref());
        let addr = placed.map(|addr| SocketAddr::new(addr.ip, addr.port));
        let Some(office) = &mut self.office else {
            return;
        };
        let visit = Visit {
            access: &ext.access,
            user: ext.deal.user.as_deref(),
            channel: channel.as_deref().or(ext.channel.as_deref()),
            role: ext.role,
            peer: &request.peer_id,
            is_private: scope(from) == Scope::Loopback,
        };
        if is_goodbye(request) {
            if let (Some(user), Some(channel)) = (user, visit.channel) {
                office.leave(channel, user, visit.peer);
            }
            return;
        }
        // Where streams are sold nobody hangs below whom neighbours tell of: that is for the provider to say.
        let certifies = ext.certify && !sells;
        if let (true, Some(addr), Some(swarm_id)) = (certifies, addr, &swarm_id) {
            response.certificate = office.certify(now, ext.access.key, addr, swarm_id);
        }
        let is_new = matches!(request.body, Body::Connect(_));
        let access = office.answer(now, &visit, user, swarm_id.as_ref(), is_new);
        if let Some(user) = user
            && access.seal.is_some()
            && ext.role == Some(Role::Peer)
        {
            let reading = Reading {
                user: user.into(),
                epoch: ext.access.epoch,
            };
            self.note_reading(from, &request.peer_id, reading);
        }
        if !access.is_empty() {
            response.ext.get_or_insert_with(ResponseExt::default).access = access;
        }
    }
}

/// Whether a request does nothing but leave.
fn is_goodbye(request: &Request) -> bool {
    match &request.body {
        Body::Connect(connect) => {
            let mut actions = connect.swarm_action.iter();
            actions.all(|action| action.action == Action::Leave)
        }
        _ => false,
    }
}
