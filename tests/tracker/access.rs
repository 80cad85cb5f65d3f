//! Announcers and a tracker that closes channels: logins, tickets, renewals, refusals.

use bytes::Bytes;
use p2ps::ids::PeerKey;
use p2ps::integrity::key::SigningKey;
use p2ps::rng::Rng;
use p2ps::time::Epoch;
use p2ps::tracker::announce::{Announcer, Credentials, Event, Identity as Who};
use p2ps::tracker::message::{ChannelAuth, Deal, RejectCode, Role, Secret};
use p2ps::tracker::ticket::office::{Lives, TicketOffice};
use p2ps::tracker::ticket::{Claims, Roles, Ticket};

use super::*;

const BEGIN: u64 = 1_795_262_400;

fn at(second: u64) -> Instant {
    Instant::from_micros(second * 1_000_000)
}

fn issuer(seed: u8) -> SigningKey {
    SigningKey::from_seed_ed25519([seed; 32])
}

fn secret() -> Secret {
    Secret::new("s3cret").expect("printable")
}

/// A tracker with a closed channel and three users.
fn tracker(seed: u8) -> Registry {
    let epoch = Epoch::new(BEGIN * 1_000_000);
    let random = Seed::from_number(1);
    let mut office =
        TicketOffice::new(epoch, issuer(seed), Lives::default(), random).expect("an Ed25519 key");
    for (name, roles) in [
        ("anna", Roles::WATCH),
        ("rita", Roles::SERVE),
        ("stan", Roles::ALL),
    ] {
        office.add_user(name, &secret(), roles).expect("a new user");
    }
    office.set_closed("film", true).expect("a name");
    let mut registry = Registry::new(Config::default(), Seed::from_number(2));
    registry.set_office(office);
    registry
}

fn announcer(role: Role, user: Option<&str>, ticket: Option<Bytes>) -> Announcer {
    let identity = Who {
        peer_id: format!("{role:?}").to_lowercase(),
        role,
        channel: Some("film".to_owned()),
        swarm_id: (role == Role::Source).then(|| SWARM.to_owned()),
        title: None,
        description: None,
        port: 7850,
        addresses: Vec::new(),
        deal: Deal::default(),
        service: None,
    };
    let rng = Rng::new(Seed::from_number(role as u64));
    let mut announcer = Announcer::new(Instant::ZERO, identity, 1, rng);
    if user.is_some() || ticket.is_some() {
        announcer.set_credentials(Credentials {
            key: PeerKey::from_bytes([role as u8; 32]),
            login: user.map(|user| (user.to_owned(), secret())),
            ticket,
        });
    }
    announcer
}

/// Lets an announcer do all that it wants to do at one moment; gives what it said and what it was told.
fn drive(
    announcer: &mut Announcer,
    tracker: &mut Registry,
    now: Instant,
) -> (Vec<String>, Vec<Event>) {
    let mut said = Vec::new();
    while let Some((index, body)) = announcer.poll_request(now) {
        let from = "192.0.2.7:4000".parse().expect("an address");
        let reply = tracker.handle_body(now, from, body.as_bytes());
        said.push(body);
        announcer.handle_response(now, index, Ok(reply.body));
    }
    (
        said,
        std::iter::from_fn(|| announcer.poll_event()).collect(),
    )
}

fn ticket_in(events: &[Event]) -> Option<Claims> {
    events.iter().find_map(|event| match event {
        Event::Ticket(bytes) => {
            let issuers: Vec<PeerKey> = issuer(5).peer_key().into_iter().collect();
            let ticket = Ticket::open(bytes, &issuers).expect("genuine");
            Some(ticket.claims().clone())
        }
        _ => None,
    })
}

fn refusals(events: &[Event]) -> Vec<&str> {
    let refused = events.iter().filter_map(|event| match event {
        Event::Refused {
            code: RejectCode::Unauthorized,
            why,
            ..
        } => Some(why.as_str()),
        _ => None,
    });
    refused.collect()
}

