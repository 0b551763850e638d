//! `pinstream get`: streams and tags in lists, or as objects.

mod streams;
mod tags;
mod watch;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::backend::{self, Backend, Miss, Opening, Verb, no_stream};
use super::name::{TagName, stream_name};
use super::output::{self, Format};
use super::selector::Selector;
use super::stdout;
use super::table::Columns;
use super::target::Target;
use crate::store::home::{Catalogue as _, Home as _, Stored};

/// List image streams and tags, or print them as objects
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream get is
  pinstream get istag keycloak:20.0 -o yaml
  pinstream get is -A -l team=web --streams ./streams")]
pub(super) struct Get {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    #[command(visible_aliases = ["imagestream", "imagestreams"])]
    Is(GetStreams),
    #[command(visible_aliases = ["imagestreamtag", "imagestreamtags"])]
    Istag(GetTags),
}

/// List image streams
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream get is
  pinstream get is keycloak -o yaml
  pinstream get is -A -o wide
  pinstream get is -l team=web,!internal -w")]
struct GetStreams {
    /// Names of the streams. Without them all
    #[arg(value_name = "NAME", value_parser = stream_name, conflicts_with_all = ["selector", "all_namespaces"])]
    names: Vec<String>,

    #[command(flatten)]
    how: How,
}

/// List the tags that have an image
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream get istag
  pinstream get istag keycloak:20.0 -o yaml
  pinstream get istag -A -o name")]
struct GetTags {
    /// Names of the tags. Without them all
    #[arg(value_name = "NAME:TAG", conflicts_with_all = ["selector", "all_namespaces"])]
    names: Vec<TagName>,

    #[command(flatten)]
    how: How,
}

/// Which of them, and how they are printed.
#[derive(Args, Clone, Debug)]
struct How {
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,

    /// Only those of streams with these labels: key=value, key!=value, key or !key, separated by commas
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<Selector>,

    /// Those of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// Then go on, and print what changes, until Ctrl-C
    #[arg(short, long)]
    watch: bool,

    #[command(flatten)]
    target: Target,
}

/// One of the things that are listed.
struct Row {
    namespace: String,
    /// With the resource and its group, as other commands take it.
    name: String,
    /// Equal versions have equal content.
    version: String,
    cells: Vec<String>,
    object: Value,
}

/// What was found, and what is told of each name of which nothing was.
#[derive(Default)]
struct Found {
    rows: Vec<Row>,
    missing: Vec<Miss>,
}

/// A kind of thing that can be listed.
trait Listed {
    /// What several of them are called.
    const PLURAL: &str;

    fn how(&self) -> &How;

    fn header(&self) -> Vec<&'static str>;

    /// They were named.
    fn is_named(&self) -> bool;

    /// Exactly one was named.
    fn is_one(&self) -> bool;

    async fn find<B: Backend>(&self, backend: &B) -> anyhow::Result<Found>;
}

impl Get {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let target = match &self.what {
            What::Is(streams) => &streams.how.target,
            What::Istag(tags) => &tags.how.target,
        };
        backend::run(&target.clone(), &Opening::to_read(), self)
    }
}

impl Verb for Get {
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()> {
        match self.what {
            What::Is(streams) => get(&streams, backend).await,
            What::Istag(tags) => get(&tags, backend).await,
        }
    }
}

async fn get<L: Listed, B: Backend>(listed: &L, backend: &B) -> anyhow::Result<()> {
    let how = listed.how();
    let mut found = listed.find(backend).await?;
    let last = found.missing.pop();
    let mut columns = Columns::default();
    let is_read = stdout::print(&match how.output {
        _ if found.rows.is_empty() && listed.is_named() => String::new(),
        Format::Json if !how.watch => output::json(&whole(listed, &found.rows))?,
        Format::Yaml if !how.watch => output::yaml(&whole(listed, &found.rows))?,
        _ => text(listed, &found.rows.iter().collect::<Vec<_>>(), &mut columns)?,
    })?;
    for missing in &found.missing {
        eprintln!("pinstream: {missing}");
    }
    if let Some(missing) = last {
        return Err(missing.into());
    }
    if found.rows.is_empty() {
        let place = if how.all_namespaces {
            "any namespace".to_owned()
        } else {
            format!("namespace {}; -A shows those of all", backend.common().namespace)
        };
        let selected = if how.selector.is_some() { " with these labels" } else { "" };
        eprintln!("there are no {}{selected} in {place}", L::PLURAL);
    }
    if how.watch && is_read { watch::follow(listed, backend, found.rows, columns).await } else { Ok(()) }
}

/// All that was found as one object.
fn whole<L: Listed>(listed: &L, rows: &[Row]) -> Value {
    match rows {
        [one] if listed.is_one() => one.object.clone(),
        rows => output::list(&rows.iter().map(|row| row.object.clone()).collect::<Vec<_>>()),
    }
}

/// One after the other, in a table below its header if that was not printed before.
fn text<L: Listed>(listed: &L, rows: &[&Row], columns: &mut Columns) -> anyhow::Result<String> {
    let how = listed.how();
    match how.output {
        Format::Json => rows.iter().map(|row| output::json(&row.object)).collect(),
        Format::Yaml => rows.iter().map(|row| Ok("---\n".to_owned() + &output::yaml(&row.object)?)).collect(),
        Format::Name => Ok(rows.iter().map(|row| row.name.clone() + "\n").collect()),
        Format::Table | Format::Wide => {
            let namespace = how.all_namespaces.then(|| "NAMESPACE".to_owned());
            let header = namespace.into_iter().chain(listed.header().into_iter().map(str::to_owned)).collect();
            let header = Some(header).filter(|_| columns.is_empty() && !rows.is_empty());
            let lines: Vec<_> = header.into_iter().chain(rows.iter().map(|row| row.line(how))).collect();
            for line in &lines {
                columns.fit(line);
            }
            Ok(lines.iter().map(|line| columns.line(line)).collect())
        }
    }
}

impl Row {
    fn line(&self, how: &How) -> Vec<String> {
        let namespace = how.all_namespaces.then(|| self.namespace.clone());
        namespace.into_iter().chain(self.cells.iter().cloned()).collect()
    }
}

impl How {
    fn is_wide(&self) -> bool {
        self.output == Format::Wide
    }

    /// The streams that are meant by these names, by none all that are selected; and those that are not there.
    async fn streams<B: Backend>(&self, backend: &B, names: &[&str]) -> anyhow::Result<(Vec<Stored>, Vec<Miss>)> {
        let (mut streams, mut missing) = (Vec::new(), Vec::new());
        for name in names {
            let key = backend.key(name);
            match backend.home().read(&key).await? {
                Some(stored) => streams.push(stored),
                None => missing.push(no_stream(&key)),
            }
        }
        if names.is_empty() {
            let namespace = Some(&*backend.common().namespace).filter(|_| !self.all_namespaces);
            streams = backend.home().list(namespace).await?;
            let is_selected = |stored: &Stored| {
                self.selector.as_ref().is_none_or(|labels| labels.matches(&stored.stream.metadata.labels))
            };
            streams.retain(is_selected);
        }
        Ok((streams, missing))
    }
}
