//! The demo's application, one role to a pod.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::wait_for_port;
use crate::{agent::beside_this_program, pod::Pod, process::Process};

/// Names the binary; else it is looked for beside this program.
const BINARY: &str = "MESH_BOOKINFO_BIN";

/// What a Bookinfo process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    ProductPage,
    Details,
    /// Version 1, 2 or 3.
    Reviews(u8),
    Ratings,
}

/// A Bookinfo service in a pod, on port 9080.
#[derive(Debug)]
pub struct Bookinfo {
    pub pod: Pod,
    pub process: Process,
}

impl Bookinfo {
    pub const PORT: u16 = 9080;

    /// Its instance is called like the pod.
    pub fn start(pod: &Pod, role: Role) -> Result<Self> {
        Self::start_binary(pod, role, &beside_this_program("bookinfo", BINARY)?)
    }

    /// [`Bookinfo::start`] for a binary that is somewhere else.
    pub fn start_binary(pod: &Pod, role: Role, binary: &Path) -> Result<Self> {
        let binary = binary.to_str().context("the path of bookinfo is not UTF-8")?;
        let version;
        let mut arguments = match role {
            Role::ProductPage => vec!["productpage"],
            Role::Details => vec!["details"],
            Role::Ratings => vec!["ratings"],
            Role::Reviews(number) => {
                version = format!("v{number}");
                vec!["reviews", "--version", &version]
            }
        };
        arguments.extend(["--instance", &pod.name]);
        let process = pod.spawn(binary, arguments)?;
        wait_for_port(pod, Self::PORT)?;
        Ok(Self { pod: pod.clone(), process })
    }
}
