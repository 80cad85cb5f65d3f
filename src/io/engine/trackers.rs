//! Trackers of one channel: when to ask what is the [`Announcer`]'s affair, here the requests travel.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::chunk::Parts;
use crate::ids::SwarmId;
use crate::io::clock::Clock;
use crate::io::http;
use crate::stats::Counters;
use crate::time::Instant;
use crate::tracker::announce::{Announcer, Event, Meter};
use crate::tracker::message::{ChannelAuth, Grant, Parent, SealKeys};
use crate::tracker::ticket::Revocation;

/// How long a tracker may take to answer.
const ANSWER_SPAN: Duration = Duration::from_secs(5);

/// What came back from a tracker.
#[derive(Debug)]
pub(super) struct Answer {
    pub stream: usize,
    index: usize,
    result: Result<String, String>,
}

/// What trackers said that matters to the loop.
#[derive(Debug)]
pub(super) enum News {
    /// Candidates, and those of them that are to push a part of the stream.
    Parents(Vec<SocketAddr>, Vec<(SocketAddr, Parts)>),
    MoveTo(SocketAddr),
    Ticket(Bytes),
    Auth(ChannelAuth),
    Revoked(Vec<Revocation>),
    Seal(SealKeys),
    Certificate(Bytes),
    Trouble(String),
    Fine(String),
}

/// The trackers of one channel.
#[derive(Debug)]
pub struct Rendezvous {
    announcer: Announcer,
    urls: Vec<String>,
    stream: usize,
    answers: Option<mpsc::UnboundedSender<Answer>>,
    first: VecDeque<News>,
    meter: Meter,
    /// Why the last tracker that answered refused.
    refused: Option<String>,
}

impl Rendezvous {
    /// Keeps the trackers at `urls` informed.
    pub fn new(announcer: Announcer, urls: Vec<String>) -> Self {
        Self {
            announcer,
            urls,
            stream: 0,
            answers: None,
            first: VecDeque::new(),
            meter: Meter::default(),
            refused: None,
        }
    }

    /// Why nobody lets us in, when that is what a tracker said last.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// What trackers said before the loop began.
    pub fn begin_with(&mut self, found: &mut Found) {
        self.first.append(&mut found.news);
    }

    pub(super) fn attach(&mut self, stream: usize, answers: mpsc::UnboundedSender<Answer>) {
        self.stream = stream;
        self.answers = Some(answers);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.announcer.poll_timeout()
    }

    pub(super) fn want_parents(&mut self, now: Instant, wanting: bool) {
        self.announcer.want_parents(now, wanting);
    }

    /// Somebody came whose ticket may have been revoked.
    pub(super) fn check_tickets(&mut self, now: Instant) {
        self.announcer.check_tickets(now);
    }

    /// What the next report says.
    pub(super) fn set_facts(&mut self, now: Instant, counters: &Counters, slots_free: u16) {
        let facts = self.meter.facts(now, counters, slots_free);
        self.announcer.set_facts(now, facts);
    }

    /// Sends what is due.
    pub(super) fn poll(&mut self, now: Instant) {
        self.announcer.handle_timeout(now);
        while let Some((index, body)) = self.announcer.poll_request(now) {
            let Some(url) = self.urls.get(index).cloned() else {
                continue;
            };
            let Some(answers) = self.answers.clone() else {
                continue;
            };
            let stream = self.stream;
            tokio::spawn(async move {
                let result = ask(url, body).await;
                // The loop has ended when nobody takes the answer.
                let _ = answers.send(Answer {
                    stream,
                    index,
                    result,
                });
            });
        }
    }

    pub(super) fn handle(&mut self, now: Instant, answer: Answer) {
        self.announcer
            .handle_response(now, answer.index, answer.result);
    }

    pub(super) fn poll_news(&mut self) -> Option<News> {
        if let Some(news) = self.first.pop_front() {
            return Some(news);
        }
        while let Some(event) = self.announcer.poll_event() {
            match &event {
                Event::Parents(_) => self.refused = None,
                Event::Refused { why, .. } => self.refused = Some(why.clone()),
                _ => {}
            }
            if let Some(news) = news_of(&self.urls, event) {
                return Some(news);
            }
        }
        None
    }

    /// Says goodbye; the requests are under way when this returns.
    pub(super) fn leave(&mut self, now: Instant) -> Vec<JoinHandle<()>> {
        self.announcer.leave();
        let mut sent = Vec::new();
        while let Some((index, body)) = self.announcer.poll_request(now) {
            let Some(url) = self.urls.get(index).cloned() else {
                continue;
            };
            sent.push(tokio::spawn(async move {
                let _ = ask(url, body).await;
            }));
        }
        sent
    }
}

async fn ask(url: String, body: String) -> Result<String, String> {
    match http::post(url, body, ANSWER_SPAN).await {
        Ok(answer) => Ok(answer.body),
        Err(error) => Err(error.to_string()),
    }
}

