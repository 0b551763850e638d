//! The token endpoint that clients of Docker's kind ask. Makes no tokens: a cluster's own is a password and a token.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::problem::Problem;
use crate::mirror::access::{Access, Credentials, Refusal, Reviewer, Scheme};

/// For how long a client may keep the token before it asks for it again, in seconds. The token itself may live longer or
/// shorter; it is judged at each request.
const EXPIRES_SECONDS: u32 = 300;

/// Gives the token back that was shown as a password, and `anonymous` to whoever showed nothing.
pub(super) async fn answer<R: Reviewer>(access: &Access<R>, credentials: &Credentials) -> Result<Response, Problem> {
    match access.is_known(credentials).await {
        Ok(()) | Err(Refusal::NoCredentials) => {}
        Err(refusal) => return Err(refusal.into()),
    }
    // Passwords of a file are shown as they are.
    let token = if access.scheme() == Scheme::Token { credentials.secret() } else { Credentials::None.secret() };
    let body = json!({"token": token, "access_token": token, "expires_in": EXPIRES_SECONDS}).to_string();
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, body).into_response())
}
