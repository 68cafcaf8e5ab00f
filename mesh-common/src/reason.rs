//! Why a hook decided as it did: append-only numbers, each with the one name
//! that counters, commands and docs use.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal;)+) => {
        /// A verdict's reason, counted in the reasons map under its number.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant = $number,)+
        }

        impl Reason {
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),+];

            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)+ }
            }

            /// What it means, for the docs.
            pub const fn meaning(self) -> &'static str {
                match self { $(Reason::$variant => concat!($($doc),+),)+ }
            }
        }

        /// How many reasons there are.
        pub const COUNT: usize = Reason::ALL.len();
    };
}

reasons! {
    /// the destination is no service: left alone
    NotAService = 0, "not-a-service";
    /// the socket is the agent's own: left alone
    AgentSocket = 1, "agent-socket";
    /// the process is in an excluded cgroup: left alone
    Excluded = 2, "excluded";
    /// balanced by the kernel
    Balanced = 3, "balanced";
    /// redirected to the agent
    Proxied = 4, "proxied";
    /// the agent's heartbeat is stale: balanced by the kernel
    AgentStale = 5, "agent-stale";
    /// the namespace has no listener yet: balanced by the kernel
    NoListener = 6, "no-listener";
    /// no agent answers and the service says `closed`: refused with ECONNREFUSED
    FailedClosed = 7, "failed-closed";
    /// the service has no backend: refused with EHOSTUNREACH
    NoBackend = 8, "no-backend";
    /// a DNS query was redirected to the agent
    DnsRedirected = 9, "dns-redirected";
    /// a DNS query was left alone: no agent answers
    DnsPassed = 10, "dns-passed";
    /// a backend refused, timed out or was unreachable before the connection was established
    ConnectFailed = 11, "connect-failed";
    /// the originals map is full: a redirected connection lost its destination
    OriginalsFull = 12, "originals-full";
    /// the connections map is full: a live connection is not listed
    ConnectionsFull = 13, "connections-full";
    /// the event ring is full: an event was lost
    EventsFull = 14, "events-full";
    /// socket storage could not be made: refused with ENOMEM
    NoSocketStorage = 15, "no-socket-storage";
    /// a set of backends changed twice while it was read: refused with EHOSTUNREACH
    SetChanged = 16, "set-changed";
    /// no free source port was found for a DNS query: left alone
    NoSourcePort = 17, "no-source-port";
    /// a rate limit of the service's policy: refused with EAGAIN
    RateLimited = 18, "rate-limited";
    /// a rate limit under trial would have refused: let through
    RateLimitDryRun = 19, "rate-limit-dry-run";
    /// the service has as many connections as its policy allows: refused with EAGAIN
    TooManyConnections = 20, "too-many-connections";
    /// all backends tried have as many connections as their response time allows: refused with EAGAIN
    OverConcurrencyLimit = 21, "over-concurrency-limit";
    /// a backend failed as often as its service allows: it is left out for a time
    Ejected = 22, "ejected";
    /// a backend was to be ejected, but as many of its tier as may be are out already
    EjectionCapped = 23, "ejection-capped";
    /// the process is in a pod of Kubernetes that isn't captured: left alone
    PodNotCaptured = 24, "pod-not-captured";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_names_unique() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index, "{}", reason.name());
            let same = Reason::ALL.iter().filter(|other| other.name() == reason.name());
            assert_eq!(same.count(), 1, "{}", reason.name());
        }
    }
}
