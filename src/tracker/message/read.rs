//! Reads requests and responses in every form seen: the schema of RFC 7846, the examples beside it, the field.
//!
//! A member that is optional and unreadable counts as absent; one that is needed and unreadable makes the message
//! malformed. Unknown members are passed over everywhere (RFC 7846 §3.2.6).

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use data_encoding::BASE64;
use serde_json::{Map, Value};

use super::{
    Action, AddressKind, Body, ChannelInfo, Connect, Deal, Decimal, ErrorCode, Feed, Find, Grant,
    Parent, PeerAddr, PeerInfo, PeerMode, PeerNum, Redirect, Reject, RejectCode, Rental, Request,
    RequestError, RequestExt, Response, ResponseExt, Role, SUBSTREAMS_MAX, Stat, SwarmAction,
    SwarmResult, TITLE_BYTES_MAX, VERSION, access, is_channel_name,
};
use crate::tracker::json::{
    self, ADDRESSES_MAX, BODY_BYTES_MAX, IDENTIFIER_BYTES_MAX, RESPONSE_BYTES_MAX,
};
use crate::tracker::provider::tariff::Unit;

/// The one member of the envelope.
const ENVELOPE: &str = "PPSPTrackerProtocol";

/// A member that is needed, and what is wrong with it.
type Needed<T> = Result<T, String>;

pub(super) fn request(body: &[u8]) -> Result<Request, RequestError> {
    let reading = json::read(body, BODY_BYTES_MAX).map_err(RequestError::NotJson)?;
    let protocol = reading.value.get(ENVELOPE).and_then(Value::as_object);
    let transaction = protocol.map(|protocol| identifier(protocol, "transaction_id"));
    let malformed = |code, why| RequestError::Malformed {
        transaction_id: transaction.clone().and_then(Result::ok).unwrap_or_default(),
        code,
        why,
    };
    let bad = |why| malformed(RejectCode::BadRequest, why);

    if let Some(violation) = reading.violation {
        return Err(bad(violation));
    }
    let Some(protocol) = protocol else {
        return Err(bad(format!("{ENVELOPE}: missing or no object")));
    };
    match protocol.get("version").and_then(integer) {
        Some(VERSION) => {}
        Some(version) => {
            return Err(malformed(
                RejectCode::Version,
                format!("version: {version}, this tracker speaks {VERSION}"),
            ));
        }
        None => return Err(bad("version: missing or no number".to_owned())),
    }
    let transaction_id = identifier(protocol, "transaction_id").map_err(bad)?;
    let peer_id = identifier(protocol, "peer_id").map_err(bad)?;
    let body = match protocol.get("request_type").and_then(Value::as_str) {
        Some("CONNECT") => connect(protocol).map(Body::Connect),
        Some("FIND") => find(protocol).map(Body::Find),
        Some("STAT_REPORT") => stat_report(protocol).map(Body::StatReport),
        _ => Err("request_type: need CONNECT, FIND or STAT_REPORT".to_owned()),
    }
    .map_err(bad)?;
    let ext = match protocol.get("x_ext").and_then(Value::as_object) {
        Some(ext) => Some(request_ext(ext).map_err(bad)?),
        None => None,
    };
    Ok(Request {
        transaction_id,
        peer_id,
        body,
        ext,
    })
}

