//! The asking half of a review: what a body asks, or at least whose question it is.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{API_VERSION, KIND};
use crate::json::Json;

/// What a review asks, borrowed from its body.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Identifies the request; the answer repeats it.
    pub uid: Cow<'a, str>,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: Cow<'a, str>,
    /// Group, version and kind of the object.
    pub kind: GroupKind<'a>,
    /// Empty for the object itself.
    pub sub_resource: Cow<'a, str>,
    /// Namespace of the object; empty for cluster-wide ones.
    pub namespace: Cow<'a, str>,
    /// Name of the object; empty if the API server is to make one up.
    pub name: Cow<'a, str>,
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

/// A review's request: what it asks, and the objects it is about.
pub(in crate::admission) struct Request<'a, O> {
    pub asked: Asked<'a>,
    pub object: Option<O>,
    pub old_object: Option<O>,
}

/// What is known of a request when one of its objects is come across. An API server says all of it before.
#[derive(Clone, Copy)]
pub(in crate::admission) struct Known<'k> {
    pub kind: Option<&'k GroupKind<'k>>,
    pub operation: Option<&'k str>,
    pub sub_resource: Option<&'k str>,
}

/// How an object of a review is read when it is come across.
pub(in crate::admission) trait Objects<'a>: Copy {
    /// What is read of it.
    type Object;

    /// Reads an object of which that is known.
    fn read<D: Deserializer<'a>>(self, known: Known<'_>, object: D) -> Result<Self::Object, D::Error>;
}

/// Objects are left for later, as JSON text.
#[derive(Clone, Copy)]
struct AsText;

impl<'a> Objects<'a> for AsText {
    type Object = &'a RawValue;

    fn read<D: Deserializer<'a>>(self, _: Known<'_>, object: D) -> Result<&'a RawValue, D::Error> {
        <&RawValue>::deserialize(object)
    }
}

/// A body without a `uid`, which cannot be answered by a review; the sentence says what was wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoReview(String);

/// A body as far as it can be read.
pub(in crate::admission) enum Opened<'a> {
    /// All of it.
    Request(Request<'a, &'a RawValue>),
    /// Only whose question it is; the sentence says what is wrong.
    Unreadable { uid: String, reason: String },
}

impl<'a> Opened<'a> {
    /// Reads a body; it is an error if no `uid` can be read.
    pub(in crate::admission) fn read(body: &'a [u8]) -> Result<Self, NoReview> {
        match read_as_text(body) {
            Ok(request) => Ok(Self::Request(request)),
            Err(reason) => match salvage_uid(body) {
                Some(uid) => Ok(Self::Unreadable { uid, reason }),
                None => Err(NoReview(reason)),
            },
        }
    }
}

/// Reads a body in one pass; `None` if something is wrong with it.
pub(in crate::admission) fn read<'a, O: Objects<'a>>(body: &'a [u8], objects: O) -> Option<Request<'a, O::Object>> {
    // Checked once as a whole, the strings need not be checked one by one.
    let mut json = Json::new(std::str::from_utf8(body).ok()?);
    let review = json.deserialize_map(ReviewVisitor(objects)).ok()?;
    json.end().ok()?;
    review.request().ok()
}

/// Reads a body and leaves its objects for later; what is wrong with it is said in a sentence.
fn read_as_text(body: &[u8]) -> Result<Request<'_, &RawValue>, String> {
    let body = std::str::from_utf8(body).map_err(|error| format!("the body is no {KIND}: {error}"))?;
    let mut json = serde_json::Deserializer::from_str(body);
    let review = json.deserialize_map(ReviewVisitor(AsText)).and_then(|review| json.end().map(|()| review));
    review.map_err(|error| format!("the body is no {KIND}: {error}"))?.request()
}

/// A string, borrowed where that is possible.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Review<'a, O> {
    api_version: Cow<'a, str>,
    kind: Cow<'a, str>,
    request: Option<Request<'a, O>>,
}

impl<'a, O> Review<'a, O> {
    /// Its request, if it is a review of the version that is read.
    fn request(self) -> Result<Request<'a, O>, String> {
        if self.kind != KIND {
            return Err(format!("the body is of kind {:?}, not {KIND}", self.kind));
        }
        if self.api_version != API_VERSION {
            return Err(format!("the review's apiVersion is {:?}, only {API_VERSION} is read", self.api_version));
        }
        let request = self.request.ok_or("the review has no request")?;
        if request.asked.uid.is_empty() { Err("the review's request.uid is empty".to_owned()) } else { Ok(request) }
    }
}

