//! Flags and environment, parsed once into types that cannot be wrong. `docs/configuration.md` lists them all.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use crate::controller::agenda::Rules;
use crate::controller::certificate::Place;
use crate::controller::import::Settings;
use crate::controller::leader;
use crate::reference::Reference;
use crate::registry;
use crate::server::authority::Authority;
use crate::server::certificate::Files;
use crate::server::listener::Limits;
use crate::store::kube::{Access, Preference};
use crate::stream::types::ImportMode;
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

/// What is resolved, and to what.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Streams")]
pub struct ResolveArgs {
    /// Where the streams' images can be pulled from.
    #[command(flatten)]
    pub host: RegistryHostArgs,

    /// A further kind to resolve images in: GROUP/KIND=POINTER with a JSON pointer to its pod template, such as
    /// argoproj.io/Rollout=/spec/template, or PodTemplate or DeploymentConfig. Repeatable
    #[arg(long = "kind", value_name = "KIND", env = "PINSTREAM_KINDS", value_delimiter = ',', value_parser = Kind::parse)]
    pub kinds: Vec<Kind>,
}

/// How image streams are imported.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Import")]
pub struct ImportArgs {
    /// How long after a scheduled tag was imported it is imported again; a tenth more or less by chance
    #[arg(long, value_name = "DURATION", env = "PINSTREAM_IMPORT_INTERVAL", default_value = "15m", value_parser = interval)]
    import_interval: Duration,

    /// How many tags are imported on schedule in a minute at most
    #[arg(
        long,
        value_name = "N",
        env = "PINSTREAM_SCHEDULED_IMPORTS_PER_MINUTE",
        default_value = "1000",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    scheduled_imports_per_minute: u32,

    #[command(flatten)]
    mode: ImportModeArgs,

    /// How many tags of a repository become tags of a stream that names it as a whole
    #[arg(long, value_name = "N", env = "PINSTREAM_REPOSITORY_TAGS", default_value = "50")]
    repository_tags: usize,
}

/// What importing makes of an index.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Import")]
pub struct ImportModeArgs {
    /// What importing makes of an index of several platforms where a tag does not say: the index itself, or the image of
    /// one platform as OpenShift does
    #[arg(long, value_name = "MODE", env = "PINSTREAM_IMPORT_MODE", default_value = "PreserveOriginal")]
    import_mode: DefaultMode,
}

impl ImportModeArgs {
    /// The import mode of tags that do not say one.
    #[must_use]
    pub fn default_mode(self) -> ImportMode {
        match self.import_mode {
            DefaultMode::PreserveOriginal => ImportMode::PreserveOriginal,
            DefaultMode::Legacy => ImportMode::Legacy,
        }
    }
}

/// What importing makes of an index where a tag does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DefaultMode {
    /// The index and all its children.
    #[value(name = "PreserveOriginal")]
    PreserveOriginal,
    /// The image of one platform.
    #[value(name = "Legacy")]
    Legacy,
}

impl ImportArgs {
    /// How importing is done. `registry_host` is the host that serves the streams' images, if one does.
    #[must_use]
    pub fn settings(&self, registry_host: Option<String>) -> Settings {
        Settings {
            rules: Rules { interval: self.import_interval, scheduled_per_minute: self.scheduled_imports_per_minute },
            default_mode: self.mode.default_mode(),
            repository_tags_max: self.repository_tags,
            registry_host,
        }
    }
}

/// Whether the streams of a directory are imported.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Import")]
pub struct DirectoryImportArgs {
    /// Do not import: serve what the files say, and write nothing into the directory
    #[arg(long, env = "PINSTREAM_NO_IMPORT")]
    pub no_import: bool,

    /// How.
    #[command(flatten)]
    pub import: ImportArgs,

    /// From where.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

impl DirectoryImportArgs {
    /// What streams are held to when they are written.
    #[must_use]
    pub fn writes(&self) -> WriteArgs {
        WriteArgs { mode: self.import.mode, permitted: self.registry.permitted.clone() }
    }
}

/// How registries are asked.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Registries")]
pub struct RegistryArgs {
    /// Further CAs to trust, PEM: FILE for all registries, HOST[:PORT]=FILE for one. Repeatable
    #[arg(long = "registry-ca", value_name = "[HOST=]FILE", env = "PINSTREAM_REGISTRY_CA", value_delimiter = ',')]
    cas: Vec<String>,

    #[command(flatten)]
    permitted: PermittedArgs,

    /// How many requests one registry gets at a time; 0 means no limit
    #[arg(
        long = "registry-concurrency",
        value_name = "N",
        env = "PINSTREAM_REGISTRY_CONCURRENCY",
        default_value = "8"
    )]
    concurrency: usize,

    /// How many requests one registry gets in a second; 0 means no limit
    #[arg(long = "registry-rate", value_name = "N", env = "PINSTREAM_REGISTRY_RATE", default_value = "20", value_parser = rate)]
    rate: f64,
}

