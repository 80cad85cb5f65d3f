//! A balanced tree of at most six levels: joins handed down, widening, promotion, rebalancing (algorithms 3.3, after
//! StreamSmart).
//!
//! The algorithm is one of nodes that know their children's subtrees; here one machine plays all of them, so that a
//! decision costs no messages. Who is where in the tree is what should be; members follow it.

use std::collections::BTreeMap;

use super::PeerNo;

/// Levels that the stream survives, the source's being the first.
pub const LEVELS_MAX: u8 = 6;

/// Children of each at first.
pub const DEGREE_FIRST: u16 = 2;

/// Children of each at most.
pub const DEGREE_MAX: u16 = 16;

#[derive(Clone, Debug)]
struct Node {
    parent: Option<PeerNo>,
    children: Vec<PeerNo>,
    level: u8,
    /// Children that it can take, whatever the degree.
    limit: u16,
    /// Of the subtree that it is the top of.
    size: usize,
    height: u8,
    has_room: bool,
}

/// Why nobody takes a newcomer: every place of every level is taken, at the largest degree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tree is full")]
pub struct Full;

/// A tree of members. It always has its root.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PeerNo,
    degree: u16,
    degree_max: u16,
    /// Most neighbours, the parent included, of anybody but the root.
    neighbours_max: u16,
    nodes: BTreeMap<PeerNo, Node>,
}

impl Tree {
    /// A root alone; trees begin with two children each.
    pub fn new(root: PeerNo, limit: u16) -> Self {
        Self::with_degrees(root, limit, DEGREE_FIRST, DEGREE_MAX)
    }

    /// A root that takes everybody: what a tree is compared with.
    pub fn star(root: PeerNo, limit: u16) -> Self {
        Self::with_degrees(root, limit, u16::MAX, u16::MAX)
    }

    fn with_degrees(root: PeerNo, limit: u16, degree: u16, degree_max: u16) -> Self {
        let mut tree = Self {
            root,
            degree,
            degree_max,
            neighbours_max: u16::MAX,
            nodes: BTreeMap::new(),
        };
        tree.nodes.insert(root, Node::leaf(None, 1, limit));
        tree.update(root);
        tree
    }

    /// With at most so many neighbours for each but the root.
    #[must_use]
    pub const fn neighbours_max(mut self, most: u16) -> Self {
        self.neighbours_max = most;
        self
    }

    /// Its root.
    pub const fn root(&self) -> PeerNo {
        self.root
    }

    /// Children of each, now.
    pub const fn degree(&self) -> u16 {
        self.degree
    }

    /// Members, the root included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: it has its root.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Levels in use.
    pub fn height(&self) -> u8 {
        self.nodes.get(&self.root).map_or(0, |node| node.height)
    }

    /// Whether it is a member.
    pub fn contains(&self, no: PeerNo) -> bool {
        self.nodes.contains_key(&no)
    }

    /// The level of a member; the root is at 1.
    pub fn level(&self, no: PeerNo) -> Option<u8> {
        self.nodes.get(&no).map(|node| node.level)
    }

    /// Who is above a member.
    pub fn parent(&self, no: PeerNo) -> Option<PeerNo> {
        self.nodes.get(&no)?.parent
    }

    /// Those right below a member.
    pub fn children(&self, no: PeerNo) -> &[PeerNo] {
        self.nodes.get(&no).map_or(&[], |node| &node.children)
    }

