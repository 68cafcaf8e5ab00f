//! Which attempts are followed by another, how many, how soon, and how long
//! each may take to connect. Pure decisions: time and randomness come in as
//! arguments.

mod backoff;
mod budget;
mod condition;
mod handshake;

pub use backoff::delay;
pub use budget::{Budget, Permit};
pub use condition::{Attempt, Reason, Trial, again};
pub use handshake::{Handshakes, connect_timeout};
