//! Real servers, as backends.

mod bookinfo;
mod dnsmasq;
mod fickle;
pub mod kubernetes;
mod nginx;
mod python;

pub use bookinfo::{Bookinfo, Role};
pub use dnsmasq::Dnsmasq;
pub use fickle::{Fickle, Mood, Seen};
pub use kubernetes::Kubernetes;
pub use nginx::Nginx;
pub use python::Echo;

use anyhow::Result;

use crate::{pod::Pod, wait::eventually};

/// Waits until something accepts TCP connections on a port of the pod.
pub fn wait_for_port(pod: &Pod, port: u16) -> Result<()> {
    eventually(&format!("port {port} of pod {} to be open", pod.name), || {
        pod.run("bash", ["-c", &format!("exec 3<>/dev/tcp/127.0.0.1/{port}")])
    })
    .map(drop)
}
