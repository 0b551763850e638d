//! The tutorial: every command of `docs/tutorial.md` as it is written, once over a directory and once on a cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::control_plane::ControlPlane;
use crate::pinstream::Pinstream;
use crate::proxy;
use crate::registry::{Content, Guard, Registry};
use crate::release::install_custom_resource;
use crate::webhook::{Webhook, by_url};

crate::tests![tutorial_over_a_directory, tutorial_on_a_cluster];

/// A block of commands, and what they print if the page says so.
struct Step {
    /// `sh`, and whether it is for one of the two only.
    language: String,
    commands: String,
    /// The same for what they print, and that.
    output: Option<(String, String)>,
}

fn steps() -> Vec<Step> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tutorial.md")).unwrap();
    let mut steps: Vec<Step> = Vec::new();
    for block in page.split("\n```").collect::<Vec<_>>()[1..].chunks(2).map(|pair| pair[0]) {
        let (language, text) = block.split_once('\n').unwrap();
        let (language, text) = (language.to_owned(), text.to_owned());
        if language.starts_with("text") {
            steps.last_mut().unwrap().output = Some((language, text));
        } else {
            steps.push(Step { language, commands: text, output: None });
        }
    }
    steps
}

/// Where the commands run.
struct Desk {
    folder: PathBuf,
    environment: Vec<(String, String)>,
    _registry: Registry,
}

impl Desk {
    /// A registry with the images of the tutorial, which is reached as quay.io.
    fn new(plane: &ControlPlane) -> Self {
        let (registry, folder) = (Registry::start(plane, Guard::Tls), plane.folder("tutorial"));
        for tag in ["19.0", "20.0.2", "20.0.3"] {
            registry.push("keycloak/keycloak", tag, &Content::index(tag));
        }
        let proxy = proxy::lead_to(registry.host.rsplit_once(':').unwrap().1.parse().unwrap());
        let programs = [Path::new(env!("CARGO_BIN_EXE_pinstream")).to_owned(), plane.tool("kubectl")];
        let programs: Vec<_> = programs.iter().map(|program| program.parent().unwrap().display().to_string()).collect();
        let environment = [
            ("PATH", format!("{}:{}", programs.join(":"), std::env::var("PATH").unwrap())),
            ("HOME", folder.display().to_string()),
            ("HTTPS_PROXY", format!("http://127.0.0.1:{proxy}")),
            ("NO_PROXY", "127.0.0.1,localhost".to_owned()),
            ("PINSTREAM_REGISTRY_CA", format!("quay.io={}", registry.ca.as_ref().unwrap().display())),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { folder, environment, _registry: registry }
    }

    /// Runs all steps but those of the other place in one shell, and compares what they print with the page.
    fn run(&self, other_place: &str, namespace: &str) {
        let steps: Vec<_> = steps().into_iter().filter(|step| step.language != format!("sh {other_place}")).collect();
        assert!(steps.len() > 5);
        let mut script = "set -eu\n".to_owned();
        for (number, step) in steps.iter().enumerate() {
            script += &["exec >out-", &number.to_string(), "\n", &step.commands, "\n"].concat();
        }
        let output = Command::new("sh")
            .args(["-c", &script])
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for (number, step) in steps.iter().enumerate() {
            let found = fs::read_to_string(self.folder.join(format!("out-{number}"))).unwrap();
            if let Some((_, expected)) = step.output.as_ref().filter(|(of, _)| *of != format!("text {other_place}")) {
                assert_eq!(comparable(&found.replace(namespace, "default")), comparable(expected), "{}", step.commands);
            }
        }
    }
}

/// A text without what differs each time: digests, ages, and how columns are padded.
fn comparable(text: &str) -> Vec<String> {
    let word = |word: &str| match word.split_once("sha256:") {
        Some((before, digest)) => {
            let end = digest.trim_start_matches(|character: char| character.is_ascii_hexdigit() || character == '…');
            format!("{before}sha256:…{end}")
        }
        None => word.to_owned(),
    };
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(word).collect();
        let line = words.join(" ");
        let age = ["Less than a second ago", "About a minute ago"].into_iter().find(|age| line.contains(age));
        let age = age.map(str::to_owned).or_else(|| {
            let at = words.iter().position(|word| word == "ago")?;
            Some(words[at.checked_sub(2)?..=at].join(" "))
        });
        age.map_or_else(|| line.clone(), |age| line.replace(&age, "AGE"))
    };
    text.trim().lines().map(line).collect()
}

fn tutorial_over_a_directory(plane: &ControlPlane) {
    Desk::new(plane).run("cluster", "default");
}

fn tutorial_on_a_cluster(plane: &ControlPlane) {
    // The controller imports the streams of all namespaces.
    let plane = plane.another();
    install_custom_resource(&plane);
    let mut desk = Desk::new(&plane);
    let namespace = plane.namespace();
    let admin = plane.admin().kubeconfig().display().to_string();
    let environment: Vec<_> = desk.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let _controller = Pinstream::start(&plane, &["controller", "--kubeconfig", &admin], &environment);
    let certificates = plane.folder("certificates");
    let mut certs = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pinstream"));
    certs.args(["certs", "localhost", "--out"]).arg(&certificates).assert().success();
    let file = |name: &str| certificates.join(name).display().to_string();
    let environment = [
        ("PINSTREAM_KUBECONFIG", admin.as_str()),
        ("PINSTREAM_TLS_CERT", &file("tls.crt")),
        ("PINSTREAM_TLS_KEY", &file("tls.key")),
    ];
    let server = Pinstream::start(&plane, &["webhook"], &environment);
    let _webhook = Webhook::register(&plane, &namespace, by_url(server.port, "/mutate"), &certificates.join("ca.crt"));
    desk.environment.push(("KUBECONFIG".to_owned(), namespace.kubeconfig().display().to_string()));
    desk.run("directory", &namespace.name);
}
