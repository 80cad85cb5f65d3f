//! What an announcer makes of answers, and of their absence.

use std::net::SocketAddr;
use std::time::Duration;

use super::{
    Announcer, BACK_OFF, BACK_OFF_LONG, Event, FIND_PAUSE, FIND_REFRESH, Kind, Outgoing,
    PARENTS_MAX, REPORT_INTERVAL, REPORT_INTERVAL_S, REPORT_SOON, SEAL_POLL, Tracker,
};
use crate::time::Instant;
use crate::tracker::address::{Scope, scope};
use crate::tracker::message::{ErrorCode, Parent, PeerInfo, Redirect, RejectCode, Response, Role};

impl Announcer {
    pub(super) fn judge(
        &mut self,
        now: Instant,
        index: usize,
        request: Outgoing,
        response: Response,
    ) {
        let reject = response.ext.as_ref().and_then(|ext| ext.reject.clone());
        let kind = request.kind;
        match (response.error_code, reject) {
            (ErrorCode::None, _) => {
                self.answered(index);
                self.accept(now, index, kind, response);
            }
            _ if kind == Kind::Leave => self.forget(index),
            // The tracker restarted, or took our silence for absence (RFC 7846 §2.3.2, case B).
            (ErrorCode::ForbiddenAction, reject)
                if kind != Kind::Join
                    && reject
                        .as_ref()
                        .is_none_or(|reject| reject.code == RejectCode::NotRegistered) =>
            {
                self.answered(index);
                self.rejoin(index, now);
            }
            (ErrorCode::BadRequest, None) if !self.is_plain(index) => {
                self.answered(index);
                if let Some(tracker) = self.trackers.get_mut(index) {
                    tracker.is_plain = true;
                }
                self.rejoin(index, now);
            }
            // A ticket ends while its tracker cannot be reached, or with the key of a tracker that was set up anew.
            (ErrorCode::AuthenticationRequired, _) if self.drop_ticket(index) => {
                self.answered(index);
                self.rejoin(index, now);
            }
            (
                ErrorCode::ForbiddenAction
                | ErrorCode::BadRequest
                | ErrorCode::ServiceUnavailable
                | ErrorCode::AuthenticationRequired,
                Some(reject),
            ) => {
                self.answered(index);
                let pause = Duration::from_secs(reject.retry_s.clamp(1, 60));
                self.refused(now, index, reject.code, reject.text, pause);
            }
            (code, reject) => {
                let why = match reject {
                    Some(reject) => reject.text,
                    None => format!("error {} ({})", code.code(), code.name()),
                };
                // An error is an answer: the next attempt may be another request.
                self.fail(now, index, request, why);
                if kind == Kind::Join
                    && code == ErrorCode::ForbiddenAction
                    && let Some(tracker) = self.trackers.get_mut(index)
                    && let Some(request) = tracker.request.take()
                {
                    tracker.connect_at = request.at;
                }
            }
        }
    }

