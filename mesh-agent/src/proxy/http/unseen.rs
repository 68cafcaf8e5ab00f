//! Requests that an instance let go without looking at them.

/// What an instance said about a request that it did not look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unseen {
    No,
    /// This stream only.
    Stream,
    /// All streams from this one on.
    GoAway,
}

pub(super) fn unseen(error: &hyper::Error) -> Unseen {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return match error.reason() {
                _ if !error.is_remote() => Unseen::No,
                // h2 fails only the streams above the last one with it.
                Some(h2::Reason::NO_ERROR) if error.is_go_away() => Unseen::GoAway,
                Some(h2::Reason::REFUSED_STREAM) => Unseen::Stream,
                _ => Unseen::No,
            };
        }
        source = error.source();
    }
    Unseen::No
}
