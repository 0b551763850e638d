//! Pull secrets and Docker's configuration.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::super::docker::DockerConfig;
use super::super::keyring::Keyring;

/// Of a secret, in both forms that it can have, and of Docker's own file no more is shown to a registry than was written for
/// it: the host has to be that of the entry. Nothing secret is printed, and a secret of a namespace makes no program run.
pub(crate) fn credentials(input: &[u8]) {
    let written: Option<Value> = serde_json::from_slice(input).ok();
    let auths = written.as_ref().map(|written| &written["auths"]);
    let modern = Keyring::from_docker_config_json(input);
    let user = DockerConfig::at(PathBuf::from("config.json")).parse(input);
    // Of what a program may keep nothing can be said here: the file's own entries are the same.
    assert!(modern.is_ok() || user.is_err());
    for (keyring, auths) in [(modern, auths), (Keyring::from_dockercfg(input), written.as_ref())] {
        let (Ok(keyring), Some(auths)) = (keyring, auths) else { continue };
        assert!(!format!("{keyring:?}").contains("helpers: [Keeper"));
        let Some(entries) = auths.as_object() else {
            assert!(keyring.is_empty());
            continue;
        };
        for place in entries.keys() {
            shown(&keyring, entries, host(place));
        }
        shown(&keyring, entries, "quay.io");
    }
}

/// All that a registry is shown was written for it.
fn shown(keyring: &Keyring, entries: &serde_json::Map<String, Value>, registry: &str) {
    for credential in keyring.lookup(registry, "team/app") {
        let decoded = STANDARD.decode(credential.basic()).expect("base64");
        let password = credential.password.expose_secret();
        assert_eq!(decoded, format!("{}:{password}", credential.user).into_bytes());
        let is_its = |(place, entry): (&String, &Value)| {
            let host = host(place).to_ascii_lowercase();
            let fits = host.contains(['*', '?']) || host == registry || is_hub(&host) && is_hub(registry);
            let is_user = entry["username"] == *credential.user || credential.user.is_empty();
            fits && (is_user || entry["auth"].as_str().is_some_and(|auth| !auth.is_empty()))
        };
        assert!(entries.iter().any(is_its), "{registry:?} is shown what is not for it");
    }
}

/// What stands before the path, without a scheme.
fn host(place: &str) -> &str {
    let rest = place.split_once("://").map_or(place, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

fn is_hub(host: &str) -> bool {
    ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&host)
}
