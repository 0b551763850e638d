//! Streams of a directory listed, created and deleted: what commands need beside importing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::home::{DirectoryHome, Files, not_kept, refused, stored, unwritable};
use super::ledger::Ledger;
use super::walk::format_of;
use super::written::{WrittenTag, written_tags};
use crate::files::{self, replace};
use crate::image::Image;
use crate::store::documents::{self, Format, Item};
use crate::store::home::{Catalogue, HomeError, Stored};
use crate::stream::types::{ApiVersion, Kind, LookupPolicy, Status};
use crate::stream::{ImageStream, Key};

impl Catalogue for DirectoryHome {
    async fn list(&self, namespace: Option<&str>) -> Result<Vec<Stored>, HomeError> {
        let namespace = namespace.map(str::to_owned);
        self.on_files(move |files| files.list(namespace.as_deref())).await
    }

    async fn create(&self, stream: &ImageStream) -> Result<Stored, HomeError> {
        let stream = stream.clone();
        self.on_files(move |files| files.create(&stream)).await
    }

    async fn delete(&self, key: &Key) -> Result<(), HomeError> {
        let key = key.clone();
        self.on_files(move |files| files.delete(&key)).await
    }

    async fn image(&self, digest: &str) -> Result<Option<Image>, HomeError> {
        let digest = digest.to_owned();
        self.on_files(move |files| {
            files.private.image(&digest).map_err(|error| HomeError::Unavailable(error.to_string()))
        })
        .await
    }
}

/// A stream as a file of its own.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    api_version: ApiVersion,
    kind: Kind,
    metadata: BTreeMap<&'static str, Value>,
    spec: WrittenSpec<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a Status>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenSpec<'a> {
    lookup_policy: LookupPolicy,
    #[serde(skip_serializing_if = "str::is_empty")]
    docker_image_repository: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<WrittenTag<'a>>,
}

impl Files {
    fn list(&self, namespace: Option<&str>) -> Result<Vec<Stored>, HomeError> {
        let _lock = self.lock()?;
        let owners = self.owners.read().clone();
        let mut by_path: BTreeMap<&Path, Vec<&Key>> = BTreeMap::new();
        for (key, path) in owners.iter().filter(|(key, _)| namespace.is_none_or(|wanted| *key.namespace == *wanted)) {
            by_path.entry(path).or_default().push(key);
        }
        let mut streams = Vec::new();
        for (path, keys) in by_path {
            let unreadable =
                |error: &dyn std::fmt::Display| HomeError::Unavailable(format!("{}: {error}", path.display()));
            let text = fs::read(path).map_err(|error| unreadable(&error))?;
            let sink = |item, _| {
                if let Item::Stream(stream) = item
                    && keys.contains(&&stream.key())
                {
                    streams.push(*stream);
                }
            };
            documents::read(&text, format_of(path).unwrap_or(Format::Yaml), sink)
                .map_err(|error| unreadable(&error))?;
        }
        streams.sort_by_key(ImageStream::key);
        let numbered = |mut stream: ImageStream| {
            let kept = self.private.ledger(&stream.key()).ok().flatten();
            // One that is not valid is listed as it is.
            if let Ok((numbered, _)) = self.numbered(&stream, kept) {
                return stored(numbered);
            }
            stream.metadata.namespace = Some(stream.key().namespace.into());
            stored(stream)
        };
        Ok(streams.into_iter().map(numbered).collect())
    }

    fn create(&self, stream: &ImageStream) -> Result<Stored, HomeError> {
        let key = stream.key();
        let lock = self.lock()?;
        if self.owners.read().contains_key(&key) {
            return Err(HomeError::Exists(key));
        }
        let folder = self.root.join(&*key.namespace);
        let path = folder.join(format!("{}.yaml", key.name));
        if path.exists() {
            return Err(refused(&path, &key, &"the file is there and defines something else"));
        }
        let mut metadata =
            BTreeMap::from([("name", Value::from(&*key.name)), ("namespace", Value::from(&*key.namespace))]);
        metadata.insert("creationTimestamp", Value::from(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
        for (name, map) in [("annotations", &stream.metadata.annotations), ("labels", &stream.metadata.labels)] {
            if !map.is_empty() {
                metadata.insert(name, serde_json::json!(map));
            }
        }
        let written = Written {
            api_version: ApiVersion::Pinstream,
            kind: Kind::ImageStream,
            metadata,
            spec: WrittenSpec {
                lookup_policy: stream.spec.lookup_policy,
                docker_image_repository: &stream.spec.docker_image_repository,
                tags: written_tags(&stream.spec.tags),
            },
            status: Some(&stream.status).filter(|status| **status != Status::default()),
        };
        let text = crate::store::edit::yaml(&written).map_err(|error| refused(&path, &key, &error))?;
        files::make_folder(&folder).map_err(|error| unwritable(&error))?;
        replace(&path, text.as_bytes(), true).map_err(|error| unwritable(&error))?;
        self.owners.write().insert(key.clone(), path.clone());
        let written = self.locate(&key, &lock)?.ok_or_else(|| HomeError::Gone(key.clone()))?.written;
        let ledger = Ledger::of(&written, stream);
        self.private.keep_ledger(&key, &ledger).unwrap_or_else(|error| not_kept(&key, &error));
        let (stream, _) = self.numbered(&written, Some(ledger)).map_err(|error| refused(&path, &key, &error))?;
        Ok(stored(stream))
    }

    fn delete(&self, key: &Key) -> Result<(), HomeError> {
        let lock = self.lock()?;
        let opened = self.locate(key, &lock)?.ok_or_else(|| HomeError::Gone(key.clone()))?;
        if opened.item.is_some() {
            return Err(refused(&opened.path, key, &"it is an item of a List; take it out by hand"));
        }
        let rest = [&opened.text[..opened.document.start], &opened.text[opened.document.end..]].concat();
        let mut is_empty = true;
        documents::read(rest.as_bytes(), opened.format, |_, _| is_empty = false)
            .map_err(|error| refused(&opened.path, key, &error))?;
        let deleted =
            if is_empty { fs::remove_file(&opened.path) } else { replace(&opened.path, rest.as_bytes(), true) };
        deleted.map_err(|error| unwritable(&error))?;
        self.owners.write().remove(key);
        self.private.forget(key).map_err(|error| unwritable(&error))
    }
}
