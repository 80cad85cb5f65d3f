//! A recording behind the window (algorithms §3.3): what the shell keeps of a stream, and how neighbours are given it.
//!
//! No file is read here. Each munro that the player of a recording has passed is told to the shell
//! ([`Event::Filed`]); what a neighbour needs and the window has no more is asked of it ([`Event::Load`]), and comes
//! back proven anew ([`Node::loaded`]). A gap in the recording stays one: its numbers are passed over.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::swarm::Swarm;
use super::{Event, Node};
use crate::chunk::ChunkRange;
use crate::integrity::live::Authority;
use crate::peer::channel::Subscriber;
use crate::peer::served::Allowance;
use crate::seal;
use crate::store::filed::Filed;
use crate::store::playout::Playout;
use crate::store::{MunroIndex, Slot};
use crate::time::Instant;

/// Munros that are asked for at once for a child that is given the recording.
pub(super) const LOAD_MUNROS: usize = 16;
/// Questions to the shell that are not answered yet.
const LOADS_MAX: usize = 8;
/// Questions to the shell at once, and one more in each of these: who subscribes anew all the time, or asks for what the
/// recording does not have, keeps the disk no busier than this.
const LOADS: (u32, Duration) = (32, Duration::from_millis(5));
/// Loaded munros kept at hand: a child that lost some of its munros asks for them soon. Full ones are 5.4 MB.
const SHELF_MAX: usize = 128;
/// What nobody asked for in this long is not kept at hand any more.
const SHELF_SPAN: Duration = Duration::from_secs(10);
/// How many times as fast as it was signed a recording is given. A receiver forgets by signed time, so this is what
/// leaves it a sixteenth of its window to repair in.
const SPEED: u32 = 16;
/// A pause of the source counts as no more than this, or who fetches would wait for it as well.
const PAUSE_MOST: Duration = Duration::from_secs(1);
/// What may be given at once after a wait: acknowledgements are looked at a few times a second.
const BURST: Duration = Duration::from_millis(200);
/// Who waits for its turn waits a little longer, and is given several munros then.
const TURN: Duration = Duration::from_millis(10);

/// A loaded munro.
#[derive(Debug)]
struct Shelved {
    /// From this one up to the munro the recording has no other.
    from: MunroIndex,
    slot: Slot,
}

/// What the shell keeps of a stream.
#[derive(Debug)]
pub(super) struct Archive {
    /// The first munro, and the one behind the last.
    span: Option<(MunroIndex, MunroIndex)>,
    /// Whether more is added.
    is_growing: bool,
    /// Everything before this was told to the shell, or is not in the recording.
    filed: MunroIndex,
    shelf: VecDeque<Shelved>,
    /// Where loads under way begin.
    asked: Vec<MunroIndex>,
    /// When a child is to be given more that may not be given it yet.
    turn: Option<Instant>,
    loads: Allowance,
    used_at: Instant,
}

