//! Trees of numbers.

use std::collections::BTreeSet;

use super::*;
use crate::rng::{Rng, Seed};

const ROOT: PeerNo = PeerNo(0);

fn grown(members: u64) -> Tree {
    let mut tree = Tree::new(ROOT, u16::MAX);
    for number in 1..members {
        tree.join(PeerNo(number), u16::MAX).expect("there is room");
    }
    tree
}

/// What must hold whatever happened.
fn check(tree: &Tree) {
    let mut seen = BTreeSet::from([tree.root]);
    let mut open = vec![(tree.root, 1)];
    while let Some((no, level)) = open.pop() {
        let node = &tree.nodes[&no];
        assert_eq!(node.level, level, "{no:?}");
        assert!(level <= LEVELS_MAX, "{no:?} is at level {level}");
        assert!(
            node.children.len() <= usize::from(tree.degree.min(node.limit)),
            "{no:?}"
        );
        for child in &node.children {
            assert_eq!(tree.parent(*child), Some(no));
            assert!(seen.insert(*child), "{child:?} is there twice");
            open.push((*child, level + 1));
        }
        let below: usize = node.children.iter().map(|no| tree.nodes[no].size).sum();
        assert_eq!(node.size, 1 + below, "{no:?}");
    }
    assert_eq!(seen.len(), tree.len(), "somebody hangs on nobody");
}

/// The largest difference in height between siblings.
fn imbalance(tree: &Tree) -> u8 {
    let heights = |no: &PeerNo| tree.nodes[no].height;
    tree.nodes
        .values()
        .map(|node| {
            let highest = node.children.iter().map(heights).max().unwrap_or(0);
            highest - node.children.iter().map(heights).min().unwrap_or(0)
        })
        .max()
        .unwrap_or(0)
}

#[test]
fn t_ss_1_trees_widen_when_six_levels_are_full() {
    for (members, degree) in [(63, 2), (64, 3), (364, 3), (365, 4)] {
        let tree = grown(members);
        check(&tree);
        assert_eq!(
            (tree.degree(), tree.height()),
            (degree, 6),
            "{members} members"
        );
    }
    let mut tree = grown(63);
    assert!(tree.nodes.values().all(|node| !node.has_room), "all full");
    // The newcomer goes to the highest place with room, which is right below the radix.
    assert_eq!(tree.join(PeerNo(63), u16::MAX), Ok(ROOT));
    assert_eq!((tree.level(PeerNo(63)), tree.height()), (Some(2), 6));
}

#[test]
fn t_ss_1_nobody_comes_to_level_7_in_a_thousand_steps() {
    for seed in 0..20 {
        let mut rng = Rng::new(Seed::from_number(seed));
        let mut tree = Tree::new(ROOT, u16::MAX);
        let mut members: Vec<PeerNo> = Vec::new();
        let mut next = 1;
        for step in 0..1000 {
            // Crowds come and go: the share of joins changes.
            let joins = if (step / 200) % 2 == 0 { 80 } else { 35 };
            if members.is_empty() || rng.below(100) < joins {
                tree.join(PeerNo(next), u16::MAX).expect("there is room");
                members.push(PeerNo(next));
                next += 1;
            } else {
                let gone = members.swap_remove(rng.below(members.len() as u64) as usize);
                let (_, lost) = tree.remove(gone);
                assert!(lost.is_empty() && !tree.contains(gone));
            }
            check(&tree);
            assert_eq!(tree.len(), members.len() + 1);
        }
    }
}

