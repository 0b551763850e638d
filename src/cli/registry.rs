//! `pinstream registry`: the pull-through registry, on a cluster or over a directory. Any number of replicas.

mod gc;
mod serve;

use clap::{Args, Subcommand};

/// Run the registry that images of streams are pulled through
///
/// Serves HOST/NAMESPACE/STREAM:TAG and HOST/NAMESPACE/STREAM@DIGEST for everything that is in a stream's history, and
/// nothing else. What it lacks it fetches from where the stream says the image came from, checks, and keeps. On a cluster
/// whoever may get imagestreams/layers in the namespace may pull; over a directory everybody may, or those in a password
/// file. Nothing can be pushed.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  pinstream registry --tls-cert tls.crt --tls-key tls.key --storage s3://images/pinstream
  pinstream registry --plain-http --listen 127.0.0.1:5000 --streams ./streams
  pinstream registry --tls-cert tls.crt --tls-key tls.key --streams ./streams --htpasswd htpasswd
  pinstream registry --tls-cert tls.crt --tls-key tls.key --storage-budget 100GiB --anonymous-namespace 'public-*'
  pinstream registry gc --storage /var/lib/pinstream")]
pub(super) struct Registry {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    serve: serve::Serve,
}

#[derive(Debug, Subcommand)]
enum What {
    Gc(Box<gc::Gc>),
}

impl Registry {
    /// It runs until it is told to end.
    pub(super) fn is_server(&self) -> bool {
        self.what.is_none()
    }

    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.what {
            Some(What::Gc(gc)) => gc.run(),
            None => self.serve.run(),
        }
    }
}
