//! `pinstream explain`: where an image comes from, or why its name is not resolved.

mod facts;
mod subject;
mod text;

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use self::facts::Facts;
use self::subject::Subject;
use super::backend::{self, Backend, Miss, Opening, Verb};
use super::stdout::print;
use super::target::Target;
use crate::admission::decide::{self, Part, Question, Write};
use crate::config::{CacheArgs, RegistryHostArgs};
use crate::index::{IndexedStream, Snapshot};
use crate::store::edit::yaml;
use crate::store::home::Catalogue as _;
use crate::store::kube::Resource;
use crate::stream::ImageStream;
use crate::workload::{Kind, Kinds, List, Slot, Workload};

/// Label of a namespace that says what is pinned in it.
const PIN_LABEL: &str = "pinstream.dev/pin";

/// Tell where an image comes from, or why it is not resolved
///
/// Names the stream, the tag and the entry of its history, for short names and for images that have a digest already,
/// and what would become of the image if its object were created now. Exits with 1 if a short name is not resolved.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream explain keycloak:20.0
  pinstream explain quay.io/keycloak/keycloak@sha256:54ed... -n demo
  pinstream explain deploy/mykeycloak
  pinstream explain pod/mykeycloak-5d8f7 -o json")]
pub(super) struct Explain {
    /// An image, or an object of the cluster: pod/NAME, deploy/NAME, rs, sts, ds, job, cronjob, rc
    #[arg(value_name = "IMAGE|TYPE/NAME")]
    subject: Subject,

    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,

    #[command(flatten)]
    host: RegistryHostArgs,

    #[command(flatten)]
    caches: CacheArgs,

    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
    Yaml,
}

/// All that is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    namespace: String,
    /// `KIND/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    /// The namespace's own word on what is pinned in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<String>,
    images: Vec<Facts>,
}

impl Explain {
    pub(super) fn run(self) -> anyhow::Result<()> {
        backend::run(&self.target.clone(), &Opening::default(), self)
    }

    fn images(&self, workload: &Workload<'_>, kind: &Kind, namespace: &str, streams: &[ImageStream]) -> Vec<Facts> {
        let places = self.caches.places(&self.host);
        let snapshot = Snapshot::new(streams.iter().map(|stream| Arc::new(IndexedStream::new(stream, &places))));
        let question = Question { write: Write::Create, part: Part::Whole, namespace, kind, object: workload };
        let decision = decide::decide(&question, &snapshot);
        decision.slots.iter().map(|decided| facts::facts(decided, namespace, streams)).collect()
    }
}

impl Verb for Explain {
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()> {
        let namespace = backend.common().namespace.clone();
        let streams = backend.home().list(Some(&namespace)).await?;
        let streams: Vec<ImageStream> = streams.into_iter().map(|stored| stored.stream).collect();
        let kinds = Kinds::default();
        let (object, images) = match &self.subject {
            Subject::Image(image) => {
                let kind = kinds.find("", "Pod").context("Pods have images")?;
                let slot = Slot { list: List::Containers, index: 0, name: "".into(), image: image.as_str().into() };
                let workload = Workload { slots: vec![slot], ..Workload::default() };
                (None, self.images(&workload, kind, &namespace, &streams))
            }
            Subject::Object(resource, name) => {
                let object = expect(backend, *resource, name).await?;
                let group = resource.api_version.split_once('/').map_or("", |(group, _)| group);
                let kind = kinds.find(group, resource.kind).context("its kind has no images")?;
                let workload = Workload::read(kind, &object)?;
                (Some(format!("{}/{name}", resource.kind)), self.images(&workload, kind, &namespace, &streams))
            }
        };
        let pin = backend.namespace_label(&namespace, PIN_LABEL).await;
        let explanation = Explanation { namespace, object, pin, images };
        print(&explanation.render(self.output)?)?;
        explanation.conclude()
    }
}

/// An object of the cluster, or [`Miss`].
async fn expect<B: Backend>(backend: &B, resource: Resource, name: &str) -> anyhow::Result<Value> {
    let key = backend.key(name);
    let object = backend.object(resource, &key).await?;
    let none = || Miss(format!("there is no {} {name} in namespace {}", resource.kind, key.namespace));
    Ok(object.ok_or_else(none)?)
}

impl Explanation {
    fn render(&self, output: Output) -> anyhow::Result<String> {
        Ok(match output {
            Output::Text => self.text(),
            Output::Json => serde_json::to_string_pretty(self)? + "\n",
            Output::Yaml => yaml(self)?,
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(object) = &self.object {
            let _ = writeln!(text, "{:<12}{object} in namespace {}", "Object:", self.namespace);
        }
        match self.pin.as_deref() {
            Some("off") => {
                let _ = writeln!(text, "{:<12}off: nothing is pinned in namespace {}", "Pin:", self.namespace);
            }
            Some("pod") => {
                let _ = writeln!(text, "{:<12}pod: only Pods are pinned in namespace {}", "Pin:", self.namespace);
            }
            _ => {}
        }
        for facts in &self.images {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&text::render(facts, &self.namespace));
        }
        text
    }

    fn conclude(&self) -> anyhow::Result<()> {
        match self.images.iter().filter(|facts| facts.is_unresolved).count() {
            0 => Ok(()),
            unresolved => Err(Miss(format!("{unresolved} of {} images not resolved", self.images.len())).into()),
        }
    }
}
