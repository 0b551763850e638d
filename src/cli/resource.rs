//! Kinds of workloads by the names that they have on the command line. Pure.

use crate::store::kube::Resource;

/// Kinds with images: API version, kind, collection, and short name.
const KINDS: [(&str, &str, &str, &str); 8] = [
    ("v1", "Pod", "pods", "po"),
    ("v1", "ReplicationController", "replicationcontrollers", "rc"),
    ("apps/v1", "Deployment", "deployments", "deploy"),
    ("apps/v1", "ReplicaSet", "replicasets", "rs"),
    ("apps/v1", "StatefulSet", "statefulsets", "sts"),
    ("apps/v1", "DaemonSet", "daemonsets", "ds"),
    ("batch/v1", "Job", "jobs", "job"),
    ("batch/v1", "CronJob", "cronjobs", "cj"),
];

/// The kind of that name: of the kind itself, its collection or its short name, perhaps with its API group.
pub(super) fn find(written: &str) -> Option<Resource> {
    let (name, group) = written.split_once('.').map_or((written, None), |(name, group)| (name, Some(group)));
    let is_named = |(api_version, kind, plural, short): &&(&str, &str, &str, &str)| {
        group.is_none_or(|group| group == group_of(api_version))
            && (kind.eq_ignore_ascii_case(name) || name == *plural || name == *short)
    };
    let &(api_version, kind, plural, _) = KINDS.iter().find(is_named)?;
    Some(Resource { api_version, kind, plural })
}

/// The short names of all kinds.
pub(super) fn short_names() -> String {
    KINDS.map(|(.., short)| short).join(", ")
}

/// The group of an API version; empty for the core group.
pub(super) fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}
