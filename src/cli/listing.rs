//! What a tracker has to offer, before anybody joins: `p2ps-peer --list` and `p2ps-peer --dry-run`.
//!
//! Words and tables on a terminal, JSON lines in a pipe.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::api::{Fetch, ask};
use super::common::{ChannelKey, Join};
use super::exit::{CliError, Exit};
use super::table::{Column, render};
use super::value::{TrackerUrl, printable};
use super::{certificate, print};
use crate::io::http;

/// Whose channels to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Trackers to ask, all of them.
    pub trackers: Vec<TrackerUrl>,
    /// Authorities to trust beside the usual ones.
    pub tls_ca: Option<PathBuf>,
}

/// A channel, as a tracker lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Channel {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(default)]
    peers: u64,
    #[serde(default)]
    swarm_id: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// What a newcomer would get.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Offer {
    content: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    depth: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    price: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    parents: Vec<Parent>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Whom it would be sent to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Parent {
    peer: String,
    addr: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    depth: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slots_free: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl List {
    /// Prints the channels of all trackers that answer.
    pub(super) fn run(self) -> Result<Exit, CliError> {
        certificate::trust(self.tls_ca.as_deref())?;
        let terminal = io::stdout().is_terminal();
        print(list(&self.trackers, terminal, &mut http::fetch)?.as_bytes())
    }
}

/// Prints what each of these channels would offer a newcomer; nothing of those that no tracker is asked for.
pub(super) fn offers(joins: &[Join]) -> Result<Exit, CliError> {
    let terminal = io::stdout().is_terminal();
    let mut text = String::new();
    for join in joins {
        text += &offer(join, terminal, &mut http::fetch)?;
    }
    print(text.as_bytes())
}

fn json_line(row: &impl Serialize) -> String {
    serde_json::to_string(row).expect("string keys and finite numbers, as they were read") + "\n"
}

fn read<T: for<'a> Deserialize<'a>>(body: &str) -> Result<T, String> {
    serde_json::from_str(body).map_err(|error| error.to_string())
}

/// The URL of a document at a tracker.
fn at(tracker: &TrackerUrl, path: &str) -> String {
    format!("{}{path}", tracker.to_url().trim_end_matches('/'))
}

fn list(
    trackers: &[TrackerUrl],
    terminal: bool,
    fetch: &mut Fetch<'_>,
) -> Result<String, CliError> {
    #[derive(Deserialize)]
    struct Channels {
        channels: Vec<Channel>,
    }
    let mut channels: Vec<Channel> = Vec::new();
    let mut known = BTreeSet::new();
    let mut failure = None;
    let mut is_answered = false;
    for tracker in trackers {
        let urls = [at(tracker, "/v1/channels")];
        match ask(&urls, None, None, fetch, read::<Channels>) {
            Ok(found) => {
                is_answered = true;
                let found = found.channels.into_iter();
                channels.extend(found.filter(|channel| {
                    known.insert((channel.name.clone(), channel.swarm_id.clone()))
                }));
            }
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    // One that answers is enough.
    if let Some(failure) = failure.filter(|_| !is_answered) {
        return Err(failure);
    }
    if !terminal {
        return Ok(channels.iter().map(json_line).collect());
    }
    let column = |get: fn(&Channel) -> String| channels.iter().map(get).collect();
    Ok(render(&[
        Column::text("CHANNEL", column(|channel| printable(&channel.name))),
        Column::number("PEERS", column(|channel| channel.peers.to_string())),
        Column::text(
            "TITLE",
            column(|channel| channel.title.as_deref().map(printable).unwrap_or_default()),
        ),
    ]))
}

fn offer(join: &Join, terminal: bool, fetch: &mut Fetch<'_>) -> Result<String, CliError> {
    let ChannelKey::Name(name) = &join.channel else {
        return Ok(String::new());
    };
    let mut path = format!("/v1/offer?content={name}");
    let deal = &join.deal;
    // Names and statuses need no escaping.
    for (member, value) in [
        ("packet", &deal.packet),
        ("interval", &deal.interval),
        ("seller", &deal.seller),
        ("status", &deal.status),
    ] {
        if let Some(value) = value {
            let _ = write!(path, "&{member}={value}");
        }
    }
    let urls: Vec<String> = join
        .trackers
        .iter()
        .map(|tracker| at(tracker, &path))
        .collect();
    if urls.is_empty() {
        return Ok(String::new());
    }
    let mut offer: Offer = ask(&urls, None, Some(name.as_str()), fetch, read)?;
    if let Some(why) = offer.refused {
        let what = format!("refused on channel {name}");
        return Err(CliError::new(Exit::Refused, what, why));
    }
    offer.status = offer.status.or_else(|| deal.status.clone());
    Ok(if terminal {
        words(&offer)
    } else {
        json_line(&offer)
    })
}

/// An offer for people.
fn words(offer: &Offer) -> String {
    let mut text = printable(&offer.content);
    match (offer.parents.is_empty(), offer.depth) {
        (true, _) => text += ": nobody has a place now\n",
        (false, Some(depth)) => {
            let _ = writeln!(
                text,
                ": level {depth}, from the first of these that has room"
            );
        }
        (false, None) => text += ": from the first of these that has room\n",
    }
    for parent in &offer.parents {
        let role = parent
            .role
            .as_deref()
            .map_or_else(|| "peer".into(), printable);
        let _ = write!(
            text,
            "  {role} {} at {}",
            printable(&parent.peer),
            printable(&parent.addr)
        );
        if let Some(depth) = parent.depth {
            let _ = write!(text, ", level {depth}");
        }
        match parent.slots_free {
            Some(1) => text += ", 1 place free",
            Some(free) => {
                let _ = write!(text, ", {free} places free");
            }
            None => {}
        }
        text.push('\n');
    }
    if let Some(price) = &offer.price {
        let _ = writeln!(text, "  price {}", price_words(price));
    }
    if let Some(status) = &offer.status {
        let _ = writeln!(text, "  status {}", printable(status));
    }
    text
}

/// `0.30 EUR/hour, silver, from provider`.
fn price_words(price: &Value) -> String {
    let member = |name: &str| price[name].as_str().map(printable);
    let Some(mut words) = member("price") else {
        return printable(&price.to_string());
    };
    if let Some(currency) = member("currency") {
        words += &format!(" {currency}");
    }
    if let Some(unit) = member("unit") {
        words += &format!("/{unit}");
    }
    if let Some(terms) = member("terms") {
        words += &format!(", {terms}");
    }
    if let Some(seller) = member("seller") {
        words += &format!(", from {seller}");
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::io::http::{Answer, HttpError};

    fn trackers(list: &[&str]) -> Vec<TrackerUrl> {
        let parse = |text: &&str| text.parse().expect("a tracker");
        list.iter().map(parse).collect()
    }

    fn says(status: u16, body: Value) -> Result<Answer, HttpError> {
        let body = body.to_string();
        Ok(Answer { status, body })
    }

    fn channels() -> Value {
        json!({"channels": [
            {"name": "film", "swarm_id": "0f", "title": "A \u{1b}[31mfilm", "peers": 12},
            {"name": "news", "swarm_id": "1f", "peers": 3},
        ]})
    }

    #[test]
    fn channels_are_a_table_or_lines() {
        let mut asked = Vec::new();
        let table = list(&trackers(&["t", "https://u/p"]), true, &mut |url, _| {
            asked.push(url.to_owned());
            says(200, channels())
        });
        assert_eq!(
            table.as_deref(),
            Ok("CHANNEL  PEERS  TITLE\nfilm        12  A \\u{1b}[31mfilm\nnews         3\n")
        );
        assert_eq!(
            asked,
            ["http://t:7851/v1/channels", "https://u:443/p/v1/channels"]
        );
        let lines = list(&trackers(&["t"]), false, &mut |_, _| says(200, channels()));
        let lines = lines.expect("an answer");
        assert_eq!(
            lines.lines().nth(1),
            Some(r#"{"name":"news","peers":3,"swarm_id":"1f"}"#)
        );
        let none = list(&trackers(&["t"]), true, &mut |_, _| {
            says(200, json!({"channels": []}))
        });
        assert_eq!(none.as_deref(), Ok("CHANNEL  PEERS  TITLE\n(none)\n"));
    }

    #[test]
    fn one_tracker_that_answers_is_enough() {
        let mut answers = vec![says(200, channels()), Err(HttpError::Refused)];
        let lines = list(&trackers(&["a", "b"]), false, &mut |_, _| {
            answers.pop().expect("two questions")
        });
        assert_eq!(lines.expect("one answers").lines().count(), 2);
        let error = list(&trackers(&["a", "b"]), false, &mut |_, _| {
            Err(HttpError::Refused)
        });
        let error = error.expect_err("nobody answers");
        assert_eq!(
            (error.exit, error.to_string().as_str()),
            (
                Exit::Unreachable,
                "cannot reach the tracker: a:7851 (connection refused)"
            )
        );
    }

    fn join(line: &str) -> Join {
        use crate::cli::peer::{Args, Job};
        let line = format!("p2ps-peer {line}");
        let arguments: Vec<_> = line.split(' ').map(Into::into).collect();
        let job = crate::cli::check::<Args>(&arguments, &|_| None);
        match job {
            Ok(Some(Job::Play(settings))) => settings.join,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_offer_names_parents_depth_price_and_status() {
        let body = json!({"content": "film", "depth": 3, "status": "c-c",
        "price": {"price": "0.30", "currency": "EUR", "unit": "hour", "terms": "silver", "seller": "C9"},
        "parents": [
            {"peer": "aa", "addr": "192.0.2.1:7850", "depth": 2, "slots_free": 1, "role": "relay"},
            {"peer": "bb", "addr": "192.0.2.2:7850"},
        ]});
        let mut asked = String::new();
        let text = offer(&join("p2ps://t/film"), true, &mut |url, _| {
            asked = url.to_owned();
            says(200, body.clone())
        });
        assert_eq!(asked, "http://t:7851/v1/offer?content=film");
        assert_eq!(
            text.as_deref(),
            Ok("film: level 3, from the first of these that has room\n  \
                relay aa at 192.0.2.1:7850, level 2, 1 place free\n  \
                peer bb at 192.0.2.2:7850\n  \
                price 0.30 EUR/hour, silver, from C9\n  status c-c\n")
        );
        let line = offer(&join("p2ps://t/film"), false, &mut |_, _| {
            says(200, body.clone())
        });
        let line = line.expect("an answer");
        assert_eq!(line.lines().count(), 1);
        assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON"), body);
        let empty = json!({"content": "film", "parents": []});
        let text = offer(&join("p2ps://t/film"), true, &mut |_, _| {
            says(200, empty.clone())
        });
        assert_eq!(text.as_deref(), Ok("film: nobody has a place now\n"));
    }

    #[test]
    fn an_offer_is_for_what_is_wanted_of_a_provider() {
        let mut asked = String::new();
        let body = json!({"content": "film", "parents": []});
        let wanted = join("p2ps://t/film --packet silver --serve clients,peers");
        let line = offer(&wanted, false, &mut |url, _| {
            asked = url.to_owned();
            says(200, body.clone())
        });
        assert_eq!(
            asked,
            "http://t:7851/v1/offer?content=film&packet=silver&status=c-c,p"
        );
        let line = line.expect("an answer");
        assert_eq!(
            line,
            "{\"content\":\"film\",\"status\":\"c-c,p\",\"parents\":[]}\n"
        );
    }

    #[test]
    fn a_dry_run_ends_as_the_run_would() {
        for (answer, expected) in [
            (
                says(404, json!({"error": "no such channel"})),
                Exit::NoChannel,
            ),
            (Err(HttpError::Refused), Exit::Unreachable),
            (says(403, json!({"error": "not for you"})), Exit::Refused),
            (
                says(
                    200,
                    json!({"content": "film", "parents": [], "refused": "nobody sells gold"}),
                ),
                Exit::Refused,
            ),
        ] {
            let failed = offer(&join("p2ps://t/film"), false, &mut |_, _| answer.clone());
            assert_eq!(failed.expect_err("no offer").exit, expected);
        }
    }
}
