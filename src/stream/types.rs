//! The ImageStream API types: JSON in and out exactly as `image.openshift.io/v1` writes it.
//!
//! Unknown fields of metadata are kept, all others are dropped. Must not decide anything: what tags
//! mean is `pullspec`'s.
//!
//! What stands under `spec` and `status` is also the schema of the custom resource: its descriptions are the
//! comments here, and `crd` makes the resource of it. Whatever OpenShift writes must be valid.

mod forms;

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::forms::{Named, in_seconds, is_false, named, null_when_empty, or_default, or_empty, tags_by_name};

/// Kind of the object.
pub const KIND: &str = "ImageStream";
/// Tag that is meant when none is written.
pub const DEFAULT_TAG: &str = "latest";

/// A named, namespaced object: tags, each with a history of images, and policies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageStream {
    /// Group and version it was read with, and is written with.
    #[serde(default)]
    pub api_version: ApiVersion,
    /// Always `ImageStream`.
    #[serde(default)]
    pub kind: Kind,
    /// Name, namespace and what else every Kubernetes object has.
    pub metadata: Metadata,
    /// What the user asked for.
    #[serde(default, deserialize_with = "or_default")]
    pub spec: Spec,
    /// What was found.
    #[serde(default, deserialize_with = "or_default")]
    pub status: Status,
}

/// The two API groups that carry the same object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApiVersion {
    /// OpenShift's own.
    #[default]
    #[serde(rename = "image.openshift.io/v1")]
    OpenShift,
    /// The custom resource of a plain cluster.
    #[serde(rename = "pinstream.dev/v1")]
    Pinstream,
}

impl ApiVersion {
    /// Every version that is read, as it is written in manifests.
    pub const ALL: [&'static str; 2] = ["image.openshift.io/v1", "pinstream.dev/v1"];
}

/// The constant kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The only one.
    #[default]
    ImageStream,
}

/// The part of Kubernetes' ObjectMeta that Pinstream reads; the rest is carried along untouched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Name of the stream, unique in its namespace.
    pub name: String,
    /// Namespace, absent in manifests that leave it to the reader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Counts the changes of `spec`, set by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Labels.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Every other field, as it came.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// What the user asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Who may use the stream by short name.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(extend("x-server-default" = {"local": false}))]
    pub lookup_policy: LookupPolicy,
    /// Repository that all tags come from (deprecated by OpenShift, still honoured).
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-validations" = [
        {"rule": "!self.matches('@|:[^/]*$')", "message": "a repository is written without a tag and without a digest"},
        {"rule": "!self.matches('[[:space:]]')", "message": "a repository has no spaces"}
    ]))]
    pub docker_image_repository: String,
    /// Tags, each name once, in byte order of their names.
    // Of duplicates in a manifest the last wins; a custom resource cannot have any.
    #[serde(default, deserialize_with = "tags_by_name", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10_000), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub tags: Vec<SpecTag>,
}

/// Who may use the stream by short name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LookupPolicy {
    /// Pods and workloads of the stream's namespace may.
    #[serde(default)]
    pub local: bool,
}

/// One tag as the user asked for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.from) || self.from.kind == 'DockerImage' || !has(self.importPolicy) \
      || !has(self.importPolicy.scheduled) || !self.importPolicy.scheduled",
     "message": "only a tag from a DockerImage may be scheduled", "fieldPath": ".importPolicy.scheduled"}
]))]
pub struct SpecTag {
    /// Name of the tag: a letter, digit or `_`, then at most 127 of these, `.` or `-`.
    #[schemars(length(max = 128), extend("x-kubernetes-validations" = [
        {"rule": "self.matches('^[A-Za-z0-9_][A-Za-z0-9_.-]*$')",
         "message": "a tag is a letter, digit or '_', then at most 127 of these, '.' or '-'"}
    ]))]
    pub name: String,
    /// Annotations of the tag; written as `null` when there are none.
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Where the image comes from; absent if the tag is only pushed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ObjectReference")]
    pub from: Option<ObjectReference>,
    /// A reference tag is never imported: its pull spec is `from.name` as written.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reference: bool,
    /// Stream generation at which the tag last changed; written as `null` when unset.
    #[serde(default)]
    pub generation: Option<i64>,
    /// How to import.
    #[serde(default, deserialize_with = "or_default")]
    pub import_policy: ImportPolicy,
    /// What pull spec users of the tag get.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(extend("x-server-default" = {"type": "Source"}))]
    pub reference_policy: ReferencePolicy,
}

