//! Flags of servers: addresses, certificates and limits.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::parse::{duration, lifetime, limit, namespaced};
use crate::controller::certificate::Place;
use crate::server::authority::Authority;
use crate::server::certificate::Files;
use crate::server::listener::Limits;

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

    /// ValidatingWebhookConfiguration whose webhooks are told so too
    #[arg(long, value_name = "NAME", env = "PINSTREAM_VALIDATING_WEBHOOK_CONFIGURATION", requires = "tls_secret")]
    validating_webhook_configuration: Option<String>,
}

impl ManagedArgs {
    fn source(&self) -> Option<CertificateSource> {
        let ((namespace, secret), configuration) = self.tls_secret.clone().zip(self.webhook_configuration.clone())?;
        let authority = Authority { names: self.tls_dns_names.clone(), lifetime: self.tls_lifetime };
        let validating = self.validating_webhook_configuration.clone();
        Some(CertificateSource::Shared(Place { namespace, secret, configuration, validating }, authority))
    }
}

/// A certificate that the user brings.
#[derive(Args, Clone, Debug)]
pub(super) struct CertificateArgs {
    /// Certificate chain, PEM. Read again when its content changes
    #[arg(long, value_name = "FILE", env = "PINSTREAM_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", env = "PINSTREAM_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl CertificateArgs {
    pub(super) fn files(&self) -> Option<Files> {
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

    /// How long a client may take nothing of its answer
    #[arg(long, value_name = "DURATION", env = "PINSTREAM_WRITE_TIMEOUT", default_value = "1m", value_parser = limit)]
    write_timeout: Duration,

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
            write: self.write_timeout,
            drain: self.drain_timeout,
            connections: usize::try_from(self.max_connections).unwrap_or(usize::MAX),
        }
    }
}
