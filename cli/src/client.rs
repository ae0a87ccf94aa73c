//! The client of a node's HTTP API: a running node's, or that of one started in this process.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::{Duration, Instant};
use timerose_node::Running;
use ureq::Agent;
use ureq::http::Response;
use ureq::{Body, SendBody};

use crate::commands::serve;
use crate::error::CliError;
use crate::paths::api_addrs;

/// How long a running node may take to say that it is there.
const HELLO_WAIT: Duration = Duration::from_secs(2);
/// How long to wait for another command that has the folder.
const BUSY_WAIT: Duration = Duration::from_secs(20);
/// The longest line of an event stream, in bytes.
const EVENT_MAX: u64 = 16 << 20;

/// A connection to a node.
pub struct Client {
    agent: Agent,
    base: String,
    /// The node in this process, and what drives it.
    _own: Option<(Running, tokio::runtime::Runtime)>,
}

impl Client {
    /// Finds a running node of `home`, or starts one in this process.
    pub fn connect(home: &Path) -> Result<Client, CliError> {
        let agent: Agent = Agent::config_builder().http_status_as_error(false).build().into();
        let begin = Instant::now();
        loop {
            for addr in api_addrs(home) {
                let base = format!("http://{addr}");
                let hello = agent.get(format!("{base}/healthz")).config().timeout_global(Some(HELLO_WAIT)).build().call();
                if hello.is_ok_and(|response| response.status() == 200) {
                    return Ok(Client { agent, base, _own: None });
                }
            }
            match serve::start_here(home)? {
                Some(own) => {
                    let base = format!("http://{}", own.0.api);
                    return Ok(Client { agent, base, _own: Some(own) });
                }
                // Another command has the folder for a moment, or a node is about to say where it is.
                None if begin.elapsed() < BUSY_WAIT => std::thread::sleep(Duration::from_millis(100)),
                None => {
                    let message = format!("another process has {} and does not answer", home.display());
                    return Err(CliError::unavailable(message, "end it, or set TIMEROSE_PATH to the folder of a running node"));
                }
            }
        }
    }

    /// Asks for JSON.
    pub fn get(&self, path: &str) -> Result<Value, CliError> {
        json(self.agent.get(self.url(path)).call())
    }

    /// Sends JSON and waits for JSON.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        let sent = self.agent.post(self.url(path)).header("content-type", "application/json").send(body.to_string());
        json(sent)
    }

    /// Opens a file's bytes.
    pub fn read(&self, path: &str) -> Result<impl Read + use<>, CliError> {
        let response = self.agent.get(self.url(path)).call().map_err(gone)?;
        if response.status() != 200 {
            return Err(refused(response));
        }
        Ok(response.into_body().into_with_config().limit(u64::MAX).reader())
    }

    /// Sends JSON and follows the events until the result; `progress` sees what comes before.
    pub fn follow(&self, path: &str, body: &Value, progress: impl FnMut(&Value)) -> Result<Value, CliError> {
        let sent = self.agent.post(self.url(path)).header("content-type", "application/json").send(body.to_string());
        events(sent.map_err(gone)?, progress)
    }

    /// Sends bytes and waits for JSON.
    pub fn upload(&self, path: &str, kind: &str, body: SendBody<'_>) -> Result<Value, CliError> {
        json(self.agent.post(self.url(path)).header("content-type", kind).send(body))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

fn gone(error: ureq::Error) -> CliError {
    CliError::unavailable(format!("the node did not answer: {error}"), "is it still running? its log may say more")
}

fn refused(mut response: Response<Body>) -> CliError {
    let status = response.status();
    match response.body_mut().read_json::<Value>() {
        Ok(body) if body["code"].is_string() => CliError::from_api(&body),
        _ => CliError::unavailable(format!("the node answered {status}"), "is this a TimeRose node of the same version?"),
    }
}

fn json(answer: Result<Response<Body>, ureq::Error>) -> Result<Value, CliError> {
    let mut response = answer.map_err(gone)?;
    if response.status() != 200 {
        return Err(refused(response));
    }
    response.body_mut().with_config().limit(u64::MAX).read_json().map_err(gone)
}

/// Reads server-sent events: `progress` ones, then a `result` or an `error`.
fn events(response: Response<Body>, mut progress: impl FnMut(&Value)) -> Result<Value, CliError> {
    if response.status() != 200 {
        return Err(refused(response));
    }
    let mut reader = BufReader::new(response.into_body().into_with_config().limit(u64::MAX).reader());
    let (mut kind, mut line) = (String::new(), String::new());
    loop {
        line.clear();
        let read = reader.by_ref().take(EVENT_MAX).read_line(&mut line);
        if read.map_err(|e| CliError::unavailable(format!("the node broke off: {e}"), "call again"))? == 0 {
            return Err(CliError::unavailable("the node went away before the end", "call again; what is done is kept"));
        }
        if let Some(name) = line.strip_prefix("event:") {
            kind = name.trim().to_string();
        } else if let Some(data) = line.strip_prefix("data:") {
            let data: Value = serde_json::from_str(data.trim()).map_err(|e| {
                CliError::unavailable(format!("the node sent no JSON: {e}"), "is this a node of the same version?")
            })?;
            match kind.as_str() {
                "progress" => progress(&data),
                "result" => return Ok(data),
                _ => return Err(CliError::from_api(&data)),
            }
        }
    }
}