#[test]
fn t_zat_3_no_list_without_a_ticket_and_a_secret_gets_one() {
    let mut tracker = tracker(5);
    let mut source = announcer(Role::Source, Some("stan"), None);
    let (_, told) = drive(&mut source, &mut tracker, at(0));
    let auth = ChannelAuth {
        issuers: issuer(5).peer_key().into_iter().collect(),
        closed: true,
    };
    assert!(told.contains(&Event::Auth(auth.clone())), "{told:?}");

    let mut stranger = announcer(Role::Peer, None, None);
    let (_, told) = drive(&mut stranger, &mut tracker, at(0));
    assert_eq!(
        refusals(&told),
        ["the channel is closed: give --token-file"]
    );
    assert!(!told.iter().any(|event| matches!(event, Event::Parents(_))));

    let mut peer = announcer(Role::Peer, Some("anna"), None);
    let (said, told) = drive(&mut peer, &mut tracker, at(0));
    assert!(told.contains(&Event::Auth(auth)));
    assert!(told.iter().any(|event| matches!(event, Event::Parents(_))));
    let claims = ticket_in(&told).expect("a ticket");
    assert_eq!(
        claims.swarm_id.map(|id| id.to_string()).as_deref(),
        Some(SWARM)
    );
    assert_eq!(claims.key, PeerKey::from_bytes([Role::Peer as u8; 32]));
    assert_eq!((claims.roles, claims.user.as_str()), (Roles::WATCH, "anna"));
    // The secret is told once, the ticket that it bought from then on.
    assert!(said.first().is_some_and(|body| body.contains("s3cret")));
    assert!(said.iter().skip(1).all(|body| !body.contains("s3cret")));

    for (role, user, why) in [
        (Role::Relay, "anna", "anna may watch, not serve"),
        (Role::Peer, "rita", "rita may serve, not watch"),
        (Role::Peer, "nobody", "unknown user or wrong secret"),
    ] {
        let mut refused = announcer(role, Some(user), None);
        let (_, told) = drive(&mut refused, &mut tracker, at(1));
        assert_eq!(refusals(&told), [why]);
    }
}

#[test]
fn tickets_are_renewed_at_half_of_their_life_and_not_before() {
    let mut tracker = tracker(5);
    drive(
        &mut announcer(Role::Source, Some("stan"), None),
        &mut tracker,
        at(0),
    );
    let mut relay = announcer(Role::Relay, Some("rita"), None);
    let (_, told) = drive(&mut relay, &mut tracker, at(0));
    assert_eq!(ticket_in(&told).expect("one").not_after, BEGIN + 600);
    let mut renewed = Vec::new();
    for second in 1..700 {
        // Somebody has to announce the channel.
        let (said, told) = drive(&mut relay, &mut tracker, at(second));
        assert!(said.iter().all(|body| !body.contains("s3cret")), "{second}");
        if let Some(claims) = ticket_in(&told) {
            renewed.push((second, claims.not_after - BEGIN));
        }
        assert_eq!(refusals(&told), [""; 0], "{second}");
    }
    let [(first, end), (second, _)] = renewed[..] else {
        panic!("renewed at {renewed:?}");
    };
    assert!((300..320).contains(&first), "{first}");
    assert_eq!(end, first + 600);
    assert!((first + 300..first + 320).contains(&second), "{second}");
}

#[test]
fn bad_input_25_a_ticket_that_ended_is_refused_and_the_secret_stands_in_for_it() {
    let mut tracker = tracker(5);
    let old = Claims {
        swarm_id: None,
        roles: Roles::WATCH,
        holder: p2ps::tracker::ticket::Holder::Peer,
        not_before: BEGIN - 1320,
        not_after: BEGIN - 720,
        nonce: [1; 16],
        key: PeerKey::from_bytes([Role::Peer as u8; 32]),
        user: "anna".to_owned(),
    };
    let expired = old.sign(&issuer(5)).expect("claims that fit");
    let foreign = old.sign(&issuer(6)).expect("claims that fit");
    for (ticket, why) in [
        (&expired, "ticket expired 12min ago"),
        (&foreign, "ticket is from another tracker"),
    ] {
        let mut peer = announcer(Role::Peer, None, Some(ticket.clone()));
        let (_, told) = drive(&mut peer, &mut tracker, at(0));
        assert_eq!(refusals(&told), [why]);
    }
    drive(
        &mut announcer(Role::Source, Some("stan"), None),
        &mut tracker,
        at(0),
    );
    let mut peer = announcer(Role::Peer, Some("anna"), Some(expired));
    let (_, told) = drive(&mut peer, &mut tracker, at(0));
    assert_eq!(refusals(&told), [""; 0], "{told:?}");
    assert!(ticket_in(&told).is_some());
}

