//! Which objects of a document are image streams: what each says that it is, and those in lists. All others are passed over.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Item;
use crate::stream::ImageStream;
use crate::stream::types::{ApiVersion, KIND};

/// What an object says it is, and so the objects in it if it is a list. Read before the object itself, because
/// its fields may come in any order.
#[derive(Default)]
pub(super) struct Header {
    api_version: String,
    kind: String,
    items: Vec<Header>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object")
    }

    fn visit_unit<E>(self) -> Result<Header, E> {
        Ok(Header::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "apiVersion" => header.api_version = map.next_value::<Option<_>>()?.unwrap_or_default(),
                "kind" => header.kind = map.next_value::<Option<_>>()?.unwrap_or_default(),
                "items" => header.items = map.next_value::<Items>()?.0,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(header)
    }
}

/// The headers of a list's objects; of a field `items` that is no list, nothing.
struct Items(Vec<Header>);

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemsVisitor)
    }
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_unit<E>(self) -> Result<Items, E> {
        Ok(Items(Vec::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Items(items))
    }
}

impl Header {
    pub(super) fn is_list(&self) -> bool {
        self.kind == "List" || self.kind == "ImageStreamList"
    }

    /// Is it an image stream, or one that cannot be read? Objects of a typed list need not say what they are.
    fn is_stream(&self, within: Option<&Header>) -> Result<bool, String> {
        let kind_of_list = within.filter(|_| self.kind.is_empty()).map(|list| list.kind.as_str());
        if self.kind != KIND && kind_of_list != Some("ImageStreamList") {
            return Ok(false);
        }
        let list_version = within.filter(|_| self.api_version.is_empty()).map(|list| list.api_version.as_str());
        let version = list_version.unwrap_or(&self.api_version);
        if ApiVersion::ALL.contains(&version) {
            return Ok(true);
        }
        Err(format!("{KIND} of apiVersion {version:?} cannot be read, only {}", ApiVersion::ALL.join(" and ")))
    }
}

/// Reads an object of which the header is known.
pub(super) struct Object<'h, 's> {
    pub(super) header: &'h Header,
    pub(super) within: Option<&'h Header>,
    pub(super) sink: &'s mut dyn FnMut(Item),
}

impl<'de> DeserializeSeed<'de> for Object<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.header.is_list() {
            return deserializer.deserialize_map(self);
        }
        if !self.header.is_stream(self.within).map_err(D::Error::custom)? {
            IgnoredAny::deserialize(deserializer)?;
            let Header { api_version, kind, .. } = self.header;
            (self.sink)(Item::Other { api_version: api_version.clone(), kind: kind.clone() });
            return Ok(());
        }
        let mut stream = Box::new(ImageStream::deserialize(deserializer)?);
        if stream.metadata.name.is_empty() {
            return Err(D::Error::custom("metadata.name is empty"));
        }
        stream.metadata.namespace = stream.metadata.namespace.filter(|namespace| !namespace.is_empty());
        (self.sink)(Item::Stream(stream));
        Ok(())
    }
}

impl<'de> Visitor<'de> for Object<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                map.next_value_seed(ListItems(&mut self))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Reads the objects of a list, one after the other.
struct ListItems<'o, 'h, 's>(&'o mut Object<'h, 's>);

impl<'de> DeserializeSeed<'de> for ListItems<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.0.header.items.is_empty() {
            return IgnoredAny::deserialize(deserializer).map(drop);
        }
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ListItems<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let list = self.0.header;
        for header in &list.items {
            let object = Object { header, within: Some(list), sink: &mut *self.0.sink };
            seq.next_element_seed(object)?;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}
