//! The owner's word for a key that is no node, such as the page's: it may have functions run in this node's place.

use axum::extract::{ConnectInfo, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::net::SocketAddr;
use timerose_core::failure::Failure;
use timerose_core::id::NodeId;

use super::Shared;
use super::error::{ApiError, Body};

/// Whom to let.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DelegationBody {
    key: NodeId,
}

/// `POST /v1/delegations`: the signed delegation, as DAG-CBOR. To this machine alone, whoever else the API is opened to.
pub(super) async fn delegate(
    State(api): Shared,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Body(body): Body<DelegationBody>,
) -> Result<Response, ApiError> {
    if !is_here(&from) {
        let (rule, missing) = ("delegations are given on the node's own machine".into(), "a loopback address".into());
        let hint = "open the page there, or use the API by HTTP";
        return Err(ApiError::from(Failure::Denied { rule, missing }).with_hint(hint));
    }
    let sealed = api.ports.delegates.delegate(body.key);
    tracing::info!(key = %body.key, "may have functions run in this node's place for a day");
    Ok(([(CONTENT_TYPE, "application/vnd.ipld.dag-cbor")], sealed).into_response())
}

/// Whether a request comes from this machine.
fn is_here(from: &SocketAddr) -> bool {
    from.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_are_given_no_delegation() {
        let judge = |addr: &str| is_here(&addr.parse().expect("an address"));
        assert!(["127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"].into_iter().all(judge));
        assert!(!["192.0.2.1:80", "[2001:db8::1]:80", "[::ffff:192.0.2.1]:80", "0.0.0.0:80"].into_iter().any(judge));
    }
}
