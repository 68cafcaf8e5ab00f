//! Counting: a reason for every verdict, additions that lose nothing, and
//! exchanges that only one can win.

use core::arch::asm;

use mesh_common::reason::Reason;

use crate::maps::REASONS;

/// Counts a verdict's reason.
#[inline(always)]
pub fn reason(reason: Reason) {
    if let Some(counter) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: a per-CPU value: programs on one CPU interrupt each other
        // rarely, and then a count may be lost, which a statistic can bear.
        unsafe { *counter += 1 };
    }
}

/// Adds to a counter that several CPUs share, and returns what it was.
///
/// `core` for BPF is built for a CPU without atomic additions, so
/// `AtomicU64::fetch_add` is not there; the instruction is (since Linux 5.12).
///
/// # Safety
/// `counter` points into a live map value.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, amount: u64) -> u64 {
    let mut value = amount;
    // SAFETY: map values are 8-byte aligned, and the caller says it is live.
    unsafe {
        asm!(
            "{value} = atomic_fetch_add((u64 *)({counter} + 0), {value})",
            counter = in(reg) counter,
            value = inout(reg) value,
            options(nostack),
        );
    }
    value
}

/// Replaces a word that is still `old` by `new`; returns what it was.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
pub unsafe fn replace(word: *mut u64, old: u64, new: u64) -> u64 {
    let mut value = old;
    // SAFETY: as in `add`. The instruction compares with r0, and leaves there
    // what it found.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inout("r0") value,
            options(nostack),
        );
    }
    value
}

/// Takes one off again.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
pub unsafe fn take_back(counter: *mut u64) {
    // SAFETY: as the caller says.
    unsafe { add(counter, u64::MAX) };
}
