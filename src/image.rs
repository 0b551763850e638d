//! What is known of one image: OpenShift's Image object, made of a manifest and its configuration. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Kind of the object.
pub const KIND: &str = "Image";
const OPENSHIFT: &str = "image.openshift.io/v1";
const PINSTREAM: &str = "pinstream.dev/v1";
/// Annotation: in which order layers are listed.
const LAYERS_ORDER: &str = "image.openshift.io/dockerLayersOrder";

/// What is known of one image, named by its digest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Group and version.
    pub api_version: String,
    /// Always `Image`.
    pub kind: String,
    /// Its name, and annotations.
    pub metadata: ImageMetadata,
    /// Pull spec under which it was found first.
    pub docker_image_reference: String,
    /// What its author said about it.
    #[serde(default)]
    pub docker_image_metadata: Description,
    /// Version of that.
    #[serde(default)]
    pub docker_image_metadata_version: String,
    /// Its layers, base first. Empty for an index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub docker_image_layers: Vec<Layer>,
    /// Media type of its manifest.
    #[serde(default)]
    pub docker_image_manifest_media_type: String,
    /// The images of an index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub docker_image_manifests: Vec<Child>,
}

/// Name and annotations; the rest is carried along.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageMetadata {
    /// Digest, or as a custom resource the digest with a dash in place of the colon.
    pub name: String,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Every other field, as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What an image's author said about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Description {
    /// Always `DockerImage`.
    #[serde(rename = "kind")]
    pub kind: String,
    /// Always `image.openshift.io/1.0`.
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    /// Digest of the configuration, or of the index.
    #[serde(default)]
    pub id: String,
    /// When it was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// How it was built, long ago.
    #[serde(default)]
    pub container_config: Map<String, Value>,
    /// Who built it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// How it is run: `User`, `ExposedPorts`, `Env`, `Entrypoint`, `Cmd`, `WorkingDir`, `Volumes`, `Labels`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
    /// Its architecture.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    /// Bytes of the configuration and of the layers, each once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(size: &u64) -> bool {
    *size == 0
}

/// One layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Digest.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Media type.
    pub media_type: String,
}

/// One image of an index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Child {
    /// Digest of its manifest.
    pub digest: String,
    /// Media type of its manifest.
    pub media_type: String,
    /// Bytes of its manifest.
    pub manifest_size: u64,
    /// Its architecture.
    pub architecture: String,
    /// Its operating system.
    pub os: String,
    /// Its variant of the architecture.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// The part of an image's configuration that is kept.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Configuration {
    created: Option<Timestamp>,
    author: Option<String>,
    architecture: Option<String>,
    config: Option<Map<String, Value>>,
}

impl Image {
    /// A single image. `config_digest` and `config` are its configuration; of one that is no image configuration nothing
    /// is kept.
    #[must_use]
    pub fn single(
        digest: &str,
        pull_spec: &str,
        media_type: &str,
        layers: Vec<Layer>,
        (config_digest, config): (&str, &[u8]),
    ) -> Self {
        let said: Configuration = serde_json::from_slice(config).unwrap_or_default();
        let distinct: BTreeSet<_> = layers.iter().map(|layer| (layer.name.as_str(), layer.size)).collect();
        let size =
            distinct.iter().map(|(_, size)| size).fold(config.len() as u64, |sum, size| sum.saturating_add(*size));
        let mut image = Self::named(digest, pull_spec, media_type);
        image.metadata.annotations.insert(LAYERS_ORDER.to_owned(), "ascending".to_owned());
        image.docker_image_layers = layers;
        image.docker_image_metadata = Description {
            id: config_digest.to_owned(),
            created: said.created,
            author: said.author.unwrap_or_default(),
            config: said.config.map(|config| config.into_iter().filter(|(_, value)| !is_empty(value)).collect()),
            architecture: said.architecture.unwrap_or_default(),
            size,
            ..image.docker_image_metadata
        };
        image
    }

    /// An index of several images.
    #[must_use]
    pub fn index(digest: &str, pull_spec: &str, media_type: &str, children: Vec<Child>, now: Timestamp) -> Self {
        let mut image = Self::named(digest, pull_spec, media_type);
        digest.clone_into(&mut image.docker_image_metadata.id);
        image.docker_image_metadata.created = Some(now);
        image.docker_image_manifests = children;
        image
    }

