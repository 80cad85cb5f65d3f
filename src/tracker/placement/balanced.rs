//! One balanced tree for each swarm (algorithms 3.3, after StreamSmart), or a star to compare it with.
//!
//! The tree says who should be whose parent. Newcomers get their parent and all above it, nearest first, to fall back
//! on; whoever reports another parent than it should have is told to move. So it does not matter which report was
//! lost, and a member whose parent died hangs on somebody above until the tree has healed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::tree::Tree;
use super::{Choice, Member, PeerNo, Placed, Placement, Refused};
use crate::time::Instant;
use crate::tracker::message::Role;

/// Time between two rounds of rebalancing.
const REBALANCE: Duration = Duration::from_secs(10);

/// How often members report.
const REPORT: Duration = Duration::from_secs(1);

/// Reports in a row that tell of less room than children, until these are taken away: a child counts before its own
/// first report.
const SHORT_OF_ROOM_MAX: u8 = 5;

/// Most log lines kept for the shell.
const LOG_LINES_MAX: usize = 256;

/// How trees grow.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Everybody hangs on the source.
    pub is_star: bool,
    /// Most neighbours, the parent included, of anybody but the source.
    pub hub_cap: Option<u16>,
    /// Who knows whom.
    pub graph: Graph,
}

/// Who knows whom, by `peer_id`.
///
/// ```toml
/// [friends]
/// anna = ["bert", "carl"]
/// ```
#[derive(Clone, Debug, Default)]
pub struct Graph(BTreeMap<String, BTreeSet<String>>);

/// Why a file is no graph; one line for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GraphError(String);

impl Graph {
    /// Reads a file; who is known knows back.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn from_toml(text: &str) -> Result<Self, GraphError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            friends: BTreeMap<String, Vec<String>>,
        }
        let file: File =
            toml::from_str(text).map_err(|error| GraphError(error.message().to_owned()))?;
        let mut graph = Self::default();
        for (one, others) in file.friends {
            for other in others {
                if one == other {
                    return Err(GraphError(format!("{one:?} is its own friend")));
                }
                let known = graph.0.entry(one.clone()).or_default();
                known.insert(other.clone());
                graph.0.entry(other).or_default().insert(one.clone());
            }
        }
        Ok(graph)
    }

    fn friends(&self, id: &str) -> impl Iterator<Item = &str> {
        self.0.get(id).into_iter().flatten().map(String::as_str)
    }

    fn degree(&self, id: &str) -> usize {
        self.0.get(id).map_or(0, BTreeSet::len)
    }
}

#[derive(Debug)]
struct Known {
    id: Arc<str>,
    /// The parent that it reported.
    parent: Option<Arc<str>>,
    has_stream: bool,
    /// Reports in a row that told of less room than it has children.
    short_of_room: u8,
}

#[derive(Debug, Default)]
struct Swarm {
    tree: Option<Tree>,
    members: BTreeMap<PeerNo, Known>,
    by_id: BTreeMap<Arc<str>, BTreeSet<PeerNo>>,
    /// Members that reported a parent, by it.
    attached: BTreeMap<Arc<str>, u16>,
}

/// The policy.
#[derive(Debug)]
pub struct Balanced {
    settings: Settings,
    swarms: BTreeMap<Arc<str>, Swarm>,
    rebalance_at: Option<Instant>,
    log: VecDeque<String>,
}

impl Swarm {
    fn name(&self, no: PeerNo) -> &str {
        self.members.get(&no).map_or("?", |known| &*known.id)
    }

    fn remember(&mut self, member: &Member) {
        let short_of_room = match self.forget(member.no) {
            Some(before) => before.short_of_room,
            None => 0,
        };
        if let Some(parent) = &member.parent {
            *self.attached.entry(Arc::clone(parent)).or_default() += 1;
        }
        self.by_id
            .entry(Arc::clone(&member.id))
            .or_default()
            .insert(member.no);
        self.members.insert(
            member.no,
            Known {
                id: Arc::clone(&member.id),
                parent: member.parent.clone(),
                has_stream: member.role == Role::Source || member.depth.is_some(),
                short_of_room,
            },
        );
    }

    fn forget(&mut self, no: PeerNo) -> Option<Known> {
        let known = self.members.remove(&no)?;
        if let Some(parent) = &known.parent
            && let Some(count) = self.attached.get_mut(parent)
        {
            *count -= 1;
            if *count == 0 {
                self.attached.remove(parent);
            }
        }
        if let Some(numbers) = self.by_id.get_mut(&known.id) {
            numbers.remove(&no);
            if numbers.is_empty() {
                self.by_id.remove(&known.id);
            }
        }
        Some(known)
    }

    /// Children that a member can take: those it has and those it would still take.
    fn limit(&self, member: &Member) -> u16 {
        if !member.is_listed {
            return 0;
        }
        let attached = self.attached.get(&member.id).copied().unwrap_or(0);
        let free = member.slots_free.unwrap_or(u16::MAX);
        free.saturating_add(attached)
    }

    /// A member says how many children it can take.
    fn set_limit(&mut self, no: PeerNo, limit: u16) {
        let (Some(tree), Some(known)) = (&mut self.tree, self.members.get_mut(&no)) else {
            return;
        };
        if tree.children(no).len() <= usize::from(limit) {
            known.short_of_room = 0;
            tree.set_limit(no, limit);
            return;
        }
        known.short_of_room += 1;
        if known.short_of_room >= SHORT_OF_ROOM_MAX {
            known.short_of_room = 0;
            tree.set_limit(no, limit);
            tree.shed(no);
        }
    }