/// Where a tag's image comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["kind", "name"]))]
pub struct ObjectReference {
    /// What `name` is.
    #[serde(default)]
    pub kind: ReferenceKind,
    /// Namespace of the stream; absent for the tag's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub namespace: Option<String>,
    /// A pull spec, `STREAM:TAG`, `TAG`, `STREAM@ID` or `ID`.
    #[serde(default)]
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = [
        {"rule": "!self.matches('[[:space:]]')", "message": "a name has no spaces"}
    ]))]
    pub name: String,
    /// Not read, but carried along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub api_version: Option<String>,
    /// Not read, but carried along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub uid: Option<String>,
    /// Not read, but carried along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub resource_version: Option<String>,
    /// Not read, but carried along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub field_path: Option<String>,
}

/// What a tag's `from.name` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReferenceKind {
    /// A pull spec in a registry.
    #[default]
    DockerImage,
    /// A tag of a stream.
    ImageStreamTag,
    /// An image of a stream's history.
    ImageStreamImage,
}

/// How a tag is imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportPolicy {
    /// Bad TLS and plain HTTP are accepted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub insecure: bool,
    /// Import again and again.
    #[serde(default, skip_serializing_if = "is_false")]
    pub scheduled: bool,
    /// What becomes of an index of several platforms.
    #[serde(default, skip_serializing_if = "ImportMode::is_unset")]
    pub import_mode: ImportMode,
}

/// What importing makes of an index of several platforms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImportMode {
    /// Nothing was said: the server's default.
    #[default]
    #[serde(rename = "")]
    Unset,
    /// One platform is picked.
    Legacy,
    /// The index and all its children are kept.
    PreserveOriginal,
}

impl ImportMode {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    fn is_unset(&self) -> bool {
        *self == Self::Unset
    }
}

/// What pull spec users of a tag get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReferencePolicy {
    /// From where the image is pulled.
    #[serde(default, rename = "type")]
    #[schemars(transform = or_empty)]
    pub kind: ReferencePolicyType,
}

/// From where an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReferencePolicyType {
    /// From where it was imported.
    #[default]
    #[serde(alias = "")]
    Source,
    /// From the registry that serves the streams.
    Local,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// `host[:port]/namespace/name` in the registry that serves the streams; empty if there is none.
    #[serde(default, deserialize_with = "or_default")]
    pub docker_image_repository: String,
    /// The same under the registry's public host.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub public_docker_image_repository: String,
    /// Histories of the tags that have one, each tag once, in byte order of their names.
    // Duplicates are treated as in the spec.
    #[serde(default, deserialize_with = "tags_by_name", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["tag"]))]
    pub tags: Vec<TagEvents>,
}

/// The history of one tag.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TagEvents {
    /// Name of the tag.
    pub tag: String,
    /// Images the tag pointed to, newest first; written as `null` when empty.
    #[serde(default, deserialize_with = "or_default", serialize_with = "null_when_empty")]
    #[schemars(with = "Option<Vec<TagEvent>>")]
    pub items: Vec<TagEvent>,
    /// What went wrong last. A successful import has no condition.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<TagCondition>,
}

/// One image that a tag pointed to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagEvent {
    /// When it was added.
    #[serde(default, serialize_with = "in_seconds")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub created: Option<Timestamp>,
    /// Pull spec.
    pub docker_image_reference: String,
    /// Digest, `algorithm:hex`; empty for reference tags.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(regex(pattern = r"^([A-Za-z][A-Za-z0-9]*([.+_-][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?$"))]
    pub image: String,
    /// Generation of the spec tag that caused it.
    #[serde(default)]
    pub generation: i64,
}

/// Condition type of a failed import; its status is never `True`.
pub const IMPORT_SUCCESS: &str = "ImportSuccess";

/// What went wrong last with a tag.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagCondition {
    /// Which condition, `ImportSuccess`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// When the status changed.
    #[serde(default, serialize_with = "in_seconds")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_transition_time: Option<Timestamp>,
    /// One word for programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Generation of the spec tag that it is about.
    #[serde(default)]
    pub generation: i64,
}

impl Spec {
    /// The tags by name, for whoever looks for many of them that need not be there.
    #[must_use]
    pub fn by_name(&self) -> HashMap<&str, &SpecTag> {
        self.tags.iter().map(|tag| (tag.name.as_str(), tag)).collect()
    }

    /// The tag of that name.
    #[must_use]
    pub fn tag(&self, name: &str) -> Option<&SpecTag> {
        named(&self.tags, name)
    }
}

