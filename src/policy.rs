//! The policy: images are pinned by digest, or excepted, and what follows where they are neither. Pure.
//!
//! Which part of an object a write concerns is admission's to know, and where levels are written the store's.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::glob::glob;

/// The label of a namespace that says its level.
pub const LEVEL_LABEL: &str = "pinstream.dev/policy";

/// Algorithms of digests, each with its number of hexadecimal digits.
const ALGORITHMS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

/// What follows if an image is not pinned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// It is counted.
    #[default]
    Audit,
    /// Whoever writes the object is warned too.
    Warn,
    /// The object is refused.
    Enforce,
}

/// A level that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no level of the policy: write audit, warn or enforce")]
pub struct NoLevel(String);

impl Level {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Audit, Self::Warn, Self::Enforce];

    /// Reads a level as flags and labels have it.
    ///
    /// # Errors
    /// [`NoLevel`], which says what to write instead.
    pub fn parse(written: &str) -> Result<Self, NoLevel> {
        Self::ALL.into_iter().find(|level| level.label() == written).ok_or_else(|| NoLevel(written.to_owned()))
    }

    /// The level in one word.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Warn => "warn",
            Self::Enforce => "enforce",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The level of each namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Of namespaces that have none of their own.
    pub default: Level,
    /// Of those that have.
    pub namespaces: HashMap<Box<str>, Level>,
}

impl Levels {
    /// The level of a namespace.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Level {
        self.namespaces.get(namespace).copied().unwrap_or(self.default)
    }
}

/// Which images need not be pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceptions {
    /// Patterns of images, with `*` for any characters and `?` for one. The whole image has to fit.
    pub images: Vec<String>,
    /// Annotations of objects except nothing.
    pub without_annotations: bool,
}

/// Why an image that is not pinned may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// It fits a pattern.
    Pattern,
    /// The object says so.
    Annotation,
}

/// What the annotations of an object except, looked up as fast however long they are.
#[derive(Debug)]
pub struct Excepted<'v>(HashSet<&'v str>);

impl<'v> Excepted<'v> {
    /// By the values of the annotation on the object and on its pod template.
    #[must_use]
    pub fn by(annotations: impl IntoIterator<Item = &'v str>) -> Self {
        let names = annotations.into_iter().flat_map(|value| value.split(',')).map(str::trim);
        Self(names.filter(|name| !name.is_empty()).collect())
    }

    fn has(&self, name: &str) -> bool {
        !name.is_empty() && (self.0.contains(name) || self.0.contains("*"))
    }
}

impl Exceptions {
    /// Why an image of a container or volume need not be pinned; `None` if it has to be.
    #[must_use]
    pub fn find(&self, image: &str, name: &str, excepted: &Excepted<'_>) -> Option<Exception> {
        if self.images.iter().any(|pattern| glob(pattern, image)) {
            return Some(Exception::Pattern);
        }
        (!self.without_annotations && excepted.has(name)).then_some(Exception::Annotation)
    }
}

/// Whether an image ends with a digest, so that it is the same one wherever and whenever it is pulled.
#[must_use]
pub fn is_pinned(image: &str) -> bool {
    let Some((name, digest)) = image.split_once('@') else { return false };
    let Some((algorithm, digits)) = digest.split_once(':') else { return false };
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    !name.is_empty() && ALGORITHMS.contains(&(algorithm, digits.len())) && digits.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const HEX: &str = "87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

    #[rstest]
    #[case(format!("quay.io/a/b@sha256:{HEX}"), true)]
    #[case(format!("app:1@sha256:{HEX}"), true)]
    #[case(format!("app@sha512:{HEX}{HEX}"), true)]
    #[case("app:1".to_owned(), false)]
    #[case("app".to_owned(), false)]
    #[case(String::new(), false)]
    #[case(format!("@sha256:{HEX}"), false)]
    #[case(format!("sha256:{HEX}"), false)]
    #[case(format!("app@sha256:{HEX}0"), false)]
    #[case(format!("app@sha512:{HEX}"), false)]
    #[case(format!("app@sha256:{}", HEX.to_uppercase()), false)]
    #[case(format!("app@md5:{HEX}"), false)]
    #[case(format!("app@sha256:{HEX}@sha256:{HEX}"), false)]
    fn image_is_pinned_by_a_whole_digest_at_its_end(#[case] image: String, #[case] expected: bool) {
        assert_eq!(is_pinned(&image), expected);
    }

    #[rstest]
    #[case("registry.k8s.io/pause:3.10", "web", &[], Some(Exception::Pattern))]
    #[case("registry.k8s.io/pause:3.10", "web", &["*"], Some(Exception::Pattern))]
    #[case("mirror/registry.k8s.io/pause:3.10", "web", &[], None)]
    #[case("app:1", "web", &["*"], Some(Exception::Annotation))]
    #[case("app:1", "web", &["", "job, web"], Some(Exception::Annotation))]
    #[case("app:1", "web", &["job", "we"], None)]
    #[case("app:1", "web", &[""], None)]
    #[case("app:1", "", &["", "a,,b", "*"], None)]
    fn exceptions_are_found(
        #[case] image: &str,
        #[case] name: &str,
        #[case] annotations: &[&str],
        #[case] expected: Option<Exception>,
    ) {
        let exceptions = Exceptions { images: vec!["registry.k8s.io/pause*".to_owned()], without_annotations: false };
        let annotations = Excepted::by(annotations.iter().copied());
        assert_eq!(exceptions.find(image, name, &annotations), expected);
        let strict = Exceptions { without_annotations: true, ..exceptions };
        assert_eq!(strict.find(image, name, &annotations), expected.filter(|why| *why == Exception::Pattern));
    }

    #[test]
    fn levels_are_read_as_they_are_said() {
        for level in Level::ALL {
            assert_eq!(Level::parse(&level.to_string()), Ok(level));
        }
        for written in ["", "Enforce", "enforce ", "off"] {
            assert!(Level::parse(written).unwrap_err().to_string().contains("audit, warn or enforce"));
        }
    }

    #[test]
    fn namespace_without_a_level_has_the_default() {
        let levels = Levels { default: Level::Warn, namespaces: [("a".into(), Level::Enforce)].into() };
        assert_eq!((levels.of("a"), levels.of("b"), levels.of("")), (Level::Enforce, Level::Warn, Level::Warn));
    }

    proptest! {
        #[test]
        fn any_image_is_pinned_once_a_digest_is_put_behind_it(image in "[^@]{1,20}") {
            let pinned = format!("{image}@sha256:{HEX}");
            prop_assert!(!is_pinned(&image) && is_pinned(&pinned));
        }
    }
}
