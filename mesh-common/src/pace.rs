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
//! Time goes in rounds, in which each connection sends at least twice: a small
//! share leaves in lumps, and what is corrected before the last correction shows
//! swings instead of settling. A round ends earlier where it has moved more than
//! it may: when many connections wake up at once, their share is cut within a
//! fraction of it.

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

/// The shortest round and the longest.
pub const ROUND_NS: u64 = 50_000_000;
const LONGEST_NS: u64 = 10 * ROUND_NS;
/// A round that has used up its bytes isn't shorter than this, so that there is
/// something to divide by.
const SHORTEST_NS: u64 = 1_000_000;
/// What a socket of a small rate sends at a time: two packets, which are
/// acknowledged at once, where one may wait for the receiver's timer.
const LUMP: u64 = 2 * 1_500;
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

/// How long a round lasts with this share.
const fn round_ns(share: u64) -> u64 {
    clamp(divide(2 * LUMP * 1_000_000_000, share), ROUND_NS, LONGEST_NS)
}

/// Whether a round ends here.
#[inline(always)]
pub const fn is_over(limit: u64, share: u64, elapsed_ns: u64, bytes: u64) -> bool {
    let limit = if limit > MOST { MOST } else { limit };
    let round_ns = round_ns(share);
    let allowed = limit * (round_ns / 1_000) / SECOND_US;
    elapsed_ns >= round_ns || (elapsed_ns >= SHORTEST_NS && bytes >= allowed + allowed / 4)
}

/// The share and the excess of the round that follows one of `bytes` in
/// `elapsed_ns`.
#[inline(always)]
pub const fn next(limit: u64, group: &Group, bytes: u64, elapsed_ns: u64) -> (u64, i64) {
    let limit = if limit > MOST { MOST } else { limit };
    let fair = divide(limit, members(group));
    if elapsed_ns > FORGET_NS {
        return (limit, 0);
    }
    let bytes = if bytes > MOST { MOST } else { bytes };
    let elapsed_us = elapsed_ns / 1_000 + 1;
    let allowed = limit * elapsed_us / SECOND_US;
    let excess = group.excess + bytes as i64 - allowed as i64;
    // A twentieth of a second may be made up for, one second is paid back.
    let excess = clamp_signed(excess, -((limit / 20) as i64), limit as i64);
    // Paid back over half a second: in less, the correction would swing.
    let most = limit + limit / 5;
    let target = clamp_signed(limit as i64 - 2 * excess, (limit / 2) as i64, most as i64) as u64;
    let moved = divide(bytes * SECOND_US, elapsed_us);
    let share = correct(group.share, target, moved);
    let least = if fair / 2 < LEAST { LEAST } else { fair / 2 };
    (clamp(share, least, limit + limit / 4), excess)
}

/// A group that was made anew under its connections may count below zero.
const fn members(group: &Group) -> u64 {
    if group.members > 1 << 20 { 1 } else { clamp(group.members, 1, 1 << 20) }
}

/// What a connection starts with that has just joined: no more than it has a
/// right to if all want all, until it has seen a round.
#[inline(always)]
pub const fn first(limit: u64, group: &Group, elapsed_ns: u64) -> u64 {
    let fair = divide(limit, members(group));
    let old = elapsed_ns > FORGET_NS || group.share > fair;
    clamp(if old { fair } else { group.share }, LEAST, MOST)
}

