//! Whose token it is, and what that one may: TokenReview and SubjectAccessReview. Stores nothing.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::OnceCell;

use super::objects::Served;
use super::watch::{Preference, discover};
use crate::crd::PLURAL;
use crate::stream::Key;

/// How long an API server may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The part of a stream that pulling reads.
const LAYERS: &str = "layers";

/// Why nobody can say.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The API server refused, or could not be reached.
    #[error("the API server cannot be asked for a {0}: {1}")]
    Refused(&'static str, kube::Error),
    /// It is not known where streams live.
    #[error("the API server cannot say where image streams are: {0}")]
    Undiscovered(String),
    /// The API server did not answer.
    #[error("the API server did not answer within {} s", ANSWER_LIMIT.as_secs())]
    Silent,
}

/// Somebody whom the cluster knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity(UserInfo);

/// Asks a cluster.
pub struct ClusterReviewer {
    tokens: Api<TokenReview>,
    rights: Api<SubjectAccessReview>,
    client: Client,
    preference: Preference,
    served: OnceCell<Served>,
}

impl Identity {
    /// The name, such as `system:serviceaccount:NAMESPACE:NAME`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.username.as_deref().unwrap_or_default()
    }
}

impl ClusterReviewer {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(client: Client, preference: Preference) -> Self {
        let (tokens, rights) = (Api::all(client.clone()), Api::all(client.clone()));
        Self { tokens, rights, client, preference, served: OnceCell::new() }
    }

    /// Whose token it is; `None` if it is nobody's.
    ///
    /// # Errors
    /// If the API server cannot say.
    pub async fn identify(&self, token: &str) -> Result<Option<Identity>, ReviewError> {
        let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let review = answered("TokenReview", self.tokens.create(&PostParams::default(), &review)).await?;
        Ok(review.status.and_then(whose))
    }

    /// Whether one may get the layers of a stream.
    ///
    /// # Errors
    /// If the API server cannot say.
    pub async fn may_pull(&self, who: &Identity, stream: &Key) -> Result<bool, ReviewError> {
        let served = self.served.get_or_try_init(|| discover(&self.client, self.preference)).await;
        let served = served.map_err(|error| ReviewError::Undiscovered(error.to_string()))?;
        let spec = question(who, stream, served.group());
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let review = answered("SubjectAccessReview", self.rights.create(&PostParams::default(), &review)).await?;
        Ok(review.status.is_some_and(|status| status.allowed))
    }
}

fn whose(status: TokenReviewStatus) -> Option<Identity> {
    let is_known = status.authenticated == Some(true);
    status.user.filter(|user| is_known && user.username.as_ref().is_some_and(|name| !name.is_empty())).map(Identity)
}

fn question(who: &Identity, stream: &Key, group: &str) -> SubjectAccessReviewSpec {
    let user = who.0.clone();
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(PLURAL.to_owned()),
        subresource: Some(LAYERS.to_owned()),
        verb: Some("get".to_owned()),
        namespace: Some(stream.namespace.to_string()),
        name: Some(stream.name.to_string()),
        ..ResourceAttributes::default()
    };
    SubjectAccessReviewSpec {
        user: user.username,
        uid: user.uid,
        groups: user.groups,
        extra: user.extra,
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    }
}

/// Waits for an answer, but not for ever.
async fn answered<T>(kind: &'static str, asked: impl Future<Output = kube::Result<T>>) -> Result<T, ReviewError> {
    match tokio::time::timeout(ANSWER_LIMIT, asked).await {
        Ok(answer) => answer.map_err(|error| ReviewError::Refused(kind, error)),
        Err(_) => Err(ReviewError::Silent),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn only_who_is_authenticated_and_has_a_name_is_known() {
        let user = |name: &str| UserInfo { username: Some(name.to_owned()), ..UserInfo::default() };
        let status = |authenticated, user| TokenReviewStatus { authenticated, user, ..TokenReviewStatus::default() };
        let known = whose(status(Some(true), Some(user("ann")))).unwrap();
        assert_eq!(known.name(), "ann");
        assert_eq!(whose(status(Some(false), Some(user("ann")))), None);
        assert_eq!(whose(status(None, Some(user("ann")))), None);
        assert_eq!(whose(status(Some(true), Some(user("")))), None);
        assert_eq!(whose(status(Some(true), None)), None);
    }

    #[test]
    fn the_question_is_about_the_layers_of_that_stream() {
        let extra = BTreeMap::from([("scopes".to_owned(), vec!["a".to_owned()])]);
        let user = UserInfo {
            username: Some("ann".to_owned()),
            groups: Some(vec!["devs".to_owned()]),
            uid: Some("1".to_owned()),
            extra: Some(extra.clone()),
        };
        let spec = question(&Identity(user), &Key::new("demo", "app"), "pinstream.dev");
        let asked = spec.resource_attributes.unwrap();
        let words = [asked.group, asked.resource, asked.subresource, asked.verb, asked.namespace, asked.name];
        let expected = ["pinstream.dev", "imagestreams", "layers", "get", "demo", "app"];
        assert_eq!(words, expected.map(|word| Some(word.to_owned())));
        assert_eq!((spec.user.as_deref(), spec.uid.as_deref()), (Some("ann"), Some("1")));
        assert_eq!((spec.groups, spec.extra), (Some(vec!["devs".to_owned()]), Some(extra)));
    }
}
