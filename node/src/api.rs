//! The HTTP API: everything that the CLI does, as JSON over loopback. Its routes are listed in `docs/api.md`.

mod bitswap;
mod calls;
mod content;
mod delegations;
mod deploy;
mod error;
mod events;
mod executors;
mod gateway;
mod jobs;
mod logs;
mod metrics;
mod net;
mod pins;
mod receipts;
mod repo;
mod page;
mod routing;
mod status;
mod traces;
mod work;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

use crate::client::Client;
use crate::config::StartError;
use crate::ports::ApiPorts;
use error::ApiError;

/// The longest JSON body, in bytes: a call with its inline arguments in base64.
const BODY_MAX: usize = 4 << 20;
/// Bytes of bodies that are read at the same time; further ones wait.
const BODIES_MAX: usize = 64 << 20;
/// How long a body may take to come.
const BODY_WAIT: Duration = Duration::from_secs(30);

/// What every route is given.
#[derive(Clone)]
struct Api {
    client: Client,
    ports: ApiPorts,
    events: events::Events,
    /// Room for bodies that are being read, in KiB.
    bodies_kib: Arc<Semaphore>,
}

pub(crate) use page::sockets;

/// Serves the API on `addr` until the process ends, and gives the address it has.
pub(crate) async fn serve(addr: SocketAddr, client: Client, ports: ApiPorts) -> Result<SocketAddr, StartError> {
    let fail = |e: std::io::Error| StartError::Listen { addr: addr.to_string(), why: e.to_string() };
    let listener = tokio::net::TcpListener::bind(addr).await.map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    let bodies_kib = Arc::new(Semaphore::new(BODIES_MAX / 1024));
    let router = router(Api { client, ports, events: events::Events::new(), bodies_kib });
    tokio::spawn(async move {
        if let Err(why) = axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await {
            tracing::error!(%why, "the API ended");
        }
    });
    Ok(bound)
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/assets/{*name}", get(page::asset))
        .route("/healthz", get(status::healthz))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/id", get(status::id))
        .route("/v1/members", get(status::members))
        .route("/v1/net", get(net::stat))
        .route("/v1/events", get(events::events))
        .route("/v1/executors", get(executors::executors))
        .route("/v1/call", post(calls::call))
        .route("/v1/traces/{id}", get(traces::trace))
        .route("/v1/logs/{task}", get(logs::log))
        .route("/v1/mapreduce", post(jobs::mapreduce))
        .route("/v1/work", get(work::list))
        .route("/v1/work/{handle}", get(work::get))
        .route("/v1/work/{handle}/cancel", post(work::cancel))
        .route("/v1/delegations", post(delegations::delegate))
        .route("/v1/deploy", post(deploy::deploy))
        .route("/v1/abi/{cid}", get(calls::abi))
        .route("/v1/receipt/{cid}", get(receipts::receipt))
        .route("/v1/proof/{cid}", get(receipts::proof))
        .route("/v1/lineage/{cid}", get(receipts::lineage))
        .route("/v1/provide", get(routing::provide))
        .route("/v1/providers/{cid}", get(routing::providers))
        .route("/v1/bitswap", get(bitswap::bitswap))
        .route("/v1/repo", get(repo::stat))
        .route("/v1/repo/gc", post(repo::gc))
        .route("/v1/pins", get(pins::list).post(pins::add))
        .route("/v1/pins/{cid}", delete(pins::remove))
        .route("/v1/repo/verify", post(repo::verify))
        .route("/v1/add", post(content::add).layer(DefaultBodyLimit::disable()))
        .route("/v1/dag/import", post(content::import).layer(DefaultBodyLimit::disable()))
        .route("/v1/dag/export/{cid}", get(content::export))
        .route("/ipfs/{cid}", get(gateway::get))
        .route("/ipfs/{cid}/", get(gateway::get))
        .route("/ipfs/{cid}/{*path}", get(gateway::get))
        .route("/v1/stat/{cid}", get(content::stat))
        .route("/v1/stat/{cid}/{*path}", get(content::stat))
        .route("/v1/ls/{cid}", get(content::ls))
        .route("/v1/ls/{cid}/{*path}", get(content::ls))
        .route("/v1/block/{cid}", get(content::block))
        .route("/v1/cat/{cid}", get(content::cat))
        .route("/v1/cat/{cid}/{*path}", get(content::cat))
        .fallback(|| async { ApiError::not_a_route().into_response() })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn(only_this_host))
        .with_state(api)
}

/// Refuses what a web page of another origin may have sent: whoever reaches this API acts as the node.
async fn only_this_host(request: Request, next: Next) -> Response {
    // Following a link to the page does nothing but show it: the page runs nothing by itself.
    let shows_page = request.method() == Method::GET && request.uri().path() == "/";
    let mut response = match is_of_this_host(request.headers(), shows_page) {
        true => next.run(request).await,
        false => ApiError::foreign_origin().into_response(),
    };
    page::guard(response.headers_mut());
    response
}

fn is_of_this_host(headers: &HeaderMap, shows_page: bool) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = header(HOST.as_str()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    // A name in place of an address is how DNS rebinding comes in; `localhost` is the exception that cannot be rebound.
    let address = name == "localhost" || name.parse::<std::net::IpAddr>().is_ok();
    // A picture on another site's page carries no Origin, but browsers say where it stands (Fetch Metadata).
    let foreign = header("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site");
    let followed = shows_page && header("sec-fetch-mode") == Some("navigate") && header("sec-fetch-dest") == Some("document");
    address && (!foreign || followed) && header(ORIGIN.as_str()).is_none_or(|origin| origin == format!("http://{host}"))
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
            is_of_this_host(&headers, false)
        };
        assert!(judge("127.0.0.1:80", None) && judge("[::1]:80", None) && judge("localhost:80", None));
        assert!(judge("127.0.0.1:80", Some("http://127.0.0.1:80")));
        assert!(!judge("evil.example:80", None), "a rebound name");
        assert!(!judge("127.0.0.1:80", Some("http://evil.example")), "another site's page");
        assert!(!judge("127.0.0.1:80", Some("null")), "a sandboxed page");
    }

    #[test]
    fn a_link_on_another_site_may_show_the_page_and_do_nothing_else() {
        let judge = |mode: &'static str, dest: &'static str, shows_page: bool| {
            let mut headers = HeaderMap::new();
            for (name, value) in
                [("host", "127.0.0.1:80"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)]
            {
                headers.insert(name, value.parse().expect("a header"));
            }
            is_of_this_host(&headers, shows_page)
        };
        assert!(judge("navigate", "document", true));
        assert!(!judge("navigate", "document", false), "a link to a route of the API");
        assert!(!judge("navigate", "iframe", true), "a frame");
        assert!(!judge("no-cors", "image", true), "a picture");
    }
}
