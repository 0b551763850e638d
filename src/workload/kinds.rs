//! The one table of kinds with a pod template, and where in the object it stands.
//!
//! What is in it by default is OpenShift's list of kinds with local look-up; users add their own.

use std::fmt;

/// A kind of object and the way to its pod template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind, in the singular.
    pub kind: String,
    /// JSON pointer to the pod template; empty if the object is one itself.
    template: String,
    /// The unescaped tokens of `template`.
    path: Box<[String]>,
}

/// The kinds whose images are resolved. Every version of a group counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kinds(Vec<Kind>);

/// Group, kind, pod template, and whether it is in the table without being asked for.
const BUILT_IN: &[(&str, &str, &str, bool)] = &[
    ("", "Pod", "", true),
    ("", "ReplicationController", "/spec/template", true),
    ("", "PodTemplate", "/template", false),
    ("apps", "Deployment", "/spec/template", true),
    ("apps", "ReplicaSet", "/spec/template", true),
    ("apps", "StatefulSet", "/spec/template", true),
    ("apps", "DaemonSet", "/spec/template", true),
    ("batch", "Job", "/spec/template", true),
    ("batch", "CronJob", "/spec/jobTemplate/spec/template", true),
    ("extensions", "Deployment", "/spec/template", true),
    ("extensions", "ReplicaSet", "/spec/template", true),
    ("extensions", "DaemonSet", "/spec/template", true),
    ("apps.openshift.io", "DeploymentConfig", "/spec/template", false),
];

/// Why a kind that a user named cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    /// A bare name that no built-in kind has.
    #[error(
        "\"{0}\" is no built-in kind that can be switched on (these can: {1}); for others write GROUP/KIND=POINTER, such as argoproj.io/Rollout=/spec/template"
    )]
    Unknown(String, String),
    /// There is a `=` but no group and kind before it.
    #[error("\"{0}\" names no kind: write GROUP/KIND=POINTER, such as argoproj.io/Rollout=/spec/template")]
    NoKind(String),
    /// What follows `=` is no JSON pointer.
    #[error(
        "\"{0}\" is no JSON pointer (RFC 6901): it is empty, or starts with \"/\", and \"~\" stands only in \"~0\" and \"~1\""
    )]
    Pointer(String),
}

impl Kind {
    fn new(group: &str, kind: &str, template: &str) -> Option<Self> {
        let path = match template.strip_prefix('/') {
            Some(tokens) => tokens.split('/').map(unescape).collect::<Option<_>>()?,
            None if template.is_empty() => Box::default(),
            None => return None,
        };
        Some(Self { group: group.to_owned(), kind: kind.to_owned(), template: template.to_owned(), path })
    }

    /// Reads a kind as users write it: `GROUP/KIND=POINTER`, or the name of a built-in kind that is off by default.
    ///
    /// # Errors
    /// [`KindError`], which says what to write instead.
    pub fn parse(written: &str) -> Result<Self, KindError> {
        let Some((name, pointer)) = written.split_once('=') else {
            let optional = || BUILT_IN.iter().filter(|(.., by_default)| !by_default);
            return optional()
                .find(|(_, kind, ..)| *kind == written)
                .and_then(|(group, kind, template, _)| Self::new(group, kind, template))
                .ok_or_else(|| {
                    let names: Vec<_> = optional().map(|(_, kind, ..)| *kind).collect();
                    KindError::Unknown(written.to_owned(), names.join(", "))
                });
        };
        match name.split_once('/') {
            Some((group, kind)) if !kind.is_empty() && !kind.contains('/') => {
                Self::new(group, kind, pointer).ok_or_else(|| KindError::Pointer(pointer.to_owned()))
            }
            _ => Err(KindError::NoKind(written.to_owned())),
        }
    }

    /// JSON pointer to the pod template, relative to the object; empty if the object is one itself.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.template
    }

    pub(super) fn path(&self) -> &[String] {
        &self.path
    }

    /// The core Pod.
    #[must_use]
    pub fn is_pod(&self) -> bool {
        self.group.is_empty() && self.kind == "Pod"
    }

    /// A Job, whose template cannot be changed once it is there.
    #[must_use]
    pub fn is_job(&self) -> bool {
        self.group == "batch" && self.kind == "Job"
    }
}

