//! `doctor`: what is right and wrong with this machine, its node and the mesh around it.

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use super::deploy::interpreter;
use crate::args::Format;
use crate::client::Client;
use crate::error::CliError;
use crate::output::show;
use crate::paths::api_addrs;
use crate::text::{bytes, columns, plain};

/// Free space below which a node soon refuses writes, in bytes.
const DISK_FAIL: u64 = 256 << 20;
/// Free space that is worth a word, in bytes.
const DISK_WARN: u64 = 4 << 30;

/// How a check ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Warn,
    Fail,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "fail",
        }
    }
}

/// One check: what was found, and what to do where it is not right.
struct Finding {
    check: &'static str,
    state: State,
    cause: String,
    hint: &'static str,
}

impl Finding {
    fn ok(check: &'static str, cause: impl Into<String>) -> Finding {
        Finding { check, state: State::Ok, cause: cause.into(), hint: "" }
    }

    fn warn(check: &'static str, cause: impl Into<String>, hint: &'static str) -> Finding {
        Finding { check, state: State::Warn, cause: cause.into(), hint }
    }

    fn fail(check: &'static str, cause: impl Into<String>, hint: &'static str) -> Finding {
        Finding { check, state: State::Fail, cause: cause.into(), hint }
    }

    fn show(&self) -> Value {
        json!({"check": self.check, "state": self.state.name(), "cause": self.cause, "hint": self.hint})
    }
}

/// `timerose doctor`. It starts no node: it looks at what is there.
pub fn doctor(home: &Path, format: Format) -> Result<(), CliError> {
    let mut findings = vec![folder(home), disk(home), clock()];
    findings.extend(["python", "javascript"].map(script));
    let client = Client::running(home);
    findings.push(api(home, client.as_ref()));
    if let Some(client) = &client {
        findings.push(version(client));
        findings.extend(mesh(client));
    }
    let shown: Vec<Value> = findings.iter().map(Finding::show).collect();
    show(format, &json!(shown), || table(&findings))?;
    match findings.iter().filter(|finding| finding.state == State::Fail).count() {
        0 => Ok(()),
        failed => {
            let checks = if failed == 1 { "check" } else { "checks" };
            let error = CliError::usage(format!("{failed} {checks} failed"), "the lines that begin with fail say what to do");
            Err(CliError { code: "Unfit".into(), ..error })
        }
    }
}

fn table(findings: &[Finding]) -> String {
    let mut rows = vec![["STATE", "CHECK", "FINDING"].map(String::from).to_vec()];
    for finding in findings {
        rows.push(vec![finding.state.name().into(), finding.check.into(), plain(&finding.cause)]);
        if !finding.hint.is_empty() {
            rows.push(vec![String::new(), String::new(), format!("hint: {}", finding.hint)]);
        }
    }
    columns(&rows)
}

fn folder(home: &Path) -> Finding {
    const CHECK: &str = "data folder";
    if !home.exists() {
        return Finding::ok(CHECK, format!("{} is made by the first command that needs it", home.display()));
    }
    let trial = home.join(format!("doctor.{}", std::process::id()));
    match fs::write(&trial, "").and_then(|()| fs::remove_file(&trial)) {
        Ok(()) => Finding::ok(CHECK, format!("{} can be written", home.display())),
        Err(error) => Finding::fail(
            CHECK,
            format!("{} cannot be written: {error}", home.display()),
            "mend its permissions, free space there, or choose another with TIMEROSE_PATH",
        ),
    }
}

/// The space that is left where the folder is or will be.
fn disk(home: &Path) -> Finding {
    const CHECK: &str = "disk";
    let hint = "free space there, or let timerose repo gc remove what nothing needs";
    let there = home.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    match free(there) {
        None => Finding::warn(CHECK, "df does not say how much is free", "look whether df is there and what it says"),
        Some(left) if left < DISK_FAIL => Finding::fail(CHECK, format!("{} are free", bytes(left)), hint),
        Some(left) if left < DISK_WARN => Finding::warn(CHECK, format!("{} are free", bytes(left)), hint),
        Some(left) => Finding::ok(CHECK, format!("{} are free", bytes(left))),
    }
}

/// Bytes that a user may still write below `folder`, as POSIX's `df` says.
fn free(folder: &Path) -> Option<u64> {
    let said = Command::new("df").arg("-Pk").arg(folder).output().ok().filter(|said| said.status.success())?;
    available(&String::from_utf8_lossy(&said.stdout))
}