fn news_of(urls: &[String], event: Event) -> Option<News> {
    let name = |index: usize| urls.get(index).map_or("tracker", String::as_str);
    match event {
        Event::NoSuchChannel { tracker } => Some(News::Trouble(format!(
            "{} knows no such channel yet",
            name(tracker)
        ))),
        Event::Refused { tracker, why, .. } => Some(News::Trouble(format!(
            "refused by {}: {why}",
            name(tracker)
        ))),
        Event::Unreachable { tracker, why } => Some(News::Trouble(format!(
            "cannot reach tracker {}: {why}",
            name(tracker)
        ))),
        Event::Recovered { tracker } => Some(News::Fine(format!(
            "tracker {} answers again",
            name(tracker)
        ))),
        Event::Granted(grant) => Some(News::Fine(granted(&grant))),
        Event::Redirected(to) => Some(News::Fine(format!(
            "redirected to cluster {}, server {}: {}",
            to.cluster, to.server, to.reason
        ))),
        Event::Cluster(name) => Some(News::Fine(format!("serving cluster {name}"))),
        Event::Parents(parents) => {
            let part = |parent: &Parent| {
                Some((
                    parent.addr,
                    Parts::from_bits(u8::try_from(parent.mask?).ok()?),
                ))
            };
            let parts = parents.iter().filter_map(part).collect();
            let addrs = parents.into_iter().map(|parent| parent.addr).collect();
            Some(News::Parents(addrs, parts))
        }
        Event::MoveTo(parent) => Some(News::MoveTo(parent.addr)),
        Event::Ticket(ticket) => Some(News::Ticket(ticket)),
        Event::Auth(auth) => Some(News::Auth(auth)),
        Event::Revoked(revoked) => Some(News::Revoked(revoked)),
        Event::Certificate(certificate) => Some(News::Certificate(certificate)),
        Event::Seal(seal) => Some(News::Seal(seal)),
        Event::Channel(_) => None,
    }
}

/// Who we are to a provider, in one line.
fn granted(grant: &Grant) -> String {
    let contract = |name: &str| grant.contract.as_ref()?.get(name)?.as_str();
    let below = format!("{} below {}", grant.status, grant.parent);
    match (contract("terms"), contract("price"), contract("unit")) {
        (Some(terms), Some(price), Some(unit)) => {
            format!(
                "we are {} ({below}): {terms} at {price} per {unit}",
                grant.id
            )
        }
        _ => format!("we are {} ({below})", grant.id),
    }
}

/// What trackers know of a channel name.
#[derive(Debug)]
pub struct Found {
    /// The swarm.
    pub swarm_id: SwarmId,
    /// Its signed description, not verified.
    pub description: Option<Bytes>,
    /// What else they said, for the loop.
    news: VecDeque<News>,
}

/// Why a channel was not found in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// A tracker answered that there is no such channel.
    NoChannel,
    /// A tracker knows the channel and lets nobody in: why.
    Refused(String),
    /// No tracker answered: each with what happened.
    Unreachable(Vec<(String, String)>),
    /// Asked to stop meanwhile.
    Stopped,
}

/// Asks trackers for a channel by name until one knows it, or until `timeout` after the start of the clock.
///
/// `say` gets one line about what is waited for. Gives the announcer back, which goes on from there.
///
/// # Errors
///
/// [`NotFound`] when time is up or `stop` is done.
pub async fn find_channel(
    clock: &Clock,
    mut announcer: Announcer,
    urls: &[String],
    timeout: Option<Duration>,
    stop: impl Future<Output = ()>,
    say: impl Fn(&str),
) -> Result<(Announcer, Found), NotFound> {
    let (sender, mut answers) = mpsc::unbounded_channel();
    let mut unreachable: Vec<(String, String)> = Vec::new();
    let mut no_channel = false;
    let mut refused = None;
    let mut news = VecDeque::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let now = clock.now();
        announcer.handle_timeout(now);
        while let Some((index, body)) = announcer.poll_request(now) {
            let Some(url) = urls.get(index).cloned() else {
                continue;
            };
            let sender = sender.clone();
            tokio::spawn(async move {
                let result = ask(url, body).await;
                let _ = sender.send((index, result));
            });
        }
        let mut found = None;
        while let Some(event) = announcer.poll_event() {
            match event {
                Event::Channel(info) => {
                    if let Ok(swarm_id) = info.swarm_id.parse() {
                        found = Some((swarm_id, info.description));
                    }
                }
                Event::NoSuchChannel { tracker } => {
                    no_channel = true;
                    say(&format!(
                        "waiting for the channel at {}",
                        urls.get(tracker).map_or("", String::as_str)
                    ));
                }
                Event::Unreachable { tracker, why } => {
                    let url = urls.get(tracker).cloned().unwrap_or_default();
                    say(&format!("cannot reach tracker {url}: {why}"));
                    unreachable.retain(|(known, _)| *known != url);
                    unreachable.push((url, why));
                }
                Event::Refused { tracker, why, .. } => {
                    say(&format!(
                        "refused by {}: {why}",
                        urls.get(tracker).map_or("", String::as_str)
                    ));
                    refused = Some(why);
                }
                Event::Granted(grant) => tracing::info!("{}", granted(&grant)),
                Event::Recovered { .. }
                | Event::MoveTo(_)
                | Event::Redirected(_)
                | Event::Cluster(_) => {}
                event => news.extend(news_of(urls, event)),
            }
        }
        if let Some((swarm_id, description)) = found {
            let found = Found {
                swarm_id,
                description,
                news,
            };
            return Ok((announcer, found));
        }
        let end = timeout.map(|timeout| Instant::ZERO + timeout);
        let give_up = || {
            if let Some(why) = refused.clone() {
                NotFound::Refused(why)
            } else if no_channel {
                NotFound::NoChannel
            } else {
                NotFound::Unreachable(unreachable.clone())
            }
        };
        if end.is_some_and(|end| now >= end) {
            return Err(give_up());
        }
        let wake = announcer
            .poll_timeout()
            .unwrap_or(now + Duration::from_secs(1));
        let wake = end.map_or(wake, |end| wake.min(end));
        tokio::select! {
            () = &mut stop => return Err(NotFound::Stopped),
            Some((index, result)) = answers.recv() => announcer.handle_response(clock.now(), index, result),
            () = tokio::time::sleep_until(clock.to_system(wake)) => {}
        }
    }
}
