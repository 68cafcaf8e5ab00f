//! A network namespace that the agent works in.

use std::{
    cell::OnceCell,
    fs::File,
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
    os::unix::fs::MetadataExt,
    path::Path,
    rc::Rc,
};

use nix::{
    ifaddrs::getifaddrs,
    sched::{CloneFlags, setns},
};

/// A network namespace held open: sockets can be opened in it while it lives.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    cookie: u64,
    inode: u64,
}

impl Namespace {
    /// The namespace of a process.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The namespace of the calling thread.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// A namespace by a path, as below /proc or /run/netns.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        let mut namespace = Self { file, cookie: 0, inode };
        namespace.cookie = namespace.run(net_cookie)??;
        Ok(namespace)
    }

    /// The kernel's own name for it, as the hooks report it. Never used twice.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Inode number of the namespace file, as `readlink /proc/PID/ns/net` shows.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// All addresses of the pod's own: not loopback, not link-local.
    pub fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        let interfaces = self.run(getifaddrs)??;
        let own = interfaces.filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
        let usable = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        };
        Ok(own.filter(usable).collect())
    }

    /// Runs `work` with the calling thread inside this namespace.
    ///
    /// `work` must not await: another task of the thread would find itself in
    /// the wrong namespace.
    ///
    /// # Panics
    /// Where the thread can't return to its own namespace: going on would open
    /// sockets in the wrong one.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let (home, home_inode) = HOME.with(|home| match home.get() {
            Some(home) => Ok(home.clone()),
            None => {
                let found = own()?;
                Ok::<_, io::Error>(home.get_or_init(|| found).clone())
            }
        })?;
        if home_inode == self.inode {
            return Ok(work());
        }
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)?;
        let result = work();
        setns(home.as_fd(), CloneFlags::CLONE_NEWNET)
            .expect("a thread can return to the namespace that it came from");
        Ok(result)
    }
}

thread_local! {
    /// The namespace that this thread belongs to, opened once: `run` is called
    /// for every connection.
    static HOME: OnceCell<(Rc<File>, u64)> = const { OnceCell::new() };
}

fn own() -> io::Result<(Rc<File>, u64)> {
    let file = File::open("/proc/thread-self/ns/net")?;
    let inode = file.metadata()?.ino();
    Ok((Rc::new(file), inode))
}

/// Cookie of the calling thread's namespace, by `SO_NETNS_COOKIE` (Linux 5.14).
fn net_cookie() -> io::Result<u64> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the pointers are to live locals, and the length is the value's.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Not in libc for every target yet.
const SO_NETNS_COOKIE: libc::c_int = 71;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_knows_itself() {
        let namespace = Namespace::current().unwrap();
        assert_ne!(namespace.cookie(), 0);
        assert_eq!(namespace.run(|| net_cookie().unwrap()).unwrap(), namespace.cookie());
    }
}
