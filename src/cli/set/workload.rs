//! Workloads as they are named on the command line, and the annotation that looks up all their images. Pure.

use std::fmt;

use serde_json::{Value, json};

use crate::cli::name::stream_name;
use crate::cli::resource::{self, group_of};
use crate::store::kube::Resource;
use crate::workload::Kinds;
use crate::workload::slots::RESOLVE_NAMES;

/// Something whose look-up can be set.
#[derive(Clone, Debug)]
pub(super) enum Name {
    Stream(String),
    Workload(Kind, String),
}

/// A kind of workload.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub resource: Resource,
    /// JSON pointer to what carries the annotation.
    place: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(name) => f.write_str(name),
            Self::Workload(kind, name) => write!(f, "{}/{name}", kind.resource.plural),
        }
    }
}

/// Reads NAME or TYPE/NAME.
pub(super) fn name(written: &str) -> Result<Name, String> {
    let Some((kind, name)) =
        written.split_once('/').filter(|(kind, _)| !matches!(*kind, "is" | "imagestream" | "imagestreams"))
    else {
        return stream_name(written).map(Name::Stream);
    };
    let known = resource::find(kind).ok_or_else(|| {
        let known = resource::short_names();
        format!("{kind:?} is no kind with images; write one of is, {known}, such as deploy/web")
    })?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    if is_name {
        Ok(Name::Workload(Kind::of(known), name.to_owned()))
    } else {
        Err(format!("{name:?} is no name; write TYPE/NAME, such as deploy/web"))
    }
}

impl Kind {
    fn of(resource: Resource) -> Self {
        let kinds = Kinds::default();
        // A Job's template cannot be changed, but the Job itself counts too.
        let known = kinds.find(group_of(resource.api_version), resource.kind).filter(|kind| !kind.is_job());
        let place = known.map(|kind| kind.template().to_owned()).unwrap_or_default();
        Self { resource, place }
    }

    /// As messages name it: `deployment.apps`.
    pub(super) fn singular(&self) -> String {
        let kind = self.resource.kind.to_ascii_lowercase();
        match group_of(self.resource.api_version) {
            "" => kind,
            group => format!("{kind}.{group}"),
        }
    }

    /// All images of the object are looked up.
    pub(super) fn is_forced(&self, object: &Value) -> bool {
        ["", &self.place].iter().any(|place| annotation(object, place) == Some("*"))
    }

    /// The merge patch that looks up all images or does not. `None` if it is so.
    pub(super) fn patch(&self, object: &Value, enabled: bool) -> Option<Value> {
        if self.is_forced(object) == enabled {
            return None;
        }
        if enabled {
            return Some(at(&self.place, &json!("*")));
        }
        let mut patch = at(&self.place, &Value::Null);
        if annotation(object, "").is_some() {
            patch["metadata"] = at("", &Value::Null)["metadata"].take();
        }
        Some(patch)
    }
}

fn annotation<'a>(object: &'a Value, place: &str) -> Option<&'a str> {
    object.pointer(place)?.get("metadata")?.get("annotations")?.get(RESOLVE_NAMES)?.as_str()
}

/// A merge patch that sets the annotation at a place.
fn at(place: &str, value: &Value) -> Value {
    let annotated = json!({"metadata": {"annotations": {RESOLVE_NAMES: value}}});
    place.split('/').skip(1).collect::<Vec<_>>().into_iter().rev().fold(annotated, |below, field| json!({field: below}))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("keycloak", Ok("keycloak"))]
    #[case("is/keycloak", Ok("keycloak"))]
    #[case("deploy/web", Ok("deployments/web"))]
    #[case("deployment.apps/web", Ok("deployments/web"))]
    #[case("cronjobs/web", Ok("cronjobs/web"))]
    #[case("po/web.1", Ok("pods/web.1"))]
    #[case("deployment.batch/web", Err("is no kind with images"))]
    #[case("secret/web", Err("write one of is, po,"))]
    #[case("deploy/", Err("is no name"))]
    #[case("deploy/a/b", Err("is no name"))]
    #[case("Web", Err("is no name of an image stream"))]
    fn names_are_read(#[case] written: &str, #[case] expected: Result<&str, &str>) {
        match (name(written), expected) {
            (Ok(read), Ok(expected)) => assert_eq!(read.to_string(), expected),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (read, _) => panic!("{read:?}"),
        }
    }

    fn kind(written: &str) -> Kind {
        match name(written) {
            Ok(Name::Workload(kind, _)) => kind,
            other => panic!("{other:?}"),
        }
    }

    #[rstest]
    #[case("deploy/a", json!({"spec": {"template": {"metadata": {"annotations": {RESOLVE_NAMES: "*"}}}}}))]
    #[case("cj/a", json!({"spec": {"jobTemplate": {"spec": {"template": {"metadata": {"annotations": {RESOLVE_NAMES: "*"}}}}}}}))]
    #[case("job/a", json!({"metadata": {"annotations": {RESOLVE_NAMES: "*"}}}))]
    #[case("pod/a", json!({"metadata": {"annotations": {RESOLVE_NAMES: "*"}}}))]
    fn annotation_is_set_where_it_counts(#[case] written: &str, #[case] expected: Value) {
        let kind = kind(written);
        assert_eq!(kind.patch(&json!({}), true), Some(expected.clone()));
        assert_eq!(kind.patch(&expected, true), None);
        assert_eq!(kind.patch(&json!({}), false), None);
    }

    #[test]
    fn annotation_is_taken_away_wherever_it_is() {
        let both = json!({"metadata": {"annotations": {RESOLVE_NAMES: "*"}},
            "spec": {"template": {"metadata": {"annotations": {RESOLVE_NAMES: "*", "other": "1"}}}}});
        let patch = kind("deploy/a").patch(&both, false);
        assert_eq!(
            patch,
            Some(json!({"metadata": {"annotations": {RESOLVE_NAMES: null}},
                "spec": {"template": {"metadata": {"annotations": {RESOLVE_NAMES: null}}}}}))
        );
        assert_eq!(kind("deploy/a").singular(), "deployment.apps");
        assert_eq!(kind("pod/a").singular(), "pod");
    }
}
