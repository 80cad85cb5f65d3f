//! The provider on the fixture of the paper, and driven through its calls.

use std::time::Duration;

use serde_json::{Value, json};

use super::api::{House, Params};
use super::change::{Change, Table};
use super::contract::State;
use super::money::Money;
use super::status::Status;
use super::tariff::{EXAMPLE, Tariff};
use super::user::Seller;
use super::*;
use crate::time::{Epoch, Instant};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// The status table of the paper: identifier, status, Mbit/s, ms, jitter.
const PAPER: [(&str, &str, f64, f64, f64); 6] = [
    ("C1", "c", 25.0, 20.0, 0.04),
    ("C9", "c-c", 11.0, 60.0, 1.32),
    ("C5", "c-p", 5.0, 90.0, 2.78),
    ("C2", "c-c,p", 4.0, 80.0, 2.34),
    ("C10", "p", 2.0, 90.0, 3.03),
    ("C12", "p-p", 1.0, 110.0, 3.44),
];

struct Film {
    has_room: bool,
}

impl House for Film {
    fn has_channel(&self, content: &str) -> bool {
        content == "film"
    }

    fn has_room(&self, _: &str) -> bool {
        self.has_room
    }

    fn check_account(&self, account: &str, secret: Option<&str>) -> Result<(), String> {
        match (account, secret) {
            ("studio", Some("s3cret")) => Ok(()),
            ("studio", _) => Err("user studio proves itself".to_owned()),
            _ => Ok(()),
        }
    }
}

/// A provider, its clock, and what it asked to keep.
struct Shop {
    provider: Provider,
    now: Instant,
    house: Film,
    kept: Vec<Change>,
}

impl Shop {
    fn new(tariff: &str) -> Self {
        let tariff = Tariff::parse(tariff).expect("a tariff");
        Self {
            provider: Provider::new(tariff, Epoch::new(1_700_000_000_000_000), [7; 32]),
            now: Instant::from_micros(1),
            house: Film { has_room: true },
            kept: Vec::new(),
        }
    }

    fn of_the_paper() -> Self {
        let mut shop = Self::new(EXAMPLE);
        let rows = PAPER.map(|(id, status, bw, lat, jit)| Change {
            table: Table::Users,
            key: id.to_owned(),
            value: Some(
                json!({
                    "account": id, "content": "film", "status": status, "seller": "provider",
                    "since": 1, "bw_mbps": bw, "lat_ms": lat, "jit_ms": jit,
                })
                .to_string(),
            ),
        });
        assert!(shop.provider.restore(shop.now, &rows).is_empty());
        shop
    }

    fn call(&mut self, name: &str, params: Value) -> Result<Value, Code> {
        self.ask(name, params, false)
    }

    fn ask(&mut self, name: &str, params: Value, trusted: bool) -> Result<Value, Code> {
        let params: Params = params.as_object().cloned().unwrap_or_default();
        let answer = self
            .provider
            .call(self.now, name, &params, trusted, &self.house);
        self.kept.extend(self.provider.take_changes());
        answer.map_err(|refused| refused.code)
    }

    /// Identifiers of the rows of a reading call.
    fn ids(&mut self, name: &str, params: Value) -> Vec<String> {
        let mut params = params;
        params["content"] = json!("film");
        let answer = self.ask(name, params, true).expect(name);
        let rows = answer["users"].as_array().expect("rows");
        rows.iter()
            .map(|row| row["id"].as_str().unwrap_or("?").to_owned())
            .collect()
    }

    /// Logs in and chooses the film; the session.
    fn enter(&mut self, account: &str) -> String {
        let session = self.call("login", json!({ "user": account })).unwrap()["session"]
            .as_str()
            .expect("a token")
            .to_owned();
        let chosen = self.call("choose", json!({ "session": session, "content": "film" }));
        assert!(chosen.unwrap()["packets"].is_array());
        session
    }

    /// A client of the provider, connected, with a quality and a status; its identifier.
    fn client(
        &mut self,
        account: &str,
        packet: &str,
        qos: (u64, u64, u64),
        status: &str,
    ) -> String {
        let session = self.enter(account);
        let request = json!({ "session": session, "seller": "provider", "packet": packet, "request_id": "1" });
        let id = self.call("contract", request).unwrap()["id"]
            .as_str()
            .expect("an identifier")
            .to_owned();
        self.connect(&id, qos);
        let set = self.call(
            "set_status",
            json!({ "session": session, "status": status }),
        );
        assert!(set.is_ok(), "{set:?}");
        id
    }

    /// The peer of a user connects and reports: kbit/s of uplink, latency and jitter in µs.
    fn connect(&mut self, id: &str, (uplink, latency, jitter): (u64, u64, u64)) {
        let peer = format!("peer-{id}");
        self.provider.connected(self.now, id, &peer);
        let report = Report {
            uplink_kbps: Some(uplink),
            sent_kbps: Some(0),
            kbps: Some(1000),
            latency_us: Some(latency),
            jitter_us: Some(jitter),
            slots_free: Some(8),
            has_parent: true,
        };
        self.provider.on_report(self.now, &peer, &report);
    }

