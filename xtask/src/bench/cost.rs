//! What work costs: processor time and memory of cgroups.
//!
//! A cgroup of version 2 counts its processor time on every kernel, whether or
//! not the controller is there. The kernel's work on packets is done by whoever
//! sends them, so that it is charged to the sender.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Processor seconds that these cgroups and all below them have used so far.
pub fn seconds(groups: &[PathBuf]) -> Result<f64> {
    groups.iter().map(|group| used(group)).sum()
}

fn used(group: &Path) -> Result<f64> {
    let path = group.join("cpu.stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let usec = usage(&text).with_context(|| format!("no usage_usec in {}", path.display()))?;
    Ok(usec as f64 / 1e6)
}

fn usage(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok())
}

/// Has the kernel measure the peaks of these cgroups' processes anew.
pub fn forget_peaks(groups: &[PathBuf]) -> Result<()> {
    for pid in processes(groups)? {
        // It may have ended since.
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
    Ok(())
}

/// The most that each of these cgroups' processes had resident, summed, in bytes.
pub fn peak(groups: &[PathBuf]) -> Result<u64> {
    resident(groups, "VmHWM:")
}

/// What these cgroups' processes have resident now, in bytes.
pub fn now(groups: &[PathBuf]) -> Result<u64> {
    resident(groups, "VmRSS:")
}

fn resident(groups: &[PathBuf], field: &str) -> Result<u64> {
    let mut total = 0;
    for pid in processes(groups)? {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        total += kibibytes(&status, field).unwrap_or(0) * 1024;
    }
    Ok(total)
}

fn kibibytes(status: &str, field: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(field))?;
    rest.trim().strip_suffix(" kB")?.parse().ok()
}

fn processes(groups: &[PathBuf]) -> Result<Vec<u32>> {
    let mut pids = Vec::new();
    for group in groups {
        let path = group.join("cgroup.procs");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    }
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(usage("usage_usec 1234567\nuser_usec 1\nsystem_usec 2\n"), Some(1_234_567));
        assert_eq!(usage("nr_periods 0\n"), None);
        let status = "Name:\tnginx\nVmHWM:\t   15432 kB\nVmRSS:\t   15000 kB\n";
        assert_eq!(kibibytes(status, "VmHWM:"), Some(15_432));
        assert_eq!(kibibytes(status, "VmSwap:"), None);
    }
}
