//! How many Pods a second a real control plane creates with more and more clients, until there is no more to be had:
//! without a webhook, with one that answers a constant, and with Pinstream.

use std::fs;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Certificate, Client, Identity};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::constant::Beside;
use crate::control_plane::{ControlPlane, Namespace};
use crate::release::{PINNED, Reach, Release, image_of_pod};
use crate::user::User;
use crate::waiting::eventually;

/// How many clients there are at once, each with a connection of its own and one request at a time.
const CLIENTS: [usize; 5] = [1, 4, 16, 100, 500];
/// How often each sort has its turn, and for how long: each is once the first.
const ROUNDS: usize = 4;
const TURN: Duration = Duration::from_secs(4);
/// What is written.
const IMAGE: &str = "keycloak:20.0";

/// A sort of Pods.
struct Sort<'n> {
    name: &'static str,
    namespace: &'n Namespace,
    expected: &'static str,
    /// Pods a second, of each round.
    rates: Vec<f64>,
    took: Vec<Duration>,
}

/// Prints Pods a second and latencies for each number of clients.
pub fn saturation(plane: &ControlPlane) {
    let release = Release::install(plane, Reach::Service, &json!({"policy": {"enabled": false}}));
    let pinned = release.working_namespace(&json!({}));
    // The API server asks it twice: what becomes of a Pod, and whether it is as the policy wants it.
    let judging = Release::install(plane, Reach::Service, &json!({}));
    let judged = judging.working_namespace(&json!({}));
    let [none, patched] = [(); 2].map(|()| plane.namespace());
    let beside = Beside::start(plane, &release);
    let _webhook = beside.register(&patched, "/patch");
    eventually("the constant is answered", || image_of_pod(&patched, IMAGE) == PINNED);
    let runtime = Runtime::new().unwrap();
    println!("clients  Pods                     Pods/s   of none      p50 (added)         p99 (added)");
    for count in CLIENTS {
        let sort = |name, namespace, expected| Sort { name, namespace, expected, rates: vec![], took: vec![] };
        let mut sorts = [
            sort("no webhook", &none, IMAGE),
            sort("constant patch", &patched, PINNED),
            sort("pinned by Pinstream", &pinned, PINNED),
            sort("pinned and judged", &judged, PINNED),
        ];
        let clients: Vec<Client> = (0..count).map(|_| client_of(plane.admin())).collect();
        runtime.block_on(connect(&clients, plane.admin().server()));
        for round in 0..ROUNDS {
            for place in 0..sorts.len() {
                let sort = &mut sorts[(round + place) % ROUNDS];
                runtime.block_on(sort.turn(&clients, plane.admin().server()));
            }
        }
        let base = sorts[0].figures();
        for sort in &mut sorts {
            let (rate, p50, p99) = sort.figures();
            println!(
                "{count:7}  {:22} {rate:8.0} {:9.2} {p50:9.1} ms (+{:.1}) {p99:9.1} ms (+{:.1})",
                sort.name,
                rate / base.0,
                p50 - base.1,
                p99 - base.2
            );
        }
    }
}

impl Sort<'_> {
    /// All clients create Pods, each the next when it has the last.
    async fn turn(&mut self, clients: &[Client], server: &str) {
        let url = format!("{server}/api/v1/namespaces/{}/pods", self.namespace.name);
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "load-"},
            "spec": {"containers": [{"name": "main", "image": IMAGE}]}});
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for client in clients {
            let (client, url, pod, expected) = (client.clone(), url.clone(), pod.to_string(), self.expected);
            tasks.spawn(async move {
                let mut took = Vec::new();
                while began.elapsed() < TURN {
                    let started = Instant::now();
                    let request = client.post(&url).header("content-type", "application/json").body(pod.clone());
                    let answer: Value = serde_json::from_slice(&request.send().await?.bytes().await?).unwrap();
                    assert_eq!(answer["spec"]["containers"][0]["image"], expected, "{answer}");
                    took.push(started.elapsed());
                }
                Ok::<_, reqwest::Error>(took)
            });
        }
        let took: Vec<Duration> = tasks.join_all().await.into_iter().flat_map(Result::unwrap).collect();
        self.rates.push(f64::from(u32::try_from(took.len()).unwrap()) / began.elapsed().as_secs_f64());
        self.took.extend(took);
    }

    /// Pods a second in the median round, and p50 and p99 in milliseconds.
    fn figures(&mut self) -> (f64, f64, f64) {
        self.rates.sort_unstable_by(f64::total_cmp);
        self.took.sort_unstable();
        let at = |percent: usize| self.took[self.took.len() * percent / 100].as_secs_f64() * 1e3;
        (self.rates[self.rates.len() / 2], at(50), at(99))
    }
}

/// Opens the connection of each client, which nothing that is measured has to wait for then.
async fn connect(clients: &[Client], server: &str) {
    for client in clients {
        client.get(format!("{server}/version")).send().await.unwrap().bytes().await.unwrap();
    }
}

/// A client with a connection of its own, as that user.
fn client_of(user: &User) -> Client {
    let config: Value = serde_json::from_slice(&fs::read(user.kubeconfig()).unwrap()).unwrap();
    let read = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
    let pair = [read(&user["client-key-data"]), read(&user["client-certificate-data"])].concat();
    let ca = Certificate::from_pem(&read(&cluster["certificate-authority-data"])).unwrap();
    let builder = Client::builder().no_proxy().tls_certs_only([ca]).identity(Identity::from_pem(&pair).unwrap());
    builder.pool_max_idle_per_host(1).build().unwrap()
}
