//! Answers that wait: for the disk, for a payment, for a store that other trackers share.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use tokio::time::{Instant as TokioInstant, timeout_at};

use super::{Server, error, lock, tell};
use crate::time::Instant;
use crate::tracker::provider::change::Change;
use crate::tracker::service::{Answer, Service};

/// Whether changes are durable, or why not.
pub type Kept = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Makes changes durable, in the order of its calls.
pub type Keeper = Arc<dyn Fn(Vec<Change>) -> Kept + Send + Sync>;

/// What a store that other trackers share holds after it was asked for a change, or why it could not be asked.
pub type Agreed = Pin<Box<dyn Future<Output = Result<Change, String>> + Send>>;

/// Asks a store for a change that other trackers have to agree on.
pub type Agreer = Arc<dyn Fn(Change) -> Agreed + Send + Sync>;

impl Server {
    /// Asks the tracker something and gives the answer when what it rests on is durable. Asks again when a payment that
    /// it waits for was made, or other trackers agreed.
    pub(super) async fn answer(
        &self,
        mut ask: impl FnMut(&mut Service, Instant) -> Answer,
    ) -> Response {
        let deadline = TokioInstant::now() + self.options.payment_timeout;
        let mut settled = self.settled.subscribe();
        loop {
            settled.borrow_and_update();
            let answer = {
                let mut service = lock(&self.service);
                let answer = ask(&mut service, (self.clock)());
                tell(&mut service);
                match answer {
                    Answer::Reply(reply, changes) if changes.is_empty() => Some((reply, None)),
                    // Handed over under the lock: the order on disk is the order in memory.
                    Answer::Reply(reply, changes) => Some((reply, Some((self.keeper)(changes)))),
                    Answer::Later => None,
                }
            };
            let Some((reply, kept)) = answer else {
                self.start_payments();
                self.start_agreements();
                if timeout_at(deadline, settled.changed()).await.is_err() {
                    let why = "what the answer waits for is under way, ask again";
                    return error(StatusCode::SERVICE_UNAVAILABLE, why);
                }
                continue;
            };
            if let Some(kept) = kept
                && let Err(why) = kept.await
            {
                return error(StatusCode::SERVICE_UNAVAILABLE, &why);
            }
            let status =
                StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return (status, reply.body).into_response();
        }
    }

    /// Asks the store for what trackers that share it have to agree on. Whoever goes away while it is asked stops nothing.
    fn start_agreements(&self) {
        loop {
            let proposal = lock(&self.service)
                .office()
                .and_then(|office| office.poll_proposal());
            let Some(proposal) = proposal else { return };
            let server = self.clone();
            tokio::spawn(async move {
                let key = proposal.key.clone();
                let found = (server.agreer)(proposal).await;
                server.agreed(&key, found);
            });
        }
    }

    fn agreed(&self, key: &str, found: Result<Change, String>) {
        let was_alone = self.is_alone.swap(found.is_err(), Ordering::Relaxed);
        match &found {
            Err(why) if !was_alone => {
                tracing::warn!("keys of sealed channels stay as they are: {why}");
            }
            Ok(_) if was_alone => tracing::info!("keys of sealed channels change again"),
            _ => {}
        }
        let found = found.ok();
        if let Some(office) = lock(&self.service).office() {
            let taken = office.agreed((self.clock)(), key, found.as_ref());
            if let Err(error) = taken {
                tracing::warn!("{error}: left as it is");
            }
        }
        self.settled.send_modify(|count| *count += 1);
    }
}
