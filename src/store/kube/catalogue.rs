//! Streams of a cluster listed, created and deleted: what commands need beside importing.

use kube::api::{DeleteParams, GetParams, ListParams};
use kube::core::{ObjectList, Request};
use serde_json::{Value, json};

use super::client::answer;
use super::home::{ClusterHome, PAGE_SIZE, home_error, stored};
use super::objects::Served;
use crate::image::Image;
use crate::store::home::{Catalogue, HomeError, Stored};
use crate::stream::{ImageStream, Key};

impl Catalogue for ClusterHome {
    async fn list(&self, namespace: Option<&str>) -> Result<Vec<Stored>, HomeError> {
        let place = Key::new(namespace.unwrap_or("*"), "*");
        let request = namespace.map_or_else(|| self.served().request(), |namespace| self.streams(namespace));
        let mut streams: Vec<Stored> = Vec::new();
        let mut params = ListParams::default().limit(PAGE_SIZE);
        loop {
            let page: ObjectList<ImageStream> = self.ask(&place, request.list(&params)).await?;
            streams.extend(page.items.into_iter().map(|stream| {
                let namespace = stream.key().namespace;
                stored(stream, &namespace)
            }));
            match page.metadata.continue_.filter(|rest| !rest.is_empty()) {
                Some(rest) => params = params.continue_token(&rest),
                None => break,
            }
        }
        streams.sort_by_key(Stored::key);
        Ok(streams)
    }

    async fn create(&self, stream: &ImageStream) -> Result<Stored, HomeError> {
        let key = stream.key();
        let mut object = serde_json::to_value(stream).map_err(|error| HomeError::Refused(error.to_string()))?;
        object["apiVersion"] = self.served().api_version().into();
        // Status is another's to write.
        object["status"] = json!({});
        let body = serde_json::to_vec(&object).map_err(|error| HomeError::Refused(error.to_string()))?;
        let request = self.streams(&key.namespace).create(&self.posting(), body);
        match self.ask(&key, request).await {
            Ok(created) => Ok(stored(created, &key.namespace)),
            // Nobody can have changed what was not there.
            Err(HomeError::Conflict(key)) => Err(HomeError::Exists(key)),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, key: &Key) -> Result<(), HomeError> {
        let params = DeleteParams { dry_run: self.is_rehearsal(), ..DeleteParams::default() };
        let _: Value = self.ask(key, self.streams(&key.namespace).delete(&key.name, &params)).await?;
        Ok(())
    }

    async fn image(&self, digest: &str) -> Result<Option<Image>, HomeError> {
        let name = match self.served() {
            Served::OpenShift => digest.to_owned(),
            Served::Pinstream => Image::resource_name(digest),
        };
        let request = self.images().get(&name, &GetParams::default());
        let request = request.map_err(|error| HomeError::Refused(error.to_string()))?;
        match answer(self.client().request(request)).await {
            Ok(image) => Ok(Some(Image::from_resource(image))),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(home_error(&Key::new("", digest), "image", &error)),
        }
    }
}

impl ClusterHome {
    /// Deletes a tag and its history, as OpenShift's API does it for its own streams.
    ///
    /// # Errors
    /// [`HomeError::Gone`] if there is no such tag, or tags are no resource, or none of that name can be one.
    pub async fn delete_tag(&self, key: &Key, tag: &str) -> Result<(), HomeError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !tag.bytes().all(is_plain) {
            // In a URL it would mean another tag.
            return Err(HomeError::Gone(key.clone()));
        }
        let params = DeleteParams { dry_run: self.is_rehearsal(), ..DeleteParams::default() };
        let path = format!("/apis/{}/namespaces/{}/imagestreamtags", self.served().api_version(), key.namespace);
        let request = Request::new(path).delete(&format!("{}:{tag}", key.name), &params);
        let _: Value = self.ask(key, request).await?;
        Ok(())
    }
}
