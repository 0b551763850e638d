//! The way to an API server: in the cluster by the Pod's ServiceAccount, elsewhere by a kubeconfig.

use std::error::Error as _;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper_util::client::proxy::matcher::Matcher;
use kube::client::ClientBuilder;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tower::util::AndThenLayer;

use super::patience;

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long an API server may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);

/// How the cluster is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The kubeconfig to read.
    pub kubeconfig: Option<PathBuf>,
    /// Its context; the current one if there is none.
    pub context: Option<String>,
}

/// Why there is no way to a cluster. What it says of the cluster's own state is for later: nothing is asked yet.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A kubeconfig that was asked for cannot be used.
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(#[source] KubeconfigError),
    /// Nothing was asked for, and nothing was found.
    #[error(
        "no cluster is known: this is no Pod with a ServiceAccount token ({in_cluster}), and the usual kubeconfig cannot be used ({kubeconfig}); name one with --kubeconfig"
    )]
    Nowhere {
        /// Why it is not the Pod's cluster.
        in_cluster: InClusterError,
        /// Why it is not that of the usual kubeconfig.
        kubeconfig: KubeconfigError,
    },
    /// What was found cannot be worked with.
    #[error("the cluster's address or credentials cannot be used: {0}")]
    Unusable(#[source] kube::Error),
}

/// A client of the cluster. Nothing is asked yet, so the API server need not be there.
///
/// # Errors
/// [`ConnectError`], which says where was looked.
pub async fn connect(access: &Access) -> Result<Client, ConnectError> {
    let mut config = find(access).await?;
    if config.proxy_url.is_some() && config.proxy_url == proxy_of_environment() {
        // Kube's client looks for the proxy among the exceptions, where the API server should be looked for.
        let is_excepted = Matcher::from_env().intercept(&config.cluster_url).is_none();
        config.proxy_url = config.proxy_url.filter(|_| !is_excepted);
    }
    config.connect_timeout = Some(CONNECT_LIMIT);
    // Whoever asks knows better when to ask again; what the API server says of that is handed on.
    config.default_retry = false;
    let agent = HeaderValue::from_static(concat!("pinstream/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, agent));
    let client = ClientBuilder::try_from(config).map_err(ConnectError::Unusable)?;
    Ok(client.with_layer(&AndThenLayer::new(patience::noted)).build())
}

/// Waits for an answer, but not for ever: a connection that has fallen silent never ends by itself.
///
/// # Errors
/// What the request came to, or that there was no answer.
pub async fn answer<T>(asked: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let limit = tokio::time::timeout(ANSWER_LIMIT, asked).await;
    limit.unwrap_or_else(|_| Err(kube::Error::Service(format!("no answer for {} s", ANSWER_LIMIT.as_secs()).into())))
}

/// What led to an error, each cause said once.
#[must_use]
pub fn causes(error: &kube::Error) -> String {
    let mut text = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            let separator = if text.is_empty() { "" } else { ": " };
            let _ = write!(text, "{separator}{said}");
        }
        source = cause.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}

/// The proxy that a kubeconfig without one of its own leads to.
fn proxy_of_environment() -> Option<Uri> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    set("HTTPS_PROXY").or_else(|| set("https_proxy"))?.parse().ok()
}

async fn find(access: &Access) -> Result<Config, ConnectError> {
    let options = KubeConfigOptions { context: access.context.clone(), ..KubeConfigOptions::default() };
    if let Some(path) = &access.kubeconfig {
        let kubeconfig = Kubeconfig::read_from(path).map_err(ConnectError::Kubeconfig)?;
        return Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(ConnectError::Kubeconfig);
    }
    if access.context.is_some() {
        return Config::from_kubeconfig(&options).await.map_err(ConnectError::Kubeconfig);
    }
    let in_cluster = match Config::incluster() {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    Config::from_kubeconfig(&options).await.map_err(|kubeconfig| ConnectError::Nowhere { in_cluster, kubeconfig })
}
