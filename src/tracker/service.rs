//! One tracker: the registry of who is there, and the provider if it sells.
//!
//! Requests come in as the bodies and parameters that the shell read, answers go out with the durable changes that
//! must be stored before they are sent.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde_json::Value;

use super::json;
use super::message::{
    Action, BODY_BYTES_MAX, Body, Deal, Grant, PeerMode, RejectCode, Request, RequestError,
    RequestExt, Response, ResponseExt, Role,
};
use super::provider::api::{House, Params, is_reading};
use super::provider::change::Change;
use super::provider::contract::Contract;
use super::provider::error::{Code, Refused};
use super::provider::status::{Kind, Status};
use super::provider::tariff::Qos;
use super::provider::user::PROVIDER;
use super::provider::{self, Ask, Provider, Report, Room, ServerOffer, Terms};
use super::registry::{self, Allowed, Offer, Registry, Reply};
use super::ticket::office::TicketOffice;
use crate::time::Instant;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To be sent once the changes are stored.
    Reply(Reply, Vec<Change>),
    /// A payment, or a store that other trackers share, is being asked: the same request again, when one was.
    Later,
}

/// One tracker.
#[derive(Debug)]
pub struct Service {
    registry: Registry,
    provider: Option<Provider>,
    /// Why nobody is served, where another tracker sells for all of them.
    standby: Option<String>,
}

impl House for Registry {
    fn has_channel(&self, content: &str) -> bool {
        self.channel(content).is_some()
    }

    fn has_room(&self, content: &str) -> bool {
        Self::has_room(self, content)
    }

    fn check_account(&self, account: &str, secret: Option<&str>) -> Result<(), String> {
        Self::check_account(self, account, secret)
    }
}

impl Service {
    /// A tracker that sells, when it has a provider.
    pub const fn new(registry: Registry, provider: Option<Provider>) -> Self {
        Self {
            registry,
            provider,
            standby: None,
        }
    }

    /// Who is there.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Who is there, to be told what other trackers heard.
    pub const fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Sells from now on, as `provider` says. Whoever was admitted before has to join again.
    pub fn sell(&mut self, provider: Provider) {
        self.registry.take_for_hearsay();
        self.provider = Some(provider);
        self.standby = None;
    }

    /// Serves nobody from now on who would have to be sold something, for a reason that he is told.
    pub fn stand_by(&mut self, why: String) {
        self.provider = None;
        self.standby = Some(why);
    }

    /// Who pays.
    pub const fn provider(&self) -> Option<&Provider> {
        self.provider.as_ref()
    }

    /// Who pays, to be told of payments and tariffs.
    pub const fn provider_mut(&mut self) -> Option<&mut Provider> {
        self.provider.as_mut()
    }

    /// Where users and closed channels are put in order.
    pub const fn office(&mut self) -> Option<&mut TicketOffice> {
        self.registry.office()
    }

