//! Who is connected: at most so many of one address and in all, and who has to go when there are too many.
//!
//! When all places are taken, the connection goes that has owed the tracker a request for longest (S-40). Whoever is
//! brief owes one for a round trip or two; to drive him out, somebody would have to connect as often as there are
//! places in that time.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::{Server, count, lock, say};
use crate::tracker::address::network;

/// Files that a tracker has open beside its connections: store, records, commands, questions to others.
const FILES_BESIDE: u64 = 128;

/// Raises the number of files that this process may open, as far as the system lets it, to what that many connections
/// need. Gives how many connections there is room for.
pub fn make_room(connections: usize) -> usize {
    let wanted = u64::try_from(connections).map_or(u64::MAX, |all| all + FILES_BESIDE);
    let limit = getrlimit(Resource::Nofile);
    let Some(now) = limit.current else {
        return connections;
    };
    let highest = limit.maximum.map_or(wanted, |highest| highest.min(wanted));
    let mut files = now;
    if highest > now {
        let raised = Rlimit {
            current: Some(highest),
            ..limit
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            files = highest;
        }
    }
    // Half of very few: the tracker is of use with one connection, and of none without a store.
    let left = files.saturating_sub(FILES_BESIDE).max(files / 2);
    usize::try_from(left).map_or(connections, |left| left.min(connections))
}

/// Connections open now.
#[derive(Debug, Default)]
pub(super) struct Open {
    total: usize,
    by_network: BTreeMap<IpAddr, usize>,
    /// Those that owe a request, by when they began to.
    owing: BTreeMap<u64, Arc<Notify>>,
    next: u64,
}

impl Open {
    pub(super) const fn total(&self) -> usize {
        self.total
    }

    fn owes(&mut self, called_off: &Arc<Notify>) -> u64 {
        let turn = self.next;
        self.next += 1;
        self.owing.insert(turn, Arc::clone(called_off));
        turn
    }

    /// Ends the connection that has owed a request for longest; none when all are being served.
    fn call_off(&mut self) -> bool {
        let longest = self.owing.pop_first();
        if let Some((_, called_off)) = &longest {
            called_off.notify_one();
        }
        longest.is_some()
    }
}

/// One open connection in the count of its address.
#[derive(Debug)]
pub(super) struct Slot {
    open: Arc<Mutex<Open>>,
    network: IpAddr,
    called_off: Arc<Notify>,
    /// Since when it owes a request.
    turn: Mutex<Option<u64>>,
}

impl Slot {
    fn new(open: &Arc<Mutex<Open>>, network: IpAddr) -> Self {
        let called_off = Arc::new(Notify::new());
        let mut table = lock(open);
        table.total += 1;
        *table.by_network.entry(network).or_default() += 1;
        let turn = table.owes(&called_off);
        drop(table);
        Self {
            open: Arc::clone(open),
            network,
            called_off,
            turn: Mutex::new(Some(turn)),
        }
    }

    /// A request is here: nobody else takes the place before it is answered.
    pub(super) fn is_served(&self) {
        if let Some(turn) = lock(&self.turn).take() {
            lock(&self.open).owing.remove(&turn);
        }
    }

    /// What was asked is answered: the next request is owed from now on.
    pub(super) fn is_answered(&self) {
        let mut turn = lock(&self.turn);
        if turn.is_none() {
            *turn = Some(lock(&self.open).owes(&self.called_off));
        }
    }

    /// Somebody else needs the place.
    pub(super) async fn called_off(&self) {
        self.called_off.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.is_served();
        let mut open = lock(&self.open);
        open.total -= 1;
        if let Some(count) = open.by_network.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.by_network.remove(&self.network);
            }
        }
    }
}

impl Server {
    /// A slot for a connection, or a short refusal and none.
    pub(super) fn admit(&self, stream: &TcpStream, from: SocketAddr) -> Option<Slot> {
        let network = network(from.ip());
        let refusal = {
            let mut open = lock(&self.open);
            let here = open.by_network.get(&network).copied().unwrap_or(0);
            if here >= self.options.connections_per_address {
                Some((
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many connections from this address",
                ))
            } else if open.total < self.options.connections_max {
                None
            } else if open.call_off() {
                // It goes when its task runs next: for that long there is one too many.
                count(&self.counters.called_off);
                None
            } else {
                Some((StatusCode::SERVICE_UNAVAILABLE, "too many connections"))
            }
        };
        if let Some((status, why)) = refusal {
            count(&self.counters.refused);
            // Under TLS a word costs a handshake, and who has too many connections would have us make them.
            if self.identity.is_none() {
                say(stream, status, why);
            }
            return None;
        }
        count(&self.counters.connections);
        Some(Slot::new(&self.open, network))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn s_40_whoever_owes_a_request_for_longest_makes_room() {
        let open = Arc::default();
        let slot = |host| Slot::new(&open, Ipv4Addr::new(192, 0, 2, host).into());
        let is_called_off = |slot: &Slot| {
            let mut context = Context::from_waker(Waker::noop());
            pin!(slot.called_off()).poll(&mut context) == Poll::Ready(())
        };
        let [first, second, third] = [1, 1, 2].map(slot);
        // The first asks; the second is answered, so that the third has waited for longer.
        first.is_served();
        second.is_served();
        second.is_answered();
        assert!(lock(&open).call_off());
        assert!(is_called_off(&third) && !is_called_off(&second));
        assert!(lock(&open).call_off());
        assert!(is_called_off(&second) && !is_called_off(&first));
        assert!(!lock(&open).call_off(), "who is served stays");
        drop((second, third));
        first.is_answered();
        first.is_answered();
        let counts = || {
            let open = lock(&open);
            (open.total, open.owing.len(), open.by_network.len())
        };
        assert_eq!(counts(), (1, 1, 1));
        drop(first);
        assert_eq!(counts(), (0, 0, 0));
    }
}
