//! [`WipingAllocator`]: a heap on which nothing outlives its owner. For the binary's `#[global_allocator]`.
//!
//! Always: every byte of a block that was asked for is zero before the block goes back to the system's allocator; a block that
//! grows or shrinks is copied by this file, so that none is left behind by a library's `realloc`. That covers what no type of
//! ours can: the buffers of hyper, rustls, serde and tokio through which shares and tokens pass.
//! Knows nothing of what is secret: it wipes everything (docs/adr/0014 has the cost). Memory that C code takes with `malloc` is not its
//! own; aws-lc and ring wipe theirs.
#![expect(unsafe_code, reason = "an allocator handles raw memory: `GlobalAlloc` is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, whose blocks are wiped when they are freed.
///
/// ```
/// #[global_allocator]
/// static HEAP: crypto::WipingAllocator = crypto::WipingAllocator;
///
/// fn main() {
///     assert_eq!(vec![7; 3], [7, 7, 7]);
/// }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct WipingAllocator;

// SAFETY: every block comes from `System` and goes back to it with the layout it was asked for; in between this type only writes to bytes of a
// block that its owner has given up. `System` keeps the rest of the contract: it does not unwind, and neither do the calls here.
unsafe impl GlobalAlloc for WipingAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`. Fresh pages are zero already, which only `System` knows.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives up `layout.size()` bytes at `block`, so they may be written, and nobody else looks at them.
        unsafe { wipe(block, layout.size()) };
        // SAFETY: `block` came from `System` with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller vouches that `new_size`, rounded up to the alignment, fits an `isize`, and is not zero.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: as above: a layout that is not empty.
        let new_block = unsafe { System.alloc(new_layout) };
        if new_block.is_null() {
            // The old block stays as it was, as the contract wants it.
            return new_block;
        }
        // SAFETY: both blocks hold that many bytes, and cannot overlap, since both are allocated.
        unsafe { block.copy_to_nonoverlapping(new_block, layout.size().min(new_size)) };
        // SAFETY: the caller gives up the old block when it takes the new one.
        unsafe { self.dealloc(block, layout) };
        new_block
    }
}

/// Overwrites `len` bytes with zeros, in a way that the optimiser must keep although they are freed next.
///
/// # Safety
/// The bytes belong to the caller, and nobody else looks at them.
#[inline]
unsafe fn wipe(block: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { block.write_bytes(0, len) };
    if len > 0 {
        // To the compiler, this reads whatever can be reached through the pointer, so that the zeros must be there by now.
        // SAFETY: the first byte was just written.
        zeroize::optimization_barrier(unsafe { &*block });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn a_block_that_grows_or_shrinks_keeps_its_content_and_its_alignment() {
        for align in [1, 8, 64, 4096] {
            for (from, to) in [(1, 2), (100, 7), (7, 100_000), (300_000, 5), (64, 64)] {
                // SAFETY: each block is used within its size, and freed once with the layout that it has then.
                unsafe {
                    let block = WipingAllocator.alloc(layout(from, align));
                    for at in 0..from {
                        block.add(at).write(at as u8);
                    }
                    let block = WipingAllocator.realloc(block, layout(from, align), to);
                    assert!(block.addr().is_multiple_of(align), "{from} to {to}, aligned to {align}");
                    for at in 0..from.min(to) {
                        assert_eq!(block.add(at).read(), at as u8, "{from} to {to}, byte {at}");
                    }
                    WipingAllocator.dealloc(block, layout(to, align));
                }
            }
        }
    }

    #[test]
    fn what_is_asked_for_as_zero_is_zero() {
        for size in [1, 64, 1 << 20] {
            // SAFETY: used within its size, and freed once.
            unsafe {
                let block = WipingAllocator.alloc_zeroed(layout(size, 8));
                assert!(std::slice::from_raw_parts(block, size).iter().all(|byte| *byte == 0));
                WipingAllocator.dealloc(block, layout(size, 8));
            }
        }
    }

    #[test]
    fn a_block_that_cannot_be_had_leaves_the_old_one_as_it_is() {
        // SAFETY: the old block is still its owner's after a refusal; used within its size, and freed once.
        unsafe {
            let block = WipingAllocator.alloc(layout(4, 1));
            block.copy_from_nonoverlapping(b"kept".as_ptr(), 4);
            let huge = isize::MAX as usize - 4096;
            assert!(WipingAllocator.realloc(block, layout(4, 1), huge).is_null());
            assert_eq!(std::slice::from_raw_parts(block, 4), b"kept");
            WipingAllocator.dealloc(block, layout(4, 1));
        }
    }

    #[test]
    fn a_wipe_reaches_every_byte_and_no_further() {
        for len in [0, 1, 7, 8, 31, 4096] {
            let mut bytes = vec![0xff; len + 2];
            // SAFETY: `len` bytes from the second on are in the vector.
            unsafe { wipe(bytes.as_mut_ptr().add(1), len) };
            assert!(bytes[1..=len].iter().all(|byte| *byte == 0), "{len}");
            assert_eq!((bytes[0], bytes[len + 1]), (0xff, 0xff), "{len}");
        }
    }
}
