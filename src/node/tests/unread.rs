//! Media that lay unread for a while: its delay runs from when it may have come.

use super::*;
use crate::node::Unsigned;

const DELAY: Duration = Duration::from_millis(20);

fn at(ms: u64) -> Instant {
    Instant::from_micros(1_000_000 + ms * 1000)
}

fn source() -> Node {
    Node::new(at(0), config(Role::Source, 1, &[], 0), Seed::from_number(1)).unwrap()
}

/// Whole packets of a transport stream.
fn packets(count: usize) -> Bytes {
    let mut bytes = vec![0; count * 188];
    for packet in bytes.chunks_mut(188) {
        packet[..2].copy_from_slice(&[0x47, 0x1f]);
    }
    bytes.into()
}

fn signed(node: &Node) -> u64 {
    node.counters(at(0), 0).signed_munros
}

#[test]
fn a_munro_is_signed_on_time_however_late_it_is_read() {
    let mut node = source();
    node.push_media_since(at(17), at(0), packets(70));
    assert!(node.poll_timeout(at(17)) == Some(at(20)));
    node.push_media_since(at(20), at(17), packets(7));
    node.handle_timeout(at(20));
    assert_eq!(signed(&node), 1);
    // Nothing is left: the next delay begins with the next byte.
    let next = node.source_unsigned(at(21), None);
    let due = at(21) + DELAY;
    assert_eq!(
        next,
        Some(Unsigned {
            due,
            has_partial: false
        })
    );
}

#[test]
fn what_is_left_of_a_chunk_came_at_its_end_where_media_is_even() {
    let mut node = source();
    node.push_media_since(at(20), at(0), packets(80));
    node.handle_timeout(at(20));
    assert_eq!(signed(&node), 1);
    // The last 3 of 80 packets in 20 ms.
    let due = at(20).saturating_sub(Duration::from_micros(750)) + DELAY;
    let next = node.source_unsigned(at(20), None);
    assert_eq!(
        next,
        Some(Unsigned {
            due,
            has_partial: true
        })
    );
}

#[test]
fn what_is_left_of_a_pause_is_signed_at_once() {
    let mut node = source();
    node.push_media(at(0), packets(10));
    // Read again and nothing there: three packets have waited as long as the others.
    node.handle_timeout(at(20));
    node.handle_timeout(at(20));
    assert_eq!(signed(&node), 2);
}

#[test]
fn a_munro_that_fills_is_due_when_it_does() {
    let mut node = source();
    node.push_media(at(0), packets(16 * 7));
    let due = |rate| {
        node.source_unsigned(at(0), rate)
            .map(|unsigned| unsigned.due)
    };
    assert_eq!(due(None), Some(at(20)));
    assert_eq!(due(Some(100_000)), Some(at(20)));
    // 16 chunks of 1316 bytes and a sixteenth more, at 2.2372 MB/s.
    assert_eq!(due(Some(2_237_200)), Some(at(10)));
}
