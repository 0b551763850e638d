//! The asking half of a review: what a body asks, or at least whose question it is.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{API_VERSION, KIND};

/// What a review asks, borrowed from its body.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked<'a> {
    /// Identifies the request; the answer repeats it.
    #[serde(borrow)]
    pub uid: Cow<'a, str>,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    #[serde(borrow)]
    pub operation: Cow<'a, str>,
    /// Group, version and kind of the object.
    #[serde(borrow)]
    pub kind: GroupKind<'a>,
    /// Empty for the object itself.
    #[serde(borrow, default)]
    pub sub_resource: Cow<'a, str>,
    /// Namespace of the object; empty for cluster-wide ones.
    #[serde(borrow, default)]
    pub namespace: Cow<'a, str>,
    /// Name of the object; empty if the API server is to make one up.
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(in crate::admission) object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(in crate::admission) old_object: Option<&'a RawValue>,
}

/// Which kind an object is; the version does not matter.
#[derive(Debug, Deserialize)]
pub struct GroupKind<'a> {
    /// API group; empty for the core group.
    #[serde(borrow, default)]
    pub group: Cow<'a, str>,
    /// Kind.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
}

/// A body without a `uid`, which cannot be answered by a review; the sentence says what was wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoReview(String);

/// A body as far as it can be read.
pub(in crate::admission) enum Opened<'a> {
    /// All of it.
    Asked(Asked<'a>),
    /// Only whose question it is; the sentence says what is wrong.
    Unreadable { uid: String, reason: String },
}

impl<'a> Opened<'a> {
    /// Reads a body; it is an error if no `uid` can be read.
    pub(in crate::admission) fn read(body: &'a [u8]) -> Result<Self, NoReview> {
        match read(body) {
            Ok(asked) => Ok(Self::Asked(asked)),
            Err(reason) => match salvage_uid(body) {
                Some(uid) => Ok(Self::Unreadable { uid, reason }),
                None => Err(NoReview(reason)),
            },
        }
    }
}

fn read(body: &[u8]) -> Result<Asked<'_>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Review<'a> {
        #[serde(borrow, default)]
        api_version: Cow<'a, str>,
        #[serde(borrow, default)]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        request: Option<Asked<'a>>,
    }
    // Checked once as a whole, the strings need not be checked one by one.
    let body = std::str::from_utf8(body).map_err(|error| format!("the body is no {KIND}: {error}"))?;
    let review: Review<'_> = serde_json::from_str(body).map_err(|error| format!("the body is no {KIND}: {error}"))?;
    if review.kind != KIND {
        return Err(format!("the body is of kind {:?}, not {KIND}", review.kind));
    }
    if review.api_version != API_VERSION {
        return Err(format!("the review's apiVersion is {:?}, only {API_VERSION} is read", review.api_version));
    }
    let asked = review.request.ok_or("the review has no request")?;
    if asked.uid.is_empty() { Err("the review's request.uid is empty".to_owned()) } else { Ok(asked) }
}

/// Reads `request.uid` from a body that is otherwise unreadable, as far as it goes.
fn salvage_uid(body: &[u8]) -> Option<String> {
    struct Level<'u> {
        field: &'static str,
        below: Option<&'static str>,
        uid: &'u RefCell<Option<String>>,
    }

    impl<'de> Visitor<'de> for Level<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                match self.below {
                    Some(field) if key == self.field => {
                        map.next_value_seed(Level { field, below: None, uid: self.uid })?;
                    }
                    None if key == self.field => *self.uid.borrow_mut() = Some(map.next_value()?),
                    _ => {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
            }
            Ok(())
        }
    }

    impl<'de> serde::de::DeserializeSeed<'de> for Level<'_> {
        type Value = ();

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
            deserializer.deserialize_map(self)
        }
    }

    let uid = RefCell::new(None);
    let level = Level { field: "request", below: Some("uid"), uid: &uid };
    // How far it got is what counts.
    let _ = serde_json::Deserializer::from_slice(body).deserialize_map(level);
    uid.into_inner().filter(|uid| !uid.is_empty())
}
