//! Orders of the operator to a running tracker.

use serde_json::{Value, json};

use super::{Server, lock};
use crate::tracker::message::Secret;
use crate::tracker::ticket::orders::{Outcome, carry_out};

impl Server {
    /// Carries out an order on the ticket office, and keeps what came of it before it says so. `secret` is for the user
    /// who is made, should one be.
    pub async fn order(&self, order: &str, body: &Value, secret: &Secret) -> Outcome {
        let (mut outcome, kept) = {
            let mut service = lock(&self.service);
            let now = (self.clock)();
            let Some(office) = service.office() else {
                return Outcome::failed(503, "this tracker has no users");
            };
            let mut outcome = carry_out(office, now, order, body, secret);
            let changes = std::mem::take(&mut outcome.changes);
            // Handed over under the lock: the order on disk is the order in memory.
            let kept = (!changes.is_empty()).then(|| (self.keeper)(changes));
            (outcome, kept)
        };
        if let Some(kept) = kept
            && let Err(why) = kept.await
        {
            outcome = Outcome {
                status: 503,
                body: json!({ "error": why }),
                changes: Vec::new(),
            };
        }
        outcome
    }
}
