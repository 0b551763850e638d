//! How a client is told to show credentials, and where it gets a token: the header `WWW-Authenticate`.

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, header};

use super::path::Asked;
use crate::mirror::access::Scheme;

/// What the registry is called where tokens are given.
const SERVICE: &str = "pinstream";
/// What a proxy that ends TLS in front of the registry says.
const FORWARDED: &str = "x-forwarded-proto";

/// How clients see the registry.
#[derive(Debug)]
pub(super) struct Front {
    /// They come by HTTPS.
    pub(super) is_secure: bool,
    /// Its host, for those who do not say where they came to.
    pub(super) host: Option<String>,
}

impl Front {
    /// The challenge for whoever asked for that.
    pub(super) fn challenge(&self, scheme: Scheme, asked: Option<&Asked>, request: &Parts) -> Option<HeaderValue> {
        let text = match (scheme, asked) {
            (Scheme::Nothing, _) => return None,
            // Where tokens are given, a password is shown.
            (Scheme::Basic, _) | (Scheme::Token, Some(Asked::Token)) => format!("Basic realm=\"{SERVICE}\""),
            (Scheme::Token, _) => {
                let realm = self.realm(request)?;
                let stream = asked.and_then(Asked::stream);
                let scope = stream.map(|stream| format!(",scope=\"repository:{stream}:pull\"")).unwrap_or_default();
                format!("Bearer realm=\"{realm}\",service=\"{SERVICE}\"{scope}")
            }
        };
        HeaderValue::try_from(text).ok()
    }

    /// Where tokens are given, as this client reaches it.
    fn realm(&self, request: &Parts) -> Option<String> {
        let named = request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = request.uri.authority().map(Authority::as_str).or(named).filter(|host| is_host(host));
        let host = host.or(self.host.as_deref())?;
        let forwarded = request.headers.get(FORWARDED).is_some_and(|scheme| scheme == "https");
        let scheme = if self.is_secure || forwarded { "https" } else { "http" };
        Some(format!("{scheme}://{host}{}", Asked::TOKEN_PATH))
    }
}

/// A host with or without a port, and nothing that could end a quoted string.
fn is_host(written: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !written.is_empty() && written.len() <= 255 && written.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use rstest::rstest;

    use super::*;

    fn challenge(is_secure: bool, headers: &[(&str, &str)], path: &str) -> String {
        let front = Front { is_secure, host: Some("registry.example".to_owned()) };
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap().into_parts().0;
        let asked = Asked::read(path).ok();
        let challenge = front.challenge(Scheme::Token, asked.as_ref(), &request).unwrap();
        challenge.to_str().unwrap().to_owned()
    }

    #[rstest]
    #[case::as_it_was_reached(true, &[("host", "r.io:5000")], "https://r.io:5000/v2/token")]
    #[case::plain(false, &[("host", "r.io")], "http://r.io/v2/token")]
    #[case::behind_a_proxy(false, &[("host", "r.io"), (FORWARDED, "https")], "https://r.io/v2/token")]
    #[case::address(true, &[("host", "[::1]:5000")], "https://[::1]:5000/v2/token")]
    #[case::no_host(true, &[], "https://registry.example/v2/token")]
    #[case::no_real_host(true, &[("host", "a\",realm=\"b")], "https://registry.example/v2/token")]
    fn clients_are_sent_where_they_came_to(
        #[case] is_secure: bool,
        #[case] headers: &[(&str, &str)],
        #[case] realm: &str,
    ) {
        let expected = format!("Bearer realm=\"{realm}\",service=\"pinstream\"");
        assert_eq!(challenge(is_secure, headers, "/v2/"), expected);
        let scoped = format!("{expected},scope=\"repository:demo/app:pull\"");
        assert_eq!(challenge(is_secure, headers, "/v2/demo/app/manifests/latest"), scoped);
        assert_eq!(challenge(is_secure, headers, "/v2/token"), "Basic realm=\"pinstream\"");
    }
}
