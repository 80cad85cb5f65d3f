//! The API of the provider: nine calls of CS-P2P and their twins, the event flow, the history.
//!
//! Every call takes named parameters and gives a JSON value; whether they came as the body of a POST or in the address
//! of a GET is the shell's affair. Rows have the order that the paper fixes.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::contract::{Contract, Entry};
use super::error::{Code, Refused, refused};
use super::money::Money;
use super::status::{Kind, Status};
use super::tariff::{Bounds, Qos, Unit};
use super::user::{PROVIDER, User, natural};
use super::{Ask, Provider, Terms};
use crate::stats::timestamp::Timestamp;
use crate::time::Instant;
use crate::tracker::message::is_channel_name;

/// Longest account name, in characters.
pub const ACCOUNT_CHARS_MAX: usize = 64;

/// Longest name of a request, in characters.
pub const REQUEST_CHARS_MAX: usize = 64;

/// What the provider has to know of the house it is in.
pub trait House {
    /// Whether somebody announces a channel.
    fn has_channel(&self, content: &str) -> bool;
    /// Whether a server that carries it has room for one more.
    fn has_room(&self, content: &str) -> bool;
    /// Whether an account may be used by whoever shows that secret, or none.
    ///
    /// # Errors
    ///
    /// Why not, for people.
    fn check_account(&self, account: &str, secret: Option<&str>) -> Result<(), String>;
}

/// Parameters of a call, by name.
pub type Params = Map<String, Value>;

/// Names of every call.
pub const CALLS: &[&str] = &[
    "get_user_table",
    "get_price_packets",
    "get_price_intervals",
    "get_clients",
    "get_peers",
    "get_bandwidth",
    "get_latency",
    "get_jitter",
    "get_bandwidth_and_latency",
    "get_qos",
    "get_direct_clients_of_packet",
    "get_clients_status",
    "get_contracts",
    "get_ledger",
    "history",
    "login",
    "choose",
    "contract",
    "join",
    "set_status",
    "leave",
];

/// Calls that only the operator may make: they show accounts and money.
const OPERATORS: &[&str] = &["get_contracts", "get_ledger"];

/// Calls that change nothing: a GET will do.
pub fn is_reading(name: &str) -> bool {
    name.starts_with("get_") || name == "history"
}

