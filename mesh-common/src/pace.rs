//! Fixed bandwidth for a group of connections, each of which paces itself.
//!
//! The kernel can hold one socket to a rate. To hold a group of them to one
//! together, all get the same share, and the share is corrected by what the
//! group really moved: the rate control protocol (RCP, Dukkipati 2006) with
//! the limit in the place of a router's link. Nobody has to know how many
//! connections are busy: where few are, less than the limit moves and the share
//! grows; where many are, it shrinks, to limit / busy in the end. Idle ones
//! keep nothing, and those that want less than their share leave the rest to
//! the others (max-min fairness).
//!
//! Time goes in rounds. A round ends after [`ROUND_NS`], or as soon as it has
//! moved what it may: when many connections wake up at once, their share is
//! cut within a fraction of a round.

/// Whose connections share a limit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// Of the client, where each client's workload has its own limit; else 0.
    pub netns: u64,
    pub service: u32,
    /// [`direction`]
    pub direction: u8,
    pub zero: [u8; 3],
}

/// Values of [`GroupKey::direction`].
pub mod direction {
    /// What clients send.
    pub const UPLOAD: u8 = 0;
    /// What instances send.
    pub const DOWNLOAD: u8 = 1;
}

/// Connections that share a limit: where they stand.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// When this round began; replaced by compare-exchange, so that one of the
    /// connections that see its end closes it.
    pub started_ns: u64,
    /// Moved in this round.
    pub bytes: u64,
    /// What each connection may send now, bytes per second.
    pub share: u64,
    /// Moved above the limit and not yet made up for, bytes; below 0 is credit.
    pub excess: i64,
    /// Open connections, more or less: wrapping, as they join and leave.
    pub members: u64,
    /// All that was ever moved.
    pub total: u64,
}

/// What a paced socket carries.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paced {
    pub group: GroupKey,
    /// Counted for the group so far.
    pub acked: u64,
    /// What the socket is set to.
    pub rate: u64,
}

/// Who a connection of the kernel path whose answers are to be paced belongs
/// to: written when the client's end is established, found by the instance's
/// end a moment later.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EndsKey {
    pub client: crate::address::Address,
    pub instance: crate::address::Address,
}

crate::plain_bytes!(GroupKey, Group, Paced, EndsKey);

pub const ROUND_NS: u64 = 50_000_000;
/// A round that has used up its bytes isn't shorter than this, so that there is
/// something to divide by.
const SHORTEST_NS: u64 = 1_000_000;
/// After a silence nothing is left to correct.
const FORGET_NS: u64 = 1_000_000_000;
const SECOND_US: u64 = 1_000_000;
/// Limits above are held as this: the arithmetic has 64 bits.
const MOST: u64 = 1 << 36;
/// No share is below, bytes per second: a socket that sends a packet in a
/// minute would not see its share grow.
const LEAST: u64 = 2_048;
/// Beside the round trip, for acknowledgements that are late.
const WINDOW_US: u64 = 10_000;
/// 1.0 of a ratio.
const ONE: u64 = 1 << 16;

/// Whether a round ends here.
#[inline(always)]
pub const fn is_over(limit: u64, elapsed_ns: u64, bytes: u64) -> bool {
    elapsed_ns >= ROUND_NS || (elapsed_ns >= SHORTEST_NS && bytes >= limit / 16)
}

/// The share and the excess of the round that follows one of `bytes` in
/// `elapsed_ns`.
#[inline(always)]
pub const fn next(limit: u64, group: &Group, bytes: u64, elapsed_ns: u64) -> (u64, i64) {
    let limit = if limit > MOST { MOST } else { limit };
    let members = if group.members == 0 || group.members > 1 << 20 { 1 } else { group.members };
    let fair = divide(limit, members);
    if elapsed_ns > FORGET_NS {
        return (clamp(group.share, fair, limit), 0);
    }
    let bytes = if bytes > MOST { MOST } else { bytes };
    let elapsed_us = elapsed_ns / 1_000 + 1;
    let allowed = limit * elapsed_us / SECOND_US;
    let excess = group.excess + bytes as i64 - allowed as i64;
    // A twentieth of a second may be made up for, one second is paid back.
    let excess = clamp_signed(excess, -((limit / 20) as i64), limit as i64);
    // Paid back over a quarter of a second, but nobody stands still for it.
    let target =
        clamp_signed(limit as i64 - 4 * excess, (limit / 4) as i64, (limit + limit / 5) as i64)
            as u64;
    let moved = divide(bytes * SECOND_US, elapsed_us);
    let share = correct(group.share, target, moved);
    let least = if fair / 2 < LEAST { LEAST } else { fair / 2 };
    (clamp(share, least, limit + limit / 4), excess)
}

/// What a connection starts with that is the `members`th: what it has a right
/// to, until it has seen a round.
#[inline(always)]
pub const fn first(limit: u64, share: u64, members: u64) -> u64 {
    let fair = divide(limit, members);
    clamp(if share < fair { share } else { fair }, LEAST, MOST)
}

/// How many packets a socket of this rate needs under way, so that pacing and
/// not the window holds it back. A bound keeps the kernel from sending 64 KiB at
/// a time where the round trip is short.
#[inline(always)]
pub const fn window(rate: u64, srtt_us: u32, mss: u32) -> u32 {
    let time_us = srtt_us as u64 + WINDOW_US;
    let rate = if rate > MOST { MOST } else { rate };
    clamp(divide(2 * rate * time_us / SECOND_US, mss as u64), 4, 1 << 20) as u32
}

/// Scales the share so that the next round moves `target` where this one moved
/// `moved`, if all go on as they did.
const fn correct(share: u64, target: u64, moved: u64) -> u64 {
    let ratio = divide(target * ONE, moved);
    let ratio = clamp(ratio, ONE / 64, 2 * ONE);
    // Small differences are noise of single packets: half of them is enough.
    let ratio = if ratio > ONE / 2 { (ratio + ONE) / 2 } else { ratio };
    share * ratio / ONE
}

/// Without a panic that the kernel's verifier would have to follow.
const fn divide(value: u64, by: u64) -> u64 {
    match value.checked_div(by) {
        Some(quotient) => quotient,
        None => MOST,
    }
}

const fn clamp(value: u64, least: u64, most: u64) -> u64 {
    if value > most {
        most
    } else if value < least {
        least
    } else {
        value
    }
}

const fn clamp_signed(value: i64, least: i64, most: i64) -> i64 {
    if value > most {
        most
    } else if value < least {
        least
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<GroupKey>(), align_of::<GroupKey>()), (16, 8));
        assert_eq!((size_of::<Group>(), align_of::<Group>()), (48, 8));
        assert_eq!((size_of::<Paced>(), align_of::<Paced>()), (32, 8));
        assert_eq!((size_of::<EndsKey>(), align_of::<EndsKey>()), (40, 4));
    }
}
