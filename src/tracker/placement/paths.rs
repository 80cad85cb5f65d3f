//! The way from the source to a cluster: the shortest by latency among those whose links all have room for the stream.
//!
//! Links are those of the networks file. What the paths of all channels take is subtracted from them; a link that
//! loses is as good as full for a while, whatever the file says it carries.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::networks::SOURCE;
use crate::time::Instant;

/// How long a link that lost is left alone.
const FULL_FOR: Duration = Duration::from_secs(60);

/// One direction between two clusters, or from the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where it begins: a cluster, or [`SOURCE`].
    pub from: Arc<str>,
    /// The cluster where it ends.
    pub to: Arc<str>,
    /// Delay.
    pub latency: Duration,
    /// What it carries, in kbit/s.
    pub capacity_kbps: u64,
}

#[derive(Clone, Debug)]
struct Edge {
    link: Link,
    full_until: Instant,
}

/// A way: the rate that it carries, and its links, the first at the source.
type Way = (u64, Vec<usize>);

/// Links, and what goes over them.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    edges: Vec<Edge>,
    /// By channel and cluster.
    ways: BTreeMap<(Arc<str>, Arc<str>), Way>,
}

impl Paths {
    /// Links without traffic.
    pub fn new(links: &[Link]) -> Self {
        let edge = |link: &Link| Edge {
            link: link.clone(),
            full_until: Instant::ZERO,
        };
        Self {
            edges: links.iter().map(edge).collect(),
            ways: BTreeMap::new(),
        }
    }

    /// Takes other links. One that is there again keeps what is known of it, and the ways over it; a way that lost one
    /// of its links has to be found anew.
    pub fn set_links(&mut self, links: &[Link]) {
        let old = std::mem::replace(self, Self::new(links));
        // Links of the same ends stand for each other in the order of the file.
        let mut places: BTreeMap<(&str, &str), VecDeque<usize>> = BTreeMap::new();
        for (at, link) in links.iter().enumerate() {
            let ends = places.entry((&*link.from, &*link.to)).or_default();
            ends.push_back(at);
        }
        let mut moved = vec![None; old.edges.len()];
        for (edge, to) in old.edges.iter().zip(&mut moved) {
            let ends = (&*edge.link.from, &*edge.link.to);
            *to = places.get_mut(&ends).and_then(VecDeque::pop_front);
            if let Some(kept) = to.and_then(|to| self.edges.get_mut(to)) {
                kept.full_until = edge.full_until;
            }
        }
        for (key, (rate, way)) in old.ways {
            let way = way.iter().map(|at| moved.get(*at).copied().flatten());
            if let Some(way) = way.collect() {
                self.ways.insert(key, (rate, way));
            }
        }
    }

