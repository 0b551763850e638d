//! `pinstream rollback`: a tag set back to an image that it pointed to before.

mod target;

use clap::Args;
use jiff::Timestamp;

use self::target::{Back, To, fixed, found, is_scheduled, moved};
use super::backend::{self, Backend, Miss, Opening, Verb};
use super::imports;
use super::name::TagName;
use super::stdout;
use super::target::{DryRunArgs, Target, WaitArgs};
use crate::store::home::HomeError;
use crate::stream::ImageStream;

/// Set a tag back to an image that it pointed to before
///
/// The image before the current one, unless --to says another. The tag then comes from that image of its history. A tag on
/// a schedule stays on it, and the next import sets it to what the registry has then, unless --hold ends the schedule.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream rollback keycloak:20.0
  pinstream rollback keycloak:20.0 --to 3
  pinstream rollback keycloak:20.0 --to 87fbab --hold")]
pub(super) struct Rollback {
    /// Name of the tag
    #[arg(value_name = "NAME:TAG")]
    name: TagName,

    /// Another image of the history: its number in pinstream history, or its digest or the beginning of that
    #[arg(long, value_name = "N|DIGEST")]
    to: Option<To>,

    /// Stop importing the tag, so that it stays where it is set to
    #[arg(long)]
    hold: bool,

    #[command(flatten)]
    dry_run: DryRunArgs,

    #[command(flatten)]
    wait: WaitArgs,

    #[command(flatten)]
    target: Target,
}

impl Rollback {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let opening = Opening { dry_run: self.dry_run.dry_run, wait: self.wait, ..Opening::default() };
        backend::run(&self.target.clone(), &opening, self)
    }

    /// Where the tag goes back to in the stream as it is.
    fn back(&self, stream: &ImageStream) -> anyhow::Result<Back> {
        Ok(found(stream, &self.name, self.to.as_ref()).map_err(Miss)?)
    }
}

impl Verb for Rollback {
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()> {
        let (key, tag) = (backend.key(&self.name.stream), &self.name.tag);
        let before = backend.expect(&key).await?.stream;
        let back = self.back(&before)?;
        let keeps_schedule = is_scheduled(&before, tag) && !self.hold;
        let event = back.event.clone();
        if keeps_schedule {
            let same = |before: Option<&ImageStream>| before.cloned().ok_or_else(|| backend::no_stream(&key).into());
            let moved = backend.change_with(&key, same, |stream| moved(stream, tag, &event, Timestamp::now())).await;
            moved.map_err(|error| match error.downcast_ref() {
                Some(HomeError::Refused(_)) => {
                    error.context("to stay on its schedule its status is written; or end it with --hold")
                }
                _ => error,
            })?;
        } else {
            let set = |before: Option<&ImageStream>| {
                let stream = before.ok_or_else(|| backend::no_stream(&key))?;
                Ok(fixed(stream, tag, &event.image))
            };
            backend.change(&key, set).await?;
        }
        stdout::line(&format!("{}{}.", back.message(&self.name), backend.common().dry_run.suffix()))?;
        eprintln!("{}", back.outlook(&before, &self.name, keeps_schedule));
        imports::report(&imports::wait(backend, &key, std::slice::from_ref(tag)).await?, &self.name.stream)
    }
}
