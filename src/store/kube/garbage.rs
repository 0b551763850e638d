//! Lets go of images that no stream knows any more.

use std::collections::HashSet;
use std::time::Duration;

use kube::Client;
use kube::api::{DeleteParams, ListParams};
use kube::core::{ObjectList, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::answer;
use super::objects::{Item, Page, Served};
use crate::crd::IMAGES_PLURAL;
use crate::image::Image;

/// Objects asked for at a time.
const PAGE_SIZE: u32 = 200;
/// Between two looks.
const INTERVAL: Duration = Duration::from_hours(1);
/// An image may be this young and in no stream yet: it is written before the stream.
const GRACE: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// What of an image matters here.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    metadata: KnownMetadata,
    #[serde(default)]
    docker_image_manifests: Vec<Child>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KnownMetadata {
    name: String,
    #[serde(default)]
    creation_timestamp: Option<jiff::Timestamp>,
    #[serde(default)]
    uid: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Child {
    digest: String,
}

/// Looks for images that no stream knows, again and again, and deletes them. Never ends.
pub async fn keep_clean(client: Client) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        match collect_images(&client, jiff::Timestamp::now()).await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "images deleted that no stream refers to"),
            Err(error) => tracing::warn!(%error, "images that no stream refers to could not be deleted"),
        }
    }
}

/// Deletes images that no stream refers to and that are an hour old or more. Gives their number.
///
/// # Errors
/// If the API server does not answer or refuses; what was deleted by then is gone.
pub async fn collect_images(client: &Client, now: jiff::Timestamp) -> kube::Result<usize> {
    // The images first: one that comes meanwhile is not looked at.
    let images = Request::new(format!("/apis/{}/{IMAGES_PLURAL}", Served::Pinstream.api_version()));
    let mut known: Vec<Known> = Vec::new();
    let mut rest = None;
    loop {
        let page: ObjectList<Known> = page(client, &images, rest.as_deref()).await?;
        known.extend(page.items);
        rest = page.metadata.continue_.filter(|rest| !rest.is_empty());
        if rest.is_none() {
            break;
        }
    }
    let in_streams = referenced(client).await?;
    let in_indexes: HashSet<String> = known
        .iter()
        .filter(|image| in_streams.contains(&image.metadata.name))
        .flat_map(|image| image.docker_image_manifests.iter().map(|child| Image::resource_name(&child.digest)))
        .collect();
    let is_young =
        |image: &Known| image.metadata.creation_timestamp.is_none_or(|created| now.duration_since(created) < GRACE);
    let mut deleted = 0;
    for image in known {
        let name = &image.metadata.name;
        if in_streams.contains(name) || in_indexes.contains(name) || is_young(&image) {
            continue;
        }
        let params = DeleteParams {
            preconditions: Some(kube::api::Preconditions {
                uid: Some(image.metadata.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let request = images.delete(name, &params).map_err(kube::Error::BuildRequest)?;
        match answer(client.request::<Value>(request)).await {
            Ok(_) => deleted += 1,
            // Somebody else was faster, or it is there anew.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(deleted)
}

/// Names of the images in the history of any stream.
async fn referenced(client: &Client) -> kube::Result<HashSet<String>> {
    let streams = Served::Pinstream.request();
    let mut referenced = HashSet::new();
    let mut rest: Option<String> = None;
    loop {
        let page: Page = page(client, &streams, rest.as_deref()).await?;
        for item in page.items {
            let name = item.key();
            // What an object says that cannot be read is not known, so nothing may go.
            let stream = Item::parse(item)
                .map_err(|error| kube::Error::Service(format!("image stream {name}: {error}").into()))?;
            let items = stream.status.tags.iter().flat_map(|events| &events.items);
            referenced.extend(items.map(|event| Image::resource_name(&event.image)));
        }
        rest = Some(page.metadata.rest).filter(|rest| !rest.is_empty());
        if rest.is_none() {
            return Ok(referenced);
        }
    }
}

async fn page<T: DeserializeOwned>(client: &Client, of: &Request, rest: Option<&str>) -> kube::Result<T> {
    let mut params = ListParams::default().limit(PAGE_SIZE);
    if let Some(rest) = rest {
        params = params.continue_token(rest);
    }
    answer(client.request(of.list(&params).map_err(kube::Error::BuildRequest)?)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::kube::watch::script::server;

    #[tokio::test(start_paused = true)]
    async fn silent_api_server_is_given_up() {
        let (client, _) = server(Vec::new());
        let error = collect_images(&client, jiff::Timestamp::UNIX_EPOCH).await.unwrap_err();
        assert!(error.to_string().contains("no answer for 60 s"), "{error}");
    }
}
