//! The server's certificate: read, checked, served, and read again when its files change.
//!
//! Files are polled and compared by content, so that a symlink swap is seen as well. A pair that cannot be used
//! leaves the one before it in force. Must not make certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::metrics::ServerMetrics;

/// How often the files are looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Where a certificate and its key are, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate and its chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A certificate that can be served.
#[derive(Clone, Debug)]
pub struct Pair {
    key: Arc<CertifiedKey>,
    /// When the leaf expires.
    pub not_after: Timestamp,
}

/// Why a certificate and key cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file has not what it should have.
    #[error("{} has no {what} in PEM form: {reason}", path.display())]
    NoPem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What the reader said.
        reason: String,
    },
    /// The two do not go together, or one is of a kind that cannot be used.
    #[error("the certificate in {} and the key in {} cannot be used together: {reason}", files.certificate.display(), files.key.display())]
    Mismatch {
        /// The files.
        files: Files,
        /// Why.
        reason: String,
    },
}

/// The certificate in use. What it is can change while connections are open.
#[derive(Debug, Default)]
pub struct Certificate {
    current: ArcSwapOption<CertifiedKey>,
}

impl Certificate {
    /// Serves new connections with this pair from now on.
    pub fn replace(&self, pair: &Pair) {
        self.current.store(Some(Arc::clone(&pair.key)));
    }

    /// There is one.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.current.load().is_some()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, with whatever certificate is in use.
///
/// # Errors
/// If the cryptography has none of these versions.
pub fn tls_config(certificate: Arc<Certificate>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The bytes of both files.
type Content = (Vec<u8>, Vec<u8>);

impl Files {
    /// Reads and checks the pair.
    ///
    /// # Errors
    /// [`PairError`], which names the file.
    pub fn load(&self) -> Result<Pair, PairError> {
        self.check(&self.read()?)
    }

    /// Both files as they were at one moment: they are read again if a swap came between.
    fn read(&self) -> Result<Content, PairError> {
        let read =
            |path: &Path| fs::read(path).map_err(|source| PairError::Unreadable { path: path.to_owned(), source });
        let mut certificate = read(&self.certificate)?;
        loop {
            let key = read(&self.key)?;
            let again = read(&self.certificate)?;
            if again == certificate {
                return Ok((certificate, key));
            }
            certificate = again;
        }
    }

    fn check(&self, (certificate, key): &Content) -> Result<Pair, PairError> {
        Pair::from_pem(certificate, key).map_err(|bad| match bad {
            BadPem::Certificate(reason) => {
                PairError::NoPem { path: self.certificate.clone(), what: "certificate", reason }
            }
            BadPem::Key(reason) => PairError::NoPem { path: self.key.clone(), what: "private key", reason },
            BadPem::Mismatch(reason) => PairError::Mismatch { files: self.clone(), reason },
        })
    }
}

/// Why texts are no certificate and key that can be served.
#[derive(Debug, thiserror::Error)]
pub enum BadPem {
    /// There is no certificate.
    #[error("no certificate in PEM form: {0}")]
    Certificate(String),
    /// There is no key.
    #[error("no private key in PEM form: {0}")]
    Key(String),
    /// The two do not go together, or one is of a kind that cannot be used.
    #[error("certificate and key cannot be used together: {0}")]
    Mismatch(String),
}

impl Pair {
    /// Reads and checks a chain, leaf first, and its key, both PEM.
    ///
    /// # Errors
    /// [`BadPem`].
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, BadPem> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| BadPem::Certificate(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| BadPem::Key(error.to_string()))?;
        let leaf = chain.first().ok_or_else(|| BadPem::Certificate("it is empty".to_owned()))?;
        let not_after = expiry(leaf).map_err(BadPem::Certificate)?;
        let key =
            CertifiedKey::from_der(chain, key, &provider()).map_err(|error| BadPem::Mismatch(error.to_string()))?;
        Ok(Self { key: Arc::new(key), not_after })
    }
}

fn expiry(leaf: &CertificateDer<'_>) -> Result<Timestamp, String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|error| error.to_string())?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).map_err(|error| error.to_string())
}

/// The bytes of both files, or why there are none.
type Seen = Result<Content, String>;

/// A certificate that is kept up to date with its files.
pub struct Kept {
    files: Files,
    certificate: Arc<Certificate>,
    metrics: ServerMetrics,
    /// What the files were when they were looked at last.
    seen: Seen,
}

impl Kept {
    /// Loads the certificate for the first time.
    ///
    /// # Errors
    /// [`PairError`], which names the file.
    pub async fn load(files: Files, certificate: Arc<Certificate>, metrics: ServerMetrics) -> Result<Self, PairError> {
        let content = blocking(&files, Files::read).await?;
        let pair = files.check(&content)?;
        certificate.replace(&pair);
        let kept = Self { files, certificate, metrics, seen: Ok(content) };
        kept.report(&pair, "certificate loaded");
        Ok(kept)
    }

