//! The conversation with a tracker: ask, judge the answer, print it, and with `--watch` again.

use std::io::{self, Write};
use std::time::Duration;

use super::answer::Answer;
use super::ask::Query;
use super::table::table;
use crate::cli::api::{self, Fetch};
use crate::cli::exit::CliError;
use crate::cli::secret::read_token_file;
use crate::cli::value::printable;

/// Begins at the top left of a terminal, leaving what stands there to be written over.
const HOME: &str = "\x1b[H";
/// Clears a terminal.
const CLEAR: &str = "\x1b[2J";
/// Clears the rest of a line.
const LINE_END: &str = "\x1b[K\n";
/// Clears everything below.
const BELOW: &str = "\x1b[J";

/// What the conversation needs of the world.
pub(super) struct World<'a> {
    /// Fetches a document; the second argument is a token for its server.
    pub(super) fetch: &'a mut Fetch<'a>,
    /// Waits until the next round; false ends the rounds.
    pub(super) pause: &'a mut dyn FnMut(Duration) -> bool,
}

/// Asks once, or with `--watch` until the reader has enough. The inner error ends the tool with its exit status.
pub(super) fn run(
    query: &Query,
    world: &mut World<'_>,
    terminal: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Result<(), CliError>> {
    let token = match query.token_file.as_deref().map(read_token_file).transpose() {
        Ok(token) => token,
        Err(error) => return Ok(Err(error)),
    };
    let is_table = query.format.is_table(terminal);
    let Some(span) = query.watch else {
        let answer = match ask(query, token.as_deref(), world.fetch) {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error)),
        };
        let text = if is_table {
            table(&answer)
        } else {
            answer.lines(None)
        };
        return out.write_all(text.as_bytes()).map(Ok);
    };
    let repaints = is_table && terminal;
    let title = match &query.content {
        Some(content) => format!("{}: {}", content, query.subject.word()),
        None => query.subject.word().to_owned(),
    };
    let mut shown = String::new();
    let mut is_gone = false;
    if repaints {
        out.write_all(CLEAR.as_bytes())?;
    }
    for round in 1.. {
        let note = match ask(query, token.as_deref(), world.fetch) {
            Ok(answer) if is_table => {
                is_gone = false;
                shown = table(&answer);
                String::new()
            }
            Ok(answer) => {
                is_gone = false;
                shown = answer.lines(Some(round));
                String::new()
            }
            // What never worked is no tracker that went away.
            Err(error) if round == 1 => return Ok(Err(error)),
            Err(error) => {
                if !repaints {
                    shown.clear();
                    if !std::mem::replace(&mut is_gone, true) {
                        let _ = writeln!(err, "p2ps-qos: {error}; trying again");
                    }
                }
                format!("{error}; trying again")
            }
        };
        if repaints {
            paint(out, &title, &note, &shown)?;
        } else {
            out.write_all(shown.as_bytes())?;
        }
        out.flush()?;
        if !(world.pause)(span) {
            break;
        }
    }
    Ok(Ok(()))
}

/// Writes a page over the one that stands on the terminal; what is shown stays when the tracker is gone.
fn paint(out: &mut dyn Write, title: &str, note: &str, shown: &str) -> io::Result<()> {
    let mut page = HOME.to_owned();
    let note = if note.is_empty() {
        String::new()
    } else {
        format!("  {}", printable(note))
    };
    page += &format!("{}{note}{LINE_END}{LINE_END}", printable(title));
    for line in shown.lines() {
        page += line;
        page += LINE_END;
    }
    page += BELOW;
    out.write_all(page.as_bytes())
}

fn ask(query: &Query, token: Option<&str>, fetch: &mut Fetch<'_>) -> Result<Answer, CliError> {
    let urls: Vec<String> = query.urls.iter().map(|base| query.url(base)).collect();
    api::ask(&urls, token, query.content.as_deref(), fetch, |body| {
        Answer::read(query.subject, body)
    })
}