/// The column of what is available, in bytes. It is counted from the capacity, as the name of a file system may have spaces.
fn available(said: &str) -> Option<u64> {
    let words: Vec<&str> = said.lines().nth(1)?.split_whitespace().collect();
    let capacity = words.iter().rposition(|word| word.ends_with('%'))?;
    words.get(capacity.checked_sub(1)?)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// A clock that was never set makes sessions and letters expire at once.
fn clock() -> Finding {
    const CHECK: &str = "clock";
    let made = std::env::current_exe().and_then(fs::metadata).and_then(|file| file.modified());
    match made {
        Ok(made) if SystemTime::now() < made => Finding::fail(
            CHECK,
            "it stands before the time at which this program was written to disk",
            "set the clock: peers refuse what was signed long ago or is yet to come",
        ),
        _ => Finding::ok(CHECK, "it stands after the time at which this program was written to disk"),
    }
}

fn script(language: &'static str) -> Finding {
    match interpreter(language) {
        Some(file) => Finding::ok(language, format!("its interpreter is {}", file.display())),
        None => Finding::warn(
            language,
            "its interpreter does not lie beside this program",
            "such scripts run where the mesh has it already; else scripts/interpreters gets it",
        ),
    }
}

fn api(home: &Path, client: Option<&Client>) -> Finding {
    const CHECK: &str = "node";
    match (client, api_addrs(home).len()) {
        (Some(client), listed) => match client.bases().len() {
            answer if answer < listed => Finding::warn(
                CHECK,
                format!("{answer} of the {listed} nodes of this folder answer"),
                "those that ended stay away; look at the log of those that should run",
            ),
            answer => Finding::ok(CHECK, format!("{answer} running in this folder, the API answers")),
        },
        (None, 0) => Finding::warn(
            CHECK,
            "none is running in this folder",
            "commands start one for as long as they take; timerose up or timerose node runs one",
        ),
        (None, _) => Finding::fail(
            CHECK,
            "none of those that this folder lists answers",
            "if its process is there it hangs: end it; then start it again with timerose up or timerose node",
        ),
    }
}

fn version(client: &Client) -> Finding {
    const CHECK: &str = "version";
    let own = env!("CARGO_PKG_VERSION");
    match client.get("/v1/id") {
        Ok(id) if id["version"] == own => Finding::ok(CHECK, format!("program and node are {own}")),
        Ok(id) => Finding::warn(
            CHECK,
            format!("the program is {own}, the node {}", id["version"].as_str().unwrap_or("unknown")),
            "run both from the same build: start the node again",
        ),
        Err(error) => Finding::fail(CHECK, error.message, "is this a TimeRose node of the same version?"),
    }
}

/// Who is in reach, and whether anybody runs anything.
fn mesh(client: &Client) -> Vec<Finding> {
    match client.get("/v1/members") {
        Ok(members) => judge(members.as_array().map(Vec::as_slice).unwrap_or_default()),
        Err(error) => vec![Finding::fail("peers", error.message, "its log says more")],
    }
}

fn judge(members: &[Value]) -> Vec<Finding> {
    let is = |member: &Value, name: &str| member[name] == json!(true);
    let reached = |member: &Value| is(member, "self") || is(member, "connected") || member["channel"] == json!("pubsub");
    let others: Vec<&Value> = members.iter().filter(|member| !is(member, "self") && !is(member, "left")).collect();
    let here = others.iter().filter(|member| reached(member)).count();
    let peers = match (here, others.len()) {
        (_, 0) => {
            Finding::warn("peers", "this node is alone", "timerose node --join ADDRESS joins a mesh; timerose up makes one")
        }
        (0, all) => Finding::fail(
            "peers",
            format!("none of {all} is in reach"),
            "is the network up, and do the peers run? see timerose members",
        ),
        (here, all) if here < all => {
            Finding::warn("peers", format!("{here} of {all} are in reach"), "timerose members shows which are not")
        }
        (here, _) => Finding::ok("peers", format!("{here} in reach")),
    };
    let runs = |member: &Value| member["roles"].as_array().is_some_and(|roles| roles.contains(&json!("executor")));
    let lends =
        |member: &&Value| runs(member) && reached(member) && !is(member, "left") && (is(member, "self") || is(member, "trusted"));
    let slots: u64 = members.iter().filter(lends).filter_map(|member| member["slots"].as_u64()).sum();
    let slots = match slots {
        0 => Finding::fail(
            "slots",
            "no trusted member in reach runs anything",
            "start a node with the role executor and trust its key",
        ),
        slots => Finding::ok("slots", format!("{slots} offered by trusted members in reach")),
    };
    vec![peers, slots]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(members: &Value) -> Vec<(&'static str, &'static str)> {
        let members = members.as_array().expect("an array");
        judge(members).iter().map(|finding| (finding.check, finding.state.name())).collect()
    }

    #[test]
    fn who_is_in_reach_and_runs_what_decides() {
        let me = json!({"self": true, "connected": true, "roles": ["scheduler"], "slots": 4});
        let peer = |connected: bool, trusted: bool| json!({"self": false, "connected": connected, "trusted": trusted, "roles": ["executor"], "slots": 2});
        assert_eq!(states(&json!([me])), [("peers", "warn"), ("slots", "fail")]);
        assert_eq!(states(&json!([me, peer(true, true)])), [("peers", "ok"), ("slots", "ok")]);
        assert_eq!(states(&json!([me, peer(true, false)])), [("peers", "ok"), ("slots", "fail")], "nobody believes it");
        assert_eq!(states(&json!([me, peer(false, true)])), [("peers", "fail"), ("slots", "fail")]);
        assert_eq!(states(&json!([me, peer(true, true), peer(false, true)])), [("peers", "warn"), ("slots", "ok")]);
    }

    #[test]
    fn free_space_is_read_whatever_the_file_system_is_called() {
        let said = "Filesystem 1024-blocks Used Available Capacity Mounted on\na share 100 40 60 40% /a b%\n";
        assert_eq!(available(&said.replace(" b%", "")), Some(60 << 10));
        assert_eq!(available("Filesystem\n"), None);
        assert_eq!(available(""), None);
    }
}
