//! Logins, tickets and refusals, and the rows that keep them.

use super::*;

const BEGIN: u64 = 1_795_262_400;

fn at(second: u64) -> Instant {
    Instant::from_micros(second * 1_000_000)
}

fn office() -> TicketOffice {
    let key = SigningKey::from_seed_ed25519([5; 32]);
    let seed = Seed::from_number(1);
    TicketOffice::new(Epoch::new(BEGIN * 1_000_000), key, Lives::default(), seed)
        .expect("an Ed25519 key")
}

fn secret(text: &str) -> Secret {
    Secret::new(text).expect("printable")
}

fn key() -> PeerKey {
    PeerKey::from_bytes([8; 32])
}

fn swarm() -> SwarmId {
    SigningKey::from_seed_ed25519([6; 32]).swarm_id()
}

fn visit(access: &AccessRequest, role: Role) -> Visit<'_> {
    visit_of(access, "anna", role)
}

fn visit_of<'a>(access: &'a AccessRequest, user: &'a str, role: Role) -> Visit<'a> {
    Visit {
        access,
        user: Some(user),
        channel: Some("film"),
        role: Some(role),
        peer: "peer-1",
        is_private: true,
    }
}

fn with_token(token: &str) -> AccessRequest {
    AccessRequest {
        key: Some(key()),
        token: Some(secret(token)),
        ..AccessRequest::default()
    }
}

#[test]
fn a_secret_gets_tickets_and_a_ticket_gets_the_next() {
    let mut office = office();
    office
        .add_user("anna", &secret("s3cret"), Roles::WATCH)
        .expect("a new user");
    office.set_closed("film", true).expect("a name");
    let access = with_token("s3cret");
    let first = visit(&access, Role::Peer);
    let user = office.admit(at(0), &first).expect("the right secret");
    assert_eq!(user.as_deref(), Some("anna"));
    let answer = office.answer(at(0), &first, user.as_deref(), Some(&swarm()), true);
    let auth = answer.auth.expect("a channel was named");
    assert!(auth.closed);
    let channel = Ticket::open(&answer.channel_ticket.expect("one"), &auth.issuers);
    let channel = channel.expect("genuine");
    let swarm = swarm();
    let demand = Demand {
        swarm_id: Some(&swarm),
        key: &key(),
        roles: Roles::WATCH,
        now_s: BEGIN,
    };
    assert_eq!(channel.admits(&demand, &Revocations::default()), Ok(()));
    assert_eq!(channel.claims().not_after, BEGIN + 600);

    let mut access = AccessRequest {
        key: Some(key()),
        ticket: answer.user_ticket,
        ..AccessRequest::default()
    };
    let later = visit(&access, Role::Peer);
    let user = office.admit(at(300), &later).expect("holds still");
    let quiet = office.answer(at(300), &later, user.as_deref(), Some(&swarm), false);
    assert_eq!(quiet.user_ticket, None, "nobody asked for a new one");
    access.renew = true;
    let later = visit(&access, Role::Peer);
    let renewed = office.answer(at(300), &later, user.as_deref(), Some(&swarm), false);
    let renewed = Claims::read(&renewed.user_ticket.expect("one")).expect("a ticket");
    assert_eq!(renewed.not_after, BEGIN + 900);
    // Twelve minutes after its end.
    let refused = office.admit(at(1320), &later).expect_err("over");
    assert_eq!(refused.to_string(), "ticket expired 12min ago");
    // Another key beside a stolen ticket.
    let stolen = AccessRequest {
        key: Some(PeerKey::from_bytes([9; 32])),
        ..access
    };
    let refused = office.admit(at(300), &visit(&stolen, Role::Peer));
    assert_eq!(refused, Err(LoginError::Ticket(TicketError::Key)));
}

#[test]
fn strangers_and_those_who_may_less_are_told_why() {
    let mut office = office();
    office
        .add_user("anna", &secret("s3cret"), Roles::WATCH)
        .expect("a new user");
    let nobody = AccessRequest::default();
    let open = visit(&nobody, Role::Source);
    assert_eq!(office.admit(at(0), &open), Ok(None), "open for all");
    office.set_closed("film", true).expect("a name");
    for (access, role, why) in [
        (
            nobody.clone(),
            Role::Peer,
            "the channel is closed: give --token-file",
        ),
        (
            with_token("wrong"),
            Role::Peer,
            "unknown user or wrong secret",
        ),
        (
            with_token("s3cret"),
            Role::Source,
            "anna may watch, not publish",
        ),
        (
            with_token("s3cret"),
            Role::Relay,
            "anna may watch, not serve",
        ),
    ] {
        let refused = office.admit(at(0), &visit(&access, role)).expect_err(why);
        assert_eq!(refused.to_string(), why);
    }
    let access = with_token("s3cret");
    let bert = visit_of(&access, "bert", Role::Peer);
    assert_eq!(office.admit(at(0), &bert), Err(LoginError::Unknown));
    office.set_closed("film", false).expect("a name");
    assert_eq!(office.admit(at(0), &open), Ok(None), "open again");
}