impl Status {
    /// The history of that tag.
    #[must_use]
    pub fn tag(&self, name: &str) -> Option<&TagEvents> {
        named(&self.tags, name)
    }
}

impl TagEvents {
    /// The condition that says that the newest import failed.
    #[must_use]
    pub fn failure(&self) -> Option<&TagCondition> {
        self.conditions.iter().find(|condition| condition.kind == IMPORT_SUCCESS && condition.status == "False")
    }
}

impl Named for SpecTag {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for TagEvents {
    fn name(&self) -> &str {
        &self.tag
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn written(input: Value) -> Value {
        serde_json::to_value(serde_json::from_value::<ImageStream>(input).unwrap()).unwrap()
    }

    #[test]
    fn smallest_stream_is_written_with_the_fields_that_openshift_always_writes() {
        let written = written(json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream",
            "metadata": {"name": "a"}, "spec": {"tags": [{"name": "1"}]}, "status": {"tags": [{"tag": "1"}]}}));
        assert_eq!(
            written,
            json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream", "metadata": {"name": "a"},
                "spec": {"lookupPolicy": {"local": false},
                    "tags": [{"name": "1", "annotations": null, "generation": null, "importPolicy": {},
                              "referencePolicy": {"type": "Source"}}]},
                "status": {"dockerImageRepository": "", "tags": [{"tag": "1", "items": null}]}})
        );
    }

    #[test]
    fn duplicate_tags_collapse_to_the_last_and_are_sorted_by_bytes() {
        let stream: ImageStream = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"tags": [
            {"name": "b", "generation": 1}, {"name": "B"}, {"name": "b", "generation": 2}, {"name": "10"}]}}))
        .unwrap();
        let tags: Vec<_> = stream.spec.tags.iter().map(|tag| (tag.name.as_str(), tag.generation)).collect();
        assert_eq!(tags, [("10", None), ("B", None), ("b", Some(2))]);
    }

    #[test]
    fn tags_are_found_in_whatever_order() {
        let tag = |name: &str| SpecTag { name: name.to_owned(), ..SpecTag::default() };
        for names in [["1", "2", "3"], ["3", "1", "2"], ["2", "3", "1"]] {
            let spec = Spec { tags: names.map(tag).to_vec(), ..Spec::default() };
            assert!(names.iter().all(|name| spec.tag(name).is_some_and(|tag| tag.name == *name)), "{names:?}");
            assert_eq!(spec.tag("4"), None);
        }
    }

    #[test]
    fn null_and_unknown_fields_are_tolerated_and_metadata_is_carried_along() {
        let stream =
            written(json!({"metadata": {"name": "a", "uid": "u", "managedFields": [{"manager": "m"}], "labels": null},
            "spec": null, "status": {"tags": null, "new": 1}, "other": {}}));
        assert_eq!(stream["metadata"], json!({"name": "a", "uid": "u", "managedFields": [{"manager": "m"}]}));
        assert_eq!(stream["spec"], json!({"lookupPolicy": {"local": false}}));
        assert_eq!(stream["status"], json!({"dockerImageRepository": ""}));
    }

    #[test]
    fn unset_policies_read_as_openshift_defaults_them() {
        let stream: ImageStream = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"tags": [
            {"name": "1", "importPolicy": {"importMode": ""}, "referencePolicy": {"type": ""}}]}}))
        .unwrap();
        assert_eq!(stream.spec.tags[0].reference_policy.kind, ReferencePolicyType::Source);
        assert_eq!(stream.spec.tags[0].import_policy.import_mode, ImportMode::Unset);
    }

    #[test]
    fn times_are_written_in_whole_seconds() {
        let event = written(json!({"metadata": {"name": "a"}, "status": {"tags": [{"tag": "1", "items": [
            {"created": "2026-01-01T00:00:00.9Z", "dockerImageReference": "a"}]}]}}));
        assert_eq!(
            event["status"]["tags"][0]["items"][0],
            json!({"created": "2026-01-01T00:00:00Z", "dockerImageReference": "a", "image": "", "generation": 0})
        );
    }

    #[test]
    fn invalid_policy_is_refused_with_the_valid_ones() {
        let error = serde_json::from_value::<ImageStream>(json!({"metadata": {"name": "a"}, "spec": {"tags": [
            {"name": "1", "referencePolicy": {"type": "Elsewhere"}}]}}))
        .unwrap_err()
        .to_string();
        assert!(error.contains("Elsewhere") && error.contains("Source") && error.contains("Local"), "{error}");
    }
}
