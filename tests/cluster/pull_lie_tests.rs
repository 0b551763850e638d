//! That registries which lie, and clients which ask for what cannot be, are refused by the running program, and that
//! nothing of it is kept.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use pinstream::digest::Digest;
use reqwest::blocking::Client;
use serde_json::json;

use crate::control_plane::ControlPlane;
use crate::layered::{Layered, Site, pull};
use crate::waiting::eventually;

crate::tests![what_a_registry_lies_about_is_refused_and_not_kept, paths_that_cannot_be_are_refused];

const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: usize = 300_000;

/// A repository, what it does with the layer of its image, and what is logged of that.
struct Lie(&'static str, fn(&mut TcpStream, &[u8]) -> std::io::Result<()>, &'static str);

const LIES: &[Lie] = &[
    Lie("wrong", |client, layer| send(client, layer.len(), &vec![7; layer.len()]), "what was downloaded as sha256:"),
    Lie("short", |client, _| send(client, 5, b"short"), "has 5 bytes, its manifest says 300000"),
    Lie("long", |client, layer| send(client, layer.len() + 1, layer), "has 300001 bytes, its manifest says 300000"),
    Lie("endless", endless, "sends more for sha256:"),
];

fn send(client: &mut TcpStream, length: usize, body: &[u8]) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n";
    write!(client, "{head}content-length: {length}\r\n\r\n")?;
    client.write_all(body)
}

/// Says no length, and goes on until nobody listens.
fn endless(client: &mut TcpStream, layer: &[u8]) -> std::io::Result<()> {
    write!(client, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
    loop {
        client.write_all(layer)?;
    }
}

/// A registry that has an image in the repository of each lie.
struct Liar {
    layers: Vec<Vec<u8>>,
    manifests: Vec<String>,
}

impl Liar {
    /// Gives the images as a stream names them.
    fn start() -> Vec<Layered> {
        let layer = |lie: usize| (0..LAYER).map(|at| u8::try_from((at + lie) % 251).unwrap()).collect();
        let layers: Vec<Vec<u8>> = (0..LIES.len()).map(layer).collect();
        let part = |bytes: &[u8]| json!({"digest": Digest::of(bytes).as_str(), "size": bytes.len()});
        let manifest = |layer: &Vec<u8>| {
            json!({"schemaVersion": 2, "mediaType": TYPE, "config": part(b"{}"), "layers": [part(layer)]}).to_string()
        };
        let manifests: Vec<String> = layers.iter().map(manifest).collect();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let host = listener.local_addr().unwrap();
        let image = |lie: usize| Layered {
            repository: format!("{host}/{}", LIES[lie].0),
            manifest: Digest::of(manifests[lie].as_bytes()).to_string(),
            layers: vec![Digest::of(&layers[lie])],
        };
        let images = (0..LIES.len()).map(image).collect();
        let liar = Arc::new(Self { layers, manifests });
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let liar = Arc::clone(&liar);
                // Whoever has heard enough goes away.
                thread::spawn(move || liar.answer(client).is_ok());
            }
        });
        images
    }

    fn answer(&self, mut client: TcpStream) -> std::io::Result<()> {
        let lines = BufReader::new(client.try_clone()?).lines();
        let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let path: Vec<_> = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("").split('/').collect();
        let [_, _, repository, kind, _] = path[..] else { return send(&mut client, 2, b"{}") };
        let found = LIES.iter().position(|Lie(name, ..)| *name == repository);
        let lie = found.unwrap_or_else(|| panic!("{repository} is not asked for"));
        match kind {
            "manifests" => send(&mut client, self.manifests[lie].len(), self.manifests[lie].as_bytes()),
            _ => LIES[lie].1(&mut client, &self.layers[lie]),
        }
    }
}

fn what_a_registry_lies_about_is_refused_and_not_kept(plane: &ControlPlane) {
    let images = Liar::start();
    let site = Site::new(plane, &images);
    let server = site.start();
    let (client, base) = (Client::builder().no_proxy().build().unwrap(), format!("http://127.0.0.1:{}", server.port));
    for (Lie(name, _, logged), image) in LIES.iter().zip(&images) {
        let manifest = client.get(format!("{base}/v2/demo/app/manifests/{}", image.manifest)).send().unwrap();
        // The registry calls it a page.
        assert_eq!((manifest.status().as_u16(), &manifest.headers()["content-type"]), (200, &TYPE.parse().unwrap()));
        let layer = &image.layers[0];
        pull(&client, &base, layer).expect_err(name);
        let says = |line: &str| line.contains(logged) && line.contains(layer.hex());
        eventually("it is logged", || server.log().lines().any(says));
        // A layer is no manifest, though the image has it.
        let other = client.get(format!("{base}/v2/demo/app/manifests/{layer}")).send().unwrap();
        assert_eq!(other.status(), 404, "{name}");
    }
    let kept: Vec<_> = site.kept().into_iter().map(|(name, _)| name).collect();
    assert_eq!(kept.len(), images.len());
    assert!(images.iter().all(|image| kept.contains(&image.manifest)), "{kept:?}");
    eventually("no download is left", || site.spools().is_empty());
}

fn paths_that_cannot_be_are_refused(plane: &ControlPlane) {
    let site = Site::new(plane, &[]);
    let server = site.start();
    let (long, digest) = ("a".repeat(10_000), Digest::of(b""));
    let paths = [
        format!("/v2/demo/../app/blobs/{digest}"),
        format!("/v2/demo/%2e%2e/blobs/{digest}"),
        format!("/v2/demo/..%2fapp/blobs/{digest}"),
        "/v2/demo/app/blobs/../../../etc/passwd".to_owned(),
        "/v2/demo/app/manifests/..".to_owned(),
        "/v2/demo/app/blobs/sha256:..".to_owned(),
        "/v2/demo/app/manifests/\u{e4}\u{1f600}".to_owned(),
        "/v2/d\u{e9}mo/app/tags/list".to_owned(),
        "/v2/demo/app/manifests/%00".to_owned(),
        format!("/v2/demo/{long}/tags/list"),
        format!("/v2/demo/app/manifests/{long}"),
        format!("/v2/demo/app/blobs/sha256:{long}"),
    ];
    for path in &paths {
        let mut client = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        // Nobody changes the path on its way.
        write!(client, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(matches!(answer.split(' ').nth(1), Some("400" | "404")), "{path}: {answer}");
        // Other characters are refused before anybody reads the path.
        if path.is_ascii() {
            eventually("it is logged", || server.log().contains(&path[..path.len().min(200)]));
        }
    }
    assert!(server.log().lines().all(|line| line.len() < 1000), "{}", server.log());
    assert_eq!((site.kept().len(), site.spools().len()), (0, 0));
    assert_eq!(server.admin("/livez").0, 200);
}
