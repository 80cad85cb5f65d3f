//! A server and the viewers that come to help it: when service is guaranteed, and who is rejected until then; and what
//! layered coding saves (algorithms 1.2 and 1.3, after PSP).
//!
//! The model knows no departures of supporters, no limits of what they give, and no delay until they find each other:
//! a live system does worse.

/// One cluster. Bandwidths are in one unit, times in another; both cancel out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Service {
    /// What the server can send: B.
    pub server: f64,
    /// What one viewer needs: β.
    pub viewer: f64,
    /// What one supporting peer gives on average: α.
    pub supporter: f64,
    /// Length of a session: L.
    pub session: f64,
    /// Requests per unit of time: λ.
    pub arrivals: f64,
}

impl Service {
    /// Requests in one session length: λL.
    pub const fn requests(&self) -> f64 {
        self.arrivals * self.session
    }

    /// Bandwidth that all of them need: D = βλL.
    pub const fn demand(&self) -> f64 {
        self.viewer * self.requests()
    }

    /// Session lengths for which the server alone suffices: t0. From 1 on it is never overloaded.
    pub const fn server_suffices(&self) -> f64 {
        self.server / self.demand()
    }

    /// What all supporters add in one session length, relative to what there is.
    const fn growth(&self) -> f64 {
        (self.supporter + self.viewer) / self.viewer
    }

    /// Session lengths until everybody is served again: tg; 0 when the server suffices, none when nobody helps.
    pub fn guaranteed_from(&self) -> Option<f64> {
        if self.demand() <= self.server {
            return Some(0.0);
        }
        let intervals = (self.demand() / self.server).ln() / self.growth().ln();
        intervals.is_finite().then_some(intervals)
    }

    /// Bandwidth after `t` session lengths.
    pub fn capacity(&self, t: f64) -> f64 {
        if self.demand() <= self.server {
            return self.server;
        }
        self.server * self.growth().powf(t)
    }

    /// Supporting peers after `t` session lengths: S(t), as long as capacity is short of demand.
    pub fn supporters(&self, t: f64) -> f64 {
        // Where they give nothing, there are as many as the server could serve.
        if self.supporter <= 0.0 && self.demand() > self.server {
            return self.server / self.viewer * t;
        }
        let added = self.capacity(t) - self.server;
        if added > 0.0 {
            added / self.supporter
        } else {
            0.0
        }
    }

    /// Share of the requests of interval `t` that are rejected: R(t).
    pub fn reject_ratio(&self, t: f64) -> f64 {
        (1.0 - self.capacity(t) / self.demand()).max(0.0)
    }

    /// Supporting peers at tg.
    pub fn supporters_when_guaranteed(&self) -> f64 {
        ((self.demand() - self.server) / self.supporter).max(0.0)
    }

    /// Peers that are served at tg: N(tg).
    pub fn peers_when_guaranteed(&self) -> f64 {
        self.supporters_when_guaranteed() + self.requests()
    }
}

/// What a server sends to `peers` peers that pass enhancement layers on to each other: B_O. Layers from the base up.
pub fn layered(peers: f64, layers: &[f64]) -> f64 {
    match layers.split_first() {
        Some((base, rest)) => peers * base + rest.iter().sum::<f64>(),
        None => 0.0,
    }
}

