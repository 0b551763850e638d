//! A real Prometheus, and its tool for rules and metrics.

use std::env;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{leave_out, repository, until};

/// The alerts, as the chart ships them.
pub const ALERTS: &str = "charts/pinstream/files/alerts.yaml";

/// The program of that name in `PATH`. Without it the test is left out, unless `PINSTREAM_TEST_PROMETHEUS` says that it
/// must not be.
pub fn program(name: &str) -> Option<PathBuf> {
    let required = env::var("PINSTREAM_TEST_PROMETHEUS").unwrap_or_default();
    assert!(["", "required"].contains(&required.as_str()), "PINSTREAM_TEST_PROMETHEUS can only be `required`");
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        let missing = format!("{name} is not in PATH (Debian: apt-get install prometheus)");
        assert!(required.is_empty(), "{missing}");
        leave_out(&missing);
    }
    found
}

/// What a program said, which must have been content.
pub fn content(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    assert!(output.status.success(), "{said}");
    said
}

/// A running Prometheus. Dropping it kills it.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    client: Client,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes this target and evaluates the alerts.
    pub async fn start(program: PathBuf, target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rules = repository().join(ALERTS);
        let configuration = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs: [{{job_name: pinstream, static_configs: [{{targets: ['{target}']}}]}}]\n",
            rules.display()
        );
        fs::write(folder.path().join("prometheus.yml"), configuration).unwrap();
        let log = folder.path().join("log");
        let child = Command::new(program)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let address = || {
            let log = fs::read_to_string(&log).unwrap();
            let line = log.split_inclusive('\n').find(|line| line.contains("Listening on") && line.ends_with('\n'))?;
            line.trim_end().rsplit('=').next()?.trim_matches('"').parse().ok()
        };
        until("Prometheus listens", async || address().is_some()).await;
        let client = Client::builder().no_proxy().build().unwrap();
        let prometheus = Self { child, address: address().unwrap(), client, _folder: folder };
        until("Prometheus is ready", async || prometheus.get("/-/ready", &[]).await.is_ok()).await;
        prometheus
    }

    async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> reqwest::Result<String> {
        let mut url = reqwest::Url::parse(&format!("http://{}{path}", self.address)).unwrap();
        url.query_pairs_mut().extend_pairs(parameters);
        self.client.get(url).send().await?.error_for_status()?.text().await
    }

    /// What its API answers.
    pub async fn api(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let answer = self.get(&format!("/api/v1/{path}"), parameters).await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["status"], "success", "{parameters:?}");
        answer["data"].clone()
    }

    /// The numbers that a query has now.
    pub async fn values(&self, query: &str) -> Vec<f64> {
        let answer = self.api("query", &[("query", query)]).await;
        let numbers = answer["result"].as_array().unwrap().iter();
        numbers.map(|sample| sample["value"][1].as_str().unwrap().parse().unwrap()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
