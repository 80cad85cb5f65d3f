//! `p2ps-tracker`: served, or its store put in order while nobody serves it.

use std::io::{self, Write as _};

use serde_json::Value;

use super::super::certificate::IdentityFiles;
use super::super::exit::{CliError, Exit, reason};
use super::super::layer::Understood;
use super::super::{rendezvous, stream, tracker};
use super::{begin, bind_tcp, end, live};
use crate::io::clock::Clock;
use crate::io::store::{Store, StoreUrl};
use crate::tracker::message::Secret;
use crate::tracker::ticket::orders;

/// Carries out an order of the operator on the store of a tracker that is not running, and prints what came of it.
///
/// # Errors
///
/// A store that cannot be used, for example because a tracker uses it; an order that makes no sense.
pub fn order(store: &StoreUrl, order: &str, body: &Value) -> Result<Exit, CliError> {
    let clock = Clock::start();
    let (store, rows) = Store::open(store).map_err(|error| CliError::store(&error))?;
    let (mut office, mut changes) = rendezvous::office(&clock, &rows)?;
    let secret = rendezvous::secret()?;
    let secret = data_encoding::HEXLOWER.encode(secret.get(..16).unwrap_or_default());
    let secret = Secret::new(secret).expect("32 hexadecimal digits are a secret");
    let outcome = orders::carry_out(&mut office, clock.now(), order, body, &secret);
    if outcome.status != 200 {
        let why = outcome.body.get("error").and_then(Value::as_str);
        let what = format!("cannot {}", order.replace('_', " "));
        return Err(CliError::usage(what, why.unwrap_or_default()));
    }
    changes.extend(outcome.changes);
    let stored = store.submit(changes);
    stream::block_on(async { stored.await.map_err(|error| CliError::store(&error)) })?;
    store.close();
    writeln!(io::stdout(), "{}", outcome.body)
        .map_err(|error| CliError::new(Exit::Output, "cannot write output", reason(&error)))?;
    Ok(Exit::Done)
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