    /// Members that a member knows, those first whom few know.
    fn friends(&self, graph: &Graph, id: &str) -> Vec<PeerNo> {
        let mut friends: Vec<(usize, PeerNo)> = graph
            .friends(id)
            .filter_map(|friend| Some((graph.degree(friend), *self.by_id.get(friend)?.first()?)))
            .collect();
        friends.sort_unstable();
        friends.into_iter().map(|(_, no)| no).collect()
    }
}

impl Balanced {
    /// Trees that do not exist yet.
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            swarms: BTreeMap::new(),
            rebalance_at: None,
            log: VecDeque::new(),
        }
    }

    /// The tree of a swarm, once its source is there.
    pub fn tree(&self, swarm: &str) -> Option<&Tree> {
        self.swarms.get(swarm)?.tree.as_ref()
    }

    fn say(&mut self, line: String) {
        if self.log.len() >= LOG_LINES_MAX {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }
}

impl Placement for Balanced {
    fn on_member(&mut self, now: Instant, swarm: &Arc<str>, member: &Member) {
        let entry = self.swarms.entry(Arc::clone(swarm)).or_default();
        entry.remember(member);
        let limit = entry.limit(member);
        let no = member.no;
        if entry.tree.as_ref().is_some_and(|tree| tree.contains(no)) {
            return entry.set_limit(no, limit);
        }
        if member.role == Role::Source && entry.tree.is_none() {
            let tree = if self.settings.is_star {
                Tree::star(no, limit)
            } else {
                Tree::new(no, limit)
            };
            entry.tree = Some(tree.neighbours_max(self.settings.hub_cap.unwrap_or(u16::MAX)));
            self.rebalance_at.get_or_insert(now + REBALANCE);
            return;
        }
        let friends = entry.friends(&self.settings.graph, &member.id);
        let Some(tree) = &mut entry.tree else {
            return;
        };
        let degree = tree.degree();
        let is_placed =
            tree.join_one_of(no, limit, &friends).is_some() || tree.join(no, limit).is_ok();
        let (after, size) = (tree.degree(), tree.len());
        if !is_placed {
            self.say(format!("tree: no place for {}", member.id));
        } else if after != degree {
            self.say(format!("tree: {after} children each for {size} members"));
        }
    }

    fn on_gone(&mut self, _now: Instant, swarm: &Arc<str>, no: PeerNo) {
        let Some(entry) = self.swarms.get_mut(swarm) else {
            return;
        };
        let mut line = None;
        if entry.tree.as_ref().is_some_and(|tree| tree.root() == no) {
            entry.tree = None;
        } else if let Some(tree) = &mut entry.tree {
            let (heir, _) = tree.remove(no);
            line = heir.map(|heir| {
                let (heir, gone) = (entry.name(heir), entry.name(no));
                format!("tree: {heir} takes the place of {gone}")
            });
        }
        entry.forget(no);
        if entry.members.is_empty() {
            self.swarms.remove(swarm);
        }
        if let Some(line) = line {
            self.say(line);
        }
    }

    fn place(&mut self, _now: Instant, swarm: &Arc<str>, asker: PeerNo) -> Result<Placed, Refused> {
        let Some(tree) = self.tree(swarm) else {
            return Ok(Placed::Listed);
        };
        if tree.root() == asker {
            return Ok(Placed::to(Vec::new()));
        }
        if !tree.contains(asker) {
            return Err(Refused("the tree is full".to_owned()));
        }
        Ok(Placed::to(tree.ancestors(asker).collect()))
    }

    fn move_of(&mut self, _now: Instant, swarm: &Arc<str>, no: PeerNo) -> Vec<Choice> {
        let Some(entry) = self.swarms.get(swarm) else {
            return Vec::new();
        };
        let wanted = entry.tree.as_ref().and_then(|tree| tree.parent(no));
        let (Some(wanted), Some(known)) = (wanted, entry.members.get(&no)) else {
            return Vec::new();
        };
        // Who has nothing itself is no better parent than the one above it.
        match entry.members.get(&wanted) {
            Some(parent) if parent.has_stream && known.parent.as_ref() != Some(&parent.id) => {
                vec![Choice::to(wanted)]
            }
            _ => Vec::new(),
        }
    }

    fn report_interval(&self) -> Option<Duration> {
        Some(REPORT)
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.rebalance_at.is_none_or(|at| now < at) {
            return;
        }
        self.rebalance_at = (!self.swarms.is_empty()).then(|| now + REBALANCE);
        let trees = self
            .swarms
            .values_mut()
            .filter_map(|swarm| swarm.tree.as_mut());
        let moves: usize = trees.map(Tree::rebalance).sum();
        if moves > 0 {
            self.say(format!("tree: {moves} moved to balance it"));
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.rebalance_at
    }

    fn poll_log(&mut self) -> Option<String> {
        self.log.pop_front()
    }

    /// For those who come: nobody is moved to a friend.
    fn set_graph(&mut self, graph: Graph) {
        self.settings.graph = graph;
    }
}

#[cfg(test)]
mod tests;
