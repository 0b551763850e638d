//! Tests of the storage over real files, and over an object store in memory.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Mutex as Lock;
use std::time::SystemTime;

use futures_util::future::join_all;
use object_store::memory::InMemory;
use proptest::prelude::*;
use rstest::rstest;
use tempfile::TempDir;

use super::*;
use crate::metrics::Metrics;

/// A directory for a test.
pub(super) struct Room {
    pub(super) storage: Storage,
    pub(super) folder: TempDir,
    place: Place,
    metrics: StorageMetrics,
    needed: Arc<Lock<BTreeSet<Digest>>>,
}

/// Something with its digest. Equal numbers make the same.
pub(super) fn blob(number: u8) -> (Digest, Bytes) {
    let bytes = Bytes::from(vec![number; 10]);
    (Digest::of(&bytes), bytes)
}

impl Room {
    pub(super) async fn new() -> Self {
        Self::with(TempDir::new().unwrap(), |_| ()).await
    }

    async fn with(folder: TempDir, change: impl FnOnce(&mut Place)) -> Self {
        let metrics = Metrics::new().unwrap().storage;
        let needed: Arc<Lock<BTreeSet<Digest>>> = Arc::default();
        let mut place = Place::parse(folder.path().to_str().unwrap(), []).unwrap();
        change(&mut place);
        let known = Arc::clone(&needed);
        let is_needed = move |digest: &Digest| known.lock().unwrap().contains(digest);
        let storage = Storage::open(&place, Arc::new(is_needed), metrics.clone()).await.unwrap();
        Self { storage, folder, place, metrics, needed }
    }

    pub(super) async fn of_size(budget: u64) -> Self {
        Self::with(TempDir::new().unwrap(), |place| place.budget = Some(budget)).await
    }

    pub(super) async fn keep(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.storage.keep_bytes(&digest, Bytes::copy_from_slice(bytes)).await.unwrap();
        digest
    }

    async fn keep_blob(&self, number: u8) -> Result<Digest, StorageError> {
        let (digest, bytes) = blob(number);
        self.storage.keep_bytes(&digest, bytes).await.map(|()| digest)
    }

    /// Something was used last so many seconds ago.
    fn age(&self, digest: &Digest, seconds: u64) {
        let then = SystemTime::now() - Duration::from_secs(seconds);
        fs::File::options().write(true).open(self.file(digest)).unwrap().set_modified(then).unwrap();
    }

    /// Looks at the directory anew, as after a start.
    async fn again(self) -> Self {
        let budget = self.place.budget;
        Self::with(self.folder, |place| place.budget = budget).await
    }

    /// Another process on the same directory.
    async fn replica(&self) -> Storage {
        let metrics = Metrics::new().unwrap().storage;
        Storage::open(&self.place, Arc::new(|_: &Digest| false), metrics).await.unwrap()
    }

    pub(super) fn file(&self, digest: &Digest) -> PathBuf {
        let [algorithm, start, hex] = layout::parts(digest);
        self.folder.path().join(BLOBS).join(algorithm).join(start).join(hex)
    }

    /// Bytes and number of the files that are kept.
    fn files(&self) -> (i64, i64) {
        let mut folders = vec![self.folder.path().join(BLOBS)];
        let mut total = (0, 0);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let metadata = entry.metadata().unwrap();
                if metadata.is_dir() {
                    folders.push(entry.path());
                } else {
                    total = (total.0 + i64::try_from(metadata.len()).unwrap(), total.1 + 1);
                }
            }
        }
        total
    }

    fn accounted(&self) -> (i64, i64) {
        (self.metrics.bytes.get(), self.metrics.objects.get())
    }

    fn spools(&self) -> usize {
        fs::read_dir(self.folder.path().join(SPOOLS)).unwrap().count()
    }

    async fn has(&self, digest: &Digest) -> bool {
        self.storage.size(digest).await.unwrap().is_some()
    }
}

/// A bucket for a test.
pub(super) fn bucket(folder: &TempDir) -> Storage {
    let store = (Arc::new(InMemory::new()) as _, Path::from("some/prefix"));
    Storage::over(
        &Place::parse("s3://memory", []).unwrap(),
        store,
        folder.path().to_owned(),
        None,
        Metrics::new().unwrap().storage,
    )
}

async fn content(blob: Blob) -> io::Result<Vec<u8>> {
    let pieces: Vec<_> = blob.body.try_collect().await?;
    Ok(pieces.concat())
}

/// So many bytes, none like the one before.
fn bytes(count: usize) -> Bytes {
    (0..count).map(|at| u8::try_from((at * 7 + at / 256) % 251).unwrap()).collect()
}

