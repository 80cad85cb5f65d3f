//! A sealed channel at two trackers with one store: whatever the source seals with, every viewer has it already.

use std::time::Duration;

use super::*;
use crate::ids::PeerKey;
use crate::integrity::key::SigningKey;
use crate::seal::EpochId;
use crate::time::Epoch;
use crate::tracker::announce::{Announcer, Credentials, Event, Identity};
use crate::tracker::message::{Deal, Secret};
use crate::tracker::provider::change::{Change, Table, is_agreed};
use crate::tracker::registry::Shared;
use crate::tracker::ticket::Roles;
use crate::tracker::ticket::office::Lives;
use crate::tracker::ticket::seals::{HEARSAY_SPAN, RETURN_SPAN, Rules};

const STEP: Duration = Duration::from_millis(100);

fn secret() -> Secret {
    Secret::new("s3cret").expect("printable")
}

fn office(seed: u64, rows: &[Change]) -> TicketOffice {
    let key = SigningKey::from_seed_ed25519([7; 32]);
    let epoch = Epoch::new(1_795_262_400_000_000);
    let office = TicketOffice::new(epoch, key, Lives::default(), Seed::from_number(seed));
    let mut office = office.expect("an Ed25519 key");
    office.set_seal_rules(Rules {
        rotation: Duration::from_secs(60),
        patience: RETURN_SPAN,
        settling: HEARSAY_SPAN,
    });
    office.set_shared();
    for row in rows {
        let value = row.value.as_deref().unwrap_or_default();
        let loaded = office.load(row.table, &row.key, value);
        loaded.expect("a row of ours");
    }
    office
}

/// Rows as trackers share them: what they agree on is changed by whoever is first.
#[derive(Default)]
struct Store(BTreeMap<(Table, String), String>);

impl Store {
    fn rows(&self) -> Vec<Change> {
        let rows = self.0.iter();
        rows.map(|((table, key), value)| Change {
            table: *table,
            key: key.clone(),
            value: Some(value.clone()),
        })
        .collect()
    }

    fn row(&self, key: &str) -> Option<String> {
        self.0.get(&(Table::Keys, key.to_owned())).cloned()
    }

    /// Puts rows, all or none.
    fn put(&mut self, changes: &[Change]) -> bool {
        let revision = |text: Option<&String>| {
            let row = text.map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
            row.map_or(0, |row| row["revision"].as_u64().expect("a number"))
        };
        let is_next = |change: &Change| {
            let known = self.0.get(&(change.table, change.key.clone()));
            !is_agreed(change.table, &change.key)
                || revision(known) + 1 == revision(change.value.as_ref())
        };
        if !changes.iter().all(is_next) {
            return false;
        }
        for change in changes {
            let at = (change.table, change.key.clone());
            match &change.value {
                Some(value) => self.0.insert(at, value.clone()),
                None => self.0.remove(&at),
            };
        }
        true
    }
}

/// What is on its way to a tracker.
enum News {
    Told(Shared),
    Key,
    Rows,
}

struct Tool {
    announcer: Announcer,
    /// Its trackers.
    at: Vec<usize>,
    from: SocketAddr,
    held: BTreeSet<EpochId>,
    uses: Option<EpochId>,
}

struct Swarms {
    now: Instant,
    rng: Rng,
    store: Store,
    is_away: bool,
    trackers: Vec<Option<Registry>>,
    news: Vec<(Instant, usize, News)>,
    tools: Vec<Tool>,
}

impl Swarms {
    fn new(seed: u64) -> Self {
        let mut store = Store::default();
        let mut maker = office(1, &[]);
        for user in ["studio", "ann", "dora", "x0", "x1", "x2", "x3"] {
            let roles = Roles::WATCH.with(Roles::PUBLISH);
            store.put(&maker.add_user(user, &secret(), roles).expect("a user"));
        }
        store.put(&maker.set_closed("film", true).expect("a name"));
        let trackers = [2, 3].map(|number| {
            let mut registry =
                Registry::new(Config::default(), Seed::from_number(number)).with_others();
            registry.set_office(office(number, &store.rows()));
            Some(registry)
        });
        Self {
            now: Instant::from_micros(100_000_000),
            rng: Rng::new(Seed::from_number(seed)),
            store,
            is_away: false,
            trackers: trackers.into(),
            news: Vec::new(),
            tools: Vec::new(),
        }
    }