    /// Forgets what expired. Gives what must be stored.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Change> {
        self.registry.handle_timeout(now);
        self.note_gone(now);
        let Some(provider) = &mut self.provider else {
            return Vec::new();
        };
        provider.handle_timeout(now);
        provider.end_contents(now, &self.registry);
        provider.take_changes()
    }

    fn note_gone(&mut self, now: Instant) {
        while let Some((peer, has_left)) = self.registry.poll_gone() {
            if let Some(provider) = &mut self.provider {
                provider.on_gone(now, &peer, has_left);
            }
        }
    }

    /// Answers the body of one POST from `from`, the other end of its connection.
    pub fn handle_body(&mut self, now: Instant, from: SocketAddr, body: &[u8]) -> Answer {
        let read = Request::from_json(body);
        if let (Ok(request), None) = (&read, &self.standby)
            && self.registry.awaits_agreement(now, from.ip(), request)
        {
            return Answer::Later;
        }
        let outcome = match (read, &mut self.provider) {
            (Ok(request), Some(_)) => self.serve(now, from, &request),
            (Ok(request), None) => Ok(match &self.standby {
                Some(why) => {
                    let refusal = (RejectCode::Standby, why.clone());
                    let id = request.transaction_id.clone();
                    self.registry.refuse(id, request.ext.is_some(), refusal)
                }
                None => self.registry.handle(now, from, &request),
            }),
            (Err(RequestError::NotJson(_) | RequestError::Malformed { .. }), _) => {
                let reply = self.registry.handle_body(now, from, body);
                return Answer::Reply(reply, Vec::new());
            }
        };
        self.note_gone(now);
        let Ok(response) = outcome else {
            return Answer::Later;
        };
        let changes = self.provider.as_mut().map(Provider::take_changes);
        let mut changes = changes.unwrap_or_default();
        if let Some(office) = self.registry.office() {
            changes.extend(office.take_changes());
        }
        let reply = Reply {
            status: 200,
            body: response.to_json(),
        };
        Answer::Reply(reply, changes)
    }

    /// Carries out a call of the provider's API. Whoever is `trusted` may read without a session.
    pub fn handle_call(
        &mut self,
        now: Instant,
        name: &str,
        params: &Params,
        trusted: bool,
    ) -> Answer {
        self.registry.handle_timeout(now);
        self.note_gone(now);
        let Some(provider) = &mut self.provider else {
            if let Some(why) = &self.standby {
                return Answer::Reply(error_reply(503, Code::Standby, why), Vec::new());
            }
            let why = "this tracker sells nothing: start it with --tariff";
            return Answer::Reply(error_reply(404, Code::NoSuchCall, why), Vec::new());
        };
        let outcome = provider.call(now, name, params, trusted, &self.registry);
        let changes = provider.take_changes();
        let reply = match outcome {
            Ok(value) => Reply {
                status: 200,
                body: value.to_string(),
            },
            Err(Refused {
                code: Code::PaymentPending,
                ..
            }) if !is_reading(name) => return Answer::Later,
            Err(refused) => error_reply(refused.code.status(), refused.code, &refused.text),
        };
        Answer::Reply(reply, changes)
    }

    /// A PPSTP request to a tracker that sells; an error is a payment under way.
    fn serve(
        &mut self,
        now: Instant,
        from: SocketAddr,
        request: &Request,
    ) -> Result<Response, Pending> {
        let ext = request.ext.as_ref();
        self.registry.handle_timeout(now);
        self.note_gone(now);
        let Some(provider) = &mut self.provider else {
            return Ok(self.registry.handle(now, from, request));
        };
        // Admitted by a tracker that sold before: whoever goes on here becomes a user here, by joining again.
        if !matches!(request.body, Body::Connect(_))
            && self.registry.is_from_others(&request.peer_id, from.ip())
            && provider.user_of(&request.peer_id).is_none()
        {
            let id = request.transaction_id.clone();
            return Ok(self.registry.refuse(id, true, registry::not_registered()));
        }
        match take_in(provider, &self.registry, now, from.ip(), request) {
            Ok(()) => {}
            Err(Turned::Later) => return Err(Pending),
            Err(Turned::Away(refusal)) => {
                let id = request.transaction_id.clone();
                return Ok(self.registry.refuse(id, true, refusal));
            }
        }
        if let Some(ext) = ext {
            let report = report(ext);
            match is_user(Some(ext)) {
                true => provider.on_report(now, &request.peer_id, &report),
                false => provider.on_server(&request.peer_id, &report),
            }
        }
        let room = provider.user_of(&request.peer_id).map(|user| {
            let content = &user.content;
            match self.registry.has_room(content) {
                true => Room::Free,
                false if self.registry.has_server(content) => Room::Full,
                false => Room::NoServer,
            }
        });
        let allowed = provider.allowed(now, &request.peer_id, room.unwrap_or(Room::NoServer));
        let allowed = Allowed {
            servers: allowed.servers,
            peers: &allowed.peers,
        };
        let mut response = self
            .registry
            .handle_allowed(now, from, request, Some(allowed));
        if ext.is_some()
            && let Some(grant) = grant(provider, &request.peer_id)
        {
            response.ext.get_or_insert_with(ResponseExt::default).grant = Some(grant);
        }
        Ok(response)
    }

    /// What a newcomer would get, without his coming; none when nobody announces the channel.
    pub fn offer(&self, now: Instant, from: IpAddr, content: &str, deal: &Deal) -> Option<Offer> {
        let Some(provider) = &self.provider else {
            let nobody = Allowed {
                servers: false,
                peers: &[],
            };
            let allowed = self.standby.is_some().then_some(nobody);
            let mut offer = self.registry.offer(now, from, content, allowed)?;
            offer.refused.clone_from(&self.standby);
            return Some(offer);
        };
        let quoted = ask("", content, deal, None, self.registry.has_room(content))
            .and_then(|ask| provider.quote(&ask));
        let (allowed, price, refused) = match quoted {
            Ok((allowed, price)) => (allowed, price, None),
            Err(refused) => (provider::Allowed::default(), None, Some(refused.text)),
        };
        let allowed = Allowed {
            servers: allowed.servers,
            peers: &allowed.peers,
        };
        let mut offer = self.registry.offer(now, from, content, Some(allowed))?;
        offer.price = price;
        offer.refused = refused;
        Some(offer)
    }

    /// What the placement decided since the last call, for people, one line at a time.
    pub fn poll_log(&mut self) -> Option<String> {
        self.registry.poll_log()
    }

    /// What the provider calls a peer.
    pub fn name_of(&self, peer: &str) -> Option<String> {
        let provider = self.provider.as_ref()?;
        let user = provider.user_of(peer).map(|user| &user.id);
        let server = || provider.rent_of(peer).map(|contract| &contract.user);
        user.or_else(server).map(ToString::to_string)
    }

    /// Counters of the registry.
    pub fn stats(&self) -> registry::Stats {
        self.registry.stats()
    }
}