/// Keeps it piece by piece.
async fn download(storage: &Storage, bytes: &Bytes) -> Digest {
    let digest = Digest::of(bytes);
    let mut spool = storage.spool(&digest, bytes.len() as u64).await.unwrap();
    for piece in bytes.chunks(1_000_000) {
        spool.write(bytes.slice_ref(piece)).await.unwrap();
    }
    storage.keep(spool.finish().await.unwrap()).await.unwrap();
    digest
}

#[rstest]
#[case::nothing(0)]
#[case::one_byte(1)]
#[case::a_piece(131_072)]
#[case::a_piece_and_a_byte(131_073)]
#[case::several_uploads(17_000_000)]
#[tokio::test]
async fn what_is_kept_is_read_in_every_part(#[case] size: usize) {
    let (room, folder) = (Room::new().await, TempDir::new().unwrap());
    for storage in [room.storage.clone(), bucket(&folder)] {
        let all = bytes(size);
        let digest = Digest::of(&all);
        assert_eq!(storage.size(&digest).await.unwrap(), None);
        assert!(storage.read(&digest, Part::Whole).await.unwrap().is_none());
        download(&storage, &all).await;
        assert_eq!(storage.size(&digest).await.unwrap(), Some(size as u64));
        // The second time it is known to be right.
        for _ in 0..2 {
            let whole = storage.read(&digest, Part::Whole).await.unwrap().unwrap();
            assert_eq!((whole.size, whole.range.clone()), (size as u64, 0..size as u64));
            assert!(content(whole).await.unwrap() == all);
        }
        let half = size as u64 / 2;
        for part in [Part::From(half), Part::Between(half / 2, half), Part::Between(1, u64::MAX), Part::Last(half + 1)]
        {
            let read = storage.read(&digest, part).await;
            match part.of(size as u64) {
                None => assert!(matches!(read, Err(StorageError::Range { .. })), "{part:?}"),
                Some(range) => {
                    let read = read.unwrap().unwrap();
                    assert_eq!((read.size, read.range.clone()), (size as u64, range.clone()));
                    let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                    assert!(content(read).await.unwrap() == all[range], "{part:?}");
                }
            }
        }
    }
    assert_eq!((room.spools(), fs::read_dir(folder.path()).unwrap().count()), (0, 0));
}

#[tokio::test]
async fn small_content_is_read_at_once_and_has_a_limit() {
    let (room, folder) = (Room::new().await, TempDir::new().unwrap());
    let (digest, bytes) = blob(1);
    for storage in [room.storage.clone(), bucket(&folder)] {
        assert_eq!(storage.bytes(&digest, 10).await.unwrap(), None);
        storage.keep_bytes(&digest, bytes.clone()).await.unwrap();
        assert_eq!(storage.bytes(&digest, 10).await.unwrap(), Some(bytes.clone()));
        let error = storage.bytes(&digest, 9).await.unwrap_err().to_string();
        assert_eq!(error, format!("{digest} has 10 bytes, more than the 9 that it may have"));
        let other = storage.keep_bytes(&digest, Bytes::from_static(b"other")).await.unwrap_err().to_string();
        assert_eq!(other, format!("these 5 bytes are not {digest}"));
        storage.delete(&digest).await.unwrap();
        storage.delete(&digest).await.unwrap();
        assert_eq!(storage.size(&digest).await.unwrap(), None);
    }
}

#[tokio::test]
async fn everything_is_listed_but_what_is_no_digest() {
    let (room, folder) = (Room::new().await, TempDir::new().unwrap());
    let blobs = room.folder.path().join(BLOBS);
    fs::write(blobs.join("README"), "x").unwrap();
    fs::create_dir_all(blobs.join("sha256/zz")).unwrap();
    fs::write(blobs.join("sha256/zz").join(blob(1).0.hex()), "elsewhere").unwrap();
    let bucket = bucket(&folder);
    bucket.inner.store.put(&bucket.blobs().join("sha256").join("ab").join("abc"), "x".into()).await.unwrap();
    for storage in [room.storage.clone(), bucket] {
        let mut expected = Vec::new();
        for number in 1..4 {
            let (digest, bytes) = blob(number);
            storage.keep_bytes(&digest, bytes).await.unwrap();
            expected.push((digest, 10));
        }
        expected.sort();
        let mut listed: Vec<_> =
            storage.list().await.unwrap().into_iter().map(|kept| (kept.digest, kept.size)).collect();
        listed.sort();
        assert_eq!(listed, expected);
    }
    assert_eq!(room.again().await.accounted(), (30, 3));
}

