//! Where something in a JSON text ends. Each function takes the text from where something begins, and gives what is behind
//! it; `None` if it is not well written. That it is UTF-8 is known already.

/// The next byte that is no white space, and what is behind it.
#[inline]
pub(super) fn token(text: &[u8]) -> Option<(u8, &[u8])> {
    let (first, rest) = text.split_first()?;
    if *first > b' ' { Some((*first, rest)) } else { token_behind_space(text) }
}

fn token_behind_space(text: &[u8]) -> Option<(u8, &[u8])> {
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'\n' | b'\t' | b'\r'))?;
    text[start..].split_first().map(|(first, rest)| (*first, rest))
}

/// A value of any kind. What is nested deeper than there are bits is not taken either.
pub(super) fn value(mut text: &[u8]) -> Option<&[u8]> {
    /// In nothing: the bit above those of what is open, and one that is no object's.
    const OUTSIDE: u64 = 0b10;
    // What is open: a bit for each, which an object sets.
    let mut open = OUTSIDE;
    loop {
        if open & 1 == 1 {
            text = key(text)?;
        }
        let (first, rest) = token(text)?;
        text = match first {
            b'"' => string(rest)?.1,
            b'{' | b'[' => match token(rest)? {
                (b'}', rest) if first == b'{' => rest,
                (b']', rest) if first == b'[' => rest,
                _ if open.leading_zeros() == 0 => return None,
                _ => {
                    (open, text) = (open << 1 | u64::from(first == b'{'), rest);
                    continue;
                }
            },
            b't' => rest.strip_prefix(b"rue")?,
            b'f' => rest.strip_prefix(b"alse")?,
            b'n' => rest.strip_prefix(b"ull")?,
            _ => number(first, rest)?,
        };
        while open != OUTSIDE {
            let (next, rest) = token(text)?;
            text = rest;
            match (next, open & 1) {
                (b',', _) => break,
                (b'}', 1) | (b']', 0) => open >>= 1,
                _ => return None,
            }
        }
        if open == OUTSIDE {
            return Some(text);
        }
    }
}

/// A key and its colon.
#[inline]
fn key(text: &[u8]) -> Option<&[u8]> {
    let (b'"', rest) = token(text)? else { return None };
    let (b':', rest) = token(string(rest)?.1)? else { return None };
    Some(rest)
}

/// A number, from behind its first byte.
pub(super) fn number(first: u8, mut text: &[u8]) -> Option<&[u8]> {
    match first {
        b'0' => {}
        b'1'..=b'9' => text = digits(text),
        b'-' => text = text.strip_prefix(b"0").or_else(|| some_digits(text))?,
        _ => return None,
    }
    if let [b'.', rest @ ..] = text {
        text = some_digits(rest)?;
    }
    match text {
        [b'e' | b'E', b'+' | b'-', rest @ ..] | [b'e' | b'E', rest @ ..] => some_digits(rest),
        _ => Some(text),
    }
}

fn digits(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit());
    &text[end.unwrap_or(text.len())..]
}

/// One digit at least.
fn some_digits(text: &[u8]) -> Option<&[u8]> {
    let rest = digits(text);
    (rest.len() < text.len()).then_some(rest)
}

/// A string, from behind its quote, and whether there is a backslash in it.
#[inline]
pub(super) fn string(text: &[u8]) -> Option<(bool, &[u8])> {
    match plain(text) {
        [b'"', rest @ ..] => Some((false, rest)),
        rest => string_of_more(rest),
    }
}

/// The rest of a string that has escapes or other characters than those of ASCII.
fn string_of_more(mut text: &[u8]) -> Option<(bool, &[u8])> {
    let mut is_escaped = false;
    loop {
        is_escaped |= text.first() == Some(&b'\\');
        text = match text {
            [b'"', rest @ ..] => return Some((is_escaped, rest)),
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] | [0x80..=0xff, rest @ ..] => {
                plain(rest)
            }
            [b'\\', b'u', a, b, c, d, rest @ ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => {
                plain(rest)
            }
            _ => return None,
        }
    }
}

/// Passes over ASCII that is neither a quote, nor a backslash, nor a control character: eight bytes at a time.
#[inline]
fn plain(mut text: &[u8]) -> &[u8] {
    /// A byte, eight times.
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    while let Some((eight, rest)) = text.split_first_chunk::<8>() {
        let eight = u64::from_le_bytes(*eight);
        // A subtraction sets the highest bit of a byte that was too small, for sure of the first one. The quote comes to
        // stand just above the control characters, and the backslash at zero.
        let ended = (eight ^ each(0x02)).wrapping_sub(each(0x21)) | (eight ^ each(b'\\')).wrapping_sub(each(1));
        let found = (ended | eight) & each(0x80);
        if found != 0 {
            return &text[found.trailing_zeros() as usize / 8..];
        }
        text = rest;
    }
    let is_plain = |byte: &u8| matches!(byte, b' '..0x80) && !matches!(byte, b'"' | b'\\');
    let end = text.iter().position(|byte| !is_plain(byte));
    &text[end.unwrap_or(text.len())..]
}
