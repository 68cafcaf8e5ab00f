//! Reports to the agent through the ring buffer.

use mesh_common::{event::Event, reason::Reason};

use crate::{
    count,
    maps::{EVENTS, SETTINGS},
};

/// Wakes the agent where it pays (the kernel decides).
pub const WAKE: u64 = 0;
/// For reports that may wait for the agent's next heartbeat.
pub const NO_WAKEUP: u64 = 1;

/// Fills a report in place: it is too large for the stack of a program that
/// does other things as well.
#[inline(always)]
pub fn report(kind: u32, wakeup: u64, fill: impl FnOnce(&mut Event)) {
    let Some(mut entry) = EVENTS.reserve(0) else {
        count::reason(Reason::EventsFull);
        return;
    };
    let event = entry.write(Event::default());
    event.kind = kind;
    fill(event);
    entry.submit(wakeup);
}

/// Whether somebody watches connections now.
#[inline(always)]
pub fn tapped(now: u64) -> bool {
    SETTINGS.get(0).is_some_and(|settings| settings.is_tapped(now))
}
