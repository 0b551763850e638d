//! Tests of what is garbage.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::mirror::storage::tests::{Room, blob};
use crate::stream::types::{TagEvent, TagEvents};

fn stream(tags: &[&[&str]]) -> ImageStream {
    let event = |image: &&str| TagEvent { image: (*image).to_owned(), ..TagEvent::default() };
    let events = |items: &&[&str]| TagEvents { items: items.iter().map(event).collect(), ..TagEvents::default() };
    let mut stream = ImageStream::default();
    stream.status.tags = tags.iter().map(events).collect();
    stream
}

#[test]
fn all_of_the_history_counts_newest_first() {
    let [a, b, c] = ["a", "b", "c"].map(|text| Digest::of(text.as_bytes()));
    let old = format!("{b}x");
    let streams = [stream(&[&[a.as_str(), b.as_str()], &["", &old]]), stream(&[&[c.as_str(), a.as_str()]])];
    let mut newest = vec![a, c];
    newest.sort();
    newest.push(b);
    assert_eq!(referred(&streams), newest);
    assert_eq!(referred([]), []);
}

/// Keeps a manifest, and gives its digest.
async fn manifest(room: &Room, manifest: &Value) -> Digest {
    let bytes = manifest.to_string();
    room.keep(bytes.as_bytes()).await
}

fn descriptor(digest: &Digest) -> Value {
    json!({"digest": digest.as_str(), "size": 1, "mediaType": "x"})
}

#[tokio::test]
async fn what_an_index_leads_to_is_referred() {
    let room = Room::new().await;
    let mut expected = Vec::new();
    for text in ["config", "layer", "artifact"] {
        expected.push(room.keep(text.as_bytes()).await);
    }
    let [config, layer, artifact] = [0, 1, 2].map(|at| descriptor(&expected[at]));
    let image = json!({"config": config, "layers": [layer], "blobs": [artifact]});
    let image = manifest(&room, &image).await;
    let index = manifest(&room, &json!({"manifests": [descriptor(&image), descriptor(&blob(9).0)]})).await;
    let other = room.keep(b"another").await;
    expected.extend([image, index.clone()]);
    expected.sort();

    let found = find(&room.storage, vec![index], Duration::ZERO).await.unwrap();
    let mut referred: Vec<_> = found.referred.iter().map(|kept| kept.digest.clone()).collect();
    referred.sort();
    assert_eq!(referred, expected);
    assert_eq!(found.unreferred.iter().map(|kept| (&kept.digest, kept.size)).collect::<Vec<_>>(), [(&other, 7)]);
    assert_eq!(found.young, []);
}

#[rstest]
#[case::no_json("no json")]
#[case::a_list("[]")]
#[case::of_other_types(r#"{"layers": 7, "config": "x"}"#)]
#[case::no_digests(r#"{"layers": [{"digest": "../x"}, {}], "config": null}"#)]
#[tokio::test]
async fn what_is_no_manifest_refers_to_nothing(#[case] text: &str) {
    let room = Room::new().await;
    let image = room.keep(text.as_bytes()).await;
    let found = find(&room.storage, vec![image], Duration::ZERO).await.unwrap();
    assert_eq!((found.referred.len(), found.unreferred.len()), (1, 0));
}

#[tokio::test]
async fn images_that_are_not_kept_are_passed_over() {
    let room = Room::new().await;
    let other = room.keep(b"another").await;
    let found = find(&room.storage, vec![blob(1).0], Duration::from_hours(1)).await.unwrap();
    assert_eq!(found.young.iter().map(|kept| &kept.digest).collect::<Vec<_>>(), [&other]);
    assert_eq!((found.referred, found.unreferred), (vec![], vec![]));
}

#[test]
fn age_decides_what_goes_and_in_which_order() {
    let kept = |number: u8, hours| Kept { digest: blob(number).0, size: 1, age: Duration::from_hours(hours) };
    let referred = HashSet::from([blob(1).0]);
    let all = vec![kept(1, 99), kept(2, 24), kept(3, 23), kept(4, 48)];
    let garbage = Garbage::of(all, &referred, Duration::from_hours(24));
    let expected =
        Garbage { referred: vec![kept(1, 99)], young: vec![kept(3, 23)], unreferred: vec![kept(4, 48), kept(2, 24)] };
    assert_eq!(garbage, expected);
}