    fn accept(&mut self, now: Instant, index: usize, kind: Kind, response: Response) {
        if kind == Kind::Leave {
            self.forget(index);
            return;
        }
        let results = response.swarm_result;
        let mut ext = response.ext.unwrap_or_default();
        let access = std::mem::take(&mut ext.access);
        let resolved = results.iter().find(|result| result.is_ok);
        if kind == Kind::Join {
            // The first tracker that knows the name says which swarm it is; others follow.
            if self.identity.swarm_id.is_none() {
                self.identity.swarm_id = resolved
                    .map(|result| result.swarm_id.clone())
                    .filter(|swarm| !swarm.is_empty());
            }
            let is_ours = resolved
                .is_some_and(|result| Some(&result.swarm_id) == self.identity.swarm_id.as_ref());
            let pause = self.jittered(BACK_OFF[0], 20);
            if let Some(tracker) = self.trackers.get_mut(index) {
                tracker.is_registered = is_ours;
                tracker.connect_at = now + pause;
                tracker.refused = None;
            }
            if !is_ours {
                return;
            }
        }
        self.take_access(now, index, access);
        if let Some(certificate) = response.certificate {
            self.take_certificate(now, index, certificate);
        }
        if let Some(grant) = ext.grant
            && self.granted.as_ref() != Some(&grant)
        {
            self.granted = Some(grant.clone());
            self.events.push_back(Event::Granted(grant));
        }
        if let Some(channel) = ext.channel
            && Some(&channel.swarm_id) == self.identity.swarm_id.as_ref()
            && self.channel.as_ref() != Some(&channel)
        {
            self.channel = Some(channel.clone());
            self.events.push_back(Event::Channel(channel));
        }
        self.take_placement(index, ext.redirect, ext.cluster, ext.move_to);
        let group = resolved.and_then(|result| result.peer_group.as_deref());
        let interval = response.report_interval_s.map(|seconds| {
            Duration::from_secs(seconds.clamp(REPORT_INTERVAL_S.0, REPORT_INTERVAL_S.1))
        });
        let told = std::mem::take(&mut ext.parents);
        let is_shared = told.iter().any(|parent| parent.mask.is_some());
        // The answer to a report has no list, unless the parents are to be others.
        let parents = (group.is_some() || is_shared)
            .then(|| usable(&self.identity.peer_id, told, group.unwrap_or_default()));
        let wait = self.jittered(interval.unwrap_or(REPORT_INTERVAL), 10);
        let (is_wanting, is_sealing) = (self.is_wanting, self.is_sealing);
        let Some(tracker) = self.trackers.get_mut(index) else {
            return;
        };
        if let Some(interval) = interval {
            tracker.report_interval = interval;
        }
        tracker.report_at = now + wait.min(tracker.report_interval * 11 / 10);
        if let Some(renew_at) = tracker.held.renew_at {
            tracker.report_at = tracker.report_at.min(renew_at.max(now + REPORT_SOON));
        }
        if tracker.has_news {
            tracker.report_at = tracker.soon(now);
        }
        if self.identity.role == Role::Source && tracker.held.awaits_key(is_sealing) {
            tracker.report_at = tracker.report_at.min(now + SEAL_POLL);
        }
        if let Some(parents) = parents {
            if kind != Kind::Report {
                tracker.find_at = now
                    + if is_wanting {
                        tracker.find_pause
                    } else {
                        FIND_REFRESH
                    };
                tracker.find_pause = (tracker.find_pause * 2).min(FIND_PAUSE.1);
            }
            tracker.parents = parents;
            let merged = self.merged(index);
            self.events.push_back(Event::Parents(merged));
        }
    }

    /// Tells what is new of where the tracker wants us.
    fn take_placement(
        &mut self,
        index: usize,
        redirect: Option<Redirect>,
        cluster: Option<String>,
        move_to: Option<Parent>,
    ) {
        let Some(tracker) = self.trackers.get_mut(index) else {
            return;
        };
        if let Some(redirect) = redirect
            && tracker.redirect.as_ref() != Some(&redirect)
        {
            tracker.redirect = Some(redirect.clone());
            self.events.push_back(Event::Redirected(redirect));
        }
        if let Some(cluster) = cluster
            && tracker.cluster.as_ref() != Some(&cluster)
        {
            tracker.cluster = Some(cluster.clone());
            self.events.push_back(Event::Cluster(cluster));
        }
        if let Some(parent) = move_to
            && parent.addr.port() != 0
            && scope(parent.addr.ip()) != Scope::Never
        {
            self.events.push_back(Event::MoveTo(parent));
        }
    }

    /// What all trackers said, the first of each before the second of any, every address once; before them those with
    /// a mask, when the one at `index`, which has just answered, is the first that gives any: two who share the stream
    /// out, each in its own way, would never come to an end.
    fn merged(&self, index: usize) -> Vec<Parent> {
        let shares = |tracker: &Tracker| tracker.parents.iter().any(|parent| parent.mask.is_some());
        let first = self
            .trackers
            .iter()
            .position(|tracker| tracker.is_registered && !tracker.is_down && shares(tracker));
        let sharing = first.filter(|first| *first == index);
        let sharing = sharing.and_then(|first| self.trackers.get(first));
        let shared = sharing.into_iter().flat_map(|tracker| &tracker.parents);
        let mut merged: Vec<Parent> = shared
            .filter(|parent| parent.mask.is_some())
            .cloned()
            .collect();
        let longest = self
            .trackers
            .iter()
            .map(|tracker| tracker.parents.len())
            .max();
        for position in 0..longest.unwrap_or(0) {
            for tracker in &self.trackers {
                if let Some(parent) = tracker.parents.get(position)
                    && merged.iter().all(|known| known.addr != parent.addr)
                {
                    merged.push(Parent {
                        mask: None,
                        ..parent.clone()
                    });
                }
            }
        }
        merged
    }

    fn is_plain(&self, index: usize) -> bool {
        self.trackers
            .get(index)
            .is_some_and(|tracker| tracker.is_plain)
    }

