//! Webhook configurations, by which the API server knows whom to trust: whether they have the CA, and the patch that gives
//! it to them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, TestOperation};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::ResourceExt;

/// A kind of webhook configuration.
pub(super) trait Configuration: ResourceExt {
    /// The name of the kind.
    const KIND: &'static str;

    /// How each of its webhooks is called.
    fn clients(&self) -> impl Iterator<Item = &WebhookClientConfig>;

    /// Every webhook is called with this trusted.
    fn announces(&self, pem: &str) -> bool {
        let trusts = |bundle: &ByteString| String::from_utf8_lossy(&bundle.0).contains(pem);
        self.clients().all(|client| client.ca_bundle.as_ref().is_some_and(trusts))
    }

    /// The patch that makes the bundle the `caBundle` of every webhook; `None` if it is. Only what is wrong is written,
    /// and only to the version that was seen.
    fn announcement(&self, bundle: &str) -> Option<Patch> {
        let at = |path: String| PointerBuf::parse(path).expect("field names and numbers need no escapes");
        let version = self.resource_version().unwrap_or_default();
        let seen = TestOperation { path: at("/metadata/resourceVersion".to_owned()), value: version.into() };
        let is_wrong = |client: &WebhookClientConfig| {
            client.ca_bundle.as_ref().is_none_or(|written| written.0 != bundle.as_bytes())
        };
        let clients = self.clients().enumerate();
        let writes: Vec<PatchOperation> = clients
            .filter(|(_, client)| is_wrong(client))
            .map(|(number, _)| {
                let path = at(format!("/webhooks/{number}/clientConfig/caBundle"));
                PatchOperation::Add(AddOperation { path, value: STANDARD.encode(bundle).into() })
            })
            .collect();
        (!writes.is_empty()).then(|| Patch([PatchOperation::Test(seen)].into_iter().chain(writes).collect()))
    }
}

impl Configuration for MutatingWebhookConfiguration {
    const KIND: &'static str = "MutatingWebhookConfiguration";

    fn clients(&self) -> impl Iterator<Item = &WebhookClientConfig> {
        self.webhooks.iter().flatten().map(|webhook| &webhook.client_config)
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    const KIND: &'static str = "ValidatingWebhookConfiguration";

    fn clients(&self) -> impl Iterator<Item = &WebhookClientConfig> {
        self.webhooks.iter().flatten().map(|webhook| &webhook.client_config)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, ValidatingWebhook};
    use kube::api::ObjectMeta;

    use super::*;

    fn clients(bundles: &[Option<&str>]) -> Vec<WebhookClientConfig> {
        let bundle = |text: Option<&str>| text.map(|text| ByteString(text.into()));
        let client = |text| WebhookClientConfig { ca_bundle: bundle(text), ..WebhookClientConfig::default() };
        bundles.iter().copied().map(client).collect()
    }

    fn mutating(bundles: &[Option<&str>]) -> MutatingWebhookConfiguration {
        let webhook = |client_config| MutatingWebhook { client_config, ..MutatingWebhook::default() };
        let metadata = ObjectMeta { resource_version: Some("7".to_owned()), ..ObjectMeta::default() };
        let webhooks = Some(clients(bundles).into_iter().map(webhook).collect());
        MutatingWebhookConfiguration { metadata, webhooks }
    }

    fn validating(bundles: &[Option<&str>]) -> ValidatingWebhookConfiguration {
        let webhook = |client_config| ValidatingWebhook { client_config, ..ValidatingWebhook::default() };
        let metadata = ObjectMeta { resource_version: Some("7".to_owned()), ..ObjectMeta::default() };
        let webhooks = Some(clients(bundles).into_iter().map(webhook).collect());
        ValidatingWebhookConfiguration { metadata, webhooks }
    }

    fn check<C: Configuration>(configuration: impl Fn(&[Option<&str>]) -> C) {
        let found = configuration(&[Some("new old "), None, Some("other")]);
        assert!(!found.announces("new "));
        let patch = serde_json::to_value(found.announcement("new old ")).unwrap();
        let written = STANDARD.encode("new old ");
        assert_eq!(
            patch,
            serde_json::json!([
                {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
                {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": written},
                {"op": "add", "path": "/webhooks/2/clientConfig/caBundle", "value": written},
            ])
        );
        let written = configuration(&[Some("new old "), Some("new old ")]);
        assert!(written.announces("new ") && written.announcement("new old ").is_none());
    }

    #[test]
    fn bundle_is_written_where_it_is_not() {
        check(mutating);
        check(validating);
    }
}
