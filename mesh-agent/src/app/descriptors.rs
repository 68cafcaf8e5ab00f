//! How many connections the limit of open files has room for.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::model::Limits;

/// For everything but proxied connections: listeners, DNS, admin, maps.
const RESERVE: u64 = 2048;

/// Raises the limit of open files as far as we may.
pub(super) fn raise_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, "raising the limit of open files failed");
    }
}

/// The limits as this process can keep them: a proxied connection takes two
/// descriptors, and one too many would take them from all others.
pub(super) fn affordable(limits: &Limits) -> Limits {
    let open_files = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let room = room(open_files);
    if room < limits.connections {
        tracing::warn!(
            configured = limits.connections,
            room,
            open_files,
            "the limit of open files has room for fewer proxied connections than \
             limits.connections allows: raise it (ulimit -n, LimitNOFILE=)"
        );
    }
    Limits { connections: limits.connections.min(room), ..limits.clone() }
}

fn room(open_files: u64) -> usize {
    let room = open_files.saturating_sub(RESERVE).max(open_files / 4) / 2;
    usize::try_from(room).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_half_of_what_is_left() {
        for (open_files, expect) in [(20_000, 8_976), (1024, 128), (1_048_576, 523_264)] {
            assert_eq!(room(open_files), expect, "{open_files}");
        }
    }
}