    fn add(&mut self, user: &str, role: Role, at: &[usize]) {
        let number = self.tools.len() as u8 + 1;
        let identity = Identity {
            peer_id: format!("{user}-peer"),
            role,
            channel: Some("film".to_owned()),
            swarm_id: Some(SWARM.to_owned()),
            title: None,
            description: None,
            port: 7850,
            addresses: Vec::new(),
            deal: Deal::default(),
            service: None,
        };
        let mut announcer = Announcer::new(self.now, identity, at.len(), self.rng.child());
        announcer.set_credentials(Credentials {
            key: PeerKey::from_bytes([number; 32]),
            login: Some((user.to_owned(), secret())),
            ticket: None,
        });
        if role == Role::Source {
            announcer.set_sealing();
        }
        self.tools.push(Tool {
            announcer,
            at: at.to_vec(),
            from: SocketAddr::from(([127, 0, 0, number], 4000)),
            held: BTreeSet::new(),
            uses: None,
        });
    }

    /// Something on its way to every tracker but one, there within a second.
    fn send(&mut self, but: Option<usize>, news: impl Fn() -> News) {
        for to in (0..self.trackers.len()).filter(|to| Some(*to) != but) {
            let late = Duration::from_millis(100 + self.rng.below(500));
            self.news.push((self.now + late, to, news()));
        }
    }

    fn agree(&mut self, change: &Change) -> Option<Change> {
        if self.is_away {
            return None;
        }
        if self.store.put(std::slice::from_ref(change)) {
            self.send(None, || News::Key);
        }
        Some(Change {
            value: self.store.row(&change.key),
            ..change.clone()
        })
    }

    /// What a tracker answers; nothing when it is dead.
    fn ask(&mut self, tracker: usize, from: SocketAddr, body: &str) -> Option<String> {
        let request = Request::from_json(body.as_bytes()).expect("a request");
        let now = self.now;
        for _ in 0..10 {
            let registry = self.trackers[tracker].as_mut()?;
            if !registry.awaits_agreement(now, from.ip(), &request) {
                return Some(registry.handle(now, from, &request).to_json());
            }
            let proposal = registry.office().and_then(TicketOffice::poll_proposal);
            let proposal = proposal.expect("what the store is to be asked for");
            let found = self.agree(&proposal);
            let office = self.trackers[tracker]
                .as_mut()?
                .office()
                .expect("an office");
            let agreed = office.agreed(now, &proposal.key, found.as_ref());
            agreed.expect("a row of ours");
        }
        panic!("no end of asking the store");
    }

    fn step(&mut self) {
        self.now += STEP;
        let now = self.now;
        let (due, rest) = std::mem::take(&mut self.news)
            .into_iter()
            .partition(|(at, ..)| *at <= now);
        self.news = rest;
        let due: Vec<(Instant, usize, News)> = due;
        for (_, to, news) in due {
            let Some(registry) = &mut self.trackers[to] else {
                continue;
            };
            match news {
                News::Told(shared) => assert!(registry.on_shared(now, &shared)),
                News::Key => {
                    let row = self.store.row("seal.film");
                    let office = registry.office().expect("an office");
                    let taken = office.take_key(now, "seal.film", row.as_deref());
                    taken.expect("a row of ours");
                }
                News::Rows => {
                    let office = registry.office().expect("an office");
                    let loaded = office.load_again(now, &self.store.rows());
                    loaded.expect("rows of ours");
                }
            }
        }
        for which in 0..self.tools.len() {
            self.tools[which].announcer.handle_timeout(now);
            while let Some((index, body)) = self.tools[which].announcer.poll_request(now) {
                let (tracker, from) = (self.tools[which].at[index], self.tools[which].from);
                let answer = self
                    .ask(tracker, from, &body)
                    .ok_or_else(|| "dead".to_owned());
                let tool = &mut self.tools[which];
                tool.announcer.handle_response(now, index, answer);
                while let Some(event) = tool.announcer.poll_event() {
                    if let Event::Seal(seal) = event {
                        tool.held.extend(seal.keys.iter().map(|(epoch, _)| *epoch));
                        tool.uses = seal.seal_with;
                    }
                }
            }
        }
        for from in 0..self.trackers.len() {
            while !self.is_away
                && let Some(registry) = &mut self.trackers[from]
                && let Some(shared) = registry.poll_shared(now)
            {
                self.send(Some(from), || News::Told(shared.clone()));
            }
        }
    }

