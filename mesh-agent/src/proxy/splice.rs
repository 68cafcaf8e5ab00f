//! Bytes from socket to socket that never come into the agent's memory: the
//! kernel hands pages through a pipe. Worth it for streams alone, as it takes
//! more system calls than a copy of little.

use std::{
    cell::RefCell,
    io::{self, ErrorKind},
    os::fd::OwnedFd,
};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use tokio::{io::Interest, net::TcpStream};

use crate::net;

/// What a pipe holds at most, which is what a stalled receiver costs.
const SIZE: i32 = 256 * 1024;
/// Pipes of a worker; streams beyond them are copied.
const MOST: usize = 64;

/// The pipes of a worker. They are lent for single moves, so that connections
/// which wait hold none.
#[derive(Debug, Default)]
pub(super) struct Pipes(RefCell<Kept>);

#[derive(Debug, Default)]
struct Kept {
    idle: Vec<Pipe>,
    made: usize,
}

#[derive(Debug)]
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

/// A pipe on loan. One that isn't empty at its end is closed.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    pipe: Option<Pipe>,
    holds: usize,
    pipes: &'a Pipes,
}

impl Pipes {
    /// None where there are enough, or the kernel gives no more.
    pub fn lend(&self) -> Option<Lent<'_>> {
        let kept = &mut *self.0.borrow_mut();
        let pipe = match kept.idle.pop() {
            Some(pipe) => pipe,
            None if kept.made >= MOST => return None,
            None => {
                let pipe = Pipe::new().ok()?;
                kept.made += 1;
                pipe
            }
        };
        Some(Lent { pipe: Some(pipe), holds: 0, pipes: self })
    }
}

impl Pipe {
    fn new() -> nix::Result<Self> {
        let (out, into) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        fcntl(&into, FcntlArg::F_SETPIPE_SZ(SIZE))?;
        Ok(Self { out, into })
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let kept = &mut *self.pipes.0.borrow_mut();
        match self.pipe.take() {
            Some(pipe) if self.holds == 0 => kept.idle.push(pipe),
            _ => kept.made -= 1,
        }
    }
}

impl Lent<'_> {
    /// Moves what there is; 0 at the end of the stream, and
    /// [`ErrorKind::WouldBlock`] where there is nothing yet, or
    /// [`ErrorKind::Unsupported`] where what is there came past TCP and has to be
    /// read. `count` is told as soon as bytes have left `from`.
    pub async fn carry(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        count: impl Fn(usize),
    ) -> io::Result<usize> {
        let pipe = self.pipe.as_ref().ok_or(ErrorKind::BrokenPipe)?;
        let size = SIZE.unsigned_abs() as usize;
        let taken = from.try_io(Interest::READABLE, || match pass(from, &pipe.into, size) {
            // Of what came past TCP it knows nothing: behind the other side's
            // end, it takes that for the end.
            Ok(0) if net::bytes_waiting(from)? > 0 => Err(ErrorKind::Unsupported.into()),
            Err(error)
                if error.kind() == ErrorKind::WouldBlock && net::bytes_waiting(from)? > 0 =>
            {
                Err(ErrorKind::Unsupported.into())
            }
            passed => passed,
        })?;
        count(taken);
        self.holds = taken;
        while self.holds > 0 {
            match to.try_io(Interest::WRITABLE, || pass(&pipe.out, to, self.holds)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(given) => self.holds -= given,
                Err(error) if error.kind() == ErrorKind::WouldBlock => to.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }
}

fn pass(
    from: impl std::os::fd::AsFd,
    to: impl std::os::fd::AsFd,
    most: usize,
) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    Ok(splice(from, None, to, None, most, flags)?)
}
