//! `pinstream audit`: how far what runs, or what manifests would run, is from the image streams.

mod junit;
mod policyreport;
mod report;
mod sarif;
mod text;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use self::report::{Entry, Report, Spot};
use super::backend::{self, Backend, Miss, Opening, Verb};
use super::resolve::input::{self, Input};
use super::resolve::manifest::Rules;
use super::target::Target;
use super::{output, stdout};
use crate::audit::Audit as State;
use crate::config::ResolveArgs;
use crate::index::{IndexedStream, Snapshot};
use crate::store::home::{Catalogue as _, Stored};
use crate::stream::Key;
use crate::workload::Kinds;

/// Tell how far what runs is from the image streams
///
/// Looks at every container of the Pods that run, or with -f of what manifests would run once their short names are
/// resolved. An image is current (a tag of a stream points to its digest), behind (a tag pointed to it before), unknown (a
/// digest that no stream knows), mutable (no digest) or unresolved (a short name without a digest). No registry is asked.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream audit -n demo
  pinstream audit -A -o wide
  pinstream audit -A -o json --fail-on mutable
  pinstream audit -f manifests/ --streams ./streams --fail-on behind -o sarif > audit.sarif
  pinstream audit -A -o policyreport | kubectl apply --server-side -f -
  helm template web ./chart | pinstream audit -f - -n demo -o junit")]
pub(super) struct Audit {
    /// Audit manifests in place of Pods: a file, a directory with all *.yaml, *.yml and *.json below it, or - for standard
    /// input. Repeatable
    #[arg(short = 'f', long = "filename", value_name = "PATH", conflicts_with = "all_namespaces")]
    filenames: Vec<PathBuf>,

    /// The Pods of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,

    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,

    /// Exit with 1 if a container is in this state or a worse one: behind, unknown, mutable or unresolved, each worse than
    /// the one before
    #[arg(long, value_name = "STATE", default_value = "none", hide_possible_values = true)]
    fail_on: FailOn,

    #[command(flatten)]
    by: ResolveArgs,

    #[command(flatten)]
    target: Target,
}

/// How an audit is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for each finding, by namespace.
    Table,
    /// With streams and times.
    Wide,
    /// As JSON.
    Json,
    /// As YAML.
    Yaml,
    /// As SARIF 2.1.0, for code scanning.
    Sarif,
    /// As JUnit's XML, for pipelines.
    Junit,
    /// As PolicyReport objects, one for each namespace, for kubectl apply.
    Policyreport,
}

/// From which state on a finding is a failure. In the order of [`crate::audit::Standing::STATES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    None,
    Behind,
    Unknown,
    Mutable,
    Unresolved,
}

impl FailOn {
    /// The rank of the first state that fails.
    fn rank(self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Behind => Some(1),
            Self::Unknown => Some(2),
            Self::Mutable => Some(3),
            Self::Unresolved => Some(4),
        }
    }
}

impl Audit {
    pub(super) fn run(self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.target.streams.is_none() || !self.filenames.is_empty(),
            "over a directory nothing runs; name the manifests to audit with -f PATH, or leave --streams off to audit a cluster"
        );
        let inputs = input::read(&self.filenames)?;
        let target = self.target.clone();
        let kinds = Kinds::with(self.by.kinds.clone());
        backend::run(&target, &Opening::to_read(), Job { audit: self, inputs, kinds })
    }
}

/// What was asked for, with what was read.
struct Job {
    audit: Audit,
    inputs: Vec<Input>,
    kinds: Kinds,
}

impl Verb for Job {
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()> {
        let streams = self.streams(backend).await?;
        let mut state = State::default();
        for stored in &streams {
            state.apply_stream(&stored.stream);
        }
        let report = match backend.cluster().filter(|_| self.inputs.is_empty()) {
            Some(cluster) => {
                let namespace = (!self.audit.all_namespaces).then_some(backend.common().namespace.as_str());
                let pods = cluster.pods(namespace).await?;
                for pod in &pods {
                    state.apply_pod(&pod.key, pod.containers.iter().map(|(_, image)| &**image));
                }
                let scope = |key: &Key| namespace.is_none_or(|namespace| *key.namespace == *namespace);
                Report::of_pods(&state, &pods).with_streams(&state, streams.iter().map(|stored| &stored.stream), scope)
            }
            None => Report::new(self.written(&state, &streams, &backend.common().namespace)?),
        };
        stdout::print(&self.text(&report)?)?;
        self.conclude(&report)
    }
}

impl Job {
    /// The streams of the namespaces in question.
    async fn streams<B: Backend>(&self, backend: &B) -> anyhow::Result<Vec<Stored>> {
        let own = backend.common().namespace.as_str();
        if self.inputs.is_empty() {
            let namespace = (!self.audit.all_namespaces).then_some(own);
            return Ok(backend.home().list(namespace).await?);
        }
        let namespaces = self.inputs.iter().flat_map(|input| input.manifest.namespaces(&self.kinds));
        let namespaces: BTreeSet<&str> = namespaces.map(|namespace| namespace.unwrap_or(own)).collect();
        let mut streams = Vec::new();
        for namespace in namespaces {
            streams.extend(backend.home().list(Some(namespace)).await?);
        }
        Ok(streams)
    }

    /// The images of manifests, as they are once they are resolved.
    fn written(&self, state: &State, streams: &[Stored], namespace: &str) -> anyhow::Result<Vec<Entry>> {
        let places = self.audit.by.places();
        let indexed = streams.iter().map(|stored| Arc::new(IndexedStream::new(&stored.stream, &places)));
        let snapshot = Snapshot::new(indexed);
        let rules = Rules { snapshot: &snapshot, kinds: &self.kinds, namespace };
        let mut entries = Vec::new();
        for input in &self.inputs {
            let images = input.manifest.images(&rules).with_context(|| input.source.to_string())?;
            entries.extend(images.into_iter().map(|written| {
                let image = written.becomes.as_ref().unwrap_or(&written.image);
                let standing = state.standing(&written.namespace, image);
                let spot = Spot { file: input.source.to_string(), line: written.line };
                Entry::new(written.namespace, (written.object, written.container), written.image, &standing).at(spot)
            }));
        }
        Ok(entries)
    }

    fn text(&self, report: &Report) -> anyhow::Result<String> {
        match self.audit.output {
            Format::Table => Ok(text::tables(report, None)),
            Format::Wide => Ok(text::tables(report, Some(Timestamp::now()))),
            Format::Json => output::json(&serde_json::to_value(report)?),
            Format::Yaml => output::yaml(&serde_json::to_value(report)?),
            Format::Sarif => output::json(&sarif::log(report)),
            Format::Junit => Ok(junit::suites(report, self.audit.fail_on.rank().unwrap_or(1))),
            Format::Policyreport => {
                let objects = policyreport::objects(report, self.audit.fail_on.rank().unwrap_or(1));
                output::Structure::Yaml.objects(objects)
            }
        }
    }

    /// Says whether there are findings that are an answer of no.
    fn conclude(&self, report: &Report) -> anyhow::Result<()> {
        let Some(rank) = self.audit.fail_on.rank() else { return Ok(()) };
        match report.count_from(rank) {
            0 => Ok(()),
            count => Err(Miss(format!("{count} of {} containers fail the audit", report.total())).into()),
        }
    }
}

#[cfg(test)]
mod tests;