    fn wait(&mut self, span: Duration) {
        self.now += span;
        self.provider.handle_timeout(self.now);
        self.kept.extend(self.provider.take_changes());
    }

    /// Everything that was kept, as a store would give it back.
    fn rows(&self) -> Vec<Change> {
        let mut table = BTreeMap::new();
        for change in &self.kept {
            table.insert((change.table, change.key.clone()), change.clone());
        }
        table.into_values().collect()
    }

    fn ledger(&self) -> Vec<(String, String, String, &'static str)> {
        self.provider
            .ledger()
            .map(|entry| {
                let amount = entry.amount.to_string();
                (
                    entry.from.clone(),
                    entry.to.clone(),
                    amount,
                    entry.reason.name(),
                )
            })
            .collect()
    }
}

const GOOD: (u64, u64, u64) = (20_000, 20_000, 500);

#[test]
fn t_csp_3_the_nine_calls_on_the_table_of_the_paper() {
    let mut shop = Shop::of_the_paper();
    let none = || json!({});
    // 1, 3, 4: users, clients, peers.
    let all = ["C1", "C2", "C5", "C9", "C10", "C12"];
    assert_eq!(shop.ids("get_user_table", none()), all);
    assert_eq!(shop.ids("get_clients", none()), ["C1", "C2", "C5", "C9"]);
    assert_eq!(shop.ids("get_peers", none()), ["C10", "C12"]);
    // 2: packets, best first; their users as the paper writes them.
    let packets = shop
        .ask("get_price_packets", json!({ "content": "film" }), true)
        .unwrap();
    let packets: Vec<(&str, &str, Vec<&str>)> = packets["packets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|packet| {
            let users = packet["users"].as_array().unwrap();
            (
                packet["name"].as_str().unwrap(),
                packet["price"].as_str().unwrap(),
                users.iter().filter_map(Value::as_str).collect(),
            )
        })
        .collect();
    assert_eq!(
        packets,
        [
            ("gold", "0.60", vec!["C1: 25, 20, 0.04"]),
            ("silver", "0.40", vec!["C9: 11, 60, 1.32"]),
            ("bronze", "0.20", vec!["C2: 4, 80, 2.34", "C5: 5, 90, 2.78"]),
        ]
    );
    // 5, 6 and their twins: some columns.
    let content = json!({ "content": "film" });
    let rows = |shop: &mut Shop, name: &str| shop.ask(name, content.clone(), true).unwrap();
    assert_eq!(
        rows(&mut shop, "get_bandwidth")["users"][0],
        json!({ "id": "C1", "bw_mbps": 25.0 })
    );
    assert_eq!(
        rows(&mut shop, "get_latency")["users"][1],
        json!({ "id": "C2", "lat_ms": 80.0 })
    );
    assert_eq!(
        rows(&mut shop, "get_jitter")["users"][3],
        json!({ "id": "C9", "jit_ms": 1.32 })
    );
    assert_eq!(
        rows(&mut shop, "get_bandwidth_and_latency")["users"][2],
        json!({ "id": "C5", "bw_mbps": 5.0, "lat_ms": 90.0 })
    );
    let fields = json!({ "content": "film", "fields": ["jit", "bw"] });
    assert_eq!(
        shop.ask("get_qos", fields, true).unwrap()["users"][0],
        json!({ "id": "C1", "bw_mbps": 25.0, "jit_ms": 0.04 })
    );
    // 7: peers that match; what is not given matches all.
    assert_eq!(shop.ids("get_peers", json!({ "bandwidth": 2 })), ["C10"]);
    assert_eq!(shop.ids("get_peers", json!({ "latency": "90" })), ["C10"]);
    assert_eq!(
        shop.ids("get_peers", json!({ "jitter": 4, "bandwidth": "" })),
        ["C10", "C12"]
    );
    assert_eq!(shop.ids("get_peers", json!({ "bandwidth": 3 })), [""; 0]);
    // 8: clients of the first level with a packet.
    let bronze = json!({ "packet": "bronze" });
    assert_eq!(
        shop.ids("get_direct_clients_of_packet", bronze),
        ["C2", "C5"]
    );
    let quick = json!({ "packet": "bronze", "latency": 80 });
    assert_eq!(shop.ids("get_direct_clients_of_packet", quick), ["C2"]);
    // 9: the status table, six columns in order.
    let table = rows(&mut shop, "get_clients_status");
    assert_eq!(
        table["columns"],
        json!(["c", "c-c", "c-p", "c-c,p", "p", "p-p"])
    );
    for (id, status, bw, lat, jit) in PAPER {
        let row = &table["rows"][status];
        assert_eq!(row.as_array().map(Vec::len), Some(1), "{status}");
        let row = &row[0];
        assert_eq!(
            (&row["id"], &row["bw_mbps"], &row["lat_ms"], &row["jit_ms"]),
            (&json!(id), &json!(bw), &json!(lat), &json!(jit))
        );
    }
    // And the table of prices by bandwidth: every user in one column.
    let intervals = rows(&mut shop, "get_price_intervals");
    let columns: Vec<(String, usize)> = intervals["intervals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["name"].as_str().unwrap().into(),
                row["users"].as_array().unwrap().len(),
            )
        })
        .collect();
    let expected = [("0-2", 2), ("2-5", 2), ("5-10", 0), ("10-", 2)];
    assert_eq!(
        columns,
        expected.map(|(name, count)| (name.to_owned(), count))
    );
}

