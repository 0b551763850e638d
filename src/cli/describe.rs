//! `pinstream describe`: streams and tags in full, for people or as objects.

pub(in crate::cli) mod image;
pub(in crate::cli) mod stream;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::backend::{self, Backend, Opening, Verb};
use super::name::{TagName, stream_name};
use super::output::{self, Structure};
use super::target::Target;
use super::{image_tag, stdout};
use crate::store::home::Catalogue as _;
use crate::stream::ImageStream;

/// What an annotation that only `kubectl apply` reads is called.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Show image streams and tags in full
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream describe is keycloak
  pinstream describe istag keycloak:20.0 --streams ./streams")]
pub(super) struct Describe {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    #[command(visible_aliases = ["imagestream", "imagestreams"])]
    Is(DescribeStreams),
    #[command(visible_aliases = ["imagestreamtag", "imagestreamtags"])]
    Istag(DescribeTags),
}

/// Show image streams: where each tag comes from, and what it pointed to
///
/// Of each tag the newest image is marked with *. A line with ~ says that a newer one is still to be imported, a line with !
/// why the last import failed.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream describe is keycloak
  pinstream describe is keycloak tools -n demo
  pinstream describe is keycloak -o json")]
struct DescribeStreams {
    /// Names of the streams
    #[arg(required = true, value_name = "NAME", value_parser = stream_name)]
    names: Vec<String>,

    /// Print the whole objects instead, as get does
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Structure>,

    #[command(flatten)]
    target: Target,
}

/// Show the images that tags point to: size, layers, platforms, and how they are run
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream describe istag keycloak:20.0
  pinstream describe istag keycloak:20.0 keycloak:latest -n demo")]
struct DescribeTags {
    /// Names of the tags
    #[arg(required = true, value_name = "NAME:TAG")]
    names: Vec<TagName>,

    /// Print the whole objects instead, as get does
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Structure>,

    #[command(flatten)]
    target: Target,
}

impl Describe {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.what {
            What::Is(streams) => backend::run(&streams.target.clone(), &Opening::to_read(), streams),
            What::Istag(tags) => backend::run(&tags.target.clone(), &Opening::to_read(), tags),
        }
    }
}

impl Verb for DescribeStreams {
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()> {
        if let Some(structure) = self.output {
            let mut objects = Vec::new();
            for name in &self.names {
                let stored = backend.expect(&backend.key(name)).await?;
                objects.push(output::stream(&stored.stream, &backend.common().group)?);
            }
            stdout::print(&structure.objects(objects)?)?;
            return Ok(());
        }
        for (number, name) in self.names.iter().enumerate() {
            let stored = backend.expect(&backend.key(name)).await?;
            print_apart(number, &stream::text(&stored.stream, Timestamp::now()))?;
        }
        Ok(())
    }
}

impl Verb for DescribeTags {
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()> {
        if let Some(structure) = self.output {
            let mut objects = Vec::new();
            for name in &self.names {
                let stream = backend.expect(&backend.key(&name.stream)).await?.stream;
                let event = image_tag::newest(&stream, name)?;
                let known = backend.home().image(&event.image).await?;
                objects.push(image_tag::object(&stream, name, event, known, &backend.common().group)?);
            }
            stdout::print(&structure.objects(objects)?)?;
            return Ok(());
        }
        for (number, name) in self.names.iter().enumerate() {
            let stored = backend.expect(&backend.key(&name.stream)).await?;
            let title = &image_tag::newest(&stored.stream, name)?.image;
            let (text, is_known) = tag(backend, &stored.stream, name, title).await?;
            print_apart(number, &text)?;
            if !is_known {
                eprintln!("nothing more is known of this image before it is imported: pinstream import-image {name}");
            }
        }
        Ok(())
    }
}

/// The newest image of a tag under a title, and whether more is known of it than its name.
pub(super) async fn tag<B: Backend>(
    backend: &B,
    stream: &ImageStream,
    name: &TagName,
    title: &str,
) -> anyhow::Result<(String, bool)> {
    let event = image_tag::newest(stream, name)?;
    let known = backend.home().image(&event.image).await?;
    let known = known.map(|image| image_tag::image(stream, &name.tag, event, image));
    let pull_spec = image_tag::pull_spec(stream, &name.tag, event);
    let not_local = image_tag::not_local(stream, &name.tag);
    let shown = image::Shown { title, digest: &event.image, pull_spec: &pull_spec, not_local, image: known.as_ref() };
    Ok((image::text(&shown, Timestamp::now()), known.is_some()))
}

/// Prints what is not the first with two empty lines before it.
fn print_apart(number: usize, text: &str) -> anyhow::Result<()> {
    let gap = if number == 0 { "" } else { "\n\n" };
    stdout::print(&format!("{gap}{text}"))?;
    Ok(())
}

fn or_none(value: &str) -> String {
    if value.is_empty() { "<none>" } else { value }.to_owned()
}

/// Labels, on one line.
fn labels(labels: &BTreeMap<String, String>) -> Vec<String> {
    let labels = labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
    vec!["Labels:".to_owned(), or_none(&labels.join(","))]
}

/// Annotations, a line each.
fn annotations(annotations: &BTreeMap<String, String>) -> Vec<Vec<String>> {
    let told = annotations.iter().filter(|(key, _)| *key != LAST_APPLIED);
    let mut told = told.map(|(key, value)| format!("{key}={value}"));
    let first = vec!["Annotations:".to_owned(), told.next().unwrap_or_else(|| or_none(""))];
    std::iter::once(first).chain(told.map(|annotation| vec![String::new(), annotation])).collect()
}