    /// Everybody above a member, the parent first and the root last.
    pub fn ancestors(&self, no: PeerNo) -> impl Iterator<Item = PeerNo> + '_ {
        std::iter::successors(self.parent(no), |above| self.parent(*above))
    }

    fn capacity(&self, node: &Node) -> usize {
        let neighbours = match node.parent {
            Some(_) => self.neighbours_max.saturating_sub(1),
            None => u16::MAX,
        };
        usize::from(self.degree.min(node.limit).min(neighbours))
    }

    /// Whether a member itself takes one more child.
    pub fn is_open(&self, no: PeerNo) -> bool {
        self.nodes.get(&no).is_some_and(|node| {
            node.level < LEVELS_MAX && node.children.len() < self.capacity(node)
        })
    }

    /// Adds a member where the tree wants it, widening it when every place is taken; gives its parent.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn join(&mut self, no: PeerNo, limit: u16) -> Result<PeerNo, Full> {
        if let Some(parent) = self.parent(no) {
            return Ok(parent);
        }
        loop {
            if let Some(parent) = self.hand_down(self.root) {
                self.attach(no, parent, limit);
                return Ok(parent);
            }
            self.widen()?;
        }
    }

    /// Adds a member below the first of `parents` that takes it.
    pub fn join_one_of(&mut self, no: PeerNo, limit: u16, parents: &[PeerNo]) -> Option<PeerNo> {
        if self.contains(no) {
            return self.parent(no);
        }
        let parent = parents.iter().copied().find(|at| self.is_open(*at))?;
        self.attach(no, parent, limit);
        Some(parent)
    }

    /// Who takes a newcomer that is sent to `from`: itself, or whoever the smallest subtree with room leads to.
    fn hand_down(&self, from: PeerNo) -> Option<PeerNo> {
        let mut at = from;
        loop {
            if self.is_open(at) {
                return Some(at);
            }
            at = self
                .children(at)
                .iter()
                .filter_map(|child| Some((*child, self.nodes.get(child)?)))
                .filter(|(_, node)| node.has_room)
                .min_by_key(|(no, node)| (node.size, node.height, *no))?
                .0;
        }
    }

    /// One more child for each, where that makes room for anybody in the end.
    fn widen(&mut self) -> Result<(), Full> {
        let mut widest = self.clone_bounds();
        widest.degree = self.degree_max;
        let helps = self
            .nodes
            .values()
            .any(|node| node.level < LEVELS_MAX && node.children.len() < widest.capacity(node));
        if self.degree >= self.degree_max || !helps {
            return Err(Full);
        }
        self.degree += 1;
        self.recount();
        Ok(())
    }

    /// The same bounds, without members.
    const fn clone_bounds(&self) -> Self {
        Self {
            root: self.root,
            degree: self.degree,
            degree_max: self.degree_max,
            neighbours_max: self.neighbours_max,
            nodes: BTreeMap::new(),
        }
    }

    /// Sets anew what every member knows of its subtree, the lowest first.
    fn recount(&mut self) {
        for no in self.lowest_first() {
            self.count(no);
        }
    }

    fn lowest_first(&self) -> Vec<PeerNo> {
        let mut order: Vec<(u8, PeerNo)> = Vec::with_capacity(self.nodes.len());
        order.extend(self.nodes.iter().map(|(no, node)| (node.level, *no)));
        order.sort_unstable_by(|one, other| other.cmp(one));
        order.into_iter().map(|(_, no)| no).collect()
    }

    /// Sets what a member knows of its subtree, from what its children know.
    fn count(&mut self, no: PeerNo) {
        let (mut size, mut height, mut has_room) = (1, 0, self.is_open(no));
        for child in self.children(no) {
            if let Some(child) = self.nodes.get(child) {
                size += child.size;
                height = height.max(child.height);
                has_room |= child.has_room;
            }
        }
        if let Some(node) = self.nodes.get_mut(&no) {
            (node.size, node.height, node.has_room) = (size, height + 1, has_room);
        }
    }

    /// Something changed right below a member: it and all above it count again.
    fn update(&mut self, no: PeerNo) {
        let mut at = Some(no);
        while let Some(no) = at {
            self.count(no);
            at = self.parent(no);
        }
    }

    fn attach(&mut self, no: PeerNo, parent: PeerNo, limit: u16) {
        let Some(above) = self.nodes.get_mut(&parent) else {
            return;
        };
        above.children.push(no);
        let level = above.level + 1;
        self.nodes
            .insert(no, Node::leaf(Some(parent), level, limit));
        self.update(no);
    }

    /// Takes a leaf out.
    fn detach(&mut self, no: PeerNo) -> Option<Node> {
        let node = self.nodes.remove(&no)?;
        if let Some(above) = node.parent.and_then(|parent| self.nodes.get_mut(&parent)) {
            above.children.retain(|child| *child != no);
        }
        if let Some(parent) = node.parent {
            self.update(parent);
        }
        Some(node)
    }

    /// The lowest member below `top`; of equals the one that takes most children, then the oldest.
    fn deepest_leaf(&self, top: PeerNo) -> Option<PeerNo> {
        self.below(top)
            .into_iter()
            .filter_map(|no| Some((no, self.nodes.get(&no)?)))
            .filter(|(_, node)| node.children.is_empty())
            .max_by_key(|(no, node)| {
                (
                    node.level,
                    node.limit.min(self.degree),
                    std::cmp::Reverse(*no),
                )
            })
            .map(|(no, _)| no)
    }

    /// Everybody below a member, level by level.
    fn below(&self, top: PeerNo) -> Vec<PeerNo> {
        let mut found: Vec<PeerNo> = self.children(top).to_vec();
        let mut next = 0;
        while let Some(no) = found.get(next).copied() {
            found.extend_from_slice(self.children(no));
            next += 1;
        }
        found
    }

    /// Takes a member out. The lowest leaf below it takes its place, and its children stay with that one. Gives who
    /// took the place, and those that found none any more.
    ///
    /// The root cannot be taken out: with it the stream ends.
    pub fn remove(&mut self, no: PeerNo) -> (Option<PeerNo>, Vec<PeerNo>) {
        if no == self.root || !self.contains(no) {
            return (None, Vec::new());
        }
        let Some(heir) = self.deepest_leaf(no) else {
            self.detach(no);
            return (None, Vec::new());
        };
        let limit = self.detach(heir).map_or(0, |node| node.limit);
        let Some(gone) = self.nodes.remove(&no) else {
            return (None, Vec::new());
        };
        for child in &gone.children {
            if let Some(child) = self.nodes.get_mut(child) {
                child.parent = Some(heir);
            }
        }
        if let Some(above) = gone.parent.and_then(|parent| self.nodes.get_mut(&parent)) {
            for child in &mut above.children {
                if *child == no {
                    *child = heir;
                }
            }
        }
        self.nodes.insert(heir, Node { limit, ..gone });
        self.update(heir);
        (Some(heir), self.shed(heir))
    }

    /// A member can take so many children, whatever the degree. It keeps those that it has; see [`shed`](Self::shed).
    pub fn set_limit(&mut self, no: PeerNo, limit: u16) {
        let Some(node) = self.nodes.get_mut(&no) else {
            return;
        };
        if std::mem::replace(&mut node.limit, limit) != limit {
            self.update(no);
        }
    }

    /// Children of a member beyond what it can take, with all below them, join again elsewhere: the smallest subtrees.
    /// Gives those for whom there is no place.
    pub fn shed(&mut self, no: PeerNo) -> Vec<PeerNo> {
        let mut lost = Vec::new();
        loop {
            let Some(node) = self.nodes.get(&no) else {
                return lost;
            };
            if node.children.len() <= usize::from(node.limit) {
                return lost;
            }
            let size = |child: &PeerNo| self.nodes.get(child).map_or(0, |child| child.size);
            let Some(child) = node
                .children
                .iter()
                .copied()
                .min_by_key(|child| (size(child), *child))
            else {
                return lost;
            };
            let mut homeless = vec![child];
            homeless.extend(self.below(child));
            let mut limits = Vec::with_capacity(homeless.len());
            for member in homeless.iter().rev() {
                limits.push(self.detach(*member).map_or(0, |node| node.limit));
            }
            for (member, limit) in homeless.into_iter().zip(limits.into_iter().rev()) {
                if self.join(member, limit).is_err() {
                    lost.push(member);
                }
            }
        }
    }

    /// Until the subtrees of siblings differ in height by at most one: the highest gives its lowest leaf to the lowest.
    /// Gives the number of leaves that moved.
    ///
    /// Each move brings a leaf nearer to the root, so there is an end.
    pub fn rebalance(&mut self) -> usize {
        let mut moves = 0;
        loop {
            let before = moves;
            for no in self.lowest_first() {
                while self.level_out(no) {
                    moves += 1;
                }
            }
            if moves == before {
                return moves;
            }
        }
    }

    /// One move between the subtrees of a member's children.
    fn level_out(&mut self, no: PeerNo) -> bool {
        let heights = |child: &PeerNo| {
            self.nodes
                .get(child)
                .map(|node| (node.height, node.size, *child))
        };
        let subtrees = || self.children(no).iter().filter_map(heights);
        let (Some((high, _, highest)), Some((low, _, lowest))) =
            (subtrees().max(), subtrees().min())
        else {
            return false;
        };
        if high - low <= 1 {
            return false;
        }
        let (Some(leaf), Some(target)) = (self.deepest_leaf(highest), self.hand_down(lowest))
        else {
            return false;
        };
        let limit = self.detach(leaf).map_or(0, |node| node.limit);
        self.attach(leaf, target, limit);
        true
    }
}

impl Node {
    const fn leaf(parent: Option<PeerNo>, level: u8, limit: u16) -> Self {
        Self {
            parent,
            children: Vec::new(),
            level,
            limit,
            size: 1,
            height: 1,
            has_room: false,
        }
    }
}

#[cfg(test)]
mod tests;