pub(super) fn response(body: &[u8]) -> Needed<Response> {
    let reading = json::read(body, RESPONSE_BYTES_MAX)?;
    if let Some(violation) = reading.violation {
        return Err(violation);
    }
    let Some(protocol) = reading.value.get(ENVELOPE).and_then(Value::as_object) else {
        // What a server says that did not even come to read the request.
        return Err(match reading.value.get("error").and_then(Value::as_str) {
            Some(error) => error.escape_debug().collect(),
            None => format!("{ENVELOPE}: missing or no object"),
        });
    };
    match protocol.get("version").and_then(integer) {
        Some(VERSION) | None => {}
        Some(version) => return Err(format!("version: {version}, need {VERSION}")),
    }
    let error_code = protocol
        .get("error_code")
        .and_then(integer)
        .and_then(ErrorCode::from_code)
        .ok_or("error_code: missing or not 0 to 6")?;
    if protocol.get("response_type").and_then(integer) == Some(1) && error_code == ErrorCode::None {
        return Err("response_type: failed, without an error code".to_owned());
    }
    Ok(Response {
        transaction_id: protocol
            .get("transaction_id")
            .and_then(text)
            .unwrap_or_default(),
        error_code,
        peer_addr: protocol.get("peer_addr").and_then(peer_addr),
        swarm_result: list(protocol.get("swarm_result"))
            .iter()
            .filter_map(swarm_result)
            .collect(),
        report_interval_s: protocol.get("x_p2ps_report_interval").and_then(integer),
        // One that cannot be read is none: the answer counts all the same.
        certificate: bytes_of(protocol, "x_p2ps_cert").ok().flatten(),
        ext: protocol
            .get("x_ext")
            .and_then(Value::as_object)
            .map(response_ext),
    })
}

/// A whole number, also written as a string (RFC 7846 §4.1.1, example).
pub(super) fn integer(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

fn small(value: &Value) -> Option<u16> {
    integer(value).and_then(|number| u16::try_from(number).ok())
}

/// A string, also written as a number.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => number.as_u64().map(|number| number.to_string()),
        _ => None,
    }
}

/// Printable ASCII without spaces: what may be echoed into a log line or onto a terminal.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// An array, or the one object that should have been in it.
pub(super) fn list(value: Option<&Value>) -> &[Value] {
    match value {
        Some(Value::Array(array)) => array,
        Some(object @ Value::Object(_)) => std::slice::from_ref(object),
        _ => &[],
    }
}

fn identifier(object: &Map<String, Value>, name: &str) -> Needed<String> {
    let value = object
        .get(name)
        .and_then(text)
        .ok_or_else(|| format!("{name}: missing or no string"))?;
    if value.is_empty() || value.len() > IDENTIFIER_BYTES_MAX || !is_plain(&value) {
        return Err(format!(
            "{name}: need 1 to {IDENTIFIER_BYTES_MAX} printable characters"
        ));
    }
    Ok(value)
}

fn swarm_id(object: &Map<String, Value>) -> Needed<String> {
    let value = object
        .get("swarm_id")
        .and_then(text)
        .ok_or("swarm_id: missing or no string")?;
    if !is_plain(&value) {
        return Err("swarm_id: need printable characters".to_owned());
    }
    Ok(value)
}

/// The member of the inner object, or the same one directly under the envelope, where the RFC's examples put it.
fn member<'a>(protocol: &'a Map<String, Value>, inner: &str, name: &str) -> Option<&'a Value> {
    protocol
        .get(inner)
        .and_then(|object| object.get(name))
        .or_else(|| protocol.get(name))
}

fn peer_num(protocol: &Map<String, Value>, inner: &str) -> Option<PeerNum> {
    // The prose of RFC 7846 §3.2.3 once says peer_number.
    let value =
        member(protocol, inner, "peer_num").or_else(|| member(protocol, inner, "peer_number"))?;
    let word = |name: &str| {
        value
            .get(name)
            .and_then(Value::as_str)
            .filter(|word| is_plain(word))
            .map(str::to_owned)
    };
    let number = |name: &str| value.get(name).and_then(integer);
    Some(PeerNum {
        peer_count: number("peer_count").or_else(|| integer(value))?,
        ability_nat: word("ability_nat"),
        concurrent_links: number("concurrent_links"),
        online_time: number("online_time"),
        upload_bandwidth: number("upload_bandwidth"),
    })
}

