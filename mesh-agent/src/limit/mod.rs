//! How much traffic is let through: rates, bandwidth, concurrency, circuit
//! breaking.
//!
//! Pure decisions over atomics: time comes in as an argument, no lock is ever
//! waited for, and nothing here knows of sockets. The state outlives snapshots,
//! so that a reload opens no gate.

mod breaker;
mod clock;
mod concurrency;
mod flow;
mod gradient;
mod minimum;
mod pacer;
mod rate;
mod refusal;
mod samples;
mod table;

pub use breaker::{Breaker, Counted, Slot};
pub use concurrency::Concurrency;
pub use flow::Flow;
pub use gradient::Gradient;
pub use pacer::{Pacer, Turn};
pub use rate::{OverRate, Quota, RateLimiter, Subject};
pub use refusal::{Refusal, Refusals};
