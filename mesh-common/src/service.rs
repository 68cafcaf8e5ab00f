//! What the kernel keeps per service port: the round-robin cursor, rate limits
//! and counters.

use crate::policy::MAX_RATES;

/// Changed by the hooks with atomic operations only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Next turn of round robin. The agent starts it at random, so that the
    /// nodes of a cluster don't march in step.
    pub cursor: u64,
    /// Connections balanced here in the kernel.
    pub kernel: u64,
    /// Connections sent to the agent.
    pub proxied: u64,
    /// Of `kernel`: connections of a proxied service while no agent answered.
    pub fallback: u64,
    /// Connections refused: no backend, or no agent and `closed`.
    pub refused: u64,
    /// Datagrams balanced here.
    pub datagrams: u64,
    /// TCP connections of `kernel` whose SYN was sent. Opened − closed are live.
    pub opened: u64,
    pub closed: u64,
    /// Refused by a limit of the policy.
    pub limited: u64,
    /// What limits under trial would have refused.
    pub dry_run: u64,
    /// Where the rate limits by service stand: theoretical arrival times. They
    /// outlive a change of the policy; see [`crate::gcra`] on what is left of
    /// another rate.
    pub arrivals: [u64; MAX_RATES],
}

crate::plain_bytes!(Service);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<Service>(), align_of::<Service>()), (112, 8));
    }
}
