//! The kernel programs' own log lines, which come through aya-log.

use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

use super::Object;

/// Passes the programs' lines to this process's log, as the target
/// `mesh_ebpf`, until dropped. How much they say is in the settings map.
pub async fn forward(
    object: &mut Object,
) -> anyhow::Result<impl Future<Output = ()> + Send + use<>> {
    let logger = EbpfLogger::init(&mut object.ebpf)?;
    // SAFETY: the logger owns its descriptor and keeps it as long as it lives.
    let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }?;
    Ok(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    })
}
