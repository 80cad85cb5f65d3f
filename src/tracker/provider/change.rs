//! Durable state as rows: what a provider must not forget, and the form in which a store keeps it.
//!
//! The provider emits [`Change`]s and never reads them back while it runs; a store hands all rows over once, when the
//! tracker starts. A row is a whole value: putting it twice is putting it once, so a commit that failed can be repeated.

/// What the keys of rows of sealed channels begin with, in [`Table::Keys`].
pub const SEAL_ROWS: &str = "seal.";

/// One kind of row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Counters and other single values, by name.
    Meta,
    /// Accounts by user name.
    Accounts,
    /// Users of a content by the identifier that the provider assigned.
    Users,
    /// Contracts by number.
    Contracts,
    /// Entries of the ledger by number; never changed once written.
    Ledger,
    /// Tickets and keys that are not honoured any more.
    Revocations,
    /// Secret keys of the tracker.
    Keys,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 7] = [
        Self::Meta,
        Self::Accounts,
        Self::Users,
        Self::Contracts,
        Self::Ledger,
        Self::Revocations,
        Self::Keys,
    ];

    /// Name of the table in a store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Accounts => "accounts",
            Self::Users => "users",
            Self::Contracts => "contracts",
            Self::Ledger => "ledger",
            Self::Revocations => "revocations",
            Self::Keys => "keys",
        }
    }
}

/// Whether trackers with one store agree on a row: each change of it counts its member `revision` up by one, and one that
/// is not the next of what is stored is not made.
pub fn is_agreed(table: Table, key: &str) -> bool {
    table == Table::Keys && key.starts_with(SEAL_ROWS)
}

/// One row put, or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it belongs.
    pub table: Table,
    /// Its key; numbers are written with leading zeros, so that text order is number order.
    pub key: String,
    /// JSON text; none removes the row.
    pub value: Option<String>,
}

impl Change {
    /// Whether only a provider writes such rows.
    pub fn is_of_provider(&self) -> bool {
        match self.table {
            Table::Users | Table::Contracts | Table::Ledger => true,
            Table::Meta => self.key.starts_with("next_"),
            Table::Accounts | Table::Revocations | Table::Keys => false,
        }
    }
}