fn connect(protocol: &Map<String, Value>) -> Needed<Connect> {
    let swarm_action = list(member(protocol, "connect", "swarm_action"))
        .iter()
        .map(|value| {
            let object = value.as_object().ok_or("swarm_action: no object")?;
            Ok(SwarmAction {
                swarm_id: swarm_id(object)?,
                action: match object.get("action").and_then(Value::as_str) {
                    Some("JOIN") => Action::Join,
                    Some("LEAVE") => Action::Leave,
                    _ => Action::Unknown,
                },
                peer_mode: match object.get("peer_mode").and_then(Value::as_str) {
                    Some("SEEDER" | "SEED") => PeerMode::Seeder,
                    _ => PeerMode::Leech,
                },
            })
        })
        .collect::<Needed<Vec<_>>>()?;
    if swarm_action.is_empty() {
        return Err("swarm_action: missing or empty".to_owned());
    }
    Ok(Connect {
        peer_num: peer_num(protocol, "connect"),
        peer_addr: list(member(protocol, "connect", "peer_addr"))
            .iter()
            .take(ADDRESSES_MAX)
            .filter_map(peer_addr)
            .collect(),
        swarm_action,
    })
}

fn find(protocol: &Map<String, Value>) -> Needed<Find> {
    let swarm = match protocol.get("find").and_then(Value::as_object) {
        Some(find) if find.contains_key("swarm_id") => find,
        _ => protocol,
    };
    Ok(Find {
        swarm_id: swarm_id(swarm)?,
        peer_num: peer_num(protocol, "find"),
    })
}

fn stat_report(protocol: &Map<String, Value>) -> Needed<Vec<Stat>> {
    let stat =
        member(protocol, "stat_report", "stat").or_else(|| member(protocol, "stat_report", "Stat"));
    list(stat)
        .iter()
        .map(|value| {
            let object = value.as_object().ok_or("stat: no object")?;
            let number = |name: &str| object.get(name).and_then(integer).unwrap_or(0);
            Ok(Stat {
                swarm_id: swarm_id(object)?,
                uploaded_bytes: number("uploaded_bytes"),
                downloaded_bytes: number("downloaded_bytes"),
                available_bandwidth: number("available_bandwidth"),
                concurrent_links: number("concurrent_links"),
            })
        })
        .collect()
}

/// An address; none when it is not written as one, since a claimed address is a hint at most.
fn peer_addr(value: &Value) -> Option<PeerAddr> {
    let object = value.as_object()?;
    let address = match object.get("ip_address")? {
        Value::Object(ip) => ip.get("address")?.as_str()?,
        Value::String(address) => address,
        _ => return None,
    };
    Some(PeerAddr {
        ip: address.parse::<IpAddr>().ok()?.to_canonical(),
        port: small(object.get("port")?)?,
        priority: object.get("priority").and_then(integer).unwrap_or(0),
        kind: match object.get("type").and_then(Value::as_str) {
            Some("REFLEXIVE") => AddressKind::Reflexive,
            Some("PROXY") => AddressKind::Proxy,
            _ => AddressKind::Host,
        },
        peer_protocol: object
            .get("peer_protocol")
            .and_then(Value::as_str)
            .filter(|protocol| protocol.len() <= 32 && is_plain(protocol))
            .map(str::to_owned),
    })
}

fn role(value: &Value) -> Option<Role> {
    match value.as_str()? {
        "source" => Some(Role::Source),
        "relay" => Some(Role::Relay),
        "peer" => Some(Role::Peer),
        _ => None,
    }
}

fn title(object: &Map<String, Value>) -> Needed<Option<String>> {
    let Some(title) = object.get("title").and_then(Value::as_str) else {
        return Ok(None);
    };
    if title.len() > TITLE_BYTES_MAX {
        return Err(format!(
            "title: {} bytes, limit {TITLE_BYTES_MAX}",
            title.len()
        ));
    }
    if title.chars().any(char::is_control) {
        return Err("title: control characters".to_owned());
    }
    Ok(Some(title.to_owned()))
}

