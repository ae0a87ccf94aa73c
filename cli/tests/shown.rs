//! What users see, word for word: results, errors and hints of commands whose outcome is always the same.

#[path = "mesh/world.rs"]
#[allow(dead_code, reason = "shared with the mesh tests, which use more of it")]
mod world;

use expect_test::{Expect, expect};
use world::World;

/// Runs a command without a node and compares all that it says. `$DIR` stands for the test's folder, `$NODE` for the node
/// that the command starts for itself.
fn check(world: &World, args: &[&str], expected: Expect) {
    let said = world.command(&world.path("home"), args);
    let dir = world.dir.path().display().to_string();
    let shown =
        format!("{}{}exit {}\n", said.stdout, said.stderr, said.code).replace(&dir, "$DIR").replace(&world.did("home"), "$NODE");
    expected.assert_eq(&shown);
}

/// A deployed function that is the same in every build: two entries, one of which never returns what it should.
fn function(world: &World, timeout_ms: u32) -> String {
    let module = wat::parse_str(
        r#"(module
        (memory (export "memory") 1)
        (func (export "alloc") (param i32) (result i32) (i32.const 1024))
        (func (export "same") (param i32 i32) (result i32) (local.get 1))
        (func (export "trap") (param i32 i32) (result i32) (unreachable))
        (func (export "loop") (param i32 i32) (result i32) (loop (br 0)) (i32.const 0)))"#,
    );
    world.write("f.wasm", module.expect("a module"));
    world.write("f.toml", format!("[about]\nname = \"sample\"\nlicense = \"MIT\"\n[limits]\ntimeout_ms = {timeout_ms}\n"));
    world.command(&world.path("home"), &["deploy", "f.wasm", "--manifest", "f.toml"]).ok()
}

