//! `p2ps-tracker`: served, or what it keeps put in order, while it serves or while nobody does.

use std::io::{self, Write as _};

use serde_json::{Value, json};

use super::super::certificate::IdentityFiles;
use super::super::exit::{CliError, Exit, reason};
use super::super::layer::Understood;
use super::super::{rendezvous, stream, tracker};
use super::{begin, bind_tcp, end, live};
use crate::io::clock::Clock;
use crate::io::control;
use crate::io::store::{Store, StoreError, StoreUrl};
use crate::tracker::provider::change::Change;
use crate::tracker::ticket::orders;

/// How often an order is carried out anew because a tracker changed meanwhile what it rests on.
const ATTEMPTS_MAX: usize = 10;

/// Carries out an order of the operator, and prints what came of it: through the tracker that has the store, or on the
/// store itself while no tracker has it.
///
/// # Errors
///
/// A store that cannot be used; an order that makes no sense.
pub fn order(url: &StoreUrl, order: &str, body: &Value) -> Result<Exit, CliError> {
    let mut attempts = 1..ATTEMPTS_MAX;
    let (status, body) = loop {
        match carry_out(url, order, body) {
            Ok(answer) => break answer,
            // A tracker that runs changed what the order rests on: it is carried out on what is there now.
            Err(Failed::Store(StoreError::Changed)) if attempts.next().is_some() => {}
            Err(Failed::Store(error)) => return Err(CliError::store(&error)),
            Err(Failed::Other(error)) => return Err(error),
        }
    };
    if status != 200 {
        let why = body.get("error").and_then(Value::as_str);
        let what = format!("cannot {}", order.replace('_', " "));
        return Err(CliError::usage(what, why.unwrap_or_default()));
    }
    writeln!(io::stdout(), "{body}")
        .map_err(|error| CliError::new(Exit::Output, "cannot write output", reason(&error)))?;
    Ok(Exit::Done)
}

/// Why an order was not carried out.
enum Failed {
    Store(StoreError),
    Other(CliError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<CliError> for Failed {
    fn from(error: CliError) -> Self {
        Self::Other(error)
    }
}

fn carry_out(url: &StoreUrl, order: &str, body: &Value) -> Result<(u16, Value), Failed> {
    match Store::open(url) {
        Ok((store, rows)) => order_store(&store, &rows, order, body),
        Err(StoreError::Locked { path, pid }) => {
            let locked = StoreError::Locked { path, pid };
            let mut members = json!({ "order": order });
            if let (Some(members), Some(body)) = (members.as_object_mut(), body.as_object()) {
                members.extend(body.clone());
            }
            let answer = url.control().map(|path| control::ask(&path, &members));
            let Some(Ok(mut answer)) = answer else {
                return Err(locked.into());
            };
            let status = answer["status"].as_u64().unwrap_or(0);
            Ok((u16::try_from(status).unwrap_or(0), answer["body"].take()))
        }
        Err(error) => Err(error.into()),
    }
}

fn order_store(
    store: &Store,
    rows: &[Change],
    order: &str,
    body: &Value,
) -> Result<(u16, Value), Failed> {
    let clock = Clock::start();
    let (mut office, mut changes) = rendezvous::office(&clock, store, rows)?;
    let secret = rendezvous::user_secret()?;
    let outcome = orders::carry_out(&mut office, clock.now(), order, body, &secret);
    if outcome.status == 200 {
        changes.extend(outcome.changes);
        let stored = store.submit(changes);
        stream::block_on(async { Ok(stored.await) })??;
    }
    store.close();
    Ok((outcome.status, outcome.body))
}

/// Runs `p2ps-tracker`.
///
/// # Errors
///
/// An address that cannot be bound; a store that cannot be used.
pub fn tracker(settings: tracker::Settings, understood: &Understood) -> Result<Exit, CliError> {
    let clock = Clock::start();
    let progress = begin("p2ps-tracker", &settings.log);
    let identity = settings.tls.as_ref().map(IdentityFiles::read).transpose()?;
    let placement = rendezvous::placement(&settings.placement)?;
    let listener = bind_tcp(&settings.net)?;
    progress.clear();
    // A dry run leaves nothing behind, so it makes no store.
    let store = settings.state.read()?;
    let is_missing = matches!(&store, StoreUrl::Redb(path) if path.symlink_metadata().is_err());
    let store = if settings.process.dry_run && is_missing {
        StoreUrl::Memory
    } else {
        store
    };
    let (store, rows) = Store::open(&store).map_err(|error| CliError::store(&error))?;
    if settings.process.dry_run {
        return Ok(Exit::Done);
    }
    stream::block_on(async {
        let (mut lifecycle, signals) = live("p2ps-tracker", &settings.process)?;
        let outcome = rendezvous::serve(
            clock,
            rendezvous::Parts {
                listener,
                identity,
                store,
                rows,
                placement,
            },
            &settings,
            &progress,
            &mut lifecycle,
            signals,
            understood,
        )
        .await;
        end(lifecycle, outcome)
    })
}
