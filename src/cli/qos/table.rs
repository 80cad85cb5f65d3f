//! Answers as people see them: columns under a heading, numbers to the right.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::answer::{Answer, Interval, Packet, Quality, Sample, Status, User};
use crate::cli::table::{Column, render};
use crate::cli::value::printable;

/// A number as it is read aloud: at most four places behind the point, and none that are zero.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    match text.trim_end_matches('0').trim_end_matches('.') {
        "-0" => "0".to_owned(),
        text => text.to_owned(),
    }
}

fn optional(value: Option<f64>) -> String {
    value.map(number).unwrap_or_default()
}

/// The table of an answer, one line a row, with a heading; a word where there is no row.
pub(super) fn table(answer: &Answer) -> String {
    let columns = match answer {
        Answer::Users(users) => users_columns(users),
        Answer::Packets { currency, packets } => packets_columns(currency, packets),
        Answer::Intervals {
            currency,
            intervals,
        } => intervals_columns(currency, intervals),
        Answer::Status(status) => status_columns(status),
        Answer::History(samples) => samples_columns(samples),
        Answer::Rows(rows) => rows_columns(rows),
    };
    render(&columns)
}

/// The columns of quality, those of which somebody has a value.
fn quality_columns(rows: &[Quality]) -> impl Iterator<Item = Column> {
    type Get = fn(&Quality) -> Option<f64>;
    let columns: [(&str, Get); 3] = [
        ("BW Mbit/s", |row| row.bw_mbps),
        ("LATENCY ms", |row| row.lat_ms),
        ("JITTER", |row| row.jit_ms),
    ];
    columns
        .map(|(heading, get)| {
            let cells = rows.iter().map(|row| optional(get(row)));
            Column::number(heading, cells.collect())
        })
        .into_iter()
        .filter(|column| !column.is_empty())
}

fn users_columns(users: &[User]) -> Vec<Column> {
    let texts = |heading, get: fn(&User) -> Option<&String>| {
        let cells = users
            .iter()
            .map(|user| get(user).map(|text| printable(text)).unwrap_or_default());
        Column::text(heading, cells.collect())
    };
    let quality: Vec<Quality> = users.iter().map(|user| user.quality).collect();
    let mut columns = vec![
        texts("ID", |user| Some(&user.id)),
        texts("STATUS", |user| user.status.as_ref()),
    ];
    columns.extend(quality_columns(&quality));
    let levels = users.iter().map(|user| {
        let level = user.level.map(|level| level.to_string());
        level.unwrap_or_default()
    });
    columns.extend([
        texts("PACKET", |user| user.packet.as_ref()),
        texts("INTERVAL", |user| user.interval.as_ref()),
        Column::number("LEVEL", levels.collect()),
        texts("PARENT", |user| user.parent.as_ref()),
    ]);
    columns.retain(|column| column.heading == "ID" || !column.is_empty());
    columns
}

/// `0.60 EUR/hour`.
fn price(price: &str, currency: &str, unit: &str) -> String {
    let price = match currency {
        "" => price.to_owned(),
        currency => format!("{price} {currency}"),
    };
    match unit {
        "" => printable(&price),
        unit => printable(&format!("{price}/{unit}")),
    }
}

/// One column a packet, as the paper prints it: price, bounds, then who has it.
fn packets_columns(currency: &str, packets: &[Packet]) -> Vec<Column> {
    let column = |packet: &Packet| {
        let bound = |sign: &str, value: Option<f64>, unit: &str| {
            value.map_or_else(
                || "any".to_owned(),
                |value| format!("{sign} {}{unit}", number(value)),
            )
        };
        let mut cells = vec![
            price(&packet.price, currency, &packet.unit),
            bound(">=", packet.bounds.bw_mbps, " Mbit/s"),
            bound("<=", packet.bounds.lat_ms, " ms"),
            bound("<=", packet.bounds.jit_ms, " jitter"),
        ];
        cells.extend(packet.users.iter().map(|user| printable(user)));
        Column::text(printable(&packet.name).to_uppercase(), cells)
    };
    packets.iter().map(column).collect()
}

/// `C1 25, 20, 0.04`.
fn short(user: &User) -> String {
    let Quality {
        bw_mbps,
        lat_ms,
        jit_ms,
    } = user.quality;
    let values = [bw_mbps, lat_ms, jit_ms].map(|value| value.map_or_else(|| "-".into(), number));
    format!("{} {}", printable(&user.id), values.join(", "))
}

/// One column an interval: price, then whose bandwidth lies there.
fn intervals_columns(currency: &str, intervals: &[Interval]) -> Vec<Column> {
    let column = |interval: &Interval| {
        let mut cells = vec![price(&interval.price, currency, &interval.unit)];
        let with_status = |user: &User| match &user.status {
            Some(status) => format!("{} ({})", short(user), printable(status)),
            None => short(user),
        };
        cells.extend(interval.users.iter().map(with_status));
        let heading = format!("{} Mbit/s", printable(&interval.name));
        Column::text(heading, cells)
    };
    intervals.iter().map(column).collect()
}

fn status_columns(Status(columns): &Status) -> Vec<Column> {
    let column = |(name, users): &(String, Vec<User>)| {
        Column::text(printable(name), users.iter().map(short).collect())
    };
    columns.iter().map(column).collect()
}

fn samples_columns(samples: &[Sample]) -> Vec<Column> {
    let quality: Vec<Quality> = samples.iter().map(|sample| sample.quality).collect();
    let times = samples.iter().map(|sample| printable(&sample.ts));
    let ids = samples
        .iter()
        .map(|sample| sample.id.as_deref().map(printable).unwrap_or_default());
    let mut columns = vec![
        Column::text("TIME", times.collect()),
        Column::text("ID", ids.collect()),
    ];
    columns.extend(quality_columns(&quality));
    let more = |name: &'static str| samples.iter().map(move |sample| sample.more.get(name));
    let used = more("used_mbps").map(|used| optional(used.and_then(Value::as_f64)));
    let channels = more("channel").map(|name| name.and_then(Value::as_str).map(printable));
    columns.extend([
        Column::number("USED Mbit/s", used.collect()),
        Column::text("CHANNEL", channels.map(Option::unwrap_or_default).collect()),
    ]);
    columns.retain(|column| column.heading == "TIME" || !column.is_empty());
    columns
}

/// Every plain member of any row, the name first.
fn rows_columns(rows: &[Map<String, Value>]) -> Vec<Column> {
    let plain = |value: &Value| !value.is_object() && !value.is_array();
    let names: BTreeSet<&String> = rows
        .iter()
        .flat_map(|row| row.iter().filter(|(_, value)| plain(value)))
        .map(|(name, _)| name)
        .collect();
    let mut names: Vec<&String> = names.into_iter().collect();
    names.sort_by_key(|name| !matches!(name.as_str(), "name" | "id"));
    let column = |name: &String| {
        let values = rows.iter().map(|row| row.get(name).unwrap_or(&Value::Null));
        let cells = values.clone().map(|value| match value {
            Value::Null => String::new(),
            Value::Number(value) => value.as_f64().map(number).unwrap_or_default(),
            Value::String(text) => printable(text),
            Value::Bool(value) => if *value { "yes" } else { "no" }.to_owned(),
            Value::Array(_) | Value::Object(_) => "...".to_owned(),
        });
        let heading = printable(name).to_uppercase().replace('_', " ");
        Column {
            is_number: values.clone().any(Value::is_number),
            ..Column::text(heading, cells.collect())
        }
    };
    names.into_iter().map(column).collect()
}