/// Which registries are asked.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Registries")]
pub struct PermittedArgs {
    /// A registry that may be asked: a host with * and ?, and with its port if that is not 443. Repeatable. Without it all
    /// may
    #[arg(
        long = "registry-allow",
        value_name = "HOST[:PORT]",
        env = "PINSTREAM_REGISTRY_ALLOW",
        value_delimiter = ','
    )]
    allow: Vec<String>,

    /// A registry that may not be asked, written likewise. Repeatable
    #[arg(
        long = "registry-block",
        value_name = "HOST[:PORT]",
        env = "PINSTREAM_REGISTRY_BLOCK",
        value_delimiter = ','
    )]
    block: Vec<String>,
}

impl PermittedArgs {
    /// Which registries may be asked.
    #[must_use]
    pub fn registries(&self) -> registry::Registries {
        registry::Registries { allow: self.allow.clone(), block: self.block.clone() }
    }
}

impl RegistryArgs {
    /// Which registries may be asked.
    #[must_use]
    pub fn registries(&self) -> registry::Registries {
        self.permitted.registries()
    }

    /// How registries are asked.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn settings(&self) -> anyhow::Result<registry::Settings> {
        let read = |written: &String| {
            let (host, path) = match written.split_once('=') {
                Some((host, path)) => (Some(host.to_owned()), path),
                None => (None, written.as_str()),
            };
            let pem = fs::read(path).with_context(|| format!("the CA file {path} of --registry-ca cannot be read"))?;
            Ok((host, pem))
        };
        Ok(registry::Settings {
            extra_cas: self.cas.iter().map(read).collect::<anyhow::Result<_>>()?,
            registries: self.permitted.registries(),
            concurrency: self.concurrency,
            rate: self.rate,
            ..registry::Settings::default()
        })
    }
}

/// What image streams are held to when they are written.
#[derive(Args, Clone, Debug)]
pub struct WriteArgs {
    /// What importing makes of an index.
    #[command(flatten)]
    pub mode: ImportModeArgs,

    /// Which registries images may come from.
    #[command(flatten)]
    pub permitted: PermittedArgs,
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

/// Where to serve on a machine of one's own.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub struct LocalServerArgs {
    /// Address of the webhook, HTTPS. Port 0 picks a free one and prints it
    #[arg(long, value_name = "IP:PORT", env = "PINSTREAM_LISTEN", default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,

    /// Address of /livez, /readyz and /metrics, plain HTTP. Port 0 picks a free one and prints it
    #[arg(long, value_name = "IP:PORT", env = "PINSTREAM_ADMIN_LISTEN", default_value = "127.0.0.1:9090")]
    pub admin_listen: SocketAddr,

    #[command(flatten)]
    files: CertificateArgs,

    /// Where the development CA and certificate are kept between starts. They are made if there is no --tls-cert
    #[arg(long, value_name = "DIR", env = "PINSTREAM_CERTS_DIR", default_value = "certs/dev")]
    certs_dir: PathBuf,
}

impl LocalServerArgs {
    /// The certificate to serve.
    #[must_use]
    pub fn certificate(&self) -> CertificateSource {
        let development = || CertificateSource::Development(self.certs_dir.clone());
        self.files.files().map_or_else(development, CertificateSource::Files)
    }
}

/// Where to serve on a cluster.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub struct ClusterServerArgs {
    /// Address of the webhook, HTTPS. Port 0 picks a free one and logs it
    #[arg(long, value_name = "IP:PORT", env = "PINSTREAM_LISTEN", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,

    /// Address of /livez, /readyz and /metrics, plain HTTP. Port 0 picks a free one and logs it
    #[arg(long, value_name = "IP:PORT", env = "PINSTREAM_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    pub admin_listen: SocketAddr,

    #[command(flatten)]
    files: CertificateArgs,

    #[command(flatten)]
    managed: ManagedArgs,
}

impl ClusterServerArgs {
    /// The certificate to serve.
    ///
    /// # Errors
    /// [`NoCertificate`] if none was given.
    pub fn certificate(&self) -> Result<CertificateSource, NoCertificate> {
        let files = self.files.files().map(CertificateSource::Files);
        files.or_else(|| self.managed.source()).ok_or(NoCertificate)
    }
}

/// No certificate was given, and none is made on a cluster unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the webhook has no certificate to serve: give one with --tls-cert FILE and --tls-key FILE, or have one made with --tls-secret NAMESPACE/NAME"
)]
pub struct NoCertificate;

