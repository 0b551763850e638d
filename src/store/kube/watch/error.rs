//! Why something cannot be read or watched for now, what helps, and whether the watch can go on where it was.

use std::time::Duration;

use kube::core::Status;

use super::collection::Collection;
use crate::store::kube::client::causes;
use crate::store::kube::objects::Served;
use crate::store::kube::patience::patience_of;

/// How long an API server may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);

/// Why objects cannot be read or watched for now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::store::kube) enum WatchError {
    #[error("the cluster has no {0}; install the custom resource: pinstream crd | kubectl apply --server-side -f -")]
    NoCustomResource(String),
    #[error("the cluster has no {0}, only OpenShift has it; on other clusters use --source pinstream or auto")]
    NoOpenShift(String),
    #[error("{message}; {right}")]
    Forbidden { message: String, right: String },
    #[error(
        "the API server does not accept who asks ({0}); check the Pod's ServiceAccount token, or the kubeconfig's user"
    )]
    Unauthorized(String),
    #[error("the API server answers {code}: {message}")]
    Refused { code: u16, message: String, patience: Option<Duration> },
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    #[error("the API server said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the API server ends each watch at once")]
    Short,
    #[error("the API server does not know any more where the watch was; everything is listed again")]
    Expired,
}

impl WatchError {
    pub(super) fn of(error: &kube::Error, collection: Collection) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status, collection),
            error => Self::Unreachable(causes(error)),
        }
    }

    pub(super) fn of_status(status: &Status, collection: Collection) -> Self {
        let message = status.message.clone();
        match (status.code, collection) {
            (401, _) => Self::Unauthorized(message),
            (403, _) => Self::Forbidden { message, right: collection.right() },
            (404, Collection::Streams(Served::OpenShift)) => Self::NoOpenShift(collection.to_string()),
            (404, Collection::Streams(Served::Pinstream)) => Self::NoCustomResource(collection.to_string()),
            (410, _) => Self::Expired,
            (code, _) => Self::Refused { code, message, patience: patience_of(status) },
        }
    }

    /// For how long the API server wants to be left alone, if it said so.
    pub(super) fn patience(&self) -> Option<Duration> {
        match self {
            Self::Refused { patience, .. } => *patience,
            _ => None,
        }
    }

    /// The API server said so. Otherwise it was not there.
    pub(super) fn is_answer(&self) -> bool {
        !matches!(self, Self::Unreachable(_) | Self::Silent(_))
    }

    /// The watch can go on from where it was once this is over. Otherwise things may have changed unseen.
    pub(in crate::store::kube) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Silent(_) | Self::Short => true,
            Self::Refused { code, .. } => *code == 429 || *code >= 500,
            _ => false,
        }
    }
}

/// Waits for an answer, but not for ever.
pub(super) async fn answer<T>(
    asked: impl Future<Output = kube::Result<T>>,
    collection: Collection,
) -> Result<T, WatchError> {
    match tokio::time::timeout(ANSWER_LIMIT, asked).await {
        Ok(answer) => answer.map_err(|error| WatchError::of(&error, collection)),
        Err(_) => Err(WatchError::Silent(ANSWER_LIMIT)),
    }
}