    /// A tracker answered as a tracker does.
    fn answered(&mut self, index: usize) {
        if let Some(tracker) = self.trackers.get_mut(index) {
            tracker.failures = 0;
            if std::mem::take(&mut tracker.is_down) {
                self.events.push_back(Event::Recovered { tracker: index });
            }
        }
    }

    /// CONNECT again, with a new transaction, at `at`.
    fn rejoin(&mut self, index: usize, at: Instant) {
        if let Some(tracker) = self.trackers.get_mut(index) {
            tracker.is_registered = false;
            tracker.connect_at = at;
        }
    }

    /// Nothing is left to be said to a tracker.
    fn forget(&mut self, index: usize) {
        if let Some(tracker) = self.trackers.get_mut(index) {
            tracker.is_registered = false;
            tracker.request = None;
        }
    }

    pub(super) fn refused(
        &mut self,
        now: Instant,
        index: usize,
        code: RejectCode,
        why: String,
        pause: Duration,
    ) {
        let pause = self.jittered(pause, 20);
        self.rejoin(index, now + pause);
        let Some(tracker) = self.trackers.get_mut(index) else {
            return;
        };
        let refused = Some((code, why));
        if tracker.refused == refused {
            return;
        }
        tracker.refused.clone_from(&refused);
        if let Some((code, why)) = refused {
            self.events.push_back(match code {
                RejectCode::NoSuchChannel if !tracker.is_plain => {
                    Event::NoSuchChannel { tracker: index }
                }
                code => Event::Refused {
                    tracker: index,
                    code,
                    why,
                },
            });
        }
    }

    /// No answer, or none that is one: the identical request goes out again after a pause (RFC 7846 §4.2).
    pub(super) fn fail(&mut self, now: Instant, index: usize, request: Outgoing, why: String) {
        if self.is_leaving || request.kind == Kind::Leave {
            self.forget(index);
            return;
        }
        let failures = self
            .trackers
            .get(index)
            .map_or(0, |tracker| tracker.failures);
        // The long pause is for those who have the stream; whoever waits for it should not wait a minute more, and of a
        // source nobody hears at a tracker that is back before it speaks there.
        let longest = match (self.identity.role, self.is_wanting) {
            (Role::Source, _) => BACK_OFF[1],
            (_, true) => BACK_OFF[BACK_OFF.len() - 1],
            (_, false) => BACK_OFF_LONG,
        };
        let pause = BACK_OFF
            .get(failures)
            .map_or(longest, |pause| (*pause).min(longest));
        let pause = self.jittered(pause, 20);
        let Some(tracker) = self.trackers.get_mut(index) else {
            return;
        };
        tracker.failures += 1;
        tracker.request = Some(Outgoing {
            is_sent: false,
            at: now + pause,
            ..request
        });
        if !std::mem::replace(&mut tracker.is_down, true) {
            self.events.push_back(Event::Unreachable {
                tracker: index,
                why,
            });
        }
    }

    /// A span made longer or shorter by up to `percent`, so that a crowd does not stay in step.
    pub(super) fn jittered(&mut self, span: Duration, percent: u32) -> Duration {
        let factor = 100 - percent + self.rng.below(u64::from(2 * percent) + 1) as u32;
        span * factor / 100
    }
}

/// Those of one answer that can be asked, each address once; first as the extension tells them, then as RFC 7846 does.
///
/// Masks that overlap, or of which one is left out, are none: then everybody gives the whole stream.
fn usable(own_id: &str, told: Vec<Parent>, listed: &[PeerInfo]) -> Vec<Parent> {
    let listed = listed.iter().map(|info| Parent {
        peer: info.peer_id.clone(),
        addr: SocketAddr::new(info.peer_addr.ip, info.peer_addr.port),
        mask: None,
        depth: None,
        slots_free: None,
        role: None,
    });
    let mut parents: Vec<Parent> = Vec::new();
    let (mut taken, mut is_shared) = (0, true);
    for parent in told.into_iter().chain(listed) {
        let is_usable = parent.addr.port() != 0 && scope(parent.addr.ip()) != Scope::Never;
        let is_known = parents.iter().any(|known| known.addr == parent.addr);
        let is_kept =
            is_usable && !is_known && parent.peer != *own_id && parents.len() < PARENTS_MAX;
        let mask = parent.mask.unwrap_or(0);
        is_shared &= taken & mask == 0 && (is_kept || mask == 0);
        taken |= mask;
        if is_kept {
            parents.push(parent);
        }
    }
    if !is_shared {
        for parent in &mut parents {
            parent.mask = None;
        }
    }
    parents
}