impl Kinds {
    /// The built-in kinds and `more`, which take the place of built-in ones of the same group and kind.
    #[must_use]
    pub fn with(more: Vec<Kind>) -> Self {
        let mut kinds = more;
        for (group, kind, template, by_default) in BUILT_IN {
            let is_new = !kinds.iter().any(|other| other.group == *group && other.kind == *kind);
            if *by_default && is_new {
                kinds.extend(Kind::new(group, kind, template));
            }
        }
        Self(kinds)
    }

    /// Of these kinds only the core Pod, as where only Pods are pinned.
    #[must_use]
    pub fn only_pods(&self) -> Self {
        Self(self.0.iter().filter(|kind| kind.is_pod()).cloned().collect())
    }

    /// The entry of a group and kind.
    #[must_use]
    pub fn find(&self, group: &str, kind: &str) -> Option<&Kind> {
        self.0.iter().find(|entry| entry.kind == kind && entry.group == group)
    }
}

impl Default for Kinds {
    fn default() -> Self {
        Self::with(Vec::new())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}={}", self.group, self.kind, self.template)
    }
}

/// Undoes the escapes of one token of a JSON pointer; `None` if a `~` is followed by neither 0 nor 1.
fn unescape(token: &str) -> Option<String> {
    let mut pieces = token.split('~');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (escaped, rest) = piece.split_at_checked(1)?;
        plain.push(match escaped {
            "0" => '~',
            "1" => '/',
            _ => return None,
        });
        plain.push_str(rest);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn every_built_in_pointer_is_one() {
        let (on, off): (Vec<_>, Vec<_>) = BUILT_IN.iter().copied().partition(|(.., by_default)| *by_default);
        assert_eq!(Kinds::default().0.len(), on.len());
        for (_, kind, ..) in off {
            assert!(Kind::parse(kind).is_ok(), "{kind}");
        }
    }

    #[rstest]
    #[case("argoproj.io/Rollout=/spec/template", "argoproj.io", "Rollout", &["spec", "template"])]
    #[case("PodTemplate", "", "PodTemplate", &["template"])]
    #[case("/Thing=/a~1b/~0/0", "", "Thing", &["a/b", "~", "0"])]
    #[case("tekton.dev/Task=", "tekton.dev", "Task", &[])]
    fn kinds_are_read_as_users_write_them(
        #[case] written: &str,
        #[case] group: &str,
        #[case] kind: &str,
        #[case] path: &[&str],
    ) {
        let parsed = Kind::parse(written).unwrap();
        assert_eq!((parsed.group.as_str(), parsed.kind.as_str()), (group, kind));
        assert_eq!(parsed.path(), path);
        let kinds = Kinds::with(vec![parsed.clone()]);
        assert_eq!(kinds.find(group, kind), Some(&parsed));
    }

    #[rstest]
    #[case("Rollout", "no built-in kind that can be switched on (these can: PodTemplate, DeploymentConfig)")]
    #[case("Rollout=/spec", "names no kind")]
    #[case("a/b/c=/spec", "names no kind")]
    #[case("a/=/spec", "names no kind")]
    #[case("a/B=spec", "is no JSON pointer")]
    #[case("a/B=/~2", "is no JSON pointer")]
    #[case("a/B=/~", "is no JSON pointer")]
    #[case("a/B=/~ä", "is no JSON pointer")]
    fn what_is_no_kind_is_refused_with_a_reason(#[case] written: &str, #[case] reason: &str) {
        let error = Kind::parse(written).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn only_pods_has_no_other_kind_whatever_was_added() {
        let kinds = Kinds::with(vec![Kind::parse("argoproj.io/Rollout=/spec/template").unwrap()]).only_pods();
        assert_eq!(kinds.0.len(), 1);
        assert!(kinds.find("", "Pod").is_some_and(Kind::is_pod));
    }

    #[test]
    fn user_can_move_the_template_of_a_built_in_kind() {
        let kinds = Kinds::with(vec![Kind::parse("apps/Deployment=/spec/other").unwrap()]);
        assert_eq!(kinds.find("apps", "Deployment").map(Kind::template), Some("/spec/other"));
        assert!(kinds.find("apps", "Nothing").is_none());
    }
}
