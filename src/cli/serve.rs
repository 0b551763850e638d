//! `pinstream serve`: everything in one process over a directory of streams. Wires the parts and ends them in order.

use std::fmt::Write as _;
use std::io::Write as _;
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
use crate::server::certificate::{self, Certificate, Files, Kept};
use crate::server::health::{self, Gate};
use crate::server::listener::{Limits, Listener};
use crate::server::{Phase, Phases, development};
use crate::store::Streams;
use crate::store::directory::Directory;
use crate::store::poll::Polled;
use crate::supervisor::Supervisor;
use crate::workload::Kinds;

/// Connections to health and metrics at a time, whatever the webhook's cap is.
const ADMIN_CONNECTIONS: usize = 64;
/// The task whose end is the end of the process.
const WEBHOOK_TASK: &str = "webhook listener";

/// Run the admission webhook over a directory of image streams, without a cluster
///
/// Answers AdmissionReviews at https://ADDRESS/mutate: images that are short names of streams with local look-up are
/// replaced by pull specs with digests.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream serve --streams examples/streams
  pinstream serve --streams DIR --listen 0.0.0.0:8443 --tls-cert tls.crt --tls-key tls.key
  pinstream serve --streams DIR --kind argoproj.io/Rollout=/spec/template --log-format json")]
pub(super) struct Serve {
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
        let addresses = Addresses { webhook: webhook_socket.local_addr()?, admin: admin_socket.local_addr()? };
        let (files, ca) = self.certificate()?;
        let shared = Shared::new()?;
        let (phase, phases) = watch::channel(Phase::Serving);
        // Health and metrics are served until the webhook has ended.
        let (_admin_phase, admin_phases) = watch::channel(Phase::Serving);
        let mut supervisor = Supervisor::default();

        let admin = self.admin_listener(admin_socket, &shared, phases.clone());
        supervisor.spawn("admin listener", endless(async move { admin.run(admin_phases).await }));
        let polled = tokio::select! {
            polled = self.load_streams(&shared) => polled?,
            _ = signals.next() => return Ok(()),
        };
        supervisor.spawn("streams", endless(polled.keep()));
        let kept = Kept::load(files, Arc::clone(&shared.certificate), shared.metrics.server.clone()).await?;
        supervisor.spawn("certificate", endless(kept.keep()));
        let webhook = self.webhook_listener(webhook_socket, &shared)?;
        supervisor.spawn(WEBHOOK_TASK, endless(async move { webhook.run(phases).await }));

        tracing::info!(webhook = %addresses.webhook, admin = %addresses.admin, "serving");
        if for_people {
            let streams = shared.streams.snapshot().stream_count();
            let greeting = next_steps(addresses, ca.as_deref(), streams, &self.streams.streams);
            // Nobody need read it.
            let _ = std::io::stdout().write_all(greeting.as_bytes()).and_then(|()| std::io::stdout().flush());
        }
        self.until_the_end(&mut supervisor, &mut signals, &phase).await
    }

    fn admin_listener(&self, socket: TcpListener, shared: &Shared, phases: Phases) -> Listener {
        let (streams, certificate) = (Arc::clone(&shared.streams), Arc::clone(&shared.certificate));
        let gates = vec![
            Gate::new("streams", move || (!streams.is_loaded()).then_some("not loaded yet")),
            Gate::new("certificate", move || (!certificate.is_loaded()).then_some("not loaded yet")),
            Gate::new("serving", move || (*phases.borrow() > Phase::Serving).then_some("stopping")),
        ];
        let router = health::router(gates).merge(metrics::router(Arc::clone(&shared.metrics)));
        Listener::plain(socket, router, Limits { connections: ADMIN_CONNECTIONS, ..self.server.limits() })
    }

    async fn load_streams(&self, shared: &Shared) -> anyhow::Result<Polled> {
        let directory = Directory::new(self.streams.streams.clone(), self.streams.registry_host.clone());
        Polled::load(directory, Arc::clone(&shared.streams), Arc::clone(&shared.metrics)).await
    }

    fn webhook_listener(&self, socket: TcpListener, shared: &Shared) -> anyhow::Result<Listener> {
        let webhook = Webhook {
            streams: Arc::clone(&shared.streams),
            kinds: Kinds::with(self.streams.kinds.clone()),
            metrics: Arc::clone(&shared.metrics),
        };
        let (tls, router) =
            (certificate::tls_config(Arc::clone(&shared.certificate))?, handler::router(Arc::new(webhook)));
        Ok(Listener::tls(socket, tls, router, self.server.limits(), shared.metrics.server.clone()))
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
            (name, result) = supervisor.ended() => if name != WEBHOOK_TASK || result.is_err() {
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

/// What several parts work with.
struct Shared {
    metrics: Arc<Metrics>,
    streams: Arc<Streams>,
    certificate: Arc<Certificate>,
}

impl Shared {
    fn new() -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new()?);
        Ok(Self { metrics, streams: Arc::default(), certificate: Arc::default() })
    }
}

/// Where the process can be reached.
#[derive(Clone, Copy)]
struct Addresses {
    webhook: SocketAddr,
    admin: SocketAddr,
}

/// A task that has nothing to fail with.
async fn endless(task: impl Future<Output = ()>) -> anyhow::Result<()> {
    task.await;
    Ok(())
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

fn next_steps(addresses: Addresses, ca: Option<&Path>, streams: usize, directory: &Path) -> String {
    let Addresses { webhook, admin } = addresses;
    let mut text = format!(
        "\nPinstream serves the image streams of {} ({streams} now).\n\n  \
         webhook  https://{webhook}{path}\n  \
         health   http://{admin}/readyz?verbose\n  \
         metrics  http://{admin}/metrics\n",
        directory.display(),
        path = handler::PATH,
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
