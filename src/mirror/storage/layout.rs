//! Where something stands: `<algorithm>/<two digits>/<digits>`, so that no folder has too many. Pure.

use crate::digest::Digest;

/// How many there are of folders and name.
pub(super) const PARTS: usize = 3;

/// Folders and name of what has a digest.
pub(super) fn parts(digest: &Digest) -> [&str; PARTS] {
    [digest.algorithm(), digest.hex().get(..2).unwrap_or_default(), digest.hex()]
}

/// What stands there, if that is its place.
pub(super) fn digest<'a>(path: impl IntoIterator<Item = &'a str>) -> Option<Digest> {
    let found: Vec<_> = path.into_iter().collect();
    let [algorithm, _, hex] = found[..] else { return None };
    let digest: Digest = format!("{algorithm}:{hex}").parse().ok()?;
    (parts(&digest)[..] == found[..]).then_some(digest)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn place_of_something_tells_what_it_is() {
        let known = Digest::of(b"a");
        assert_eq!(parts(&known), ["sha256", &known.hex()[..2], known.hex()]);
        assert_eq!(digest(parts(&known)), Some(known));
    }

    #[rstest]
    #[case::empty("")]
    #[case::other_folder("sha256/zz/ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")]
    #[case::no_folder("sha256/ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")]
    #[case::deeper("x/sha256/ca/ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")]
    #[case::half_written("sha256/ca/ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb#1")]
    #[case::other_kind("md5/ca/ca978112ca1bbdcafac231b39a23dc4d")]
    fn what_stands_elsewhere_is_nothing(#[case] path: &str) {
        assert_eq!(digest(path.split('/')), None);
    }
}