    /// Whether there are no links, so that everybody is as far from the source as anybody else.
    pub const fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }

    /// Clusters that the way of a channel to `cluster` leads through, without the source and `cluster` itself.
    pub fn through(&self, channel: &Arc<str>, cluster: &Arc<str>) -> Option<Vec<Arc<str>>> {
        let (_, way) = self.ways.get(&(Arc::clone(channel), Arc::clone(cluster)))?;
        let ends = way.iter().filter_map(|edge| self.edges.get(*edge));
        let mut clusters: Vec<Arc<str>> = ends.map(|edge| Arc::clone(&edge.link.to)).collect();
        clusters.pop();
        Some(clusters)
    }

    /// Delay along a way.
    pub fn latency(&self, channel: &Arc<str>, cluster: &Arc<str>) -> Option<Duration> {
        let (_, way) = self.ways.get(&(Arc::clone(channel), Arc::clone(cluster)))?;
        let edges = way.iter().filter_map(|edge| self.edges.get(*edge));
        Some(edges.map(|edge| edge.link.latency).sum())
    }

    /// What a link has left, in kbit/s: a stream that several ways carry over it counts once, because a cluster gets it
    /// once. The way of `channel` itself does not count.
    fn free_kbps(&self, now: Instant, at: usize, edge: &Edge, channel: &Arc<str>) -> u64 {
        if edge.full_until > now {
            return 0;
        }
        let mut streams: BTreeMap<&Arc<str>, u64> = BTreeMap::new();
        for ((other, _), (rate, way)) in &self.ways {
            if other != channel && way.contains(&at) {
                streams.insert(other, *rate);
            }
        }
        let used: u64 = streams.values().sum();
        edge.link.capacity_kbps.saturating_sub(used)
    }

    /// Finds the way of a channel of `rate` kbit/s to a cluster anew, through clusters that `carries` it; says whether it
    /// changed. Without a way that has room the old one stays: a stream that stutters beats none.
    pub fn find(
        &mut self,
        now: Instant,
        channel: &Arc<str>,
        cluster: &Arc<str>,
        rate: u64,
        carries: impl Fn(&str) -> bool,
    ) -> bool {
        let key = (Arc::clone(channel), Arc::clone(cluster));
        let Some(way) = self.shortest(now, channel, cluster, rate, carries) else {
            return false;
        };
        let before = self.ways.insert(key, (rate, way.clone()));
        before.is_none_or(|(_, before)| before != way)
    }

    /// Dijkstra over the links that have room.
    fn shortest(
        &self,
        now: Instant,
        channel: &Arc<str>,
        cluster: &Arc<str>,
        rate: u64,
        carries: impl Fn(&str) -> bool,
    ) -> Option<Vec<usize>> {
        let mut open: BTreeSet<(Duration, usize, &str)> =
            BTreeSet::from([(Duration::ZERO, 0, SOURCE)]);
        let mut done: BTreeMap<&str, Option<usize>> = BTreeMap::new();
        let mut reached: BTreeMap<&str, (Duration, Option<usize>)> =
            BTreeMap::from([(SOURCE, (Duration::ZERO, None))]);
        while let Some((latency, hops, place)) = open.pop_first() {
            if done.contains_key(place) {
                continue;
            }
            done.insert(place, reached.get(place).and_then(|(_, by)| *by));
            if place == &**cluster {
                break;
            }
            for (at, edge) in self.edges.iter().enumerate() {
                let to = &*edge.link.to;
                let is_usable = &*edge.link.from == place
                    && !done.contains_key(to)
                    && (to == &**cluster || carries(to))
                    && self.free_kbps(now, at, edge, channel) >= rate;
                let total = latency + edge.link.latency;
                if is_usable && reached.get(to).is_none_or(|(known, _)| total < *known) {
                    reached.insert(to, (total, Some(at)));
                    open.insert((total, hops + 1, to));
                }
            }
        }
        let mut way = Vec::new();
        let mut place = &**cluster;
        while let Some(at) = *done.get(place)? {
            way.push(at);
            place = &*self.edges.get(at)?.link.from;
        }
        way.reverse();
        (!way.is_empty()).then_some(way)
    }

    /// A cluster gets a channel badly: the last link of its way is full, whoever fills it. Says whether that is news.
    pub fn on_loss(&mut self, now: Instant, channel: &Arc<str>, cluster: &Arc<str>) -> bool {
        let key = (Arc::clone(channel), Arc::clone(cluster));
        let last = self.ways.get(&key).and_then(|(_, way)| way.last().copied());
        let Some(edge) = last.and_then(|last| self.edges.get_mut(last)) else {
            return false;
        };
        let was_full = edge.full_until > now;
        edge.full_until = now + FULL_FOR;
        !was_full
    }

    /// Forgets the way of a channel to a cluster.
    pub fn forget(&mut self, channel: &Arc<str>, cluster: &Arc<str>) {
        self.ways
            .remove(&(Arc::clone(channel), Arc::clone(cluster)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Seed};

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn name(text: &str) -> Arc<str> {
        text.into()
    }

    /// `source` to `d` directly in 10 ms, through `b` in 30, through `c` in 50.
    fn paths(capacities: [u64; 3]) -> Paths {
        let link = |from: &str, to: &str, latency_ms, capacity_kbps| Link {
            from: from.into(),
            to: to.into(),
            latency: Duration::from_millis(latency_ms),
            capacity_kbps,
        };
        Paths::new(&[
            link("source", "d", 10, capacities[0]),
            link("source", "b", 5, 10_000),
            link("b", "d", 25, capacities[1]),
            link("source", "c", 10, 10_000),
            link("c", "d", 40, capacities[2]),
        ])
    }

    fn way(paths: &mut Paths, channel: &str, rate: u64) -> Vec<String> {
        paths.find(at(0), &name(channel), &name("d"), rate, |_| true);
        let through = paths.through(&name(channel), &name("d"));
        through
            .into_iter()
            .flatten()
            .map(|name| name.to_string())
            .collect()
    }

    #[test]
    fn the_shortest_way_with_room_is_taken() {
        for (capacities, through) in [
            ([1000, 1000, 1000], vec![]),
            ([999, 1000, 1000], vec!["b"]),
            ([999, 999, 1000], vec!["c"]),
        ] {
            assert_eq!(
                way(&mut paths(capacities), "film", 1000),
                through,
                "{capacities:?}"
            );
        }
        let mut none = paths([1, 1, 1]);
        assert!(!none.find(at(0), &name("film"), &name("d"), 1000, |_| true));
        assert_eq!(none.through(&name("film"), &name("d")), None);
    }

    #[test]
    fn other_channels_fill_links_and_a_channel_does_not_fill_its_own() {
        let mut paths = paths([1500, 1500, 1500]);
        assert_eq!(way(&mut paths, "one", 1000), Vec::<String>::new());
        assert_eq!(way(&mut paths, "one", 1000), Vec::<String>::new());
        assert_eq!(way(&mut paths, "two", 1000), ["b"]);
        assert_eq!(way(&mut paths, "three", 1000), ["c"]);
        paths.forget(&name("one"), &name("d"));
        assert_eq!(way(&mut paths, "three", 1000), Vec::<String>::new());
    }

    #[test]
    fn ways_lead_only_through_clusters_that_carry_the_channel() {
        let mut paths = paths([0, 1000, 1000]);
        assert!(paths.find(at(0), &name("film"), &name("d"), 1000, |name| name == "c"));
        assert_eq!(
            paths.through(&name("film"), &name("d")),
            Some(vec![name("c")])
        );
        assert_eq!(
            paths.latency(&name("film"), &name("d")),
            Some(Duration::from_millis(50))
        );
    }

    /// The delay of the shortest way with room, by trying all of them.
    fn by_trial(links: &[Link], at: &str, to: &str, rate: u64, left: usize) -> Option<Duration> {
        if at == to {
            return Some(Duration::ZERO);
        }
        let usable = |link: &&Link| *link.from == *at && link.capacity_kbps >= rate;
        let ways = links.iter().filter(usable).filter(|_| left > 0);
        ways.filter_map(|link| {
            let rest = by_trial(links, &link.to, to, rate, left - 1)?;
            Some(link.latency + rest)
        })
        .min()
    }

    #[test]
    fn t_psp_7_no_way_with_room_is_shorter() {
        const PLACES: [&str; 6] = [SOURCE, "a", "b", "c", "d", "e"];
        let mut rng = Rng::new(Seed::from_number(7));
        let mut found = 0;
        for round in 0..500 {
            let links: Vec<Link> = (0..rng.below(16))
                .map(|_| Link {
                    from: PLACES[rng.below(6) as usize].into(),
                    to: PLACES[1 + rng.below(5) as usize].into(),
                    latency: Duration::from_millis(rng.below(30)),
                    capacity_kbps: 500 * rng.below(4),
                })
                .collect();
            let mut paths = Paths::new(&links);
            let (film, d) = (name("film"), name("d"));
            let rate = 1 + rng.below(1500);
            let has_way = paths.find(at(0), &film, &d, rate, |_| true);
            let expected = by_trial(&links, SOURCE, "d", rate, PLACES.len());
            let latency = paths.latency(&film, &d);
            assert_eq!(latency, expected, "round {round}: {rate} over {links:?}");
            found += usize::from(has_way);
        }
        assert!((100..400).contains(&found), "{found} ways");
    }

    #[test]
    fn a_new_file_keeps_ways_whose_links_it_has() {
        let link = |from: &str, to: &str, latency_ms| Link {
            from: from.into(),
            to: to.into(),
            latency: Duration::from_millis(latency_ms),
            capacity_kbps: 1000,
        };
        let mut paths = paths([1000, 1000, 1000]);
        let (film, d) = (name("film"), name("d"));
        assert!(paths.find(at(0), &film, &d, 1000, |_| true));
        // In another place of the file, and longer.
        let (direct, over_b) = (link("source", "d", 70), link("b", "d", 25));
        let to_b = link("source", "b", 5);
        paths.set_links(&[to_b.clone(), over_b.clone(), direct.clone()]);
        assert_eq!(paths.through(&film, &d), Some(vec![]));
        assert_eq!(paths.latency(&film, &d), Some(direct.latency));
        assert!(paths.find(at(1), &film, &d, 1000, |_| true));
        assert_eq!(paths.through(&film, &d), Some(vec![name("b")]));
        // What was learned of a link stays with it.
        assert!(paths.on_loss(at(2), &film, &d));
        paths.set_links(&[direct.clone(), over_b.clone(), to_b]);
        assert!(paths.find(at(3), &film, &d, 1000, |_| true));
        assert_eq!(paths.latency(&film, &d), Some(direct.latency));
        // A way without its link is none, and with no links at all there is nothing to find.
        paths.set_links(&[over_b]);
        assert_eq!(paths.through(&film, &d), None);
        paths.set_links(&[]);
        assert!(paths.is_empty() && !paths.find(at(4), &film, &d, 1000, |_| true));
    }

    #[test]
    fn a_link_that_loses_is_left_alone_for_a_minute() {
        let mut paths = paths([1000, 1000, 1000]);
        let (film, d) = (name("film"), name("d"));
        assert!(paths.find(at(0), &film, &d, 1000, |_| true));
        assert!(paths.on_loss(at(1), &film, &d) && !paths.on_loss(at(1), &film, &d));
        assert!(paths.find(at(2), &film, &d, 1000, |_| true));
        assert_eq!(paths.through(&film, &d), Some(vec![name("b")]));
        assert!(!paths.find(at(60), &film, &d, 1000, |_| true));
        assert!(paths.find(at(61), &film, &d, 1000, |_| true));
    }
}
