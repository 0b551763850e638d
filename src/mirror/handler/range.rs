//! Which part of a blob is asked for: the header `Range`.

use axum::http::{HeaderMap, header};

use crate::mirror::Part;

/// The part that the headers ask for. What cannot be read, or asks for several parts, asks for all of it, as does a
/// range of another version (`If-Range`).
pub(super) fn of(headers: &HeaderMap, etag: &str) -> Part {
    let is_other = |value: &axum::http::HeaderValue| value.as_bytes() != etag.as_bytes();
    if headers.get(header::IF_RANGE).is_some_and(is_other) {
        return Part::Whole;
    }
    let written = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    written.and_then(read).unwrap_or(Part::Whole)
}

fn read(written: &str) -> Option<Part> {
    let (unit, range) = written.split_once('=')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    match (first, last) {
        ("", last) => Some(Part::Last(number(last)?)),
        (first, "") => Some(Part::From(number(first)?)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Part::Between(first, last))
        }
    }
}

fn number(written: &str) -> Option<u64> {
    written.bytes().all(|byte| byte.is_ascii_digit()).then(|| written.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("bytes=0-499", Part::Between(0, 499))]
    #[case("Bytes= 5 - 5 ", Part::Between(5, 5))]
    #[case("bytes=500-", Part::From(500))]
    #[case("bytes=-500", Part::Last(500))]
    #[case("bytes=-0", Part::Last(0))]
    #[case::backwards("bytes=5-4", Part::Whole)]
    #[case::several("bytes=0-1,5-6", Part::Whole)]
    #[case::nothing("bytes=-", Part::Whole)]
    #[case::other_unit("lines=0-1", Part::Whole)]
    #[case::signs("bytes=+1-+2", Part::Whole)]
    #[case::no_number("bytes=a-b", Part::Whole)]
    #[case::too_large("bytes=99999999999999999999-", Part::Whole)]
    #[case::no_unit("0-1", Part::Whole)]
    fn ranges_are_read(#[case] written: &str, #[case] expected: Part) {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, written.parse().unwrap());
        assert_eq!(of(&headers, "\"a\""), expected);
        headers.insert(header::IF_RANGE, "\"a\"".parse().unwrap());
        assert_eq!(of(&headers, "\"a\""), expected);
        assert_eq!(of(&headers, "\"b\""), Part::Whole);
    }
}
