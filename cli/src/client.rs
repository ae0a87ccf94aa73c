//! The client of a node's HTTP API: a running node's, or that of one started in this process.

use serde_json::Value;
use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use timerose_node::Running;
use ureq::Agent;
use ureq::http::Response;
use ureq::{Body, SendBody};

use crate::commands::serve;
use crate::error::CliError;
use crate::output::say;
use crate::paths::api_addrs;
use crate::text::url_part;

/// How long a running node may take to say that it is there.
const HELLO_WAIT: Duration = Duration::from_secs(2);
/// How long to wait for another command that has the folder.
const BUSY_WAIT: Duration = Duration::from_secs(20);
/// The longest line of an event stream, in bytes.
const EVENT_MAX: u64 = 16 << 20;

/// How long a request without a time-out of its own comes back to a mesh that is overloaded.
const PATIENCE: Duration = Duration::from_secs(30);
/// Nodes that a request may go on through when its own goes away.
const FAILOVERS_MAX: usize = 8;

/// A connection to a node. When it goes away, requests that may be repeated go on through the next one of the folder.
pub struct Client {
    agent: Agent,
    home: PathBuf,
    base: RefCell<String>,
    /// The nodes that went away.
    lost: RefCell<Vec<String>>,
    /// The node in this process, and what drives it.
    own: Option<(Running, tokio::runtime::Runtime)>,
}

impl Drop for Client {
    fn drop(&mut self) {
        // It keeps what it has promised before it ends.
        if let Some((running, runtime)) = self.own.take() {
            runtime.block_on(running.stop());
        }
    }
}

/// Whether a request may be sent again when nobody knows what became of it.
#[derive(Clone, Copy)]
pub enum Repeat<'a> {
    /// It comes to the same.
    Safe,
    /// Unless this function, which it calls, has effects.
    Unless(&'a str),
}

/// Why a request gave nothing.
pub enum Trouble {
    /// The node went away.
    Gone(CliError),
    /// The node said so.
    Said(CliError),
}

impl Trouble {
    fn into_error(self) -> CliError {
        match self {
            Trouble::Gone(error) | Trouble::Said(error) => error,
        }
    }
}

impl Client {
    /// Finds a running node of `home`, or starts one in this process.
    pub fn connect(home: &Path) -> Result<Client, CliError> {
        let begin = Instant::now();
        loop {
            if let Some(client) = Client::running(home) {
                return Ok(client);
            }
            match serve::start_here(home)? {
                Some(own) => return Ok(Client::new(agent(), home, format!("http://{}", own.0.api), Some(own))),
                // Another command has the folder for a moment, or a node is about to say where it is.
                None if begin.elapsed() < BUSY_WAIT => std::thread::sleep(Duration::from_millis(100)),
                None => {
                    let message = format!("another process has {} and does not answer", home.display());
                    return Err(CliError::unavailable(message, "end it, or set TIMEROSE_PATH to the folder of a running node"));
                }
            }
        }
    }

    /// Finds a running node of `home`.
    pub fn running(home: &Path) -> Option<Client> {
        let agent = agent();
        let base = api_addrs(home).into_iter().map(base).find(|base| is_there(&agent, base))?;
        Some(Client::new(agent, home, base, None))
    }

    fn new(agent: Agent, home: &Path, base: String, own: Option<(Running, tokio::runtime::Runtime)>) -> Client {
        Client { agent, home: home.to_path_buf(), base: base.into(), lost: RefCell::default(), own }
    }

    /// Asks for JSON.
    pub fn get(&self, path: &str) -> Result<Value, CliError> {
        self.ask(Repeat::Safe, |base| self.get_at(base, path))
    }

    /// Asks one node for JSON.
    pub fn get_at(&self, base: &str, path: &str) -> Result<Value, Trouble> {
        json(self.agent.get(format!("{base}{path}")).call())
    }

    /// Sends JSON and waits for JSON.
    pub fn post(&self, path: &str, body: &Value, repeat: Repeat) -> Result<Value, CliError> {
        patiently(body, |body| self.ask(repeat, |base| self.post_at(base, path, body)))
    }

    /// Sends JSON to one node and waits for JSON.
    pub fn post_at(&self, base: &str, path: &str, body: &Value) -> Result<Value, Trouble> {
        json(self.send(base, path, body))
    }

