//! Refusals as the OCI distribution specification writes them: a status and a JSON body with codes.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::mirror::PullError;
use crate::mirror::access::Refusal;

/// How soon to ask again where nobody knows better.
const SOON: Duration = Duration::from_secs(1);

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("there is nothing at {0:?}: images are pulled from /v2/NAMESPACE/STREAM")]
    Nowhere(String),
    #[error("no such name: {0}")]
    NameInvalid(String),
    #[error("{0}")]
    NameUnknown(String),
    #[error("{0}")]
    DigestInvalid(String),
    #[error("{0}")]
    ManifestUnknown(String),
    #[error("referrers are not listed here; ask the registry that the image comes from")]
    NoReferrers,
    #[error("n is to be a number")]
    PageInvalid,
    #[error("images are only pulled here; push to the registry that the image stream imports from")]
    ReadOnly,
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Pull(#[from] PullError),
}

impl Problem {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NameInvalid(_) | Self::DigestInvalid(_) | Self::PageInvalid => StatusCode::BAD_REQUEST,
            Self::Nowhere(_) | Self::NameUnknown(_) | Self::ManifestUnknown(_) | Self::NoReferrers => {
                StatusCode::NOT_FOUND
            }
            Self::ReadOnly => StatusCode::METHOD_NOT_ALLOWED,
            Self::Refused(Refusal::NoCredentials | Refusal::BadCredentials) => StatusCode::UNAUTHORIZED,
            Self::Refused(Refusal::Denied(..)) => StatusCode::FORBIDDEN,
            Self::Refused(Refusal::Unavailable(_)) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Pull(error) => status(error),
        }
    }

    /// The code, of the specification where it has one.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Nowhere(_) | Self::NoReferrers | Self::ReadOnly => "UNSUPPORTED",
            Self::NameInvalid(_) => "NAME_INVALID",
            Self::NameUnknown(_) | Self::Pull(PullError::NameUnknown(_)) => "NAME_UNKNOWN",
            Self::DigestInvalid(_) => "DIGEST_INVALID",
            Self::ManifestUnknown(_) | Self::Pull(PullError::ManifestUnknown(_)) => "MANIFEST_UNKNOWN",
            Self::Pull(PullError::BlobUnknown(_)) => "BLOB_UNKNOWN",
            Self::PageInvalid => "PAGINATION_NUMBER_INVALID",
            Self::Refused(Refusal::NoCredentials | Refusal::BadCredentials) => "UNAUTHORIZED",
            Self::Refused(Refusal::Denied(..)) => "DENIED",
            Self::Pull(PullError::TooManyRequests { .. }) => "TOOMANYREQUESTS",
            Self::Pull(PullError::Range(_)) => "RANGE_INVALID",
            Self::Refused(Refusal::Unavailable(_)) | Self::Pull(PullError::NotLoaded | PullError::Upstream(_)) => {
                "UNAVAILABLE"
            }
            Self::Pull(PullError::Storage(_)) => "UNKNOWN",
        }
    }

    /// How long to wait before asking again, if that may help.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Pull(PullError::TooManyRequests { after, .. }) => Some(after.unwrap_or(SOON)),
            Self::Pull(PullError::NotLoaded) | Self::Refused(Refusal::Unavailable(_)) => Some(SOON),
            _ => None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({"errors": [{"code": self.code(), "message": self.to_string()}]}).to_string();
        let json = HeaderValue::from_static("application/json");
        let mut response = (self.status(), [(header::CONTENT_TYPE, json)], body).into_response();
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after() {
            // Whole seconds, and not before it is time.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
        }
        match self {
            Self::ReadOnly => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            Self::Pull(PullError::Range(size)) => {
                let range = HeaderValue::try_from(format!("bytes */{size}")).expect("digits are plain text");
                headers.insert(header::CONTENT_RANGE, range);
            }
            _ => {}
        }
        response
    }
}

fn status(error: &PullError) -> StatusCode {
    match error {
        PullError::NotLoaded => StatusCode::SERVICE_UNAVAILABLE,
        PullError::NameUnknown(_) | PullError::ManifestUnknown(_) | PullError::BlobUnknown(_) => StatusCode::NOT_FOUND,
        PullError::Range(_) => StatusCode::RANGE_NOT_SATISFIABLE,
        PullError::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
        PullError::Upstream(_) => StatusCode::BAD_GATEWAY,
        PullError::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
