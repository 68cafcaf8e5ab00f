//! Which of the two paths a service port takes, and why.

use std::fmt;

use super::{Policy, Protocol};

/// `path` of a service, as the operator wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PathChoice {
    #[default]
    Auto,
    Kernel,
    Proxy,
}

/// The path that a service port takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// The kernel picks the backend at `connect`; no proxy.
    Kernel,
    /// Through the agent's listener in the client's namespace.
    Proxy,
}

/// `onAgentFailure`: what becomes of proxied services while no agent answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnAgentFailure {
    /// The kernel balances them.
    #[default]
    Open,
    /// They are refused: policy must not be bypassed.
    Closed,
}

/// A path that this protocol can't take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("udp takes the kernel path only: use `path: kernel` or `path: auto`")]
pub struct PathConflict;

impl PathChoice {
    /// The path for a port of this protocol under this policy, and the reason
    /// in words.
    pub fn resolve(
        self,
        protocol: Protocol,
        policy: &Policy,
    ) -> Result<(Path, &'static str), PathConflict> {
        match (self, protocol) {
            (Self::Proxy, Protocol::Udp) => Err(PathConflict),
            (Self::Kernel, _) => Ok((Path::Kernel, "path: kernel")),
            (Self::Proxy, _) => Ok((Path::Proxy, "path: proxy")),
            (Self::Auto, Protocol::Udp) => Ok((Path::Kernel, "auto: udp")),
            (Self::Auto, Protocol::Tcp) => Ok(match policy.needs_agent() {
                Some(why) => (Path::Proxy, why),
                None => (Path::Kernel, "auto: nothing in its policy needs the agent"),
            }),
            (Self::Auto, Protocol::Auto) => {
                Ok((Path::Proxy, "auto: the agent finds out the protocol"))
            }
            (Self::Auto, _) => Ok((Path::Proxy, "auto: balanced per request")),
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kernel => "kernel",
            Self::Proxy => "proxy",
        }
    }
}

impl Path {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Proxy => "proxy",
        }
    }
}

impl OnAgentFailure {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for OnAgentFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
