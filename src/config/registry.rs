//! Flags of the pull-through registry: where it serves, and who may pull.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::KeepArgs;
use super::server::{CertificateArgs, CertificateSource};
use crate::mirror::access::Anonymous;

/// Who may pull, and how much at a time.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Pulling")]
pub struct PullArgs {
    /// Everybody may pull everything
    #[arg(long, env = "PINSTREAM_ALLOW_ANONYMOUS", conflicts_with = "htpasswd")]
    pub allow_anonymous: bool,

    /// Namespace from which everybody may pull, with * for any characters. Repeatable
    #[arg(
        long = "anonymous-namespace",
        value_name = "NAMESPACE",
        env = "PINSTREAM_ANONYMOUS_NAMESPACE",
        value_delimiter = ','
    )]
    anonymous_namespaces: Vec<String>,

    /// File of users and passwords as htpasswd -B writes it; whoever is in it may pull everything. Read again when its
    /// content changes
    #[arg(long, value_name = "FILE", env = "PINSTREAM_HTPASSWD")]
    pub htpasswd: Option<PathBuf>,

    /// How many blobs may be sent at a time; who asks for more is told to come again
    #[arg(
        long,
        value_name = "N",
        env = "PINSTREAM_MAX_TRANSFERS",
        default_value = "500",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    max_transfers: u32,
}

impl PullArgs {
    /// Namespaces from which everybody may pull.
    #[must_use]
    pub fn anonymous(&self) -> Anonymous {
        Anonymous::new(self.anonymous_namespaces.clone())
    }

    /// Blobs that may be sent at a time.
    #[must_use]
    pub fn transfers(&self) -> usize {
        usize::try_from(self.max_transfers).unwrap_or(usize::MAX)
    }
}

/// The registry beside a webhook.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Pulling")]
pub struct LocalRegistryArgs {
    /// Address of the pull-through registry, HTTPS with the certificate of the webhook. Without it there is none
    #[arg(long, value_name = "IP:PORT", env = "PINSTREAM_REGISTRY_LISTEN")]
    pub registry_listen: Option<SocketAddr>,

    /// Who may pull.
    #[command(flatten)]
    pub pull: PullArgs,

    /// What is kept.
    #[command(flatten)]
    pub keep: KeepArgs,
}

/// Where a registry serves that is a process of its own.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub struct RegistryServerArgs {
    /// Address of the registry, HTTPS. Port 0 picks a free one and logs it
    #[arg(long, value_name = "IP:PORT", env = "PINSTREAM_LISTEN", default_value = "0.0.0.0:5000")]
    pub listen: SocketAddr,

    /// Address of /livez, /readyz and /metrics, plain HTTP. Port 0 picks a free one and logs it
    #[arg(long, value_name = "IP:PORT", env = "PINSTREAM_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    pub admin_listen: SocketAddr,

    #[command(flatten)]
    files: CertificateArgs,

    /// Serve plain HTTP: behind something that speaks HTTPS, or where nobody listens in
    #[arg(long, env = "PINSTREAM_PLAIN_HTTP", conflicts_with = "tls_cert")]
    plain_http: bool,
}

/// Nothing was said of how to serve, and nobody's tokens are sent in the clear unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the registry has no certificate to serve: give one with --tls-cert FILE and --tls-key FILE (pinstream certs makes one), or serve plain HTTP with --plain-http"
)]
pub struct NoRegistryCertificate;

impl RegistryServerArgs {
    /// The certificate to serve; none for plain HTTP.
    ///
    /// # Errors
    /// [`NoRegistryCertificate`] if neither was asked for.
    pub fn certificate(&self) -> Result<Option<CertificateSource>, NoRegistryCertificate> {
        match self.files.files() {
            Some(files) => Ok(Some(CertificateSource::Files(files))),
            None if self.plain_http => Ok(None),
            None => Err(NoRegistryCertificate),
        }
    }
}
