//! Answers kept to be repeated: a transaction that comes twice is done once (RFC 7846 §4.2).
//!
//! Only CONNECT needs it: to do a FIND or STAT_REPORT twice is harmless.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use crate::time::Instant;
use crate::tracker::message::{Request, Response};

/// Whose transaction it was: peer, address, identifier.
type Transaction = (String, IpAddr, String);

/// The last successful answers, with their time of expiry.
#[derive(Debug, Default)]
pub(super) struct Replays {
    answers: BTreeMap<Transaction, (u64, Response)>,
    /// The same transactions, oldest first.
    queue: VecDeque<(Instant, Transaction)>,
}

impl Replays {
    /// The answer that this very request got before.
    pub(super) fn get(&self, ip: IpAddr, request: &Request) -> Option<Response> {
        let (seen, response) = self.answers.get(&transaction(ip, request))?;
        (*seen == fingerprint(request)).then(|| response.clone())
    }

    /// Keeps an answer until `expires`, which never goes back, and at most `limit` answers.
    pub(super) fn put(
        &mut self,
        expires: Instant,
        limit: usize,
        ip: IpAddr,
        request: &Request,
        response: &Response,
    ) {
        let transaction = transaction(ip, request);
        let answer = (fingerprint(request), response.clone());
        if self.answers.insert(transaction.clone(), answer).is_some() {
            return;
        }
        self.queue.push_back((expires, transaction));
        while self.queue.len() > limit {
            self.pop();
        }
    }

    /// Forgets what expired by `now`.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.next_expiry().is_some_and(|expires| expires <= now) {
            self.pop();
        }
    }

    /// When the oldest answer expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.queue.front().map(|(expires, _)| *expires)
    }

    /// Answers kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.answers.len(), self.queue.len());
        self.queue.len()
    }

    fn pop(&mut self) {
        if let Some((_, oldest)) = self.queue.pop_front() {
            self.answers.remove(&oldest);
        }
    }
}

fn transaction(ip: IpAddr, request: &Request) -> Transaction {
    (request.peer_id.clone(), ip, request.transaction_id.clone())
}

/// Tells requests with the same transaction identifier apart; no secret, a collision replays an answer.
fn fingerprint(request: &Request) -> u64 {
    let mut hasher = DefaultHasher::new();
    request.hash(&mut hasher);
    hasher.finish()
}
