//! Announcers that post to a real tracker.

use p2ps::rng::Rng;
use p2ps::tracker::announce::{Announcer, Event, Facts, Identity};
use p2ps::tracker::message::{Deal, Role};

use super::*;

fn announcer(role: Role, trackers: usize) -> Announcer {
    let identity = Identity {
        peer_id: format!("{role:?}").to_lowercase(),
        role,
        channel: Some("film".to_owned()),
        swarm_id: (role == Role::Source).then(|| SWARM.to_owned()),
        title: None,
        description: (role == Role::Source).then(|| bytes::Bytes::from_static(b"signed")),
        port: 7850,
        addresses: Vec::new(),
        deal: Deal::default(),
        service: None,
    };
    let rng = Rng::new(Seed::from_number(role as u64));
    let mut announcer = Announcer::new(Instant::ZERO, identity, trackers, rng);
    announcer.set_facts(
        Instant::ZERO,
        Facts {
            slots_free: Some(4),
            ..Facts::default()
        },
    );
    announcer
}

/// Lets an announcer do all that it wants to do at one moment.
async fn drive(announcer: &mut Announcer, now: Instant, urls: &[String]) -> Vec<Event> {
    while let Some((tracker, body)) = announcer.poll_request(now) {
        let answer = http::post(urls[tracker].clone(), body, PATIENCE).await;
        let answer = answer
            .map(|answer| answer.body)
            .map_err(|error| error.to_string());
        announcer.handle_response(now, tracker, answer);
    }
    std::iter::from_fn(|| announcer.poll_event()).collect()
}

#[tokio::test]
async fn source_relay_and_peer_find_each_other_and_one_tracker_is_away() {
    let tracker = Tracker::start(Options::default()).await;
    let away = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback can be bound");
    let nobody = format!("http://{}/", away.local_addr().expect("it is bound"));
    drop(away);
    let urls = [nobody, tracker.url("/")];

    let mut peer = announcer(Role::Peer, 2);
    let told = drive(&mut peer, Instant::ZERO, &urls).await;
    assert_eq!(
        told,
        [
            Event::Unreachable {
                tracker: 0,
                why: "connection refused".to_owned()
            },
            Event::NoSuchChannel { tracker: 1 }
        ]
    );
    let mut source = announcer(Role::Source, 2);
    drive(&mut source, Instant::ZERO, &urls).await;

    let later = Instant::from_micros(3_000_000);
    let told = drive(&mut peer, later, &urls).await;
    assert!(
        matches!(&told[..], [Event::Channel(channel), Event::Parents(parents)]
            if channel.description.as_deref() == Some(b"signed") && parents[0].peer == "source"),
        "{told:?}"
    );
    assert_eq!(peer.swarm_id(), Some(SWARM));

    source.leave();
    drive(&mut source, later, &urls).await;
    peer.leave();
    drive(&mut peer, later, &urls).await;
    assert!(source.is_gone() && peer.is_gone());
    assert_eq!(tracker.stats().0.peers, 0);
}