impl Provider {
    /// Carries out a call. Whoever is `trusted`, the operator, may read without a session.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn call(
        &mut self,
        now: Instant,
        name: &str,
        params: &Params,
        trusted: bool,
        house: &dyn House,
    ) -> Result<Value, Refused> {
        if !CALLS.contains(&name) {
            return refused(Code::NoSuchCall, format!("no call {name:?}"));
        }
        if !is_reading(name) {
            return self.step(now, name, params, house);
        }
        if OPERATORS.contains(&name) && !trusted {
            return refused(Code::NotAllowed, "for the operator only");
        }
        let content = match (text(params, "content")?, trusted) {
            (Some(content), true) => content.to_owned(),
            (named, false) => {
                let chosen = self.content_of(now, session(params)?)?;
                if named.is_some_and(|named| *named != *chosen) {
                    return refused(Code::NoContent, "content: choose it first");
                }
                chosen.to_string()
            }
            (None, true) => return refused(Code::BadRequest, "content: missing"),
        };
        // Users outlive a source that is away for a while.
        if !house.has_channel(&content) && !self.has_users(&content) {
            return refused(Code::NoSuchChannel, format!("no channel {content:?}"));
        }
        self.read(name, params, &content)
    }

    fn has_users(&self, content: &str) -> bool {
        self.users.of_content(content).next().is_some()
    }

    // --- tables -----------------------------------------------------------------------------------------------------

    fn read(&self, name: &str, params: &Params, content: &str) -> Result<Value, Refused> {
        let wanted = wanted(params)?;
        let all = |_: &User| true;
        let clients = |user: &User| user.status.kind() == Kind::Client;
        let peers = |user: &User| user.status.kind() == Kind::Peer;
        let fields = |names: &[&str]| {
            let rows = self.users_of(content, clients);
            let rows = rows.into_iter().filter(|user| wanted.fits(&user.qos));
            answer(content, "users", rows.map(|user| only(user, names)))
        };
        let rows = |users: Vec<&User>| {
            let users = users.into_iter().filter(|user| wanted.fits(&user.qos));
            answer(content, "users", users.map(User::row))
        };
        Ok(match name {
            "get_user_table" => rows(self.users_of(content, all)),
            "get_clients" => rows(self.users_of(content, clients)),
            "get_peers" => rows(self.users_of(content, peers)),
            "get_bandwidth" => fields(&["bw_mbps"]),
            "get_latency" => fields(&["lat_ms"]),
            "get_jitter" => fields(&["jit_ms"]),
            "get_bandwidth_and_latency" => fields(&["bw_mbps", "lat_ms"]),
            "get_qos" => fields(&qos_fields(params)?),
            "get_direct_clients_of_packet" => {
                let packet = needed(params, "packet")?;
                if self.tariff.packet(packet).is_none() {
                    return refused(Code::NoSuchTerms, format!("no packet {packet:?}"));
                }
                let is_direct = |user: &User| {
                    clients(user) && user.level() == 1 && self.packet_of(user) == Some(packet)
                };
                rows(self.users_of(content, is_direct))
            }
            "get_clients_status" => self.status_table(content),
            "get_price_packets" => self.packet_table(content),
            "get_price_intervals" => self.interval_table(content),
            "get_contracts" => answer(
                content,
                "contracts",
                self.contracts()
                    .filter(|contract| *contract.content == *content)
                    .map(Contract::to_value),
            ),
            "get_ledger" => {
                let mut table = answer(content, "entries", self.ledger().map(Entry::to_value));
                table["total"] = json!(self.books.booked());
                table
            }
            _ => {
                let since = match text(params, "since")? {
                    Some(since) => match Timestamp::parse(since) {
                        Some(since) => since.unix_micros(),
                        None => return refused(Code::BadRequest, "since: need RFC 3339, in UTC"),
                    },
                    None => 0,
                };
                let samples = self.history.query(content, text(params, "id")?, since);
                answer(content, "samples", samples.into_iter())
            }
        })
    }

    /// Users of a content, as people count.
    fn users_of(&self, content: &str, wanted: impl Fn(&User) -> bool) -> Vec<&User> {
        let users = self.users.of_content(content);
        let mut users: Vec<&User> = users.filter(|user| wanted(user)).collect();
        users.sort_by_cached_key(|user| natural(&user.id));
        users
    }

    /// The packet that a user bought; of whoever did not buy one, that which his quality reaches.
    fn packet_of<'a>(&'a self, user: &'a User) -> Option<&'a str> {
        user.packet.as_deref().or_else(|| {
            let packet = self.tariff.classify(&user.qos);
            packet.map(|packet| packet.name.as_str())
        })
    }

    fn packet_table(&self, content: &str) -> Value {
        let packets = self.tariff.packets.iter().map(|packet| {
            let is_of = |user: &User| {
                user.status.kind() == Kind::Client && self.packet_of(user) == Some(&packet.name)
            };
            let users = self.users_of(content, is_of);
            json!({
                "name": packet.name,
                "bounds": bounds(&packet.bounds),
                "price": packet.price.to_string(),
                "unit": packet.unit.name(),
                "users": users.into_iter().map(User::summary).collect::<Vec<_>>(),
            })
        });
        let mut table = answer(content, "packets", packets);
        table["currency"] = json!(self.tariff.currency);
        table
    }

    fn interval_table(&self, content: &str) -> Value {
        let intervals = self.tariff.intervals.iter().map(|interval| {
            let is_in = |user: &User| user.qos.bw_mbps.is_some_and(|bw| interval.contains(bw));
            let mut row = json!({
                "name": interval.name,
                "over_mbps": interval.over_mbps,
                "price": interval.price.to_string(),
                "unit": interval.unit.name(),
                "users": self.users_of(content, is_in).into_iter().map(User::row).collect::<Vec<_>>(),
            });
            if let Some(to) = interval.to_mbps {
                row["to_mbps"] = json!(to);
            }
            row
        });
        let mut table = answer(content, "intervals", intervals);
        table["currency"] = json!(self.tariff.currency);
        table
    }

    fn status_table(&self, content: &str) -> Value {
        let mut rows = Map::new();
        for status in Status::ALL {
            let mut users = self.users_of(content, |user| user.status == status);
            // Best first; a stable sort, so that equals stay as people count.
            users.sort_by(|a, b| {
                let bw = |user: &User| user.qos.bw_mbps.unwrap_or(-1.0);
                bw(b).total_cmp(&bw(a))
            });
            let users: Vec<Value> = users.into_iter().map(User::row).collect();
            rows.insert(status.name().to_owned(), users.into());
        }
        json!({
            "content": content,
            "columns": Status::ALL.map(Status::name),
            "rows": rows,
        })
    }

    // --- the event flow ---------------------------------------------------------------------------------------------

    fn step(
        &mut self,
        now: Instant,
        name: &str,
        params: &Params,
        house: &dyn House,
    ) -> Result<Value, Refused> {
        if name == "login" {
            let user = needed(params, "user")?;
            if !is_channel_name(user) || user.len() > ACCOUNT_CHARS_MAX || user == PROVIDER {
                return refused(Code::BadRequest, "user: need 1 to 64 of A-Z a-z 0-9 . _ -");
            }
            if let Err(why) = house.check_account(user, text(params, "secret")?) {
                return refused(Code::NotAllowed, why);
            }
            return Ok(json!({ "session": self.login(now, user)? }));
        }
        let token = session(params)?;
        self.account_of(now, token)?;
        match name {
            "choose" => {
                let content = needed(params, "content")?;
                if !house.has_channel(content) {
                    return refused(Code::NoSuchChannel, format!("no channel {content:?}"));
                }
                self.choose(now, token, content)?;
                let users = self.users_of(content, |_| true).into_iter().map(User::row);
                let mut tables = answer(content, "users", users);
                if let Some(packets) = self.packet_table(content).get_mut("packets") {
                    tables["packets"] = packets.take();
                }
                Ok(tables)
            }
            "contract" | "join" => {
                let content = self.content_of(now, token)?;
                let id = self.contract_in(now, token, &ask(name, params, &content, house)?)?;
                Ok(self.described(&id))
            }
            "set_status" => {
                let id = self.user_in(now, token)?;
                let status = needed(params, "status")?;
                let Some(status) = Status::from_name(status) else {
                    return refused(
                        Code::NotAllowed,
                        "status: need c, c-c, c-p, c-c,p, p or p-p; a peer serves no clients",
                    );
                };
                self.set_status(&id, status)?;
                Ok(self.described(&id))
            }
            _ => {
                let id = self.user_in(now, token)?;
                self.leave(&id);
                Ok(json!({ "id": &*id }))
            }
        }
    }

    /// What a user is told about himself.
    pub fn described(&self, id: &str) -> Value {
        let Some(user) = self.users.get(id) else {
            return Value::Null;
        };
        let mut value = json!({
            "id": &*user.id,
            "status": user.status.name(),
            "parent": user.seller.name(),
        });
        if let Some(contract) = user.contract.and_then(|no| self.contract(no)) {
            value["contract"] = contract.to_value();
        }
        value
    }
}

