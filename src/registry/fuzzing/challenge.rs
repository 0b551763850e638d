//! The header `WWW-Authenticate`.

use super::super::challenge::{Challenge, parse};

/// A challenge that is written in another way means the same, and where the standard leaves no choice a second reader finds
/// the same.
pub(crate) fn challenge(input: &[u8]) {
    let Ok(header) = std::str::from_utf8(input) else { return };
    let read = parse(header);
    if let Some(challenge) = &read {
        assert_eq!(read, parse(&written(challenge)));
        assert_eq!(read, parse(&format!("Negotiate, {}", written(challenge))));
    }
    if let Some(challenges) = by_the_book(header) {
        let is = |scheme: &str, name: &str| scheme.eq_ignore_ascii_case(name);
        let bearer =
            challenges.iter().find(|(scheme, parameters)| is(scheme, "bearer") && has(parameters, "realm").is_some());
        let expected = bearer.map(|(_, parameters)| Challenge::Bearer {
            realm: has(parameters, "realm").unwrap_or_default(),
            service: has(parameters, "service"),
            scope: has(parameters, "scope"),
        });
        let basic = challenges.iter().any(|(scheme, _)| is(scheme, "basic")).then_some(Challenge::Basic);
        assert_eq!(read, expected.or(basic), "{header:?}");
    }
}

/// The token server that a header names.
pub(crate) fn realm(header: &str) -> Option<String> {
    match parse(header)? {
        Challenge::Basic => None,
        Challenge::Bearer { realm, .. } => Some(realm),
    }
}

fn written(challenge: &Challenge) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    match challenge {
        Challenge::Basic => "Basic realm=\"r\"".to_owned(),
        Challenge::Bearer { realm, service, scope } => {
            let more = [("service", service), ("scope", scope)].into_iter();
            let more = more.filter_map(|(name, value)| Some(format!(",{name}={}", quoted(value.as_deref()?))));
            format!("bearer realm={}{}", quoted(realm), more.collect::<String>())
        }
    }
}

type Parameters = Vec<(String, String)>;

fn has(parameters: &Parameters, wanted: &str) -> Option<String> {
    parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.clone())
}

/// Schemes with parameters, one space behind a scheme, one comma and perhaps a space between all else; nothing else.
fn by_the_book(header: &str) -> Option<Vec<(String, Parameters)>> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    for part in parts(header)? {
        let (scheme, parameter) = match part.split_once(' ') {
            Some((scheme, parameter)) if is_token(scheme) => (Some(scheme), parameter),
            _ => (None, part),
        };
        if let Some(scheme) = scheme {
            challenges.push((scheme.to_owned(), Vec::new()));
        }
        let (name, value) = parameter.split_once('=').filter(|(name, _)| is_token(name))?;
        let value = match value.strip_prefix('"') {
            Some(quoted) => unquoted(quoted.strip_suffix('"')?)?,
            None => Some(value.to_owned()).filter(|value| is_token(value))?,
        };
        challenges.last_mut()?.1.push((name.to_owned(), value));
    }
    Some(challenges)
}

/// What stands between commas that are in no quotes.
fn parts(header: &str) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, character) in header.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                parts.push(&header[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&header[start..]);
    (!is_quoted).then(|| parts.into_iter().map(|part| part.strip_prefix(' ').unwrap_or(part)).collect())
}

fn unquoted(quoted: &str) -> Option<String> {
    let mut value = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return None,
            '\\' => value.push(characters.next()?),
            other => value.push(other),
        }
    }
    Some(value)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}