    fn send(&self, base: &str, path: &str, body: &Value) -> Result<Response<Body>, ureq::Error> {
        // The commands of one shell or script are one client: a loop of theirs leaves room for others.
        let client = std::os::unix::process::parent_id().to_string();
        let request = self.agent.post(format!("{base}{path}")).header("timerose-client", client);
        request.header("content-type", "application/json").send(body.to_string())
    }

    /// Opens a stream of events at one node and gives the data of the first.
    pub fn first_event(&self, base: &str, path: &str) -> Result<Option<Value>, Trouble> {
        let response = self.agent.get(format!("{base}{path}")).call().map_err(gone)?;
        if response.status() != 200 {
            return Err(refused(response));
        }
        let reader = BufReader::new(response.into_body().into_reader().take(EVENT_MAX));
        let first = reader.lines().map_while(Result::ok).find_map(|line| line.strip_prefix("data:").map(String::from));
        Ok(first.and_then(|data| serde_json::from_str(data.trim()).ok()))
    }

    /// Removes something and says what it was.
    pub fn delete(&self, path: &str) -> Result<Value, CliError> {
        self.ask(Repeat::Safe, |base| json(self.agent.delete(format!("{base}{path}")).call()))
    }

    /// Opens a file's bytes.
    pub fn read(&self, path: &str) -> Result<impl Read + use<>, CliError> {
        let response = self.ask(Repeat::Safe, |base| {
            let response = self.agent.get(format!("{base}{path}")).call().map_err(gone)?;
            if response.status() == 200 { Ok(response) } else { Err(refused(response)) }
        })?;
        Ok(response.into_body().into_with_config().limit(u64::MAX).reader())
    }

    /// Sends JSON and follows the events until the result; `news` sees what comes before, by its name.
    pub fn follow(
        &self,
        path: &str,
        body: &Value,
        repeat: Repeat,
        mut news: impl FnMut(&str, &Value),
    ) -> Result<Value, CliError> {
        let mut told = |name: &str, data: &Value| {
            news(name, data);
            Ok(())
        };
        patiently(body, |body| self.ask(repeat, |base| events(self.send(base, path, body).map_err(gone)?, &mut told)))
    }

    /// Follows the events of a path until the result, or until `news` fails, which sees what comes before, by its name.
    pub fn watch(&self, path: &str, mut news: impl FnMut(&str, &Value) -> Result<(), CliError>) -> Result<Value, CliError> {
        self.ask(Repeat::Safe, |base| events(self.agent.get(format!("{base}{path}")).call().map_err(gone)?, &mut news))
    }

    /// Sends bytes and waits for JSON.
    pub fn upload(&self, path: &str, kind: &str, body: SendBody<'_>) -> Result<Value, CliError> {
        let url = format!("{}{path}", self.base.borrow());
        json(self.agent.post(url).header("content-type", kind).send(body)).map_err(Trouble::into_error)
    }

    /// The nodes of the folder that answer; only the one in this process where there is one.
    pub fn bases(&self) -> Vec<String> {
        if self.own.is_some() {
            return vec![self.base.borrow().clone()];
        }
        api_addrs(&self.home).into_iter().map(base).filter(|base| is_there(&self.agent, base)).collect()
    }

    /// Checks that there is a node that does the work when this command has ended.
    pub fn outlives_us(&self) -> Result<(), CliError> {
        match self.own {
            None => Ok(()),
            Some(_) => Err(CliError::unavailable("no node is running that would do the work", "start one with timerose node")),
        }
    }

    /// Tries the node in use, and further ones as long as each goes away and the request may be repeated.
    fn ask<T>(&self, repeat: Repeat, mut attempt: impl FnMut(&str) -> Result<T, Trouble>) -> Result<T, CliError> {
        loop {
            let base = self.base.borrow().clone();
            let error = match attempt(&base) {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Said(error)) => return Err(error),
                Err(Trouble::Gone(error)) => error,
            };
            let Some(next) = self.next(&base) else { return Err(error) };
            if let Repeat::Unless(function) = repeat {
                let abi = self.get_at(&next, &format!("/v1/abi/{}", url_part(function))).map_err(Trouble::into_error)?;
                if abi["determinism"] == "effects" {
                    return Err(CliError::may_have_run(format!("the node at {base} went away")));
                }
            }
            say(&format!("the node at {base} went away; going on through {next}"));
            self.base.replace(next);
        }
    }

    /// The node to go on through when this one is gone.
    fn next(&self, gone: &str) -> Option<String> {
        let mut lost = self.lost.borrow_mut();
        lost.push(gone.to_string());
        if lost.len() > FAILOVERS_MAX {
            return None;
        }
        self.bases().into_iter().find(|base| !lost.contains(base))
    }
}

