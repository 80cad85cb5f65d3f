//! A store that several trackers share: rows in a Redis or Valkey, one hash for each table.
//!
//! Everything is under keys that begin with `p2ps`. One script writes, so that rows which belong together are there
//! together, and so that whoever does not sell any more cannot write as the one who does.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::{Client, Connection, ErrorKind, RedisError, RedisResult, ServerErrorKind};

use super::StoreError;
use super::pages::{PAGE_ROWS, Page};
use super::rows::VERSION;
use super::url::RedisUrl;
use super::writer::{Pending, Rows};
use crate::io::http::certificate_fault;
use crate::io::media::reason;
use crate::io::value::Shown;
use crate::tracker::provider::change::{Change, Table, is_agreed};
use crate::tracker::provider::contract;

pub mod lease;
pub mod members;

/// Time for a connection, and for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Rows asked for at a time.
const ROWS_AT_ONCE: usize = 1000;

/// Key of what the store says about itself.
const ABOUT: &str = "p2ps";
/// Key of the number of the last tracker that began to sell.
const TERM: &str = "p2ps:term";
/// Channel on which trackers tell each other what is new.
const NEWS: &str = "p2ps:news";
/// What the keys of tables begin with.
const TABLES: &str = "p2ps:table:";

/// Puts and removes rows: all, or none when somebody else has begun to sell since the term that is given (0), or when a
/// row on which trackers agree is not the next of what is there (-1). A key that changes is news to the other trackers,
/// and so is an account or a channel.
const WRITE: &str = "
local function revision(text)
    local is_row, row = pcall(cjson.decode, text or '')
    return is_row and type(row) == 'table' and tonumber(row.revision) or 0
end
if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for i = 5, #ARGV, 4 do
    if ARGV[i + 2] == '2' then
        local known = redis.call('HGET', ARGV[4] .. ARGV[i], ARGV[i + 1])
        if revision(known) + 1 ~= revision(ARGV[i + 3]) then return -1 end
    end
end
redis.call('HSETNX', KEYS[2], 'version', ARGV[2])
local is_news = false
for i = 5, #ARGV, 4 do
    local hash = ARGV[4] .. ARGV[i]
    if ARGV[i + 2] == '0' then
        redis.call('HDEL', hash, ARGV[i + 1])
    else
        redis.call('HSET', hash, ARGV[i + 1], ARGV[i + 3])
    end
    if ARGV[i] == 'keys' then
        redis.call('PUBLISH', ARGV[3], 'key ' .. ARGV[i + 1])
    else
        is_news = true
    end
end
if ARGV[1] == '' and is_news then redis.call('PUBLISH', ARGV[3], 'rows') end
return 1";

/// Where the store is, and who we are there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    url: RedisUrl,
    client: Client,
}

impl Place {
    pub(super) fn new(url: &RedisUrl) -> Result<Self, StoreError> {
        let client = url.client().map_err(|error| failed(url, &error))?;
        Ok(Self {
            url: url.clone(),
            client,
        })
    }