/// Reads the body of a call: one JSON object, within the limits of every request.
///
/// # Errors
///
/// A line for people.
pub fn read_params(body: &[u8]) -> Result<Params, String> {
    let reading = json::read(body, BODY_BYTES_MAX)?;
    if let Some(violation) = reading.violation {
        return Err(violation);
    }
    match reading.value {
        Value::Object(params) => Ok(params),
        _ => Err("body: need an object".to_owned()),
    }
}

/// A payment is under way.
struct Pending;

/// Why somebody is not taken in.
enum Turned {
    /// A payment is under way.
    Later,
    /// He is refused.
    Away((RejectCode, String)),
}

impl From<Refused> for Turned {
    fn from(refused: Refused) -> Self {
        match refused.code {
            Code::PaymentPending => Self::Later,
            Code::Full => Self::Away((RejectCode::Full, refused.text)),
            _ => Self::Away((RejectCode::NotAdmitted, refused.text)),
        }
    }
}

/// Makes whoever joins a channel a user of it, or a server under contract; whoever is neither passes.
fn take_in(
    provider: &mut Provider,
    registry: &Registry,
    now: Instant,
    from: IpAddr,
    request: &Request,
) -> Result<(), Turned> {
    let ext = request.ext.as_ref();
    let Body::Connect(connect) = &request.body else {
        return Ok(());
    };
    let rental = ext.and_then(|ext| ext.deal.offer.as_ref().filter(|_| !is_user(Some(ext))));
    let mut actions = connect.swarm_action.iter();
    let joined = actions.find(|action| {
        let enters = action.peer_mode == PeerMode::Leech && is_user(ext);
        action.action == Action::Join && (enters || rental.is_some())
    });
    let Some(content) = joined.and_then(|join| registry.channel_of(&join.swarm_id, ext)) else {
        return Ok(());
    };
    let proven = registry.proven(now, from, request).map_err(Turned::Away)?;
    match rental {
        Some(rental) => {
            let claimed = ext.and_then(|ext| ext.deal.user.as_deref());
            let account = proven.as_deref().or(claimed).unwrap_or(&request.peer_id);
            let offer = ServerOffer {
                account,
                content: &content,
                kbps: rental.kbps,
                price: rental.price,
                unit: rental.unit,
            };
            provider.rent(now, &request.peer_id, &offer)?;
        }
        None => {
            let id = admit(provider, registry, now, request, proven, &content)?;
            provider.connected(now, &id, &request.peer_id);
        }
    }
    Ok(())
}

