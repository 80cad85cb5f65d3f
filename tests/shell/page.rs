//! The tracker's page in a real browser, without a window: what a person would read there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use p2ps::tracker::provider::tariff::EXAMPLE;

use crate::harness::{Place, Running, is_installed, left_out, program};

/// The page that a browser makes of an address, as it stands after some rounds; none where there is no browser.
fn dom(test: &str, url: &str) -> Option<String> {
    if !is_installed("chromium") {
        left_out(test, "chromium");
        return None;
    }
    let profile = Place::new();
    let run = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
        ])
        .args(["--no-first-run", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.arg("profile")))
        // Its clock jumps ahead while it waits for nothing but the clock.
        .args(["--virtual-time-budget=5000", "--dump-dom", url])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .expect("it runs");
    let dom = String::from_utf8(run.stdout).expect("text");
    assert!(dom.contains("</html>"), "a page: {dom}");
    Some(dom)
}

/// The text between two marks, behind a first one.
fn between<'a>(text: &'a str, behind: &str, from: &str, to: &str) -> &'a str {
    let found = text
        .split_once(behind)
        .and_then(|(_, rest)| rest.split_once(from))
        .and_then(|(_, rest)| rest.split_once(to));
    let found = found.unwrap_or_else(|| panic!("no {behind} {from} … {to} in {text}"));
    found.0
}

/// The cells of a table, row by row: the text of every `td` and `th`, with `|` between the entries of a list.
fn cells(dom: &str, id: &str) -> Vec<Vec<String>> {
    let table = between(dom, &format!("id=\"{id}\""), "<thead>", "</table>");
    let rows = table.split("<tr>").skip(1);
    let cell = |cell: &str| {
        let mut text = String::new();
        let listed = cell.replace("</li><li>", "|");
        for (index, part) in listed.split('<').enumerate() {
            let part = if index == 0 {
                part
            } else {
                part.split_once('>').map_or("", |(_, text)| text)
            };
            text += part;
        }
        text
    };
    rows.map(|row| {
        let row = row.replace("<th", "<td").replace("</th>", "</td>");
        let open = row.split("<td").skip(1);
        open.map(|text| {
            let inner = text.split_once('>').map_or("", |(_, rest)| rest);
            cell(inner.split("</td>").next().unwrap_or(inner))
        })
        .collect()
    })
    .collect()
}

/// A server that gives these bodies by path, and 503 for everything else.
fn serve(pages: BTreeMap<&'static str, (&'static str, String)>) -> String {
    fn answer(stream: TcpStream, pages: &BTreeMap<&'static str, (&'static str, String)>) {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while reader.read_line(&mut head).is_ok_and(|count| count > 2) {}
        let target = head.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let (status, kind, body) = match pages.get(path) {
            Some((kind, body)) => ("200 OK", *kind, body.as_str()),
            None => ("503 Service Unavailable", "application/json", "{}"),
        };
        let _ = write!(
            reader.get_mut(),
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, &pages);
        }
    });
    format!("http://{address}/")
}

