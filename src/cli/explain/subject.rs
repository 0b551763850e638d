//! What is to be explained: an image, or the images of an object. Pure.

use std::str::FromStr;

use crate::cli::resource;
use crate::store::kube::Resource;

/// What was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// An image, as it is written in a container.
    Image(String),
    /// An object with images.
    Object(Resource, String),
}

/// What may stand before a short name.
const TAGS: [&str; 6] = ["is", "imagestream", "imagestreams", "istag", "imagestreamtag", "imagestreamtags"];

impl FromStr for Subject {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let image = || Self::Image(written.to_owned());
        let Some((kind, name)) = written.split_once('/') else { return Ok(image()) };
        if TAGS.contains(&kind) {
            return Ok(Self::Image(name.to_owned()));
        }
        let Some(resource) = resource::find(kind) else { return Ok(image()) };
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = name.as_bytes();
        let is_name = bytes.first().copied().is_some_and(is_letter)
            && bytes.iter().all(|byte| is_letter(*byte) || b".-".contains(byte));
        if is_name {
            Ok(Self::Object(resource, name.to_owned()))
        } else {
            Err(format!("{name:?} is no name of a {}; write TYPE/NAME, such as {kind}/web", resource.kind))
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("keycloak:20.0", None)]
    #[case("quay.io/keycloak/keycloak", None)]
    #[case("library/nginx", None)]
    #[case("pod/web-0", Some(("Pod", "web-0")))]
    #[case("deploy/web", Some(("Deployment", "web")))]
    #[case("deployments/web", Some(("Deployment", "web")))]
    #[case("CronJob/nightly", Some(("CronJob", "nightly")))]
    fn objects_are_told_from_images(#[case] written: &str, #[case] expected: Option<(&str, &str)>) {
        let expected = match expected {
            Some((kind, name)) => Subject::Object(resource::find(kind).unwrap(), name.to_owned()),
            None => Subject::Image(written.to_owned()),
        };
        assert_eq!(written.parse(), Ok(expected));
    }

    #[test]
    fn tag_of_a_stream_is_an_image() {
        assert_eq!("istag/keycloak:20.0".parse(), Ok(Subject::Image("keycloak:20.0".to_owned())));
    }

    #[rstest]
    #[case("pod/")]
    #[case("pod/../secrets")]
    #[case("deploy/Web")]
    fn names_are_checked(#[case] written: &str) {
        assert!(written.parse::<Subject>().unwrap_err().contains("such as "));
    }
}
