//! `p2ps-tracker contracts` and `p2ps-tracker ledger`: all that was ever sold, and all money that moved.
//!
//! A provider that sold for years has more of both than memory: they are read and printed a page at a time.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;

use super::exit::{CliError, Exit};
use super::table::{Column, render};
use super::tracker::State;
use super::value::printable;
use crate::io::store::pages::Pages;
use crate::stats::timestamp::Timestamp;
use crate::tracker::provider::change::Table;
use crate::tracker::provider::contract::{Contract, Entry};

/// Which rows of which table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Books {
    /// Where they are.
    pub state: State,
    /// Contracts or the ledger.
    pub table: Table,
    /// Only what began or happened then or later.
    pub since: Option<Timestamp>,
    /// Only what has to do with this account or user.
    pub user: Option<String>,
}

/// One row.
#[derive(Debug)]
enum Row {
    Contract(Contract),
    Entry(u64, Entry),
}

impl Books {
    /// Prints them: tables on a terminal, a heading for each page; JSON lines in a pipe.
    ///
    /// # Errors
    ///
    /// A store that cannot be used, an output that fails.
    pub fn run(&self) -> Result<Exit, CliError> {
        let mut stdout = io::stdout().lock();
        let is_terminal = stdout.is_terminal();
        let failed = |error| CliError::store(&error);
        let mut pages = Pages::open(&self.state.read()?, self.table).map_err(failed)?;
        let mut is_first = true;
        loop {
            let page = pages.next_page().map_err(failed)?;
            let is_over = page.is_empty();
            let rows: Vec<Row> = page
                .into_iter()
                .filter_map(|(no, value)| self.read(no, &value))
                .filter(|row| self.is_wanted(row))
                .collect();
            let text = match is_terminal {
                // Without any row there is one heading all the same.
                true if !rows.is_empty() || (is_over && is_first) => self.table_of(&rows),
                true => String::new(),
                false => rows
                    .iter()
                    .map(|row| row.to_value().to_string() + "\n")
                    .collect(),
            };
            is_first &= rows.is_empty();
            match stdout.write_all(text.as_bytes()) {
                Ok(()) => {}
                // Who reads has enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
                Err(error) => return Err(CliError::write_output(&error)),
            }
            if is_over {
                return Ok(Exit::Done);
            }
        }
    }

    /// A row; none, and a line about it, of what is none.
    fn read(&self, no: u64, value: &str) -> Option<Row> {
        let row = match self.table {
            Table::Contracts => Contract::from_json(no, value).map(Row::Contract),
            _ => serde_json::from_str(value)
                .ok()
                .and_then(|value| Some(Row::Entry(no, Entry::from_value(&value)?))),
        };
        if row.is_none() {
            let table = self.table.name();
            let _ = writeln!(io::stderr(), "p2ps-tracker: {table} {no}: makes no sense");
        }
        row
    }

    fn is_wanted(&self, row: &Row) -> bool {
        let (at, names) = match row {
            Row::Contract(contract) => (
                contract.start,
                [&*contract.account, &*contract.user, contract.seller.name()],
            ),
            Row::Entry(_, entry) => (entry.at, [&*entry.from, &*entry.to, &*entry.to]),
        };
        let user = self.user.as_deref();
        self.since.is_none_or(|since| at >= since.unix_micros())
            && user.is_none_or(|user| names.contains(&user))
    }