    fn named(digest: &str, pull_spec: &str, media_type: &str) -> Self {
        Self {
            api_version: OPENSHIFT.to_owned(),
            kind: KIND.to_owned(),
            metadata: ImageMetadata { name: digest.to_owned(), ..ImageMetadata::default() },
            docker_image_reference: pull_spec.to_owned(),
            docker_image_metadata: Description {
                kind: "DockerImage".to_owned(),
                api_version: "image.openshift.io/1.0".to_owned(),
                ..Description::default()
            },
            docker_image_metadata_version: "1.0".to_owned(),
            docker_image_manifest_media_type: media_type.to_owned(),
            ..Self::default()
        }
    }

    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.metadata.name
    }

    /// The name of the custom resource for a digest: names can hold no colon.
    #[must_use]
    pub fn resource_name(digest: &str) -> String {
        digest.replacen(':', "-", 1)
    }

    /// As the custom resource.
    #[must_use]
    pub fn as_custom_resource(&self) -> Self {
        let mut resource = self.clone();
        PINSTREAM.clone_into(&mut resource.api_version);
        resource.metadata.name = Self::resource_name(self.digest());
        resource
    }

    /// Of the custom resource, or of OpenShift's own.
    #[must_use]
    pub fn from_resource(mut resource: Self) -> Self {
        OPENSHIFT.clone_into(&mut resource.api_version);
        resource.metadata.name = resource.metadata.name.replacen('-', ":", 1);
        resource
    }
}

/// What Go leaves out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn layer(name: &str, size: u64) -> Layer {
        Layer { name: name.into(), size, media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into() }
    }

    #[test]
    fn image_is_written_as_openshift_does() {
        let config = json!({"created": "2026-01-02T03:04:05Z", "author": "t", "architecture": "amd64", "os": "linux",
            "config": {"User": "1000", "Env": ["A=b"], "Entrypoint": ["/hello"], "Cmd": null, "Labels": {"x": "y"}}})
        .to_string();
        let layers = vec![layer("sha256:1", 100), layer("sha256:1", 100)];
        let image = Image::single("sha256:aa", "q.io/a@sha256:aa", "m", layers, ("sha256:cc", config.as_bytes()));
        assert_eq!(
            serde_json::to_value(&image).unwrap(),
            json!({"apiVersion": "image.openshift.io/v1", "kind": "Image",
                "metadata": {"name": "sha256:aa", "annotations": {"image.openshift.io/dockerLayersOrder": "ascending"}},
                "dockerImageReference": "q.io/a@sha256:aa",
                "dockerImageMetadata": {"kind": "DockerImage", "apiVersion": "image.openshift.io/1.0", "Id": "sha256:cc",
                    "Created": "2026-01-02T03:04:05Z", "ContainerConfig": {}, "Author": "t",
                    "Config": {"User": "1000", "Env": ["A=b"], "Entrypoint": ["/hello"], "Labels": {"x": "y"}},
                    "Architecture": "amd64", "Size": 100 + config.len()},
                "dockerImageMetadataVersion": "1.0",
                "dockerImageLayers": [
                    {"name": "sha256:1", "size": 100, "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"},
                    {"name": "sha256:1", "size": 100, "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}],
                "dockerImageManifestMediaType": "m"})
        );
    }

    #[test]
    fn custom_resource_has_a_name_that_kubernetes_takes() {
        let image = Image::index("sha256:aa", "q.io/a@sha256:aa", "m", Vec::new(), Timestamp::UNIX_EPOCH);
        let resource = image.as_custom_resource();
        assert_eq!((resource.metadata.name.as_str(), resource.api_version.as_str()), ("sha256-aa", "pinstream.dev/v1"));
        assert_eq!(Image::from_resource(resource), image);
    }

    #[test]
    fn configuration_that_is_none_leaves_an_image_without_a_description() {
        for config in ["", "{", "[]", "{\"created\": \"yesterday\"}", "\u{0}"] {
            let image = Image::single("sha256:aa", "q.io/a", "m", Vec::new(), ("sha256:cc", config.as_bytes()));
            assert_eq!(image.docker_image_metadata.config, None);
        }
    }
}
