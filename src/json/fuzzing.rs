//! What is promised of the reader, beside `serde_json`.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::{Json, Unreadable};

/// A text is read like `serde_json` reads it, if it is.
pub fn json(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        compare(text);
    }
}

/// Whether a text is taken when it is read, and when it is passed over. Whatever is taken is taken by `serde_json`, and read
/// as the same.
pub fn compare(text: &str) -> (bool, bool) {
    let value = read::<Value>(text);
    if let Ok(value) = &value {
        assert_eq!(serde_json::from_str::<Value>(text).ok().as_ref(), Some(value), "{text}");
    }
    let skipped = read::<IgnoredAny>(text);
    if skipped.is_ok() {
        assert!(serde_json::from_str::<IgnoredAny>(text).is_ok(), "{text}");
    }
    (value.is_ok(), skipped.is_ok())
}

/// A text as a value, all of it.
fn read<T: DeserializeOwned>(text: &str) -> Result<T, Unreadable> {
    let mut json = Json::new(text);
    let value = T::deserialize(&mut json)?;
    json.end().map(|()| value)
}
