//! Failures as HTTP answers: a status, and JSON with a code, a message, a hint, and the particulars.

use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use timerose_core::failure::Failure;

use super::{Api, BODY_MAX, BODY_WAIT};

/// An answer that is no result.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    body: Value,
    retry_after_s: Option<u64>,
}

impl ApiError {
    /// A request that makes no sense, and why.
    pub fn usage(message: impl Into<String>, hint: &str) -> ApiError {
        let body = json!({"code": "Usage", "message": message.into(), "hint": hint});
        ApiError { status: StatusCode::BAD_REQUEST, body, retry_after_s: None }
    }

    pub fn not_a_route() -> ApiError {
        ApiError { status: StatusCode::NOT_FOUND, ..ApiError::usage("there is no such route", "docs/api.md lists them") }
    }

    pub fn not_promised(handle: &cid::Cid) -> ApiError {
        let body = json!({
            "code": "NotFound",
            "message": format!("this node has no work {handle}"),
            "hint": "the node that accepted it keeps the outcome for a day; timerose ps lists what is kept",
            "cid": handle.to_string(),
        });
        ApiError { status: StatusCode::NOT_FOUND, body, retry_after_s: None }
    }

    pub fn not_traced(trace: &str) -> ApiError {
        let (what, hint) = ("no node in reach knows the trace", "nodes keep the latest in memory alone; a call tells its trace");
        ApiError::gone(format!("{what} {trace}"), hint)
    }

    pub fn no_log(task: &str) -> ApiError {
        let hint = "nodes keep the latest for an hour, in memory alone; follow it if the task is still to run";
        ApiError::gone(format!("no node in reach has a log of {task}"), hint)
    }

    /// What is kept for a while, and is not here any more or not yet.
    fn gone(message: String, hint: &str) -> ApiError {
        let body = json!({"code": "NotFound", "message": message, "hint": hint});
        ApiError { status: StatusCode::NOT_FOUND, body, retry_after_s: None }
    }

    /// A path that names nothing.
    pub fn no_entry(path: &str) -> ApiError {
        let body = json!({"code": "NotFound", "message": format!("{path} names nothing"), "hint": "the folder above it is listed at its own address"});
        ApiError { status: StatusCode::NOT_FOUND, body, retry_after_s: None }
    }

    pub fn foreign_origin() -> ApiError {
        let failure = Failure::Denied {
            rule: "the API serves this host alone".into(),
            missing: "an address as Host, and no foreign Origin".into(),
        };
        failure.into()
    }

    pub fn ending() -> ApiError {
        Failure::NodeFailed { what: "the node is ending".into() }.into()
    }

    /// The same with another hint.
    pub fn with_hint(mut self, hint: &str) -> ApiError {
        self.body["hint"] = hint.into();
        self
    }

    /// The same with the trace of the request that failed.
    pub fn of_trace(mut self, trace: Option<String>) -> ApiError {
        self.body["trace"] = trace.into();
        self
    }

    /// The JSON of the answer.
    pub fn body(&self) -> &Value {
        &self.body
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> ApiError {
        let status = match &failure {
            Failure::NotFound { .. } => StatusCode::NOT_FOUND,
            Failure::NoExecutor { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Failure::Overloaded { .. } => StatusCode::TOO_MANY_REQUESTS,
            Failure::Denied { .. } => StatusCode::FORBIDDEN,
            Failure::BadArgument { .. } => StatusCode::BAD_REQUEST,
            Failure::Rejected { .. } | Failure::FunctionFailed { .. } | Failure::LimitExceeded { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Failure::DeadlineExceeded { .. } => StatusCode::GATEWAY_TIMEOUT,
            Failure::Cancelled => StatusCode::CONFLICT,
            Failure::StorageFull { .. } => StatusCode::INSUFFICIENT_STORAGE,
            Failure::Corrupt { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Failure::NodeFailed { .. } | Failure::MayHaveRun { .. } => StatusCode::BAD_GATEWAY,
        };
        let retry_after_s = match &failure {
            Failure::Overloaded { retry_after_ms } => Some(retry_after_ms.div_ceil(1000)),
            _ => None,
        };
        let mut body = json!({"code": failure.code(), "message": failure.to_string(), "hint": failure.hint()});
        let more = match &failure {
            Failure::NotFound { cid, asked, failed, more } => {
                json!({"cid": cid.to_string(), "asked": asked, "failed": failed, "more": more})
            }
            Failure::NoExecutor { needed, seen } => json!({"needed": needed, "seen": seen}),
            Failure::Overloaded { retry_after_ms } => json!({"retry_after_ms": retry_after_ms}),
            Failure::Denied { rule, missing } => json!({"rule": rule, "missing": missing}),
            Failure::Rejected { finding } => json!({"finding": finding}),
            Failure::FunctionFailed { exit, stderr } => json!({"exit": exit, "stderr": stderr}),
            Failure::LimitExceeded { which, at } => json!({"which": which, "at": at}),
            Failure::DeadlineExceeded { stage } => json!({"stage": stage}),
            Failure::BadArgument { index, wanted, got } => json!({"index": index, "wanted": wanted, "got": got}),
            Failure::StorageFull { at, max } => json!({"at": at, "max": max}),
            Failure::Corrupt { cid, at } => json!({"cid": cid.to_string(), "at": at}),
            Failure::Cancelled | Failure::NodeFailed { .. } | Failure::MayHaveRun { .. } => json!({}),
        };
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        ApiError { status, body, retry_after_s }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// A JSON body; what does not fit is refused with a reason in JSON, not in plain text.
pub(super) struct Body<T>(pub T);

impl<T: serde::de::DeserializeOwned> FromRequest<Api> for Body<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let kib = length.unwrap_or(BODY_MAX).min(BODY_MAX) / 1024 + 1;
        // The semaphore is never closed.
        let _room = api.bodies_kib.acquire_many(kib as u32).await.map_err(|_| ApiError::ending())?;
        let read = tokio::time::timeout(BODY_WAIT, Json::<T>::from_request(request, api)).await;
        let read = read.map_err(|_| ApiError {
            status: StatusCode::REQUEST_TIMEOUT,
            ..ApiError::usage("the body did not come in time", "send it at once")
        })?;
        read.map(|Json(body)| Body(body)).map_err(|refused| ApiError {
            status: refused.status(),
            ..ApiError::usage(
                refused.body_text(),
                "docs/api.md lists what each route takes, docs/functions.md what a manifest may say",
            )
        })
    }
}