/// A certificate that Pinstream makes, shares between replicas and makes known to the API server.
#[derive(Args, Clone, Debug)]
struct ManagedArgs {
    /// Secret in which replicas share a CA and a certificate of their own making, renewed in good time. Making it needs
    /// the right to create Secrets; an empty one that is there needs only get and update
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        env = "PINSTREAM_TLS_SECRET",
        value_parser = namespaced,
        requires_all = ["tls_dns_names", "webhook_configuration"],
        conflicts_with = "tls_cert"
    )]
    tls_secret: Option<(String, String)>,

    /// DNS name or IP address in the certificate, such as SERVICE.NAMESPACE.svc. Repeatable
    #[arg(
        long = "tls-dns-name",
        value_name = "NAME",
        env = "PINSTREAM_TLS_DNS_NAME",
        value_delimiter = ',',
        requires = "tls_secret"
    )]
    tls_dns_names: Vec<String>,

    /// How long a certificate is good. It is renewed when a third of that is left. Its CA is good four times as long
    #[arg(long, value_name = "DURATION", env = "PINSTREAM_TLS_LIFETIME", default_value = "2160h", value_parser = lifetime)]
    tls_lifetime: Duration,

    /// MutatingWebhookConfiguration whose webhooks are told to trust the CA, and told again when someone else writes
    /// there
    #[arg(long, value_name = "NAME", env = "PINSTREAM_WEBHOOK_CONFIGURATION", requires = "tls_secret")]
    webhook_configuration: Option<String>,
}

impl ManagedArgs {
    fn source(&self) -> Option<CertificateSource> {
        let ((namespace, secret), configuration) = self.tls_secret.clone().zip(self.webhook_configuration.clone())?;
        let authority = Authority { names: self.tls_dns_names.clone(), lifetime: self.tls_lifetime };
        Some(CertificateSource::Shared(Place { namespace, secret, configuration }, authority))
    }
}

/// A certificate that the user brings.
#[derive(Args, Clone, Debug)]
struct CertificateArgs {
    /// Certificate chain, PEM. Read again when its content changes
    #[arg(long, value_name = "FILE", env = "PINSTREAM_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", env = "PINSTREAM_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl CertificateArgs {
    fn files(&self) -> Option<Files> {
        let (certificate, key) = self.tls_cert.clone().zip(self.tls_key.clone())?;
        Some(Files { certificate, key })
    }
}

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// Files that someone else keeps up to date.
    Files(Files),
    /// A folder in which a development certificate is made if there is none.
    Development(PathBuf),
    /// A Secret that replicas share and keep up to date.
    Shared(Place, Authority),
}

/// What clients may take, and how the server ends.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub struct LimitArgs {
    /// How long to keep serving after SIGTERM while clients turn to other replicas. SIGINT does not wait
    #[arg(long, value_name = "DURATION", env = "PINSTREAM_SHUTDOWN_DELAY", default_value = "3s", value_parser = duration)]
    pub shutdown_delay: Duration,

    /// How long requests that are under way at the end may take
    #[arg(long, value_name = "DURATION", env = "PINSTREAM_DRAIN_TIMEOUT", default_value = "20s", value_parser = duration)]
    drain_timeout: Duration,

    /// How long a TLS handshake may take
    #[arg(long, value_name = "DURATION", env = "PINSTREAM_HANDSHAKE_TIMEOUT", default_value = "10s", value_parser = limit)]
    handshake_timeout: Duration,

    /// How long the head of a request may take
    #[arg(long, value_name = "DURATION", env = "PINSTREAM_HEADER_TIMEOUT", default_value = "10s", value_parser = limit)]
    header_timeout: Duration,

    /// How long a connection may be without a request
    #[arg(long, value_name = "DURATION", env = "PINSTREAM_IDLE_TIMEOUT", default_value = "2m", value_parser = limit)]
    idle_timeout: Duration,

    /// How many connections there may be at a time; more are closed at once
    #[arg(long, value_name = "N", env = "PINSTREAM_MAX_CONNECTIONS", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,
}

impl LimitArgs {
    /// What clients may take.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            handshake: self.handshake_timeout,
            head: self.header_timeout,
            idle: self.idle_timeout,
            drain: self.drain_timeout,
            connections: usize::try_from(self.max_connections).unwrap_or(usize::MAX),
        }
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

/// A duration such as `3s`, `1m30s` or `500ms`.
pub(crate) fn duration(written: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = written.parse().map_err(|_| "write it like 3s, 1m30s or 500ms".to_owned())?;
    Duration::try_from(parsed).map_err(|_| "it may not be negative".to_owned())
}

