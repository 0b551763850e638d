//! `pinstream create istag`: a tag that is not there yet.

use std::collections::BTreeMap;

use clap::Args;

use crate::cli::backend::{self, Backend, Miss, Verb};
use crate::cli::edit::{put, stream_or_new};
use crate::cli::imports::{self, ImportArgs};
use crate::cli::name::{TagName, tag_name};
use crate::cli::policy::PolicyArgs;
use crate::cli::stdout;
use crate::cli::tag::source::{Place, Source, SourceKind};
use crate::cli::target::Target;
use crate::stream::types::SpecTag;
use crate::stream::{ImageStream, Key};

/// Make a tag of an image stream, and import it
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream create istag keycloak:20.0 --from-image quay.io/keycloak/keycloak:20.0.2
  pinstream create istag keycloak:20.0 --from-image quay.io/keycloak/keycloak:20.0 --scheduled
  pinstream create istag keycloak:stable --from :20.0
  pinstream create istag keycloak:20.0 --from other/keycloak:20.0
  pinstream create istag keycloak:pushed")]
pub(super) struct CreateTag {
    /// Name of the tag
    #[arg(value_name = "NAME:TAG")]
    name: TagName,

    /// Image of a registry that the tag is imported from
    #[arg(long, value_name = "IMAGE", conflicts_with = "from")]
    from_image: Option<String>,

    /// Tag or image of a stream that the tag points to: [NAMESPACE/]NAME:TAG, NAME@DIGEST, or :TAG of the same stream, which
    /// it follows
    #[arg(long, value_name = "SOURCE")]
    from: Option<String>,

    /// Annotation of the tag. Repeatable
    #[arg(long = "annotation", value_name = "NAME=VALUE", value_parser = annotation)]
    annotations: Vec<(String, String)>,

    #[command(flatten)]
    import: ImportArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    target: Target,
}

impl CreateTag {
    pub(super) fn run(self) -> anyhow::Result<()> {
        backend::run(&self.target.clone(), &self.import.opening(), self)
    }

    /// Where the tag comes from, if it is said.
    fn source(&self) -> Result<Option<Source>, String> {
        let source = match (&self.from_image, &self.from) {
            (Some(image), _) => Source::parse(image, Some(SourceKind::Docker))?,
            (None, Some(from)) => self.stream_source(from)?,
            (None, None) => return Ok(None),
        };
        if self.policy.is_about_importing() && source.place().is_some() {
            return Err(format!(
                "{source} is of an image stream, and only images of registries are imported: leave out --scheduled, \
                 --insecure and --import-mode"
            ));
        }
        Ok(Some(source))
    }

    fn stream_source(&self, from: &str) -> Result<Source, String> {
        if let Some(tag) = from.strip_prefix(':') {
            let (stream, version) = (self.name.stream.clone(), tag_name(tag)?);
            return Ok(Source::Tag(Place { namespace: None, stream, version }));
        }
        Source::parse(from, Some(if from.contains('@') { SourceKind::Image } else { SourceKind::Tag }))
    }

    fn tag(&self, source: Option<&Source>, current: &str) -> SpecTag {
        let annotations: BTreeMap<_, _> = self.annotations.iter().cloned().collect();
        SpecTag {
            name: self.name.tag.clone(),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            from: source.map(|source| source.reference(current, current)),
            reference: self.policy.reference,
            import_policy: self.policy.import(),
            reference_policy: self.policy.pull(),
            ..SpecTag::default()
        }
    }
}

/// A source in a stream is to be there: whoever follows nothing has mistyped a name.
async fn check<B: Backend>(backend: &B, source: &Source) -> anyhow::Result<()> {
    let Some(place) = source.place() else { return Ok(()) };
    let key = Key::new(place.namespace.as_deref().unwrap_or(&backend.common().namespace), &place.stream);
    let stored = backend.expect(&key).await?;
    let is_there = match source {
        Source::Tag(Place { version, .. }) => {
            stored.stream.spec.tag(version).is_some() || stored.stream.status.tag(version).is_some()
        }
        source => source.frozen(&stored.stream).is_ok(),
    };
    if is_there {
        Ok(())
    } else {
        Err(Miss(format!("there is no {source}; see: pinstream describe is {}", key.name)).into())
    }
}

impl Verb for CreateTag {
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()> {
        let (key, common) = (backend.key(&self.name.stream), backend.common());
        let source = self.source().map_err(anyhow::Error::msg)?;
        if let Some(source) = &source {
            check(backend, source).await?;
        }
        let tag = self.tag(source.as_ref(), &common.namespace);
        let with_tag = |before: Option<&ImageStream>| {
            let mut stream = stream_or_new(before, &key);
            anyhow::ensure!(
                stream.spec.tag(&tag.name).is_none(),
                "there is a tag {} in namespace {} already; change it with: pinstream tag SOURCE {0}",
                self.name,
                key.namespace
            );
            put(&mut stream, tag.clone());
            Ok(stream)
        };
        backend.change(&key, with_tag).await?;
        stdout::line(&format!("imagestreamtag.{}/{} created{}", common.group, self.name, common.dry_run.suffix()))?;
        imports::report(&imports::wait(backend, &key, &[self.name.tag]).await?, &self.name.stream)
    }
}

fn annotation(written: &str) -> Result<(String, String), String> {
    let parts = written.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = parts.ok_or("write NAME=VALUE, such as description=stable")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_read() {
        assert_eq!(annotation("a/b=c=d"), Ok(("a/b".to_owned(), "c=d".to_owned())));
        assert_eq!(annotation("a="), Ok(("a".to_owned(), String::new())));
        assert!(annotation("a-").is_err() && annotation("=b").is_err());
    }
}
