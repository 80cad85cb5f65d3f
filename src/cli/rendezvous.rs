//! The tracker as a running program: its registry behind HTTP, records, metrics.

use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::certificate::IdentityFiles;
use super::exit::{CliError, Exit, reason, shown_path};
use super::layer::Understood;
use super::progress::Progress;
use super::secret::{generate, read_token_file};
use super::sharing::Sharing;
use super::source::Algorithm;
use super::stream;
use super::tracker::{self, Settings};
use super::value::{Shown, printable};
use crate::io::clock::Clock;
use crate::io::control::Control;
use crate::io::engine::Reporter;
use crate::io::http::server::{
    Agreer, Identity, Keeper, Names, Operator, Options, Server, make_room,
};
use crate::io::lifecycle::Lifecycle;
use crate::io::signal::{Signal, Signals};
use crate::io::store::{Store, StoreError, pages};
use crate::rng::{Rng, Seed};
use crate::stats::{Counters, Start, Tool};
use crate::time::Instant;
use crate::tracker::message::{RejectCode, Secret};
use crate::tracker::placement::Placement;
use crate::tracker::placement::balanced::{self, Balanced, Graph};
use crate::tracker::placement::list::Listed;
use crate::tracker::placement::networks::Networks;
use crate::tracker::placement::psp::{self, Psp};
use crate::tracker::provider::Provider;
use crate::tracker::provider::change::Change;
use crate::tracker::provider::tariff::Tariff;
use crate::tracker::registry::{self, Registry};
use crate::tracker::service::Service;
use crate::tracker::ticket::office::{Lives, TicketOffice};
use crate::tracker::ticket::orders::Outcome;
use crate::tracker::ticket::seals::{HEARSAY_SPAN, RETURN_SPAN, Rules};

/// Name under which a tracker writes about all channels.
const ALL_CHANNELS: &str = "*";

/// What was opened for a tracker.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) listener: TcpListener,
    pub(super) identity: Option<Identity>,
    pub(super) store: Store,
    /// What it held when it was opened.
    pub(super) rows: Vec<Change>,
    pub(super) placement: Box<dyn Placement>,
}

