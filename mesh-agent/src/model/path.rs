//! Which of the two paths a service port takes, and why.

use std::{borrow::Cow, fmt, net::SocketAddr};

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

/// What is known of where a port's instances are. Only an instance's own socket
/// can be paced to what it may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instances {
    /// All of them live in pods that this agent captures.
    Captured,
    /// This one doesn't.
    Elsewhere(SocketAddr),
    /// There is none (yet).
    Unknown,
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
        instances: Instances,
    ) -> Result<(Path, Cow<'static, str>), PathConflict> {
        let (path, why) = match (self, protocol) {
            (Self::Proxy, Protocol::Udp) => return Err(PathConflict),
            (Self::Kernel, _) => (Path::Kernel, "path: kernel"),
            (Self::Proxy, _) => (Path::Proxy, "path: proxy"),
            (Self::Auto, Protocol::Udp) => (Path::Kernel, "auto: udp"),
            (Self::Auto, Protocol::Tcp) if policy.paces_instances() => return Ok(paced(instances)),
            (Self::Auto, Protocol::Tcp) => {
                (Path::Kernel, "auto: nothing in its policy needs the agent")
            }
            (Self::Auto, Protocol::Auto) => (Path::Proxy, "auto: the agent finds out the protocol"),
            (Self::Auto, _) => (Path::Proxy, "auto: balanced per request"),
        };
        Ok((path, Cow::Borrowed(why)))
    }

    /// Whether the path of a port with this protocol and policy depends on where
    /// the instances are.
    pub fn asks_for_instances(self, protocol: Protocol, policy: &Policy) -> bool {
        self == Self::Auto && protocol == Protocol::Tcp && policy.paces_instances()
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kernel => "kernel",
            Self::Proxy => "proxy",
        }
    }
}

/// Who holds `bandwidth.download`.
fn paced(instances: Instances) -> (Path, Cow<'static, str>) {
    let key = "policy.bandwidth.download";
    match instances {
        Instances::Captured => {
            let why = format!("auto: all instances are captured here, their sockets keep to {key}");
            (Path::Kernel, Cow::Owned(why))
        }
        Instances::Elsewhere(instance) => {
            let why = format!("auto: {instance} isn't captured here, so the agent holds {key}");
            (Path::Proxy, Cow::Owned(why))
        }
        Instances::Unknown => {
            let why = format!("auto: until all instances are captured here, the agent holds {key}");
            (Path::Proxy, Cow::Owned(why))
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