#[tokio::test]
async fn downloads_of_the_same_do_no_harm() {
    let room = Room::new().await;
    let all = bytes(300_000);
    let other = room.replica().await;
    join_all((0..20).map(|number| download(if number % 2 == 0 { &room.storage } else { &other }, &all))).await;
    assert_eq!(room.files(), (300_000, 1));
    assert_eq!((room.accounted(), room.spools()), ((300_000, 1), 0));
}

#[rstest]
#[case::flipped(|bytes: &mut Vec<u8>| bytes[150_000] ^= 1)]
#[case::cut(|bytes: &mut Vec<u8>| bytes.truncate(140_000))]
#[case::empty(Vec::clear)]
#[case::longer(|bytes: &mut Vec<u8>| bytes.push(0))]
#[tokio::test]
async fn what_is_corrupt_is_never_read_to_its_end(#[case] corrupt: fn(&mut Vec<u8>)) {
    let room = Room::new().await;
    let digest = room.keep(&bytes(200_000)).await;
    let mut written = fs::read(room.file(&digest)).unwrap();
    corrupt(&mut written);
    fs::write(room.file(&digest), &written).unwrap();

    let room = room.again().await;
    let mut blob = room.storage.read(&digest, Part::Whole).await.unwrap().unwrap();
    let mut arrived = 0;
    let error = loop {
        match blob.body.next().await.unwrap() {
            Ok(piece) => arrived += piece.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains(digest.as_str()));
    assert!(arrived < written.len().max(1));
    assert!(blob.body.next().await.is_none());
    assert!(!room.has(&digest).await);
    assert_eq!((room.accounted(), room.metrics.corrupt.get()), ((0, 0), 1));
}

#[tokio::test]
async fn corrupt_manifest_is_as_if_it_were_not_there() {
    let room = Room::new().await;
    let digest = room.keep_blob(1).await.unwrap();
    fs::write(room.file(&digest), "0123456789").unwrap();
    assert_eq!(room.storage.bytes(&digest, 100).await.unwrap(), None);
    assert!(!room.has(&digest).await);
    assert_eq!(room.keep_blob(1).await.unwrap(), digest);
    assert!(room.storage.bytes(&digest, 100).await.unwrap().is_some());
}

#[tokio::test]
async fn file_that_is_cut_while_it_is_read_is_an_error() {
    let room = Room::new().await;
    let digest = room.keep(&bytes(1_000_000)).await;
    let mut blob = room.storage.read(&digest, Part::From(1)).await.unwrap().unwrap();
    blob.body.next().await.unwrap().unwrap();
    fs::write(room.file(&digest), "").unwrap();
    assert_eq!(content(blob).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn what_was_used_least_lately_makes_room() {
    let room = Room::of_size(30).await;
    let [a, b, c] =
        [room.keep_blob(1).await.unwrap(), room.keep_blob(2).await.unwrap(), room.keep_blob(3).await.unwrap()];
    room.age(&a, 4000);
    room.age(&b, 3000);
    room.age(&c, 2000);
    let room = room.again().await;
    room.storage.bytes(&a, 10).await.unwrap().unwrap();
    // Its use outlives the process.
    let room = room.again().await;
    let d = room.keep_blob(4).await.unwrap();
    assert!(room.has(&a).await && room.has(&d).await && !room.has(&b).await);
    assert_eq!(room.accounted(), room.files());
    assert!(room.metrics.evictions.get() >= 1);
    assert_eq!(room.metrics.evicted_bytes.get(), room.metrics.evictions.get() * 10);
}

#[tokio::test]
async fn what_another_replica_used_stays() {
    let room = Room::of_size(20).await;
    let [a, b] = [room.keep_blob(1).await.unwrap(), room.keep_blob(2).await.unwrap()];
    room.age(&a, 4000);
    room.age(&b, 3000);
    let room = room.again().await;
    room.age(&a, 0);
    room.keep_blob(3).await.unwrap();
    assert!(room.has(&a).await && !room.has(&b).await);
}

#[tokio::test]
async fn what_tags_need_stays_unless_told_otherwise() {
    let room = Room::of_size(20).await;
    let [a, b] = [room.keep_blob(1).await.unwrap(), room.keep_blob(2).await.unwrap()];
    room.needed.lock().unwrap().insert(a.clone());
    room.age(&a, 4000);
    let c = room.keep_blob(3).await.unwrap();
    assert!(room.has(&a).await && !room.has(&b).await && room.has(&c).await);

    room.needed.lock().unwrap().insert(c.clone());
    let error = room.keep_blob(4).await.unwrap_err();
    assert!(matches!(error, StorageError::Full { budget: 20, .. }), "{error}");
    assert_eq!((room.files(), room.accounted(), room.spools()), ((20, 2), (20, 2), 0));

    let needed = Arc::clone(&room.needed);
    let room = Room::with(room.folder, |place| {
        place.budget = Some(20);
        place.evict_needed = true;
    });
    let room = room.await;
    room.needed.lock().unwrap().extend(needed.lock().unwrap().iter().cloned());
    let d = room.keep_blob(4).await.unwrap();
    assert!(!room.has(&a).await && room.has(&d).await);
}

#[tokio::test]
async fn what_is_larger_than_the_budget_takes_nothing_out() {
    let room = Room::of_size(20).await;
    let a = room.keep_blob(1).await.unwrap();
    let large = Bytes::from(vec![0; 21]);
    let error = room.storage.keep_bytes(&Digest::of(&large), large).await.unwrap_err();
    assert!(matches!(error, StorageError::Full { .. }), "{error}");
    assert!(room.has(&a).await);
}

#[tokio::test]
async fn smaller_budget_is_held_to_from_the_start() {
    let room = Room::of_size(100).await;
    for number in 0..10 {
        room.keep_blob(number).await.unwrap();
    }
    let room = Room::with(room.folder, |place| place.budget = Some(45)).await;
    assert_eq!((room.files(), room.accounted()), ((40, 4), (40, 4)));
}

#[tokio::test]
async fn only_spools_of_the_dead_are_removed() {
    let room = Room::new().await;
    let (digest, bytes) = blob(1);
    let mut living = room.storage.spool(&digest, bytes.len() as u64).await.unwrap();
    living.write(bytes).await.unwrap();
    let folder = room.folder.path().join(SPOOLS);
    let old = SystemTime::now() - Duration::from_hours(1);
    for entry in fs::read_dir(&folder).unwrap() {
        fs::File::options().write(true).open(entry.unwrap().path()).unwrap().set_modified(old).unwrap();
    }
    fs::File::create(folder.join("dead")).unwrap().set_modified(old).unwrap();
    fs::File::create(folder.join("young")).unwrap();
    let again = room.replica().await;
    assert!(!folder.join("dead").exists() && folder.join("young").exists());
    room.storage.keep(living.finish().await.unwrap()).await.unwrap();
    assert_eq!(again.size(&digest).await.unwrap(), Some(10));
}

#[tokio::test]
async fn storage_that_cannot_be_used_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let place = Place::parse(file.to_str().unwrap(), []).unwrap();
    let metrics = Metrics::new().unwrap().storage;
    let error = Storage::open(&place, Arc::new(|_: &Digest| false), metrics.clone()).await.err().unwrap().to_string();
    assert!(error.contains(file.to_str().unwrap()), "{error}");
    let missing = Place::parse(folder.path().join("missing").to_str().unwrap(), []).unwrap();
    let error = Storage::open_to_manage(&missing, metrics).await.err().unwrap().to_string();
    assert!(error.contains("/missing"), "{error}");
    assert!(!folder.path().join("missing").exists());
}

/// One step of a life of a directory.
#[derive(Clone, Debug)]
enum Step {
    Keep(u8),
    Read(u8),
    Delete(u8),
    Corrupt(u8),
    Need(u8),
    Start,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = 0_u8..8;
    let step = prop_oneof![
        6 => number.clone().prop_map(Step::Keep),
        3 => number.clone().prop_map(Step::Read),
        1 => number.clone().prop_map(Step::Delete),
        1 => number.clone().prop_map(Step::Corrupt),
        1 => number.prop_map(Step::Need),
        1 => Just(Step::Start),
    ];
    prop::collection::vec(step, 1..30)
}

async fn live(steps: Vec<Step>) {
    let mut room = Room::of_size(45).await;
    for step in steps {
        match step {
            Step::Keep(number) => drop(room.keep_blob(number).await),
            Step::Read(number) => {
                let (digest, bytes) = blob(number);
                let read = room.storage.bytes(&digest, 100).await.unwrap();
                assert!(read.is_none_or(|read| read == bytes));
            }
            Step::Delete(number) => room.storage.delete(&blob(number).0).await.unwrap(),
            Step::Corrupt(number) => {
                if room.has(&blob(number).0).await {
                    fs::write(room.file(&blob(number).0), "0123456789").unwrap();
                }
            }
            Step::Need(number) => drop(room.needed.lock().unwrap().insert(blob(number).0)),
            Step::Start => room = room.again().await,
        }
        assert_eq!(room.accounted(), room.files());
        assert!(room.files().0 <= 45);
        assert_eq!(room.spools(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_accounted_is_what_is_there(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(live(steps));
    }
}
