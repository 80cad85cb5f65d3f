//! The six statuses of users and who may hang below whom (CS-P2P).
//!
//! A status is written kind–serves: `c-p` is a client that serves peers. A peer that serves clients does not exist: its
//! quality is too low to charge for.

use std::fmt;

/// Whether a user pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Pays, by contract.
    Client,
    /// Takes what is left over, for nothing.
    Peer,
}

/// What a user is, and whom it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// A client that serves nobody.
    C,
    /// A client that serves clients; whoever loses his seller is sent here first.
    CC,
    /// A client that serves peers.
    CP,
    /// A client that serves both.
    CCP,
    /// A peer that serves nobody.
    P,
    /// A peer that serves peers.
    PP,
}

impl Status {
    /// Every status, in the order of the columns of the status table.
    pub const ALL: [Self; 6] = [Self::C, Self::CC, Self::CP, Self::CCP, Self::P, Self::PP];

    /// The status of a user of `kind` that serves clients, peers, both or nobody; none for a peer that serves clients.
    pub const fn new(kind: Kind, clients: bool, peers: bool) -> Option<Self> {
        Some(match (kind, clients, peers) {
            (Kind::Client, false, false) => Self::C,
            (Kind::Client, true, false) => Self::CC,
            (Kind::Client, false, true) => Self::CP,
            (Kind::Client, true, true) => Self::CCP,
            (Kind::Peer, false, false) => Self::P,
            (Kind::Peer, false, true) => Self::PP,
            (Kind::Peer, true, _) => return None,
        })
    }

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::C => "c",
            Self::CC => "c-c",
            Self::CP => "c-p",
            Self::CCP => "c-c,p",
            Self::P => "p",
            Self::PP => "p-p",
        }
    }

    /// Reads what [`name`](Self::name) writes.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Whether its user pays.
    pub const fn kind(self) -> Kind {
        match self {
            Self::C | Self::CC | Self::CP | Self::CCP => Kind::Client,
            Self::P | Self::PP => Kind::Peer,
        }
    }

    /// Whether clients may hang below it.
    pub const fn serves_clients(self) -> bool {
        matches!(self, Self::CC | Self::CCP)
    }

    /// Whether peers may hang below it.
    pub const fn serves_peers(self) -> bool {
        matches!(self, Self::CP | Self::CCP | Self::PP)
    }

    /// Whether a user of `kind` may hang below it.
    pub const fn admits(self, kind: Kind) -> bool {
        match kind {
            Kind::Client => self.serves_clients(),
            Kind::Peer => self.serves_peers(),
        }
    }

    /// The same user serving no clients.
    #[must_use]
    pub const fn without_clients(self) -> Self {
        match self {
            Self::CC => Self::C,
            Self::CCP => Self::CP,
            other => other,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_csp_4_five_of_twelve_pairs_connect() {
        let mut allowed = Vec::new();
        for status in Status::ALL {
            for kind in [Kind::Client, Kind::Peer] {
                if status.admits(kind) {
                    allowed.push((status.name(), kind));
                }
            }
        }
        let expected = [
            ("c-c", Kind::Client),
            ("c-p", Kind::Peer),
            ("c-c,p", Kind::Client),
            ("c-c,p", Kind::Peer),
            ("p-p", Kind::Peer),
        ];
        assert_eq!(allowed, expected);
    }

    #[test]
    fn a_peer_that_serves_clients_does_not_exist() {
        assert_eq!(Status::new(Kind::Peer, true, false), None);
        assert_eq!(Status::new(Kind::Peer, true, true), None);
        assert_eq!(Status::from_name("p-c"), None);
        for status in Status::ALL {
            let again = Status::new(
                status.kind(),
                status.serves_clients(),
                status.serves_peers(),
            );
            assert_eq!(again, Some(status));
            assert_eq!(Status::from_name(status.name()), Some(status));
        }
    }
}
