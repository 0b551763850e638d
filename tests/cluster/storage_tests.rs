//! What the pull-through registry keeps in a bucket, on a real server of S3 buckets.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::TryStreamExt as _;
use pinstream::digest::Digest;
use pinstream::metrics::{Metrics, StorageMetrics};
use pinstream::mirror::Part;
use pinstream::mirror::storage::garbage;
use pinstream::mirror::storage::{Grant, Storage, StorageError};
use tokio::runtime::Runtime;

use crate::buckets::{Buckets, KEY, SECRET};
use crate::control_plane::ControlPlane;
use crate::tests;

tests![bucket_keeps_what_is_pulled, bucket_that_cannot_be_used_is_named_without_secrets, bucket_is_cleared_of_garbage];

fn metrics() -> StorageMetrics {
    Metrics::new().unwrap().storage
}

/// So many bytes, of which none are like those before.
fn bytes(count: usize) -> Bytes {
    (0_u32..).flat_map(u32::to_le_bytes).take(count).collect()
}

async fn download(storage: &Storage, bytes: &Bytes) -> Digest {
    let digest = Digest::of(bytes);
    let mut spool = storage.spool(&digest, bytes.len() as u64).await.unwrap();
    for piece in bytes.chunks(1_000_000) {
        spool.write(bytes.slice_ref(piece)).await.unwrap();
    }
    storage.keep(spool.finish().await.unwrap()).await.unwrap();
    digest
}

async fn read(storage: &Storage, digest: &Digest, part: Part) -> Option<Vec<u8>> {
    let blob = storage.read(digest, part).await.unwrap()?;
    let pieces: Vec<Bytes> = blob.body.try_collect().await.unwrap();
    Some(pieces.concat())
}

fn bucket_keeps_what_is_pulled(plane: &ControlPlane) {
    let buckets = Buckets::start(plane);
    Runtime::new().unwrap().block_on(async {
        let (storage, replica) = (buckets.open().await, buckets.open().await);
        // In one request, and in three.
        for size in [0, 1000, 20_000_000] {
            let content = bytes(size);
            let digest = Digest::of(&content);
            assert_eq!(storage.size(&digest).await.unwrap(), None);
            assert_eq!(read(&storage, &digest, Part::Whole).await, None);
            let (one, other) = tokio::join!(download(&storage, &content), download(&replica, &content));
            assert_eq!((one, other), (digest.clone(), digest.clone()));
            assert_eq!(replica.size(&digest).await.unwrap(), Some(size as u64));
            assert!(read(&replica, &digest, Part::Whole).await.unwrap() == content);
            if size > 0 {
                assert!(read(&replica, &digest, Part::From(500)).await.unwrap() == content[500..]);
                assert!(read(&replica, &digest, Part::Between(10, 19)).await.unwrap() == content[10..20]);
                assert!(read(&replica, &digest, Part::Last(7)).await.unwrap() == content[size - 7..]);
                let past = storage.read(&digest, Part::From(size as u64)).await;
                assert!(matches!(past, Err(StorageError::Range { .. })));
            }
        }
        let mut sizes: Vec<_> = storage.list().await.unwrap().into_iter().map(|kept| kept.size).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [0, 1000, 20_000_000]);
        let small = Digest::of(&bytes(1000));
        assert_eq!(replica.bytes(&small, 1000).await.unwrap(), Some(bytes(1000)));
        storage.delete(&small).await.unwrap();
        storage.delete(&small).await.unwrap();
        assert_eq!(replica.bytes(&small, 1000).await.unwrap(), None);
        assert_eq!(fs::read_dir(buckets.folder.join("spool")).unwrap().count(), 0);
    });
}

fn bucket_that_cannot_be_used_is_named_without_secrets(plane: &ControlPlane) {
    let buckets = Buckets::start(plane);
    Runtime::new().unwrap().block_on(async {
        for (url, secret) in [("s3://images/p", "another-secret"), ("s3://no-such-bucket/p", SECRET)] {
            let bucket = buckets.place(url, secret);
            let opened = Storage::open(&bucket, Arc::new(|_: &Digest| false), metrics()).await;
            let error = opened.err().unwrap().to_string();
            assert!(error.contains(url) && !error.contains(secret), "{error}");
        }
    });
}

fn bucket_is_cleared_of_garbage(plane: &ControlPlane) {
    let buckets = Buckets::start(plane);
    let runtime = Runtime::new().unwrap();
    let (needed, other) = (bytes(10), bytes(11));
    let storage = runtime.block_on(async {
        let storage = buckets.open().await;
        for content in [&needed, &other] {
            download(&storage, content).await;
            storage.give(&Digest::of(content), Grant::Public).await.unwrap();
        }
        let found = garbage::find(&storage, vec![Digest::of(&needed)], Duration::from_hours(1)).await.unwrap();
        assert_eq!((found.referred.len(), found.young.len(), found.unreferred.len()), (1, 1, 0));
        storage
    });
    let streams = buckets.folder.join("streams");
    fs::create_dir(&streams).unwrap();
    let stream = serde_json::json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream", "metadata": {"name": "app"},
        "status": {"tags": [{"tag": "1", "items": [{"created": null, "dockerImageReference": "", "generation": 1,
            "image": Digest::of(&needed).as_str()}]}]}});
    fs::write(streams.join("app.json"), stream.to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pinstream"))
        .args(["registry", "gc", "--delete", "--min-age", "0s", "--storage", "s3://images/some/prefix", "--streams"])
        .arg(&streams)
        .args(["--storage-allow-http", "--storage-endpoint", &buckets.endpoint])
        .env_clear()
        .envs([("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.starts_with("deleted 1 with 11 bytes."), "{said}");
    runtime.block_on(async {
        assert_eq!(storage.size(&Digest::of(&needed)).await.unwrap(), Some(10));
        assert_eq!(storage.size(&Digest::of(&other)).await.unwrap(), None);
        for (content, is_given) in [(&needed, true), (&other, false)] {
            assert_eq!(storage.grants(&Digest::of(content)).await.unwrap().reach("demo"), is_given);
        }
    });
}
