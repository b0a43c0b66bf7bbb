//! Memory of the module, for requests that want little of it and at once.
//!
//! The allocator of WASI's library looks for the best fit, and splits and joins blocks: a hundred
//! steps each time, some ten times per request. Here a block of at most [`MAX_POOLED_BYTES`] comes
//! from a list of free blocks of its size and goes back there; larger ones, and blocks for the lists,
//! come from that allocator. `memcmp` of that library compares byte by byte; here it takes eight.
//!
//! Limits: a list never gives a block back, so each size holds what it had in use at its peak; a
//! block is at most 31 bytes larger than asked for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null_mut;

/// Sizes go in steps of this many bytes.
const STEP: usize = 32;

/// Larger blocks are not pooled.
const MAX_POOLED_BYTES: usize = 2048;

/// Alignment of every pooled block.
const ALIGN: usize = 16;

/// A list gets blocks of about this many bytes together when it is empty.
const REFILL_BYTES: usize = 512;

const SIZES: usize = MAX_POOLED_BYTES / STEP;

/// The first free block of each size; each block holds the address of the next one.
pub(crate) struct Pools {
    free: [Cell<*mut u8>; SIZES],
}

// SAFETY: a module of WASI preview 1 has one thread.
unsafe impl Sync for Pools {}

/// The list for blocks of this layout.
#[inline(always)]
fn place_of(layout: Layout) -> Option<usize> {
    let list = layout.size().wrapping_sub(1) / STEP;
    (list < SIZES && layout.align() <= ALIGN).then_some(list)
}

impl Pools {
    pub(crate) const fn new() -> Self {
        Self {
            free: [const { Cell::new(null_mut()) }; SIZES],
        }
    }

    #[inline(always)]
    fn push(&self, list: usize, block: *mut u8) {
        if let Some(head) = self.free.get(list) {
            // SAFETY: the block is free, aligned, and has room for an address.
            unsafe { block.cast::<*mut u8>().write(head.get()) };
            head.set(block);
        }
    }

    /// Takes new blocks for a list, and returns one of them.
    #[cold]
    #[inline(never)]
    fn refill(&self, list: usize) -> *mut u8 {
        let size = (list + 1) * STEP;
        let blocks = (REFILL_BYTES / size).max(1);
        let Ok(layout) = Layout::from_size_align(blocks * size, ALIGN) else {
            return null_mut();
        };
        // SAFETY: the layout is not empty.
        let first = unsafe { System.alloc(layout) };
        if !first.is_null() {
            for number in 1..blocks {
                // SAFETY: within what was just allocated.
                self.push(list, unsafe { first.add(number * size) });
            }
        }
        first
    }
}

// SAFETY: a block is either in one list or given out, never both; lists hold blocks that are large
// enough and aligned for every layout that `place_of` sends there.
unsafe impl GlobalAlloc for Pools {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(list) = place_of(layout) else {
            // SAFETY: as the caller promises.
            return unsafe { System.alloc(layout) };
        };
        match self.free.get(list) {
            Some(head) if !head.get().is_null() => {
                let block = head.get();
                // SAFETY: a free block holds the address of the next one.
                head.set(unsafe { block.cast::<*mut u8>().read() });
                block
            }
            _ => self.refill(list),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match place_of(layout) {
            Some(list) => self.push(list, block),
            // SAFETY: it came from there, with this layout.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else {
            return null_mut();
        };
        match (place_of(layout), place_of(wanted)) {
            (None, None) => {
                // SAFETY: it came from there, with this layout.
                return unsafe { System.realloc(block, layout, size) };
            }
            (Some(old), Some(new)) if old == new => return block,
            _ => {}
        }
        // SAFETY: `wanted` is not empty, as the caller promises.
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            // SAFETY: both blocks have that many bytes and are different ones; the old one came
            // from here with this layout.
            unsafe {
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
        }
        moved
    }
}

/// The function of C, eight bytes at a time. The compiler calls it wherever bytes are compared.
///
/// # Safety
/// As in C: both have `len` bytes.
#[cfg(target_arch = "wasm32")]
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    let mut at = 0;
    while len >= 8 && at < len {
        // The last eight bytes overlap with equal ones.
        let from = at.min(len - 8);
        // SAFETY: within both.
        let (one, other) = unsafe {
            (
                left.add(from).cast::<u64>().read_unaligned(),
                right.add(from).cast::<u64>().read_unaligned(),
            )
        };
        let different = one ^ other;
        if different != 0 {
            let shift = different.trailing_zeros() & !7;
            return i32::from((one >> shift) as u8) - i32::from((other >> shift) as u8);
        }
        at = from + 8;
    }
    while at < len {
        // SAFETY: within both.
        let (one, other) = unsafe { (left.add(at).read(), right.add(at).read()) };
        if one != other {
            return i32::from(one) - i32::from(other);
        }
        at += 1;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_distinct_and_used_again() {
        let pools = Pools::new();
        let mut rng = fastrand::Rng::with_seed(7);
        let mut taken: Vec<(*mut u8, Layout, u8)> = Vec::new();
        for round in 0..20_000 {
            if taken.len() > 100 || (rng.bool() && !taken.is_empty()) {
                let (block, layout, byte) = taken.swap_remove(rng.usize(..taken.len()));
                let size = rng.usize(1..3000);
                // SAFETY: it came from these pools with this layout, and is not used afterwards.
                unsafe {
                    let content = std::slice::from_raw_parts(block, layout.size());
                    assert!(content.iter().all(|found| *found == byte));
                    if round % 3 == 0 {
                        let moved = pools.realloc(block, layout, size);
                        let layout = Layout::from_size_align(size, layout.align()).unwrap();
                        let kept = std::slice::from_raw_parts(moved, content.len().min(size));
                        assert!(kept.iter().all(|found| *found == byte));
                        moved.write_bytes(byte, size);
                        taken.push((moved, layout, byte));
                    } else {
                        pools.dealloc(block, layout);
                    }
                }
                continue;
            }
            let align = 1 << rng.usize(0..6);
            let layout = Layout::from_size_align(rng.usize(1..3000), align).unwrap();
            let byte = rng.u8(..);
            // SAFETY: the layout is not empty; the block has its bytes.
            let block = unsafe { pools.alloc(layout) };
            assert!(!block.is_null() && (block as usize).is_multiple_of(align));
            unsafe { block.write_bytes(byte, layout.size()) };
            taken.push((block, layout, byte));
        }
        for (block, layout, _) in taken {
            // SAFETY: as above.
            unsafe { pools.dealloc(block, layout) };
        }
    }

    #[test]
    fn every_size_has_a_list_of_blocks_that_are_large_enough() {
        for size in 1..=MAX_POOLED_BYTES {
            let layout = Layout::from_size_align(size, 1).unwrap();
            let list = place_of(layout).unwrap();
            let bytes = (list + 1) * STEP;
            assert!(
                list < SIZES && bytes >= size && bytes.is_multiple_of(ALIGN),
                "{size}"
            );
        }
        let above = Layout::from_size_align(MAX_POOLED_BYTES + 1, 1).unwrap();
        assert_eq!(place_of(above), None);
    }
}
