//! Who is let in with which ticket.

use super::*;

const NOW: u64 = 1_795_262_400;

fn issuer() -> SigningKey {
    SigningKey::from_seed_ed25519([5; 32])
}

fn issuers() -> Vec<PeerKey> {
    issuer().peer_key().into_iter().collect()
}

fn channel(seed: u8) -> SwarmId {
    SigningKey::from_seed_ed25519([seed; 32]).swarm_id()
}

fn holder() -> PeerKey {
    PeerKey::from_bytes([8; 32])
}

fn claims() -> Claims {
    Claims {
        swarm_id: Some(channel(6)),
        roles: Roles::WATCH,
        holder: Holder::Client,
        not_before: NOW,
        not_after: NOW + 600,
        nonce: [7; 16],
        key: holder(),
        user: "anna".to_owned(),
    }
}

fn open(claims: &Claims) -> Ticket {
    let bytes = claims.sign(&issuer()).expect("claims that fit");
    Ticket::open(&bytes, &issuers()).expect("genuine")
}

fn judge(claims: &Claims, demand: &Demand<'_>) -> Result<(), TicketError> {
    open(claims).admits(demand, &Revocations::default())
}

#[test]
fn a_ticket_says_what_was_signed() {
    for claims in [
        claims(),
        Claims {
            swarm_id: None,
            roles: Roles::ALL,
            holder: Holder::Peer,
            ..claims()
        },
    ] {
        let bytes = claims.sign(&issuer()).expect("claims that fit");
        assert_eq!(Claims::read(&bytes), Ok(claims.clone()));
        assert_eq!(
            Ticket::open(&bytes, &issuers()).map(|ticket| ticket.claims().clone()),
            Ok(claims)
        );
    }
    assert_eq!(claims().renew_at(), NOW + 300);
    for user in ["", "a b", "x".repeat(65).as_str(), "\u{1b}[0m"] {
        let user = user.to_owned();
        let bad = Claims { user, ..claims() };
        assert_eq!(bad.sign(&issuer()), None);
    }
}

#[test]
fn s_45_every_cut_and_every_flipped_bit_is_refused() {
    let bytes = claims().sign(&issuer()).expect("claims that fit");
    for length in 0..bytes.len() {
        let cut = bytes.get(..length).expect("inside");
        assert_eq!(
            Ticket::open(cut, &issuers()),
            Err(TicketError::Damaged),
            "{length}"
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Ticket::open(&longer, &issuers()), Err(TicketError::Damaged));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Ticket::open(&flipped, &issuers()).is_err(), "bit {bit}");
    }
}

#[test]
fn s_45_no_other_issuer_channel_key_role_or_time() {
    let claims = claims();
    let swarm = channel(6);
    let other_swarm = channel(7);
    let key = holder();
    let other_key = PeerKey::from_bytes([9; 32]);
    let demand = Demand {
        swarm_id: Some(&swarm),
        key: &key,
        roles: Roles::WATCH,
        now_s: NOW,
    };
    assert_eq!(judge(&claims, &demand), Ok(()));

    let stranger = SigningKey::from_seed_ed25519([9; 32]);
    let bytes = claims.sign(&stranger).expect("claims that fit");
    assert_eq!(Ticket::open(&bytes, &issuers()), Err(TicketError::Issuer));
    assert_eq!(
        Ticket::open(&[2, 0, 0], &issuers()),
        Err(TicketError::Version(2))
    );

    let mut cases = Vec::new();
    let elsewhere = Demand {
        swarm_id: Some(&other_swarm),
        ..demand
    };
    cases.push((elsewhere, "ticket is for another channel"));
    let tracker = Demand {
        swarm_id: None,
        ..demand
    };
    cases.push((tracker, "ticket is for a channel, not for trackers"));
    let thief = Demand {
        key: &other_key,
        ..demand
    };
    cases.push((thief, "ticket belongs to another key"));
    let relay = Demand {
        roles: Roles::SERVE,
        ..demand
    };
    cases.push((relay, "ticket allows to watch, not to serve"));
    let at = |now_s| Demand { now_s, ..demand };
    cases.push((at(NOW - 61), "ticket is not valid before 1min from now"));
    cases.push((at(NOW + 600), "ticket expired 0s ago"));
    cases.push((at(NOW + 1320), "ticket expired 12min ago"));
    cases.push((at(NOW + 10_000), "ticket expired 2h ago"));
    for (demand, why) in cases {
        let refused = judge(&claims, &demand).expect_err(why);
        assert_eq!(refused.to_string(), why);
    }
    for now_s in [NOW - 60, NOW + 599] {
        assert_eq!(judge(&claims, &at(now_s)), Ok(()), "{now_s}");
    }

    let user = Claims {
        swarm_id: None,
        ..claims.clone()
    };
    let refused = judge(&user, &demand).expect_err("for trackers");
    assert_eq!(
        refused.to_string(),
        "ticket is for trackers, not for a channel"
    );
    let for_ever = Claims {
        not_after: NOW + 3601,
        ..claims
    };
    assert_eq!(judge(&for_ever, &demand), Err(TicketError::TooLong(3601)));
}

#[test]
fn a_revoked_user_gets_in_again_with_a_later_ticket_only() {
    let mut revocations = Revocations::default();
    revocations.add(&Revocation {
        user: "anna".to_owned(),
        at: NOW + 10,
    });
    let (swarm, key) = (channel(6), holder());
    let demand = Demand {
        swarm_id: Some(&swarm),
        key: &key,
        roles: Roles::WATCH,
        now_s: NOW + 20,
    };
    let first = open(&claims());
    assert_eq!(
        first.admits(&demand, &revocations),
        Err(TicketError::Revoked)
    );
    let later = open(&Claims {
        not_before: NOW + 11,
        ..claims()
    });
    assert_eq!(later.admits(&demand, &revocations), Ok(()));
    let other = open(&Claims {
        user: "bert".to_owned(),
        ..claims()
    });
    assert_eq!(other.admits(&demand, &revocations), Ok(()));

    assert_eq!(revocations.recent(NOW + 20).count(), 1);
    assert_eq!(revocations.recent(NOW + 10_000).count(), 0);
    for number in 0..=REVOCATIONS_MAX as u64 {
        revocations.add(&Revocation {
            user: format!("user-{number}"),
            at: NOW + 100,
        });
    }
    let kept: Vec<Revocation> = revocations.recent(NOW + 100).collect();
    assert_eq!(kept.len(), REVOCATIONS_MAX);
    assert!(kept.iter().all(|kept| kept.user != "anna"), "the oldest");
}
