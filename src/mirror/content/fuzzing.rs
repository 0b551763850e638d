//! The target of manifests and of images' configurations.

use jiff::Timestamp;
use serde_json::Value;

use super::facts::Facts;
use crate::digest::Digest;
use crate::fuzzing::{DIGEST, first_line};
use crate::image::Image;
use crate::registry::manifest::{self, Manifest};

/// A media type, a configuration and a manifest, of which the first two are a line each. A manifest that can be read is one of
/// an image or of an index, as a second reader says; to it belongs only what has a digest; the object that is made of it is
/// the same after it was written and read.
pub(crate) fn image(input: &[u8]) {
    let Some((content_type, rest)) = first_line(input) else { return };
    let (config, text) = rest.split_once('\n').unwrap_or(("", rest));
    let facts = Facts::read(text.as_bytes());
    let Ok(manifest) = manifest::read(text.as_bytes(), Some(content_type)) else { return };
    let value: Value = serde_json::from_str(text).expect("a manifest is JSON");
    let descriptors = |list: &str| value[list].as_array().cloned().unwrap_or_default();
    let image = match manifest {
        Manifest::Image { media_type, config: (config_digest, _), layers } => {
            assert!(value["config"].is_object() && !value["manifests"].is_array());
            let named: Vec<_> = descriptors("layers").iter().map(|layer| layer["digest"].clone()).collect();
            assert_eq!(layers.iter().map(|layer| Value::from(layer.name.as_str())).collect::<Vec<_>>(), named);
            Image::single(DIGEST, "r.io/a/b", &media_type, layers, (&config_digest, config.as_bytes()))
        }
        Manifest::Index { media_type, children } => {
            assert!(manifest::is_index(&media_type));
            let named: Vec<_> = descriptors("manifests").iter().map(|child| child["digest"].clone()).collect();
            assert_eq!(children.iter().map(|child| Value::from(child.digest.as_str())).collect::<Vec<_>>(), named);
            Image::index(DIGEST, "r.io/a/b", &media_type, children, Timestamp::UNIX_EPOCH)
        }
    };
    assert_same(&image);
    if let Ok(facts) = facts {
        assert!(facts.parts().all(|part| part.as_str().parse::<Digest>().is_ok_and(|again| again == *part)));
        assert!(facts.parts().count() <= 1 + descriptors("layers").len().max(descriptors("manifests").len()));
        assert!(facts.indexes.iter().all(|index| facts.children.contains(index)));
        assert!(facts.weight() < 10_000 && facts.media_type.is_ascii());
    }
}

/// The object survives as JSON, and as a custom resource.
fn assert_same(image: &Image) {
    let read = |image: &Image| -> Image {
        let json = serde_json::to_string(image).expect("an image has a JSON form");
        serde_json::from_str(&json).expect("what was written can be read")
    };
    assert_eq!(read(image), *image);
    assert_eq!(Image::from_resource(read(&image.as_custom_resource())), *image);
}
