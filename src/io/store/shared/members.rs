//! Who is on which channel, among several trackers: what each one hears, told to the others within a moment.
//!
//! Every registration is a key that expires with it, so whoever starts finds all of them; and every change is published,
//! so whoever runs hears of it. Two threads carry both, and nobody waits for them: while the store is away, trackers go
//! on with what they know, and tell everything again when it is back.

use std::fmt;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redis::{Connection, ErrorKind, Msg, RedisError, RedisResult};

use super::{NEWS, Place, StoreError, failed, why};
use crate::io::media::reason;
use crate::tracker::provider::change::{Change, Table};
use crate::tracker::registry::Shared;

/// What the keys of registrations begin with.
const MEMBERS: &str = "p2ps:peer:";

/// How often what is new is told to the others.
const TELL: Duration = Duration::from_millis(100);

/// How often something is said where nothing is new, so that silence is a fault.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// How long silence is believed.
const SILENCE: Duration = Duration::from_secs(7);

/// Pauses between attempts to reach the store.
const BACK_OFF: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// Registrations told, or read, at a time.
const AT_ONCE: usize = 500;

/// Tables with rows of which every tracker knows: who may do what.
const ALL_BUT_SOLD: [Table; 4] = [
    Table::Meta,
    Table::Accounts,
    Table::Revocations,
    Table::Keys,
];

/// What a tracker hears of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A registration.
    Told(Shared),
    /// Every row about users, closed channels and keys, as they are now.
    Rows(Vec<Change>),
    /// One row of [`Table::Keys`] as it is now.
    Key(Change),
    /// The store was away: what this tracker heard itself has to be told again.
    Back,
}

/// The threads that carry registrations.
pub struct Members {
    stop: Option<Sender<()>>,
    teller: Option<JoinHandle<()>>,
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Members")
    }
}

impl Members {
    /// Tells `hear` everything that other trackers know, and goes on with what is new; `poll` gives what this one has
    /// to tell. What was there before has been told when this returns.
    ///
    /// # Errors
    ///
    /// A store that cannot be reached.
    pub(in crate::io::store) fn start(
        place: Place,
        node: &str,
        poll: impl FnMut() -> Option<Shared> + Send + 'static,
        hear: impl Fn(News) + Clone + Send + 'static,
    ) -> Result<Self, StoreError> {
        let no_thread = |error: io::Error| StoreError::NotStored(reason(&error));
        let (ready, is_ready) = mpsc::sync_channel(1);
        let listener = Listener {
            place: place.clone(),
            node: node.to_owned(),
            is_away: false,
        };
        let heard = hear.clone();
        std::thread::Builder::new()
            .name("listener".to_owned())
            .spawn(move || listener.run(&heard, &ready))
            .map_err(no_thread)?;
        if let Ok(Err(error)) = is_ready.recv() {
            return Err(error);
        }
        let (stop, stopped) = mpsc::channel();
        let teller = Teller {
            place: place.clone(),
            node: node.to_owned(),
            connection: None,
            attempts: 0,
            try_at: Instant::now(),
            told_at: Instant::now(),
        };
        let teller = std::thread::Builder::new()
            .name("teller".to_owned())
            .spawn(move || teller.run(poll, &hear, &stopped))
            .map_err(no_thread)?;
        Ok(Self {
            stop: Some(stop),
            teller: Some(teller),
        })
    }
}

impl Drop for Members {
    /// Tells what is left.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(teller) = self.teller.take() {
            let _ = teller.join();
        }
    }
}

/// Pause before the next of so many attempts.
fn pause(attempts: usize) -> Duration {
    BACK_OFF
        .get(attempts)
        .copied()
        .unwrap_or(BACK_OFF[BACK_OFF.len() - 1])
}

// --- telling --------------------------------------------------------------------------------------------------------

struct Teller {
    place: Place,
    node: String,
    connection: Option<Connection>,
    attempts: usize,
    try_at: Instant,
    told_at: Instant,
}

impl Teller {
    fn run(
        mut self,
        mut poll: impl FnMut() -> Option<Shared>,
        hear: &dyn Fn(News),
        stopped: &Receiver<()>,
    ) {
        let mut is_open = true;
        while is_open {
            is_open = stopped.recv_timeout(TELL) == Err(RecvTimeoutError::Timeout);
            if is_open && self.connection.is_none() && self.try_at <= Instant::now() {
                self.connect(hear);
            }
            loop {
                // Without a connection it is dropped: everything is told again when there is one.
                let some: Vec<Shared> = std::iter::from_fn(&mut poll).take(AT_ONCE).collect();
                if some.is_empty() && self.told_at.elapsed() < SIGN_OF_LIFE {
                    break;
                }
                self.told_at = Instant::now();
                if self.tell(&some).is_err() {
                    self.connection = None;
                    self.try_at = Instant::now();
                }
                if some.is_empty() {
                    break;
                }
            }
        }
    }

    fn connect(&mut self, hear: &dyn Fn(News)) {
        match self.place.connect() {
            Ok(connection) => {
                self.connection = Some(connection);
                self.attempts = 0;
                hear(News::Back);
            }
            Err(_) => {
                self.try_at = Instant::now() + pause(self.attempts);
                self.attempts += 1;
            }
        }
    }

