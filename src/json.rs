//! JSON for visitors that read little of much: what they ignore is checked and passed over in one go, strings are lent.
//!
//! It takes nothing that `serde_json` does not take, and reads it as the same. What is wrong, or nested too deep (what
//! is passed over sooner than what is read), is refused without a reason: whoever wants one asks `serde_json`.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod skip;

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Number;

use self::skip::{number, string, token, value};

/// The deepest that lists and objects may be in each other where they are read. As in `serde_json`.
const DEPTH_MAX: u32 = 127;

/// A text as far as it is not read yet.
#[derive(Debug)]
pub struct Json<'a> {
    text: &'a str,
    /// How many lists and objects are being read.
    depth: u32,
}

/// It is no JSON, or not what the visitor wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it cannot be read")
    }
}

impl std::error::Error for Unreadable {}

impl Error for Unreadable {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl From<serde_json::Error> for Unreadable {
    fn from(_: serde_json::Error) -> Self {
        Self
    }
}

impl<'a> Json<'a> {
    /// The whole of a text.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, depth: 0 }
    }

    /// Nothing but white space may follow.
    ///
    /// # Errors
    /// If something does.
    pub fn end(&self) -> Result<(), Unreadable> {
        if self.token().is_err() { Ok(()) } else { Err(Unreadable) }
    }

    fn token(&self) -> Result<(u8, &'a [u8]), Unreadable> {
        token(self.text.as_bytes()).ok_or(Unreadable)
    }

    /// Goes on at `rest`, and gives what is before it.
    fn until(&mut self, rest: Option<&'a [u8]>) -> Result<&'a str, Unreadable> {
        let passed = self.text.len() - rest.ok_or(Unreadable)?.len();
        let (passed, text) = self.text.split_at_checked(passed).ok_or(Unreadable)?;
        self.text = text;
        Ok(passed)
    }

    /// Reads a string, `inside` what is behind its quote.
    fn string<V: Visitor<'a>>(&mut self, inside: &'a [u8], visitor: V) -> Result<V::Value, Unreadable> {
        let (is_escaped, rest) = string(inside).ok_or(Unreadable)?;
        let written = self.until(Some(rest))?;
        if is_escaped {
            return visitor.visit_string(serde_json::from_str(written)?);
        }
        let start = written.len() - (inside.len() - rest.len());
        visitor.visit_borrowed_str(&written[start..written.len() - 1])
    }

    /// Reads what is in a list or an object, all of it.
    fn within<T>(
        &mut self,
        inside: &'a [u8],
        close: u8,
        read: impl FnOnce(Entries<'_, 'a>) -> Result<T, Unreadable>,
    ) -> Result<T, Unreadable> {
        let depth = self.depth;
        if depth == DEPTH_MAX {
            return Err(Unreadable);
        }
        self.until(Some(inside))?;
        self.depth += 1;
        let value = read(Entries { json: self, close, is_first: true })?;
        if self.depth == depth { Ok(value) } else { Err(Unreadable) }
    }
}

impl<'a> Deserializer<'a> for &mut Json<'a> {
    type Error = Unreadable;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        let (first, rest) = self.token()?;
        match first {
            b'"' => self.string(rest, visitor),
            b'{' => self.within(rest, b'}', |entries| visitor.visit_map(entries)),
            b'[' => self.within(rest, b']', |entries| visitor.visit_seq(entries)),
            b't' => self.until(rest.strip_prefix(b"rue")).and_then(|_| visitor.visit_bool(true)),
            b'f' => self.until(rest.strip_prefix(b"alse")).and_then(|_| visitor.visit_bool(false)),
            b'n' => self.until(rest.strip_prefix(b"ull")).and_then(|_| visitor.visit_unit()),
            _ => {
                let number: Number = serde_json::from_str(self.until(number(first, rest))?)?;
                Ok(number.deserialize_any(visitor)?)
            }
        }
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        if self.token()?.0 == b'n' { self.deserialize_any(Absent(visitor)) } else { visitor.visit_some(self) }
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        self.until(value(self.text.as_bytes()))?;
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        <V: Visitor<'a>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier
    }
}

/// Sees `null` as nothing.
struct Absent<V>(V);

impl<'a, V: Visitor<'a>> Visitor<'a> for Absent<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }
}

/// The entries of a list or an object whose bracket was read.
struct Entries<'j, 'a> {
    json: &'j mut Json<'a>,
    close: u8,
    is_first: bool,
}

impl Entries<'_, '_> {
    /// Whether another entry follows.
    fn is_more(&mut self) -> Result<bool, Unreadable> {
        let is_first = std::mem::replace(&mut self.is_first, false);
        match self.json.token()? {
            (byte, rest) if byte == self.close => {
                self.json.until(Some(rest))?;
                self.json.depth -= 1;
                Ok(false)
            }
            _ if is_first => Ok(true),
            (b',', rest) => self.json.until(Some(rest)).map(|_| true),
            _ => Err(Unreadable),
        }
    }
}

impl<'a> SeqAccess<'a> for Entries<'_, 'a> {
    type Error = Unreadable;

    fn next_element_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, Unreadable> {
        if self.is_more()? { seed.deserialize(&mut *self.json).map(Some) } else { Ok(None) }
    }
}

impl<'a> MapAccess<'a> for Entries<'_, 'a> {
    type Error = Unreadable;

    fn next_key_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, Unreadable> {
        if !self.is_more()? {
            return Ok(None);
        }
        match self.json.token()? {
            (b'"', _) => seed.deserialize(&mut *self.json).map(Some),
            _ => Err(Unreadable),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, Unreadable> {
        let (b':', rest) = self.json.token()? else { return Err(Unreadable) };
        self.json.until(Some(rest))?;
        seed.deserialize(&mut *self.json)
    }
}

#[cfg(test)]
mod tests;