#[test]
fn content_and_functions_are_shown_the_same_every_time() {
    let world = World::new();
    world.write("tree/hello", "hello\n");
    world.write("tree/sub/empty", "");
    check(
        &world,
        &["add", "tree"],
        expect![[r#"
        bafybeigoq45j3hxcyo5cpap2fltue4fjal5j6555caez7r25rxtovvicuy
        exit 0
    "#]],
    );
    let tree = world.command(&world.path("home"), &["add", "tree"]).ok();
    check(
        &world,
        &["ls", &tree],
        expect![[r#"
        bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am  6 B  hello
        bafybeigalvxqcgqiogiv6bimmxedgxbhu7cikwhwha2c2iqzdbnabewjai  -    sub/
        exit 0
    "#]],
    );
    check(
        &world,
        &["ls", &tree, "-o", "json"],
        expect![[r#"
            [{"cid":"bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am","kind":"file","name":"hello","size":6},{"cid":"bafybeigalvxqcgqiogiv6bimmxedgxbhu7cikwhwha2c2iqzdbnabewjai","kind":"folder","name":"sub","size":53}]
            exit 0
        "#]],
    );
    for root in ["", "/ipfs/", "ipfs://"] {
        let said = world.command(&world.path("home"), &["cat", &format!("{root}{tree}/hello")]);
        assert_eq!((said.code, said.stdout.as_str()), (0, "hello\n"), "{root}");
    }
    let function = function(&world, 200);
    check(
        &world,
        &["abi", &function],
        expect![[r#"
        function  bafyreiabz3kgd3c7i7dd7rehpkxzbzw7r7ggh3sl2pn5hrttceidi5q42i
        name      sample
        license   MIT
        engine    wasm-fan
        code      bafkreifqoa2rox3g36jpmfzj73v6kcyllgc2o4inimzwej5mvrzmn7cwwe
        results   pure
        limits    256.0 MiB memory, 200 ms, 64.0 MiB output
        entry     loop(a: bytes) -> bytes
        entry     same(a: bytes) -> bytes
        entry     trap(a: bytes) -> bytes
        exit 0
    "#]],
    );
    check(
        &world,
        &["call", &function, "--entry", "same", "--arg", "echo", "--cat"],
        expect![[r#"
        echoexit 0
    "#]],
    );
}

#[test]
fn content_that_cannot_be_had_is_named_with_what_to_do() {
    let world = World::new();
    let nowhere = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyka";
    check(
        &world,
        &["cat", nowhere],
        expect![[r#"
        error: NotFound: bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyka was not found; 0 peers were asked
         hint: this node has no peers: join one with --join, or add the content here
        exit 3
    "#]],
    );
    check(
        &world,
        &["cat", "nonsense"],
        expect![[r#"
            error: Usage: "nonsense" is not a CID
             hint: a CID looks like bafy… or bafk…; timerose add and timerose deploy print them
            exit 2
        "#]],
    );
    check(
        &world,
        &["add", "missing"],
        expect![[r#"
        error: Io: missing: No such file or directory (os error 2)
         hint: check the path and its permissions
        exit 1
    "#]],
    );
    check(
        &world,
        &["abi", nowhere],
        expect![[r#"
        error: NotFound: bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyka was not found; 0 peers were asked
         hint: this node has no peers: join one with --join, or add the content here
        exit 3
    "#]],
    );
}

#[test]
fn a_call_that_fails_says_at_which_limit_or_argument() {
    let world = World::new();
    let function = function(&world, 200);
    check(
        &world,
        &["call", &function],
        expect![[r#"
        error: BadArgument: argument 0: wanted an entry out of loop, same, trap, got ""
         hint: timerose abi FN shows what the function takes
        exit 2
    "#]],
    );
    check(
        &world,
        &["call", &function, "--entry", "same"],
        expect![[r#"
            error: BadArgument: argument 0: wanted 1 argument, got 0
             hint: timerose abi FN shows what the function takes
            exit 2
        "#]],
    );
    check(
        &world,
        &["call", &function, "--entry", "trap", "--arg", "x"],
        expect![[r#"
        error: FunctionFailed: the function failed with exit code 134: wasm trap: wasm `unreachable` instruction executed
          in function 2
         hint: read the guest's message above
        exit 5
    "#]],
    );
    check(
        &world,
        &["call", &function, "--entry", "loop", "--arg", "x"],
        expect![[r#"
            error: LimitExceeded: the function went over its time limit of 200 ms
             hint: raise limits.timeout_ms in the manifest and deploy again, or give it less to do
            exit 5
        "#]],
    );
    let patient = self::function(&world, 600_000);
    check(
        &world,
        &["call", &patient, "--entry", "loop", "--arg", "x", "--timeout", "3s"],
        expect![[r#"
            error: DeadlineExceeded: the deadline passed while running on $NODE
             hint: allow more with --timeout
            exit 6
        "#]],
    );
}

#[test]
fn a_node_is_not_started_with_what_it_does_not_know() {
    let world = World::new();
    check(
        &world,
        &["node", "--trust", "me"],
        expect![[r#"
        error: Usage: "me": not a did:key of an Ed25519 key
         hint: timerose id shows a node's did:key
        exit 2
    "#]],
    );
    check(
        &world,
        &["node", "--roles", "king"],
        expect![[r#"
        error: Usage: "king" is no role
         hint: roles are executor, scheduler and store
        exit 2
    "#]],
    );
    check(
        &world,
        &["node", "--listen", "here"],
        expect![[r#"
        error: Usage: "here" is not a multiaddr: invalid multiaddr
         hint: such as /ip4/127.0.0.1/tcp/4001 or /ip4/127.0.0.1/udp/4001/quic-v1
        exit 2
    "#]],
    );
}

#[test]
fn the_traffic_of_a_node_that_is_alone_is_none() {
    let world = World::new();
    check(
        &world,
        &["net", "stat"],
        expect![[r#"
        PROTOCOL  IN  BYTES IN  OUT  BYTES OUT  DROPPED  REFUSED
        tasks     0   0 B       0    0 B        0        0
        bitswap   0   0 B       0    0 B        -        0
        kad       0   -         0    -          -        -

        TOPICS   IN  BYTES IN  OUT  BYTES OUT  DROPPED  REFUSED  LIMITED  JOINED  LISTENERS  MESH
        members  0   0 B       0    0 B        0        0        0        1       0          0
        tasks    0   0 B       0    0 B        0        0        0        1       0          0
        replies  0   0 B       0    0 B        0        0        0        1       0          0

        TRANSPORT  IN  OUT
        quic       0   0
        relayed    0   0
        tcp        0   0
        websocket  0   0

        peers                                    0
        of them through a relay alone            0
        can be dialled, as peers found           -
        DHT                                      /ipfs/lan/kad/1.0.0, server
        reservations at this relay               0
        circuits through this relay              0
        copies of gossip dropped for slow peers  0
        exit 0
    "#]],
    );
    check(
        &world,
        &["net", "stat", "-o", "json"],
        expect![[r#"
        {"connections":[{"in":0,"out":0,"transport":"quic"},{"in":0,"out":0,"transport":"relayed"},{"in":0,"out":0,"transport":"tcp"},{"in":0,"out":0,"transport":"websocket"}],"copies_dropped":0,"dht":{"mode":"server","protocol":"/ipfs/lan/kad/1.0.0"},"peers":0,"peers_relayed":0,"protocols":[{"bytes_in":0,"bytes_out":0,"dropped":0,"in":0,"out":0,"protocol":"tasks","refused":0},{"bytes_in":0,"bytes_out":0,"dropped":null,"in":0,"out":0,"protocol":"bitswap","refused":0},{"bytes_in":null,"bytes_out":null,"dropped":null,"in":0,"out":0,"protocol":"kad","refused":null}],"reachable":null,"relay":{"circuits":0,"reservations":0},"topics":[{"bytes_in":0,"bytes_out":0,"dropped":0,"in":0,"joined":1,"limited":0,"listeners":0,"mesh":0,"out":0,"refused":0,"topic":"members"},{"bytes_in":0,"bytes_out":0,"dropped":0,"in":0,"joined":1,"limited":0,"listeners":0,"mesh":0,"out":0,"refused":0,"topic":"tasks"},{"bytes_in":0,"bytes_out":0,"dropped":0,"in":0,"joined":1,"limited":0,"listeners":0,"mesh":0,"out":0,"refused":0,"topic":"replies"}]}
        exit 0
    "#]],
    );
}

#[test]
fn code_and_manifests_that_do_not_fit_are_not_deployed() {
    let world = World::new();
    function(&world, 200);
    world.write("bad.wasm", "no module");
    check(
        &world,
        &["deploy", "bad.wasm"],
        expect![[r#"
            error: Rejected: the code is no wasm module: it does not begin with \0asm
             hint: mend the module or its manifest, and deploy again
            exit 2
        "#]],
    );
    world.write("typo.toml", "[limit]\ntimeout_ms = 5\n");
    check(
        &world,
        &["deploy", "f.wasm", "--manifest", "typo.toml"],
        expect![[r#"
            error: Usage: Failed to deserialize the JSON body into the target type: manifest.limit: unknown field `limit`, expected one of `engine`, `entries`, `determinism`, `limits`, `args`, `env`, `mounts`, `about` at line 1 column 89
             hint: docs/api.md lists what each route takes, docs/functions.md what a manifest may say
            exit 2
        "#]],
    );
    world.write("broken.toml", "[limits\n");
    check(
        &world,
        &["deploy", "f.wasm", "--manifest", "broken.toml"],
        expect![[r#"
            error: Usage: broken.toml: TOML parse error at line 1, column 8
              |
            1 | [limits
              |        ^
            unclosed table, expected `]`
             hint: docs/functions.md shows a manifest
            exit 2
        "#]],
    );
    world.write("wrong.toml", "[[entries]]\nname = \"other\"\nresult = \"text\"\nparams = []\n");
    check(
        &world,
        &["deploy", "f.wasm", "--manifest", "wrong.toml"],
        expect![[r#"
        error: Rejected: the module does not export the function "other"
         hint: mend the module or its manifest, and deploy again
        exit 2
    "#]],
    );
}