#[test]
fn inside_a_column_bandwidth_falls() {
    let mut shop = Shop::of_the_paper();
    for (id, bw) in [("C20", 7.0), ("C21", 30.0), ("C22", 7.0)] {
        let row = Change {
            table: Table::Users,
            key: id.into(),
            value: Some(
                json!({ "account": id, "content": "film", "status": "c", "seller": "provider",
                        "since": 1, "bw_mbps": bw })
                .to_string(),
            ),
        };
        shop.provider.restore(shop.now, &[row]);
    }
    let table = shop
        .ask("get_clients_status", json!({ "content": "film" }), true)
        .unwrap();
    let ids: Vec<&str> = table["rows"]["c"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["id"].as_str())
        .collect();
    assert_eq!(ids, ["C21", "C1", "C20", "C22"]);
}

#[test]
fn calls_out_of_order_say_which_step_is_missing() {
    let mut shop = Shop::of_the_paper();
    for name in [
        "choose",
        "contract",
        "join",
        "set_status",
        "leave",
        "get_user_table",
    ] {
        assert_eq!(shop.call(name, json!({})), Err(Code::NotLoggedIn), "{name}");
        let stale = json!({ "session": "0123" });
        assert_eq!(shop.call(name, stale), Err(Code::NotLoggedIn), "{name}");
    }
    let session = shop.call("login", json!({ "user": "ann" })).unwrap()["session"].clone();
    let only = json!({ "session": session });
    for name in ["contract", "join", "set_status", "leave", "get_clients"] {
        assert_eq!(
            shop.call(name, only.clone()),
            Err(Code::NoContent),
            "{name}"
        );
    }
    let other = json!({ "session": session, "content": "opera" });
    assert_eq!(shop.call("choose", other), Err(Code::NoSuchChannel));
    let film = json!({ "session": session, "content": "film" });
    assert!(shop.call("choose", film).is_ok());
    assert!(shop.call("get_clients", only.clone()).is_ok());
    for name in ["set_status", "leave"] {
        assert_eq!(
            shop.call(name, only.clone()),
            Err(Code::NotContracted),
            "{name}"
        );
    }
    let gold = json!({ "session": session, "packet": "gold", "request_id": "a" });
    assert_eq!(shop.call("contract", gold).unwrap()["id"], "C1");
    let status = json!({ "session": session, "status": "c-c,p" });
    assert_eq!(shop.call("set_status", status).unwrap()["status"], "c-c,p");
    assert_eq!(shop.call("leave", only.clone()).unwrap()["id"], "C1");
    assert_eq!(shop.call("leave", only), Err(Code::NotContracted));
    assert_eq!(shop.call("fly", json!({})), Err(Code::NoSuchCall));
    // What shows accounts and money is the operator's.
    assert_eq!(shop.call("get_ledger", json!({})), Err(Code::NotAllowed));
}