    fn connect(&self) -> RedisResult<Connection> {
        let connection = self.client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    /// Every row of some tables, once the version was found to be ours.
    pub(super) fn read(&self, tables: &[Table]) -> Result<Vec<Change>, StoreError> {
        let failed = |error: RedisError| failed(&self.url, &error);
        let mut connection = self.connect().map_err(failed)?;
        let mut about = redis::cmd("HGET");
        let version: Option<String> = about
            .arg(ABOUT)
            .arg("version")
            .query(&mut connection)
            .map_err(failed)?;
        if let Some(found) = version.filter(|found| *found != VERSION.to_string()) {
            return Err(StoreError::Version {
                path: Shown::new(&self.url.to_string()),
                found,
            });
        }
        let mut all = Vec::new();
        for &table in tables {
            for (key, value) in rows_of(&mut connection, table).map_err(failed)? {
                all.push(Change {
                    table,
                    key,
                    value: Some(value),
                });
            }
        }
        Ok(all)
    }

    /// Rows that follow a number in a table of numbered rows, which has no gaps. A hash has no order: they are asked for
    /// by name.
    pub(super) fn page(&self, table: Table, after: u64) -> Result<Page, StoreError> {
        let numbers = (after.saturating_add(1)..).take(PAGE_ROWS);
        let mut ask = redis::cmd("HMGET");
        ask.arg(format!("{TABLES}{}", table.name()));
        for no in numbers.clone() {
            ask.arg(contract::key(no));
        }
        let found: RedisResult<Vec<Option<String>>> = self
            .connect()
            .and_then(|mut connection| ask.query(&mut connection));
        let found = found.map_err(|error| failed(&self.url, &error))?;
        let rows = numbers.zip(found);
        Ok(rows.filter_map(|(no, value)| Some((no, value?))).collect())
    }

    /// Puts a row unless there is one; gives the value that is there now.
    pub(super) fn claim(&self, row: &Change) -> Result<Option<String>, StoreError> {
        let hash = format!("{TABLES}{}", row.table.name());
        let claimed = self.connect().and_then(|mut connection| {
            let (): () = redis::cmd("HSETNX")
                .arg(&hash)
                .arg(&row.key)
                .arg(row.value.as_deref().unwrap_or_default())
                .query(&mut connection)?;
            redis::cmd("HGET")
                .arg(&hash)
                .arg(&row.key)
                .query(&mut connection)
        });
        claimed.map_err(|error| failed(&self.url, &error))
    }

    /// Puts a row on which trackers agree if it is the next of what is there; gives what is there then.
    pub(super) fn agree(&self, row: &Change) -> Result<Change, StoreError> {
        let agreed = self.connect().and_then(|mut connection| {
            let rows = [((row.table, row.key.clone()), row.value.clone())].into();
            write(&mut connection, &rows, None)?;
            one_row(&mut connection, row.table, &row.key)
        });
        agreed.map_err(|error| failed(&self.url, &error))
    }

    /// What is there under one key.
    fn row(&self, table: Table, key: &str) -> RedisResult<Change> {
        one_row(&mut self.connect()?, table, key)
    }

    /// Whether what is written is still there after Redis was started again; none where it does not say.
    pub(super) fn is_lasting(&self) -> Option<bool> {
        let mut connection = self.connect().ok()?;
        let about: String = redis::cmd("INFO")
            .arg("persistence")
            .query(&mut connection)
            .ok()?;
        let mut lines = about.lines();
        lines.find_map(|line| Some(line.strip_prefix("aof_enabled:")? != "0"))
    }
}

fn one_row(connection: &mut Connection, table: Table, key: &str) -> RedisResult<Change> {
    let value = redis::cmd("HGET")
        .arg(format!("{TABLES}{}", table.name()))
        .arg(key)
        .query(connection)?;
    Ok(Change {
        table,
        key: key.to_owned(),
        value,
    })
}

/// What became of rows that were to be written.
enum Written {
    Done,
    /// Somebody else has begun to sell.
    NotSelling,
    /// Another tracker has changed a row on which all agree.
    Changed,
}

/// Writes rows, those of a provider in its term.
fn write(connection: &mut Connection, rows: &Pending, term: Option<u64>) -> RedisResult<Written> {
    let mut script = redis::cmd("EVAL");
    script.arg(WRITE).arg(2).arg(TERM).arg(ABOUT);
    script.arg(term.map_or_else(String::new, |term| term.to_string()));
    script.arg(VERSION).arg(NEWS).arg(TABLES);
    for ((table, key), value) in rows {
        script.arg(table.name()).arg(key);
        script.arg(match value {
            None => 0,
            Some(_) if is_agreed(*table, key) => 2,
            Some(_) => 1,
        });
        script.arg(value.as_deref().unwrap_or_default());
    }
    let written: i64 = script.query(connection)?;
    Ok(match written {
        0 => Written::NotSelling,
        -1 => Written::Changed,
        _ => Written::Done,
    })
}

fn rows_of(connection: &mut Connection, table: Table) -> RedisResult<BTreeMap<String, String>> {
    let mut rows = BTreeMap::new();
    let mut cursor = 0_u64;
    loop {
        // In pieces: a long ledger must not stop everybody else's requests.
        let (next, some): (u64, Vec<(String, String)>) = redis::cmd("HSCAN")
            .arg(format!("{TABLES}{}", table.name()))
            .arg(cursor)
            .arg("COUNT")
            .arg(ROWS_AT_ONCE)
            .query(connection)?;
        rows.extend(some);
        if next == 0 {
            return Ok(rows);
        }
        cursor = next;
    }
}

/// Rows that are written by one tracker.
#[derive(Debug)]
pub(super) struct SharedRows {
    place: Place,
    /// None after an error: whatever an answer came to, the next must not be taken for it.
    connection: Option<ConnectionBox>,
    /// The term in which a provider's rows are written; none for all others.
    term: Option<u64>,
}

/// A connection has nothing to show.
struct ConnectionBox(Connection);

impl std::fmt::Debug for ConnectionBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl SharedRows {
    pub(super) const fn new(place: Place, term: Option<u64>) -> Self {
        Self {
            place,
            connection: None,
            term,
        }
    }

