//! One tracker of several with one store: what the others hear, and whose turn it is to sell.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::exit::{CliError, Exit, reason};
use super::rendezvous::{provider, read_tariff, secret};
use crate::io::clock::Clock;
use crate::io::store::Store;
use crate::io::store::shared::lease::{Lease, Turn};
use crate::io::store::shared::members::{Members, News};
use crate::tracker::provider::Provider;
use crate::tracker::provider::change::Change;
use crate::tracker::provider::tariff::Tariff;
use crate::tracker::service::Service;

/// What runs beside a tracker whose store others share; ends when dropped.
#[derive(Debug)]
pub(super) struct Sharing {
    /// Dropped first: whoever sells next need not wait for it.
    _lease: Option<Lease>,
    _members: Option<Members>,
}

impl Sharing {
    /// Learns what the others know, and whether this tracker sells; then goes on in the background. With a store of its
    /// own a tracker has nobody to share with.
    ///
    /// # Errors
    ///
    /// A store that cannot be reached, a tariff that is none.
    pub(super) fn start(
        store: &Store,
        service: &Arc<Mutex<Service>>,
        clock: Clock,
        tariff: Option<&Path>,
        local: SocketAddr,
    ) -> Result<Self, CliError> {
        if !store.is_shared() {
            return Ok(Self {
                _lease: None,
                _members: None,
            });
        }
        if !store.is_lasting() {
            tracing::warn!(
                "the store forgets everything when it ends: set appendonly yes, and appendfsync always to sell"
            );
        }
        // Not of --seed: two trackers of one seed are two.
        let node = data_encoding::HEXLOWER.encode(secret()?.get(..8).unwrap_or_default());
        let (poller, hearer) = (Arc::clone(service), Arc::clone(service));
        let members = store.share(
            &node,
            move || lock(&poller).registry_mut().poll_shared(clock.now()),
            move |news| hear(&mut lock(&hearer), &clock, news),
        );
        let members = members.map_err(|error| CliError::store(&error))?;
        let lease = match tariff {
            Some(path) => {
                let mut seller = Seller {
                    service: Arc::clone(service),
                    clock,
                    tariff: read_tariff(path)?,
                    path: path.to_owned(),
                };
                let turns =
                    store.take_turns(&node, &local.to_string(), move |turn| seller.turn(turn));
                turns.map_err(|error| CliError::new(Exit::Failed, "cannot sell", reason(&error)))?
            }
            None => None,
        };
        Ok(Self {
            _lease: lease,
            _members: members,
        })
    }
}

fn lock(service: &Mutex<Service>) -> MutexGuard<'_, Service> {
    service.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes what other trackers, or orders of the operator, changed.
fn hear(service: &mut Service, clock: &Clock, news: News) {
    let (registry, now) = (service.registry_mut(), clock.now());
    match news {
        News::Told(shared) => {
            if !registry.on_shared(now, &shared) {
                tracing::debug!("not taken from another tracker: {}", shared.key());
            }
        }
        News::Back => registry.share_again(),
        News::Rows(rows) => {
            if let Some(office) = registry.office()
                && let Err(error) = office.load_again(now, &rows)
            {
                tracing::warn!("{error}: left as it is");
            }
        }
        News::Key(row) => {
            if let Some(office) = registry.office()
                && let Err(error) = office.take_key(now, &row.key, row.value.as_deref())
            {
                tracing::warn!("{error}: left as it is");
            }
        }
    }
}

/// A tracker that sells when it is its turn.
struct Seller {
    service: Arc<Mutex<Service>>,
    clock: Clock,
    /// The last tariff that was one.
    tariff: Tariff,
    path: PathBuf,
}

impl Seller {
    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Ours(rows) => match self.provider(&rows) {
                Ok(provider) => {
                    lock(&self.service).sell(provider);
                    tracing::info!("this tracker sells");
                }
                Err(error) => {
                    tracing::error!("{error}");
                    lock(&self.service).stand_by(error.to_string());
                }
            },
            Turn::Another(at) => {
                tracing::info!("the tracker at {at} sells, this one stands by");
                let why = format!("the tracker at {at} sells, ask there");
                lock(&self.service).stand_by(why);
            }
        }
    }

    fn provider(&mut self, rows: &[Change]) -> Result<Provider, CliError> {
        match read_tariff(&self.path) {
            Ok(tariff) => self.tariff = tariff,
            Err(error) => tracing::error!("{error}; the old tariff stays"),
        }
        provider(&self.clock, self.tariff.clone(), rows)
    }
}
