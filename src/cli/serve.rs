//! `pinstream serve`: everything in one process over a directory of streams, for a first try and without a cluster.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use clap::Args;

use super::lifecycle;
use super::process::{Process, Serving};
use super::pulling::Pulling;
use crate::admission::handler;
use crate::config::{
    DirectoryArgs, DirectoryImportArgs, LimitArgs, LocalRegistryArgs, LocalServerArgs, MetricsArgs, PolicyArgs,
    ResolveArgs, Source,
};
use crate::store::kube::{Access, SILENCE_LIMIT};

/// Run the admission webhook over a directory of image streams, without a cluster
///
/// Answers AdmissionReviews at https://ADDRESS/mutate: images that are short names of streams with local look-up are
/// replaced by pull specs with digests. Imports what the tags ask for, with the credentials of Docker's configuration,
/// and writes what it found into the status of the streams in their files.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream serve --streams examples/streams
  pinstream serve --streams DIR --listen 0.0.0.0:8443 --tls-cert tls.crt --tls-key tls.key
  pinstream serve --streams DIR --import-interval 5m --registry-ca registry.example:5000=ca.pem
  pinstream serve --streams DIR --no-import
  pinstream serve --streams DIR --policy warn --policy-namespace production=enforce
  pinstream serve --streams DIR --registry-listen 0.0.0.0:5000 --registry-host registry.example:5000
  pinstream serve --streams DIR --kind argoproj.io/Rollout=/spec/template --log-format json")]
pub(super) struct Serve {
    #[command(flatten)]
    directory: DirectoryArgs,
    #[command(flatten)]
    resolve: ResolveArgs,
    #[command(flatten)]
    import: DirectoryImportArgs,
    #[command(flatten)]
    registry: LocalRegistryArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    server: LocalServerArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

impl Serve {
    /// `for_people`: say on standard output what to do next.
    pub(super) fn run(self, for_people: bool) -> anyhow::Result<()> {
        let directory = self.directory.streams.clone();
        let registry_host = self.resolve.host.registry_host.clone();
        let pulling = match self.registry.registry_listen {
            Some(address) => {
                let (storage, host) = (self.registry.keep.place()?, registry_host.clone());
                Some((address, Pulling { storage, pull: self.registry.pull, host, is_secure: true }))
            }
            None => None,
        };
        let import = (!self.import.no_import).then(|| self.import.import.settings(registry_host));
        let process = Process {
            listen: self.server.listen,
            admin_listen: self.server.admin_listen,
            certificate: self.server.certificate(),
            source: Source::Directory(self.directory.streams),
            access: Access::default(),
            watch_timeout: SILENCE_LIMIT,
            import,
            remote: self.import.registry.settings()?,
            pulling,
            resolve: self.resolve,
            policy: self.policy,
            cluster: None,
            writes: self.import.writes(),
            metrics: self.metrics,
            limits: self.limits,
        };
        lifecycle::run(process.serve(|serving| {
            if for_people {
                // Nobody need read it.
                let greeting = next_steps(serving, &directory);
                let _ = std::io::stdout().write_all(greeting.as_bytes()).and_then(|()| std::io::stdout().flush());
            }
        }))
    }
}

/// The AdmissionReview that is proposed for a first try.
const EXAMPLE: &str = "examples/reviews/deployment.json";

fn next_steps(serving: &Serving, directory: &Path) -> String {
    let Serving { webhook, registry, admin, ca, streams } = serving;
    let mut text = format!(
        "\nPinstream serves the image streams of {} ({streams} now).\n\n  \
         webhook  https://{webhook}{path}\n  \
         {registry}health   http://{admin}/readyz?verbose\n  \
         metrics  http://{admin}/metrics\n",
        directory.display(),
        path = handler::PATH,
        registry = registry.map(|registry| format!("registry https://{registry}/v2/\n  ")).unwrap_or_default(),
    );
    if let (Some(ca), true) = (ca, Path::new(EXAMPLE).exists()) {
        let _ = write!(
            text,
            "\nPaste this into another terminal to see short names turn into digests:\n\n  \
             curl -s --cacert {ca} -H 'Content-Type: application/json' --data @{EXAMPLE} https://{webhook}{path} \\\n    \
             | sed 's/.*\"patch\":\"\\([^\"]*\\)\".*/\\1/' | base64 -d\n",
            ca = ca.display(),
            path = handler::PATH,
        );
    }
    text.push_str("\nCtrl-C stops it.\n\n");
    text
}
