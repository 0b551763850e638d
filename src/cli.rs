//! The command line: one file a verb. Parses, calls, prints; decides nothing itself.

mod age;
mod audit;
mod backend;
mod certificate;
mod certs;
mod completion;
mod controller;
mod crd;
mod create;
mod delete;
mod describe;
mod edit;
mod explain;
mod get;
mod history;
mod image_tag;
mod import_image;
mod imports;
mod lifecycle;
mod man;
mod name;
mod output;
mod policy;
mod process;
mod program;
mod pulling;
mod registry;
pub(crate) mod resolve;
mod resource;
mod rollback;
mod selector;
mod serve;
mod set;
mod stdout;
mod table;
mod tag;
mod target;
mod version;
mod webhook;
mod why;

pub use backend::Miss;
use clap::{Parser, Subcommand};

use crate::config::{LogArgs, LogFormat};

/// Image streams for any Kubernetes: short names in, pinned digests out.
#[derive(Debug, Parser)]
#[command(name = "pinstream", version, about, arg_required_else_help = true, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    logging: LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    Webhook(Box<webhook::Webhook>),
    Controller(Box<controller::Controller>),
    Registry(Box<registry::Registry>),
    Certs(certs::Certs),
    Crd(crd::Crd),
    Create(create::Create),
    Tag(Box<tag::Tag>),
    ImportImage(Box<import_image::ImportImage>),
    Delete(delete::Delete),
    Set(set::Set),
    Rollback(rollback::Rollback),
    Get(get::Get),
    Describe(describe::Describe),
    History(history::History),
    Resolve(Box<resolve::Resolve>),
    Explain(Box<explain::Explain>),
    Audit(Box<audit::Audit>),
    Completion(completion::Completion),
    Man(man::Man),
    Version(version::Version),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever stopped it, with what to do about it where that is known.
    pub fn run(self) -> anyhow::Result<()> {
        let is_server = match &self.command {
            Command::Serve(_) | Command::Webhook(_) | Command::Controller(_) => true,
            Command::Registry(registry) => registry.is_server(),
            _ => false,
        };
        crate::logging::start(&self.logging, if is_server { "info" } else { "warn" })?;
        if is_server {
            crate::server::descriptors::raise_limit();
        }
        match self.command {
            Command::Serve(serve) => serve.run(self.logging.log_format == LogFormat::Text),
            Command::Webhook(webhook) => webhook.run(),
            Command::Controller(controller) => controller.run(),
            Command::Registry(registry) => registry.run(),
            Command::Certs(certs) => certs.run(),
            Command::Crd(crd) => crd.run(),
            Command::Create(create) => create.run(),
            Command::Tag(tag) => tag.run(),
            Command::ImportImage(import) => import.run(),
            Command::Delete(delete) => delete.run(),
            Command::Set(set) => set.run(),
            Command::Rollback(rollback) => rollback.run(),
            Command::Get(get) => get.run(),
            Command::Describe(describe) => describe.run(),
            Command::History(history) => history.run(),
            Command::Resolve(resolve) => resolve.run(),
            Command::Explain(explain) => explain.run(),
            Command::Audit(audit) => audit.run(),
            Command::Completion(completion) => completion.run(),
            Command::Man(man) => man.run(),
            Command::Version(version) => version.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