#[test]
fn what_was_stored_is_what_was_known() {
    let mut office = office();
    let mut rows = vec![TicketOffice::row_of(&office.key)];
    rows.extend(
        office
            .add_user("anna", &secret("a"), Roles::ALL)
            .expect("new"),
    );
    rows.extend(
        office
            .add_user("bert", &secret("b"), Roles::WATCH)
            .expect("new"),
    );
    rows.extend(office.set_closed("film", true).expect("a name"));
    rows.extend(office.set_closed("news", true).expect("a name"));
    rows.extend(office.set_closed("news", false).expect("a name"));
    rows.extend(office.revoke_user(at(5), "bert").expect("known"));
    assert_eq!(
        office.add_user("anna", &secret("x"), Roles::ALL),
        Err(OfficeError::Exists)
    );
    assert_eq!(
        office.add_user("../etc", &secret("x"), Roles::ALL),
        Err(OfficeError::Name)
    );
    assert_eq!(
        office.revoke_user(at(6), "bert"),
        Err(OfficeError::NoSuchUser)
    );
    let mut stored: BTreeMap<(Table, String), String> = BTreeMap::new();
    for row in rows {
        match row.value {
            Some(value) => drop(stored.insert((row.table, row.key), value)),
            None => drop(stored.remove(&(row.table, row.key))),
        }
    }
    assert!(
        !stored.values().any(|value| value.contains("\"a\"")),
        "secrets are not stored"
    );
    let key = stored
        .iter()
        .find_map(|((table, key), value)| TicketOffice::key_in(*table, key, value))
        .expect("the key");
    let seed = Seed::from_number(2);
    let epoch = Epoch::new(BEGIN * 1_000_000);
    let mut again = TicketOffice::new(epoch, key, Lives::default(), seed).expect("Ed25519");
    for ((table, key), value) in &stored {
        again.load(*table, key, value).expect("ours");
    }
    assert_eq!(again.public, office.public);
    assert_eq!(again.accounts, office.accounts);
    assert_eq!(again.closed, office.closed);
    assert_eq!(again.revocations, office.revocations);
    assert_eq!(
        again.load(Table::Accounts, "x", "{}"),
        Err(OfficeError::Row)
    );
}

#[test]
fn rows_that_another_tool_changed_take_the_place_of_all_before() {
    let (mut one, mut other) = (office(), office());
    let mut rows: BTreeMap<(Table, String), Option<String>> = BTreeMap::new();
    let mut keep = |changes: Vec<Change>| {
        rows.extend(
            changes
                .into_iter()
                .map(|row| ((row.table, row.key), row.value)),
        );
        rows.iter()
            .filter_map(|((table, key), value)| {
                Some(Change {
                    table: *table,
                    key: key.clone(),
                    value: Some(value.clone()?),
                })
            })
            .collect::<Vec<_>>()
    };
    for user in ["anna", "bert"] {
        let made = one.add_user(user, &secret("s3cret"), Roles::WATCH);
        keep(made.expect("a new user"));
    }
    let all = keep(one.set_closed("film", true).expect("a name"));
    other.load_again(at(2), &all).expect("whole rows");
    let access = with_token("s3cret");
    let anna = visit(&access, Role::Peer);
    assert_eq!(other.admit(at(0), &anna), Ok(Some("anna".to_owned())));
    keep(one.revoke_user(at(1), "anna").expect("there is one"));
    let all = keep(one.set_closed("film", false).expect("a name"));
    other.load_again(at(2), &all).expect("whole rows");
    assert_eq!(other.admit(at(2), &anna), Err(LoginError::Unknown));
    assert_eq!(
        other.users().map(|(name, _)| name).collect::<Vec<_>>(),
        ["bert"]
    );
    assert_eq!(other.closed().count(), 0);
    // One that is damaged harms no other.
    let damaged = Change {
        table: Table::Accounts,
        key: "anna".to_owned(),
        value: Some("{".to_owned()),
    };
    let all = [vec![damaged], all].concat();
    assert_eq!(other.load_again(at(2), &all), Err(OfficeError::Row));
    assert_eq!(other.users().count(), 1);
}
