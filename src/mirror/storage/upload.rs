//! From a spool to a bucket, where it is there only as a whole: after its one request, or the last of its pieces.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use axum::body::Bytes;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt as _, Result};
use tokio::task::spawn_blocking;

use super::pieces;
use super::spool::{Checked, SpoolFile};

/// What is larger is sent in pieces of this size. A bucket takes 10,000 of them.
const PIECE: u64 = 8 * 1024 * 1024;

/// Sends it. What was sent before an error is taken back, as far as that goes.
pub(super) async fn upload(store: &dyn ObjectStore, path: &Path, checked: &Checked) -> Result<()> {
    let Checked { size, file, .. } = checked;
    if *size <= PIECE {
        return store.put(path, piece(file, 0..*size).await?.into()).await.map(|_| ());
    }
    let mut upload = store.put_multipart(path).await?;
    let sent = send(upload.as_mut(), *size, file).await;
    if sent.is_err() {
        // A bucket's own rules remove what this does not.
        let _ = upload.abort().await;
    }
    sent
}

async fn send(upload: &mut dyn MultipartUpload, size: u64, file: &Arc<SpoolFile>) -> Result<()> {
    let mut at = 0;
    while at < size {
        let end = size.min(at + PIECE);
        upload.put_part(piece(file, at..end).await?.into()).await?;
        at = end;
    }
    upload.complete().await.map(|_| ())
}

async fn piece(file: &Arc<SpoolFile>, range: Range<u64>) -> Result<Bytes> {
    let file = Arc::clone(file);
    let read = spawn_blocking(move || pieces::read(&file.file, range)).await.map_err(io::Error::from);
    read.flatten().map_err(|error| Error::Generic { store: "spool", source: error.into() })
}