/// What `contract` and `join` ask for; account and content are the session's.
fn ask<'a>(
    name: &str,
    params: &'a Params,
    content: &'a Arc<str>,
    house: &dyn House,
) -> Result<Ask<'a>, Refused> {
    let pays = name == "contract";
    let terms = match (text(params, "packet")?, text(params, "interval")?) {
        (Some(packet), None) => Some(Terms::Packet(packet)),
        (None, Some(interval)) => Some(Terms::Interval(interval)),
        (None, None) => None,
        (Some(_), Some(_)) => {
            return refused(Code::BadRequest, "packet, interval: one of them");
        }
    };
    if terms.is_some() && !pays {
        return refused(
            Code::BadRequest,
            "packet, interval: who buys sends contract",
        );
    }
    let request = needed(params, "request_id")?;
    if request.len() > REQUEST_CHARS_MAX {
        return refused(Code::BadRequest, "request_id: at most 64 characters");
    }
    let price = match text(params, "price")? {
        Some(price) => match price.parse::<Money>() {
            Ok(price) => Some(price),
            Err(error) => return refused(Code::BadRequest, format!("price: {error}")),
        },
        None => None,
    };
    let unit = match text(params, "unit")? {
        Some(unit) => match Unit::from_name(unit) {
            Some(unit) => Some(unit),
            None => return refused(Code::BadRequest, "unit: need minute, hour or content"),
        },
        None => None,
    };
    Ok(Ask {
        account: "",
        content,
        terms,
        seller: text(params, if pays { "seller" } else { "parent" })?,
        pays,
        price,
        unit,
        status: None,
        request,
        qos: Qos::default(),
        has_room: house.has_room(content),
    })
}

