//! How long a decision takes over 10,000 streams of 10 tags: alone, and from the bytes of a review to its answer;
//! and what one change to a stream costs.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pinstream::admission::decide::{Part, Question, Write, decide};
use pinstream::admission::review;
use pinstream::index::{IndexedStream, Snapshot};
use pinstream::stream::places::Places;
use pinstream::workload::{Kinds, Workload};
use serde_json::{Value, json};

const STREAMS: usize = 10_000;
const TAGS: usize = 10;
const REVIEW_BYTES: usize = 3 << 10;

/// Streams spread over 100 namespaces.
fn snapshot() -> Snapshot {
    let stream = |number: usize| {
        let tags: Vec<Value> = (0..TAGS)
            .map(|tag| {
                let digest = format!("sha256:{:064x}", number * TAGS + tag);
                let image = format!("registry.example.com/team-{}/application-{number}@{digest}", number % 100);
                json!({"tag": format!("{tag}.0"), "items": [{"dockerImageReference": image, "image": digest, "generation": 1}]})
            })
            .collect();
        let stream = serde_json::from_value(json!({
            "metadata": {"name": format!("application-{number}"), "namespace": format!("team-{}", number % 100)},
            "spec": {"lookupPolicy": {"local": true}}, "status": {"tags": tags}}));
        Arc::new(IndexedStream::new(&stream.expect("a stream"), &Places::default()))
    };
    Snapshot::new((0..STREAMS).map(stream))
}

/// A Pod of team 42 with three short names.
fn pod() -> Value {
    let container = |name: &str, stream: usize| {
        json!({"name": name, "image": format!("application-{stream}:3.0"), "resources": {"limits": {"memory": "256Mi"}},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent",
            "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}],
            "volumeMounts": [{"name": "kube-api-access", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]})
    };
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-7d4b9c6f5-", "namespace": "team-42",
            "labels": {"app": "web"}, "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d4b9c6f5",
                "uid": "5c1a5e0e-7c1b-4b53-8e0a-5f1f6d1c2b3a", "controller": true, "blockOwnerDeletion": true}]},
        "spec": {"initContainers": [container("init", 142)], "containers": [container("web", 42), container("sidecar", 9942)],
            "restartPolicy": "Always", "serviceAccountName": "default",
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]}})
}

/// A review of the Pod, padded to its size with an annotation.
fn pod_review() -> String {
    let mut review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "namespace": "team-42", "operation": "CREATE",
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"}, "object": pod(),
        "oldObject": null, "dryRun": false, "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}}});
    let padding = REVIEW_BYTES.saturating_sub(review.to_string().len() + 40);
    review["request"]["object"]["metadata"]["annotations"] = json!({"example.com/note": "x".repeat(padding)});
    review.to_string()
}

fn decisions(criterion: &mut Criterion) {
    let (snapshot, kinds, pod, body) = (snapshot(), Kinds::default(), pod(), pod_review());
    let kind = kinds.find("", "Pod").expect("a Pod is a kind");
    let object = Workload::read(kind, &pod).expect("the Pod can be read");
    let question = Question { write: Write::Create, part: Part::Whole, namespace: "team-42", kind, object: &object };
    assert_eq!(decide(&question, &snapshot).rewrites().count(), 3);

    let mut group = criterion.benchmark_group("pod_with_3_slots");
    group.bench_function("decide", |bencher| bencher.iter(|| decide(black_box(&question), black_box(&snapshot))));
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function(format!("review_of_{}_bytes", body.len()), |bencher| {
        bencher.iter(|| review::answer(black_box(body.as_bytes()), black_box(&snapshot), &kinds, |_, _| ()));
    });
    group.finish();
}

/// What a store does for one changed stream: put it in, and publish the whole.
fn changes(criterion: &mut Criterion) {
    let mut snapshot = snapshot();
    let stream =
        json!({"metadata": {"name": "application-42", "namespace": "team-42"}, "spec": {"tags": [{"name": "x"}]}});
    let stream = Arc::new(IndexedStream::new(&serde_json::from_value(stream).expect("a stream"), &Places::default()));
    let mut published = snapshot.clone();
    criterion.bench_function("publish_one_change", |bencher| {
        bencher.iter(|| {
            snapshot.insert(Arc::clone(&stream));
            published = black_box(snapshot.clone());
        });
    });
    assert_eq!(published.stream_count(), STREAMS);
}

criterion_group!(benches, decisions, changes);
criterion_main!(benches);
