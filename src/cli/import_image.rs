//! `pinstream import-image`: tags imported again, or for the first time.

mod plan;

use clap::Args;
use jiff::Timestamp;

use self::plan::{Asked, PlanError, Planned};
use super::backend::{self, Backend, Miss, Verb};
use super::imports::{self, ImportArgs};
use super::name::TagName;
use super::policy::{Mode, Policy};
use super::stdout;
use super::target::{DryRun, Target};
use super::{describe, image_tag};
use crate::controller::agenda::WHOLE_STREAM;
use crate::store::home::Home as _;
use crate::stream::{ImageStream, Key};

/// Import tags of an image stream now
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream import-image keycloak:20.0
  pinstream import-image keycloak:20.0 --from quay.io/keycloak/keycloak:20.0 --confirm
  pinstream import-image keycloak --from quay.io/keycloak/keycloak --all --confirm
  pinstream import-image keycloak --all")]
pub(super) struct ImportImage {
    /// Stream, and tag of it; without a tag latest
    #[arg(value_name = "NAME[:TAG]")]
    name: String,

    /// Image of a registry that a new tag comes from; with --all the repository whose tags become those of the stream
    #[arg(long, value_name = "IMAGE")]
    from: Option<String>,

    /// Make the stream if it is not there, and replace its repository if it has another
    #[arg(long)]
    confirm: bool,

    /// Import all tags that come from a registry, and those of the repository
    #[arg(long)]
    all: bool,

    /// Import the tags again and again from now on
    #[arg(long)]
    scheduled: bool,

    /// Accept plain HTTP and certificates that nobody vouches for, or no longer
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    insecure: Option<bool>,

    /// From where users of the tags pull: source, as imported, or local, the registry that serves the streams
    #[arg(long, value_name = "POLICY", ignore_case = true, hide_possible_values = true)]
    reference_policy: Option<Policy>,

    /// What to make of an index of several platforms: PreserveOriginal keeps it, Legacy picks one platform
    #[arg(long, value_name = "MODE", ignore_case = true, hide_possible_values = true)]
    import_mode: Option<Mode>,

    #[command(flatten)]
    import: ImportArgs,

    #[command(flatten)]
    target: Target,
}

impl ImportImage {
    pub(super) fn run(self) -> anyhow::Result<()> {
        backend::run(&self.target.clone(), &self.import.opening(), self)
    }

    /// What was asked for, and of which stream.
    fn asked(self) -> anyhow::Result<(String, Asked)> {
        let (name, tag) = plan::parse(&self.name).map_err(anyhow::Error::msg)?;
        anyhow::ensure!(
            tag.is_none() || !self.all,
            "{} names one tag, and --all means all; write {name} --all, or leave out --all",
            self.name
        );
        let asked = Asked {
            written: self.name,
            tag,
            from: self.from,
            confirm: self.confirm,
            all: self.all,
            scheduled: self.scheduled,
            insecure: self.insecure,
            reference_policy: self.reference_policy,
            import_mode: self.import_mode,
        };
        Ok((name, asked))
    }
}

/// What cannot be imported is not there, or is said wrongly.
fn error_of(error: PlanError) -> anyhow::Error {
    match error {
        PlanError::NoStream(..) | PlanError::NoTag(..) | PlanError::Nothing(_) => Miss(error.to_string()).into(),
        error => error.into(),
    }
}

impl Verb for ImportImage {
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()> {
        let is_waited_for = self.import.wait.wait;
        let (name, asked) = self.asked()?;
        let (key, common) = (backend.key(&name), backend.common());
        let planned = |before: Option<&ImageStream>| plan::plan(before, &key, &asked).map_err(error_of);
        let before = backend.home().read(&key).await?;
        let Planned { tags, .. } = planned(before.as_ref().map(|stored| &stored.stream))?;
        backend.change(&key, |before| Ok(planned(before)?.stream)).await?;
        let resource = format!("imagestream.{}/{name}", common.group);
        if common.dry_run != DryRun::None {
            stdout::line(&format!("{resource} imported{}", common.dry_run.suffix()))?;
            return Ok(());
        }
        if !is_waited_for {
            stdout::line(&format!("{resource} to be imported"))?;
            return Ok(());
        }
        let failures = imports::wait(backend, &key, &tags).await?;
        let is_whole = !tags.iter().any(|tag| tag == WHOLE_STREAM) || has_repository_tags(backend, &key).await?;
        let errors = if failures.is_empty() && is_whole { "" } else { " with errors" };
        stdout::line(&format!("{resource} imported{errors}"))?;
        show(backend, &key, &tags).await?;
        if !is_whole {
            return Err(Miss(format!("the tags of the repository of {name} could not be listed")).into());
        }
        imports::report(&failures, &name)
    }
}

/// Prints the stream in full, and what is known of the images of these tags.
async fn show<B: Backend>(backend: &B, key: &Key, tags: &[String]) -> anyhow::Result<()> {
    let stream = backend.expect(key).await?.stream;
    stdout::print(&format!("\n{}", describe::stream::text(&stream, Timestamp::now())))?;
    let is_whole = tags.iter().any(|tag| tag == WHOLE_STREAM);
    for tag in stream.spec.tags.iter().filter(|tag| is_whole || tags.contains(&tag.name)) {
        let name = TagName { stream: key.name.to_string(), tag: tag.name.clone() };
        // What has no image has failed, which is told.
        if image_tag::newest(&stream, &name).is_ok() {
            let (text, _) = describe::tag(backend, &stream, &name, &name.to_string()).await?;
            stdout::print(&format!("\n{text}"))?;
        }
    }
    Ok(())
}

async fn has_repository_tags<B: Backend>(backend: &B, key: &Key) -> anyhow::Result<bool> {
    Ok(crate::stream::plan::repository(&backend.expect(key).await?.stream).is_none())
}
