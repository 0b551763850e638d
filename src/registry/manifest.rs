//! What a manifest says: one image, or an index of several. Pure.

use serde::Deserialize;

use crate::image::{Child, Layer};

/// Media types that are asked for.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The most images that an index may have.
const CHILDREN_MAX: usize = 200;

/// The most layers that an image may have; few have more than a hundred.
const LAYERS_MAX: usize = 1000;

/// The most bytes of digests, media types and platforms: these are kept.
const WORDS_MAX: usize = 128 << 10;

/// A manifest that can be used.
#[derive(Clone, Debug, PartialEq)]
pub enum Manifest {
    /// One image.
    Image {
        /// Its media type.
        media_type: String,
        /// Digest and size of its configuration.
        config: (String, u64),
        /// Its layers, base first.
        layers: Vec<Layer>,
    },
    /// Several.
    Index {
        /// Its media type.
        media_type: String,
        /// Its images.
        children: Vec<Child>,
    },
}

/// Why a manifest cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is in Docker's old format.
    #[error(
        "its manifest is in Docker's old format (schema 1), which has no digest to pin; push the image again with a current tool"
    )]
    Schema1,
    /// It is no manifest.
    #[error("its manifest cannot be read: {0}")]
    Form(String),
    /// Its index has too many images.
    #[error("its index has {0} images, more than {CHILDREN_MAX}")]
    TooMany(usize),
    /// It has too many layers.
    #[error("it has {0} layers, more than {LAYERS_MAX}")]
    TooHigh(usize),
    /// What would be kept of it is too large.
    #[error("its manifest has {} KiB of digests, media types and platforms, more than {}", .0 >> 10, WORDS_MAX >> 10)]
    TooWordy(usize),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Platform {
    architecture: String,
    os: String,
    variant: String,
}

impl Written {
    /// Bytes of the texts in it that are kept.
    fn words(&self) -> usize {
        let descriptors = self.config.iter().chain(&self.layers).chain(self.manifests.iter().flatten());
        self.media_type.as_ref().map_or(0, String::len) + descriptors.map(Descriptor::words).sum::<usize>()
    }
}

impl Descriptor {
    fn words(&self) -> usize {
        let platform =
            self.platform.iter().flat_map(|platform| [&platform.architecture, &platform.os, &platform.variant]);
        platform.chain([&self.digest, &self.media_type]).map(String::len).sum()
    }
}

/// Reads a manifest. `content_type` is what the registry called it.
///
/// # Errors
/// If it is none, or too large.
pub fn read(bytes: &[u8], content_type: Option<&str>) -> Result<Manifest, ManifestError> {
    let content_type = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
    let written: Written = serde_json::from_slice(bytes).map_err(|error| ManifestError::Form(place(&error)))?;
    if written.schema_version == 1 || content_type.is_some_and(|value| value.contains("manifest.v1+prettyjws")) {
        return Err(ManifestError::Schema1);
    }
    let words = written.words();
    if words > WORDS_MAX {
        return Err(ManifestError::TooWordy(words));
    }
    let called = written.media_type.or_else(|| content_type.filter(|value| value.contains('+')).map(str::to_owned));
    if let Some(manifests) = written.manifests {
        if manifests.len() > CHILDREN_MAX {
            return Err(ManifestError::TooMany(manifests.len()));
        }
        let media_type = called.filter(|called| called == DOCKER_LIST).unwrap_or_else(|| OCI_INDEX.to_owned());
        return Ok(Manifest::Index { media_type, children: manifests.into_iter().map(child).collect() });
    }
    let config =
        written.config.ok_or_else(|| ManifestError::Form("it has neither a config nor manifests".to_owned()))?;
    if written.layers.len() > LAYERS_MAX {
        return Err(ManifestError::TooHigh(written.layers.len()));
    }
    let layer = |layer: Descriptor| Layer { name: layer.digest, size: layer.size, media_type: layer.media_type };
    Ok(Manifest::Image {
        media_type: called.unwrap_or_else(|| OCI_MANIFEST.to_owned()),
        config: (config.digest, config.size),
        layers: written.layers.into_iter().map(layer).collect(),
    })
}

/// Where an answer is not what it should be, without a word of it: whoever hears of it named a registry, and need not be one
/// who may read what is there.
pub(super) fn place(error: &serde_json::Error) -> String {
    let what = if error.is_data() { "something is not of the right type" } else { "it is no JSON" };
    format!("{what} at line {} column {}", error.line(), error.column())
}

/// Whether a media type is that of an index.
#[must_use]
pub fn is_index(media_type: &str) -> bool {
    [OCI_INDEX, DOCKER_LIST].contains(&media_type)
}

fn child(descriptor: Descriptor) -> Child {
    let Platform { architecture, os, variant } = descriptor.platform.unwrap_or_default();
    Child {
        digest: descriptor.digest,
        media_type: descriptor.media_type,
        manifest_size: descriptor.size,
        architecture,
        os,
        variant,
    }
}

