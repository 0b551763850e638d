//! What cert-manager makes of the chart's objects, as far as Pinstream has to do with it: the Secret of a Certificate,
//! and the CA in what asks for it by annotation. cert-manager itself does not run here.

use std::path::Path;
use std::thread::{self, JoinHandle};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::chart::find;
use crate::user::User;
use crate::waiting::eventually;

/// Works once, in the background: on the first Certificate of `namespace` that no other one's CA is. `folder` is where
/// certificates are made.
pub fn issue(namespace: &User, folder: &Path) -> JoinHandle<()> {
    let (user, folder) = (namespace.clone(), folder.to_owned());
    thread::spawn(move || {
        let certificate = eventually("there is a Certificate", || {
            let found = user.kubectl(&["get", "certificates.cert-manager.io", "--output=json"]).ok();
            let found: serde_json::Value = serde_json::from_str(&found).unwrap();
            found["items"].as_array().unwrap().iter().find(|item| item["spec"]["isCA"] != true).cloned()
        });
        let name_list = |field: &str| certificate["spec"][field].as_array().cloned().unwrap_or_default();
        let names = [name_list("dnsNames"), name_list("ipAddresses")].concat();
        let names = names.iter().map(|name| name.as_str().unwrap());
        let mut certs = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pinstream"));
        certs.arg("certs").args(names).arg("--out").arg(&folder).assert().success();
        let file = |name: &str| STANDARD.encode(std::fs::read(folder.join(name)).unwrap());
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": certificate["spec"]["secretName"]},
            "data": {"ca.crt": file("ca.crt"), "tls.crt": file("tls.crt"), "tls.key": file("tls.key")}});
        user.kubectl_with_stdin(&["create", "--filename=-"], &secret.to_string()).ok();
        let metadata = &certificate["metadata"];
        let source = format!("{}/{}", metadata["namespace"].as_str().unwrap(), metadata["name"].as_str().unwrap());
        inject(&user, &source, &file("ca.crt"));
    })
}

/// Writes the CA into the webhooks that want that of the Certificate `source`.
fn inject(user: &User, source: &str, ca: &str) {
    let configuration = eventually("a webhook configuration wants the CA", || {
        let all = find(user, &["mutatingwebhookconfigurations"]).unwrap();
        let wants =
            |item: &&serde_json::Value| item["metadata"]["annotations"]["cert-manager.io/inject-ca-from"] == source;
        all["items"].as_array().unwrap().iter().find(wants).cloned()
    });
    let count = configuration["webhooks"].as_array().unwrap().len();
    let write = |index| json!({"op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": ca});
    let patch = format!("--patch={}", (0..count).map(write).collect::<serde_json::Value>());
    let name = configuration["metadata"]["name"].as_str().unwrap();
    let manager = "--field-manager=cert-manager-cainjector";
    user.kubectl(&["patch", "mutatingwebhookconfiguration", name, "--type=json", manager, &patch]).ok();
}
