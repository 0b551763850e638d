//! Images of every form are pulled through the registry by a real client, and pulled again when their source is gone.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::control_plane::{ControlPlane, Namespace};
use crate::importing::{Importing, Stream, manifest};
use crate::layout::Layout;
use crate::pinstream::Pinstream;
use crate::pulling::{Pulled, Skopeo, registry};
use crate::registry::{Guard, Registry};
use crate::waiting::eventually;

crate::tests![Importing: everything_that_was_pulled_is_pulled_again_without_its_source];

/// What the images are pushed as: tag, arguments for that, and what their manifests must have then.
const FORMS: [(&str, &[&str], &str); 4] = [
    ("docker", &["--all", "--format=v2s2"], "application/vnd.docker.distribution.manifest.list.v2+json"),
    ("image", &[], "application/vnd.oci.image.layer.v1.tar+gzip"),
    ("index", &["--all"], "application/vnd.oci.image.index.v1+json"),
    ("zstd", &["--all", "--dest-compress-format=zstd"], "application/vnd.oci.image.layer.v1.tar+zstd"),
];

/// Pushes the images of the test as each form, and others as tag `never`.
fn push(plane: &ControlPlane, skopeo: &Skopeo, source: &Registry) {
    let layout = |seed: &str| Layout::write(&plane.folder("layout"), seed);
    let (images, others) = (layout("images"), layout("others"));
    let push = |from: &str, tag: &str, arguments: &[&str]| {
        let to = format!("docker://{}/app:{tag}", source.host);
        skopeo.copy(from, &to, &[&["--dest-tls-verify=false"], arguments].concat()).unwrap();
    };
    for (tag, arguments, _) in FORMS {
        let is_index = arguments.contains(&"--all");
        push(&if is_index { images.index() } else { images.image() }, tag, arguments);
    }
    push(&others.image(), "never", &[]);
}

/// Registries of the streams, over one storage, with a certificate of a CA of their own.
struct Site<'s> {
    plane: &'s ControlPlane,
    namespace: &'s Namespace,
    storage: PathBuf,
    certificates: PathBuf,
    trusted: PathBuf,
}

impl<'s> Site<'s> {
    fn new(plane: &'s ControlPlane, namespace: &'s Namespace) -> Self {
        let [storage, certificates, trusted] = ["storage", "certificates", "trusted"].map(|name| plane.folder(name));
        let mut certs = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pinstream"));
        certs.args(["certs", "localhost", "--out"]).arg(&certificates).assert().success();
        fs::copy(certificates.join("ca.crt"), trusted.join("ca.crt")).unwrap();
        Self { plane, namespace, storage, certificates, trusted }
    }

    fn start(&self) -> Pinstream {
        let file = |name: &str| self.certificates.join(name).display().to_string();
        let storage = self.storage.display().to_string();
        let environment = [("PINSTREAM_TLS_CERT", &*file("tls.crt")), ("PINSTREAM_TLS_KEY", &file("tls.key"))];
        registry(self.plane, self.namespace, &["--allow-anonymous", "--storage", &storage], &environment)
    }

    /// Pulls by tag or digest.
    fn pull(&self, server: &Pinstream, version: &str) -> Result<Pulled, String> {
        let image = format!("localhost:{}/{}/app{version}", server.port, self.namespace.name);
        Skopeo::new(self.plane).pull(&image, &["--all", &format!("--src-cert-dir={}", self.trusted.display())])
    }

    fn tags(&self, server: &Pinstream) -> serde_json::Value {
        let repository = format!("localhost:{}/{}/app", server.port, self.namespace.name);
        Skopeo::new(self.plane).tags(&repository, &[&format!("--cert-dir={}", self.trusted.display())]).unwrap()
    }
}

fn everything_that_was_pulled_is_pulled_again_without_its_source(site: &Importing) {
    let (plane, namespace) = (&site.plane, site.plane.namespace());
    let (source, skopeo) = (Registry::start(plane, Guard::Open), Skopeo::new(plane));
    push(plane, &skopeo, &source);
    let tags = ["docker", "image", "index", "never", "zstd"];
    let stream =
        Stream::apply(&namespace, &manifest("app", &tags.map(|tag| source.spec_tag(tag, &format!("app:{tag}")))));
    let digests = eventually("all tags are imported", || {
        tags.map(|tag| stream.history(tag).first().cloned()).into_iter().collect::<Option<Vec<_>>>()
    });
    let versions: Vec<String> = tags
        .iter()
        .zip(&digests)
        .filter(|(tag, _)| **tag != "never")
        .flat_map(|(tag, digest)| [format!(":{tag}"), format!("@{digest}")])
        .collect();

    let expected: Vec<Pulled> = versions
        .iter()
        .map(|version| {
            skopeo.pull(&format!("{}/app{version}", source.host), &["--all", "--src-tls-verify=false"]).unwrap()
        })
        .collect();
    for ((tag, _, part), pulled) in FORMS.iter().zip(expected.iter().step_by(2)) {
        let has = |file: &Vec<u8>| String::from_utf8_lossy(file).contains(part);
        assert!(pulled.iter().any(|(name, file)| name.ends_with("manifest.json") && has(file)), "{tag} has no {part}");
    }
    let registries = Site::new(plane, &namespace);
    let pulls_all = |server: &Pinstream| {
        for (version, expected) in versions.iter().zip(&expected) {
            let pulled = registries.pull(server, version).unwrap_or_else(|error| panic!("{version}: {error}"));
            assert!(pulled == *expected, "{version} is not what the source gave");
        }
        assert_eq!(registries.tags(server), json!(tags));
    };

    let first = registries.start();
    pulls_all(&first);
    source.stop();
    pulls_all(&first);
    let second = registries.start();
    pulls_all(&second);
    assert!(first.terminate().success());
    pulls_all(&registries.start());

    let refused = registries.pull(&second, ":never").unwrap_err();
    assert!(refused.contains("502 Bad Gateway"), "{refused}");
    let log = second.log();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains(&source.host)), "{log}");
}
