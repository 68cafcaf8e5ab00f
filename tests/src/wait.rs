//! Waiting for something to become true, without sleeping for "long enough".

use std::{
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

const PAUSE: Duration = Duration::from_millis(20);

/// Long enough for two busy cores; a test that works never waits for it.
const DEADLINE: Duration = Duration::from_secs(15);

/// Tries until `attempt` succeeds; its last error where it never does.
pub fn eventually<T, E: Debug>(what: &str, attempt: impl FnMut() -> Result<T, E>) -> Result<T> {
    eventually_for(DEADLINE, what, attempt)
}

/// [`eventually`] with a deadline of the caller's.
pub fn eventually_for<T, E: Debug>(
    deadline: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                return Err(anyhow!("not within {deadline:?}: {what}: {error:?}"));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
