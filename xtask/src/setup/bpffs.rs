//! The BPF file system, where the agent pins its programs and maps.

use std::{fs, process::Command};

use anyhow::{Context, Result};

use crate::process;

const PLACE: &str = "/sys/fs/bpf";

/// Mounts it where it is not; whether that was needed.
pub fn ensure() -> Result<bool> {
    let mounts = fs::read_to_string("/proc/mounts").context("can't read /proc/mounts")?;
    if is_mounted(&mounts) {
        return Ok(false);
    }
    let mut command = Command::new("mount");
    command.args(["-t", "bpf", "bpf", PLACE]);
    if !process::is_root()? {
        println!("{PLACE} is not mounted; the privileged tests will need it: `sudo {}`", {
            process::display(&command)
        });
        return Ok(false);
    }
    println!("{}", process::display(&command));
    process::run(&mut command).context(
        "the BPF file system can't be mounted; in a container, this needs a privileged one",
    )?;
    Ok(true)
}

fn is_mounted(mounts: &str) -> bool {
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(PLACE) && fields.next() == Some("bpf")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bpf_mount_at_that_place_counts() {
        assert!(is_mounted("sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n"));
        assert!(!is_mounted("bpf /run/bpf bpf rw 0 0\n"));
        assert!(!is_mounted("none /sys/fs/bpf tmpfs rw 0 0\n"));
        assert!(!is_mounted(""));
    }
}
