//! `pinstream serve`: everything in one process over a directory of streams. Wires the parts and ends them in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::admission::handler::{self, Webhook};
use crate::config::{ServerArgs, StreamArgs};
use crate::metrics::{self, Metrics};
use crate::server::certificate::{self, Certificate, Files};
use crate::server::health::{self, Gate};
use crate::server::listener::Listener;
use crate::server::{Phase, Phases, development};
use crate::store::Streams;
use crate::store::directory::Directory;
use crate::store::poll::Polled;
use crate::supervisor::Supervisor;
use crate::workload::Kinds;

/// Run the admission webhook over a directory of image streams, without a cluster
///
/// Answers AdmissionReviews at https://ADDRESS/mutate: images that are short names of streams with local look-up are
/// replaced by pull specs with digests.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream serve --streams examples/streams
  pinstream serve --streams DIR --listen 0.0.0.0:8443 --tls-cert tls.crt --tls-key tls.key
  pinstream serve --streams DIR --kind argoproj.io/Rollout=/spec/template --log-format json")]
pub struct Serve {
    #[command(flatten)]
    streams: StreamArgs,
    #[command(flatten)]
    server: ServerArgs,
}

impl Serve {
    /// `for_people`: say on standard output what to do next.
    pub(super) fn run(self, for_people: bool) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
        let result = runtime.block_on(self.serve(for_people));
        runtime.shutdown_background();
        result
    }

    async fn serve(self, for_people: bool) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        let webhook_socket = bind(self.server.listen, "--listen").await?;
        let admin_socket = bind(self.server.admin_listen, "--admin-listen").await?;
        let (webhook_address, admin_address) = (webhook_socket.local_addr()?, admin_socket.local_addr()?);
        let (files, ca) = self.certificate()?;
        let metrics = Arc::new(Metrics::new()?);
        let streams = Arc::new(Streams::default());
        let certificate = Arc::new(Certificate::default());
        let (phase, phases) = watch::channel(Phase::Serving);
        // Health and metrics are served until the webhook has ended.
        let (admin_phase, admin_phases) = watch::channel(Phase::Serving);
        let mut supervisor = Supervisor::default();

        let limits = self.server.limits();
        let gates = gates(&streams, &certificate, phases.clone());
        let admin =
            Listener::plain(admin_socket, health::router(gates).merge(metrics::router(Arc::clone(&metrics))), limits);
        supervisor.spawn("admin listener", async move {
            admin.run(admin_phases).await;
            Ok(())
        });

        let directory = Directory::new(self.streams.streams.clone(), self.streams.registry_host.clone());
        let polled = tokio::select! {
            polled = Polled::load(directory, Arc::clone(&streams), Arc::clone(&metrics)) => polled?,
            _ = signals.next() => return Ok(()),
        };
        supervisor.spawn("streams", async move {
            polled.keep().await;
            Ok(())
        });
        let pair = files.load()?;
        certificate.replace(&pair);
        let keeping = certificate::keep(files, Arc::clone(&certificate), metrics.server.clone());
        supervisor.spawn("certificate", async move { Ok(keeping.await?) });

        let webhook = Webhook {
            streams: Arc::clone(&streams),
            kinds: Kinds::with(self.streams.kinds.clone()),
            metrics: Arc::clone(&metrics),
        };
        let tls = certificate::tls_config(certificate)?;
        let webhook =
            Listener::tls(webhook_socket, tls, handler::router(Arc::new(webhook)), limits, metrics.server.clone());
        supervisor.spawn("webhook listener", async move {
            webhook.run(phases).await;
            Ok(())
        });
        tracing::info!(webhook = %webhook_address, admin = %admin_address, "serving");
        if for_people {
            let snapshot = streams.snapshot();
            print!(
                "{}",
                next_steps(
                    webhook_address,
                    admin_address,
                    ca.as_deref(),
                    snapshot.stream_count(),
                    &self.streams.streams
                )
            );
        }
        self.until_the_end(&mut supervisor, &mut signals, &phase).await?;
        let _ = admin_phase.send(Phase::Draining);
        Ok(())
    }

    /// The certificate to serve, and the CA file of it if it is one of ours.
    fn certificate(&self) -> anyhow::Result<(Files, Option<PathBuf>)> {
        if let Some(files) = self.server.certificate() {
            return Ok((files, None));
        }
        let folder = &self.server.certs_dir;
        let (files, is_new) = development::keep_or_make(folder, Timestamp::now())?;
        if is_new {
            tracing::info!(folder = %folder.display(), "development certificate made");
        }
        Ok((files, Some(folder.join(development::CA_FILE))))
    }

    /// Waits for a signal, then ends: unready, a moment of grace, drain. A task that ends before is an error, and
    /// so is a second signal.
    async fn until_the_end(
        &self,
        supervisor: &mut Supervisor,
        signals: &mut Signals,
        phase: &watch::Sender<Phase>,
    ) -> anyhow::Result<()> {
        let grace = tokio::select! {
            (name, result) = supervisor.ended() => return Err(early(name, result)),
            is_patient = signals.next() => if is_patient { self.server.shutdown_delay } else { std::time::Duration::ZERO },
        };
        let _ = phase.send(Phase::Leaving);
        tracing::info!(grace_seconds = grace.as_secs_f64(), "stopping, not ready any more");
        tokio::select! {
            () = tokio::time::sleep(grace) => {}
            (name, result) = supervisor.ended() => return Err(early(name, result)),
            _ = signals.next() => anyhow::bail!("stopped at once by a second signal"),
        }
        let _ = phase.send(Phase::Draining);
        tokio::select! {
            (name, result) = supervisor.ended() => if name != "webhook listener" {
                return Err(early(name, result));
            },
            _ = signals.next() => anyhow::bail!("stopped at once by a second signal"),
        }
        tracing::info!("stopped, nothing is under way");
        Ok(())
    }
}