/// Reads a file that a flag names.
fn read<T, E: ToString>(
    flag: &str,
    path: &Path,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, CliError> {
    let failed = |why: String| {
        let what = format!("cannot use {flag} {}", shown_path(path));
        CliError::usage(what, printable(why.trim_end()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(reason(&error)))?;
    parse(&text).map_err(|error| failed(error.to_string()))
}

/// The placement that was asked for, with its files read.
///
/// # Errors
///
/// A file that cannot be read or is none.
pub(super) fn placement(settings: &tracker::Placement) -> Result<Box<dyn Placement>, CliError> {
    Ok(match settings {
        tracker::Placement::List => Box::new(Listed),
        tracker::Placement::Psp {
            networks,
            session,
            mix,
        } => {
            let read = |path| read("--networks", path, Networks::from_toml);
            let networks = networks.as_deref().map(read).transpose()?;
            let default = psp::Settings::default();
            Box::new(Psp::new(psp::Settings {
                mix: *mix,
                networks: networks.unwrap_or_default(),
                session: session.unwrap_or(default.session),
                ..default
            }))
        }
        tracker::Placement::Balanced { graph, hub_cap } => {
            let read = |path| read("--graph", path, Graph::from_toml);
            let graph = graph.as_deref().map(read).transpose()?;
            Box::new(Balanced::new(balanced::Settings {
                is_star: false,
                hub_cap: *hub_cap,
                graph: graph.unwrap_or_default(),
            }))
        }
        tracker::Placement::Star => Box::new(Balanced::new(balanced::Settings {
            is_star: true,
            ..balanced::Settings::default()
        })),
    })
}

/// Serves until a signal ends it.
pub(super) async fn serve(
    clock: Clock,
    parts: Parts,
    settings: &Settings,
    progress: &Progress,
    lifecycle: &mut Lifecycle,
    mut signals: Signals,
    understood: &Understood,
) -> Result<Exit, CliError> {
    let failed =
        |error: std::io::Error| CliError::new(Exit::Failed, "cannot serve", reason(&error));
    let Parts {
        listener,
        identity,
        store,
        rows,
        placement,
    } = parts;
    listener.set_nonblocking(true).map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    let seed = stream::seed(&settings.process)?;
    let mut rng = Rng::new(seed);
    let node = format!("{:016x}", rng.next_u64());
    let config = registry::Config {
        description_check: Some(is_genuine),
        ..registry::Config::default()
    };
    let (mut office, changes) = office(&clock, &store, &rows)?;
    let is_shared = store.is_shared();
    office.set_seal_rules(Rules {
        rotation: settings.key_life,
        // Viewers of a tracker that died have time to go on with another.
        patience: if is_shared {
            RETURN_SPAN
        } else {
            config.track_timeout
        },
        settling: if is_shared {
            HEARSAY_SPAN
        } else {
            Duration::ZERO
        },
    });
    if is_shared {
        office.set_shared();
    }
    if identity.is_some() {
        office.set_private();
    }
    // Nobody waits for it: a key that is lost makes tickets that end with the tracker.
    drop(store.submit(changes));
    let mut registry = Registry::new(config, seed).with_placement(placement);
    if is_shared {
        registry = registry.with_others();
    }
    registry.set_office(office);
    let provider = match &settings.tariff {
        Some(path) => {
            let tariff = read_tariff(path)?;
            match is_shared {
                // Whose turn it is to sell is asked below.
                true => None,
                false => Some(provider(&clock, tariff, &rows)?),
            }
        }
        None => None,
    };
    let service = Arc::new(Mutex::new(Service::new(registry, provider)));
    let sharing = Sharing::start(&store, &service, clock, settings.tariff.as_deref(), local)?;
    let options = Options::default();
    let operator = Operator::default();
    if let Some(path) = &settings.admin_token_file {
        operator.set_token(read_admin_token(path)?);
    }
    let server = Server::new(Arc::clone(&service), move || clock.now())
        .with_options(Options {
            connections_max: make_room(options.connections_max),
            ..options
        })
        .with_identity(identity.clone())
        .with_keeper(keeper(&store))
        .with_agreer(agreer(&store))
        .with_operator(operator.clone())
        .with_names(names(&service));
    let control = settings
        .state
        .store
        .control()
        .and_then(|path| take_orders(&path, &server, &store));
    let channels = [ALL_CHANNELS.to_owned()];
    let records = stream::open_records(Tool::Tracker, &settings.stats, true).await?;
    let mut reporter = records.reporter(clock, progress, &node, &channels);
    let mut start = Start::new(settings.stats.interval);
    start.listen = vec![local.to_string()];
    stream::fill_start(&mut start, understood);
    reporter.start(clock.now(), &start, &[]);
    let scheme = match identity {
        Some(_) => "https",
        None => "http",
    };
    tracing::info!("tracker at {scheme}://{local}");
    lifecycle.ready(stream::facts(local, &channels));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.clone().serve(listener, async {
        let _ = stopped.await;
    }));
    loop {
        let due = clock.to_system(reporter.due());
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop | Signal::Drain => break,
                Signal::Reload => {
                    reporter.reopen();
                    if let Some(path) = &settings.tariff {
                        reload_tariff(path, &service);
                    }
                    reload_placement(clock.now(), &settings.placement, &service);
                    if let Some(path) = &settings.admin_token_file {
                        let take_it = |token| operator.set_token(token);
                        take("admin token", read_admin_token(path), take_it);
                    }
                    if let (Some(identity), Some(files)) = (&identity, &settings.tls) {
                        reload(identity, files);
                    }
                }
                Signal::Report => reporter.interval(clock.now(), &counters(&server)),
            },
            () = tokio::time::sleep_until(due) => report(&clock, &mut reporter, &server),
        }
    }
    lifecycle.stopping();
    let _ = stop.send(());
    let _ = serving.await;
    if let Some(control) = control {
        control.abort();
        let _ = control.await;
    }
    store.close();
    drop(sharing);
    reporter.close(clock.now(), &counters(&server), 0, "asked to stop");
    Ok(Exit::Done)
}

/// A provider that goes on from the rows of a store.
pub(super) fn provider(
    clock: &Clock,
    tariff: Tariff,
    rows: &[Change],
) -> Result<Provider, CliError> {
    let mut provider = Provider::new(tariff, clock.epoch(), secret()?);
    for strange in provider.restore(clock.now(), rows) {
        tracing::warn!("row {strange} of the store makes no sense: left as it is");
    }
    Ok(provider)
}

/// The ticket office of a store, and what has to be put there: its key, when it had none.
pub(super) fn office(
    clock: &Clock,
    store: &Store,
    rows: &[Change],
) -> Result<(TicketOffice, Vec<Change>), CliError> {
    let value = |row: &Change| row.value.clone().unwrap_or_default();
    let key_in = |row: &Change| TicketOffice::key_in(row.table, &row.key, &value(row));
    let (mut key, is_new) = match rows.iter().find_map(key_in) {
        Some(key) => (key, false),
        None => (generate(Algorithm::Ed25519)?, true),
    };
    let mut changes = Vec::new();
    if is_new {
        let row = TicketOffice::row_of(&key);
        let claimed = store.claim(row.clone());
        let (found, row_left) = claimed.map_err(|error| CliError::store(&error))?;
        // Another tracker was first: tickets of all of them have one key.
        let theirs = found.and_then(|value| {
            key_in(&Change {
                value: Some(value),
                ..row
            })
        });
        key = theirs.unwrap_or(key);
        changes.extend(row_left);
    }
    let seed = Seed::from_bytes(secret()?);
    let mut office = TicketOffice::new(clock.epoch(), key, Lives::default(), seed)
        .expect("the key of tickets is an Ed25519 key");
    for row in rows {
        if let Err(error) = office.load(row.table, &row.key, &value(row)) {
            tracing::warn!("{error}: left as it is");
        }
    }
    Ok((office, changes))
}

