//! The unix socket's file: private, one agent each, and never in the way of
//! the next one.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::{fs::FileTypeExt as _, net::UnixStream},
    path::{Path, PathBuf},
};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

const BACKLOG: i32 = 128;

/// A bound socket. Dropping it removes the file.
#[derive(Debug)]
pub struct AdminSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Held as long as the agent lives: a socket file tells nothing of whether
    /// someone is behind it, a lock does, and the kernel drops it at any death.
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error(
        "another agent{owner} is using {path}. Stop it first, or give this one its own \
         `admin.socket`", path = .path.display()
    )]
    InUse { path: PathBuf, owner: String },
    #[error(
        "{path} exists and is no socket; it is left alone. Remove it, or choose another \
         `admin.socket`", path = .path.display()
    )]
    NotASocket { path: PathBuf },
    #[error("cannot {what} {path}: {source}", path = .path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

impl AdminSocket {
    /// Binds `path` with mode 0600, making its folder where it is missing. The
    /// file of an agent that is dead is replaced; a live one's is not.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |what| {
            let path = path.to_owned();
            move |source| SocketError::Io { what, path, source }
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed("make the folder of"))?;
        }
        let lock = take_lock(path)?;
        remove_stale(path)?;

        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)
            .map_err(failed("open a socket for"))?;
        // unix_bind() gives the file the socket's own mode, so that at no time
        // anybody else may connect.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|errno| failed("set the mode of")(errno.into()))?;
        let address = SockAddr::unix(path).map_err(failed("bind"))?;
        socket.bind(&address).map_err(failed("bind"))?;
        socket.listen(BACKLOG).map_err(failed("listen on"))?;
        let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))
            .map_err(failed("listen on"))?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // A file that stays is only untidy: the next agent replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

/// The lock beside a socket, which stays when its agent ends.
pub fn lock(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Takes the lock, and leaves our pid in it.
fn take_lock(path: &Path) -> Result<File, SocketError> {
    let lock_path = lock(path);
    let failed = |source| SocketError::Io { what: "lock", path: lock_path.clone(), source };
    let mut lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = lock.read_to_string(&mut pid);
            let pid = pid.trim();
            let owner = if pid.is_empty() { String::new() } else { format!(" (pid {pid})") };
            return Err(SocketError::InUse { path: path.to_owned(), owner });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    lock.set_len(0).and_then(|()| lock.rewind()).map_err(failed)?;
    writeln!(lock, "{}", std::process::id()).map_err(failed)?;
    Ok(lock)
}

/// Removes what a dead agent left. With the lock held no agent is behind the
/// file; something else might be, and is not ours to push aside.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(SocketError::Io { what: "look at", path: path.to_owned(), source });
        }
    };
    if !found.file_type().is_socket() {
        return Err(SocketError::NotASocket { path: path.to_owned() });
    }
    if UnixStream::connect(path).is_ok() {
        return Err(SocketError::InUse { path: path.to_owned(), owner: String::new() });
    }
    fs::remove_file(path).map_err(|source| SocketError::Io {
        what: "remove the stale",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn private_exclusive_and_replaceable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/admin.sock");
        let socket = AdminSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let error = AdminSocket::bind(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        assert!(UnixStream::connect(&path).is_ok(), "the live one serves on");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_agents_file_is_replaced_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the file, as a killed agent does");
        drop(AdminSocket::bind(&path).unwrap());

        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::InUse { .. })));
        drop(other);
        fs::remove_file(&path).unwrap();

        fs::write(&path, "precious").unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