struct ReviewVisitor<O>(O);

impl<'a, O: Objects<'a>> Visitor<'a> for ReviewVisitor<O> {
    type Value = Review<'a, O::Object>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an AdmissionReview")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut api_version, mut kind, mut request) = (None, None, None);
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "apiVersion" => text(&mut api_version, "apiVersion", &mut map)?,
                "kind" => text(&mut kind, "kind", &mut map)?,
                "request" => once(&mut request, "request", map.next_value_seed(Nullable(RequestVisitor(self.0)))?)?,
                _ => skip(&mut map)?,
            }
        }
        let (api_version, kind) = (api_version.unwrap_or_default(), kind.unwrap_or_default());
        Ok(Review { api_version, kind, request: request.flatten() })
    }
}

struct RequestVisitor<O>(O);

impl<'a, O: Objects<'a>> Visitor<'a> for RequestVisitor<O> {
    type Value = Request<'a, O::Object>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request of an AdmissionReview")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut uid, mut kind, mut namespace, mut name) = Default::default();
        let (mut operation, mut sub_resource): (Option<Cow<'_, str>>, Option<Cow<'_, str>>) = Default::default();
        let (mut object, mut old_object) = (None, None);
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "uid" => text(&mut uid, "uid", &mut map)?,
                "operation" => text(&mut operation, "operation", &mut map)?,
                "kind" => once(&mut kind, "kind", map.next_value()?)?,
                "subResource" => text(&mut sub_resource, "subResource", &mut map)?,
                "namespace" => text(&mut namespace, "namespace", &mut map)?,
                "name" => text(&mut name, "name", &mut map)?,
                "object" | "oldObject" => {
                    let known = Known {
                        kind: kind.as_ref(),
                        operation: operation.as_deref(),
                        sub_resource: sub_resource.as_deref(),
                    };
                    let read = map.next_value_seed(Nullable(Object(self.0, known)))?;
                    match &*key {
                        "object" => once(&mut object, "object", read)?,
                        _ => once(&mut old_object, "oldObject", read)?,
                    }
                }
                _ => skip(&mut map)?,
            }
        }
        let asked = Asked {
            uid: uid.ok_or_else(|| A::Error::missing_field("uid"))?,
            operation: operation.ok_or_else(|| A::Error::missing_field("operation"))?,
            kind: kind.ok_or_else(|| A::Error::missing_field("kind"))?,
            sub_resource: sub_resource.unwrap_or_default(),
            namespace: namespace.unwrap_or_default(),
            name: name.unwrap_or_default(),
        };
        Ok(Request { asked, object: object.flatten(), old_object: old_object.flatten() })
    }
}

/// A field that may be there once.
fn once<T, E: Error>(field: &mut Option<T>, name: &'static str, value: T) -> Result<(), E> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field(name)),
    }
}

fn text<'a, A: MapAccess<'a>>(
    field: &mut Option<Cow<'a, str>>,
    name: &'static str,
    map: &mut A,
) -> Result<(), A::Error> {
    let Text(text) = map.next_value()?;
    once(field, name, text)
}

fn skip<'a, A: MapAccess<'a>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(|_| ())
}

/// An object of a request, and what is known of that.
struct Object<'k, O>(O, Known<'k>);

impl<'a, O: Objects<'a>> DeserializeSeed<'a> for Object<'_, O> {
    type Value = O::Object;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<O::Object, D::Error> {
        self.0.read(self.1, deserializer)
    }
}

impl<'a, O: Objects<'a>> DeserializeSeed<'a> for RequestVisitor<O> {
    type Value = Request<'a, O::Object>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// What may be `null`, and is nothing then.
struct Nullable<S>(S);

impl<'a, S: DeserializeSeed<'a>> DeserializeSeed<'a> for Nullable<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'a, S: DeserializeSeed<'a>> Visitor<'a> for Nullable<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(deserializer).map(Some)
    }
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

    impl<'de> DeserializeSeed<'de> for Level<'_> {
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