/// Whether a request is a user's: of a peer of ours, or of a plain one.
fn is_user(ext: Option<&RequestExt>) -> bool {
    ext.is_none_or(|ext| ext.role.is_none_or(|role| role == Role::Peer))
}

/// Makes the sender of a CONNECT a user of the channel, or finds the one that he is.
fn admit(
    provider: &mut Provider,
    registry: &Registry,
    now: Instant,
    request: &Request,
    proven: Option<String>,
    content: &Arc<str>,
) -> Result<Arc<str>, Refused> {
    let nothing = Deal::default();
    let ext = request.ext.as_ref();
    let deal = ext.map_or(&nothing, |ext| &ext.deal);
    if let Some(session) = &deal.session {
        // It contracted or joined by calls before.
        return provider.user_in(now, session);
    }
    let uplink = ext.and_then(|ext| ext.uplink_kbps);
    let account = proven.as_deref().or(deal.user.as_deref());
    let account = account.unwrap_or(&request.peer_id);
    let ask = ask(account, content, deal, uplink, registry.has_room(content))?;
    let id = provider.enrol(now, &ask)?;
    if let Some(status) = ask.status {
        provider.set_status(&id, status)?;
    }
    Ok(id)
}

/// Who a peer is to the provider.
fn grant(provider: &Provider, peer: &str) -> Option<Grant> {
    if let Some(user) = provider.user_of(peer) {
        let contract = user.contract.and_then(|no| provider.contract(no));
        return Some(Grant {
            id: user.id.to_string(),
            status: user.status.name().to_owned(),
            parent: user.seller.name().to_owned(),
            contract: contract.map(Contract::to_value),
        });
    }
    let rent = provider.rent_of(peer)?;
    Some(Grant {
        id: rent.user.to_string(),
        status: "server".to_owned(),
        parent: PROVIDER.to_owned(),
        contract: Some(rent.to_value()),
    })
}

/// What a deal asks a provider for.
fn ask<'a>(
    account: &'a str,
    content: &'a str,
    deal: &'a Deal,
    uplink_kbps: Option<u64>,
    has_room: bool,
) -> Result<Ask<'a>, Refused> {
    let status = match deal.status.as_deref() {
        None => None,
        Some(name) => Some(Status::from_name(name).ok_or_else(|| Refused {
            code: Code::NotAllowed,
            text: "status: need c, c-c, c-p, c-c,p, p or p-p".to_owned(),
        })?),
    };
    let terms = match (&deal.packet, &deal.interval) {
        (Some(packet), _) => Some(Terms::Packet(packet)),
        (None, Some(interval)) => Some(Terms::Interval(interval)),
        (None, None) => None,
    };
    Ok(Ask {
        account,
        content,
        terms,
        seller: deal.seller.as_deref(),
        // A client that names a seller and no packet pays by the seller's interval.
        pays: terms.is_some() || status.is_some_and(|status| status.kind() == Kind::Client),
        price: None,
        unit: None,
        status,
        // One contract for a channel, however often its buyer connects.
        request: content,
        qos: Qos {
            bw_mbps: uplink_kbps.map(|kbps| kbps as f64 / 1000.0),
            ..Qos::default()
        },
        has_room,
    })
}

fn report(ext: &RequestExt) -> Report {
    Report {
        uplink_kbps: ext.uplink_kbps,
        sent_kbps: ext.sent_kbps,
        kbps: ext.kbps,
        latency_us: ext.latency_us,
        jitter_us: ext.jitter_us,
        slots_free: ext.slots_free,
        has_parent: ext.depth.is_some(),
    }
}

fn error_reply(status: u16, code: Code, why: &str) -> Reply {
    let body = serde_json::json!({ "error": why, "code": code.name() });
    Reply {
        status,
        body: body.to_string(),
    }
}