    fn tell(&mut self, some: &[Shared]) -> RedisResult<()> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let mut pipe = redis::pipe();
        let news =
            |ttl_ms: u64, key: &str, value: &str| format!("{} {ttl_ms} {key}\n{value}", self.node);
        for shared in some {
            let (key, value) = (shared.key(), shared.value());
            let ttl_ms = u64::try_from(shared.ttl.as_millis()).unwrap_or(u64::MAX);
            let name = format!("{MEMBERS}{key}");
            if value.is_empty() || ttl_ms == 0 {
                pipe.cmd("DEL").arg(name).ignore();
            } else {
                let set = pipe.cmd("SET").arg(name).arg(&value);
                set.arg("PX").arg(ttl_ms).ignore();
            }
            let publish = pipe.cmd("PUBLISH").arg(NEWS);
            publish.arg(news(ttl_ms, &key, &value)).ignore();
        }
        if some.is_empty() {
            pipe.cmd("PUBLISH").arg(NEWS).arg(news(0, "", "")).ignore();
        }
        pipe.query(connection)
    }
}

// --- hearing --------------------------------------------------------------------------------------------------------

struct Listener {
    place: Place,
    node: String,
    /// Whether it was said that the store cannot be reached.
    is_away: bool,
}

impl Listener {
    /// Ends with the process, or at once when the first attempt fails.
    fn run(mut self, hear: &dyn Fn(News), ready: &SyncSender<Result<(), StoreError>>) {
        let mut is_first = true;
        let mut attempts = 0;
        loop {
            let mut is_connected = false;
            let ended = self.place.connect().and_then(|mut connection| {
                self.listen(&mut connection, hear, &mut || {
                    is_connected = true;
                    // Whoever started us waits for the first time only.
                    let _ = ready.try_send(Ok(()));
                })
            });
            let Err(error) = ended;
            if is_first && !is_connected {
                let _ = ready.send(Err(failed(&self.place.url, &error)));
                return;
            }
            is_first = false;
            if is_connected {
                attempts = 0;
            }
            if !std::mem::replace(&mut self.is_away, true) {
                let (url, why) = (&self.place.url, why(&error));
                tracing::warn!("store {url}: {why}; going on with what is in memory");
            }
            std::thread::sleep(pause(attempts));
            attempts += 1;
        }
    }

    /// Listens until the connection ends.
    fn listen(
        &mut self,
        connection: &mut Connection,
        hear: &dyn Fn(News),
        connected: &mut dyn FnMut(),
    ) -> RedisResult<std::convert::Infallible> {
        connection.set_read_timeout(Some(SILENCE))?;
        let mut news = connection.as_pubsub();
        news.subscribe(NEWS)?;
        // Only now: whatever changes while everything is read is heard afterwards.
        for shared in self.all()? {
            hear(News::Told(shared));
        }
        self.read_rows(hear)?;
        if std::mem::take(&mut self.is_away) {
            tracing::info!("store {} is reached again", self.place.url);
        }
        connected();
        loop {
            let message = news.get_message()?;
            match self.understand(&message) {
                Some(Heard::Shared(shared)) => hear(News::Told(shared)),
                Some(Heard::Rows) => self.read_rows(hear)?,
                Some(Heard::Key(key)) => hear(News::Key(self.place.row(Table::Keys, &key)?)),
                None => {}
            }
        }
    }

    /// What cannot be read now is read with a new connection: nothing that was told may be missed.
    fn read_rows(&self, hear: &dyn Fn(News)) -> RedisResult<()> {
        let rows = self.place.read(&ALL_BUT_SOLD).map_err(|error| {
            let why = error.to_string();
            RedisError::from((ErrorKind::Io, "rows are not read", why))
        })?;
        hear(News::Rows(rows));
        Ok(())
    }

    fn understand(&self, message: &Msg) -> Option<Heard> {
        let text = std::str::from_utf8(message.get_payload_bytes()).ok()?;
        if text == "rows" {
            return Some(Heard::Rows);
        }
        if let Some(key) = text.strip_prefix("key ") {
            return Some(Heard::Key(key.to_owned()));
        }
        let (head, value) = text.split_once('\n')?;
        let (node, rest) = head.split_once(' ')?;
        let (ttl_ms, key) = rest.split_once(' ')?;
        if node == self.node {
            return None;
        }
        let ttl = Duration::from_millis(ttl_ms.parse().ok()?);
        Shared::read(key, value, ttl).map(Heard::Shared)
    }

    /// Every registration that there is.
    fn all(&self) -> RedisResult<Vec<Shared>> {
        let mut connection = self.place.connect()?;
        let mut all = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let (next, names): (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(format!("{MEMBERS}*"))
                .arg("COUNT")
                .arg(AT_ONCE)
                .query(&mut connection)?;
            let mut pipe = redis::pipe();
            for name in &names {
                pipe.cmd("GET").arg(name).cmd("PTTL").arg(name);
            }
            let found: Vec<(Option<String>, i64)> = match names.is_empty() {
                true => Vec::new(),
                false => pairs(pipe.query(&mut connection)?),
            };
            for (name, (value, ttl_ms)) in names.iter().zip(found) {
                // One that expired between the two questions has no value, or no time left.
                let ttl = u64::try_from(ttl_ms).ok().filter(|ttl| *ttl > 0);
                let key = name.strip_prefix(MEMBERS);
                if let (Some(key), Some(value), Some(ttl)) = (key, value, ttl) {
                    all.extend(Shared::read(key, &value, Duration::from_millis(ttl)));
                }
            }
            if next == 0 {
                return Ok(all);
            }
            cursor = next;
        }
    }
}

enum Heard {
    Shared(Shared),
    /// Somebody changed users or channels.
    Rows,
    /// Somebody changed a key.
    Key(String),
}

/// Answers to GET and PTTL by turns.
fn pairs(answers: Vec<redis::Value>) -> Vec<(Option<String>, i64)> {
    answers
        .chunks(2)
        .map(|pair| match pair {
            [value, ttl] => (
                redis::from_redis_value(value.clone()).ok(),
                redis::from_redis_value(ttl.clone()).unwrap_or(0),
            ),
            _ => (None, 0),
        })
        .collect()
}