fn early(name: &str, result: anyhow::Result<()>) -> anyhow::Error {
    let error = result.err().unwrap_or_else(|| anyhow::anyhow!("it just ended"));
    error.context(format!("the task \"{name}\" ended before its time"))
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("{address} cannot be listened on; choose another address with {flag} (port 0 is any free one)")
    })
}

fn gates(streams: &Arc<Streams>, certificate: &Arc<Certificate>, phases: Phases) -> Vec<Gate> {
    let (streams, certificate) = (Arc::clone(streams), Arc::clone(certificate));
    vec![
        Gate::new("streams", move || (!streams.is_loaded()).then_some("not loaded yet")),
        Gate::new("certificate", move || (!certificate.is_loaded()).then_some("not loaded yet")),
        Gate::new("serving", move || (*phases.borrow() > Phase::Serving).then_some("stopping")),
    ]
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened for");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for the next; `true` if whoever sent it expects the process to take leave first (SIGTERM).
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => false,
        }
    }
}

/// The AdmissionReview that is proposed for a first try.
const EXAMPLE: &str = "examples/reviews/deployment.json";

fn next_steps(webhook: SocketAddr, admin: SocketAddr, ca: Option<&Path>, streams: usize, directory: &Path) -> String {
    let mut text = format!(
        "\nPinstream serves {streams} image streams of {}.\n\n  webhook  https://{webhook}{path}\n  health   http://{admin}/readyz?verbose\n  metrics  http://{admin}/metrics\n",
        directory.display(),
        path = handler::PATH,
    );
    if let (Some(ca), true) = (ca, Path::new(EXAMPLE).exists()) {
        text.push_str(&format!(
            "\nPaste this into another terminal to see short names turn into digests:\n\n  curl -s --cacert {} -H 'Content-Type: application/json' --data @{EXAMPLE} https://{webhook}{} \\\n    | sed 's/.*\"patch\":\"\\([^\"]*\\)\".*/\\1/' | base64 -d\n",
            ca.display(),
            handler::PATH,
        ));
    }
    text.push_str("\nCtrl-C stops it.\n\n");
    text
}