/// Takes orders of the operator at a socket. A tracker that cannot have one serves all the same.
fn take_orders(path: &Path, server: &Server, store: &Store) -> Option<JoinHandle<()>> {
    let control = match Control::bind(path) {
        Ok(control) => control,
        Err(error) => {
            let what = shown_path(path);
            tracing::warn!(
                "no orders while it runs: cannot bind {what}: {}",
                reason(&error)
            );
            return None;
        }
    };
    let (server, store) = (server.clone(), store.clone());
    Some(tokio::spawn(control.serve(move |mut order| {
        let (server, store) = (server.clone(), store.clone());
        async move {
            let name = order["order"].take();
            let name = name.as_str().unwrap_or_default();
            let outcome = match user_secret() {
                _ if name == pages::ORDER => page(&store, &order).await,
                Ok(secret) => server.order(name, &order, &secret).await,
                Err(error) => Outcome::failed(503, error),
            };
            json!({ "status": outcome.status, "body": outcome.body })
        }
    })))
}

/// A page of contracts or of the ledger.
async fn page(store: &Store, order: &Value) -> Outcome {
    let Some((table, after)) = pages::wanted(order) else {
        return Outcome::failed(
            400,
            "need a table, and the number after which its rows begin",
        );
    };
    match store.page(table, after).await {
        Ok(page) => Outcome::done(pages::to_value(&page), Vec::new()),
        Err(error) => Outcome::failed(503, error),
    }
}

/// A secret for a user who is made.
pub(super) fn user_secret() -> Result<Secret, CliError> {
    let bytes = secret()?;
    let text = data_encoding::HEXLOWER.encode(bytes.get(..16).unwrap_or_default());
    Ok(Secret::new(text).expect("32 hexadecimal digits are a secret"))
}

/// What the operator shows.
fn read_admin_token(path: &Path) -> Result<Secret, CliError> {
    let too_long = || {
        let what = format!("cannot use token {}", shown_path(path));
        CliError::usage(what, "too long for a secret")
    };
    Secret::new(read_token_file(path)?).ok_or_else(too_long)
}

/// Knows what the provider calls a peer.
fn names(service: &Arc<Mutex<Service>>) -> Names {
    let service = Arc::clone(service);
    Arc::new(move |peer| {
        let service = service.lock().unwrap_or_else(PoisonError::into_inner);
        service.name_of(peer)
    })
}

/// Hands changes to the store.
fn keeper(store: &Store) -> Keeper {
    let store = store.clone();
    Arc::new(move |changes| {
        let stored = store.submit(changes);
        Box::pin(async move {
            stored.await.map_err(|error| match error {
                StoreError::NotStored(why) => why,
                other => other.to_string(),
            })
        })
    })
}

/// Asks the store for what other trackers have to agree on.
fn agreer(store: &Store) -> Agreer {
    let store = store.clone();
    Arc::new(move |change| {
        let store = store.clone();
        Box::pin(async move {
            let asked = tokio::task::spawn_blocking(move || store.agree(change));
            let found = asked.await.map_err(|error| error.to_string())?;
            found.map_err(|error| error.to_string())
        })
    })
}

/// Reads the tariff of a provider.
pub(super) fn read_tariff(path: &Path) -> Result<Tariff, CliError> {
    let what = || format!("cannot use tariff {}", Shown::new(&path.to_string_lossy()));
    let text = std::fs::read_to_string(path).map_err(|error| {
        let why = reason(&error);
        CliError::new(Exit::Usage, what(), why)
    })?;
    Tariff::parse(&text).map_err(|error| CliError::new(Exit::Usage, what(), error.to_string()))
}

/// Takes a new tariff; a bad one keeps the old.
fn reload_tariff(path: &Path, service: &Mutex<Service>) {
    take("tariff", read_tariff(path), |fresh| {
        let mut service = service.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(provider) = service.provider_mut() {
            provider.set_tariff(fresh);
        }
    });
}

