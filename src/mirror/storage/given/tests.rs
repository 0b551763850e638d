//! Tests of what is written of who was given what, over files and over an object store in memory.

use tempfile::TempDir;

use super::super::layout;
use super::*;
use crate::mirror::storage::tests::{Room, bucket};

const TO_ALICE: Grant<'static> = Grant::To { namespace: "alice", repository: "q.io/a" };

async fn reach(storage: &Storage, digest: &Digest) -> [bool; 2] {
    let grants = storage.grants(digest).await.unwrap();
    ["alice", "bob"].map(|namespace| grants.reach(namespace))
}

#[tokio::test]
async fn grants_stay_beside_what_is_kept_and_go_with_it() {
    let (room, folder) = (Room::new().await, TempDir::new().unwrap());
    for storage in [room.storage.clone(), bucket(&folder)] {
        let [one, other] = [b"one", b"two"].map(|text| Digest::of(text));
        storage.keep_bytes(&one, "one".into()).await.unwrap();
        assert_eq!(storage.grants(&one).await.unwrap(), Grants::default());
        for _ in 0..2 {
            storage.give(&one, TO_ALICE).await.unwrap();
        }
        assert_eq!(reach(&storage, &one).await, [true, false]);
        let grants = storage.grants(&one).await.unwrap();
        assert_eq!(["q.io/a", "q.io/b"].map(|repository| grants.are_by(repository)), [true, false]);
        assert_eq!(reach(&storage, &other).await, [false, false]);
        storage.give(&one, Grant::Public).await.unwrap();
        assert_eq!(reach(&storage, &one).await, [true, true]);
        // What is written beside it is not kept content.
        assert_eq!(storage.list().await.unwrap().len(), 1);
        storage.delete(&one).await.unwrap();
        assert_eq!(storage.grants(&one).await.unwrap(), Grants::default());
        storage.delete(&one).await.unwrap();
    }
}

#[tokio::test]
async fn names_are_bounded_whatever_they_are_of() {
    let long = "../".repeat(1000);
    for namespace in ["", "..", "a/b", "public", &long] {
        let grant = Grant::To { namespace, repository: &long };
        assert_eq!(grant.name().len(), 129);
        let mut grants = Grants::default();
        grants.add(&grant.name());
        assert!(grants.reach(namespace) && grants.are_by(&long) && !grants.reach("other"));
    }
    let mut grants = Grants::default();
    grants.add("something else");
    assert_eq!(grants, Grants::default());
}

#[tokio::test]
async fn strays_are_forgotten_and_nothing_else() {
    let (room, folder) = (Room::new().await, TempDir::new().unwrap());
    for storage in [room.storage.clone(), bucket(&folder)] {
        let (kept, gone) = (Digest::of(b"kept"), Digest::of(b"gone"));
        storage.keep_bytes(&kept, "kept".into()).await.unwrap();
        for digest in [&kept, &gone] {
            storage.give(digest, TO_ALICE).await.unwrap();
            storage.give(digest, Grant::Public).await.unwrap();
        }
        assert_eq!(storage.forget_strays().await.unwrap(), 1);
        assert_eq!(storage.forget_strays().await.unwrap(), 0);
        assert_eq!(reach(&storage, &kept).await, [true, true]);
        assert_eq!(reach(&storage, &gone).await, [false, false]);
    }
    let empty = Room::new().await;
    assert_eq!(empty.storage.forget_strays().await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_taken_out_for_room_takes_its_grants_along() {
    let room = Room::of_size(25).await;
    let first = room.keep(&[1; 10]).await;
    room.storage.give(&first, Grant::Public).await.unwrap();
    let folder = layout::parts(&first).iter().fold(room.folder.path().join(GIVEN), |path, part| path.join(part));
    assert!(folder.join(PUBLIC).is_file());
    for number in 2..=3 {
        room.keep(&[number; 10]).await;
    }
    assert_eq!(room.storage.size(&first).await.unwrap(), None);
    assert!(!folder.exists());
}

#[tokio::test]
async fn what_is_corrupt_takes_its_grants_along() {
    let room = Room::new().await;
    let digest = room.keep(b"right").await;
    room.storage.give(&digest, Grant::Public).await.unwrap();
    std::fs::write(room.file(&digest), "wrong").unwrap();
    assert_eq!(room.storage.bytes(&digest, 10).await.unwrap(), None);
    assert_eq!(reach(&room.storage, &digest).await, [false, false]);
}
