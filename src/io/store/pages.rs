//! Tables of numbered rows a page at a time, for those that are longer than memory: contracts and the ledger.
//!
//! They are read from the store, or from the tracker that has it; whoever reads need not know.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::rows::FileRows;
use super::shared::Place;
use super::writer::Rows as _;
use super::{StoreError, StoreUrl};
use crate::io::control;
use crate::tracker::provider::change::Table;

/// What the order for a page is called at the socket of a tracker.
pub const ORDER: &str = "page";

/// Rows of a page.
pub const PAGE_ROWS: usize = 500;

/// Numbers and values of some rows, in order; none behind the last row.
pub type Page = Vec<(u64, String)>;

/// A walk through a table.
#[derive(Debug)]
pub struct Pages {
    from: From,
    table: Table,
    after: u64,
}

#[derive(Debug)]
enum From {
    Nothing,
    File(FileRows),
    Shared(Box<Place>),
    /// A tracker that runs, by its socket; and what to say when there is none.
    Tracker(PathBuf, StoreError),
}

impl Pages {
    /// Begins a walk through a table of numbered rows. A store that is not there is not made.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn open(url: &StoreUrl, table: Table) -> Result<Self, StoreError> {
        let from = match url {
            StoreUrl::Memory => From::Nothing,
            StoreUrl::Redis(url) => From::Shared(Box::new(Place::new(url)?)),
            StoreUrl::Redb(path) => {
                let there = path.symlink_metadata();
                there.map_err(|error| StoreError::open(path, &error))?;
                match (FileRows::open(path), url.control()) {
                    (Ok(rows), _) => From::File(rows),
                    (Err(locked @ StoreError::Locked { .. }), Some(socket)) => {
                        From::Tracker(socket, locked)
                    }
                    (Err(error), _) => return Err(error),
                }
            }
        };
        Ok(Self {
            from,
            table,
            after: 0,
        })
    }

    /// The next rows; none at the end.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn next_page(&mut self) -> Result<Page, StoreError> {
        let page = match &self.from {
            From::Nothing => Page::new(),
            From::File(rows) => rows.page(self.table, self.after)?,
            From::Shared(place) => place.page(self.table, self.after)?,
            From::Tracker(socket, locked) => {
                let answer = control::ask(socket, &order(self.table, self.after));
                let page = answer.ok().as_ref().and_then(page_of);
                page.ok_or_else(|| locked.clone())?
            }
        };
        if let Some((last, _)) = page.last() {
            self.after = *last;
        }
        Ok(page)
    }
}

/// The order for a page, as it goes to a tracker.
fn order(table: Table, after: u64) -> Value {
    json!({ "order": ORDER, "table": table.name(), "after": after })
}

/// Which page an order asks for: of tables that an operator may see.
pub fn wanted(order: &Value) -> Option<(Table, u64)> {
    let table = order.get("table")?.as_str()?;
    let mut tables = [Table::Contracts, Table::Ledger].into_iter();
    let table = tables.find(|known| known.name() == table)?;
    Some((table, order.get("after")?.as_u64()?))
}

/// A page as it is answered.
pub fn to_value(page: &Page) -> Value {
    json!({ "rows": page })
}

fn page_of(answer: &Value) -> Option<Page> {
    let rows = answer.get("body")?.get("rows")?;
    serde_json::from_value(rows.clone()).ok()
}