/// Bytes in base64.
pub(super) fn bytes_of(object: &Map<String, Value>, member: &str) -> Needed<Option<Bytes>> {
    object
        .get(member)
        .and_then(Value::as_str)
        .map(|text| {
            BASE64
                .decode(text.as_bytes())
                .map(Bytes::from)
                .map_err(|_| format!("{member}: not base64"))
        })
        .transpose()
}

fn request_ext(object: &Map<String, Value>) -> Needed<RequestExt> {
    let channel = match object.get("channel").and_then(Value::as_str) {
        Some(name) if is_channel_name(name) => Some(name.to_owned()),
        Some(_) => return Err("channel: need 1 to 64 of A-Z a-z 0-9 . _ -".to_owned()),
        None => None,
    };
    let number = |name: &str| object.get(name).and_then(integer);
    Ok(RequestExt {
        v: number("v").unwrap_or(super::EXT_VERSION),
        role: object.get("role").and_then(role),
        channel,
        title: title(object)?,
        description: bytes_of(object, "description")?,
        port: object.get("port").and_then(small),
        certify: object.get("certify").and_then(Value::as_bool) == Some(true),
        uplink_kbps: number("uplink_kbps"),
        slots_free: object.get("slots_free").and_then(small),
        depth: object.get("depth").and_then(small),
        parent: object
            .contains_key("parent")
            .then(|| identifier(object, "parent"))
            .transpose()?,
        parents: list(object.get("parents"))
            .iter()
            .filter_map(feed)
            .take(usize::from(SUBSTREAMS_MAX))
            .collect(),
        kbps: number("kbps"),
        latency_us: number("latency_us"),
        jitter_us: number("jitter_us"),
        sent_kbps: number("sent_kbps"),
        cluster: cluster(object),
        capacity_kbps: number("capacity_kbps"),
        loss: object.get("loss").and_then(Decimal::from_value),
        buffer_s: object.get("buffer_s").and_then(Decimal::from_value),
        deal: deal(object)?,
        access: access::request(object)?,
    })
}

fn deal(object: &Map<String, Value>) -> Needed<Deal> {
    let name = |member: &str| match object.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if is_channel_name(name) => Ok(Some(name.clone())),
        Some(_) => Err(format!("{member}: need 1 to 64 of A-Z a-z 0-9 . _ -")),
    };
    Ok(Deal {
        user: name("user")?,
        session: name("session")?,
        packet: name("packet")?,
        interval: name("interval")?,
        seller: name("seller")?,
        status: match object.get("status") {
            None | Some(Value::Null) => None,
            // Whether there is such a status is the provider's affair; none is longer.
            Some(Value::String(status)) if status.len() <= 8 && is_plain(status) => {
                Some(status.clone())
            }
            Some(_) => return Err("status: need c, c-c, c-p, c-c,p, p or p-p".to_owned()),
        },
        offer: object.get("offer").map(rental).transpose()?,
    })
}

fn rental(value: &Value) -> Needed<Rental> {
    let text = |member: &str| value.get(member).and_then(Value::as_str);
    let read = || {
        Some(Rental {
            kbps: value
                .get("kbps")
                .and_then(integer)
                .filter(|kbps| *kbps > 0)?,
            price: text("price")?.parse().ok()?,
            unit: Unit::from_name(text("unit")?)?,
        })
    };
    read().ok_or_else(|| "offer: need kbps, price and unit".to_owned())
}

fn swarm_result(value: &Value) -> Option<SwarmResult> {
    let object = value.as_object()?;
    Some(SwarmResult {
        swarm_id: swarm_id(object).ok()?,
        is_ok: object.get("result").and_then(integer) == Some(0),
        peer_group: object.get("peer_group").map(|group| {
            list(group.get("peer_info"))
                .iter()
                .filter_map(|value| {
                    Some(PeerInfo {
                        peer_id: identifier(value.as_object()?, "peer_id").ok()?,
                        peer_addr: peer_addr(value.get("peer_addr")?)?,
                    })
                })
                .collect()
        }),
    })
}

