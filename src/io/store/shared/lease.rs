//! Which of several trackers sells: one at a time, until it is silent for a few seconds.
//!
//! Whoever begins to sell has a term, a number larger than any before. Rows of a provider are written only under the
//! newest, so a tracker that was asleep while another took over can do no harm when it wakes up. While the store cannot
//! be reached nobody can begin, and whoever sells goes on with what needs no writing.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io};

use redis::{Connection, RedisResult};

use super::super::Store;
use super::{Place, TERM, why};
use crate::tracker::provider::change::{Change, Table};

/// Key of the tracker that sells; it expires when that is silent.
const SELLER: &str = "p2ps:seller";

/// How long a tracker that says nothing is taken to sell.
const LEASE: Duration = Duration::from_secs(5);

/// How often it says so, and the others ask.
const TURN: Duration = Duration::from_secs(1);

/// Begins to sell where nobody does, goes on in the same term where nobody else began meanwhile, or tells who sells.
const HOLD: &str = "
local seller = redis.call('GET', KEYS[1])
local term = redis.call('GET', KEYS[2])
if seller and seller ~= ARGV[1] then return {'0', seller} end
if not term or term ~= ARGV[3] then term = tostring(redis.call('INCR', KEYS[2])) end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {term, seller or ''}";

/// Lets another begin at once.
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1";

/// Who sells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// This tracker, from now on, with every row of the store. Its writing begins with this.
    Ours(Vec<Change>),
    /// Another one: where it listens.
    Another(String),
}

/// One tracker among those that could sell.
pub struct Lease {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

impl Lease {
    /// Asks for a turn again and again, and tells how it went whenever that changes. The first time it has told when this
    /// returns. `node` is nobody else's word; `at` is where this tracker listens.
    ///
    /// # Errors
    ///
    /// The system's, when there is no thread to be had.
    pub(in crate::io::store) fn start(
        store: Store,
        place: Place,
        node: &str,
        at: &str,
        mut tell: impl FnMut(Turn) + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let mut asker = Asker {
            place,
            connection: None,
            who: format!("{node} {at}"),
            term: None,
            another: None,
        };
        asker.ask(&store, &mut tell);
        let thread = std::thread::Builder::new()
            .name("lease".to_owned())
            .spawn(move || asker.run(&store, &mut tell, &stopped))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Asker {
    place: Place,
    connection: Option<Connection>,
    who: String,
    /// The term in which we sell.
    term: Option<u64>,
    /// Who sells, as it was last told.
    another: Option<String>,
}

impl Asker {
    fn run(mut self, store: &Store, tell: &mut dyn FnMut(Turn), stopped: &Receiver<()>) {
        while stopped.recv_timeout(TURN) == Err(RecvTimeoutError::Timeout) {
            self.ask(store, tell);
        }
        let who = self.who.clone();
        if self.term.is_some()
            && let Ok(connection) = self.connection()
        {
            let released: RedisResult<()> = redis::cmd("EVAL")
                .arg(RELEASE)
                .arg(1)
                .arg(SELLER)
                .arg(who)
                .query(connection);
            // Otherwise it ends by itself.
            drop(released);
        }
    }

    fn connection(&mut self) -> RedisResult<&mut Connection> {
        match &mut self.connection {
            Some(connection) => Ok(connection),
            none => Ok(none.insert(self.place.connect()?)),
        }
    }

    fn ask(&mut self, store: &Store, tell: &mut dyn FnMut(Turn)) {
        let held = match self.hold() {
            Ok(held) => held,
            Err(error) => {
                self.connection = None;
                tracing::debug!("who sells is not known: {}", why(&error));
                return;
            }
        };
        match held {
            (Some(term), _) if self.term == Some(term) => {}
            (Some(term), _) => {
                // Read under the term: from here on nobody else writes what a provider wrote.
                let rows = match self.place.read(&Table::ALL) {
                    Ok(rows) => rows,
                    Err(error) => {
                        tracing::warn!("cannot begin to sell: {error}");
                        return;
                    }
                };
                if let Err(error) = store.sell_in(term) {
                    tracing::warn!("cannot begin to sell: {error}");
                    return;
                }
                self.term = Some(term);
                self.another = None;
                tell(Turn::Ours(rows));
            }
            (None, seller) => {
                self.term = None;
                let at = seller.split_once(' ').map_or("", |(_, at)| at);
                if self.another.as_deref() != Some(at) {
                    self.another = Some(at.to_owned());
                    tell(Turn::Another(at.to_owned()));
                    store.sell_no_more();
                }
            }
        }
    }

    /// The term in which we sell, or who sells.
    fn hold(&mut self) -> RedisResult<(Option<u64>, String)> {
        let term = self.term.map_or_else(String::new, |term| term.to_string());
        let who = self.who.clone();
        let (term, seller): (u64, String) = redis::cmd("EVAL")
            .arg(HOLD)
            .arg(2)
            .arg(SELLER)
            .arg(TERM)
            .arg(who)
            .arg(LEASE.as_millis() as u64)
            .arg(term)
            .query(self.connection()?)?;
        Ok(((term > 0).then_some(term), seller))
    }
}