    fn table_of(&self, rows: &[Row]) -> String {
        let columns: &[(&str, &str, bool)] = match self.table {
            Table::Contracts => &[
                ("NO", "no", true),
                ("START", "start", false),
                ("UNTIL", "until", false),
                ("STATE", "state", false),
                ("ACCOUNT", "account", false),
                ("USER", "user", false),
                ("CONTENT", "content", false),
                ("SELLER", "seller", false),
                ("TERMS", "terms", false),
                ("PRICE", "price", true),
                ("UNIT", "unit", false),
            ],
            _ => &[
                ("NO", "no", true),
                ("TIME", "ts", false),
                ("CONTRACT", "contract", true),
                ("FROM", "from", false),
                ("TO", "to", false),
                ("AMOUNT", "amount", true),
                ("REASON", "reason", false),
                ("REFERENCE", "reference", false),
            ],
        };
        let values: Vec<Value> = rows.iter().map(Row::to_value).collect();
        let columns = columns.iter().map(|(heading, member, is_number)| {
            let cells = values.iter().map(|row| match row.get(member) {
                Some(Value::String(text)) => printable(text),
                None | Some(Value::Null) => String::new(),
                Some(other) => other.to_string(),
            });
            Column {
                heading: (*heading).to_owned(),
                is_number: *is_number,
                cells: cells.collect(),
            }
        });
        render(&columns.collect::<Vec<_>>())
    }
}

impl Row {
    fn to_value(&self) -> Value {
        match self {
            Self::Contract(contract) => contract.to_value(),
            Self::Entry(no, entry) => {
                let mut value = entry.to_value();
                value["no"] = (*no).into();
                value
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::value::StoreUrl;

    const ENTRY: &str = r#"{"ts":"2026-11-21T20:00:00.000000Z","contract":1,"from":"ann","to":"provider",
        "amount":"0.60","reason":"charge","reference":null}"#;
    const CONTRACT: &str = r#"{"request":"r","account":"ann","content":"film","user":"C1","seller":"provider",
        "terms":"gold","price":"0.60","unit":"hour","start":1795291200000000,"until":null,"state":"ended"}"#;

    fn books(table: Table) -> Books {
        Books {
            state: State {
                store: StoreUrl::Memory,
                tls_ca: None,
            },
            table,
            since: None,
            user: None,
        }
    }

    #[test]
    fn rows_are_chosen_by_time_and_name() {
        for (table, value, names) in [
            (Table::Ledger, ENTRY, &["ann", "provider"][..]),
            (Table::Contracts, CONTRACT, &["ann", "C1", "provider"]),
        ] {
            let row = books(table).read(7, value).expect("a row");
            let wants = |since: &str, user: Option<&str>| {
                let books = Books {
                    since: Timestamp::parse(since),
                    user: user.map(str::to_owned),
                    ..books(table)
                };
                books.is_wanted(&row)
            };
            let (then, later) = ("2026-11-21T20:00:00Z", "2026-11-21T20:00:01Z");
            assert!(wants("", None) && wants(then, None) && !wants(later, None));
            for name in names {
                assert!(wants("", Some(name)) && !wants(later, Some(name)), "{name}");
            }
            assert!(!wants("", Some("bob")) && !wants("", Some("")));
            assert!(books(table).read(7, "{}").is_none());
        }
    }

    #[test]
    fn tables_have_a_line_for_each_row() {
        let ledger = books(Table::Ledger);
        let strange = ENTRY.replace("ann", "a\\u001bn");
        let rows: Vec<Row> = [ENTRY, &strange]
            .iter()
            .zip(9..)
            .filter_map(|(value, no)| ledger.read(no, value))
            .collect();
        assert_eq!(
            ledger.table_of(&rows),
            "NO  TIME                         CONTRACT  FROM      TO        AMOUNT  REASON  REFERENCE\n \
             9  2026-11-21T20:00:00.000000Z         1  ann       provider    0.60  charge\n\
             10  2026-11-21T20:00:00.000000Z         1  a\\u{1b}n  provider    0.60  charge\n"
        );
        let contracts = books(Table::Contracts);
        let row = contracts.read(1, CONTRACT).expect("a row");
        let table = contracts.table_of(&[row]);
        assert!(table.starts_with("NO  START") && table.contains(" ended  ann      C1"));
        assert!(contracts.table_of(&[]).ends_with("(none)\n"));
    }
}
