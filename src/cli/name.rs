//! Names as they are written on the command line: streams, and tags of streams. Pure.

use std::fmt;
use std::str::FromStr;

/// A tag of a stream, `NAME:TAG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TagName {
    /// The stream.
    pub stream: String,
    /// The tag.
    pub tag: String,
}

impl FromStr for TagName {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let Some((stream, tag)) = written.split_once(':') else {
            return Err(format!("write NAME:TAG, such as {written}:latest"));
        };
        let stream = stream_name(stream)?;
        Ok(Self { stream, tag: tag_name(tag)? })
    }
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.stream, self.tag)
    }
}

/// The name of a stream, perhaps with `is/` or another name of the resource before it.
pub(super) fn stream_name(written: &str) -> Result<String, String> {
    let name = match written.split_once('/') {
        Some(("is" | "imagestream" | "imagestreams", name)) => name,
        Some((other, _)) => return Err(format!("{other:?} is no image stream; write NAME or is/NAME")),
        None => written,
    };
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let is_name = bytes.first().copied().is_some_and(is_letter)
        && bytes.last().copied().is_some_and(is_letter)
        && bytes.iter().all(|byte| is_letter(*byte) || b"._-".contains(byte));
    if is_name {
        Ok(name.to_owned())
    } else {
        Err(format!("{name:?} is no name of an image stream; write lower-case letters and digits, such as keycloak"))
    }
}

/// The name of a namespace.
pub(super) fn namespace(written: &str) -> Result<String, String> {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = written.as_bytes();
    let is_name = bytes.first().copied().is_some_and(is_letter)
        && bytes.last().copied().is_some_and(is_letter)
        && bytes.len() <= 63
        && bytes.iter().all(|byte| is_letter(*byte) || *byte == b'-');
    if is_name {
        Ok(written.to_owned())
    } else {
        Err(format!("{written:?} is no name of a namespace; write lower-case letters, digits and '-', such as demo"))
    }
}

/// The name of a tag.
pub(super) fn tag_name(written: &str) -> Result<String, String> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = written.as_bytes();
    let is_name = bytes.first().copied().is_some_and(is_letter)
        && bytes.len() <= 128
        && bytes.iter().all(|byte| is_letter(*byte) || b".-".contains(byte));
    if is_name {
        Ok(written.to_owned())
    } else {
        Err(format!(
            "invalid tag {written:?}: write a letter, digit or '_', then at most 127 of these, '.' or '-', such as 20.0"
        ))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("keycloak:20.0", Some(("keycloak", "20.0")))]
    #[case("is/keycloak:20.0", Some(("keycloak", "20.0")))]
    #[case("a-b.c:_x", Some(("a-b.c", "_x")))]
    #[case("keycloak", None)]
    #[case("Keycloak:1", None)]
    #[case("keycloak:", None)]
    #[case("keycloak:a b", None)]
    #[case("deploy/keycloak:1", None)]
    #[case("-a:1", None)]
    #[case(":1", None)]
    fn tags_are_read(#[case] written: &str, #[case] expected: Option<(&str, &str)>) {
        let read = written.parse::<TagName>().ok();
        assert_eq!(read.map(|name| (name.stream, name.tag)), expected.map(|(name, tag)| (name.into(), tag.into())));
    }
    #[rstest]
    #[case("demo-1", true)]
    #[case("", false)]
    #[case("..", false)]
    #[case("a.b", false)]
    #[case("Demo", false)]
    #[case("-a", false)]
    fn namespaces_are_read(#[case] written: &str, #[case] expected: bool) {
        assert_eq!(namespace(written).is_ok(), expected);
        assert!(namespace(&"a".repeat(63)).is_ok() && namespace(&"a".repeat(64)).is_err());
    }
}
