//! The signals by which a command is asked to end.

use tokio::signal::unix::{SignalKind, signal};

/// Ctrl-C, or whoever else wants it to end.
pub async fn stopped() {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let mut signals = signals.map(|kind| signal(kind).ok());
    std::future::poll_fn(|context| {
        let mut all = signals.iter_mut().flatten();
        match all.any(|signal| signal.poll_recv(context).is_ready()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
}
