//! Which network namespaces captured processes live in.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::model::Capture;

/// The namespaces of captured processes, by inode.
#[derive(Debug, Default)]
pub struct Captured {
    /// A process that lives there, and how many do.
    pub occupied: HashMap<u64, (u32, usize)>,
    /// Namespaces that somebody keeps by name (`ip netns`): they stay, even
    /// while no process lives there.
    pub named: HashSet<u64>,
}

/// Looks at every process of the captured cgroups. An error where it couldn't
/// look: what it didn't see may still be there.
pub fn scan(capture: &Capture) -> io::Result<Captured> {
    let mut captured = Captured::default();
    for cgroup in &capture.cgroups {
        scan_cgroup(cgroup, &capture.exclude, &mut captured)?;
    }
    for folder in ["/run/netns", "/run/docker/netns"] {
        let entries = seen(fs::read_dir(folder))?.into_iter().flatten().flatten();
        captured.named.extend(entries.filter_map(|entry| Some(entry.metadata().ok()?.ino())));
    }
    Ok(captured)
}

/// Cgroups and processes come and go while we look: what can't be read is not
/// there any more, unless it's us who can't read anything now.
fn seen<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error)
            if [libc::EMFILE, libc::ENFILE, libc::ENOMEM]
                .map(Some)
                .contains(&error.raw_os_error()) =>
        {
            Err(error)
        }
        Err(_) => Ok(None),
    }
}

fn scan_cgroup(cgroup: &Path, exclude: &[PathBuf], captured: &mut Captured) -> io::Result<()> {
    if exclude.iter().any(|excluded| excluded == cgroup) {
        return Ok(());
    }
    let processes = seen(fs::read_to_string(cgroup.join("cgroup.procs")))?.unwrap_or_default();
    for pid in processes.lines() {
        let Ok(namespace) = fs::metadata(format!("/proc/{pid}/ns/net")) else { continue };
        let Ok(pid) = pid.parse() else { continue };
        captured.occupied.entry(namespace.ino()).or_insert((pid, 0)).1 += 1;
    }
    for entry in seen(fs::read_dir(cgroup))?.into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            scan_cgroup(&entry.path(), exclude, captured)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_differs_from_what_cannot_be_read_now() {
        let seen = |code| seen::<()>(Err(io::Error::from_raw_os_error(code)));
        assert_eq!(seen(libc::ENOENT).unwrap(), None);
        assert_eq!(seen(libc::ENODEV).unwrap(), None);
        assert!(seen(libc::EMFILE).is_err());
    }
}
