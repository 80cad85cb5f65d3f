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

/// Carries out an order of the operator, and prints what came of it: through the tracker that has the store, or on the
/// store itself while no tracker has it.
///
/// # Errors
///
/// A store that cannot be used; an order that makes no sense.
pub fn order(url: &StoreUrl, order: &str, body: &Value) -> Result<Exit, CliError> {
    let (status, body) = match Store::open(url) {
        Ok((store, rows)) => order_store(&store, &rows, order, body)?,
        Err(StoreError::Locked { path, pid }) => {
            let locked = StoreError::Locked { path, pid };
            let mut members = json!({ "order": order });
            if let (Some(members), Some(body)) = (members.as_object_mut(), body.as_object()) {
                members.extend(body.clone());
            }
            let answer = url.control().map(|path| control::ask(&path, &members));
            let Some(Ok(mut answer)) = answer else {
                return Err(CliError::store(&locked));
            };
            let status = answer["status"].as_u64().unwrap_or(0);
            (u16::try_from(status).unwrap_or(0), answer["body"].take())
        }
        Err(error) => return Err(CliError::store(&error)),
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

fn order_store(
    store: &Store,
    rows: &[Change],
    order: &str,
    body: &Value,
) -> Result<(u16, Value), CliError> {
    let clock = Clock::start();
    let (mut office, mut changes) = rendezvous::office(&clock, store, rows)?;
    let secret = rendezvous::user_secret()?;
    let outcome = orders::carry_out(&mut office, clock.now(), order, body, &secret);
    if outcome.status == 200 {
        changes.extend(outcome.changes);
        let stored = store.submit(changes);
        stream::block_on(async { stored.await.map_err(|error| CliError::store(&error)) })?;
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
    let is_missing =
        matches!(&settings.store, StoreUrl::Redb(path) if path.symlink_metadata().is_err());
    let store = if settings.process.dry_run && is_missing {
        StoreUrl::Memory
    } else {
        settings.store.clone()
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
