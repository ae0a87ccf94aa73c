//! What a program sees of its mounts.

use cid::Cid;
use timerose_core::failure::Failure;
use timerose_core::function::Function;

use crate::setup::*;

/// Opens `argv[1]` from descriptor 3 and copies it to standard output, or writes the number of the error. What it opens with
/// (flags and rights) and what it does then is filled in.
fn opener(flags: u32, rights: u64, then: &str) -> String {
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_pread" (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_filestat_get" (func $fd_filestat_get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func $fd_prestat_dir_name (param i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_open"
            (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
        (memory (export "memory") 4)
        (func $say (param $at i32) (param $length i32)
            (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $length))
            (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
        (func $length (param $at i32) (result i32) (local $end i32)
            (local.set $end (local.get $at))
            (loop (if (i32.load8_u (local.get $end)) (then (local.set $end (i32.add (local.get $end) (i32.const 1))) (br 1))))
            (i32.sub (local.get $end) (local.get $at)))
        (func (export "_start") (local $fd i32) (local $n i32) (local $errno i32)
            (drop (call $args_get (i32.const 64) (i32.const 4096)))
            (local.set $errno (call $path_open (i32.const 3) (i32.const 0)
                (i32.load (i32.const 68)) (call $length (i32.load (i32.const 68)))
                (i32.const {flags}) (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 12)))
            (if (local.get $errno) (then
                (i32.store8 (i32.const 16) (local.get $errno)) (call $say (i32.const 16) (i32.const 1)) (return)))
            (local.set $fd (i32.load (i32.const 12)))
            {then}))"#
    )
}

const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 6;

/// Copies the file, 7000 bytes at a time.
const COPY: &str = r#"(loop
    (i32.store (i32.const 0) (i32.const 8192)) (i32.store (i32.const 4) (i32.const 7000))
    (if (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
    (local.set $n (i32.load (i32.const 8)))
    (if (local.get $n) (then (call $say (i32.const 8192) (local.get $n)) (br 1))))"#;

/// `/data` with a file, a large file, and a folder with a file.
fn tree(setup: &mut Setup) -> Cid {
    let small = setup.content.file("small");
    let large = setup.content.file(large());
    let deep = setup.content.file("deep");
    let folder = setup.content.dir(&[("deep.txt", deep)]);
    setup.content.dir(&[("small.txt", small), ("large.bin", large), ("folder", folder), ("bad/name", small), ("..", small)])
}

fn large() -> Vec<u8> {
    (0..300_000_u32).map(|i| (i * 7 % 253) as u8).collect()
}

fn mounted(setup: &mut Setup, wat: &str) -> Function {
    let code = setup.wat(wat);
    let mut function = command(code);
    function.mounts.insert("/data".into(), tree(setup));
    function
}

fn open(setup: &Setup, function: &Function, path: &str) -> Vec<u8> {
    setup.output(&work(function.clone(), "", vec![inline(""), inline(path)]))
}

#[test]
fn files_are_read_and_paths_stay_inside() {
    let mut setup = Setup::new();
    let function = mounted(&mut setup, &opener(0, READ, COPY));
    for (path, wanted) in [
        ("small.txt", &b"small"[..]),
        ("folder/deep.txt", b"deep"),
        ("./folder//../folder/./deep.txt", b"deep"),
        ("", &[44]),
        ("missing", &[44]),
        ("folder/missing/deeper", &[44]),
        ("small.txt/", &[54]),
        ("small.txt/below", &[54]),
        ("..", &[76]),
        ("../data/small.txt", &[76]),
        ("folder/../../small.txt", &[76]),
        ("/data/small.txt", &[76]),
        ("bad/name", &[44]),
    ] {
        assert_eq!(open(&setup, &function, path), wanted, "{path}");
    }
    assert_eq!(open(&setup, &function, &"x".repeat(5000)), [37]);
    assert!(open(&setup, &function, "large.bin") == large());
}

#[test]
fn nothing_can_be_written() {
    let mut setup = Setup::new();
    // Create, create anew, cut to nothing, write; a folder to write; a file as a folder.
    let cases = [
        (1, READ, "new", 69),
        (1, READ, "missing/new", 69),
        (1 | 4, READ, "small.txt", 20),
        (8, READ, "small.txt", 69),
        (0, READ | WRITE, "small.txt", 69),
        (0, WRITE, "folder", 31),
        (2, READ, "small.txt", 54),
    ];
    for (flags, rights, path, errno) in cases {
        let function = mounted(&mut setup, &opener(flags, rights, COPY));
        assert_eq!(open(&setup, &function, path), [errno], "{flags} {rights} {path}");
    }
    let function = mounted(&mut setup, &opener(1, READ, COPY));
    assert_eq!(open(&setup, &function, "small.txt"), b"small", "creating what exists opens it");
}

#[test]
fn reading_at_a_place_leaves_the_position() {
    let mut setup = Setup::new();
    let pread = format!(
        "(i32.store (i32.const 0) (i32.const 8192)) (i32.store (i32.const 4) (i32.const 10))
         (if (call $fd_pread (local.get $fd) (i32.const 0) (i32.const 1) (i64.const 3) (i32.const 8)) (then unreachable))
         (call $say (i32.const 8192) (i32.load (i32.const 8))) {COPY}"
    );
    let function = mounted(&mut setup, &opener(0, READ, &pread));
    assert_eq!(open(&setup, &function, "small.txt"), b"llsmall");
}

/// Lists a folder from entry `cookie` on into `length` bytes.
fn list(length: u32, cookie: u64) -> String {
    format!(
        "(if (call $fd_readdir (local.get $fd) (i32.const 8192) (i32.const {length}) (i64.const {cookie}) (i32.const 8)) (then unreachable))
         (call $say (i32.const 8192) (i32.load (i32.const 8)))"
    )
}

/// The entries in what `fd_readdir` wrote: cookie of the next, file type and name of each that is whole.
fn entries(mut bytes: &[u8]) -> Vec<(u64, u8, String)> {
    let mut entries = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(24) {
        let length = u32::from_le_bytes(head[16..20].try_into().unwrap()) as usize;
        let Some((name, rest)) = rest.split_at_checked(length) else { break };
        assert_ne!(head[8..16], [0; 8], "an inode of 0 means that there is none");
        entries.push((u64::from_le_bytes(head[..8].try_into().unwrap()), head[20], String::from_utf8(name.to_vec()).unwrap()));
        bytes = rest;
    }
    entries
}

#[test]
fn folders_are_listed_in_pieces() {
    let mut setup = Setup::new();
    let whole = mounted(&mut setup, &opener(2, READ, &list(4096, 0)));
    let wanted = [(1, 3, "."), (2, 3, ".."), (3, 3, "folder"), (4, 4, "large.bin"), (5, 4, "small.txt")]
        .map(|(next, kind, name)| (next, kind, name.to_string()));
    assert_eq!(entries(&open(&setup, &whole, ".")), wanted);
    for (from, last) in wanted.iter().enumerate() {
        let one = mounted(&mut setup, &opener(2, READ, &list(40, from as u64)));
        let bytes = open(&setup, &one, ".");
        assert_eq!(entries(&bytes)[0], *last);
        assert_eq!(bytes.len(), if from == 4 { 24 + "small.txt".len() } else { 40 }, "the last piece is cut off, not left out");
    }
    let beyond = mounted(&mut setup, &opener(2, READ, &list(4096, u64::MAX)));
    assert_eq!(open(&setup, &beyond, "."), b"");
}

#[test]
fn attributes_tell_kind_and_size() {
    let mut setup = Setup::new();
    let stat = "(if (call $fd_filestat_get (local.get $fd) (i32.const 8192)) (then unreachable)) (call $say (i32.const 8192) (i32.const 64))";
    let function = mounted(&mut setup, &opener(0, READ, stat));
    for (path, kind, size) in [("folder", 3, 0), ("large.bin", 4, 300_000)] {
        let stat = open(&setup, &function, path);
        assert_eq!((stat[16], u64::from_le_bytes(stat[32..40].try_into().unwrap())), (kind, size), "{path}");
    }
}

#[test]
fn descriptors_run_out_and_come_back() {
    let mut setup = Setup::new();
    let until = |close: &str| {
        format!(
            "(local.set $n (i32.const 0))
             (loop
                 (local.set $errno (call $path_open (i32.const 3) (i32.const 0) (i32.load (i32.const 68)) (i32.const 9)
                     (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 12)))
                 {close}
                 (local.set $n (i32.add (local.get $n) (i32.const 1)))
                 (br_if 0 (i32.and (i32.eqz (local.get $errno)) (i32.lt_s (local.get $n) (i32.const 3000)))))
             (i32.store8 (i32.const 16) (local.get $errno)) (call $say (i32.const 16) (i32.const 1))"
        )
    };
    let kept = mounted(&mut setup, &opener(0, READ, &until("")));
    assert_eq!(open(&setup, &kept, "small.txt"), [33]);
    let closed = mounted(&mut setup, &opener(0, READ, &until("(drop (call $fd_close (i32.load (i32.const 12))))")));
    assert_eq!(open(&setup, &closed, "small.txt"), [0]);
}

#[test]
fn a_mounted_file_appears_in_the_folder_above_it() {
    let mut setup = Setup::new();
    let code = setup.wat(&opener(0, READ, COPY));
    let mut function = command(code);
    let (script, library) = (setup.content.file("the script"), setup.content.file("the library"));
    function.mounts.insert("/app/main.py".into(), script);
    function.mounts.insert("/app/lib.py".into(), library);
    assert_eq!(open(&setup, &function, "main.py"), b"the script");
    assert_eq!(open(&setup, &function, "lib.py"), b"the library");
    function.mounts = [("/".to_string(), script)].into();
    let failure = setup.failure(&work(function, "", vec![inline(""), inline("x")]));
    assert!(matches!(failure, Failure::Rejected { .. }), "{failure:?}");
}

#[test]
fn mounts_tell_their_guest_paths() {
    let mut setup = Setup::new();
    let name = "(if (call $fd_prestat_get (i32.const 4) (i32.const 8192)) (then unreachable))
        (if (call $fd_prestat_dir_name (i32.const 4) (i32.const 8200) (i32.load (i32.const 8196))) (then unreachable))
        (call $say (i32.const 8192) (i32.add (i32.const 8) (i32.load (i32.const 8196))))
        (i32.store8 (i32.const 16) (call $fd_prestat_get (i32.const 6) (i32.const 8192))) (call $say (i32.const 16) (i32.const 1))";
    let mut function = mounted(&mut setup, &opener(0, READ, name));
    function.mounts.insert("/more/".into(), tree(&mut setup));
    assert_eq!(open(&setup, &function, "."), b"\0\0\0\0\x05\0\0\0/more\x08");
}

#[test]
fn content_that_is_missing_ends_the_program() {
    let mut setup = Setup::new();
    let function = mounted(&mut setup, &opener(0, READ, COPY));
    let missing = timerose_core::id::cid_of(timerose_core::id::RAW, b"small");
    let mut partial = Setup::new();
    partial.content = setup.content.without(&missing);
    let failure = partial.failure(&work(function, "", vec![inline(""), inline("small.txt")]));
    assert_eq!(failure, Failure::not_found(missing, 0));
}
