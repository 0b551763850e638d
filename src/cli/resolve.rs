//! `pinstream resolve`: manifests in, the same manifests with their short names pinned out.

mod diff;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(super) mod input;
pub(super) mod manifest;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use self::input::{Input, Source};
use self::manifest::{Resolved, Rules, Weight};
use super::backend::{self, Backend, Miss, Opening, Verb};
use super::stdout::print;
use super::target::Target;
use crate::config::ResolveArgs;
use crate::files;
use crate::index::{IndexedStream, Snapshot};
use crate::store::edit;
use crate::store::home::Catalogue as _;
use crate::workload::Kinds;

/// Pin the short names in manifests, and leave the rest as it is
///
/// Prints the manifests with every short name replaced by what the webhook would replace it by now; comments and
/// formatting stay. What stays without a digest is told on standard error. Exits with 1 if a short name was not resolved.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream resolve -f deploy.yaml
  pinstream resolve -f manifests/ --diff
  helm template web ./chart | pinstream resolve -f - -n demo | kubectl apply -f -
  pinstream resolve -f manifests/ --in-place --strict --streams ./streams")]
pub(super) struct Resolve {
    /// Manifests: a file, a directory with all *.yaml, *.yml and *.json below it, or - for standard input. Repeatable
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    filenames: Vec<PathBuf>,

    /// Print what would change, as a unified diff
    #[arg(long)]
    diff: bool,

    /// Write the manifests back to their files; if one of them cannot be read, none is written
    #[arg(short, long, conflicts_with = "diff")]
    in_place: bool,

    /// Exit with 1 too if any image stays without a digest
    #[arg(long)]
    strict: bool,

    #[command(flatten)]
    by: ResolveArgs,

    #[command(flatten)]
    target: Target,
}

impl Resolve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let inputs = input::read(&self.filenames)?;
        let is_stdin = |input: &Input| input.source == Source::Stdin;
        anyhow::ensure!(
            !(self.in_place && inputs.iter().any(is_stdin)),
            "standard input cannot be written to; leave --in-place off, or name a file with -f FILE"
        );
        let target = self.target.clone();
        let kinds = Kinds::with(self.by.kinds.clone());
        backend::run(&target, &Opening::default(), Job { resolve: self, inputs, kinds })
    }
}

/// What was asked for, with what was read.
struct Job {
    resolve: Resolve,
    inputs: Vec<Input>,
    kinds: Kinds,
}

impl Verb for Job {
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()> {
        let snapshot = self.snapshot(backend).await?;
        let rules = Rules { snapshot: &snapshot, kinds: &self.kinds, namespace: &backend.common().namespace };
        let resolve = |input: &Input| input.manifest.resolve(&rules).with_context(|| input.source.to_string());
        let resolved = self.inputs.iter().map(resolve).collect::<anyhow::Result<Vec<_>>>()?;
        let answers: Vec<_> = self.inputs.iter().zip(&resolved).collect();
        if self.resolve.in_place {
            write_back(&answers)?;
        } else if self.resolve.diff {
            print(&answers.iter().map(|(input, resolved)| input.diff(resolved)).collect::<String>())?;
        } else {
            print(&joined(&answers))?;
        }
        self.conclude(&answers)
    }
}

impl Job {
    /// The streams of the namespaces of all objects.
    async fn snapshot<B: Backend>(&self, backend: &B) -> anyhow::Result<Snapshot> {
        let own = backend.common().namespace.as_str();
        let namespaces = self.inputs.iter().flat_map(|input| input.manifest.namespaces(&self.kinds));
        let namespaces: BTreeSet<&str> = namespaces.map(|namespace| namespace.unwrap_or(own)).collect();
        let places = self.resolve.by.places();
        let mut streams = Vec::new();
        for namespace in namespaces {
            let listed = backend.home().list(Some(namespace)).await?;
            streams.extend(listed.iter().map(|stored| Arc::new(IndexedStream::new(&stored.stream, &places))));
        }
        Ok(Snapshot::new(streams))
    }

    /// Tells what stays without a digest, and whether that is an answer of no.
    fn conclude(&self, answers: &[(&Input, &Resolved)]) -> anyhow::Result<()> {
        let is_strict = self.resolve.strict;
        let (mut images, mut unresolved, mut unpinned) = (0, 0, 0);
        for (input, resolved) in answers {
            images += resolved.images;
            for finding in &resolved.findings {
                match finding.weight {
                    Weight::Note => {}
                    Weight::Unpinned if !is_strict => continue,
                    Weight::Unpinned => unpinned += 1,
                    Weight::Unresolved => unresolved += 1,
                }
                eprintln!("{}, {}: {}", input.source, finding.place, finding.message);
            }
        }
        match (unresolved, unpinned) {
            (0, 0) => Ok(()),
            (_, 0) => Err(Miss(format!("{unresolved} of {images} images not resolved")).into()),
            _ => Err(Miss(format!("{} of {images} images without a digest", unresolved + unpinned)).into()),
        }
    }
}

/// All manifests, several as documents of one stream.
fn joined(answers: &[(&Input, &Resolved)]) -> String {
    match answers {
        [(input, resolved)] => edit::apply(&input.manifest.text, &resolved.edits),
        _ => answers.iter().map(|(input, resolved)| input.document(resolved)).collect(),
    }
}

fn write_back(answers: &[(&Input, &Resolved)]) -> anyhow::Result<()> {
    for (input, resolved) in answers.iter().filter(|(_, resolved)| !resolved.edits.is_empty()) {
        let Source::File(path) = &input.source else { continue };
        let text = edit::apply(&input.manifest.text, &resolved.edits);
        // What a link leads to is written, not the link.
        let real = path.canonicalize().with_context(|| format!("{} cannot be written", path.display()))?;
        files::replace(&real, text.as_bytes(), false)?;
        eprintln!("{}: {} of {} images pinned", path.display(), resolved.edits.len(), resolved.images);
    }
    Ok(())
}
