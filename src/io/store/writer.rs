//! The thread that writes: everything that waits in one transaction, then all answers.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::StoreError;
use crate::tracker::provider::change::{Change, Table};

/// How often rows that could not be written are tried again when nothing else comes.
const RETRY: Duration = Duration::from_secs(1);

/// Rows that belong together, and who waits for them.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) changes: Vec<Change>,
    pub(super) done: oneshot::Sender<Result<(), StoreError>>,
}

/// Rows by table and key, the last value of each: a later put takes the place of an earlier one, so rows that cannot be
/// written need no more room than the state that they are of.
pub(super) type Pending = BTreeMap<(Table, String), Option<String>>;

/// Where rows go.
pub(super) trait Rows: Send {
    /// Writes rows, all or none; when this returns without an error they are there to stay.
    fn commit(&mut self, rows: &Pending) -> Result<(), StoreError>;

    /// Gives up what was opened.
    fn close(self);
}

/// Writes until everybody who could submit is gone.
pub(super) fn run(mut rows: impl Rows, queue: &Receiver<Job>) {
    let mut pending = Pending::new();
    let mut waiting = Vec::new();
    let mut is_failing = false;
    let mut is_open = true;
    while is_open {
        let first = match pending.is_empty() {
            true => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => queue.recv_timeout(RETRY),
        };
        match first {
            Ok(job) => {
                for job in std::iter::once(job).chain(queue.try_iter()) {
                    waiting.push(job.done);
                    pending.extend(
                        job.changes
                            .into_iter()
                            .map(|change| ((change.table, change.key), change.value)),
                    );
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            // What is left is tried once more.
            Err(RecvTimeoutError::Disconnected) => is_open = false,
        }
        if pending.is_empty() {
            continue;
        }
        let result = rows.commit(&pending);
        match &result {
            Ok(()) => {
                pending.clear();
                if std::mem::take(&mut is_failing) {
                    tracing::info!("state is stored again");
                }
            }
            // Nobody may wait for them to be written later: another tracker goes on from what is written.
            Err(StoreError::NotSelling | StoreError::Changed) => pending.clear(),
            Err(error) if !is_open => {
                tracing::error!("{} changes of state are lost: {error}", pending.len());
            }
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!("state is {error}; trying again");
                }
            }
        }
        for done in waiting.drain(..) {
            // Nobody needs to wait.
            let _ = done.send(result.clone());
        }
    }
    rows.close();
}
