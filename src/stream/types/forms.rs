//! Forms of values in which OpenShift reads and writes them otherwise than serde does by itself. They mean nothing here.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// In a schema: the empty string is valid too, and means the default.
pub(super) fn or_empty(schema: &mut schemars::Schema) {
    if let Some(serde_json::Value::Array(variants)) = schema.get_mut("oneOf") {
        variants.push(serde_json::json!({"const": ""}));
    }
}

/// Whoever is found by name.
pub(super) trait Named {
    fn name(&self) -> &str;
}

/// The one of that name. They are in order where they were read; who adds some need not keep it.
pub(super) fn named<'a, T: Named>(tags: &'a [T], name: &str) -> Option<&'a T> {
    match tags.binary_search_by(|tag| tag.name().cmp(name)) {
        Ok(at) => tags.get(at),
        Err(_) => tags.iter().find(|tag| tag.name() == name),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
pub(super) fn is_false(value: &bool) -> bool {
    !value
}

/// Reads `null` as the default, as Go does for every field that is no pointer.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Sorts tags by name in byte order; of those with one name the last stays.
pub(super) fn tags_by_name<'de, D: Deserializer<'de>, T: Named + Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let mut tags: Vec<T> = or_default(deserializer)?;
    tags.reverse();
    tags.sort_by(|a, b| a.name().cmp(b.name()));
    tags.dedup_by(|later, kept| later.name() == kept.name());
    Ok(tags)
}

/// An empty list is `null`, as Go writes one that was never made.
pub(super) fn null_when_empty<S: Serializer, T: Serialize>(items: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    (!items.is_empty()).then_some(items).serialize(serializer)
}

/// RFC 3339 without fractions, as Kubernetes writes times.
#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
pub(super) fn in_seconds<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).serialize(serializer)
}
