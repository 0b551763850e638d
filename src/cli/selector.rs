//! Label selectors as kubectl reads them, but for sets. Pure.

use std::collections::BTreeMap;
use std::str::FromStr;

/// What labels must be like; all of it must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selector(Vec<Requirement>);

/// What one label must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    /// It is there.
    Exists(String),
    /// It is not there.
    Absent(String),
    /// It has this value.
    Equal(String, String),
    /// It has another value, or is not there.
    Other(String, String),
}

impl Selector {
    /// These labels are meant.
    pub(super) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
            Requirement::Equal(key, value) => labels.get(key) == Some(value),
            Requirement::Other(key, value) => labels.get(key) != Some(value),
        })
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        written.split(',').map(requirement).collect::<Result<_, _>>().map(Self)
    }
}

fn requirement(written: &str) -> Result<Requirement, String> {
    let wrong =
        || format!("{written:?} selects no label; write key=value, key!=value, key or !key, such as app=web,!internal");
    let key = |key: &str| {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(is_letter) { Err(wrong()) } else { Ok(key.to_owned()) }
    };
    let value = |value: &str| {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let value = value.trim();
        if value.bytes().all(is_letter) { Ok(value.to_owned()) } else { Err(wrong()) }
    };
    if let Some((name, other)) = written.split_once("!=") {
        Ok(Requirement::Other(key(name)?, value(other)?))
    } else if let Some((name, equal)) = written.split_once("==").or_else(|| written.split_once('=')) {
        Ok(Requirement::Equal(key(name)?, value(equal)?))
    } else if let Some(name) = written.trim().strip_prefix('!') {
        key(name).map(Requirement::Absent)
    } else {
        key(written).map(Requirement::Exists)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("app=web", true)]
    #[case("app==web", true)]
    #[case("app=db", false)]
    #[case("app!=web", false)]
    #[case("app!=db", true)]
    #[case("tier!=front", true)]
    #[case("app", true)]
    #[case("!app", false)]
    #[case("!tier", true)]
    #[case("tier", false)]
    #[case("empty=", true)]
    #[case("app=web, example.com/team=a", true)]
    #[case("app=web,example.com/team=b", false)]
    fn labels_are_selected(#[case] selector: &str, #[case] expected: bool) {
        let labels = [("app", "web"), ("example.com/team", "a"), ("empty", "")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(selector.parse::<Selector>().unwrap().matches(&labels), expected);
    }

    #[rstest]
    #[case("")]
    #[case("app=web,")]
    #[case("=web")]
    #[case("!")]
    #[case("app in (web)")]
    #[case("app=a b")]
    fn what_is_no_selector_is_refused_with_an_example(#[case] selector: &str) {
        assert!(selector.parse::<Selector>().unwrap_err().contains("such as app=web,!internal"));
    }
}