fn response_ext(object: &Map<String, Value>) -> ResponseExt {
    ResponseExt {
        parents: list(object.get("parents"))
            .iter()
            .filter_map(parent)
            .collect(),
        channel: object
            .get("channel")
            .and_then(Value::as_object)
            .and_then(channel_info),
        grant: grant(object),
        reject: object
            .get("reject")
            .and_then(Value::as_object)
            .and_then(reject),
        redirect: object
            .get("redirect")
            .and_then(Value::as_object)
            .and_then(redirect),
        move_to: object.get("move_to").and_then(parent),
        cluster: cluster(object),
        access: access::response(object),
    }
}

fn grant(object: &Map<String, Value>) -> Option<Grant> {
    let word = |member: &str| {
        let word = object.get(member)?.as_str()?;
        (word.len() <= IDENTIFIER_BYTES_MAX && is_plain(word)).then(|| word.to_owned())
    };
    Some(Grant {
        id: word("id")?,
        status: word("status")?,
        parent: word("parent")?,
        contract: object
            .get("contract")
            .filter(|value| value.is_object())
            .cloned(),
    })
}

/// A cluster's name, which has the form of a channel's; any other counts as absent.
fn cluster(object: &Map<String, Value>) -> Option<String> {
    let name = object.get("cluster")?.as_str()?;
    is_channel_name(name).then(|| name.to_owned())
}

fn redirect(object: &Map<String, Value>) -> Option<Redirect> {
    let reason = object.get("reason").and_then(Value::as_str);
    Some(Redirect {
        cluster: cluster(object)?,
        server: identifier(object, "server").ok()?,
        reason: reason.unwrap_or_default().escape_debug().collect(),
    })
}

/// Substreams, at least one.
fn mask(value: &Value) -> Option<u32> {
    let mask = u32::try_from(integer(value)?).ok()?;
    (mask != 0 && mask >> SUBSTREAMS_MAX == 0).then_some(mask)
}

fn feed(value: &Value) -> Option<Feed> {
    let object = value.as_object()?;
    Some(Feed {
        peer: identifier(object, "peer").ok()?,
        mask: object.get("mask").and_then(mask)?,
    })
}

fn parent(value: &Value) -> Option<Parent> {
    let object = value.as_object()?;
    let addr: SocketAddr = object.get("addr")?.as_str()?.parse().ok()?;
    Some(Parent {
        peer: identifier(object, "peer").ok()?,
        addr: SocketAddr::new(addr.ip().to_canonical(), addr.port()),
        mask: object.get("mask").and_then(mask),
        depth: object.get("depth").and_then(small),
        slots_free: object.get("slots_free").and_then(small),
        role: object.get("role").and_then(role),
    })
}

fn channel_info(object: &Map<String, Value>) -> Option<ChannelInfo> {
    Some(ChannelInfo {
        name: object
            .get("name")
            .and_then(Value::as_str)
            .filter(|name| is_channel_name(name))?
            .to_owned(),
        swarm_id: swarm_id(object).ok().filter(|swarm| !swarm.is_empty())?,
        title: title(object).ok()?,
        description: bytes_of(object, "description").ok()?,
    })
}

fn reject(object: &Map<String, Value>) -> Option<Reject> {
    let word = object.get("code")?.as_str()?;
    let code = RejectCode::ALL
        .into_iter()
        .find(|code| code.name() == word)
        .unwrap_or(RejectCode::Forbidden);
    Some(Reject {
        code,
        text: object
            .get("text")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .escape_debug()
            .collect(),
        retry_s: object.get("retry_s").and_then(integer).unwrap_or(0),
    })
}
