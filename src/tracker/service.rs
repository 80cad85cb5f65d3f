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
use super::provider::{self, Ask, Provider, Report, Room, Terms};
use super::registry::{self, Allowed, Offer, Registry, Reply};
use super::ticket::office::TicketOffice;
use crate::time::Instant;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To be sent once the changes are stored.
    Reply(Reply, Vec<Change>),
    /// A payment is under way: the same request again, when one was made.
    Later,
}

/// One tracker.
#[derive(Debug)]
pub struct Service {
    registry: Registry,
    provider: Option<Provider>,
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
        Self { registry, provider }
    }

    /// Who is there.
    pub const fn registry(&self) -> &Registry {
        &self.registry
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
        let outcome = match (Request::from_json(body), &mut self.provider) {
            (Ok(request), Some(_)) => self.sell(now, from, &request),
            (Ok(request), None) => Ok(self.registry.handle(now, from, &request)),
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
        let reply = Reply {
            status: 200,
            body: response.to_json(),
        };
        Answer::Reply(reply, changes.unwrap_or_default())
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
    fn sell(
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
        let mut refusal = None;
        if let Body::Connect(connect) = &request.body {
            let joined = connect.swarm_action.iter().find(|action| {
                action.action == Action::Join && action.peer_mode == PeerMode::Leech && is_user(ext)
            });
            let content = joined.and_then(|join| self.registry.channel_of(&join.swarm_id, ext));
            if let Some(content) = content {
                let admitted = match self.registry.proven(now, request) {
                    Ok(user) => admit(provider, &self.registry, now, request, user, &content),
                    Err(refusal) => {
                        let id = request.transaction_id.clone();
                        return Ok(self.registry.refuse(id, true, refusal));
                    }
                };
                match admitted {
                    Ok(id) => provider.connected(now, &id, &request.peer_id),
                    Err(Refused {
                        code: Code::PaymentPending,
                        ..
                    }) => return Err(Pending),
                    Err(refused) => refusal = Some(refused),
                }
            }
        }
        if let Some(refused) = refusal {
            let code = match refused.code {
                Code::Full => RejectCode::Full,
                _ => RejectCode::NotAdmitted,
            };
            let id = request.transaction_id.clone();
            return Ok(self.registry.refuse(id, true, (code, refused.text)));
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
            && let Some(user) = provider.user_of(&request.peer_id)
        {
            let contract = user.contract.and_then(|no| provider.contract(no));
            response.ext.get_or_insert_with(ResponseExt::default).grant = Some(Grant {
                id: user.id.to_string(),
                status: user.status.name().to_owned(),
                parent: user.seller.name().to_owned(),
                contract: contract.map(Contract::to_value),
            });
        }
        Ok(response)
    }

    /// What a newcomer would get, without his coming; none when nobody announces the channel.
    pub fn offer(&self, now: Instant, from: IpAddr, content: &str, deal: &Deal) -> Option<Offer> {
        let Some(provider) = &self.provider else {
            return self.registry.offer(now, from, content, None);
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
        let user = self.provider.as_ref()?.user_of(peer)?;
        Some(user.id.to_string())
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
