//! Values read in the shape that they should have; those of another shape are passed over and read as nothing.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Reads values of one shape; those of another shape are skipped and read as nothing.
pub(super) trait Reader<'a>: Sized {
    type Value;

    fn text(self, _text: Cow<'a, str>) -> Self::Value {
        self.other()
    }

    fn flag(self, _flag: bool) -> Self::Value {
        self.other()
    }

    fn map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self.other())
    }

    fn seq<A: SeqAccess<'a>>(self, seq: A) -> Result<Self::Value, A::Error> {
        skip_seq(seq)?;
        Ok(self.other())
    }

    fn other(self) -> Self::Value;
}

/// A field is there; it may be so once.
pub(super) fn once<E: Error>(was_there: &mut bool, field: &str) -> Result<(), E> {
    if std::mem::replace(was_there, true) {
        return Err(E::custom(format_args!("duplicate field `{field}`")));
    }
    Ok(())
}

/// Passes over what is left of a list.
pub(super) fn skip_seq<'a, A: SeqAccess<'a>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

/// The visitor behind every [`Reader`].
pub(super) struct Tolerant<R>(pub(super) R);

impl<'a, R: Reader<'a>> Visitor<'a> for Tolerant<R> {
    type Value = R::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<R::Value, E> {
        Ok(self.0.flag(flag))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<R::Value, E> {
        Ok(self.0.other())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<R::Value, E> {
        Ok(self.0.other())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<R::Value, E> {
        Ok(self.0.other())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<R::Value, E> {
        Ok(self.0.text(Cow::Owned(text.to_owned())))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'a str) -> Result<R::Value, E> {
        Ok(self.0.text(Cow::Borrowed(text)))
    }

    fn visit_unit<E: Error>(self) -> Result<R::Value, E> {
        Ok(self.0.other())
    }

    fn visit_map<A: MapAccess<'a>>(self, map: A) -> Result<R::Value, A::Error> {
        self.0.map(map)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, seq: A) -> Result<R::Value, A::Error> {
        self.0.seq(seq)
    }
}

/// Makes a type read what its [`Reader`] takes.
macro_rules! tolerant {
    ([$($parameters:tt)*] $value:ty: $($body:tt)*) => {
        impl<$($parameters)*> Reader<'de> for As<$value> {
            type Value = $value;

            $($body)*

            fn other(self) -> $value {
                <$value>::default()
            }
        }

        impl<$($parameters)*> Deserialize<'de> for $value {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Tolerant(As::<$value>(std::marker::PhantomData)))
            }
        }
    };
}

pub(super) use tolerant;

/// Names the reader of a type.
pub(super) struct As<T>(pub(super) PhantomData<T>);

/// A string, if it is one.
#[derive(Default)]
pub(super) struct Text<'a>(pub(super) Option<Cow<'a, str>>);

tolerant! { ['de: 'a, 'a] Text<'a>:
    fn text(self, text: Cow<'de, str>) -> Text<'a> {
        Text(Some(text))
    }
}

/// A boolean, if it is one.
#[derive(Default)]
pub(super) struct Flag(pub(super) bool);

tolerant! { ['de] Flag:
    fn flag(self, flag: bool) -> Flag {
        Flag(flag)
    }
}

/// What stands in a list.
pub(super) trait Entry {
    /// It has what is looked for.
    fn counts(&self) -> bool;
}

/// Of a list, if it is one, the entries that count, each with its place.
pub(super) struct Entries<T>(pub(super) Vec<(usize, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

tolerant! { ['de, T: Deserialize<'de> + Default + Entry] Entries<T>:
    fn seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entries<T>, A::Error> {
        let mut entries = Vec::new();
        let mut index = 0;
        while let Some(Object::<T>(entry)) = seq.next_element()? {
            if entry.counts() {
                entries.push((index, entry));
            }
            index += 1;
        }
        Ok(Entries(entries))
    }
}

/// An object, if it is one.
#[derive(Default)]
pub(super) struct Object<T>(pub(super) T);

tolerant! { ['de, T: Deserialize<'de> + Default] Object<T>:
    fn map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Object)
    }
}
