//! Image streams, Pods and namespaces as an API server sends them: in pages of a list, and one by one in a watch.
//!
//! Of an object only name, spec and status are read; spec and status stay text until they are parsed, so that one bad
//! object spoils no page. Must not ask for anything.

use std::fmt;

use kube::core::Request;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::table::Object;
use crate::crd::{self, PLURAL};
use crate::index::IndexedStream;
use crate::stream::places::Places;
use crate::stream::types::Metadata;
use crate::stream::{ImageStream, Key};

/// A resource that image streams are served as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// OpenShift's.
    OpenShift,
    /// The custom resource.
    Pinstream,
}

impl Served {
    /// Group.
    pub(super) fn group(self) -> &'static str {
        match self {
            Self::OpenShift => "image.openshift.io",
            Self::Pinstream => crd::GROUP,
        }
    }

    /// Group and version. Both have a first version.
    pub(super) fn api_version(self) -> String {
        format!("{}/{}", self.group(), crd::VERSION)
    }

    /// Requests for all objects of all namespaces.
    pub(super) fn request(self) -> Request {
        Request::new(format!("/apis/{}/{}", self.api_version(), PLURAL))
    }
}

/// As RBAC and error messages name it: `imagestreams.GROUP`.
impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", PLURAL, self.group())
    }
}

/// A part of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub(super) metadata: PageMetadata,
    pub(super) items: Vec<Item>,
}

/// Where a list is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMetadata {
    /// What the list is as new as.
    #[serde(default)]
    pub(super) resource_version: String,
    /// How to ask for the rest; empty if there is none.
    #[serde(default, rename = "continue")]
    pub(super) rest: String,
}

/// An object, unread.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Item {
    metadata: ItemMetadata,
    #[serde(default)]
    spec: Option<Box<RawValue>>,
    #[serde(default)]
    status: Option<Box<RawValue>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemMetadata {
    name: Box<str>,
    #[serde(default)]
    namespace: Box<str>,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    generation: Option<i64>,
    #[serde(default)]
    annotations: Option<Box<RawValue>>,
    #[serde(default)]
    labels: Option<Labels>,
}

/// The one label that is read.
#[derive(Clone, Debug, Deserialize)]
struct Labels {
    #[serde(default, rename = "pinstream.dev/policy")]
    level: Option<Box<str>>,
}

impl Item {
    /// Which object it is.
    pub(super) fn key(&self) -> Key {
        Key::new(&self.metadata.namespace, &self.metadata.name)
    }

    /// Its version, where a watch that has brought it is.
    pub(super) fn version(&self) -> &str {
        &self.metadata.resource_version
    }

    /// What its label says about the level of the policy.
    pub(super) fn level(&self) -> Option<&str> {
        self.metadata.labels.as_ref()?.level.as_deref()
    }

    /// What its spec says, whatever kind it is of.
    pub(super) fn spec<T: for<'de> Deserialize<'de> + Default>(self) -> Result<T, String> {
        parsed("spec", self.spec)
    }

    /// The whole image stream, but of its metadata only what importing reads.
    pub(super) fn parse(self) -> Result<ImageStream, String> {
        let key = self.key();
        let metadata = Metadata {
            name: key.name.to_string(),
            namespace: Some(key.namespace.to_string()),
            generation: self.metadata.generation,
            annotations: parsed("metadata.annotations", self.metadata.annotations)?,
            ..Metadata::default()
        };
        let (spec, status) = (parsed("spec", self.spec)?, parsed("status", self.status)?);
        Ok(ImageStream { metadata, spec, status, ..ImageStream::default() })
    }

    /// Reduces it to what resolving reads. Its images can be pulled from these places.
    pub(super) fn read(self, places: &Places) -> Object {
        let key = self.key();
        let content = self.parse().map(|stream| IndexedStream::new(&stream, places));
        Object { key, content }
    }
}

fn parsed<T: for<'de> Deserialize<'de> + Default>(name: &str, text: Option<Box<RawValue>>) -> Result<T, String> {
    let Some(text) = text else { return Ok(T::default()) };
    let parsed: Option<T> = serde_json::from_str(text.get()).map_err(|error| format!("{name}: {error}"))?;
    Ok(parsed.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use kube::api::WatchEvent;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn object(value: &Value) -> Object {
        serde_json::from_str::<Item>(&value.to_string()).unwrap().read(&Places::default())
    }

    #[test]
    fn object_is_reduced_whichever_group_it_is_of() {
        for version in ["pinstream.dev/v1", "image.openshift.io/v1"] {
            let object = object(&json!({"apiVersion": version, "kind": "ImageStream",
                "metadata": {"name": "app", "namespace": "demo", "managedFields": [{"manager": "m"}]},
                "spec": {"lookupPolicy": {"local": true}, "tags": [{"name": "1", "annotations": null}]},
                "status": {"dockerImageRepository": "", "tags": [{"tag": "2", "items": null}]}}));
            assert_eq!(object.key, Key::new("demo", "app"));
            let stream = object.content.unwrap();
            assert!(stream.local_lookup() && stream.tag("1").is_some() && stream.tag("2").is_some());
            assert_eq!((stream.namespace(), stream.name()), ("demo", "app"));
        }
    }

    #[test]
    fn object_without_spec_and_status_is_a_stream_without_tags() {
        let object = object(&json!({"metadata": {"name": "app", "namespace": "demo"}, "status": null}));
        assert!(!object.content.unwrap().local_lookup());
    }

    #[rstest]
    #[case(json!({"tags": [{"name": "1", "referencePolicy": {"type": "Elsewhere"}}]}), "unknown variant `Elsewhere`")]
    #[case(json!({"tags": "none"}), "spec: invalid type: string")]
    #[case(json!("none"), "spec: ")]
    fn bad_object_keeps_its_name_and_says_why(#[case] spec: Value, #[case] reason: &str) {
        let object = object(&json!({"metadata": {"name": "app", "namespace": "demo"}, "spec": spec}));
        assert_eq!(object.key.to_string(), "demo/app");
        let found = object.content.unwrap_err();
        assert!(found.contains(reason), "{found}");
    }

    #[test]
    fn page_with_a_bad_object_is_read() {
        let page = json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStreamList",
            "metadata": {"resourceVersion": "7", "continue": "token"},
            "items": [{"metadata": {"name": "bad", "namespace": "demo"}, "spec": 1}, {"metadata": {"name": "good"}}]});
        let page: Page = serde_json::from_str(&page.to_string()).unwrap();
        assert_eq!((page.metadata.resource_version.as_str(), page.metadata.rest.as_str()), ("7", "token"));
        let good: Vec<_> = page.items.into_iter().map(|item| item.read(&Places::default()).content.is_ok()).collect();
        assert_eq!(good, [false, true]);
    }

    #[test]
    fn events_are_read_as_api_servers_write_them() {
        let event =
            r#"{"type":"ADDED","object":{"metadata":{"name":"app","resourceVersion":"8"},"spec":{"tags":null}}}"#;
        let Ok(WatchEvent::Added(item)) = serde_json::from_str::<WatchEvent<Item>>(event) else { panic!("{event}") };
        assert_eq!(item.version(), "8");
        assert!(item.read(&Places::default()).content.is_ok());
    }

    #[test]
    fn resources_are_named_as_rbac_does() {
        assert_eq!(Served::OpenShift.to_string(), "imagestreams.image.openshift.io");
        assert_eq!(Served::Pinstream.to_string(), "imagestreams.pinstream.dev");
    }
}