#[test]
fn t_csp_4_only_those_who_may_hang_below_somebody_do() {
    /// Whom somebody of a status may serve: one who pays, or one who does not.
    const ALLOWED: [(&str, bool); 5] = [
        ("c-c", true),
        ("c-p", false),
        ("c-c,p", true),
        ("c-c,p", false),
        ("p-p", false),
    ];
    let mut connected = Vec::new();
    for status in Status::ALL {
        for pays in [true, false] {
            let mut shop = Shop::new(EXAMPLE);
            // A peer needs somebody to hang below himself.
            let top = shop.client("top", "gold", GOOD, "c-c,p");
            let session = shop.enter("seller");
            let (call, request) = if status.kind() == Kind::Client {
                (
                    "contract",
                    json!({ "session": session, "packet": "gold", "request_id": "1" }),
                )
            } else {
                (
                    "join",
                    json!({ "session": session, "parent": top, "request_id": "1" }),
                )
            };
            let seller = shop.call(call, request).unwrap()["id"].clone();
            let seller = seller.as_str().unwrap();
            shop.connect(seller, GOOD);
            let name = status.name();
            assert!(
                shop.call("set_status", json!({ "session": session, "status": name }))
                    .is_ok()
            );

            let session = shop.enter("joiner");
            let (call, member) = if pays {
                ("contract", "seller")
            } else {
                ("join", "parent")
            };
            let mut request = json!({ "session": session, "request_id": "1" });
            request[member] = json!(seller);
            let before = shop.kept.len();
            let outcome = shop.call(call, request);
            if !ALLOWED.contains(&(name, pays)) {
                assert_eq!(outcome, Err(Code::NotAllowed), "{name} {pays}");
                assert_eq!(shop.kept.len(), before, "{name} {pays}: nobody was made");
                assert_eq!(
                    shop.call("set_status", json!({ "session": session, "status": "c" })),
                    Err(Code::NotContracted)
                );
                continue;
            }
            // Not only on paper: its peer is sent to that one and to nobody else.
            let id = outcome.expect(name)["id"].clone();
            let peer = "peer-of-joiner";
            shop.provider
                .connected(shop.now, id.as_str().unwrap(), peer);
            let allowed = shop.provider.allowed(shop.now, peer, Room::Free);
            assert!(!allowed.servers, "{name} {pays}");
            let theirs = [seller, &top].map(|id| Arc::from(format!("peer-{id}")));
            // Who does not pay may fall back on others who serve peers.
            let most = if pays { 1 } else { 2 };
            assert!(theirs[..most].starts_with(&allowed.peers) && !allowed.peers.is_empty());
            let kind = if pays { Kind::Client } else { Kind::Peer };
            let user = shop.provider.user(id.as_str().unwrap()).expect("a user");
            assert_eq!(user.status.kind(), kind, "{name} {pays}");
            connected.push((name, pays));
        }
    }
    assert_eq!(connected, ALLOWED);
}

#[test]
fn t_csp_4_a_peer_never_serves_clients() {
    let mut shop = Shop::new(EXAMPLE);
    let top = shop.client("top", "gold", GOOD, "c-p");
    let session = shop.enter("joiner");
    let join = json!({ "session": session, "parent": top, "request_id": "1" });
    let id = shop.call("join", join).unwrap()["id"].clone();
    assert_eq!(id, "P1");
    for status in ["p-c", "c-c", "c", "x"] {
        let set = json!({ "session": session, "status": status });
        assert_eq!(
            shop.call("set_status", set),
            Err(Code::NotAllowed),
            "{status}"
        );
    }
    // It is not made so by its first word either, and a store that says so is not believed.
    let session = shop.enter("bold");
    for call in ["join", "contract"] {
        let bold = json!({ "session": session, "parent": top, "packet": "gold", "status": "p-c",
                           "request_id": "2" });
        let _ = shop.call(call, bold);
    }
    let is_forbidden = |row: &Change| row.value.as_ref().is_some_and(|row| row.contains("p-c"));
    assert!(!shop.kept.iter().any(is_forbidden), "never stored");
    let value = json!({ "account": "eve", "content": "film", "status": "p-c", "seller": "provider",
                        "since": 1 });
    let row = Change {
        table: Table::Users,
        key: "P77".to_owned(),
        value: Some(value.to_string()),
    };
    assert_eq!(shop.provider.restore(shop.now, &[row]), ["users P77"]);
    assert!(shop.provider.user("P77").is_none());
    // Nor does a client whose quality is too low to charge for.
    let session = shop.enter("slow");
    let bronze = json!({ "session": session, "packet": "bronze", "request_id": "1" });
    let id = shop.call("contract", bronze).unwrap()["id"].clone();
    shop.connect(id.as_str().unwrap(), (2_000, 90_000, 2_550));
    let set = json!({ "session": session, "status": "c-c" });
    assert_eq!(shop.call("set_status", set), Err(Code::NotAllowed));
    let set = json!({ "session": session, "status": "c-p" });
    assert!(shop.call("set_status", set).is_ok());
}

#[test]
fn whose_quality_falls_stops_selling() {
    let mut shop = Shop::new(EXAMPLE);
    let id = shop.client("ann", "gold", GOOD, "c-c,p");
    shop.connect(&id, (20_000, 95_000, 500));
    assert_eq!(
        shop.provider.user(&id).map(|user| user.status),
        Some(Status::CP)
    );
}

