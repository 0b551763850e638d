//! What a manifest says of what belongs to it. Pure.

use crate::digest::Digest;
use crate::registry::manifest::{self, Manifest, ManifestError, is_index};

/// What belongs to a manifest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its media type, as it says itself.
    pub(super) media_type: Box<str>,
    /// The images of an index.
    pub(super) children: Box<[Digest]>,
    /// Those of them that are indexes themselves.
    pub(super) indexes: Box<[Digest]>,
    /// The configuration and the layers of an image, and their sizes.
    blobs: Box<[(Digest, u64)]>,
}

impl Facts {
    /// Reads a manifest. What has no digest that can be checked does not belong to it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ManifestError> {
        let (media_type, children, blobs) = match manifest::read(bytes, None)? {
            Manifest::Index { media_type, children } => (media_type, children, Vec::new()),
            Manifest::Image { media_type, config, layers } => {
                let layers = layers.into_iter().map(|layer| (layer.name, layer.size));
                let all = std::iter::once(config).chain(layers);
                (media_type, Vec::new(), all.filter_map(|(digest, size)| Some((digest.parse().ok()?, size))).collect())
            }
        };
        let digests = |are_indexes: bool| {
            let wanted = children.iter().filter(|child| !are_indexes || is_index(&child.media_type));
            wanted.filter_map(|child| child.digest.parse().ok()).collect()
        };
        let (children, indexes) = (digests(false), digests(true));
        let is_plain = media_type.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain {
            return Err(ManifestError::Form("its media type is none".to_owned()));
        }
        Ok(Self { media_type: media_type.into(), children, indexes, blobs: blobs.into() })
    }

    /// The size of a blob, if it belongs to it.
    pub(super) fn blob(&self, digest: &Digest) -> Option<u64> {
        self.blobs.iter().find(|(known, _)| known == digest).map(|(_, size)| *size)
    }

    /// Everything that belongs to it.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Digest> {
        self.children.iter().chain(self.blobs.iter().map(|(digest, _)| digest))
    }

    /// How much memory it takes, roughly, in hundreds of bytes.
    pub(super) fn weight(&self) -> usize {
        2 + self.children.len() + self.indexes.len() + self.blobs.len()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    #[test]
    fn parts_of_images_and_indexes_are_known() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let image = json!({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"digest": one.as_str(), "size": 7},
            "layers": [{"digest": two.as_str(), "size": 9}, {"digest": "md5:1", "size": 1}]});
        let facts = Facts::read(image.to_string().as_bytes()).unwrap();
        assert_eq!(&*facts.media_type, "application/vnd.docker.distribution.manifest.v2+json");
        assert_eq!((facts.blob(&one), facts.blob(&two), facts.blob(&Digest::of(b"3"))), (Some(7), Some(9), None));
        assert_eq!(facts.parts().collect::<Vec<_>>(), [&one, &two]);

        let index = json!({"schemaVersion": 2, "manifests": [{"digest": one.as_str(), "size": 7}, {"digest": "../x"},
            {"digest": two.as_str(), "mediaType": INDEX}]});
        let facts = Facts::read(index.to_string().as_bytes()).unwrap();
        assert_eq!((&*facts.media_type, &*facts.children), (INDEX, &[one.clone(), two.clone()][..]));
        assert_eq!(*facts.indexes, [two]);
        assert_eq!(facts.blob(&one), None);
    }

    #[test]
    fn media_type_that_is_no_header_is_refused() {
        let image = json!({"mediaType": "a\r\nb", "config": {"digest": Digest::of(b"1").as_str()}, "layers": []});
        assert!(Facts::read(image.to_string().as_bytes()).is_err());
        assert!(Facts::read(b"{").is_err());
    }
}
