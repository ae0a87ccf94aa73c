//! The HTTP API: everything that the CLI does, as JSON over loopback. Its routes are listed in `docs/api.md`.

mod calls;
mod content;
mod error;
mod jobs;
mod repo;
mod status;
mod work;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use timerose_core::failure::Failure;
use timerose_core::io::{self, Input, Output};
use timerose_core::job::{JobDone, JobProgress};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::config::StartError;
use crate::ports::ApiPorts;
use error::ApiError;

/// The longest JSON body, in bytes: a call with its inline arguments in base64.
const BODY_MAX: usize = 4 << 20;
/// Bytes of bodies that are read at the same time; further ones wait.
const BODIES_MAX: usize = 64 << 20;
/// How long a body may take to come.
const BODY_WAIT: Duration = Duration::from_secs(30);
/// Progress reports of one job that wait for its reader; further ones are left out.
const PROGRESS_QUEUE: usize = 16;

/// What every route is given.
#[derive(Clone)]
struct Api {
    ports: ApiPorts,
    pending: Arc<Pending>,
    /// Room for bodies that are being read, in KiB.
    bodies_kib: Arc<Semaphore>,
}

/// Requests that the core has not answered.
#[derive(Default)]
struct Pending {
    calls: Mutex<HashMap<io::Request, oneshot::Sender<Result<io::Answer, Failure>>>>,
    jobs: Mutex<HashMap<io::Request, mpsc::Sender<JobNews>>>,
    accepts: Mutex<HashMap<io::Request, oneshot::Sender<Result<(), Failure>>>>,
    works: Mutex<HashMap<io::Request, oneshot::Sender<Vec<io::WorkView>>>>,
}

/// What is heard of a job.
enum JobNews {
    Progress(JobProgress),
    Ended(Result<JobDone, Failure>),
}

/// Serves the API on `addr` until the process ends, and gives the address it has.
pub(crate) async fn serve(addr: SocketAddr, ports: ApiPorts, outputs: mpsc::Receiver<Output>) -> Result<SocketAddr, StartError> {
    let fail = |e: std::io::Error| StartError::Listen { addr: addr.to_string(), why: e.to_string() };
    let listener = tokio::net::TcpListener::bind(addr).await.map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    let bodies_kib = Arc::new(Semaphore::new(BODIES_MAX / 1024));
    let api = Api { ports, pending: Arc::default(), bodies_kib };
    tokio::spawn(answer(api.pending.clone(), outputs));
    let router = router(api);
    tokio::spawn(async move {
        if let Err(why) = axum::serve(listener, router).await {
            tracing::error!(%why, "the API ended");
        }
    });
    Ok(bound)
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/healthz", get(status::healthz))
        .route("/metrics", get(status::metrics))
        .route("/v1/id", get(status::id))
        .route("/v1/members", get(status::members))
        .route("/v1/call", post(calls::call))
        .route("/v1/mapreduce", post(jobs::mapreduce))
        .route("/v1/work", get(work::list))
        .route("/v1/work/{handle}", get(work::get))
        .route("/v1/work/{handle}/cancel", post(work::cancel))
        .route("/v1/deploy", post(calls::deploy))
        .route("/v1/abi/{cid}", get(calls::abi))
        .route("/v1/receipt/{cid}", get(calls::receipt))
        .route("/v1/repo", get(repo::stat))
        .route("/v1/repo/verify", post(repo::verify))
        .route("/v1/add", post(content::add).layer(DefaultBodyLimit::disable()))
        .route("/v1/stat/{cid}", get(content::stat))
        .route("/v1/stat/{cid}/{*path}", get(content::stat))
        .route("/v1/ls/{cid}", get(content::ls))
        .route("/v1/ls/{cid}/{*path}", get(content::ls))
        .route("/v1/cat/{cid}", get(content::cat))
        .route("/v1/cat/{cid}/{*path}", get(content::cat))
        .fallback(|| async { ApiError::not_a_route().into_response() })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn(only_this_host))
        .with_state(api)
}

/// Refuses what a web page of another origin may have sent: whoever reaches this API acts as the node.
async fn only_this_host(request: Request, next: Next) -> Response {
    if is_of_this_host(request.headers()) { next.run(request).await } else { ApiError::foreign_origin().into_response() }
}

fn is_of_this_host(headers: &HeaderMap) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = header(HOST.as_str()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    // A name in place of an address is how DNS rebinding comes in; `localhost` is the exception that cannot be rebound.
    let address = name == "localhost" || name.parse::<std::net::IpAddr>().is_ok();
    // A picture on another site's page carries no Origin, but browsers say where it stands (Fetch Metadata).
    let embedded = header("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site");
    address && !embedded && header(ORIGIN.as_str()).is_none_or(|origin| origin == format!("http://{host}"))
}

/// Hands the core's answers to the requests that wait for them.
async fn answer(pending: Arc<Pending>, mut outputs: mpsc::Receiver<Output>) {
    while let Some(output) = outputs.recv().await {
        // Whoever waited may be gone; the core hears of that by `Cancel`.
        match output {
            Output::Reply { request, reply } => {
                if let Some(call) = pending.calls.lock().remove(&request) {
                    let _ = call.send(reply);
                }
            }
            Output::Accepted { request, reply } => {
                if let Some(accept) = pending.accepts.lock().remove(&request) {
                    let _ = accept.send(reply);
                }
            }
            Output::Works { request, works } => {
                if let Some(asked) = pending.works.lock().remove(&request) {
                    let _ = asked.send(works);
                }
            }
            Output::Progress { request, progress } => {
                if let Some(job) = pending.jobs.lock().get(&request) {
                    let _ = job.try_send(JobNews::Progress(progress));
                }
            }
            Output::JobReply { request, reply } => {
                if let Some(job) = pending.jobs.lock().remove(&request) {
                    // In a task: a reader that is slow to take progress must not hold up the others.
                    tokio::spawn(async move { job.send(JobNews::Ended(reply)).await });
                }
            }
            _ => {}
        }
    }
}

impl Api {
    /// Gives the core new work.
    async fn submit(&self, input: Input) -> Result<(), ApiError> {
        self.ports.work.send(input).await.map_err(|_| ApiError::ending())
    }

    /// Takes a request back when its reader is gone.
    fn guard(&self, request: io::Request) -> Guard {
        Guard { api: self.clone(), request, armed: true }
    }
}

/// Cancels a request unless it was answered.
struct Guard {
    api: Api,
    request: io::Request,
    armed: bool,
}

impl Guard {
    fn answered(mut self) {
        self.armed = false;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        self.api.pending.calls.lock().remove(&self.request);
        self.api.pending.jobs.lock().remove(&self.request);
        self.api.pending.accepts.lock().remove(&self.request);
        self.api.pending.works.lock().remove(&self.request);
        let (work, request) = (self.api.ports.work.clone(), self.request);
        tokio::spawn(async move { work.send(Input::Cancel { request }).await });
    }
}

/// The state as handlers take it.
type Shared = State<Api>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_hosts_and_foreign_pages_are_refused() {
        let judge = |host: &'static str, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().expect("a header"));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().expect("a header"));
            }
            is_of_this_host(&headers)
        };
        assert!(judge("127.0.0.1:80", None) && judge("[::1]:80", None) && judge("localhost:80", None));
        assert!(judge("127.0.0.1:80", Some("http://127.0.0.1:80")));
        assert!(!judge("evil.example:80", None), "a rebound name");
        assert!(!judge("127.0.0.1:80", Some("http://evil.example")), "another site's page");
        assert!(!judge("127.0.0.1:80", Some("null")), "a sandboxed page");
    }
}
