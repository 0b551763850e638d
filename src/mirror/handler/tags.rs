//! The tags of a stream, in pages.

use axum::extract::Query;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::problem::Problem;
use crate::reference::is_tag;
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
    let (shown, next) = page(tags, uri)?;
    let body = json!({"name": stream.to_string(), "tags": shown}).to_string();
    let mut response = ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response();
    if let Some(query) = next {
        let link = format!("</v2/{stream}/tags/list?{query}>; rel=\"next\"");
        let link = HeaderValue::try_from(link).expect("names, tags and numbers are plain text");
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// The tags on the page that is asked for, and the query of the next one. Streams may have tags that are none of a registry:
/// those cannot be pulled, and are not shown.
pub(super) fn page<'t>(tags: &'t [String], uri: &Uri) -> Result<(Vec<&'t str>, Option<String>), Problem> {
    let Query(page) = Query::<Page>::try_from_uri(uri).map_err(|_| Problem::PageInvalid)?;
    let begin = page.last.map_or(0, |last| tags.partition_point(|tag| *tag <= last));
    let mut rest = tags[begin..].iter().map(String::as_str).filter(|tag| is_tag(tag));
    let shown: Vec<&str> = rest.by_ref().take(page.n.unwrap_or(usize::MAX)).collect();
    let next = shown.last().filter(|_| rest.next().is_some()).zip(page.n);
    let next = next.map(|(last, n)| format!("n={n}&last={last}"));
    Ok((shown, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_that_cannot_be_pulled_is_on_no_page_and_ends_none() {
        let tags = ["1", "a b", "a+b", "b"].map(str::to_owned);
        let page = |uri: &'static str| page(&tags, &Uri::from_static(uri)).unwrap();
        assert_eq!(page("/v2/demo/app/tags/list"), (vec!["1", "b"], None));
        assert_eq!(page("/v2/demo/app/tags/list?n=1"), (vec!["1"], Some("n=1&last=1".to_owned())));
        assert_eq!(page("/v2/demo/app/tags/list?n=1&last=1"), (vec!["b"], None));
    }
}
