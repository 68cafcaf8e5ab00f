//! The few `bpf(2)` commands that aya has no safe wrapper for.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

const MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const OBJ_GET: libc::c_long = 7;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;
const PROG_TEST_RUN: libc::c_long = 10;
const PROG_ATTACH: libc::c_long = 8;
const LINK_UPDATE: libc::c_long = 29;

/// Calls `bpf(command, attributes)`.
///
/// # Safety
/// `T` is the layout that the kernel expects for `command`, and every pointer
/// in it is valid for as long as the call lasts.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: as the caller says; the size bounds what the kernel touches.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Opens what is pinned at `path`.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = Attributes { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the attributes of BPF_OBJ_GET; the path lives until the call ends.
    let fd = unsafe { bpf(OBJ_GET, &mut attributes) }?;
    // SAFETY: the kernel just gave us this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Puts a value into a map.
pub(super) fn put<K: aya::Pod, V: aya::Pod>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &V,
) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        map: u32,
        zero: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let (key, value) = (std::ptr::from_ref(key) as u64, std::ptr::from_ref(value) as u64);
    let mut attributes = Attributes { map: map.as_raw_fd() as u32, zero: 0, key, value, flags: 0 };
    // SAFETY: the attributes of BPF_MAP_UPDATE_ELEM; the map's key and value have
    // these types, which the caller took from mesh_common as the map's did.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attributes) }.map(drop)
}

/// Makes `program` the one that sees what the sockets of a map send or receive.
pub(super) fn attach_to_map(
    map: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        target: u32,
        program: u32,
        attach_type: u32,
        flags: u32,
    }
    let mut attributes = Attributes {
        target: map.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        attach_type,
        flags: 0,
    };
    // SAFETY: the attributes of BPF_PROG_ATTACH.
    unsafe { bpf(PROG_ATTACH, &mut attributes) }.map(drop)
}

/// Replaces the program inside a link, without a moment in which none is attached.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        link: u32,
        program: u32,
        flags: u32,
        old_program: u32,
    }
    let mut attributes = Attributes {
        link: link.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        flags: 0,
        old_program: 0,
    };
    // SAFETY: the attributes of BPF_LINK_UPDATE, which hold no pointers.
    unsafe { bpf(LINK_UPDATE, &mut attributes) }.map(drop)
}

/// Runs a program once on a packet of these bytes, behind an empty Ethernet
/// header, and returns what it returned.
pub(super) fn run(program: BorrowedFd<'_>, packet: &[u8]) -> io::Result<u32> {
    const ETHERNET: usize = 14;
    #[repr(C)]
    struct Attributes {
        program: u32,
        result: u32,
        size_in: u32,
        size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        /// Context, flags, CPU, batch: none.
        rest: [u64; 5],
    }
    let mut data = vec![0; ETHERNET];
    data.extend_from_slice(packet);
    let mut attributes = Attributes {
        program: program.as_raw_fd() as u32,
        result: 0,
        size_in: data.len() as u32,
        size_out: 0,
        data_in: data.as_ptr() as u64,
        data_out: 0,
        repeat: 1,
        duration: 0,
        rest: [0; 5],
    };
    // SAFETY: the attributes of BPF_PROG_TEST_RUN; the packet is as long as said
    // and lives until the call ends; nothing is written back.
    unsafe { bpf(PROG_TEST_RUN, &mut attributes) }?;
    Ok(attributes.result)
}

/// `struct bpf_link_info` of a cgroup link.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LinkInfo {
    pub kind: u32,
    pub id: u32,
    pub program: u32,
    zero: u32,
    pub cgroup: u64,
    pub attach_type: u32,
    rest: [u32; 9],
}

#[repr(C)]
struct InfoAttributes {
    fd: u32,
    length: u32,
    info: u64,
}

pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let mut attributes = InfoAttributes {
        fd: link.as_raw_fd() as u32,
        length: size_of::<LinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the attributes of BPF_OBJ_GET_INFO_BY_FD; `info` is as long as said.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    Ok(info)
}

/// Ids of the programs that run at a cgroup for this attach type, its
/// ancestors' included.
pub(super) fn programs_at(cgroup: impl AsFd, attach_type: u32) -> io::Result<Vec<u32>> {
    const EFFECTIVE: u32 = 1;
    #[repr(C)]
    struct Attributes {
        target: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        zero: u32,
        rest: [u64; 4],
    }
    let mut ids = [0u32; 64];
    let mut attributes = Attributes {
        target: cgroup.as_fd().as_raw_fd() as u32,
        attach_type,
        query_flags: EFFECTIVE,
        attach_flags: 0,
        ids: (&raw mut ids) as u64,
        count: ids.len() as u32,
        zero: 0,
        rest: [0; 4],
    };
    // SAFETY: the attributes of BPF_PROG_QUERY; `ids` has room for `count`.
    unsafe { bpf(PROG_QUERY, &mut attributes) }?;
    Ok(ids[..(attributes.count as usize).min(ids.len())].to_vec())
}

/// Reads an element and removes it in one step. `None` where there is none.
pub(super) fn take<K: aya::Pod, V: aya::Pod + Default>(
    map: BorrowedFd<'_>,
    key: &K,
) -> io::Result<Option<V>> {
    #[repr(C)]
    struct Attributes {
        map: u32,
        zero: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let mut value = V::default();
    let mut attributes = Attributes {
        map: map.as_raw_fd() as u32,
        zero: 0,
        key: std::ptr::from_ref(key) as u64,
        value: (&raw mut value) as u64,
        flags: 0,
    };
    // SAFETY: the attributes of BPF_MAP_LOOKUP_AND_DELETE_ELEM; key and value
    // have the sizes that the map was made with (same types in mesh-common).
    match unsafe { bpf(MAP_LOOKUP_AND_DELETE_ELEM, &mut attributes) } {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