/// The image of an index that OpenShift's mode `Legacy` takes: of the preferred platform, else linux/amd64, else the
/// first.
pub(super) fn pick<'a>(children: &'a [Child], system: Option<&str>, architecture: Option<&str>) -> Option<&'a Child> {
    let is = |child: &Child, system: &str, architecture: &str| child.os == system && child.architecture == architecture;
    let preferred = (system.is_some() || architecture.is_some())
        .then(|| (system.unwrap_or("linux"), architecture.unwrap_or("amd64")));
    let preferred =
        preferred.and_then(|(system, architecture)| children.iter().find(|child| is(child, system, architecture)));
    preferred.or_else(|| children.iter().find(|child| is(child, "linux", "amd64"))).or_else(|| children.first())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn children(platforms: &[(&str, &str)]) -> Vec<Child> {
        let child = |(os, architecture): &(&str, &str)| Child {
            digest: format!("{os}/{architecture}"),
            os: (*os).to_owned(),
            architecture: (*architecture).to_owned(),
            ..Child::default()
        };
        platforms.iter().map(child).collect()
    }

    #[rstest]
    #[case(&[("linux", "arm64"), ("linux", "amd64")], None, None, "linux/amd64")]
    #[case(&[("linux", "arm64"), ("linux", "amd64")], None, Some("arm64"), "linux/arm64")]
    #[case(&[("linux", "arm64"), ("linux", "amd64")], Some("windows"), Some("amd64"), "linux/amd64")]
    #[case(&[("windows", "amd64"), ("linux", "amd64")], Some("windows"), None, "windows/amd64")]
    #[case(&[("linux", "s390x"), ("linux", "arm64")], None, None, "linux/s390x")]
    fn platform_is_picked(
        #[case] platforms: &[(&str, &str)],
        #[case] system: Option<&str>,
        #[case] architecture: Option<&str>,
        #[case] expected: &str,
    ) {
        assert_eq!(pick(&children(platforms), system, architecture).unwrap().digest, expected);
        assert_eq!(pick(&[], system, architecture), None);
    }

    #[test]
    fn every_kind_of_manifest_is_read() {
        let image = json!({"schemaVersion": 2, "config": {"digest": "sha256:c", "size": 7},
            "layers": [{"digest": "sha256:l", "size": 9, "mediaType": "m"}]});
        let read_image = read(image.to_string().as_bytes(), Some("application/vnd.oci.image.manifest.v1+json; x=y"));
        assert!(
            matches!(read_image, Ok(Manifest::Image { config, layers, .. }) if config.1 == 7 && layers[0].size == 9)
        );
        let index = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [
            {"digest": "sha256:m", "size": 3, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}]});
        let read_index = read(index.to_string().as_bytes(), None);
        assert!(matches!(read_index, Ok(Manifest::Index { media_type, children })
            if media_type == DOCKER_LIST && children[0].variant == "v7"));
    }

    #[rstest]
    #[case(json!({"schemaVersion": 1, "fsLayers": []}), "schema 1")]
    #[case(json!({"schemaVersion": 2}), "neither a config nor manifests")]
    #[case(json!([]), "cannot be read")]
    #[case(json!({"manifests": vec![json!({"digest": "a"}); 201]}), "201 images")]
    #[case(json!({"config": {"digest": "a"}, "layers": vec![json!({"digest": "a"}); 1001]}), "1001 layers")]
    fn manifest_that_cannot_be_used_says_why(#[case] manifest: serde_json::Value, #[case] expected: &str) {
        let error = read(manifest.to_string().as_bytes(), None).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[rstest]
    #[case::media_type(json!({"config": {"digest": "a"}, "mediaType": "m".repeat(WORDS_MAX)}))]
    #[case::config(json!({"config": {"digest": "a", "mediaType": "m".repeat(WORDS_MAX)}}))]
    #[case::layers(json!({"config": {"digest": "a"}, "layers": vec![json!({"digest": "a".repeat(WORDS_MAX / 2)}); 2]}))]
    #[case::platforms(json!({"manifests": [{"digest": "a", "platform": {"os": "o".repeat(WORDS_MAX)}}]}))]
    fn what_is_kept_of_a_manifest_is_bounded(#[case] manifest: serde_json::Value) {
        let error = read(manifest.to_string().as_bytes(), None).unwrap_err().to_string();
        assert!(error.ends_with("128 KiB of digests, media types and platforms, more than 128"), "{error}");
    }

    #[test]
    fn image_with_as_many_layers_as_there_may_be_is_read() {
        let layer = json!({"digest": format!("sha256:{}", "0".repeat(64)), "size": 1,
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"});
        let image = json!({"config": {"digest": "a"}, "layers": vec![layer; LAYERS_MAX]});
        assert!(read(image.to_string().as_bytes(), None).is_ok());
    }

    proptest! {
        #[test]
        fn anything_can_be_tried(bytes in prop::collection::vec(any::<u8>(), 0..100), content_type in "\\PC{0,20}") {
            let _ = read(&bytes, Some(&content_type));
        }
    }
}
