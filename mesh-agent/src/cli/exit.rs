//! How a command ends.

use crate::admin::{ClientError, Unreachable};

/// What a command found out, where nothing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Yes,
    /// It did what it was asked, and the answer is no.
    No,
}

/// Exit codes, by number and meaning; docs/cli.md and the help print them.
pub const CODES: &[(u8, &str)] = &[
    (0, "fine"),
    (1, "the answer is no, or the input is bad"),
    (2, "the command line is wrong"),
    (3, "no agent answers"),
];

/// The exit code of a result: the one place that decides it.
pub fn code(result: &anyhow::Result<Verdict>) -> u8 {
    match result {
        Ok(Verdict::Yes) => 0,
        Ok(Verdict::No) => 1,
        Err(error) => match error.downcast_ref::<clap::Error>() {
            Some(usage) => u8::try_from(usage.exit_code()).unwrap_or(2),
            None if is_unreachable(error) => 3,
            None => 1,
        },
    }
}

fn is_unreachable(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Unreachable>()
            || matches!(cause.downcast_ref(), Some(ClientError::Unreachable(_)))
    })
}
