//! The books of a provider: contracts that run, and the newest of what is past.
//!
//! Every row is durable. Memory holds what runs, and enough of the past for whoever looks: a provider that sold for
//! years starts as small as a new one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::contract::{Contract, Entry, State};

/// Contracts that are over and still shown.
pub const OVER_SHOWN: usize = 10_000;

/// Entries of the ledger that are shown.
pub const ENTRIES_SHOWN: usize = 10_000;

/// What a buyer called his request: his account, the content, the name.
type RequestKey = (Arc<str>, Arc<str>, Arc<str>);

/// Contracts and the ledger.
#[derive(Debug, Default)]
pub(super) struct Books {
    contracts: BTreeMap<u64, Contract>,
    /// Running contracts by request.
    by_request: BTreeMap<RequestKey, u64>,
    /// When running contracts are paid until.
    renewals: BTreeSet<(u64, u64)>,
    /// Those that are over, as they ended.
    over: VecDeque<u64>,
    last: u64,
    entries: VecDeque<Entry>,
    booked: u64,
}

impl Books {
    /// A number that no contract has.
    pub(super) const fn next_contract(&self) -> u64 {
        self.last + 1
    }

    /// A contract by its number, unless it is long over.
    pub(super) fn contract(&self, no: u64) -> Option<&Contract> {
        self.contracts.get(&no)
    }

    /// The contracts that are shown, by number.
    pub(super) fn contracts(&self) -> impl Iterator<Item = &Contract> {
        self.contracts.values()
    }

    /// The running contract that a request made.
    pub(super) fn of_request(
        &self,
        account: &str,
        content: &str,
        request: &str,
    ) -> Option<&Contract> {
        let key = (account.into(), content.into(), request.into());
        self.contracts.get(self.by_request.get(&key)?)
    }

    /// Running contracts whose time is over at `at`, in Unix microseconds.
    pub(super) fn due(&self, at: u64) -> Vec<u64> {
        let due = self.renewals.range(..=(at, u64::MAX));
        due.map(|(_, no)| *no).collect()
    }

    /// A contract as it is from now on; the one of the same number is no more.
    pub(super) fn put(&mut self, contract: Contract) {
        let no = contract.no;
        self.last = self.last.max(no);
        let was_over = match self.contracts.get(&no) {
            Some(old) => {
                if let Some(until) = old.until {
                    self.renewals.remove(&(until, no));
                }
                old.state != State::Active
            }
            None => false,
        };
        let key = (
            Arc::clone(&contract.account),
            Arc::clone(&contract.content),
            Arc::clone(&contract.request),
        );
        if contract.state == State::Active {
            if let Some(until) = contract.until {
                self.renewals.insert((until, no));
            }
            self.by_request.insert(key, no);
        } else {
            if self.by_request.get(&key) == Some(&no) {
                self.by_request.remove(&key);
            }
            if !was_over {
                self.over.push_back(no);
            }
        }
        self.contracts.insert(no, contract);
        if self.over.len() > OVER_SHOWN
            && let Some(oldest) = self.over.pop_front()
        {
            self.contracts.remove(&oldest);
        }
    }

    /// Changes a contract. Gives what is to be kept of it.
    pub(super) fn edit(
        &mut self,
        no: u64,
        change: impl FnOnce(&mut Contract),
    ) -> Option<&Contract> {
        let mut contract = self.contracts.get(&no)?.clone();
        change(&mut contract);
        self.put(contract);
        self.contracts.get(&no)
    }

    /// Books an entry. Gives its number.
    pub(super) fn book(&mut self, entry: Entry) -> u64 {
        self.booked += 1;
        if self.entries.len() >= ENTRIES_SHOWN {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
        self.booked
    }

    /// The entries that are shown, oldest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Entries ever booked.
    pub(super) const fn booked(&self) -> u64 {
        self.booked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::provider::contract::Reason;
    use crate::tracker::provider::money::Money;
    use crate::tracker::provider::tariff::Unit;
    use crate::tracker::provider::user::Seller;

    fn contract(no: u64, state: State) -> Contract {
        Contract {
            no,
            request: format!("r{no}").into(),
            account: "ann".into(),
            content: "film".into(),
            user: format!("C{no}").into(),
            seller: Seller::Provider,
            terms: "gold".into(),
            price: Money::ZERO,
            unit: Unit::Hour,
            start: no,
            until: Some(100 + no),
            state,
        }
    }

    #[test]
    fn what_is_long_over_leaves_memory_and_no_number_comes_again() {
        let mut books = Books::default();
        let past = OVER_SHOWN as u64 + 5;
        books.put(contract(1, State::Active));
        for no in 2..=past {
            books.put(contract(no, State::Active));
            books.edit(no, |contract| contract.state = State::Ended);
        }
        assert_eq!(books.contracts().count(), OVER_SHOWN + 1);
        assert!(books.contract(1).is_some(), "it runs");
        assert!(books.contract(2).is_none() && books.contract(past).is_some());
        assert_eq!(books.next_contract(), past + 1);
        assert_eq!(books.due(u64::MAX), [1]);
        assert_eq!(books.by_request.len(), 1);
        for at in 0..ENTRIES_SHOWN as u64 + 3 {
            books.book(Entry {
                at,
                contract: 1,
                from: "ann".into(),
                to: "provider".into(),
                amount: Money::ZERO,
                reason: Reason::Charge,
                reference: None,
            });
        }
        assert_eq!(books.entries().count(), ENTRIES_SHOWN);
        assert_eq!(books.entries().next().map(|entry| entry.at), Some(3));
        assert_eq!(books.booked(), ENTRIES_SHOWN as u64 + 3);
    }

    #[test]
    fn a_request_means_its_contract_on_its_content_while_that_runs() {
        let mut books = Books::default();
        books.put(contract(1, State::Active));
        let found = |books: &Books, content| books.of_request("ann", content, "r1").map(|c| c.no);
        assert_eq!(found(&books, "film"), Some(1));
        assert_eq!(found(&books, "news"), None);
        books.edit(1, |contract| contract.until = Some(500));
        assert_eq!(books.due(499), [] as [u64; 0]);
        assert_eq!(books.due(500), [1]);
        books.edit(1, |contract| contract.state = State::Credited);
        assert_eq!(found(&books, "film"), None);
        assert!(books.due(u64::MAX).is_empty());
    }
}