    /// Loads the certificate again when its files change, and reports each change once. Never ends.
    pub async fn keep(mut self) {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let content = blocking(&self.files, Files::read).await;
            let seen = content.as_ref().map_err(ToString::to_string).cloned();
            if seen != self.seen {
                self.seen = seen;
                self.change(content.and_then(|content| self.files.check(&content)));
            }
        }
    }

    fn change(&self, pair: Result<Pair, PairError>) {
        let result = match pair {
            Ok(pair) => {
                self.certificate.replace(&pair);
                self.report(&pair, "certificate changed, new connections are served with it");
                "loaded"
            }
            Err(error) => {
                tracing::error!(%error, "certificate changed and cannot be used, the one before it stays in use");
                "refused"
            }
        };
        self.metrics.certificate_reloads.with_label_values(&[result]).inc();
    }

    fn report(&self, pair: &Pair, message: &str) {
        self.metrics.certificate_expiry.set(pair.not_after.as_duration().as_secs_f64());
        let (path, expires) = (self.files.certificate.display(), pair.not_after);
        if pair.not_after < Timestamp::now() {
            tracing::warn!(%path, %expires, "{message}, but it has expired: clients will refuse it");
        } else {
            tracing::info!(%path, %expires, "{message}");
        }
    }
}

async fn blocking<T: Send + 'static>(files: &Files, work: fn(&Files) -> T) -> T {
    let files = files.clone();
    let task = tokio::task::spawn_blocking(move || work(&files));
    task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::server::development;

    fn made() -> (TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let made = development::make(&["localhost".to_owned()], 1, Timestamp::now()).unwrap();
        let files = made.write(folder.path()).unwrap();
        (folder, files)
    }

    #[test]
    fn made_pair_is_loaded_with_its_expiry() {
        let (_folder, files) = made();
        let left = files.load().unwrap().not_after.duration_since(Timestamp::now());
        assert!(left.as_hours() >= 23 && left.as_hours() <= 24, "{left}");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let (_folder, files) = made();
        let (_other, other) = made();
        let message = |files: &Files| files.load().unwrap_err().to_string();

        let mixed = Files { key: other.key, ..files.clone() };
        assert!(message(&mixed).contains("cannot be used together"), "{}", message(&mixed));
        let swapped = Files { certificate: files.key.clone(), key: files.certificate.clone() };
        assert!(message(&swapped).contains("has no private key in PEM form"), "{}", message(&swapped));
        let keys = Files { certificate: files.key.clone(), key: files.key.clone() };
        assert!(message(&keys).contains("has no certificate in PEM form: it is empty"), "{}", message(&keys));
        let missing = Files { certificate: files.key.with_extension("gone"), key: files.key };
        assert!(message(&missing).contains("tls.gone cannot be read: No such file"), "{}", message(&missing));
    }
}