/// How many packets a socket of this rate needs under way, so that pacing and
/// not the window holds it back. A bound keeps the kernel from sending 64 KiB at
/// a time where the round trip is short.
#[inline(always)]
pub const fn window(rate: u64, srtt_us: u32, mss: u32) -> u32 {
    let time_us = clamp(srtt_us as u64, 0, 10 * SECOND_US) + WINDOW_US;
    let rate = if rate > MOST { MOST } else { rate };
    clamp(divide(2 * rate * time_us / SECOND_US, mss as u64), 2, 1 << 20) as u32
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
    extern crate std;

    use std::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    const STEP_NS: u64 = 1_000_000;
    const STEPS: u64 = SECOND_US / 1_000;

    /// Connections that send what they want, up to their share, in steps of a
    /// millisecond; `error` is how far the sockets are from what they are set to.
    struct Link {
        limit: u64,
        error: f64,
        group: Group,
        now: u64,
        sent: Vec<f64>,
    }

    impl Link {
        fn new(limit: u64, connections: usize, error: f64) -> Self {
            let group = Group { share: limit, members: connections as u64, ..Group::default() };
            Self { limit, error, group, now: 0, sent: vec![0.0; connections] }
        }

        /// What each moved in a second, in bytes. `wants` is bytes per second.
        fn second(&mut self, wants: &[f64]) -> Vec<f64> {
            let before = self.sent.clone();
            for _ in 0..STEPS {
                self.now += STEP_NS;
                for (sent, want) in self.sent.iter_mut().zip(wants) {
                    let moved = want.min(self.group.share as f64 * self.error) / STEPS as f64;
                    *sent += moved;
                    self.group.bytes += moved as u64;
                }
                let elapsed = self.now - self.group.started_ns;
                if is_over(self.limit, self.group.share, elapsed, self.group.bytes) {
                    let bytes = core::mem::take(&mut self.group.bytes);
                    (self.group.share, self.group.excess) =
                        next(self.limit, &self.group, bytes, elapsed);
                    self.group.started_ns = self.now;
                }
            }
            self.sent.iter().zip(before).map(|(now, before)| now - before).collect()
        }
    }

    /// What each of them gets where the limit is shared fairly.
    fn max_min(limit: f64, wants: &[f64]) -> Vec<f64> {
        let mut sorted = wants.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (mut rest, mut level) = (limit, f64::INFINITY);
        for (index, want) in sorted.iter().enumerate() {
            let fair = rest / (sorted.len() - index) as f64;
            if *want > fair {
                level = fair;
                break;
            }
            rest -= want;
        }
        wants.iter().map(|want| want.min(level)).collect()
    }

    #[test]
    fn greedy_connections_hold_the_limit_however_many_they_are() {
        for (connections, error) in [(1, 1.0), (1, 1.1), (4, 0.95), (32, 1.1), (200, 1.0)] {
            let mut link = Link::new(10_000_000, connections, error);
            let wants = vec![f64::INFINITY; connections];
            link.second(&wants);
            for _ in 0..5 {
                let moved: f64 = link.second(&wants).iter().sum();
                assert!((moved / 1e7 - 1.0).abs() < 0.05, "{connections}: {moved}");
            }
        }
    }

    #[test]
    fn those_that_wake_up_together_are_cut_within_the_second() {
        let mut link = Link::new(10_000_000, 32, 1.0);
        let mut wants = vec![10.0; 32];
        wants[0] = f64::INFINITY;
        link.second(&wants);
        let alone = link.second(&wants)[0];
        assert!((alone / 1e7 - 1.0).abs() < 0.02, "the idle leave all to the busy: {alone}");
        let together: f64 = link.second(&[f64::INFINITY; 32]).iter().sum();
        assert!(together < 1.1e7, "{together}");
    }

    #[test]
    fn a_silence_leaves_nothing_to_correct() {
        let group = Group { share: 5, excess: 1 << 30, members: 2, ..Group::default() };
        assert_eq!(next(1_000_000, &group, 0, FORGET_NS + 1), (1_000_000, 0));
        assert_eq!(first(1_000_000, &group, FORGET_NS + 1), 500_000);
        // Made anew under its connections.
        let group = Group { members: u64::MAX, share: 7_000, ..Group::default() };
        assert_eq!(first(1_000_000, &group, 0), 7_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_share_is_max_min_fair(
            limit in 100_000..1_000_000_000_u64,
            error in 0.92..1.1,
            parts in prop::collection::vec(prop_oneof![Just(2.0), 0.001..1.0_f64], 1..40),
        ) {
            let wants: Vec<f64> = parts.iter().map(|part| part * limit as f64).collect();
            let mut link = Link::new(limit, wants.len(), error);
            link.second(&wants);
            link.second(&wants);
            let moved = link.second(&wants);
            let fair = max_min(limit as f64, &wants);
            let total: f64 = fair.iter().sum();
            prop_assert!((moved.iter().sum::<f64>() / total - 1.0).abs() < 0.05);
            for (moved, fair) in moved.iter().zip(&fair) {
                prop_assert!((moved / fair - 1.0).abs() < 0.15, "{moved} of {fair}");
            }
        }

        #[test]
        fn no_numbers_break_it(
            limit: u64, share: u64, excess: i64, members: u64, bytes: u64, elapsed: u64,
            srtt: u32, mss: u32,
        ) {
            // What the map can hold: `next` keeps both within these.
            let group = Group {
                share: share % (2 * MOST),
                excess: excess % MOST as i64,
                members,
                ..Group::default()
            };
            let (share, excess) = next(limit, &group, bytes, elapsed);
            prop_assert!(share <= MOST + MOST / 4 && excess.unsigned_abs() <= MOST);
            let rate = first(limit, &group, elapsed);
            prop_assert!((LEAST..=MOST).contains(&rate));
            prop_assert!((2..=1 << 20).contains(&window(rate, srtt, mss)));
        }
    }

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<GroupKey>(), align_of::<GroupKey>()), (16, 8));
        assert_eq!((size_of::<Group>(), align_of::<Group>()), (48, 8));
        assert_eq!((size_of::<Paced>(), align_of::<Paced>()), (32, 8));
        assert_eq!((size_of::<EndsKey>(), align_of::<EndsKey>()), (40, 4));
    }
}
