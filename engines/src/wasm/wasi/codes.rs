//! Numbers of WASI preview 1, from `wasi_snapshot_preview1.witx`, and what a call can fail with.

use timerose_core::failure::Failure;

use crate::wasm::meter::Stop;

/// What a call answers when it cannot do its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Errno {
    /// Bad file descriptor.
    BadF = 8,
    /// File exists.
    Exist = 20,
    /// Bad address.
    Fault = 21,
    /// Not valid UTF-8.
    IlSeq = 25,
    /// Invalid argument.
    Inval = 28,
    /// Is a directory.
    IsDir = 31,
    /// Too many open files.
    MFile = 33,
    /// Name too long.
    NameTooLong = 37,
    /// No such file or directory.
    NoEnt = 44,
    /// Function not supported.
    NoSys = 52,
    /// Not a directory.
    NotDir = 54,
    /// Read-only file system.
    RoFs = 69,
    /// Cannot seek here.
    SPipe = 70,
    /// The path leads out of the directory.
    NotCapable = 76,
}

/// Why a call did not succeed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The guest is told.
    Errno(Errno),
    /// The guest is ended.
    Stop(Stop),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Fault::Errno(errno)
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Fault::Stop(Stop::Failed(failure))
    }
}

/// What a call that has no implementation answers.
pub(super) fn without_implementation(name: &str) -> Errno {
    match name {
        "fd_allocate" | "fd_filestat_set_size" | "fd_filestat_set_times" | "fd_pwrite" => Errno::RoFs,
        "path_create_directory" | "path_filestat_set_times" | "path_link" | "path_remove_directory" => Errno::RoFs,
        "path_rename" | "path_symlink" | "path_unlink_file" => Errno::RoFs,
        _ => Errno::NoSys,
    }
}

pub(super) const FILETYPE_UNKNOWN: u8 = 0;
pub(super) const FILETYPE_DIRECTORY: u8 = 3;
pub(super) const FILETYPE_REGULAR_FILE: u8 = 4;

pub(super) const OFLAGS_CREAT: u32 = 1;
pub(super) const OFLAGS_DIRECTORY: u32 = 1 << 1;
pub(super) const OFLAGS_EXCL: u32 = 1 << 2;
pub(super) const OFLAGS_TRUNC: u32 = 1 << 3;

pub(super) const WHENCE_SET: u32 = 0;
pub(super) const WHENCE_CUR: u32 = 1;
pub(super) const WHENCE_END: u32 = 2;

pub(super) const CLOCK_REALTIME: u32 = 0;
pub(super) const CLOCK_THREAD_CPUTIME: u32 = 3;

pub(super) const EVENT_CLOCK: u8 = 0;
pub(super) const EVENT_FD_WRITE: u8 = 2;
/// The clock subscription's time is a point, not a span.
pub(super) const SUBSCRIPTION_ABSTIME: u16 = 1;

pub(super) const RIGHT_FD_READ: u64 = 1 << 1;
pub(super) const RIGHT_FD_SEEK: u64 = 1 << 2;
pub(super) const RIGHT_FD_FDSTAT_SET_FLAGS: u64 = 1 << 3;
pub(super) const RIGHT_FD_TELL: u64 = 1 << 5;
pub(super) const RIGHT_FD_WRITE: u64 = 1 << 6;
pub(super) const RIGHT_FD_ADVISE: u64 = 1 << 7;
pub(super) const RIGHT_PATH_OPEN: u64 = 1 << 13;
pub(super) const RIGHT_FD_READDIR: u64 = 1 << 14;
pub(super) const RIGHT_PATH_READLINK: u64 = 1 << 15;
pub(super) const RIGHT_PATH_FILESTAT_GET: u64 = 1 << 18;
pub(super) const RIGHT_FD_FILESTAT_GET: u64 = 1 << 21;
pub(super) const RIGHT_POLL_FD_READWRITE: u64 = 1 << 27;