    /// Goes on, and looks all the time whether somebody lacks the key that is used; gives how often that changed.
    fn run(&mut self, seconds: u64) -> usize {
        let end = self.now + Duration::from_secs(seconds);
        let mut changes = 0;
        while self.now < end {
            let before = self.tools[0].uses;
            self.step();
            let uses = self.tools[0].uses;
            assert!(uses >= before, "never an older one: {before:?}, {uses:?}");
            changes += usize::from(uses != before);
            for viewer in self.tools.iter().skip(1) {
                let has_it = uses.is_none_or(|epoch| viewer.held.contains(&epoch));
                // Whoever has just come has a moment before there is anything to play.
                let has_come = !viewer.held.is_empty();
                assert!(has_it || !has_come, "{:?}: {uses:?}", viewer.from);
            }
        }
        changes
    }

    /// What the operator's tool does.
    fn revoke(&mut self, user: &str) {
        let mut order = office(99, &self.store.rows());
        let changes = order.revoke_user(self.now, user).expect("a user");
        assert!(changes.iter().any(|row| row.key == "seal.film"));
        assert!(self.store.put(&changes));
        self.send(None, || News::Rows);
        self.send(None, || News::Key);
    }

    /// The newest key at a tracker, to whoever may watch.
    fn newest(&mut self, tracker: usize) -> Option<u64> {
        let body = format!(
            r#"{{"PPSPTrackerProtocol":{{"version":1,"request_type":"CONNECT","transaction_id":"{}","peer_id":"asker",
            "connect":{{"swarm_action":[{{"swarm_id":"{SWARM}","action":"JOIN","peer_mode":"LEECH"}}]}},
            "x_ext":{{"v":1,"role":"peer","channel":"film","port":7850,"user":"x3","token":"s3cret","key":"{}"}}}}}}"#,
            self.rng.next_u64(),
            PeerKey::from_bytes([77; 32]),
        );
        let answer = self.ask(tracker, addr("127.0.0.77:1"), &body)?;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let keys = answer["PPSPTrackerProtocol"]["x_ext"]["seal"]["keys"].as_array()?;
        keys.last()?["epoch"].as_u64()
    }
}

#[test]
fn every_viewer_has_the_key_before_it_is_used_wherever_he_asks() {
    for seed in 0..20 {
        let mut table = Swarms::new(seed);
        // The source asks one tracker, or both.
        let both: &[usize] = &[0, 1];
        let some = if seed % 2 == 0 { &both[..1] } else { both };
        table.add("studio", Role::Source, some);
        table.run(3);
        table.add("ann", Role::Peer, &[1]);
        table.add("dora", Role::Peer, &[0, 1]);
        table.run(20);
        table.revoke("x0");
        assert_eq!(table.run(30), 1, "seed {seed}: by revocation");
        assert!(table.run(60) >= 1, "seed {seed}: by time");
        let newest = [table.newest(0), table.newest(1)];
        assert!(newest[0].is_some() && newest[0] == newest[1], "{newest:?}");
        // Without the store nothing changes; with it again, everything goes on.
        table.is_away = true;
        let changes = table.run(90);
        assert!(changes <= 1, "seed {seed}: what was agreed on before");
        table.is_away = false;
        for registry in table.trackers.iter_mut().flatten() {
            registry.share_again();
        }
        assert!(table.run(40) >= 1, "seed {seed}: back");
        if some.len() > 1 {
            table.trackers[0] = None;
            table.revoke("x1");
            assert!(table.run(120) >= 2, "seed {seed}: with the other alone");
        }
    }
}