/// What a child that is behind is sent next.
pub(super) enum Next<'a> {
    /// A munro of the window.
    Window(&'a Slot),
    /// One of the recording.
    Archive(&'a Slot),
    /// One that has to be loaded first.
    Load,
    /// There is no more.
    Head,
}

impl Archive {
    const fn new(span: Option<(MunroIndex, MunroIndex)>) -> Self {
        Self {
            span,
            is_growing: true,
            filed: match span {
                Some((_, end)) => end,
                None => MunroIndex::new(0),
            },
            shelf: VecDeque::new(),
            asked: Vec::new(),
            turn: None,
            loads: Allowance::new(LOADS.0, LOADS.1),
            used_at: Instant::ZERO,
        }
    }

    /// The first munro of the recording.
    pub(super) fn first(&self) -> Option<MunroIndex> {
        self.span.map(|(first, _)| first)
    }

    /// The last munro of the recording.
    pub(super) fn last(&self) -> Option<MunroIndex> {
        self.span.map(|(_, end)| end.minus(1))
    }

    fn is_before_end(&self, index: MunroIndex) -> bool {
        self.span.is_some_and(|(_, end)| index < end)
    }

    /// A loaded munro.
    fn slot(&self, index: MunroIndex) -> Option<&Slot> {
        let mut slots = self.shelf.iter().map(|shelved| &shelved.slot);
        slots.find(|slot| slot.index() == index)
    }

    /// The first munro of the recording from `cursor` on, where it is loaded.
    fn next(&self, cursor: MunroIndex) -> Option<&Slot> {
        let mut shelf = self.shelf.iter();
        let found = shelf.find(|it| it.from <= cursor && cursor <= it.slot.index());
        found.map(|shelved| &shelved.slot)
    }

    /// Whether the shell is to be asked for what begins here; notes that it was.
    fn ask(&mut self, now: Instant, from: MunroIndex) -> bool {
        self.used_at = now;
        if self.asked.contains(&from) || self.asked.len() >= LOADS_MAX || !self.loads.take(now) {
            return false;
        }
        self.asked.push(from);
        true
    }

    fn shelve(&mut self, from: MunroIndex, slot: Slot) {
        let same = |shelved: &&mut Shelved| shelved.slot.index() == slot.index();
        if let Some(known) = self.shelf.iter_mut().find(same) {
            known.from = known.from.min(from);
            return;
        }
        if self.shelf.len() >= SHELF_MAX {
            self.shelf.pop_front();
        }
        self.shelf.push_back(Shelved { from, slot });
    }

    /// When a child is to be given more.
    pub(super) const fn turn(&self) -> Option<Instant> {
        self.turn
    }

    /// Gives the room of loaded munros back when nobody wants any.
    pub(super) fn tidy(&mut self, now: Instant) {
        if now - self.used_at >= SHELF_SPAN {
            self.shelf = VecDeque::new();
        }
    }
}

impl Swarm {
    /// Whether a munro is behind the window, and perhaps in the recording.
    fn is_archived(&self, index: MunroIndex) -> bool {
        self.archive
            .as_ref()
            .is_some_and(|archive| archive.is_before_end(index))
            && self
                .window
                .oldest()
                .is_none_or(|oldest| index < oldest.index())
    }

    /// What comes next for a child that has everything before `cursor`.
    pub(super) fn next_behind(&self, cursor: MunroIndex) -> Next<'_> {
        if self.is_archived(cursor)
            && let Some(archive) = &self.archive
        {
            match archive.next(cursor) {
                None => return Next::Load,
                Some(slot) if self.is_archived(slot.index()) => return Next::Archive(slot),
                Some(_) => {}
            }
        }
        let slot = self.window.slots_from(cursor).next();
        slot.map_or(Next::Head, Next::Window)
    }

    /// A munro to repair from: of the window, or loaded.
    pub(super) fn slot(&self, index: MunroIndex) -> Option<&Slot> {
        let archive = self.archive.as_ref();
        let loaded = || archive.and_then(|archive| archive.slot(index));
        self.window.slot(index).or_else(loaded)
    }

    /// The newest munro here: of the window, or of the recording.
    pub(super) fn newest_held(&self) -> Option<MunroIndex> {
        let newest = self.window.newest().map(Slot::index);
        newest.max(self.archive.as_ref().and_then(Archive::last))
    }

    /// The oldest munro that a newcomer can be given.
    pub(super) fn oldest_held(&self) -> Option<MunroIndex> {
        let first = self.archive.as_ref().and_then(Archive::first);
        match (first, self.oldest()) {
            (Some(first), Some(oldest)) => Some(first.min(oldest)),
            (first, oldest) => first.or(oldest),
        }
    }

    /// The last munro of the recording, where the window has nothing: after a new start, until the stream goes on.
    pub(super) fn recorded_end(&self) -> Option<ChunkRange> {
        let archive = self.archive.as_ref()?;
        let is_alone = self.window.newest().is_none();
        archive.last().filter(|_| is_alone).map(MunroIndex::chunks)
    }

    /// Begins a recording, or goes on with one that has munros from the first up to before the second.
    pub(super) fn start_archive(&mut self, span: Option<(MunroIndex, MunroIndex)>) {
        self.archive = Some(Archive::new(span));
    }
}

/// Whether a child may be given a munro of the recording now, and not only later: it is given it faster than the stream
/// itself comes, and not without limit.
pub(super) fn is_due(now: Instant, child: &Subscriber) -> bool {
    child.archive_due <= now
}

/// Takes note of a munro of the recording that goes to a child. Gives the run without a gap that was given it.
pub(super) fn note_given(now: Instant, child: &mut Subscriber, slot: &Slot) -> ChunkRange {
    let step = child.archive_time.map_or(Duration::ZERO, |before| {
        let passed_us = slot.signed_at().micros_since(before).max(0).unsigned_abs();
        Duration::from_micros(passed_us).min(PAUSE_MOST)
    });
    child.archive_time = Some(slot.signed_at());
    child.archive_due = child.archive_due.max(now.saturating_sub(BURST)) + step / SPEED;
    let chunks = slot.index().chunks();
    let run = child
        .archive_run
        .filter(|run| run.last().plus(1) == chunks.first())
        .and_then(|run| ChunkRange::new(run.first(), chunks.last()))
        .unwrap_or(chunks);
    child.archive_run = Some(run);
    run
}

impl Node {
    /// Goes on with a recording that the user asked for before the node was started anew: the shell has munros from the
    /// first up to before the second of `span`, or none yet. The channel was given to [`ask_first`](Self::ask_first).
    pub fn resume_recording(&mut self, index: usize, span: Option<(MunroIndex, MunroIndex)>) {
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        let Some(recording) = swarm.asking.as_mut().and_then(|asking| asking.resume()) else {
            return;
        };
        swarm.is_waiting = false;
        swarm.record(recording);
        swarm.start_archive(span);
        if let Some((_, end)) = span {
            // Whoever has some of the stream goes on behind it.
            swarm.newest = Some(end.minus(1));
            swarm.tune_in = Some(end);
            if let Some(playout) = &mut swarm.playout {
                playout.start_at(end.first_chunk());
            }
        }
    }