/// A duration that is not zero.
fn limit(written: &str) -> Result<Duration, String> {
    let parsed = duration(written)?;
    if parsed.is_zero() { Err("it may not be zero".to_owned()) } else { Ok(parsed) }
}

/// At least so long that certificates, whose times are in seconds, can be renewed in time.
const LIFETIME_MIN: Duration = Duration::from_secs(10);

fn lifetime(written: &str) -> Result<Duration, String> {
    let parsed = duration(written)?;
    if parsed < LIFETIME_MIN { Err("it may not be less than 10s".to_owned()) } else { Ok(parsed) }
}

/// Registries should not be asked more often.
const INTERVAL_MIN: Duration = Duration::from_mins(1);

fn interval(written: &str) -> Result<Duration, String> {
    let parsed = duration(written)?;
    if parsed < INTERVAL_MIN { Err("it may not be less than 1m".to_owned()) } else { Ok(parsed) }
}

fn rate(written: &str) -> Result<f64, String> {
    let rate: f64 = written.parse().map_err(|_| "write a number such as 20 or 0.5".to_owned())?;
    if rate.is_finite() && rate >= 0.0 { Ok(rate) } else { Err("it may not be negative".to_owned()) }
}

fn namespaced(written: &str) -> Result<(String, String), String> {
    match written.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("write NAMESPACE/NAME".to_owned()),
    }
}

fn source(written: &str) -> Result<Source, String> {
    match written {
        "auto" => Ok(Source::Cluster(Preference::Auto)),
        "openshift" => Ok(Source::Cluster(Preference::OpenShift)),
        "pinstream" => Ok(Source::Cluster(Preference::Pinstream)),
        path if path.contains('/') || path == "." => Ok(Source::Directory(path.into())),
        other => Err(format!("write auto, openshift or pinstream, or a directory with a slash: ./{other}")),
    }
}

fn registry_host(written: &str) -> Result<String, String> {
    let repository = format!("{written}/namespace/name");
    match Reference::parse(&repository) {
        Ok(parsed) if parsed.registry == Some(written) => Ok(written.to_owned()),
        _ => Err("write a host with a dot, a port or localhost, such as registry.example or registry:5000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("3s", Some(3_000))]
    #[case("1m30s", Some(90_000))]
    #[case("0s", Some(0))]
    #[case("3", None)]
    #[case("-3s", None)]
    #[case("soon", None)]
    fn durations_are_read(#[case] written: &str, #[case] milliseconds: Option<u64>) {
        assert_eq!(duration(written).ok(), milliseconds.map(Duration::from_millis));
        assert_eq!(limit(written).is_ok(), milliseconds.is_some_and(|milliseconds| milliseconds > 0));
    }

    #[rstest]
    #[case("10s", true)]
    #[case("2160h", true)]
    #[case("9s", false)]
    #[case("90", false)]
    fn lifetimes_are_checked(#[case] written: &str, #[case] is_good: bool) {
        assert_eq!(lifetime(written).is_ok(), is_good);
    }

    #[rstest]
    #[case("1m", true)]
    #[case("15m", true)]
    #[case("59s", false)]
    fn intervals_are_at_least_a_minute(#[case] written: &str, #[case] is_good: bool) {
        assert_eq!(interval(written).is_ok(), is_good);
    }

    #[rstest]
    #[case("system/pinstream-tls", true)]
    #[case("pinstream-tls", false)]
    #[case("/pinstream-tls", false)]
    #[case("system/", false)]
    #[case("a/b/c", false)]
    fn secrets_have_a_namespace(#[case] written: &str, #[case] is_good: bool) {
        assert_eq!(namespaced(written).is_ok(), is_good);
    }

    #[rstest]
    #[case("auto", Some(Source::Cluster(Preference::Auto)))]
    #[case("openshift", Some(Source::Cluster(Preference::OpenShift)))]
    #[case("pinstream", Some(Source::Cluster(Preference::Pinstream)))]
    #[case("./auto", Some(Source::Directory("./auto".into())))]
    #[case("/streams", Some(Source::Directory("/streams".into())))]
    #[case(".", Some(Source::Directory(".".into())))]
    #[case("Auto", None)]
    #[case("", None)]
    fn sources_are_words_or_paths(#[case] written: &str, #[case] expected: Option<Source>) {
        assert_eq!(source(written).ok(), expected);
    }

    #[rstest]
    #[case("registry.example", true)]
    #[case("registry:5000", true)]
    #[case("localhost", true)]
    #[case("registry", false)]
    #[case("https://registry.example", false)]
    #[case("registry.example/path", false)]
    #[case("", false)]
    fn registry_hosts_are_checked(#[case] written: &str, #[case] is_host: bool) {
        assert_eq!(registry_host(written).is_ok(), is_host);
    }
}
