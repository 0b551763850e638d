//! A real Prometheus that scrapes what runs beside a control plane, and the API server; and the dashboard's questions to it.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::process::Process;
use crate::user::User;

const DASHBOARD: &str = "charts/pinstream/files/dashboard.json";
const ALERTS: &str = "charts/pinstream/files/alerts.yaml";
/// The label that Prometheus' operator gives to what it scrapes in the namespace of the chart.
const NAMESPACE: &str = "pinstream-system";

/// A running Prometheus. Dropping it ends it.
pub struct Prometheus {
    /// Where it is asked, such as `http://127.0.0.1:9090`.
    pub address: String,
    client: Client,
    _process: Process,
}

/// Prometheus in `PATH`. Without it the test is left out, unless `PINSTREAM_TEST_PROMETHEUS` says that it must not be.
pub fn program() -> Option<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).map(|folder| folder.join("prometheus")).find(|path| path.is_file());
    if found.is_none() {
        let missing = "prometheus is not in PATH (Debian: apt-get install prometheus)";
        assert!(env::var_os("PINSTREAM_TEST_PROMETHEUS").is_none_or(|required| required.is_empty()), "{missing}");
        eprintln!("left out: {missing}");
    }
    found
}

impl Prometheus {
    /// Starts one that scrapes these jobs, each at a port of this machine, and the API server, and evaluates the alerts.
    pub fn start(plane: &ControlPlane, program: &Path, interval: &str, jobs: &[(&str, u16)]) -> Self {
        let folder = plane.folder("prometheus");
        let job = |(name, port): &(&str, u16)| {
            let targets = json!([{"targets": [format!("127.0.0.1:{port}")], "labels": {"namespace": NAMESPACE}}]);
            json!({"job_name": name, "static_configs": targets})
        };
        let jobs: Vec<_> = jobs.iter().map(job).chain([api_server(plane.admin(), &folder)]).collect();
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join(ALERTS);
        let global = json!({"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval});
        let config = json!({"global": global, "rule_files": [rules], "scrape_configs": jobs});
        fs::write(folder.join("prometheus.yml"), config.to_string()).unwrap();
        let start = |[port]: [u16; 1]| {
            let arguments = [
                "--config.file=prometheus.yml".to_owned(),
                "--storage.tsdb.path=data".to_owned(),
                format!("--web.listen-address=127.0.0.1:{port}"),
            ];
            Process::start(program, &arguments, &[], &folder, &folder.join("log"))
        };
        let client = Client::builder().no_proxy().build().unwrap();
        let is_ready = |[port]: [u16; 1]| {
            let answer = client.get(format!("http://127.0.0.1:{port}/-/ready")).send();
            answer.is_ok_and(|answer| answer.status().is_success())
        };
        let (process, [port]) = Process::listening("prometheus", start, is_ready).unwrap();
        Self { address: format!("http://127.0.0.1:{port}"), client, _process: process }
    }

    /// What a query has now: numbers, by their labels as they are put into the legend.
    pub fn values(&self, query: &str, legend: &str) -> BTreeMap<String, f64> {
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/query", self.address), [("query", query)]);
        let answer = self.client.get(url.unwrap()).send().unwrap().text().unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let named = |labels: &Value| {
            let labels = labels.as_object().unwrap().iter();
            labels.fold(legend.to_owned(), |legend, (name, value)| {
                legend.replace(&format!("{{{{{name}}}}}"), value.as_str().unwrap())
            })
        };
        let samples = answer["data"]["result"].as_array().unwrap().iter();
        samples
            .map(|sample| (named(&sample["metric"]), sample["value"][1].as_str().unwrap().parse().unwrap()))
            .collect()
    }

    /// What a panel of the dashboard that shows how something goes on shows now, by legend.
    pub fn panel(&self, title: &str) -> BTreeMap<String, f64> {
        let dashboard = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(DASHBOARD)).unwrap();
        let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
        let mut panels = dashboard["panels"].as_array().unwrap().iter();
        let panel = panels.find(|panel| panel["title"] == title && panel["type"] == "timeseries").unwrap();
        let targets = panel["targets"].as_array().unwrap().iter().flat_map(|target| {
            let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m");
            let query = query.replace("$namespace", NAMESPACE).replace("$job", ".*");
            self.values(&query, target["legendFormat"].as_str().unwrap())
        });
        targets.collect()
    }
}

/// How the API server is scraped by its administrator.
fn api_server(admin: &User, folder: &Path) -> Value {
    let kubeconfig: Value = serde_json::from_slice(&fs::read(admin.kubeconfig()).unwrap()).unwrap();
    let (cluster, user) = (&kubeconfig["clusters"][0]["cluster"], &kubeconfig["users"][0]["user"]);
    let file = |name: &str, data: &Value| {
        fs::write(folder.join(name), STANDARD.decode(data.as_str().unwrap()).unwrap()).unwrap();
        name.to_owned()
    };
    let tls = json!({
        "ca_file": file("ca.crt", &cluster["certificate-authority-data"]),
        "cert_file": file("admin.crt", &user["client-certificate-data"]),
        "key_file": file("admin.key", &user["client-key-data"]),
    });
    let target = cluster["server"].as_str().unwrap().strip_prefix("https://").unwrap();
    json!({"job_name": "apiserver", "scheme": "https", "tls_config": tls, "static_configs": [{"targets": [target]}]})
}