/// Limits that rows are held to; what is not given holds.
struct Wanted {
    bandwidth: Option<f64>,
    latency: Option<f64>,
    jitter: Option<f64>,
}

impl Wanted {
    fn fits(&self, qos: &Qos) -> bool {
        let at_least = |limit: Option<f64>, value: Option<f64>| {
            limit.is_none_or(|limit| value.is_some_and(|value| value >= limit))
        };
        let at_most = |limit: Option<f64>, value: Option<f64>| {
            limit.is_none_or(|limit| value.is_some_and(|value| value <= limit))
        };
        at_least(self.bandwidth, qos.bw_mbps)
            && at_most(self.latency, qos.lat_ms)
            && at_most(self.jitter, qos.jit_ms)
    }
}

fn wanted(params: &Params) -> Result<Wanted, Refused> {
    Ok(Wanted {
        bandwidth: number(params, "bandwidth")?,
        latency: number(params, "latency")?,
        jitter: number(params, "jitter")?,
    })
}

fn qos_fields(params: &Params) -> Result<Vec<&'static str>, Refused> {
    let named: Vec<&str> = match params.get("fields") {
        Some(Value::Array(fields)) => fields.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(fields)) => fields.split(',').collect(),
        None => vec!["bw", "lat", "jit"],
        Some(_) => return refused(Code::BadRequest, "fields: need bw, lat, jit"),
    };
    named
        .into_iter()
        .map(|name| match name {
            "bw" | "bandwidth" => Ok("bw_mbps"),
            "lat" | "latency" => Ok("lat_ms"),
            "jit" | "jitter" => Ok("jit_ms"),
            _ => refused(Code::BadRequest, "fields: need bw, lat, jit"),
        })
        .collect()
}

/// Some members of a row, and its identifier.
fn only(user: &User, names: &[&str]) -> Value {
    let mut row = json!({ "id": &*user.id });
    let full = user.row();
    for name in names {
        if let Some(value) = full.get(*name) {
            row[*name] = value.clone();
        }
    }
    row
}

fn bounds(bounds: &Bounds) -> Value {
    json!({ "bw_mbps": bounds.bw_mbps, "lat_ms": bounds.lat_ms, "jit_ms": bounds.jit_ms })
}

fn answer(content: &str, name: &str, rows: impl Iterator<Item = Value>) -> Value {
    json!({ "content": content, name: rows.collect::<Vec<_>>() })
}

/// A text parameter; an empty one counts as absent.
fn text<'a>(params: &'a Params, name: &str) -> Result<Option<&'a str>, Refused> {
    match params.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => refused(Code::BadRequest, format!("{name}: need a string")),
    }
}

fn needed<'a>(params: &'a Params, name: &str) -> Result<&'a str, Refused> {
    match text(params, name)? {
        Some(text) => Ok(text),
        None => refused(Code::BadRequest, format!("{name}: missing")),
    }
}

fn session(params: &Params) -> Result<&str, Refused> {
    match text(params, "session")? {
        Some(session) => Ok(session),
        None => refused(Code::NotLoggedIn, "session: log in first"),
    }
}

/// A number, also written as a string: an address has nothing else.
fn number(params: &Params, name: &str) -> Result<Option<f64>, Refused> {
    let number = match params.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    match number.filter(|number: &f64| number.is_finite()) {
        Some(number) => Ok(Some(number)),
        None => refused(Code::BadRequest, format!("{name}: need a number")),
    }
}