/// Takes the file of a placement again; a bad one keeps what the old one said.
fn reload_placement(now: Instant, placement: &tracker::Placement, service: &Mutex<Service>) {
    let lock = || service.lock().unwrap_or_else(PoisonError::into_inner);
    match placement {
        tracker::Placement::Psp {
            networks: Some(path),
            ..
        } => take(
            "networks file",
            read("--networks", path, Networks::from_toml),
            |fresh| {
                let mut service = lock();
                service
                    .registry_mut()
                    .placement_mut()
                    .set_networks(now, fresh);
            },
        ),
        tracker::Placement::Balanced {
            graph: Some(path), ..
        } => take(
            "graph file",
            read("--graph", path, Graph::from_toml),
            |fresh| {
                let mut service = lock();
                service.registry_mut().placement_mut().set_graph(fresh);
            },
        ),
        _ => {}
    }
}

/// Uses what was read again, when it could be.
fn take<T>(what: &str, fresh: Result<T, CliError>, use_it: impl FnOnce(T)) {
    match fresh {
        Ok(fresh) => {
            use_it(fresh);
            tracing::info!("{what} read again");
        }
        Err(error) => tracing::error!("{error}; the old {what} stays"),
    }
}

/// What session tokens are made with; nobody else knows it.
pub(super) fn secret() -> Result<[u8; 32], CliError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| CliError::new(Exit::Failed, "no random numbers", error.to_string()))?;
    Ok(secret)
}

/// Reads certificate and key again; bad ones leave those in use where they are.
fn reload(identity: &Identity, files: &IdentityFiles) {
    match files.read() {
        Ok(fresh) => {
            identity.replace(&fresh);
            tracing::info!("certificate read again");
        }
        Err(error) => tracing::warn!("certificate not changed: {error}"),
    }
}

fn report(clock: &Clock, reporter: &mut Reporter, server: &Server) {
    let stats = server.stats();
    reporter.interval(clock.now(), &counters(server));
    reporter.line(&format!(
        "{} channels, {} peers, {} joins, {} requests",
        stats.channels, stats.peers, stats.joins_total, stats.requests_total
    ));
}

/// The tracker's part of the counters.
fn counters(server: &Server) -> Counters {
    let stats = server.stats();
    let http = server.http_stats();
    let overview = server.overview();
    let model = overview.model();
    let gauge = |value: u64| overview.has_clusters.then_some(value);
    let rejects: Vec<(RejectCode, u64)> = stats.rejects().collect();
    let count = |wanted: RejectCode| {
        rejects
            .iter()
            .filter(|(code, _)| *code == wanted)
            .map(|(_, count)| count)
            .sum::<u64>()
    };
    Counters {
        joins: stats.joins_total,
        rejects: rejects.iter().map(|(_, count)| count).sum(),
        rejects_capacity: count(RejectCode::Full),
        rejects_channel: count(RejectCode::NoSuchChannel),
        requests: stats.requests_total,
        bad_requests: count(RejectCode::BadRequest) + http.oversized_total,
        leaves: stats.leaves_total,
        expired_peers: stats.expired_total,
        peers: Some(stats.peers as u64),
        supporters: gauge(overview.supporters()),
        model_supporters: model.map(|model| model.supporters.round() as u64),
        model_reject_permille: model.map(|model| (model.reject_ratio * 1000.0).round() as u64),
        channels: Some(stats.channels as u64),
        ..Counters::default()
    }
}

/// Whether a description names this channel and swarm and its key signed it.
fn is_genuine(name: &str, swarm_id: &str, description: &[u8]) -> bool {
    stream::check_description(description).is_some_and(|description| {
        description.name == name && description.swarm_id.to_string() == swarm_id
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn files_that_are_none_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| -> PathBuf {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("it can be written");
            path
        };
        let psp = |networks| tracker::Placement::Psp {
            networks: Some(networks),
            session: None,
            mix: true,
        };
        let balanced = |graph| tracker::Placement::Balanced {
            graph: Some(graph),
            hub_cap: None,
        };
        assert!(placement(&psp(file("n.toml", ""))).is_ok());
        assert!(placement(&balanced(file("g.toml", "[friends]\na = [\"b\"]"))).is_ok());
        for (settings, what, why) in [
            (
                psp(folder.path().join("none")),
                "--networks",
                "no such file",
            ),
            (
                psp(file("bad.toml", "[[network]]\nsubnet = \"here\"")),
                "--networks",
                "bad subnet \"here\"",
            ),
            (balanced(file("not.toml", "friends")), "--graph", ""),
        ] {
            let error = placement(&settings).expect_err(what);
            assert_eq!(error.exit, Exit::Usage);
            assert!(
                error.what.starts_with(&format!("cannot use {what} ")),
                "{error}"
            );
            assert!(
                error.why.contains(why) && !error.why.contains('\n'),
                "{error}"
            );
        }
    }
}
