//! What importing is over a directory: the counterpart of what a controller does on a cluster. One process works.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::import::{Importer, Remote, Settings};
use crate::metrics::ImportMetrics;
use crate::registry::DockerConfig;
use crate::store::directory::{Directory, DirectoryHome, Feed};
use crate::store::home::Change;

/// The work over one directory.
pub struct Local<R> {
    home: DirectoryHome,
    importer: Importer<DirectoryHome, R>,
    changes: UnboundedReceiver<Change>,
    metrics: ImportMetrics,
}

impl<R: Remote> Local<R> {
    /// The work, and the feed that the directory is to have for it. `logins` are the credentials for registries.
    ///
    /// # Errors
    /// If nothing can be written into the directory.
    pub fn over(
        directory: &Directory,
        remote: Arc<R>,
        logins: Option<DockerConfig>,
        settings: Settings,
        metrics: ImportMetrics,
    ) -> io::Result<(Self, Feed)> {
        let home = DirectoryHome::open(directory.root(), directory.owners(), settings.default_mode, logins)?;
        let (sender, changes) = mpsc::unbounded_channel();
        let importer = Importer::new(Arc::new(home.clone()), remote, settings, metrics.clone());
        let feed = Feed::new(home.clone(), sender);
        Ok((Self { home, importer, changes, metrics }, feed))
    }

    /// Works. Never ends.
    pub async fn keep(self) {
        self.metrics.leader.set(1);
        tokio::select! {
            () = self.importer.run(self.changes) => {}
            () = self.home.keep_clean() => {}
        }
    }
}
