//! Tests of spools: what readers see while they grow, and how they end.

use futures_util::future::poll_immediate;
use std::io::ErrorKind;

use futures_util::future::join_all;
use futures_util::stream::TryStreamExt as _;
use rstest::rstest;
use tempfile::TempDir;

use super::*;

fn spool(content: &[u8]) -> (TempDir, Spool) {
    let folder = TempDir::new().unwrap();
    let spool = Spool::create(&folder.path().join("deep"), &Digest::of(content), content.len() as u64).unwrap();
    (folder, spool)
}

/// All that a reader can have.
async fn all(mut body: BoxStream<'static, io::Result<Bytes>>) -> (Vec<u8>, Option<String>) {
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => bytes.extend(piece),
            Err(error) => return (bytes, Some(error.to_string())),
        }
    }
    (bytes, None)
}

#[tokio::test]
async fn readers_follow_the_download() {
    let (_folder, mut spool) = spool(b"0123456789");
    let mut body = spool.reader().read(0..10);
    let mut next = body.next();
    assert!(poll_immediate(&mut next).await.is_none());
    spool.write(Bytes::from_static(b"01234")).await.unwrap();
    assert_eq!(next.await.unwrap().unwrap(), "0123");
    assert_eq!(spool.given(), 5);
    spool.write(Bytes::from_static(b"56789")).await.unwrap();
    assert_eq!(body.next().await.unwrap().unwrap(), "45678");
    // The last byte waits for the digest.
    let mut next = body.next();
    assert!(poll_immediate(&mut next).await.is_none());
    let late = spool.reader();
    let checked = spool.finish().await.unwrap();
    assert_eq!(checked.size(), 10);
    assert_eq!(next.await.unwrap().unwrap(), "9");
    assert!(body.next().await.is_none());
    for (range, expected) in [(0..10, "0123456789"), (3..5, "34"), (9..10, "9"), (4..4, "")] {
        assert_eq!(all(late.read(range)).await, (expected.into(), None));
    }
}

#[tokio::test]
async fn many_readers_read_the_same() {
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).take(1_000_000).collect();
    let (_folder, mut spool) = spool(&content);
    let readers: Vec<_> = (0..50).map(|at| all(spool.reader().read(at * 1000..1_000_000))).collect();
    let write = async {
        for piece in content.chunks(70_000) {
            spool.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        spool.finish().await.unwrap()
    };
    let (_checked, read) = tokio::join!(write, join_all(readers));
    for (at, (bytes, error)) in read.into_iter().enumerate() {
        assert!(bytes == content[at * 1000..] && error.is_none());
    }
}

#[tokio::test]
async fn wrong_bytes_never_reach_their_end() {
    let (folder, mut spool) = spool(b"0123456789");
    spool.write(Bytes::from_static(b"0123456780")).await.unwrap();
    let reader = spool.reader();
    let mut body = reader.read(0..10);
    assert_eq!(body.next().await.unwrap().unwrap(), "012345678");
    let error = spool.finish().await.err().unwrap();
    assert!(error.to_string().starts_with("what was downloaded as sha256:84d8"), "{error}");
    assert_eq!(all(body).await, (vec![], Some(error.to_string())));
    assert_eq!(all(reader.read(0..1)).await, (vec![], Some(error.to_string())));
    drop(reader);
    assert_eq!(std::fs::read_dir(folder.path().join("deep")).unwrap().count(), 0);
}

#[rstest]
#[case::failed(Some("the registry is gone"))]
#[case::dropped(None)]
#[tokio::test]
async fn readers_of_a_download_that_ends_early_get_an_error(#[case] why: Option<&str>) {
    let (folder, mut spool) = spool(b"0123456789");
    spool.write(Bytes::from_static(b"0123")).await.unwrap();
    spool.flush().await.unwrap();
    let body = spool.reader().read(2..10);
    match why {
        Some(why) => spool.fail(why),
        None => drop(spool),
    }
    assert_eq!(all(body).await.1, Some(why.unwrap_or("the download was given up").to_owned()));
    assert_eq!(std::fs::read_dir(folder.path().join("deep")).unwrap().count(), 0);
}

#[rstest]
#[case::right(b"456789", true)]
#[case::wrong(b"45678x", false)]
#[case::too_short(b"45678", false)]
#[case::too_long(b"4567890", false)]
#[tokio::test]
async fn what_is_stopped_has_a_beginning_that_only_the_right_rest_makes_whole(
    #[case] rest: &'static [u8],
    #[case] is_right: bool,
) {
    let (_folder, mut spool) = spool(b"0123456789");
    spool.write(Bytes::from_static(b"0123")).await.unwrap();
    spool.flush().await.unwrap();
    let (reader, digest) = (spool.reader(), spool.digest().clone());
    assert!(reader.beginning().is_none());
    spool.stop("no room");
    assert_eq!(all(reader.read(2..10)).await, (vec![], Some("no room".to_owned())));
    let beginning = reader.beginning().unwrap();
    assert_eq!(all(reader.read_beginning(1..beginning.length).unwrap()).await, (b"123".to_vec(), None));
    let rest = stream::iter([Ok(Bytes::from_static(&rest[..2])), Ok(Bytes::from_static(&rest[2..]))]).boxed();
    let (came, error) = all(pieces::checked(rest, (&digest, 10), beginning, |_| Box::pin(async {}))).await;
    assert_eq!((came == b"456789", error.is_none()), (is_right, is_right), "{came:?} {error:?}");
    assert!(is_right || came.len() < 6);
}

#[tokio::test]
async fn nothing_that_has_no_room_is_begun() {
    let folder = TempDir::new().unwrap();
    let error = Spool::create(folder.path(), &Digest::of(b""), u64::MAX).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn download_that_is_shorter_than_was_said_is_an_error() {
    let (_folder, mut spool) = spool(b"0123");
    spool.write(Bytes::from_static(b"0123")).await.unwrap();
    let reader = spool.reader();
    let _checked = spool.finish().await.unwrap();
    let error = reader.read(0..5).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}
