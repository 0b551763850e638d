//! Flags and environment, parsed once into types that cannot be wrong. `docs/configuration.md` lists them all.

mod audit;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod import;
mod metrics;
mod parse;
mod policy;
mod registry;
mod server;
mod storage;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

pub use audit::AuditArgs;
pub use import::{DirectoryImportArgs, ImportArgs, ImportModeArgs, PermittedArgs, RegistryArgs, WriteArgs};
pub use metrics::MetricsArgs;
pub(crate) use parse::duration;
use parse::{limit, namespaced, registry_host, source};
pub use policy::{ClusterPolicyArgs, PolicyArgs};
pub use registry::{LocalRegistryArgs, NoRegistryCertificate, PullArgs, RegistryServerArgs};
pub use server::{CertificateSource, ClusterServerArgs, LimitArgs, LocalServerArgs, NoCertificate};
pub use storage::{KeepArgs, StorageArgs};

use crate::controller::leader;
use crate::store::kube::{Access, Preference};
use crate::stream::places::{Cache, Places};
use crate::workload::Kind;

/// Where streams are, without a cluster.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Streams")]
pub struct DirectoryArgs {
    /// Directory of image streams: every *.yaml, *.yml and *.json below it. Changes are seen within two seconds
    #[arg(long, value_name = "DIR", env = "PINSTREAM_STREAMS")]
    pub streams: PathBuf,
}

/// Where streams are, on a cluster.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Streams")]
pub struct SourceArgs {
    /// Where image streams are read from: openshift (image.openshift.io), pinstream (the custom resource), auto
    /// (openshift where the cluster serves it, else pinstream), or a directory such as ./streams
    #[arg(long, value_name = "SOURCE", env = "PINSTREAM_SOURCE", default_value = "auto", value_parser = source)]
    pub source: Source,

    /// Kubeconfig to reach the cluster with. Without it, the Pod's ServiceAccount, else the usual kubeconfig
    #[arg(long, value_name = "FILE", env = "PINSTREAM_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME", env = "PINSTREAM_CONTEXT")]
    context: Option<String>,

    /// A watch that says nothing for so long is given up and begun anew where it was. API servers say something every
    /// minute; less costs a request each time
    #[arg(long, value_name = "DURATION", env = "PINSTREAM_WATCH_TIMEOUT", default_value = "100s", value_parser = limit)]
    pub watch_timeout: Duration,
}

impl SourceArgs {
    /// How the cluster is found.
    #[must_use]
    pub fn access(&self) -> Access {
        Access { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() }
    }
}

/// Where image streams are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The manifests of a directory.
    Directory(PathBuf),
    /// A cluster's API.
    Cluster(Preference),
}

/// Where the streams' images can be pulled from.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Streams")]
pub struct RegistryHostArgs {
    /// Host and port of the registry that serves the streams' images, which tags with reference policy Local and
    /// tags without an image resolve to. Without it, what the streams' status says
    #[arg(long, value_name = "HOST[:PORT]", env = "PINSTREAM_REGISTRY_HOST", value_parser = registry_host)]
    pub registry_host: Option<String>,
}

/// Where images can be pulled from in place of their source.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Streams")]
pub struct CacheArgs {
    /// A pull-through cache of others, from which tags with reference policy Local are pulled: SOURCE=TEMPLATE, such as
    /// docker.io=harbor.example/hub or '*=cache.example/{registry}/{repository}'. Repeatable; the first that has an image's
    /// source counts, and goes before the registry host
    #[arg(
        long = "pull-through-cache",
        value_name = "SOURCE=TEMPLATE",
        env = "PINSTREAM_PULL_THROUGH_CACHES",
        value_delimiter = ',',
        value_parser = Cache::parse
    )]
    caches: Vec<Cache>,
}

impl CacheArgs {
    /// Where images are pulled from.
    #[must_use]
    pub fn places(&self, host: &RegistryHostArgs) -> Places {
        Places { registry_host: host.registry_host.clone(), caches: self.caches.clone() }
    }
}

/// What is resolved, and to what.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Streams")]
pub struct ResolveArgs {
    /// Where the streams' images can be pulled from.
    #[command(flatten)]
    pub host: RegistryHostArgs,

    /// Where they can be pulled from instead.
    #[command(flatten)]
    pub caches: CacheArgs,

    /// A further kind to resolve images in: GROUP/KIND=POINTER with a JSON pointer to its pod template, such as
    /// argoproj.io/Rollout=/spec/template, or PodTemplate or DeploymentConfig. Repeatable
    #[arg(long = "kind", value_name = "KIND", env = "PINSTREAM_KINDS", value_delimiter = ',', value_parser = Kind::parse)]
    pub kinds: Vec<Kind>,
}

impl ResolveArgs {
    /// Where images are pulled from.
    #[must_use]
    pub fn places(&self) -> Places {
        self.caches.places(&self.host)
    }
}

/// Which of several controllers works.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Leader")]
pub struct LeaderArgs {
    /// Lease by which replicas agree on the one that works
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        env = "PINSTREAM_LEASE",
        default_value = "default/pinstream-controller",
        value_parser = namespaced
    )]
    lease: (String, String),

    /// Name of this process in the Lease. Without it, the host's name and a random number
    #[arg(long, value_name = "NAME", env = "PINSTREAM_IDENTITY")]
    identity: Option<String>,
}

impl LeaderArgs {
    /// Where the Lease is, and who wants it. `random` is any number, `host` the name of the machine.
    #[must_use]
    pub fn place(&self, host: &str, random: u64) -> leader::Place {
        let (namespace, name) = self.lease.clone();
        let identity = self.identity.clone().unwrap_or_else(|| format!("{host}_{random:016x}"));
        leader::Place { namespace, name, identity }
    }
}

/// What is logged, and how. Logs go to standard error.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logging")]
pub struct LogArgs {
    /// How log lines are written
    #[arg(long, value_name = "FORMAT", env = "PINSTREAM_LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, or a filter such as info,pinstream::store=debug.
    /// Without it, info for servers and warn for other commands
    #[arg(long, value_name = "FILTER", env = "PINSTREAM_LOG", global = true)]
    pub log: Option<String>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