/// What it sends when everybody gets everything from it: B_CS.
pub fn client_server(peers: f64, layers: &[f64]) -> f64 {
    peers * layers.iter().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Service = Service {
        server: 100.0,
        viewer: 1.0,
        supporter: 1.0,
        session: 3600.0,
        arrivals: 0.222_222_222_222,
    };
    const B: Service = Service {
        server: 200.0,
        viewer: 0.5,
        supporter: 0.25,
        session: 60.0,
        arrivals: 20.0,
    };
    const C: Service = Service {
        server: 1000.0,
        viewer: 1.5,
        supporter: 0.3,
        session: 90.0,
        arrivals: 60.0,
    };

    /// Equal in six digits.
    fn near(value: f64, golden: f64) -> bool {
        (value - golden).abs() <= golden.abs().max(1.0) * 1e-6
    }

    #[test]
    fn t_psp_1_golden_values_of_the_service_guaranteed_period() {
        // λL, D, t0, tg, tg·L, S(tg), N(tg), S(0..3), R(0..3)
        let rows = [
            (
                A,
                [800.0, 800.0, 0.125, 3.0, 10_800.0, 700.0, 1500.0],
                [0.0, 100.0, 300.0, 700.0],
                [0.875, 0.75, 0.5, 0.0],
            ),
            (
                B,
                [
                    1200.0,
                    600.0,
                    0.333_333,
                    2.709_511,
                    162.570_669,
                    1600.0,
                    2800.0,
                ],
                [0.0, 400.0, 1000.0, 1900.0],
                [0.666_667, 0.5, 0.25, 0.0],
            ),
            (
                C,
                [
                    5400.0,
                    8100.0,
                    0.123_457,
                    11.473_487,
                    1_032.613_85,
                    23_666.666_7,
                    29_066.666_7,
                ],
                [0.0, 666.666_7, 1_466.666_7, 2_426.666_7],
                [0.876_543, 0.851_852, 0.822_222, 0.786_667],
            ),
        ];
        for (service, facts, supporters, rejected) in rows {
            let tg = service.guaranteed_from().expect("peers help");
            let found = [
                service.requests(),
                service.demand(),
                service.server_suffices(),
                tg,
                tg * service.session,
                service.supporters_when_guaranteed(),
                service.peers_when_guaranteed(),
            ];
            for (value, golden) in found.into_iter().zip(facts) {
                assert!(near(value, golden), "{value} {golden}");
            }
            for (t, (peers, ratio)) in supporters.into_iter().zip(rejected).enumerate() {
                let (s, r) = (service.supporters(t as f64), service.reject_ratio(t as f64));
                assert!(near(s, peers) && near(r, ratio), "t {t}: {s} {r}");
            }
        }
        assert!(near(C.reject_ratio(11.0), 0.082_706) && C.reject_ratio(12.0) == 0.0);
    }

    #[test]
    fn t_psp_1_a_server_that_suffices_needs_nobody() {
        let service = Service {
            server: 1000.0,
            viewer: 1.0,
            supporter: 1.0,
            session: 600.0,
            arrivals: 1.0,
        };
        assert!(near(service.server_suffices(), 1.666_667));
        assert_eq!(service.guaranteed_from(), Some(0.0));
        assert_eq!(service.supporters_when_guaranteed(), 0.0);
        for t in [0.0, 1.0, 7.0] {
            assert_eq!((service.supporters(t), service.reject_ratio(t)), (0.0, 0.0));
        }
    }

    #[test]
    fn t_psp_1_two_files_share_best_in_proportion() {
        let tg = |server: f64, requests: f64| {
            let service = Service {
                server,
                viewer: 1.0,
                supporter: 1.0,
                session: 1.0,
                arrivals: requests,
            };
            service.guaranteed_from().expect("peers help")
        };
        assert!(near(tg(75.0, 600.0), 3.0) && near(tg(25.0, 200.0), 3.0));
        let (one, other) = (tg(50.0, 600.0), tg(50.0, 200.0));
        assert!(near(one, 3.584_963) && near(other, 2.0), "{one} {other}");
        assert!(near((one + other) / 2.0, 2.792_481));
    }

    #[test]
    fn nobody_who_helps_means_no_guarantee() {
        let service = Service {
            supporter: 0.0,
            ..A
        };
        assert_eq!(service.guaranteed_from(), None);
        assert!(near(service.reject_ratio(9.0), 0.875));
        assert!(near(service.supporters(2.0), 200.0));
    }

    #[test]
    fn t_psp_1_what_layers_save() {
        let layers = [200.0, 300.0, 500.0];
        for (peers, sent, all, saving) in [
            (10.0, 2_800.0, 10_000.0, 0.72),
            (100.0, 20_800.0, 100_000.0, 0.792),
            (1000.0, 200_800.0, 1_000_000.0, 0.7992),
        ] {
            let (o, cs) = (layered(peers, &layers), client_server(peers, &layers));
            assert!(
                near(o, sent) && near(cs, all) && near(1.0 - o / cs, saving),
                "{peers}"
            );
        }
        assert_eq!(layered(5.0, &[]), 0.0);
    }
}
