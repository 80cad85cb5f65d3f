//! Questions to the web side of trackers: the first that has an answer gives it, and what went wrong has its exit
//! status.

use serde_json::Value;

use super::exit::{CliError, Exit};
use crate::io::http::{Answer, HttpError};

/// Fetches a document; the second argument is a token for its server.
pub(super) type Fetch<'a> = dyn FnMut(&str, Option<&str>) -> Result<Answer, HttpError> + 'a;

/// The answer of the first of `urls` that has one, as `read` reads it; else what went wrong, the answers before the
/// silences. `content` is the channel that it is about.
pub(super) fn ask<T>(
    urls: &[String],
    token: Option<&str>,
    content: Option<&str>,
    fetch: &mut Fetch<'_>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, CliError> {
    let mut refused = None;
    let mut silent = Vec::new();
    for url in urls {
        let host = host_of(url);
        match fetch(url, token) {
            Ok(answer) if answer.status == 200 => match read(&answer.body) {
                Ok(answer) => return Ok(answer),
                Err(why) => {
                    let what = format!("bad answer of {host}");
                    refused.get_or_insert_with(|| CliError::new(Exit::Failed, what, why));
                }
            },
            Ok(answer) => {
                refused.get_or_insert_with(|| judge(content, host, &answer));
            }
            Err(error) => silent.push(format!("{host} ({error})")),
        }
    }
    Err(refused.unwrap_or_else(|| {
        let what = if urls.len() > 1 {
            "cannot reach any tracker"
        } else {
            "cannot reach the tracker"
        };
        CliError::new(Exit::Unreachable, what, silent.join(", "))
    }))
}

/// What an answer without rows says.
fn judge(content: Option<&str>, host: &str, answer: &Answer) -> CliError {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let text = body["error"].as_str();
    let said = text.map_or_else(|| format!("HTTP status {}", answer.status), str::to_owned);
    let is_channel = body["code"].as_str().map_or_else(
        || said.contains("channel"),
        |code| code == "no_such_channel",
    );
    match (answer.status, content) {
        (404, Some(content)) if is_channel => {
            let what = format!("no channel {content}");
            CliError::new(Exit::NoChannel, what, format!("{host} knows none"))
        }
        (400, _) => CliError::usage(format!("not understood by {host}"), said),
        (401..=403 | 409 | 429 | 503, _) => {
            CliError::new(Exit::Refused, format!("refused by {host}"), said)
        }
        _ => CliError::new(Exit::Failed, format!("no answer from {host}"), said),
    }
}

/// Host and port of a URL, as error lines name them.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or(rest)
}