#[test]
fn t_ss_2_siblings_differ_by_one_level_after_rebalancing() {
    let mut worst = 0;
    for seed in 0..20 {
        let mut rng = Rng::new(Seed::from_number(seed));
        let mut tree = grown(40 + seed * 5);
        let mut next = 1000;
        for _ in 0..200 {
            let members: Vec<PeerNo> = tree.nodes.keys().copied().skip(1).collect();
            for _ in 0..5 {
                tree.remove(members[rng.below(members.len() as u64) as usize]);
                if rng.chance(0.9) {
                    tree.join(PeerNo(next), u16::MAX).expect("there is room");
                    next += 1;
                }
            }
            if tree.len() < 20 {
                break;
            }
            let before = tree.len();
            worst = worst.max(imbalance(&tree));
            tree.rebalance();
            assert!(imbalance(&tree) <= 1, "seed {seed}");
            assert_eq!(tree.len(), before);
            check(&tree);
            assert_eq!(tree.rebalance(), 0, "a second time there is nothing to do");
        }
    }
    assert!(worst > 1, "without rebalancing it would have been the same");
}

#[test]
fn the_lowest_leaf_takes_the_place_of_who_leaves() {
    let mut tree = grown(15); // Four full levels.
    let gone = tree.children(ROOT)[0];
    let children = tree.children(gone).to_vec();
    let (heir, lost) = tree.remove(gone);
    let heir = heir.expect("there were leaves below");
    assert!(lost.is_empty());
    assert_eq!(tree.parent(heir), Some(ROOT));
    assert_eq!(tree.children(heir), children, "they keep their subtrees");
    check(&tree);
    // A child that is a leaf may be the heir itself.
    let mut tree = grown(4);
    let gone = tree.children(ROOT)[0];
    let child = tree.children(gone)[0];
    assert_eq!(tree.remove(gone), (Some(child), Vec::new()));
    assert_eq!(tree.ancestors(child).collect::<Vec<_>>(), [ROOT]);
    assert_eq!(tree.remove(ROOT), (None, Vec::new()));
}

#[test]
fn a_full_tree_refuses() {
    // Everybody takes one child: six levels are six members, whatever the degree.
    let mut tree = Tree::new(ROOT, 1);
    for number in 1..6 {
        tree.join(PeerNo(number), 1).expect("there is room");
    }
    assert_eq!(tree.join(PeerNo(6), 1), Err(Full));
    assert_eq!(
        tree.degree(),
        DEGREE_FIRST,
        "widening would have been in vain"
    );
    // Somebody who takes three makes room for them.
    tree.set_limit(PeerNo(2), 3);
    assert_eq!(tree.join(PeerNo(6), 1), Ok(PeerNo(2)));
    check(&tree);
}

#[test]
fn members_that_take_less_are_relieved() {
    let mut tree = grown(31);
    let top = tree.children(ROOT)[0];
    tree.set_limit(top, 1);
    assert_eq!(tree.children(top).len(), 2);
    assert_eq!(tree.shed(top), Vec::new());
    assert_eq!((tree.children(top).len(), tree.len()), (1, 31));
    check(&tree);
}

#[test]
fn hubs_have_a_limit_that_the_root_has_not() {
    let mut tree = Tree::new(ROOT, u16::MAX).neighbours_max(2);
    for number in 1..40 {
        tree.join(PeerNo(number), u16::MAX)
            .expect("the root widens");
    }
    for no in (1..40).map(PeerNo) {
        assert!(tree.children(no).len() <= 1, "{no:?}");
    }
    check(&tree);
}

#[test]
fn a_star_has_two_levels() {
    let mut tree = Tree::star(ROOT, u16::MAX);
    for number in 1..100 {
        assert_eq!(tree.join(PeerNo(number), u16::MAX), Ok(ROOT));
    }
    assert_eq!((tree.height(), tree.children(ROOT).len()), (2, 99));
}

#[test]
fn friends_are_asked_first() {
    let mut tree = grown(15);
    let full = tree.children(ROOT)[0];
    let leaf = (1..15)
        .map(PeerNo)
        .find(|no| tree.is_open(*no))
        .expect("leaves");
    assert_eq!(tree.join_one_of(PeerNo(90), 9, &[full, leaf]), Some(leaf));
    assert_eq!(tree.join_one_of(PeerNo(91), 9, &[full]), None);
}