    fn write(&mut self, rows: &Pending) -> RedisResult<Written> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(ConnectionBox(self.place.connect()?)),
        };
        write(&mut connection.0, rows, self.term)
    }
}

impl Rows for SharedRows {
    fn commit(&mut self, rows: &Pending) -> Result<(), StoreError> {
        match self.write(rows) {
            Ok(Written::Done) => Ok(()),
            Ok(Written::NotSelling) => Err(StoreError::NotSelling),
            Ok(Written::Changed) => Err(StoreError::Changed),
            Err(error) => {
                self.connection = None;
                Err(StoreError::NotStored(why(&error)))
            }
        }
    }

    fn page(&self, table: Table, after: u64) -> Result<Page, StoreError> {
        self.place.page(table, after)
    }

    fn close(self) {}
}

/// What went wrong when a store was opened.
fn failed(url: &RedisUrl, error: &RedisError) -> StoreError {
    let store = Shown::new(&url.to_string());
    match error.kind() {
        ErrorKind::AuthenticationFailed => StoreError::Denied {
            store,
            why: "wrong user or password".to_owned(),
        },
        ErrorKind::Server(ServerErrorKind::NoPerm) => StoreError::Denied {
            store,
            why: why(error),
        },
        _ if error.code() == Some("NOAUTH") => StoreError::Denied {
            store,
            why: "a password is needed: redis://:PASSWORD@HOST".to_owned(),
        },
        ErrorKind::Server(ServerErrorKind::ResponseError) => StoreError::Unusable {
            store,
            why: why(error),
        },
        _ if error.code() == Some("WRONGTYPE") => StoreError::Unusable {
            store,
            why: "its keys p2ps… are somebody else's".to_owned(),
        },
        _ => StoreError::Unreachable {
            store,
            why: why(error),
        },
    }
}

/// An error as people know it.
fn why(error: &RedisError) -> String {
    let source = error.source();
    let source = source.and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    if let Some(error) = source.and_then(|source| source.downcast_ref::<io::Error>()) {
        let tls = error.get_ref().and_then(|error| error.downcast_ref());
        if let Some(rustls::Error::InvalidCertificate(fault)) = tls {
            return format!("its certificate {}", certificate_fault(fault));
        }
        return match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "timed out".to_owned(),
            _ => reason(error),
        };
    }
    match error.kind() {
        ErrorKind::Parse => "no answer of a Redis".to_owned(),
        ErrorKind::Server(_) | ErrorKind::Extension => {
            let detail = error.detail().or_else(|| error.code());
            detail.unwrap_or("refused").to_lowercase()
        }
        _ => error.to_string().to_lowercase(),
    }
}
