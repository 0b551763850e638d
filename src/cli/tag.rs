//! `pinstream tag`: tags of streams set to images, to other tags, to what they were; or deleted.

mod destination;
pub(super) mod source;

use std::cell::Cell;

use clap::Args;

use self::destination::Destination;
use self::source::{Source, SourceKind};
use super::backend::{self, Backend, Miss, Verb};
use super::edit::{put, stream_or_new};
use super::image_tag;
use super::imports::{self, ImportArgs};
use super::policy::{Policy, PolicyArgs};
use super::stdout;
use super::target::Target;
use crate::store::home::Home as _;
use crate::stream::types::SpecTag;
use crate::stream::{ImageStream, Key};

/// Set tags of image streams to an image, a tag or an earlier image, or delete them
#[derive(Args, Debug)]
#[command(after_help = "SOURCE is one of
  an image of a registry: quay.io/keycloak/keycloak:20.0.3
  a tag of a stream, frozen to the image that it points to now: keycloak:20.0
  an image of a stream's history, by digest or its beginning: keycloak@87fb

Examples:
  pinstream tag quay.io/keycloak/keycloak:20.0.3 keycloak:20.0
  pinstream tag quay.io/keycloak/keycloak:20.0 keycloak:20.0 --scheduled
  pinstream tag keycloak:20.0 keycloak:prod production/keycloak:20.0
  pinstream tag keycloak:20.0 keycloak:stable --alias
  pinstream tag keycloak@87fbab keycloak:20.0
  pinstream tag -d keycloak:19.0")]
pub(super) struct Tag {
    /// SOURCE, then each DEST that is set to it; with --delete only each DEST: NAME:TAG or NAMESPACE/NAME:TAG
    #[arg(required = true, value_name = "SOURCE DEST")]
    names: Vec<String>,

    /// Delete the tags and their histories
    #[arg(short, long, conflicts_with_all = ["alias", "source", "scheduled", "insecure", "reference", "reference_policy", "import_mode"])]
    delete: bool,

    /// Let DEST follow the tag SOURCE of the same stream, whatever it will point to
    #[arg(long)]
    alias: bool,

    /// What SOURCE is, if its form does not tell
    #[arg(long, value_name = "KIND", ignore_case = true)]
    source: Option<SourceKind>,

    #[command(flatten)]
    import: ImportArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    target: Target,
}

impl Tag {
    pub(super) fn run(self) -> anyhow::Result<()> {
        backend::run(&self.target.clone(), &self.import.opening(), self)
    }

    async fn delete<B: Backend>(&self, backend: &B) -> anyhow::Result<()> {
        let destinations = self.names.iter().map(|name| Destination::parse_any(name));
        let common = backend.common();
        for destination in destinations.collect::<Result<Vec<_>, _>>().map_err(anyhow::Error::msg)? {
            let key = destination.key(&common.namespace);
            backend.remove_tag(&key, &destination.name.tag).await?;
            stdout::line(&format!("Deleted tag {key}:{}{}.", destination.name.tag, common.dry_run.suffix()))?;
        }
        Ok(())
    }

    async fn set<B: Backend>(&self, backend: &B) -> anyhow::Result<()> {
        let (source, destinations) = self.parsed(&backend.common().namespace).map_err(anyhow::Error::msg)?;
        let source = self.meant(backend, source).await?;
        let common = backend.common();
        // Where a new stream is served is not known before a server of its directory has seen it.
        let mut seen = Vec::new();
        for destination in &destinations {
            let key = destination.key(&common.namespace);
            let is_seen = Cell::new(!backend.writes_status());
            let tag = self.tag(&source, destination, &common.namespace);
            let with_tag = |before: Option<&ImageStream>| {
                is_seen.set(is_seen.get() || before.is_some());
                let mut stream = stream_or_new(before, &key);
                put(&mut stream, tag.clone());
                Ok(stream)
            };
            backend.change(&key, with_tag).await?;
            seen.extend(is_seen.get().then_some(destination));
            stdout::line(&format!("{}{}.", self.message(&source, destination), common.dry_run.suffix()))?;
        }
        let mut failures = Vec::new();
        for destination in &destinations {
            let key = destination.key(&common.namespace);
            failures.extend(imports::wait(backend, &key, std::slice::from_ref(&destination.name.tag)).await?);
        }
        self.tell_where_pulled(backend, &seen).await?;
        imports::report(&failures, destinations.first().map_or("", |destination| &destination.name.stream))
    }

