//! Content as its users meet it: folders back to disk, pins and garbage, archives, and the gateway.

#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use cid::Cid;
use cid::multibase::Base;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use ureq::Body;
use ureq::http::Response;
use world::{Node, World};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn add(world: &World, node: &Node, path: &Path, more: &[&str]) -> String {
    world.command(&node.dir, &[&["add", text(path)], more].concat()).ok()
}

/// Bytes of which no two parts are alike.
fn content(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(7).fill(&mut bytes);
    bytes
}

#[test]
fn get_brings_back_links_permissions_and_times_and_nothing_outside_of_its_target() {
    let world = World::new();
    let node = world.node("a", &[]);
    world.write("tree/sub/file", "content");
    for (target, link) in
        [("sub/file", "in"), ("../sub", "sub/up"), ("../../..", "sub/out"), ("/etc", "root"), ("sub/../../x", "odd")]
    {
        symlink(target, world.path("tree").join(link)).expect("linked");
    }
    let file = fs::File::open(world.path("tree/sub/file")).expect("opened");
    file.set_modified(UNIX_EPOCH + Duration::new(1_500_000_000, 123_456_789)).expect("set");
    fs::set_permissions(world.path("tree/sub/file"), fs::Permissions::from_mode(0o4640)).expect("set");
    fs::set_permissions(world.path("tree/sub"), fs::Permissions::from_mode(0o511)).expect("set");
    for version in ["0", "1"] {
        let args = ["--preserve-mode", "--preserve-mtime", "--cid-version", version];
        let cid = add(&world, &node, &world.path("tree"), &args);
        assert_eq!(cid.starts_with("Qm"), version == "0");
        let out = world.path(&format!("out-{version}"));
        let said = world.command(&node.dir, &["get", &cid, "-o", text(&out)]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert_eq!(said.stderr.matches("left out").count(), 3, "{}", said.stderr);
        assert_eq!(fs::read_to_string(out.join("in")).expect("through the link"), "content");
        assert_eq!(fs::read_link(out.join("sub/up")).expect("a link"), Path::new("../sub"));
        for gone in ["sub/out", "root", "odd"] {
            assert!(out.join(gone).symlink_metadata().is_err(), "{gone}");
        }
        let meta = fs::metadata(out.join("sub/file")).expect("there");
        assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()), (0o640, 1_500_000_000, 123_456_789));
        assert_eq!(fs::metadata(out.join("sub")).expect("there").mode() & 0o7777, 0o511);
        let refused = world.command(&node.dir, &["get", &cid, "-o", text(&out)]);
        assert_eq!(refused.code, 2, "what is there is not touched");
    }
}

