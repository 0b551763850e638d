//! Patterns with `*` and `?`, as users write them. Pure.

/// Whether a pattern fits a text: `*` stands for any characters, `?` for one.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at_pattern, mut at_text) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at_text < text.len() {
        match pattern.get(at_pattern) {
            Some('*') => {
                star = Some((at_pattern + 1, at_text));
                at_pattern += 1;
            }
            Some(character) if *character == '?' || *character == text[at_text] => {
                at_pattern += 1;
                at_text += 1;
            }
            _ => {
                let Some((after_star, taken)) = star else { return false };
                star = Some((after_star, taken + 1));
                (at_pattern, at_text) = (after_star, taken + 1);
            }
        }
    }
    pattern[at_pattern..].iter().all(|character| *character == '*')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", "", true)]
    #[case("", "a", false)]
    #[case("*", "", true)]
    #[case("?", "", false)]
    #[case("registry.k8s.io/pause*", "registry.k8s.io/pause:3.10", true)]
    #[case("registry.k8s.io/pause*", "mirror/registry.k8s.io/pause:3.10", false)]
    #[case("quay.io/*/app:?", "quay.io/a/b/app:1", true)]
    #[case("quay.io/*/app:?", "quay.io/a/b/app:12", false)]
    #[case("*a*b", "xaxbab", true)]
    #[case("*a*b", "xaxba", false)]
    fn whole_text_has_to_fit(#[case] pattern: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(glob(pattern, text), expected);
    }
}
