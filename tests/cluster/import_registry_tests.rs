//! That images of every kind are imported from real registries of every sort, with the credentials of their namespace.

use serde_json::{Value, json};

use crate::control_plane::Namespace;
use crate::importing::{Importing, Stream, image, manifest};
use crate::registry::{Content, Guard, PASSWORD, Registry, USER};
use crate::waiting::eventually;

crate::tests![Importing:
    images_are_imported_from_an_open_registry,
    images_are_imported_from_a_registry_with_a_private_ca,
    images_are_imported_from_a_registry_with_passwords,
    images_are_imported_from_a_registry_with_tokens,
    a_secret_is_of_use_to_its_own_namespace_only,
    a_registry_whose_ca_is_unknown_is_not_trusted,
];

fn images_are_imported_from_an_open_registry(site: &Importing) {
    import_every_kind(site, Guard::Open);
}

fn images_are_imported_from_a_registry_with_a_private_ca(site: &Importing) {
    import_every_kind(site, Guard::Tls);
}

fn images_are_imported_from_a_registry_with_passwords(site: &Importing) {
    import_every_kind(site, Guard::Password);
}

fn images_are_imported_from_a_registry_with_tokens(site: &Importing) {
    import_every_kind(site, Guard::Token);
}

/// Something that was pushed, and which image of it each import mode is to find.
struct Pushed {
    tag: &'static str,
    whole: String,
    amd64: String,
    arm64: String,
}

fn import_every_kind(site: &Importing, guard: Guard) {
    let (registry, namespace) = (site.registry(guard), site.plane.namespace());
    let repository = site.plane.unique("team/app");
    if matches!(guard, Guard::Password | Guard::Token) {
        add_secret(&namespace, registry, PASSWORD);
    }
    let pushed = push_every_kind(registry, &repository);
    let mut tags = Vec::new();
    for Pushed { tag, .. } in &pushed {
        for mode in ["PreserveOriginal", "Legacy"] {
            let mut written =
                registry.spec_tag(&format!("{tag}-{}", mode.to_lowercase()), &format!("{repository}:{tag}"));
            written["importPolicy"]["importMode"] = mode.into();
            tags.push(written.clone());
            written["name"] = format!("{tag}-{}-arm64", mode.to_lowercase()).into();
            written["annotations"] = json!({"importer.image.openshift.io/prefer-arch": "arm64"});
            tags.push(written);
        }
    }
    let stream = Stream::apply(&namespace, &manifest("app", &tags));
    for Pushed { tag, whole, amd64, arm64 } in &pushed {
        stream.has_history(&format!("{tag}-preserveoriginal"), &[whole]);
        stream.has_history(&format!("{tag}-preserveoriginal-arm64"), &[whole]);
        stream.has_history(&format!("{tag}-legacy"), &[amd64]);
        stream.has_history(&format!("{tag}-legacy-arm64"), &[arm64]);
        let item = &stream.status(&format!("{tag}-legacy"))["items"][0];
        assert_eq!(item["dockerImageReference"], format!("{}/{repository}@{amd64}", registry.host));
        are_known(&namespace, [whole, amd64, arm64]);
    }
    let events = stream.events();
    assert!(events.iter().all(|(reason, _)| reason == "TagMoved"), "{events:?}");
}

/// An image and an index of two, each as OCI has it and as Docker does.
fn push_every_kind(registry: &Registry, repository: &str) -> [Pushed; 4] {
    let single = |tag: &'static str, docker: bool| {
        let whole = registry.push(repository, tag, &Content::Image { seed: tag.to_owned(), docker });
        Pushed { tag, amd64: whole.clone(), arm64: whole.clone(), whole }
    };
    let index = |tag: &'static str, content: Content, docker: bool| {
        let child = |architecture: &str| {
            let seed = format!("{tag}-{architecture}");
            registry.push(repository, &seed, &Content::Image { seed: seed.clone(), docker })
        };
        Pushed { tag, amd64: child("amd64"), arm64: child("arm64"), whole: registry.push(repository, tag, &content) }
    };
    [
        single("oci-image", false),
        single("docker-image", true),
        index("oci-index", Content::index("oci-index"), false),
        index("docker-list", Content::docker_list("docker-list"), true),
    ]
}

