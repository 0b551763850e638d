//! Namespaces from which everybody may pull. Pure.

/// Patterns of namespaces, with `*` for any characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anonymous(Vec<String>);

impl Anonymous {
    /// Those that these patterns fit.
    #[must_use]
    pub fn new(patterns: Vec<String>) -> Self {
        Self(patterns)
    }

    /// All of them.
    #[must_use]
    pub fn everywhere() -> Self {
        Self(vec!["*".to_owned()])
    }

    /// Whether one is among them.
    #[must_use]
    pub fn covers(&self, namespace: &str) -> bool {
        self.0.iter().any(|pattern| fits(pattern, namespace))
    }

    /// Whether all are.
    #[must_use]
    pub fn is_everywhere(&self) -> bool {
        self.0.iter().any(|pattern| pattern == "*")
    }
}

/// The first piece begins it, the last ends it, the others follow one another in between.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut pieces = rest.split('*');
    let last = pieces.next_back().unwrap_or_default();
    for piece in pieces {
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("demo", "demo", true)]
    #[case("demo", "demo2", false)]
    #[case("*", "demo", true)]
    #[case("team-*", "team-a", true)]
    #[case("team-*", "a-team-b", false)]
    #[case("*-public", "a-public", true)]
    #[case("*-public", "a-public-not", false)]
    #[case("a*b*c", "aXbYc", true)]
    #[case("a*b*c", "abc", true)]
    #[case("a*b*c", "acb", false)]
    #[case("aa*aa", "aaa", false)]
    #[case("", "demo", false)]
    fn namespaces_fit_patterns(#[case] pattern: &str, #[case] namespace: &str, #[case] expected: bool) {
        assert_eq!(Anonymous::new(vec![pattern.to_owned()]).covers(namespace), expected);
    }

    #[test]
    fn none_and_all() {
        assert!(!Anonymous::default().covers("demo") && Anonymous::everywhere().covers("demo"));
        assert!(Anonymous::everywhere().is_everywhere() && !Anonymous::new(vec!["a*".to_owned()]).is_everywhere());
    }
}
