//! What was freed is gone, whoever held it: looks for bytes in this process's own memory, under the allocator of the product.
//!
//! One test, since a second one beside it would hold copies of the first one's secrets while it scans.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test panics")]
#![expect(unsafe_code, reason = "blocks are taken from two allocators by hand, to compare them")]

mod memory;

use std::alloc::{GlobalAlloc, Layout, System};

use crypto::{OsRng, Rng, WipingAllocator};
use memory::Needle;

#[global_allocator]
static HEAP: WipingAllocator = WipingAllocator;

/// Bytes of a block: of a size that nothing else here asks for, lest what is left in it be overwritten.
const LEN: usize = 920;

/// Fills a block of `allocator` with what `needle` then looks for.
fn fill(allocator: &impl GlobalAlloc, layout: Layout) -> (*mut u8, Needle) {
    // SAFETY: the block has `LEN` bytes, all of which are written before they are read.
    unsafe {
        let block = allocator.alloc_zeroed(layout);
        assert!(!block.is_null());
        let bytes = std::slice::from_raw_parts_mut(block, LEN);
        OsRng::new().fill(bytes);
        (block, Needle::of(&bytes[LEN / 2..]))
    }
}

/// A block taken from `allocator` and given back: how often its content is in memory then.
fn after_free(allocator: &impl GlobalAlloc) -> usize {
    let layout = Layout::from_size_align(LEN, 1).unwrap();
    let (block, needle) = fill(allocator, layout);
    // Keeps the block from being joined to what is free behind it.
    let neighbour = fill(allocator, layout).0;
    assert_eq!(needle.count(), 1, "a block is in memory while it lives");
    // SAFETY: both came from this allocator with this layout, and nobody holds them any more.
    unsafe {
        allocator.dealloc(block, layout);
        let count = needle.count();
        allocator.dealloc(neighbour, layout);
        count
    }
}

/// The same, after it was moved to make room for more or less; how often its content is there while the moved one lives, and then.
fn after_realloc(allocator: &impl GlobalAlloc, new_len: usize) -> (usize, usize) {
    let layout = Layout::from_size_align(LEN, 1).unwrap();
    let (block, needle) = fill(allocator, layout);
    // Takes the place behind, so that the block cannot grow where it is.
    let neighbour = fill(allocator, layout).0;
    // SAFETY: both came from this allocator with this layout; the old block is given up for the new one.
    unsafe {
        let moved = allocator.realloc(block, layout, new_len);
        assert!(!moved.is_null());
        let living = needle.count();
        allocator.dealloc(moved, Layout::from_size_align(new_len, 1).unwrap());
        let freed = needle.count();
        allocator.dealloc(neighbour, layout);
        (living, freed)
    }
}

#[test]
fn nothing_freed_stays_in_memory() {
    // The search finds what the system's own allocator leaves: so it would find what ours did.
    assert_eq!(after_free(&System), 1, "the system's allocator wipes nothing");
    assert!(after_realloc(&System, LEN * 64).1 > 0, "nor when a block moves");

    assert_eq!(after_free(&HEAP), 0, "a freed block");
    for new_len in [LEN * 64, LEN + 1, LEN, LEN - 1] {
        assert_eq!(after_realloc(&HEAP, new_len), (1, 0), "a block of {LEN} bytes that became one of {new_len}");
    }
    let (living, freed) = after_realloc(&HEAP, 16);
    assert_eq!((living, freed), (0, 0), "what was cut off a block");

    // And through the containers that libraries use: a text that grows, moves and shrinks.
    let secret = memory::random_text(&OsRng::new());
    let needle = Needle::of(secret.as_bytes());
    let mut grown = String::new();
    for _ in 0..100 {
        for at in 0..secret.len() {
            grown.push_str(&secret[at..=at]);
        }
    }
    assert_eq!(needle.count(), 101, "each copy that lives is found");
    drop(secret);
    grown.truncate(1);
    grown.shrink_to_fit();
    assert_eq!(needle.count(), 0, "a text that grew and shrank");
    drop(grown);

    let secret = memory::random_text(&OsRng::new());
    let needle = Needle::of(secret.as_bytes());
    let copies: Vec<Box<str>> = (0..1000).map(|_| secret.clone().into_boxed_str()).collect();
    let other = std::thread::spawn(move || copies.len());
    assert_eq!(other.join().unwrap(), 1000);
    assert_eq!(needle.count(), 1, "copies that another thread freed");
    drop(secret);
    assert_eq!(needle.count(), 0);
}

/// The figures of docs/adr/0014: `cargo test --release -p crypto --test freed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    use std::time::Instant;
    /// The fastest of some rounds: others were interrupted.
    fn nanoseconds(mut act: impl FnMut()) -> f64 {
        const TIMES: u32 = 10_000;
        let round = |act: &mut dyn FnMut()| {
            let begin = Instant::now();
            (0..TIMES).for_each(|_| act());
            begin.elapsed().as_nanos() as f64 / f64::from(TIMES)
        };
        (0..50).map(|_| round(&mut act)).fold(f64::INFINITY, f64::min)
    }
    fn taken_and_given_back(allocator: &impl GlobalAlloc, size: usize) -> f64 {
        let layout = Layout::from_size_align(size, 8).unwrap();
        nanoseconds(|| {
            // SAFETY: each block is given back with its layout, and only its first byte is written.
            unsafe {
                let block = allocator.alloc(layout);
                block.write(1);
                allocator.dealloc(std::hint::black_box(block), layout);
            }
        })
    }
    for size in [32, 256, 4096, 65_536] {
        let (plain, wiping) = (taken_and_given_back(&System, size), taken_and_given_back(&HEAP, size));
        println!("a block of {size:>6} bytes, taken and given back: {plain:>6.1} ns, wiped {wiping:>6.1} ns");
    }
    println!("a stack wiped: {:.0} ns", nanoseconds(crypto::wipe_stack));
}
