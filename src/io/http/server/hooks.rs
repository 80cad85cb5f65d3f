//! What the tracker does beside answering: payments to be made, servers to be started, once a second what expired.

use std::sync::Arc;

use super::{Server, lock};
use crate::io::hook;
use crate::tracker::provider::Payment;

impl Server {
    /// Forgets what expired, and sees to what became due by that.
    pub(super) fn tick(&self) {
        drop(self.service());
        self.start_payments();
        self.start_servers();
    }

    /// Makes payments that wait, some at a time: a thousand viewers at once are not a thousand processes.
    pub(super) fn start_payments(&self) {
        while let Ok(till) = Arc::clone(&self.tills).try_acquire_owned() {
            let (payment, command) = {
                let mut service = lock(&self.service);
                let Some(provider) = service.provider_mut() else {
                    return;
                };
                let Some(payment) = provider.poll_payment() else {
                    return;
                };
                (payment, provider.tariff().payment.clone())
            };
            let server = self.clone();
            tokio::spawn(async move {
                let outcome = match command {
                    Some(command) => hook::ask(&command, &payment.to_value()).await,
                    None => Ok(None),
                };
                server.paid(&payment, outcome);
                drop(till);
                server.start_payments();
            });
        }
    }

    fn paid(&self, payment: &Payment, outcome: Result<Option<String>, String>) {
        if let Err(why) = &outcome {
            tracing::warn!(
                "payment of {} refused: {why}",
                payment.account.escape_debug()
            );
        }
        if let Some(provider) = lock(&self.service).provider_mut() {
            provider.paid(payment, outcome);
        }
        self.settled.send_modify(|count| *count += 1);
    }

    /// Tells whoever starts and stops servers what is wanted.
    fn start_servers(&self) {
        loop {
            let (signal, load, command) = {
                let mut service = lock(&self.service);
                let Some(provider) = service.provider_mut() else {
                    return;
                };
                let Some((signal, load)) = provider.poll_signal() else {
                    return;
                };
                (signal, load, provider.tariff().scale_command.clone())
            };
            tracing::info!(
                "{} {}: load {:.2} of {} servers, {:.0} % of clients outside their packet",
                signal.op(),
                signal.count(),
                load.load.unwrap_or(0.0),
                load.servers,
                load.outside * 100.0
            );
            let Some(command) = command else { continue };
            let facts = serde_json::json!({
                "op": signal.op(),
                "n": signal.count(),
                "load": load.load,
                "servers": load.servers,
                "outside": load.outside,
            });
            tokio::spawn(async move {
                if let Err(why) = hook::ask(&command, &facts).await {
                    tracing::warn!("scale command: {why}");
                }
            });
        }
    }
}