/// Tries `body` until the mesh takes it: where it is overloaded, that is when it says so, as long as that can be in time.
fn patiently(body: &Value, mut attempt: impl FnMut(&Value) -> Result<Value, CliError>) -> Result<Value, CliError> {
    let (begin, mut body) = (Instant::now(), body.clone());
    let given = body["timeout_ms"].as_u64().map(Duration::from_millis);
    loop {
        let refused = match attempt(&body) {
            Err(error) if error.retry_after.is_some() => error,
            other => return other,
        };
        let told = refused.retry_after.unwrap_or_default();
        // Those who were refused together do not come back together.
        let pause = told + told.mul_f64(0.5 * random());
        let left = |limit: Duration| limit.saturating_sub(begin.elapsed());
        if pause >= left(given.unwrap_or(PATIENCE)) {
            return Err(refused);
        }
        say(&format!("the mesh is overloaded: trying again in {} ms", pause.as_millis()));
        std::thread::sleep(pause);
        if let Some(limit) = given {
            body["timeout_ms"] = (left(limit).as_millis() as u64).into();
        }
    }
}

/// Somewhere between 0 and 1.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    bits as f64 / u64::MAX as f64
}

fn agent() -> Agent {
    Agent::config_builder().http_status_as_error(false).build().into()
}

fn base(addr: String) -> String {
    format!("http://{addr}")
}

/// Whether a node answers there.
fn is_there(agent: &Agent, base: &str) -> bool {
    let hello = agent.get(format!("{base}/healthz")).config().timeout_global(Some(HELLO_WAIT)).build().call();
    hello.is_ok_and(|response| response.status() == 200)
}

fn gone(error: ureq::Error) -> Trouble {
    Trouble::Gone(CliError::unavailable(format!("the node did not answer: {error}"), "is it still running? its log may say more"))
}

fn refused(mut response: Response<Body>) -> Trouble {
    let status = response.status();
    Trouble::Said(match response.body_mut().read_json::<Value>() {
        Ok(body) if body["code"].is_string() => CliError::from_api(&body),
        _ => CliError::unavailable(format!("the node answered {status}"), "is this a TimeRose node of the same version?"),
    })
}

fn json(answer: Result<Response<Body>, ureq::Error>) -> Result<Value, Trouble> {
    let mut response = answer.map_err(gone)?;
    if !response.status().is_success() {
        return Err(refused(response));
    }
    response.body_mut().with_config().limit(u64::MAX).read_json().map_err(gone)
}

/// Reads server-sent events: `view`, `call`, `job`, `progress` and `log`, then a `result` or an `error`.
fn events(response: Response<Body>, mut news: impl FnMut(&str, &Value) -> Result<(), CliError>) -> Result<Value, Trouble> {
    if response.status() != 200 {
        return Err(refused(response));
    }
    let mut reader = BufReader::new(response.into_body().into_with_config().limit(u64::MAX).reader());
    let (mut kind, mut line) = (String::new(), String::new());
    loop {
        line.clear();
        let read = reader.by_ref().take(EVENT_MAX).read_line(&mut line);
        // A node that is killed may break off as well as end.
        if read.unwrap_or(0) == 0 {
            let gone = CliError::unavailable("the node went away before the end", "call again; what is done is kept");
            return Err(Trouble::Gone(gone));
        }
        if let Some(name) = line.strip_prefix("event:") {
            kind = name.trim().to_string();
        } else if let Some(data) = line.strip_prefix("data:") {
            let data: Value = serde_json::from_str(data.trim()).map_err(|e| {
                let what = format!("the node sent no JSON: {e}");
                Trouble::Said(CliError::unavailable(what, "is this a node of the same version?"))
            })?;
            match kind.as_str() {
                "view" | "call" | "job" | "progress" | "log" => news(&kind, &data).map_err(Trouble::Said)?,
                "result" => return Ok(data),
                _ => return Err(Trouble::Said(CliError::from_api(&data))),
            }
        }
    }
}