/// Four servers step from half of their load to nine tenths: two more are wanted, once, whenever that is.
#[test]
fn t_csp_6_reports_of_servers_lead_to_one_wish_within_twelve_seconds() {
    for step_ms in [5000, 5100, 5500, 5900] {
        let mut shop = Shop::new(EXAMPLE);
        let mut wishes = Vec::new();
        for tick in 0..600_u64 {
            let sent = if tick * 100 < step_ms { 50_000 } else { 90_000 };
            // Before, and when it changes, the provider hears of it.
            if [0, step_ms].contains(&(tick * 100)) {
                for server in 0..4 {
                    let report = Report {
                        sent_kbps: Some(sent),
                        uplink_kbps: Some(100_000),
                        ..Report::default()
                    };
                    let name = format!("server{server}");
                    shop.provider.on_server(&name, &report);
                }
            }
            shop.wait(Duration::from_millis(100));
            while let Some((signal, load)) = shop.provider.poll_signal() {
                wishes.push((tick * 100 + 100, signal, load.servers));
            }
        }
        let [(at_ms, signal, servers)] = wishes[..] else {
            panic!("{step_ms}: {wishes:?}");
        };
        assert!(
            (10_000..=12_000).contains(&(at_ms - step_ms)),
            "step at {step_ms}, wish at {at_ms}"
        );
        assert_eq!((signal.op(), signal.count(), servers), ("scale_up", 2, 4));
    }
}

#[test]
fn t_csp_7_prices_are_the_providers() {
    let mut shop = Shop::new(EXAMPLE);
    let session = shop.enter("ann");
    let ask = |price: &str, unit: &str| {
        json!({ "session": session, "packet": "gold", "price": price, "unit": unit,
                "request_id": "1" })
    };
    assert_eq!(
        shop.call("contract", ask("0.59", "hour")),
        Err(Code::PriceDiffers)
    );
    assert_eq!(
        shop.call("contract", ask("0.60", "minute")),
        Err(Code::PriceDiffers)
    );
    assert_eq!(
        shop.call("contract", ask("cheap", "hour")),
        Err(Code::BadRequest)
    );
    let unknown = json!({ "session": session, "packet": "iron", "request_id": "1" });
    assert_eq!(shop.call("contract", unknown), Err(Code::NoSuchTerms));
    assert!(shop.ledger().is_empty() && shop.kept.is_empty());
    assert!(shop.call("contract", ask("0.6", "hour")).is_ok());
    let paid = ("ann".into(), "provider".into(), "0.60".into(), "charge");
    assert_eq!(shop.ledger(), [paid]);
}

#[test]
fn a_request_repeated_is_one_contract() {
    let mut shop = Shop::new(EXAMPLE);
    let session = shop.enter("ann");
    let ask = json!({ "session": session, "packet": "gold", "request_id": "1" });
    let first = shop.call("contract", ask.clone()).unwrap();
    assert_eq!(shop.call("contract", ask.clone()).unwrap(), first);
    // Also after the tracker was killed: from what it kept.
    let rows = shop.rows();
    let mut again = Shop::new(EXAMPLE);
    assert!(again.provider.restore(again.now, &rows).is_empty());
    let session = again.enter("ann");
    let ask = json!({ "session": session, "packet": "gold", "request_id": "1" });
    assert_eq!(again.call("contract", ask).unwrap()["id"], first["id"]);
    assert_eq!(again.ledger(), shop.ledger());
    // And nobody gets an identifier twice.
    let session = again.enter("bob");
    let ask = json!({ "session": session, "packet": "gold", "request_id": "1" });
    assert_eq!(again.call("contract", ask).unwrap()["id"], "C2");
    let other = json!({ "session": session, "packet": "silver", "request_id": "2" });
    assert_eq!(again.call("contract", other), Err(Code::AlreadyContracted));
}

