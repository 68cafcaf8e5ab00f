//! A frontend: one virtual address and port, and the set of backends behind it.

use crate::address::Address;

/// IP protocol numbers, as in `bpf_sock_addr.protocol`.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// What an application connects to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrontendKey {
    pub address: Address,
    pub protocol: u8,
    pub zero: [u8; 3],
}

impl FrontendKey {
    #[inline(always)]
    pub const fn new(address: Address, protocol: u8) -> Self {
        Self { address, protocol, zero: [0; 3] }
    }
}

/// Where connections to a frontend go.
///
/// `set` and `generation` name the backends: slots `0..slots` under
/// `(set, generation)` in the slots map. The agent writes all slots of a new
/// generation before it publishes them here in one update, so that no connect
/// ever sees a half-written set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frontend {
    pub service: u32,
    pub set: u32,
    pub generation: u32,
    pub slots: u32,
    /// How many different backends have slots.
    pub backends: u32,
    /// [`algorithm`]
    pub algorithm: u8,
    /// [`path`]
    pub path: u8,
    /// [`on_agent_failure`]
    pub on_agent_failure: u8,
    /// 1 where no instance at all may be picked, on either path: refused at
    /// once. (`slots` may be 0 without it: the agent reaches the other family.)
    pub empty: u8,
}

crate::plain_bytes!(FrontendKey, Frontend);

/// Values of [`Frontend::algorithm`].
pub mod algorithm {
    pub const ROUND_ROBIN: u8 = 0;
    pub const RANDOM: u8 = 1;
    pub const LEAST_CONNECTIONS: u8 = 2;
    pub const LEAST_RESPONSE_TIME: u8 = 3;
    pub const CONSISTENT_HASH: u8 = 4;
}

/// Values of [`Frontend::path`].
pub mod path {
    /// The kernel picks the backend; the agent never sees the connection.
    pub const KERNEL: u8 = 0;
    /// The connection goes to the agent's listener in the same namespace.
    pub const PROXY: u8 = 1;
}

/// Values of [`Frontend::on_agent_failure`].
pub mod on_agent_failure {
    /// Balance in the kernel while no agent answers.
    pub const OPEN: u8 = 0;
    /// Refuse while no agent answers: policy must not be bypassed.
    pub const CLOSED: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        assert_eq!((size_of::<FrontendKey>(), align_of::<FrontendKey>()), (24, 4));
        assert_eq!((size_of::<Frontend>(), align_of::<Frontend>()), (24, 4));
    }
}
