//! `pinstream webhook`: the admission server on a cluster. Stateless; any number of replicas.

use clap::Args;

use super::lifecycle;
use super::process::Process;
use crate::config::{
    ClusterPolicyArgs, ClusterServerArgs, LimitArgs, MetricsArgs, PolicyArgs, ResolveArgs, SourceArgs, WriteArgs,
};
use crate::registry;

/// Run the admission webhook on a cluster
///
/// Answers AdmissionReviews at https://ADDRESS/mutate (pod templates and Pods), https://ADDRESS/mutate/pod (only Pods)
/// and https://ADDRESS/mutate/imagestreams (image streams, which are completed or refused), and holds what is stored to
/// the policy at https://ADDRESS/validate and https://ADDRESS/validate/pod. Reads image streams and the labels of
/// namespaces, and writes nothing but its own certificate and events of refusals, if it is to. Ready once every stream
/// was listed; if the API server goes away, the last known streams and levels stay in force.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream webhook --tls-cert /certs/tls.crt --tls-key /certs/tls.key
  pinstream webhook --tls-secret system/pinstream-tls --tls-dns-name pinstream.system.svc --webhook-configuration pinstream
  pinstream webhook --tls-cert tls.crt --tls-key tls.key --policy warn --policy-except 'registry.k8s.io/pause:*'
  pinstream webhook --source openshift --context prod --tls-cert tls.crt --tls-key tls.key
  pinstream webhook --source ./streams --tls-cert tls.crt --tls-key tls.key --log-format json")]
pub(super) struct Webhook {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    resolve: ResolveArgs,
    #[command(flatten)]
    writes: WriteArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    cluster_policy: ClusterPolicyArgs,
    #[command(flatten)]
    server: ClusterServerArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

impl Webhook {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let process = Process {
            listen: self.server.listen,
            admin_listen: self.server.admin_listen,
            certificate: self.server.certificate()?,
            access: self.source.access(),
            watch_timeout: self.source.watch_timeout,
            import: None,
            remote: registry::Settings::default(),
            pulling: None,
            source: self.source.source,
            resolve: self.resolve,
            policy: self.policy,
            cluster: Some(self.cluster_policy),
            writes: self.writes,
            metrics: self.metrics,
            limits: self.limits,
        };
        lifecycle::run(process.serve(|_| ()))
    }
}