/// What importing found out about an image, or an index and its two, is kept.
fn are_known(namespace: &Namespace, [whole, amd64, arm64]: [&String; 3]) {
    let known = |digest: &str| image(namespace, digest).unwrap_or_else(|| panic!("{digest} is not known"));
    let (whole_image, amd64_image) = (known(whole), known(amd64));
    let metadata = &amd64_image["dockerImageMetadata"];
    assert_eq!(metadata["Config"]["Entrypoint"], json!(["/hello"]), "{amd64_image}");
    assert_eq!(metadata["Created"], "2026-01-02T03:04:05Z");
    assert!(metadata["Size"].as_u64().is_some_and(|size| size > 0));
    assert_eq!(amd64_image["dockerImageLayers"].as_array().unwrap().len(), 1);
    if whole == amd64 {
        return;
    }
    let children = whole_image["dockerImageManifests"].as_array().unwrap();
    let children: Vec<&Value> = children.iter().flat_map(|child| [&child["digest"], &child["architecture"]]).collect();
    assert_eq!(children, [&json!(arm64), &json!("arm64"), &json!(amd64), &json!("amd64")]);
    assert_eq!(known(arm64)["dockerImageManifestMediaType"], amd64_image["dockerImageManifestMediaType"]);
}

fn add_secret(namespace: &Namespace, registry: &Registry, password: &str) {
    let words = ["create", "secret", "docker-registry", "pull"];
    let server = format!("--docker-server={}", registry.host);
    let (user, password) = (format!("--docker-username={USER}"), format!("--docker-password={password}"));
    namespace.kubectl(&[&words[..], &[&server, &user, &password]].concat()).ok();
}

fn a_secret_is_of_use_to_its_own_namespace_only(site: &Importing) {
    for guard in [Guard::Password, Guard::Token] {
        let registry = site.registry(guard);
        let [with, without, wrong] = [(); 3].map(|()| site.plane.namespace());
        add_secret(&with, registry, PASSWORD);
        add_secret(&wrong, registry, "guessed");
        let repository = site.plane.unique("private");
        let digest = registry.push(&repository, "1", &Content::image("private"));
        let manifest = manifest("app", &[registry.spec_tag("1", &format!("{repository}:1"))]);
        let stream = Stream::apply(&with, &manifest);
        stream.has_history("1", &[&digest]);
        for namespace in [&without, &wrong] {
            let stream = Stream::apply(namespace, &manifest);
            let condition = stream.fails("1");
            assert_eq!(condition["reason"], "Unauthorized", "{guard:?}: {condition}");
            assert!(condition["message"].as_str().unwrap().contains("pull secret"), "{condition}");
            assert_eq!(stream.history("1"), [""; 0]);
        }
        // Who adds it then need not wait for the next try, nor for what is remembered of the namespace.
        add_secret(&without, registry, PASSWORD);
        let stream = Stream::apply(&without, &manifest);
        eventually("the import is asked for until the Secret is seen", || {
            stream.import_again("1");
            stream.history("1") == [digest.clone()]
        });
    }
}

fn a_registry_whose_ca_is_unknown_is_not_trusted(site: &Importing) {
    let (registry, namespace) = (Registry::start(&site.plane, Guard::Tls), site.plane.namespace());
    let digest = registry.push("app", "1", &Content::image("untrusted"));
    let tag = registry.spec_tag("1", "app:1");
    let mut insecure = tag.clone();
    (insecure["name"], insecure["importPolicy"]["insecure"]) = ("insecure".into(), true.into());
    let stream = Stream::apply(&namespace, &manifest("app", &[tag, insecure]));
    let condition = stream.fails("1");
    assert!(condition["message"].as_str().unwrap().contains("--registry-ca"), "{condition}");
    stream.has_history("insecure", &[&digest]);
}