#[test]
fn garbage_goes_and_what_is_pinned_deployed_or_young_stays() {
    let world = World::new();
    let node = world.node("a", &[]);
    let run = |args: &[&str]| world.command(&node.dir, args);
    let pinned = add(&world, &node, &world.write("pinned", content(600_000)), &[]);
    let loose = add(&world, &node, &world.write("loose", "loose"), &["--pin=false"]);
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests");
    let (code, manifest) = (guest.join("built/wordcount-fan.wasm"), guest.join("wordcount/fan.toml"));
    let function = run(&["deploy", text(&code), "--manifest", text(&manifest)]).ok();
    let names = |pins: &Value| pins.as_array().expect("a list").iter().map(|pin| pin["cid"].clone()).collect::<Vec<_>>();
    let pins = run(&["pin", "ls", "-o", "json"]).json();
    assert!(names(&pins).contains(&Value::String(pinned.clone())) && names(&pins).contains(&Value::String(function.clone())));
    assert_eq!(pins.as_array().map(Vec::len), Some(2));
    assert_eq!(run(&["repo", "gc", "-o", "json"]).json()["removed"], 0, "all of it is young");
    let collected = run(&["repo", "gc", "--grace", "0s", "-o", "json"]).json();
    assert_eq!((&collected["removed"], &collected["freed"]), (&Value::from(1), &Value::from(5)), "{collected}");
    assert_eq!(run(&["cat", &loose]).code, 3);
    assert_eq!(run(&["cat", &pinned]).stdout.len(), String::from_utf8_lossy(&content(600_000)).len());
    let called = run(&["call", &function, "--entry", "map", "--arg", "a b a", "--cat"]).ok();
    assert_eq!(called, r#"{"a":2,"b":1}"#);
    run(&["pin", "rm", &pinned]).ok();
    assert_eq!(run(&["pin", "rm", &pinned]).code, 2);
    let collected = run(&["repo", "gc", "--grace", "0s", "-o", "json"]).json();
    assert!(collected["freed"].as_u64() > Some(600_000), "{collected}");
    assert_eq!(run(&["cat", &pinned]).code, 3);
    let again = run(&["call", &function, "--entry", "map", "--arg", "a b a", "--no-memo", "--cat"]).ok();
    assert_eq!(again, called, "what was deployed is pinned");
    let named = run(&["pin", "add", &function, "--name", "counts words", "-o", "json"]).json();
    assert_eq!(named[0]["mode"], "recursive");
    assert_eq!(run(&["pin", "ls", "--name", "counts words", "-o", "json"]).json().as_array().map(Vec::len), Some(1));
}

#[test]
fn an_archive_carries_a_dag_to_another_node_and_lies_are_refused() {
    let world = World::new();
    let (a, b) = (world.node("a", &[]), world.node("b", &[]));
    world.write("folder/large", content(900_000));
    world.write("folder/small", "small");
    for version in ["0", "1"] {
        let cid = add(&world, &a, &world.path("folder"), &["--cid-version", version]);
        let car = world.path(&format!("{version}.car"));
        world.command(&a.dir, &["dag", "export", &cid, "-o", text(&car)]).ok();
        let indexed = world.path(&format!("{version}.2.car"));
        world.command(&a.dir, &["dag", "export", &cid, "--car-version", "2", "-o", text(&indexed)]).ok();
        let (v1, v2) = (fs::read(&car).expect("there"), fs::read(&indexed).expect("there"));
        assert!(v2[51..51 + v1.len()] == v1, "version 1 lies within version 2");
        let imported = world.command(&b.dir, &["dag", "import", text(&indexed), "-o", "json"]).json();
        assert_eq!(
            (&imported["roots"][0]["cid"], &imported["roots"][0]["pinned"]),
            (&Value::String(cid.clone()), &Value::Bool(true))
        );
        world.command(&b.dir, &["repo", "gc", "--grace", "0s"]).ok();
        assert_eq!(world.command(&b.dir, &["cat", &format!("{cid}/small")]).ok(), "small");
        let mut bytes = fs::read(&car).expect("there");
        *bytes.last_mut().expect("not empty") ^= 1;
        let lie = world.write("lie.car", &bytes);
        let said = world.command(&b.dir, &["dag", "import", text(&lie)]);
        assert!(said.code == 2 && said.stderr.contains("do not hash"), "{}", said.stderr);
        bytes.truncate(bytes.len() / 2);
        let said = world.command(&b.dir, &["dag", "import", text(&world.write("part.car", &bytes))]);
        assert!(said.code == 2 && said.stderr.contains("breaks off"), "{}", said.stderr);
    }
}

#[test]
fn a_version_0_cid_is_an_argument_like_any_other() {
    let world = World::new();
    let node = world.node("a", &[]);
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests");
    let (code, manifest) = (guest.join("built/wordcount-fan.wasm"), guest.join("wordcount/fan.toml"));
    let function = world.command(&node.dir, &["deploy", text(&code), "--manifest", text(&manifest)]).ok();
    let path = world.write("words", "b a b ".repeat(100_000));
    let cid = add(&world, &node, &path, &["--cid-version", "0"]);
    assert!(cid.starts_with("Qm"));
    let counted = world.command(&node.dir, &["call", &function, "--entry", "map", "--arg", &cid, "--cat"]).ok();
    assert_eq!(counted, r#"{"a":100000,"b":200000}"#);
    let folder = world.path("set");
    world.write("set/words", "c");
    let set = add(&world, &node, &folder, &["--cid-version", "0"]);
    let job = world.command(&node.dir, &["mapreduce", &function, &set, "-o", "json"]).json();
    assert_eq!(world.command(&node.dir, &["cat", job["result"].as_str().expect("a CID")]).ok(), r#"{"c":1}"#);
}

/// What is in a folder: by path the kind, the content or target, the permissions and the time of change.
fn contents(folder: &Path, path: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder.join(path)).expect("a folder") {
        let path = path.join(entry.expect("an entry").file_name());
        let full = folder.join(&path);
        let meta = full.symlink_metadata().expect("there");
        let (mode, time) = (meta.mode() & 0o777, (meta.mtime(), meta.mtime_nsec()));
        let what = if meta.is_dir() {
            contents(folder, &path, found);
            format!("folder {mode:o} {time:?}")
        } else if meta.is_symlink() {
            format!("link {:?}", fs::read_link(&full).expect("a link"))
        } else {
            format!("file {mode:o} {time:?} {:?}", Sha256::digest(fs::read(&full).expect("a file")))
        };
        found.insert(path, what);
    }
}

#[test]
fn folders_of_odd_names_come_back_as_they_were() {
    let world = World::new();
    let node = world.node("a", &[]);
    let long = "long".repeat(63) + "\u{e9}!";
    let names = [
        "два слова",
        "漢字.txt",
        "مرحبا",
        "e\u{301}",
        "\u{e9}",
        "👩‍👩‍👧",
        "100% & more",
        "%41",
        "quote\"'`",
        "#?=&+",
        "-dash",
        "new\nline",
        " spaces ",
        "back\\slash",
        "..dots",
        "\u{202e}rtl",
        ".part",
        "a",
        "a.part",
        &long,
    ];
    assert_eq!(long.len(), 255, "as long as names go");
    for name in names {
        world.write(&format!("odd/{name}"), name);
    }
    world.write(&format!("odd/{}/leaf", vec!["d"; 60].join("/")), "deep");
    world.write("odd/nothing in it", "");
    world.write("odd/large", content(700_000));
    fs::create_dir(world.path("odd/empty")).expect("made");
    symlink("漢字.txt", world.path("odd/link")).expect("linked");
    let old = fs::File::open(world.path("odd/a")).expect("opened");
    old.set_modified(UNIX_EPOCH - Duration::new(300_000_000, 500)).expect("set");
    fs::set_permissions(world.path("odd/a"), fs::Permissions::from_mode(0o400)).expect("set");
    let mut given = BTreeMap::new();
    contents(&world.path("odd"), Path::new(""), &mut given);
    let gateway = Gateway::of(&node);
    // What lies beside and is not of this command's making stays.
    let beside = [world.write("got.part", "mine"), world.write("got-1.part", "mine")];
    for args in [&["--cid-version", "0"][..], &["--trickle", "--chunker", "size-1000"]] {
        let cid = add(&world, &node, &world.path("odd"), &[&["--preserve-mode", "--preserve-mtime"], args].concat());
        let to = world.path("got");
        world.command(&node.dir, &["get", &cid, "-o", text(&to)]).ok();
        let mut got = BTreeMap::new();
        contents(&to, Path::new(""), &mut got);
        assert_eq!(got, given, "{args:?}");
        fs::remove_dir_all(&to).expect("removed");
        let large = world.path("got-1");
        world.command(&node.dir, &["get", &format!("{cid}/large"), "-o", text(&large)]).ok();
        assert!(fs::read(&large).expect("there") == content(700_000));
        fs::remove_file(&large).expect("removed");
        assert!(beside.iter().all(|path| fs::read_to_string(path).expect("there") == "mine"));
        for name in names {
            assert_eq!(world.command(&node.dir, &["cat", &format!("{cid}/{name}")]).ok(), name.trim_end());
            let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
            assert_eq!(bytes(gateway.get(&format!("{cid}/{encoded}"), &[])), name.as_bytes(), "{name:?} at the gateway");
        }
    }
}

#[test]
fn a_cid_is_taken_in_any_version_and_base_by_every_command() {
    let world = World::new();
    let node = world.node("a", &[]);
    world.write("folder/sub/large", content(600_000));
    world.write("folder/small", "small");
    let old = add(&world, &node, &world.path("folder"), &["--cid-version", "0"]);
    // The same block under its other names.
    let cid = Cid::new_v1(0x70, *Cid::try_from(old.as_str()).expect("a CID").hash());
    let mut forms: Vec<String> =
        [Base::Base32Lower, Base::Base32Upper, Base::Base16Lower, Base::Base36Lower, Base::Base58Btc, Base::Base64Url]
            .into_iter()
            .map(|base| cid.to_string_of_base(base).expect("a text"))
            .collect();
    forms.push(old.clone());
    let gateway = Gateway::of(&node);
    let run = |args: &[&str]| world.command(&node.dir, args).ok();
    for form in &forms {
        assert_eq!(run(&["cat", &format!("{form}/small")]), "small", "{form}");
        assert_eq!(run(&["ls", &format!("{form}/sub"), "-o", "json"]).matches("large").count(), 1, "{form}");
        assert_eq!(bytes(gateway.get(&format!("{form}/small"), &[])), b"small", "{form}");
        assert!(run(&["providers", form]).contains("this node"), "{form}");
        let (to, car) = (world.path("got"), world.path("a.car"));
        run(&["get", form, "-o", text(&to)]);
        assert!(fs::read(to.join("sub/large")).expect("there") == content(600_000), "{form}");
        fs::remove_dir_all(&to).expect("removed");
        run(&["dag", "export", form, "-o", text(&car)]);
        fs::remove_file(&car).expect("removed");
        run(&["pin", "add", form, "--name", form]);
        let named: Value = serde_json::from_str(&run(&["pin", "ls", "--name", form, "-o", "json"])).expect("JSON");
        assert_eq!(named.as_array().map(Vec::len), Some(1), "{form}");
        run(&["pin", "rm", form]);
        run(&["pin", "add", form]);
    }
}

/// A client of the gateway.
struct Gateway {
    agent: ureq::Agent,
    base: String,
}

impl Gateway {
    fn of(node: &Node) -> Gateway {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
        Gateway { agent, base: format!("http://{}/ipfs/", node.api()) }
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let request = self.agent.get(format!("{}{path}", self.base));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).call().expect("an answer")
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn bytes(mut response: Response<Body>) -> Vec<u8> {
    response.body_mut().with_config().limit(u64::MAX).read_to_vec().expect("a body")
}

#[test]
fn the_gateway_gives_files_and_parts_of_them() {
    let world = World::new();
    let node = world.node("a", &[]);
    let gateway = Gateway::of(&node);
    let large = content(600_000);
    world.write("site/large", &large);
    let cid = add(&world, &node, &world.path("site"), &[]);
    let whole = gateway.get(&format!("{cid}/large"), &[]);
    assert_eq!(whole.status(), 200);
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("cache-control", "public, max-age=29030400, immutable"),
        ("x-content-type-options", "nosniff"),
        ("accept-ranges", "bytes"),
        ("content-length", "600000"),
    ] {
        assert_eq!(header(&whole, name), value, "{name}");
    }
    let tag = header(&whole, "etag").to_string();
    assert!(bytes(whole) == large);
    let unchanged = gateway.get(&format!("{cid}/large"), &[("if-none-match", &tag)]);
    assert_eq!((unchanged.status().as_u16(), bytes(unchanged).len()), (304, 0));
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=262143-262144", 262_143, 262_145),
        ("bytes=599999-", 599_999, 600_000),
        ("bytes=-5", 599_995, 600_000),
    ] {
        let part = gateway.get(&format!("{cid}/large"), &[("range", range)]);
        assert_eq!(
            (part.status().as_u16(), header(&part, "content-range")),
            (206, &format!("bytes {from}-{}/600000", to - 1)[..])
        );
        assert!(bytes(part) == large[from..to], "{range}");
    }
    let beyond = gateway.get(&format!("{cid}/large"), &[("range", "bytes=600000-")]);
    assert_eq!((beyond.status().as_u16(), header(&beyond, "content-range")), (416, "bytes */600000"));
    let changed = gateway.get(&format!("{cid}/large"), &[("range", "bytes=0-0"), ("if-range", "\"other\"")]);
    assert_eq!(changed.status(), 200);
}

#[test]
fn pages_and_folders_at_the_gateway_cannot_act() {
    let world = World::new();
    let node = world.node("a", &[]);
    let gateway = Gateway::of(&node);
    world.write("site/app.js", "alert(1)");
    world.write("site/пять <b>.txt", "five");
    world.write("site/page/index.html", "<script>alert(1)</script>");
    let cid = add(&world, &node, &world.path("site"), &[]);
    let script = gateway.get(&format!("{cid}/app.js"), &[]);
    let policy = header(&script, "content-security-policy").to_string();
    assert!(policy.starts_with("sandbox allow-same-origin;") && !policy.contains("allow-scripts"), "{policy}");
    // Nothing has a script's type, and every page is sandboxed: also errors.
    assert_eq!(header(&script, "content-type"), "text/plain; charset=utf-8");
    let moved = gateway.get(&format!("{cid}/page"), &[]);
    assert_eq!((moved.status().as_u16(), header(&moved, "location")), (301, &format!("/ipfs/{cid}/page/")[..]));
    let page = gateway.get(&format!("{cid}/page/"), &[]);
    assert_eq!(
        (header(&page, "content-type"), header(&page, "content-security-policy")),
        ("text/html; charset=utf-8", &policy[..])
    );
    assert_eq!(bytes(page), b"<script>alert(1)</script>");
    let listing = gateway.get(&format!("{cid}/"), &[]);
    assert_eq!(header(&listing, "content-security-policy"), policy);
    let html = String::from_utf8(bytes(listing)).expect("UTF-8");
    assert!(html.contains("пять &lt;b&gt;.txt") && html.contains("./%D0%BF%D1%8F%D1%82%D1%8C%20%3Cb%3E.txt"), "{html}");
    let named = gateway.get(&format!("{cid}/%D0%BF%D1%8F%D1%82%D1%8C%20%3Cb%3E.txt"), &[]);
    assert_eq!(bytes(named), b"five");
    for (path, status) in [
        (format!("{cid}/none"), 404),
        (format!("{cid}/app.js/below"), 404),
        ("what".into(), 400),
        (format!("{cid}?format=exe"), 400),
    ] {
        let refused = gateway.get(&path, &[]);
        assert_eq!((refused.status().as_u16(), header(&refused, "content-security-policy")), (status, &policy[..]), "{path}");
    }
    // A page of another site is refused as everywhere, and the sandbox's own origin may not use the API.
    assert_eq!(gateway.get(&format!("{cid}/app.js"), &[("sec-fetch-site", "cross-site")]).status(), 403);
    let forged =
        gateway.agent.post(format!("http://{}/v1/repo/gc", node.api())).header("origin", "null").send("{}").expect("an answer");
    assert_eq!(forged.status(), 403);
}

/// Reads a CAR of version 1 with nothing of the program's own, and checks every block.
fn checked(car: &[u8], repeats: bool) -> (Vec<Cid>, BTreeMap<Cid, Vec<u8>>) {
    let number = |rest: &mut &[u8]| {
        let mut value = 0usize;
        for place in 0.. {
            let byte = rest[0];
            *rest = &rest[1..];
            value |= usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    };
    let mut rest = car;
    let header = number(&mut rest);
    assert!(rest[..header].ends_with(b"gversion\x01"));
    rest = &rest[header..];
    let (mut order, mut blocks) = (Vec::new(), BTreeMap::new());
    while !rest.is_empty() {
        let length = number(&mut rest);
        let (mut section, after) = rest.split_at(length);
        rest = after;
        let cid = Cid::read_bytes(&mut section).expect("a CID");
        assert_eq!(cid.hash().digest(), &Sha256::digest(section)[..], "{cid}");
        order.push(cid);
        assert!(blocks.insert(cid, section.to_vec()).is_none() || repeats, "{cid} comes twice");
    }
    (order, blocks)
}

#[test]
fn a_client_that_trusts_nobody_gets_blocks_and_archives_that_it_can_check() {
    let world = World::new();
    let node = world.node("a", &[]);
    let gateway = Gateway::of(&node);
    world.write("site/sub/large", content(600_000));
    world.write("site/sub/other", "other");
    world.write("site/root", "root");
    let cid: Cid = add(&world, &node, &world.path("site"), &[]).parse().expect("a CID");
    let stat = |path: &str| -> Cid {
        let entries = world.command(&node.dir, &["ls", &format!("{cid}{path}"), "-o", "json"]).json();
        let find = |name: &str| entries.as_array().expect("a list").iter().find(|entry| entry["name"] == name).cloned();
        let found = find("sub").or_else(|| find("large")).expect("there");
        found["cid"].as_str().expect("a CID").parse().expect("a CID")
    };
    let (sub, large) = (stat(""), stat("/sub"));
    for (query, headers) in [("?format=raw", &[][..]), ("", &[("accept", "application/vnd.ipld.raw")][..])] {
        let raw = gateway.get(&format!("{cid}{query}"), headers);
        assert_eq!((raw.status().as_u16(), header(&raw, "content-type")), (200, "application/vnd.ipld.raw"));
        assert!(header(&raw, "content-disposition").starts_with("attachment;"));
        assert_eq!(cid.hash().digest(), &Sha256::digest(bytes(raw))[..]);
    }
    let car = |path: &str, headers: &[(&str, &str)]| {
        let car = gateway.get(path, headers);
        assert_eq!(car.status(), 200);
        assert_eq!(header(&car, "content-type"), "application/vnd.ipld.car; version=1; order=dfs; dups=n");
        checked(&bytes(car), false)
    };
    // 600,000 bytes are three leaves under one node.
    let (order, blocks) = car(&format!("{cid}?format=car"), &[]);
    assert_eq!((order[0], blocks.len()), (cid, 2 + 4 + 1 + 1));
    let leaves: Vec<u8> = order.iter().filter(|cid| cid.codec() == 0x55).flat_map(|cid| blocks[cid].clone()).collect();
    let expected = [b"root".to_vec(), content(600_000), b"other".to_vec()].concat();
    assert!(leaves == expected, "depth first, in the order of the links");
    let (order, _) = car(&format!("{cid}/sub/large"), &[("accept", "application/vnd.ipld.car; version=1")]);
    assert_eq!((&order[..3], order.len()), (&[cid, sub, large][..], 3 + 3), "with the blocks on the way");
    assert_eq!(car(&format!("{cid}/sub?format=car&dag-scope=entity"), &[]).0, [cid, sub]);
    assert_eq!(car(&format!("{cid}/sub/large?format=car&dag-scope=block"), &[]).0, [cid, sub, large]);
    assert_eq!(car(&format!("{cid}/sub/large?format=car&dag-scope=entity"), &[]).0.len(), 6);
    for (query, leaves) in [("0:0", 1), ("262143:262144", 2), ("-1:*", 1), ("300000:999999999", 2), ("600000:*", 0), ("0:*", 3)] {
        let (order, _) = car(&format!("{cid}/sub/large?format=car&entity-bytes={query}"), &[]);
        assert_eq!((&order[..3], order.len()), (&[cid, sub, large][..], 3 + leaves), "{query}");
    }
    assert_eq!(car(&format!("{cid}/sub?format=car&entity-bytes=0:9"), &[]).0, [cid, sub], "a folder has no bytes");
    let tag = |query: &str| header(&gateway.get(&format!("{large}?format=car&{query}"), &[]), "etag").to_string();
    assert_ne!(tag("entity-bytes=0:1"), tag("entity-bytes=0:2"));
    assert_ne!(tag("dag-scope=all"), tag("dag-scope=entity"));
    for query in ["entity-bytes=1-2", "entity-bytes=5:2", "dag-scope=some", "car-version=2", "car-order=bfs"] {
        assert_eq!(gateway.get(&format!("{cid}?format=car&{query}"), &[]).status(), 400, "{query}");
    }
    // A cache keeps what only a header asked for under an address of its own.
    for (path, accept, location) in [
        ("/sub", "application/vnd.ipld.raw", "/sub?format=raw"),
        ("/sub?dag-scope=block", "application/vnd.ipld.car;dups=y", "/sub?dag-scope=block&format=car&car-dups=y"),
        ("/sub?format=car", "application/vnd.ipld.raw", ""),
        ("/root", "text/plain, application/vnd.ipld.raw;q=0.9", ""),
    ] {
        let negotiated = gateway.get(&format!("{cid}{path}"), &[("accept", accept)]);
        let expected = if location.is_empty() { String::new() } else { format!("/ipfs/{cid}{location}") };
        assert_eq!(
            (negotiated.status().as_u16(), header(&negotiated, "content-location")),
            (200, &expected[..]),
            "{path} {accept}"
        );
    }
    // By this a client finds out whether it speaks to a gateway.
    for (kind, size) in [("application/vnd.ipld.raw", 0), ("application/vnd.ipld.car", 26)] {
        let probe = gateway.get("bafkqaaa", &[("accept", kind)]);
        assert_eq!((probe.status().as_u16(), bytes(probe).len()), (200, size), "{kind}");
    }
}

#[test]
fn a_client_that_remembers_nothing_gets_a_block_as_often_as_it_is_linked_to() {
    let world = World::new();
    let node = world.node("a", &[]);
    let gateway = Gateway::of(&node);
    // Three equal leaves, and two names for one file.
    world.write("site/one", vec![7; 3 * 262_144]);
    world.write("site/two", vec![7; 3 * 262_144]);
    let cid = add(&world, &node, &world.path("site"), &[]);
    for (accept, blocks) in [("dups=y", 1 + 2 * (1 + 3)), ("dups=n", 1 + 1 + 1)] {
        let car = gateway.get(&cid, &[("accept", &format!("application/vnd.ipld.car; version=1; order=dfs; {accept}"))]);
        assert!(header(&car, "content-type").ends_with(accept));
        assert_eq!(checked(&bytes(car), true).0.len(), blocks, "{accept}");
    }
}

#[test]
fn who_asks_only_for_what_is_here_has_nothing_fetched() {
    let world = World::new();
    let dids = ["a", "b"].map(|name| world.did(name));
    let trust: Vec<&str> = dids.iter().flat_map(|did| ["--trust", did.as_str()]).collect();
    let a = world.node("a", &trust);
    let b = world.node("b", &[&trust[..], &["--join", &a.addr()]].concat());
    b.wait_for("members_connected", |members| members == 2);
    world.write("site/large", content(600_000));
    world.write("site/small", "small");
    let cid = add(&world, &a, &world.path("site"), &[]);
    let (here, there) = (Gateway::of(&a), Gateway::of(&b));
    let cached = [("cache-control", "no-transform, only-if-cached")];
    let paths = ["", "/", "/large", "/large?format=raw", "/?format=car", "/small"].map(|path| format!("{cid}{path}"));
    for path in &paths {
        assert_ne!(here.get(path, &cached).status(), 412, "{path}");
        let absent = there.get(path, &cached);
        assert_eq!((absent.status().as_u16(), bytes(absent).len()), (412, 0), "{path}");
    }
    assert_eq!(b.metric("block_bytes_received_total"), 0, "something was fetched");
    // A part of a file is not yet the file.
    assert_eq!(there.get(&format!("{cid}/large"), &[("range", "bytes=0-9")]).status(), 206);
    assert_eq!(there.get(&format!("{cid}/large"), &cached).status(), 412);
    assert_eq!(there.get(&format!("{cid}/large?format=raw"), &cached).status(), 200);
    for name in ["large", "small"] {
        bytes(there.get(&format!("{cid}/{name}"), &[]));
    }
    for path in &paths {
        assert_ne!(there.get(path, &cached).status(), 412, "{path}");
    }
    assert_eq!(there.get(&format!("{cid}/none"), &cached).status(), 404, "nobody has to be asked for it");
}
