//! Any string is parsed or refused; what is parsed prints as it was written, and stays one when pinned.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinstream::reference::Reference;

const DIGEST: &str = "sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

fuzz_target!(|written: &str| {
    let Ok(parsed) = Reference::parse(written) else { return };
    assert_eq!(parsed.to_string(), written);
    if let Some(pinned) = parsed.at_digest(DIGEST) {
        let pinned = Reference::parse(&pinned).expect("a pinned reference is one");
        assert_eq!((pinned.digest, pinned.tag, pinned.name), (Some(DIGEST), None, parsed.name));
    }
});