#[test]
fn the_revoked_get_nothing_and_neighbours_are_told() {
    let mut tracker = tracker(5);
    let mut source = announcer(Role::Source, Some("stan"), None);
    drive(&mut source, &mut tracker, at(0));
    let mut peer = announcer(Role::Peer, Some("anna"), None);
    drive(&mut peer, &mut tracker, at(0));
    let office = tracker.office().expect("one");
    let rows = office.revoke_user(at(5), "anna").expect("known");
    assert_eq!(rows.len(), 2);
    let (_, told) = drive(&mut source, &mut tracker, at(15));
    let revoked = told.iter().find_map(|event| match event {
        Event::Revoked(list) => Some(list.clone()),
        _ => None,
    });
    let revoked = revoked.expect("the source is told");
    assert_eq!(
        (revoked[0].user.as_str(), revoked[0].at),
        ("anna", BEGIN + 5)
    );
    let mut refused = Vec::new();
    for second in 15..40 {
        let (_, told) = drive(&mut peer, &mut tracker, at(second));
        assert!(!told.iter().any(|event| matches!(event, Event::Ticket(_))));
        refused.extend(refusals(&told).into_iter().map(str::to_owned));
    }
    assert_eq!(refused, ["unknown user or wrong secret"]);
}

#[test]
fn secrets_are_shown_by_nobody() {
    let ext = p2ps::tracker::message::RequestExt {
        access: p2ps::tracker::message::AccessRequest {
            token: Some(secret()),
            ..Default::default()
        },
        ..Default::default()
    };
    assert!(!format!("{ext:?}").contains("s3cret"));
    let peer = announcer(Role::Peer, Some("anna"), None);
    assert!(!format!("{peer:?}").contains("s3cret"));
}

/// A tracker behind HTTP, and `p2ps-peer` with what a file says about its user; gives exit code and standard error.
async fn real_peer(tracker: Registry, token: &str) -> (Option<i32>, String) {
    let listener = bind("127.0.0.1:0".parse().expect("an address"), false).await;
    let listener = listener.expect("loopback can be bound");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let server = Server::new(Arc::new(Mutex::new(Service::new(tracker, None))), || at(1));
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(listener, async {
        let _ = stopped.await;
    }));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        let secret = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, secret).expect("a mode");
        path
    };
    let (token, key) = (file("token", token), file("key", &issuer(9).to_pem()));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_p2ps-peer"));
    command
        .args(["--tracker", &url, "--channel", "film", "--timeout", "300ms"])
        .args(["--listen", "127.0.0.1:0", "-o"])
        .arg(dir.path().join("out.ts"))
        .arg("--token-file")
        .arg(token)
        .arg("--key")
        .arg(key);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.expect("no panic").expect("it can be run");
    let _ = stop.send(());
    let _ = serving.await;
    let words = String::from_utf8(output.stderr).expect("text");
    (output.status.code(), words)
}

#[tokio::test]
async fn bad_input_25_the_real_peer_says_why_and_ends_with_5() {
    let old = Claims {
        swarm_id: None,
        roles: Roles::WATCH,
        holder: p2ps::tracker::ticket::Holder::Peer,
        not_before: BEGIN - 1319,
        not_after: BEGIN - 719,
        nonce: [1; 16],
        key: issuer(9).peer_key().expect("Ed25519"),
        user: "anna".to_owned(),
    };
    let expired = old.sign(&issuer(5)).expect("claims that fit");
    let foreign = old.sign(&issuer(6)).expect("claims that fit");
    for (token, why) in [
        (
            data_encoding::BASE64.encode(&expired),
            "ticket expired 12min ago",
        ),
        (
            data_encoding::BASE64.encode(&foreign),
            "ticket is from another tracker",
        ),
        ("anna:wrong".to_owned(), "unknown user or wrong secret"),
        ("rita:s3cret".to_owned(), "rita may serve, not watch"),
    ] {
        let (code, words) = real_peer(tracker(5), &format!("{token}\n")).await;
        let last = words.lines().last().unwrap_or_default();
        assert_eq!(last, format!("p2ps-peer: refused by tracker: {why}"));
        assert_eq!(code, Some(5), "{words}");
        assert!(!words.contains("s3cret"), "{words}");
    }
    // The right one is let in, and finds that nobody announces the channel.
    let (code, words) = real_peer(tracker(5), "anna:s3cret\n").await;
    assert_eq!(code, Some(6), "{words}");
}
