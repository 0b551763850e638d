//! Clients that open connections in masses, and mean no review by it.

use std::collections::VecDeque;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use reqwest::Client;
use serde_json::Value;

use crate::support::{Load, Server, image, patch_of, pod_review, stream, until};

/// Connections that the servers here take.
const PLACES: usize = 100;
/// Connections that a flood has at least.
const FLOOD: usize = 3000;
/// Those that a flooding thread leaves open.
const LEFT_OPEN: usize = 60;
/// What a flood may add to the memory of a server, in bytes.
const MEMORY: f64 = 64e6;

fn with_app(arguments: &[&str]) -> Server {
    let places = PLACES.to_string();
    Server::start(&[&["--max-connections", &places], arguments].concat(), |folder| {
        let stream = stream("app", &[("1", &image('a'))]);
        fs::write(folder.join("streams/app.json"), stream.to_string()).unwrap();
    })
}

async fn is_answered(server: &Server, client: &Client) -> bool {
    let answer = client.post(server.url()).json(&pod_review(&["app:1"])).send().await;
    let Ok(answer) = answer else { return false };
    let answer: Value = answer.json().await.unwrap();
    patch_of(&answer["response"])[0]["value"] == image('a')
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_say_nothing_make_room_for_those_who_ask() {
    let server = with_app(&["--handshake-timeout", "1h", "--idle-timeout", "1h"]);
    let silent = || (0..PLACES).map(|_| TcpStream::connect(server.webhook).unwrap()).collect::<Vec<_>>();
    let first = silent();
    let known = server.client(&[], |client| client);
    until("who asks is let in", async || is_answered(&server, &known).await).await;
    // Some have come as far as the end of their handshake.
    let second: Vec<_> = (0..PLACES / 2)
        .map(|_| {
            let mut stream = server.raw(|_| ());
            // One that is refused is as good here.
            while stream.conn.is_handshaking() && stream.conn.complete_io(&mut stream.sock).is_ok() {}
            stream
        })
        .collect();
    let third = silent();
    let late = server.client(&[], reqwest::ClientBuilder::http1_only);
    until("one more is let in", async || is_answered(&server, &late).await).await;
    assert!(is_answered(&server, &known).await, "who has asked before keeps the connection");
    assert!(server.metric("pinstream_connections_refused_total").await >= 2.0);
    let said = fs::read_to_string(server.path("stderr")).unwrap();
    assert!(said.contains("connections closed, there are too many"), "{said}");
    drop((first, second, third));
}

/// What a client says first.
fn hello(server: &Server) -> Vec<u8> {
    let mut bytes = Vec::new();
    server.raw(|_| ()).conn.write_tls(&mut bytes).unwrap();
    bytes
}

/// Connections of every kind, one after the other, until it is told to stop.
fn flood(address: SocketAddr, hello: &[u8], stop: &AtomicBool, count: &AtomicUsize) {
    let mut open = VecDeque::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        // The server may close it at any moment.
        let _ = match number % 4 {
            0 => stream.write_all(&hello[..hello.len() / 2]),
            1 => stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            2 => stream.write_all(hello),
            _ => stream.write_all(hello).and_then(|()| stream.read(&mut [0; 5]).map(|_| ())),
        };
        count.fetch_add(1, Ordering::Relaxed);
        open.push_back(stream);
        if open.len() > LEFT_OPEN {
            open.pop_front();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_are_answered_while_handshakes_flood() {
    let server = with_app(&["--handshake-timeout", "2s"]);
    let known = server.client(&[], |client| client);
    let others = vec![Box::new(move || known.clone()) as Box<dyn Fn() -> Client + Send>];
    let check = |response: &Value| response["patch"].is_null().then(|| response.to_string());
    let load = Load::start(&server.url(), others, usize::MAX, &pod_review(&["app:1"]), check);
    load.more(10).await;
    let before = server.metric("process_resident_memory_bytes").await;

    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let hello = hello(&server);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (address, hello, stop, count) = (server.webhook, hello.clone(), stop.clone(), count.clone());
            thread::spawn(move || flood(address, &hello, &stop, &count))
        })
        .collect();
    until("the flood is there", async || count.load(Ordering::Relaxed) >= FLOOD).await;
    load.more(100).await;
    until("one who comes anew is answered too", async || {
        is_answered(&server, &server.client(&[], |client| client)).await
    })
    .await;
    let after = server.metric("process_resident_memory_bytes").await;
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }

    let (_, failures) = load.stop().await;
    assert!(failures.is_empty(), "{failures:?}");
    assert!(after < before + MEMORY, "{before} bytes before, {after} in the flood");
    assert!(server.metric("pinstream_tls_handshake_failures_total").await > 0.0);
    let said = fs::read_to_string(server.path("stderr")).unwrap();
    assert!(said.lines().count() < 50, "{said}");
}