    /// Nothing more can be written: what is kept is given on, and the stream goes on.
    pub fn end_recording(&mut self, index: usize) {
        if let Some(swarm) = self.swarms.get_mut(index)
            && let Some(archive) = &mut swarm.archive
        {
            archive.is_growing = false;
            swarm.playout = None;
            swarm.is_paused = false;
        }
    }

    /// The answer to [`Event::Load`]: the munros of the recording from there on, in order; none when there is no more.
    pub fn loaded(&mut self, now: Instant, index: usize, from: MunroIndex, slots: Vec<Slot>) {
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        let Some(archive) = &mut swarm.archive else {
            return;
        };
        archive.asked.retain(|asked| *asked != from);
        if slots.is_empty()
            && !archive.is_growing
            && let Some((_, end)) = &mut archive.span
        {
            // What was told to the shell last was not written any more.
            *end = from.min(*end);
        }
        let mut next = from;
        for slot in slots.into_iter().take(LOAD_MUNROS) {
            let behind = slot.index().plus(1);
            archive.shelve(next, slot);
            next = behind;
        }
        self.pump_behind(now, index);
        self.flush(now);
    }

    /// Gives more of the recording to those whose turn it is.
    pub(super) fn poll_archive(&mut self, now: Instant, index: usize) {
        let swarm = self.swarms.get_mut(index);
        let Some(archive) = swarm.and_then(|swarm| swarm.archive.as_mut()) else {
            return;
        };
        if archive.turn.is_some_and(|turn| turn <= now) {
            archive.turn = None;
            self.pump_behind(now, index);
        }
    }

    /// A child is to be given more once it may be.
    pub(super) fn await_turn(&mut self, index: usize, due: Instant) {
        let swarm = self.swarms.get_mut(index);
        if let Some(archive) = swarm.and_then(|swarm| swarm.archive.as_mut()) {
            let turn = due + TURN;
            archive.turn = Some(archive.turn.map_or(turn, |before| before.min(turn)));
        }
    }

    /// Sends what it can to all children that are behind.
    fn pump_behind(&mut self, now: Instant, index: usize) {
        let Some(swarm) = self.swarms.get(index) else {
            return;
        };
        let behind = |at: &usize| {
            let channel = self.channels.get(*at);
            let child = channel.and_then(|channel| channel.subscriber.as_ref());
            child.is_some_and(|child| !child.at_head)
        };
        let waiting: Vec<usize> = swarm.children.iter().copied().filter(behind).collect();
        for at in waiting {
            self.pump(now, at);
        }
    }

    /// What proves the chunks of a channel.
    pub fn authority(&self, index: usize) -> Option<&Authority> {
        self.swarms.get(index).map(|swarm| &swarm.authority)
    }

    /// Asks the shell for `most` munros of the recording from `from` on, unless it was asked already.
    pub(super) fn load(&mut self, now: Instant, index: usize, from: MunroIndex, most: usize) {
        let swarm = self.swarms.get_mut(index);
        let Some(swarm) = swarm.filter(|swarm| swarm.is_archived(from)) else {
            return;
        };
        if let Some(archive) = &mut swarm.archive
            && archive.ask(now, from)
        {
            self.push_event(Event::Load {
                swarm: index,
                from,
                most,
            });
        }
    }

    /// Has the shell keep the munros that the player of a recording has passed: all before `until`, or before the one that
    /// it is at.
    pub(super) fn file_passed(&mut self, index: usize, until: Option<MunroIndex>) {
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        let (Some(archive), Some(playout)) = (&mut swarm.archive, &swarm.playout) else {
            return;
        };
        let until = until.or_else(|| passed(playout));
        let Some(until) = until.filter(|until| *until > archive.filed) else {
            return;
        };
        let from = std::mem::replace(&mut archive.filed, until);
        let mut files = Vec::new();
        for slot in swarm.window.slots_from(from) {
            if slot.index() >= until {
                break;
            }
            let Some(munro) = Filed::of(slot) else {
                continue;
            };
            let (first, _) = archive.span.unwrap_or((munro.index, munro.index));
            archive.span = Some((first, munro.index.plus(1)));
            files.push(Event::Filed {
                swarm: index,
                sealed: sealed_chunks(slot),
                munro: Box::new(munro),
            });
        }
        for event in files {
            self.push_event(event);
        }
    }
}

/// The first munro that the player is not through with.
fn passed(playout: &Playout) -> Option<MunroIndex> {
    let next = playout.next().map(MunroIndex::of)?;
    Some(next.plus(u64::from(playout.has_ended())))
}

/// The chunks of a munro as they came, where they are sealed: what is played of them are other bytes.
fn sealed_chunks(slot: &Slot) -> Option<Bytes> {
    let chunks = || (0..u32::BITS).filter_map(|place| slot.payload(place));
    if !chunks().any(|payload| seal::is_sealed(payload)) {
        return None;
    }
    let mut bytes = Vec::new();
    for chunk in chunks() {
        bytes.extend_from_slice(chunk);
    }
    Some(bytes.into())
}
