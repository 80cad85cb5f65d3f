//! What a stranger's bytes can make us allocate, counted by the allocator itself.

#![allow(
    unsafe_code,
    reason = "a counting allocator cannot be written without it; this one only passes everything on"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use p2ps::chunk::{ChunkIndex, ChunkRange, ChunkSet};
use p2ps::wire::option::{Addressing, HashFunction};
use p2ps::wire::{Datagram, Format};

thread_local! {
    /// Bytes that this thread holds now, and held at most. Const and without a destructor, so that they need no
    /// allocation themselves.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    HELD.with(|cell| {
        let (held, most) = cell.get();
        let held = held + bytes;
        cell.set((held, most.max(held)));
    });
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes allocated at once while `work` runs, beside what was there before.
fn most_allocated(work: impl FnOnce()) -> usize {
    let before = HELD.with(|cell| {
        let (held, _) = cell.get();
        cell.set((held, held));
        held
    });
    work();
    HELD.with(|cell| (cell.get().1 - before) as usize)
}

/// Reads a datagram and throws each message away, as one that cares for nothing.
fn read(datagram: &Bytes, format: &Format) {
    let Ok((_, mut messages)) = Datagram::open(datagram.clone()) else {
        return;
    };
    while let Some(Ok(message)) = messages.next(format) {
        drop(message);
    }
}

#[test]
fn the_allocator_is_counted() {
    assert_eq!(
        most_allocated(|| drop(Vec::<u8>::with_capacity(4711))),
        4711
    );
}

#[test]
fn claims_of_any_length_allocate_no_more_than_a_few_datagrams() {
    let formats = [
        Format::LIVE,
        Format {
            addressing: Addressing::Bins64,
            hash: HashFunction::Sha512,
            substreams: u16::MAX,
            signature_bytes: 1 << 20,
            ..Format::LIVE
        },
    ];
    let filler = [0x00, 0x01, 0x7f, 0xff];
    for format in &formats {
        for kind in 0..=255_u8 {
            for fill in filler {
                let plain = [[0, 0, 0, 0, kind].as_slice(), &[fill; 1467]].concat();
                // The same kind as an extension whose length is right.
                let inside = [
                    [0, 0, 0, 0, 0xf0, 0x05, 0xb9, kind].as_slice(),
                    &[fill; 1464],
                ]
                .concat();
                for datagram in [plain, inside] {
                    let datagram = Bytes::from(datagram);
                    let most = most_allocated(|| read(&datagram, format));
                    assert!(
                        most < 16 * 1024,
                        "{most} bytes for kind {kind} of {fill:#04x}"
                    );
                }
            }
        }
    }
}

#[test]
fn sparse_and_giant_ranges_allocate_only_their_list() {
    let most = most_allocated(|| {
        let mut set = ChunkSet::new();
        for number in 0..100_000 {
            set.insert(ChunkRange::single(ChunkIndex::new(number * 2)));
        }
        set.insert(ChunkRange::new(ChunkIndex::new(1 << 62), ChunkIndex::MAX).expect("in order"));
        assert_eq!(set.range_count(), ChunkSet::RANGES_MAX);
    });
    assert!(most <= 16 * 1024, "{most} bytes");
}
