//! The tags of a stream, in pages.

use axum::extract::Query;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::problem::Problem;
use crate::stream::Key;

/// Which page.
#[derive(Debug, Default, Deserialize)]
struct Page {
    /// So many tags at most.
    n: Option<usize>,
    /// Those behind this one.
    last: Option<String>,
}

/// `tags` are all tags, sorted.
pub(super) fn answer(stream: &Key, tags: &[String], uri: &Uri) -> Result<Response, Problem> {
    let Query(page) = Query::<Page>::try_from_uri(uri).map_err(|_| Problem::PageInvalid)?;
    let begin = page.last.map_or(0, |last| tags.partition_point(|tag| *tag <= last));
    let rest = &tags[begin..];
    let shown = &rest[..page.n.unwrap_or(rest.len()).min(rest.len())];
    let body = json!({"name": stream.to_string(), "tags": shown}).to_string();
    let mut response = ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response();
    if let (Some(n), Some(last), true) = (page.n, shown.last(), shown.len() < rest.len()) {
        let link = format!("</v2/{stream}/tags/list?n={n}&last={last}>; rel=\"next\"");
        // Tags of a stream that are no tags of a registry have no next page.
        if let Ok(link) = HeaderValue::try_from(link) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    Ok(response)
}