    /// Tells whoever asked for reference policy `Local` if it has no effect. On a cluster the controller has written by
    /// now whether it has.
    async fn tell_where_pulled<B: Backend>(&self, backend: &B, destinations: &[&Destination]) -> anyhow::Result<()> {
        if self.policy.reference_policy != Some(Policy::Local) || backend.pretends() {
            return Ok(());
        }
        for destination in destinations {
            let key = destination.key(&backend.common().namespace);
            let Some(stored) = backend.home().read(&key).await? else { continue };
            if let Some(why) = image_tag::not_local(&stored.stream, &destination.name.tag) {
                eprintln!("tag {destination} is {why}; see the flag --registry-host of the servers");
            }
        }
        Ok(())
    }

    /// SOURCE and each DEST, if the flags fit them.
    fn parsed(&self, current: &str) -> Result<(Source, Vec<Destination>), String> {
        let [source, destinations @ ..] = self.names.as_slice() else { return Err(NO_DESTINATION.to_owned()) };
        if destinations.is_empty() {
            return Err(NO_DESTINATION.to_owned());
        }
        let source = Source::parse(source, self.source)?;
        let destinations: Vec<_> =
            destinations.iter().map(|name| Destination::parse(name)).collect::<Result<_, _>>()?;
        if self.policy.is_about_importing() && source.place().is_some() {
            return Err(format!(
                "{source} is of an image stream, and only images of registries are imported: leave out --scheduled, \
                 --insecure and --import-mode"
            ));
        }
        if self.alias {
            let Source::Tag(place) = &source else {
                return Err(format!("{source} is no tag of a stream, and nothing else can be followed by --alias"));
            };
            let own = Key::new(place.namespace.as_deref().unwrap_or(current), &place.stream);
            if let Some(other) = destinations.iter().find(|destination| destination.key(current) != own) {
                return Err(format!("{other} cannot follow {source}: --alias works within one stream"));
            }
        }
        Ok((source, destinations))
    }

    /// What the source means now; an alias means whatever it will.
    async fn meant<B: Backend>(&self, backend: &B, source: Source) -> anyhow::Result<Source> {
        let Some(place) = source.place() else { return Ok(source) };
        let key = Key::new(place.namespace.as_deref().unwrap_or(&backend.common().namespace), &place.stream);
        let Some(stored) = backend.home().read(&key).await? else {
            return Err(Miss(format!(
                "there is no image stream {} in namespace {}; if an image of a registry is meant, write its registry, \
                 such as docker.io/{source}, or --source=docker",
                key.name, key.namespace
            ))
            .into());
        };
        if self.alias {
            return Ok(source);
        }
        Ok(source.frozen(&stored.stream).map_err(|error| Miss(error.to_string()))?)
    }

    fn tag(&self, source: &Source, destination: &Destination, current: &str) -> SpecTag {
        let key = destination.key(current);
        SpecTag {
            name: destination.name.tag.clone(),
            from: Some(source.reference(&key.namespace, current)),
            reference: self.policy.reference,
            // Whoever tags an image of a registry wants it looked up now, changed or not.
            generation: matches!(source, Source::Registry(_)).then_some(0),
            import_policy: self.policy.import(),
            reference_policy: self.policy.pull(),
            ..SpecTag::default()
        }
    }

    fn message(&self, source: &Source, destination: &Destination) -> String {
        if self.alias {
            format!("Tag {destination} set up to track {source}")
        } else if self.policy.scheduled {
            format!("Tag {destination} set to import {source} periodically")
        } else {
            format!("Tag {destination} set to {source}")
        }
    }
}

const NO_DESTINATION: &str =
    "write SOURCE and then one DEST or more, such as: pinstream tag quay.io/keycloak/keycloak:20.0.3 keycloak:20.0";

impl Verb for Tag {
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()> {
        if self.delete { self.delete(backend).await } else { self.set(backend).await }
    }
}
