//! What a registry says it wants to be shown: the header `WWW-Authenticate`. Pure.

/// What is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password.
    Basic,
    /// A token from that place.
    Bearer {
        /// URL of the token server.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// What it is for.
        scope: Option<String>,
    },
}

/// The first challenge that can be met, of the values of one header (RFC 9110, 11.6.1).
pub(super) fn parse(header: &str) -> Option<Challenge> {
    let mut basic = None;
    let mut rest = header.trim();
    while !rest.is_empty() {
        let end = rest.find([' ', '\t', ',']).unwrap_or(rest.len());
        let (scheme, after) = rest.split_at(end);
        let (parameters, behind) = parameters(after.trim_start());
        let value = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        if scheme.eq_ignore_ascii_case("bearer") {
            if let Some(realm) = value("realm") {
                return Some(Challenge::Bearer { realm, service: value("service"), scope: value("scope") });
            }
        } else if scheme.eq_ignore_ascii_case("basic") {
            basic = Some(Challenge::Basic);
        }
        rest = behind.trim_start_matches([',', ' ', '\t']);
        // A scheme that is followed by nothing that can be read would be read again and again.
        if rest.len() >= header.len() || (rest.len() == after.trim_start().len() && scheme.is_empty()) {
            break;
        }
    }
    basic
}

/// `name=value` pairs up to the next scheme, and what stands behind them.
fn parameters(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let end = rest.find(|character: char| !is_token(character)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(value) = after.trim_start().strip_prefix('=').filter(|_| !name.is_empty()) else {
            return (found, rest);
        };
        let (value, behind) = value_of(value.trim_start());
        found.push((name.to_ascii_lowercase(), value));
        rest = behind;
    }
}

fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

/// A token or a quoted string.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) }
    }

    #[rstest]
    #[case(
        r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
        Some(bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:a/b:pull,push")))
    )]
    #[case(r#"bearer realm=https://x/t, service = "a \"b\"" "#, Some(bearer("https://x/t", Some("a \"b\""), None)))]
    #[case(r#"Basic realm="r", Bearer realm="https://x/t""#, Some(bearer("https://x/t", None, None)))]
    #[case(r#"Basic realm="Registry""#, Some(Challenge::Basic))]
    #[case("Basic", Some(Challenge::Basic))]
    #[case("Negotiate, Basic", Some(Challenge::Basic))]
    #[case(r#"Bearer service="x""#, None)]
    #[case("", None)]
    #[case(r#"Bearer realm="open"#, Some(bearer("open", None, None)))]
    fn challenges_are_read(#[case] header: &str, #[case] expected: Option<Challenge>) {
        assert_eq!(parse(header), expected);
    }

    proptest! {
        #[test]
        fn anything_is_read_to_its_end(header in "\\PC{0,80}") {
            let _ = parse(&header);
        }

        #[test]
        fn pieces_in_any_order_are_read_to_their_end(pieces in prop::collection::vec(
            prop::sample::select(vec!["Bearer", "Basic", " ", ",", "=", "\"", "realm", "x", "\\", "é"]), 0..20)) {
            let _ = parse(&pieces.concat());
        }
    }
}