#[test]
fn numbers_of_free_users_are_not_used_twice_after_a_crash() {
    let mut shop = Shop::new(&format!(
        "peers_at_servers = true\n{}",
        without_peers_line()
    ));
    let mut ids = Vec::new();
    for round in 0..3 {
        for peer in 0..2 {
            let account = format!("{round}-{peer}");
            let session = shop.enter(&account);
            let join = json!({ "session": session, "request_id": "1" });
            ids.push(shop.call("join", join).unwrap()["id"].to_string());
        }
        let rows = shop.rows();
        assert_eq!(rows.len(), 1, "one row for a thousand of them");
        let kept = std::mem::take(&mut shop.kept);
        shop = Shop::new(&format!(
            "peers_at_servers = true\n{}",
            without_peers_line()
        ));
        shop.kept = kept;
        shop.provider.restore(shop.now, &rows);
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

fn without_peers_line() -> String {
    EXAMPLE.replace("peers_at_servers = false\n", "")
}

#[test]
fn contracts_are_renewed_while_their_user_is_there() {
    let mut shop = Shop::new(EXAMPLE);
    let id = shop.client("ann", "gold", GOOD, "c");
    shop.wait(HOUR - SECOND);
    assert_eq!(shop.ledger().len(), 1);
    shop.wait(SECOND);
    assert_eq!(shop.ledger().len(), 2, "the second hour");
    shop.provider
        .on_gone(shop.now, &format!("peer-{id}"), false);
    shop.wait(HOUR - SECOND);
    assert!(shop.provider.user(&id).is_some(), "paid for");
    shop.wait(SECOND);
    assert_eq!(shop.provider.user(&id), None);
    assert_eq!(shop.ledger().len(), 2);
    // Nothing of it is left to be restored but the contract and the ledger.
    let mut again = Shop::new(EXAMPLE);
    again.provider.restore(again.now, &shop.rows());
    assert_eq!(again.provider.user_count(), 0);
    let states: Vec<_> = again.provider.contracts().map(|c| c.state).collect();
    assert_eq!(states, [State::Ended]);
}

#[test]
fn who_serves_peers_saves_and_who_sells_is_paid() {
    let mut shop = Shop::new(EXAMPLE);
    let seller = shop.client("ann", "gold", GOOD, "c-c,p");
    shop.wait(HOUR);
    let session = shop.enter("bob");
    let ask = json!({ "session": session, "seller": seller, "packet": "gold", "request_id": "1" });
    assert_eq!(shop.call("contract", ask).unwrap()["id"], "C1_1");
    let row = |from: &str, to: &str, amount: &str, why| {
        (from.to_owned(), to.to_owned(), amount.to_owned(), why)
    };
    assert_eq!(
        shop.ledger(),
        [
            row("ann", "provider", "0.60", "charge"),
            row("ann", "provider", "0.60", "charge"),
            row("provider", "ann", "0.06", "discount"),
            row("bob", "provider", "0.60", "charge"),
            row("provider", "ann", "0.60", "payout"),
        ]
    );
    // By the interval of the seller's bandwidth, when no packet is named.
    let session = shop.enter("carl");
    let ask = json!({ "session": session, "seller": seller, "request_id": "1" });
    let answer = shop.call("contract", ask).unwrap();
    assert_eq!(answer["contract"]["terms"], "10-");
    assert_eq!(answer["contract"]["price"], "0.25");
    // And a client cannot sell what it does not have.
    let session = shop.enter("dora");
    let ask = json!({ "session": session, "seller": seller, "interval": "0-2", "request_id": "1" });
    assert_eq!(shop.call("contract", ask), Err(Code::NotAllowed));
}

#[test]
fn t_csp_5_children_of_a_lost_seller_get_one_of_the_same_interval() {
    let mut shop = Shop::new(EXAMPLE);
    let lost = shop.client("lost", "gold", GOOD, "c-c");
    let mixed = shop.client("mixed", "gold", (20_000, 10_000, 500), "c-c,p");
    let heir = shop.client("heir", "gold", (20_000, 30_000, 500), "c-c");
    let slower = shop.client("slower", "gold", (4_000, 10_000, 500), "c-c");
    let mut children = Vec::new();
    for name in ["a", "b", "c"] {
        let session = shop.enter(name);
        let ask =
            json!({ "session": session, "seller": lost, "packet": "gold", "request_id": "1" });
        let id = shop.call("contract", ask).unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        shop.connect(&id, (5_000, 40_000, 500));
        children.push(id);
    }
    let seller_of = |shop: &mut Shop, id: &str| {
        let peer = format!("peer-{id}");
        let allowed = shop.provider.allowed(shop.now, &peer, Room::Free);
        shop.kept.extend(shop.provider.take_changes());
        (
            allowed.servers,
            allowed.peers.first().map(|peer| peer.to_string()),
        )
    };
    let below = |id: &str| (false, Some(format!("peer-{id}")));
    assert_eq!(seller_of(&mut shop, &children[0]), below(&lost));
    // They ask again without a parent, before the tracker knows that the seller is dead.
    for id in &children {
        let report = Report {
            has_parent: false,
            slots_free: Some(8),
            ..Report::default()
        };
        shop.provider
            .on_report(shop.now, &format!("peer-{id}"), &report);
        // c-c before c-c,p, though that one is nearer.
        assert_eq!(seller_of(&mut shop, id), below(&heir));
        assert_eq!(seller_of(&mut shop, id), below(&heir), "and stay there");
    }
    // The contract follows, also to disk.
    let mut again = Shop::new(EXAMPLE);
    again.provider.restore(again.now, &shop.rows());
    let sellers = again
        .provider
        .contracts()
        .filter(|c| c.seller == Seller::User(heir.as_str().into()));
    assert_eq!(sellers.count(), 3);
    // The next choice: the one that serves peers as well; then a server; the slow one is of another interval.
    shop.provider
        .on_gone(shop.now, &format!("peer-{heir}"), false);
    assert_eq!(seller_of(&mut shop, &children[0]), below(&mixed));
    shop.provider
        .on_gone(shop.now, &format!("peer-{mixed}"), false);
    assert_eq!(seller_of(&mut shop, &children[0]), (true, None));
    assert_ne!(seller_of(&mut shop, &children[1]), below(&slower));
}

#[test]
fn a_client_for_whom_nobody_has_room_is_a_peer_and_gets_its_fee_back() {
    let mut shop = Shop::new(EXAMPLE);
    let seller = shop.client("ann", "gold", GOOD, "c-c");
    let session = shop.enter("bob");
    let ask = json!({ "session": session, "seller": seller, "packet": "gold", "request_id": "1" });
    let id = shop.call("contract", ask).unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    shop.connect(&id, GOOD);
    shop.now += HOUR / 2;
    shop.provider
        .on_gone(shop.now, &format!("peer-{seller}"), true);
    // While the source is away nobody loses his place.
    let peer = format!("peer-{id}");
    shop.provider.allowed(shop.now, &peer, Room::NoServer);
    let status = |shop: &Shop| shop.provider.user(&id).map(|user| user.status);
    assert_eq!(status(&shop), Some(Status::C));
    shop.provider.allowed(shop.now, &peer, Room::Full);
    assert_eq!(status(&shop), Some(Status::P));
    assert_eq!(
        shop.provider.user(&id).map(|user| user.status),
        Some(Status::P)
    );
    let last = shop.ledger().pop();
    let credit = ("provider".into(), "bob".into(), "0.30".into(), "credit");
    assert_eq!(last, Some(credit));
}

#[test]
fn free_peers_hang_below_users_that_serve_peers() {
    let mut shop = Shop::new(EXAMPLE);
    let session = shop.enter("free");
    let join = json!({ "session": session, "request_id": "1" });
    assert_eq!(shop.call("join", join.clone()), Err(Code::Full));
    let serving = shop.client("ann", "gold", GOOD, "c-p");
    assert_eq!(
        shop.call("join", join).unwrap(),
        json!({ "id": "P1", "status": "p", "parent": serving })
    );
    shop.connect("P1", (3_000, 50_000, 900));
    let allowed = shop.provider.allowed(shop.now, "peer-P1", Room::Free);
    assert!(!allowed.servers);
    assert_eq!(allowed.peers, [Arc::<str>::from(format!("peer-{serving}"))]);
    // Below a peer that serves peers: its name tells.
    let set = json!({ "session": session, "status": "p-p" });
    assert!(shop.call("set_status", set).is_ok());
    let session = shop.enter("second");
    let join = json!({ "session": session, "parent": "P1", "request_id": "1" });
    assert_eq!(shop.call("join", join).unwrap()["id"], "P1_1");
    // Free users are forgotten when they are gone.
    shop.provider.on_gone(shop.now, "peer-P1", false);
    shop.wait(2 * 60 * SECOND);
    assert_eq!(shop.provider.user("P1"), None);
}

#[test]
fn payments_are_made_before_the_contract_and_once() {
    let mut shop = Shop::new(&format!("payment = [\"pay\", \"$x;y\"]\n{EXAMPLE}"));
    let session = shop.enter("ann");
    let ask = json!({ "session": session, "packet": "silver", "request_id": "1" });
    assert_eq!(
        shop.call("contract", ask.clone()),
        Err(Code::PaymentPending)
    );
    assert_eq!(
        shop.call("contract", ask.clone()),
        Err(Code::PaymentPending)
    );
    let payment = shop.provider.poll_payment().expect("a payment");
    assert_eq!(shop.provider.poll_payment(), None, "asked once");
    assert_eq!(payment.amount, "0.40".parse::<Money>().unwrap());
    assert!(shop.kept.is_empty() && shop.provider.contracts().next().is_none());
    shop.provider.paid(&payment, Err("no funds".into()));
    assert_eq!(
        shop.call("contract", ask.clone()),
        Err(Code::PaymentRefused)
    );
    assert_eq!(
        shop.call("contract", ask.clone()),
        Err(Code::PaymentPending)
    );
    let payment = shop.provider.poll_payment().expect("another try");
    shop.provider.paid(&payment, Ok(Some("tx9".into())));
    assert_eq!(shop.call("contract", ask).unwrap()["id"], "C1");
    assert_eq!(
        shop.provider
            .ledger()
            .next()
            .and_then(|entry| entry.reference.as_deref()),
        Some("tx9")
    );
    // Renewals are paid as well; a refusal ends the contract, and the user stays as a free peer.
    shop.connect("C1", GOOD);
    shop.wait(HOUR);
    let payment = shop.provider.poll_payment().expect("the second hour");
    shop.provider.paid(&payment, Err("card expired".into()));
    shop.wait(SECOND);
    assert_eq!(
        shop.provider.user("C1").map(|user| user.status),
        Some(Status::P)
    );
}

#[test]
fn who_begins_with_another_name_of_the_same_peer_is_found_again() {
    let mut shop = Shop::new(EXAMPLE);
    let id = shop.client("ann", "gold", GOOD, "c");
    shop.provider.connected(shop.now, &id, "another-peer");
    assert_eq!(
        shop.provider.user_of("another-peer").map(|user| &*user.id),
        Some(&*id)
    );
    assert_eq!(shop.provider.user_of(&format!("peer-{id}")), None);
}

#[test]
fn history_tells_since_when() {
    let mut shop = Shop::new(EXAMPLE);
    let id = shop.client("ann", "gold", GOOD, "c");
    shop.wait(10 * SECOND);
    shop.connect(&id, (20_000, 90_000, 500));
    let ask = |since: &str| json!({ "content": "film", "id": id, "since": since });
    let all = shop.ask("history", ask(""), true).unwrap();
    let since = all["samples"][1]["ts"].as_str().unwrap().to_owned();
    let late = shop.ask("history", ask(&since), true).unwrap();
    let latencies = |answer: &Value| -> Vec<Value> {
        let samples = answer["samples"].as_array().unwrap();
        samples
            .iter()
            .map(|sample| sample["lat_ms"].clone())
            .collect()
    };
    assert_eq!(latencies(&all), [json!(20.0), json!(90.0)]);
    assert_eq!(latencies(&late), [json!(90.0)]);
    assert_eq!(
        shop.ask("history", ask("yesterday"), true),
        Err(Code::BadRequest)
    );
}

#[test]
fn whoever_asks_again_waits_until_it_is_kept() {
    let mut shop = Shop::new(EXAMPLE);
    let session = shop.enter("ann");
    let ask = json!({ "session": session, "packet": "gold", "request_id": "1" });
    let id = shop.call("contract", ask.clone()).unwrap()["id"].clone();
    let set = json!({ "session": session, "status": "c" });
    for (call, params, tables) in [
        ("contract", ask, vec![Table::Users, Table::Contracts]),
        ("set_status", set, vec![Table::Users]),
    ] {
        // The commit of the first may have failed.
        shop.kept.clear();
        assert_eq!(shop.call(call, params).unwrap()["id"], id);
        let kept: Vec<Table> = shop.kept.iter().map(|row| row.table).collect();
        assert_eq!(kept, tables, "{call}");
    }
}

#[test]
fn an_account_of_the_operators_proves_itself() {
    let mut shop = Shop::new(EXAMPLE);
    for (login, outcome) in [
        (json!({ "user": "ann" }), None),
        (json!({ "user": "studio" }), Some(Code::NotAllowed)),
        (
            json!({ "user": "studio", "secret": "s" }),
            Some(Code::NotAllowed),
        ),
        (json!({ "user": "studio", "secret": "s3cret" }), None),
    ] {
        assert_eq!(shop.call("login", login.clone()).err(), outcome, "{login}");
    }
}

#[test]
fn who_pays_no_more_has_no_contract_to_show() {
    let mut shop = Shop::new(EXAMPLE);
    let id = shop.client("ann", "gold", GOOD, "c-p");
    let contract = shop.provider.contract(1).cloned().expect("a contract");
    shop.kept.clear();
    shop.provider.end(&contract);
    shop.kept.extend(shop.provider.take_changes());
    let user = shop.provider.user(&id).expect("he is there");
    assert_eq!(user.status, Status::PP);
    assert_eq!((user.contract, &user.packet), (None, &None));
    assert_eq!(shop.provider.described(&id).get("contract"), None);
    let row = shop.kept.iter().find(|row| row.table == Table::Users);
    assert_eq!(row.map(|row| &row.value), Some(&None), "nothing to restore");
}

#[test]
fn one_peer_is_one_user() {
    let mut shop = Shop::new(&format!(
        "peers_at_servers = true\n{}",
        without_peers_line()
    ));
    let session = shop.enter("ann");
    let join = json!({ "session": session, "request_id": "1" });
    assert_eq!(shop.call("join", join).unwrap()["id"], "P1");
    shop.provider.connected(shop.now, "P1", "her-peer");
    let buy = json!({ "session": session, "packet": "gold", "request_id": "2" });
    assert_eq!(shop.call("contract", buy).unwrap()["id"], "C1");
    shop.provider.connected(shop.now, "C1", "her-peer");
    assert_eq!(shop.provider.user("P1"), None, "she is C1 now");
    let her = shop.provider.user_of("her-peer").map(|user| &*user.id);
    assert_eq!(her, Some("C1"));
    assert_eq!(shop.provider.user_count(), 1);
}

#[test]
fn whoever_comes_back_after_a_restart_is_renewed() {
    let mut shop = Shop::new(EXAMPLE);
    let back = shop.client("ann", "gold", GOOD, "c");
    let away = shop.client("bob", "gold", GOOD, "c");
    let rows = shop.rows();
    let mut again = Shop::new(EXAMPLE);
    again.now += HOUR;
    assert!(again.provider.restore(again.now, &rows).is_empty());
    // Both are due, and nobody had the time to connect again.
    again.wait(SECOND);
    assert_eq!(again.provider.user_count(), 2);
    again.connect(&back, (20_000, 20_000, 500));
    again.wait(SECOND);
    assert_eq!(again.ledger().len(), 3, "her second hour");
    again.wait(60 * SECOND);
    assert_eq!(again.provider.user(&away), None);
    assert!(again.provider.user(&back).is_some());
    assert_eq!(again.ledger().len(), 3);
}
