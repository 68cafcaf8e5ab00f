//! What the kernel's tables say, and since when: read by someone who isn't the
//! agent.

use std::{fs, net::IpAddr, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{process::Process, world::World};

/// Reads FRONTENDS and the first of SLOTS all the time; a line for each change:
/// monotonic nanoseconds, the frontend's place in the arguments, the address.
/// Layouts are those of mesh-common.
const PROGRAM: &str = r#"
import ctypes, ipaddress, platform, struct, sys, time
folder, port, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
libc = ctypes.CDLL(None, use_errno=True)
number = {"x86_64": 321, "aarch64": 280}[platform.machine()]

def call(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, 128)
    return libc.syscall(number, command, buffer, 128)

def open_map(name):
    path = ctypes.create_string_buffer((folder + "/" + name).encode())
    fd = call(7, struct.pack("=QII", ctypes.addressof(path), 0, 1 << 3))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "open " + folder + "/" + name)
    return fd

def lookup(fd, key, size):
    key = ctypes.create_string_buffer(key, len(key))
    value = ctypes.create_string_buffer(size)
    attributes = struct.pack("=IxxxxQQQ", fd, ctypes.addressof(key), ctypes.addressof(value), 0)
    return value.raw if call(1, attributes) == 0 else None

frontends, slots = open_map("FRONTENDS"), open_map("SLOTS")
def mapped(text):
    return b"\0" * 10 + b"\xff\xff" + ipaddress.IPv4Address(text).packed
keys = [mapped(text) + struct.pack(">HHBxxx", port, 0, 6) for text in sys.argv[4:]]
last = [None] * len(keys)
print("ready", flush=True)
end = time.monotonic() + seconds
while time.monotonic() < end:
    for place, key in enumerate(keys):
        frontend = lookup(frontends, key, 24)
        if frontend is None:
            continue
        set_, generation, count = struct.unpack_from("=III", frontend, 4)
        slot = lookup(slots, struct.pack("=III", set_, generation, 0), 28) if count else None
        address = slot and str(ipaddress.IPv4Address(slot[12:16]))
        if address and address != last[place]:
            last[place] = address
            print(time.monotonic_ns(), place, address, flush=True)
    time.sleep(0.0005)
"#;

/// Follows the first backend of some frontends.
#[derive(Debug)]
pub struct Tables(Process);

/// A frontend's first backend changed.
#[derive(Clone, Debug)]
pub struct Change {
    /// As CLOCK_MONOTONIC counts.
    pub at_ns: u64,
    pub frontend: usize,
    pub address: IpAddr,
}

impl Tables {
    /// Frontends are IPv4 addresses, TCP on port 80.
    pub fn follow(world: &World, frontends: &[IpAddr], seconds: u32) -> Result<Self> {
        let folder = find(world.pins(), "FRONTENDS")?.context("no FRONTENDS below the pins")?;
        let mut command: Command = world.command("python3", seconds + 10)?;
        command.args(["-c", PROGRAM, &folder, "80", &seconds.to_string()]);
        command.args(frontends.iter().map(ToString::to_string));
        let log = world.folder().join("tables.log");
        let process = Process::start("the reader of the tables", command, log)?;
        crate::eventually("the reader of the tables", || match process.log() {
            log if log.starts_with("ready") => Ok(()),
            log => Err(log),
        })?;
        Ok(Self(process))
    }

    /// All that was seen so far.
    pub fn changes(&self) -> Result<Vec<Change>> {
        let log = self.0.log();
        // The last line may not be whole yet.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        whole.lines().skip(1).map(change).collect()
    }
}

fn change(line: &str) -> Result<Change> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [at, frontend, address] = fields.as_slice() else { bail!("no change: {line}") };
    Ok(Change { at_ns: at.parse()?, frontend: frontend.parse()?, address: address.parse()? })
}

/// The folder in which a map is pinned.
fn find(folder: &Path, name: &str) -> Result<Option<String>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == name {
            return Ok(Some(folder.to_string_lossy().into_owned()));
        }
        if entry.file_type()?.is_dir()
            && let Some(found) = find(&entry.path(), name)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