/// The page itself, with whatever the tracker is to say.
fn page(answers: Vec<(&'static str, Value)>) -> BTreeMap<&'static str, (&'static str, String)> {
    let files = [
        (
            "/",
            "text/html",
            include_str!("../../src/io/http/server/page/page.html"),
        ),
        (
            "/page.js",
            "text/javascript",
            include_str!("../../src/io/http/server/page/page.js"),
        ),
        (
            "/page.css",
            "text/css",
            include_str!("../../src/io/http/server/page/page.css"),
        ),
        (
            "/page.svg",
            "image/svg+xml",
            include_str!("../../src/io/http/server/page/page.svg"),
        ),
    ];
    let files = files.map(|(path, kind, text)| (path, (kind, text.to_owned())));
    let answers = answers
        .into_iter()
        .map(|(path, body)| (path, ("application/json", body.to_string())));
    files.into_iter().chain(answers).collect()
}

fn user(id: &str, status: &str, bw: f64, lat: u32, jit: f64) -> Value {
    json!({"id": id, "status": status, "bw_mbps": bw, "lat_ms": lat, "jit_ms": jit, "level": 1, "parent": "provider",
           "content": "film"})
}

/// The status table of the paper.
fn golden() -> Vec<Value> {
    vec![
        user("C1", "c", 25.0, 20, 0.04),
        user("C9", "c-c", 11.0, 60, 1.32),
        user("C5", "c-p", 5.0, 90, 2.78),
        user("C2", "c-c,p", 4.0, 80, 2.34),
        user("C10", "p", 2.0, 90, 3.03),
        user("C12", "p-p", 1.0, 110, 3.44),
    ]
}

/// A tracker with the tables of the paper, and a channel of this title with these members.
fn paper(title: &str, tree: Value) -> Vec<(&'static str, Value)> {
    let of = |status: &str| -> Vec<Value> {
        let users = golden().into_iter();
        users.filter(|user| user["status"] == status).collect()
    };
    vec![
        (
            "/v1/overview",
            json!({
            "channels": [{"name": "film", "title": title, "peers": 3, "sources": 1, "relays": 1, "tree": tree}],
            "stats": {"peers": 3, "channels": 1, "joins_total": 1234, "leaves_total": 0, "requests_total": 9,
                      "rejects_total": 0}}),
        ),
        (
            "/v1/get_user_table",
            json!({"content": "film", "users": golden()}),
        ),
        (
            "/v1/get_price_packets",
            json!({"content": "film", "currency": "EUR", "packets": [
            {"name": "gold", "bounds": {"bw_mbps": 15, "lat_ms": 30, "jit_ms": 1.0}, "price": "0.60", "unit": "hour",
             "users": ["C1: 25, 20, 0.0435", "C8: 19, 10, 0.5366"]},
            {"name": "silver", "bounds": {"bw_mbps": 10}, "price": "0.30", "unit": "hour", "users": []}]}),
        ),
        (
            "/v1/get_price_intervals",
            json!({"content": "film", "currency": "EUR", "intervals": [
            {"name": "0-2", "over_mbps": 0, "to_mbps": 2, "price": "0.05", "unit": "hour", "users": of("p")},
            {"name": "10-", "over_mbps": 10, "price": "0.50", "unit": "hour", "users": of("c")}]}),
        ),
        (
            "/v1/get_clients_status",
            json!({"content": "film", "columns": ["c", "c-c", "c-p", "c-c,p", "p", "p-p"],
            "rows": {"c": of("c"), "c-c": of("c-c"), "c-p": of("c-p"), "c-c,p": of("c-c,p"), "p": of("p"),
                     "p-p": of("p-p")}}),
        ),
    ]
}

fn state(dom: &str) -> (&str, &str) {
    (
        between(dom, "id=\"state\"", "data-state=\"", "\""),
        between(dom, "id=\"state\"", ">", "</p>"),
    )
}

#[test]
fn t_csp_3_the_tables_of_the_paper_on_the_page() {
    let tree = json!([{"id": "aa", "name": null, "role": "source", "depth": 1}]);
    let url = serve(page(paper("A film", tree)));
    let Some(dom) = dom("t_csp_3_the_tables_of_the_paper_on_the_page", &url) else {
        return;
    };
    assert_eq!(state(&dom), ("live", "live"));
    let rows = cells(&dom, "users");
    assert_eq!(
        rows[0],
        [
            "ID",
            "Bandwidth Mbit/s",
            "Latency ms",
            "Jitter ms",
            "Status",
            "Packet",
            "Interval",
            "Level",
            "Parent"
        ]
    );
    assert_eq!(
        rows[1],
        ["C1", "25", "20", "0.04", "c", "", "", "1", "provider"]
    );
    assert_eq!(rows.len(), 7);
    assert_eq!(
        cells(&dom, "packets"),
        [
            ["gold", "silver"],
            ["0.60 EUR/hour", "0.30 EUR/hour"],
            ["≥ 15 Mbit/s|≤ 30 ms|≤ 1 ms jitter", "≥ 10 Mbit/s"],
            ["C1: 25, 20, 0.0435|C8: 19, 10, 0.5366", "nobody"],
        ]
    );
    assert_eq!(
        cells(&dom, "status"),
        [
            ["c", "c-c", "c-p", "c-c,p", "p", "p-p"],
            [
                "C1: 25, 20, 0.04",
                "C9: 11, 60, 1.32",
                "C5: 5, 90, 2.78",
                "C2: 4, 80, 2.34",
                "C10: 2, 90, 3.03",
                "C12: 1, 110, 3.44"
            ],
        ]
    );
    assert_eq!(
        cells(&dom, "intervals"),
        [
            ["0–2 Mbit/s", "over 10 Mbit/s"],
            ["0.05 EUR/hour", "0.50 EUR/hour"],
            ["C10: 2, 90, 3.03 (p)", "C1: 25, 20, 0.04 (c)"],
        ]
    );
    assert!(dom.contains("<dd>1,234</dd>"), "{dom}");
}

#[test]
fn s_42_names_are_text_on_the_page() {
    const BAD: &str =
        "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>";
    let tree = json!([
        {"id": "aa", "name": null, "role": "source", "depth": 1},
        {"id": BAD, "name": BAD, "role": "peer", "depth": 2, "parent": "aa"},
        {"id": "waiting<br>", "name": null, "role": "peer"},
    ]);
    let mut answers = paper(BAD, tree);
    for (_, body) in &mut answers {
        let text = body.to_string().replace("\"C1\"", &json!(BAD).to_string());
        *body = serde_json::from_str(&text).expect("JSON still");
    }
    let url = serve(page(answers));
    let Some(dom) = dom("s_42_names_are_text_on_the_page", &url) else {
        return;
    };
    assert_eq!(state(&dom), ("live", "live"));
    assert_eq!(
        between(&dom, "<head>", "<title>", "</title>"),
        "p2ps tracker"
    );
    // The icon and the script of the page are the only ones.
    assert_eq!(dom.matches("<img").count(), 1, "{dom}");
    assert_eq!(dom.matches("<script").count(), 1, "{dom}");
    assert!(dom.matches("&lt;img src=x").count() >= 6, "{dom}");
}

#[test]
fn a_tracker_that_is_gone_is_said_to_be() {
    let url = serve(page(Vec::new()));
    let Some(dom) = dom("a_tracker_that_is_gone_is_said_to_be", &url) else {
        return;
    };
    let (state, words) = state(&dom);
    assert_eq!(state, "gone");
    assert!(words.starts_with("no answer from the tracker"), "{words}");
}

/// Waits until everybody told the tracker how deep he is: these levels.
fn overview(at: &str, source: &Running, levels: &[u64]) -> Value {
    let told = (0..600).find_map(|_| {
        let overview: Value = serde_json::from_str(&get(at, "/v1/overview")).expect("JSON");
        let tree = overview["channels"][0]["tree"].as_array().cloned();
        let depths: Vec<u64> = tree
            .iter()
            .flatten()
            .filter_map(|node| node["depth"].as_u64())
            .collect();
        if depths != levels {
            source.interval();
            return None;
        }
        Some(overview)
    });
    told.expect("everybody reports within a minute")
}

#[test]
fn the_page_draws_who_receives_from_whom() {
    let place = Place::new();
    let tracker = place.program("p2ps-tracker", "tracker").start();
    let at = tracker.address();
    let source = place
        .source("source")
        .args([
            "--tracker",
            &at,
            "--max-children",
            "1",
            "--title",
            "A <b>film</b>",
        ])
        .start();
    let channel = format!("p2ps://{at}/film");
    let relay = place
        .receiver("p2ps-relay", "relay", &channel)
        .start()
        .attached();
    let below = relay.channel_below(&source.channel());
    let peers = ["one", "two"].map(|name| {
        let peer = place
            .receiver("p2ps-peer", name, &below)
            .args(["--tracker", &at, "-o", &place.arg(&format!("{name}.ts"))])
            .start()
            .attached();
        let start = peer.event("start");
        (peer, start["node"].as_str().expect("a name").to_owned())
    });
    // Every one of them has told the tracker whom it receives from.
    let overview = overview(&at, &source, &[1, 2, 3, 3]);
    let channel = &overview["channels"][0];
    assert_eq!(
        (&channel["peers"], &channel["sources"], &channel["relays"]),
        (&4.into(), &1.into(), &1.into())
    );
    let Some(dom) = dom(
        "the_page_draws_who_receives_from_whom",
        &format!("http://{at}/"),
    ) else {
        return;
    };
    assert_eq!(state(&dom), ("live", "live"));
    for (role, count) in [("source", 1), ("relay", 1), ("peer", 2)] {
        let drawn = dom.matches(&format!("<g class=\"{role}\"")).count();
        assert_eq!(drawn, count, "{role}: {dom}");
    }
    assert_eq!(dom.matches("class=\"edge\"").count(), 3, "{dom}");
    assert!(dom.contains("film – A &lt;b&gt;film&lt;/b&gt;"), "{dom}");
    let relay = relay.event("start")["node"]
        .as_str()
        .expect("a name")
        .to_owned();
    let rows = cells(&dom, "nodes");
    for (_, node) in &peers {
        let row = rows.iter().find(|row| row.get(1) == Some(node));
        let row = row.unwrap_or_else(|| panic!("no row of {node} in {rows:?}"));
        assert_eq!(row[2..5], ["peer", "3", relay.as_str()]);
    }
}

/// A document of a server, without its head.
fn get(address: &str, path: &str) -> String {
    use std::io::Read as _;
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
}

#[test]
fn t_csp_3_the_same_rows_through_api_tool_and_page() {
    let place = Place::new();
    std::fs::write(place.path("tariff.toml"), EXAMPLE).expect("written");
    let tracker = place
        .program("p2ps-tracker", "tracker")
        .args(["--store", "mem:", "--tariff", &place.arg("tariff.toml")])
        .start();
    let at = tracker.address();
    let source = place.source("source").args(["--tracker", &at]).start();
    let channel = format!("p2ps://{at}/film");
    let _peers = ["gold", "silver"].map(|packet| {
        let output = place.arg(&format!("{packet}.ts"));
        place
            .receiver("p2ps-peer", packet, &channel)
            .args([
                "--packet",
                packet,
                "--serve",
                "clients,peers",
                "-o",
                &output,
            ])
            .start()
            .attached()
    });
    overview(&at, &source, &[1, 2, 2]);
    let row = |user: &Value| {
        let text = |name: &str| user[name].as_str().unwrap_or_default().to_owned();
        [text("id"), text("status"), text("packet"), text("parent")]
    };
    let body: Value =
        serde_json::from_str(&get(&at, "/v1/get_user_table?content=film")).expect("JSON");
    let api: Vec<[String; 4]> = body["users"]
        .as_array()
        .expect("users")
        .iter()
        .map(row)
        .collect();
    let ids: Vec<&str> = api.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(ids, ["C1", "C2"], "{body}");
    assert!(api.iter().all(|row| row[1] == "c-c,p"), "{api:?}");
    let run = Command::new(program("p2ps-qos"))
        .args(["users", &channel])
        .output()
        .expect("it runs");
    let lines = String::from_utf8(run.stdout).expect("text");
    let tool: Vec<[String; 4]> = lines
        .lines()
        .map(|line| row(&serde_json::from_str(line).expect("an object a line")))
        .collect();
    assert_eq!(tool, api);
    for subject in [
        "packets",
        "intervals",
        "clients",
        "peers",
        "qos",
        "status",
        "history",
    ] {
        let run = Command::new(program("p2ps-qos"))
            .args([subject, &channel])
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!((run.status.code(), &*said), (Some(0), ""), "{subject}");
    }
    let Some(dom) = dom(
        "t_csp_3_the_same_rows_through_api_tool_and_page",
        &format!("http://{at}/"),
    ) else {
        return;
    };
    let page: Vec<[String; 4]> = cells(&dom, "users")[1..]
        .iter()
        .map(|row| {
            [
                row[0].clone(),
                row[4].clone(),
                row[5].clone(),
                row[8].clone(),
            ]
        })
        .collect();
    assert_eq!(page, api);
    assert_eq!(
        cells(&dom, "status")[0],
        ["c", "c-c", "c-p", "c-c,p", "p", "p-p"]
    );
    assert_eq!(cells(&dom, "packets")[0], ["gold", "silver", "bronze"]);
    // The tree calls them as the provider does.
    for id in ids {
        assert!(dom.contains(&format!(">{id}</text>")), "{id} in {dom}");
    }
}
