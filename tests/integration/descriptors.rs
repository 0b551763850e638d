//! What happens when the program may not open as many files as it would like to.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, prlimit, setrlimit};
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;

use crate::support::{Server, image, patch_of, pod_review, stream, until};

/// How many descriptors are left when they are made few.
const FEW: u64 = 8;
/// Connections that nothing is asked on.
const THOUSANDS: u16 = 5000;
/// Connections on which something was asked once.
const IDLE: u16 = 2000;
/// What one of them costs a server at most, in bytes.
const MEMORY: f64 = 64e3;
/// Connections that nothing is asked on, where few are too many.
const MANY: u8 = 64;

/// Puts the stream in its place at once.
fn write(folder: &Path, digit: char) {
    let stream = stream("app", &[("1", &image(digit))]).to_string();
    fs::write(folder.join("new.json"), stream).unwrap();
    fs::rename(folder.join("new.json"), folder.join("streams/app.json")).unwrap();
}

#[tokio::test]
async fn the_low_limit_of_a_shell_is_raised() {
    let by = ["sh", "-c", r#"ulimit -Sn 64; exec "$@""#, "sh"];
    let server = Server::start_by(&by, &[], |folder| write(folder, 'a'));
    let _idle: Vec<_> = (0..2 * MANY).map(|_| TcpStream::connect(server.webhook).unwrap()).collect();
    until("all of them are connected", async || server.metric("pinstream_connections").await == f64::from(2 * MANY))
        .await;
}

/// Both sides of each connection are open files, of this process and of the server, which inherits the limit.
fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// A connection on which a review was answered, and nothing is asked since.
fn idle(server: &Server, review: &Value) -> StreamOwned<ClientConnection, TcpStream> {
    let (mut stream, review) = (server.raw(|_| ()), review.to_string());
    let head = "POST /mutate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length:";
    write!(stream, "{head} {}\r\n\r\n{review}", review.len()).unwrap();
    let (mut answer, mut buffer) = (String::new(), [0; 4096]);
    let is_whole = |answer: &str| {
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        serde_json::from_str(body).is_ok_and(|body: Value| patch_of(&body["response"])[0]["value"] == image('a'))
    };
    while !is_whole(&answer) {
        let read = stream.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "{answer}");
        answer += str::from_utf8(&buffer[..read]).unwrap();
    }
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_that_are_idle_after_a_review_hold_up_nobody_while_there_is_a_place() {
    raise_limit();
    let places = (IDLE + 1).to_string();
    let server = Server::start(&["--max-connections", &places, "--idle-timeout", "1h"], |folder| write(folder, 'a'));
    let review = pod_review(&["app:1"]);
    let known = server.client(&[], |client| client);
    server.ask(&known, &review).await;
    let memory = async || server.metric("process_resident_memory_bytes").await;
    let before = memory().await;
    let mut idle: Vec<_> = (0..IDLE).map(|_| idle(&server, &review)).collect();
    let each = (memory().await - before) / f64::from(IDLE);
    eprintln!("a connection that is idle costs {each} bytes");
    assert!(each < MEMORY, "{each} bytes");

    // All places are taken.
    let late = server.client(&[], |client| client);
    late.post(server.url()).json(&review).send().await.unwrap_err();
    assert!(server.metric("pinstream_connections_refused_total").await >= 1.0);
    server.ask(&known, &review).await;
    idle.pop();
    until("who is gone has left a place", async || server.metric("pinstream_connections").await == f64::from(IDLE))
        .await;
    server.ask(&late, &review).await;
}

#[tokio::test]
async fn thousands_that_say_nothing_are_in_nobodys_way() {
    raise_limit();
    let server =
        Server::start(&["--max-connections", "6000", "--handshake-timeout", "1h"], |folder| write(folder, 'a'));
    let idle: Vec<_> = (0..THOUSANDS).map(|_| TcpStream::connect(server.webhook).unwrap()).collect();
    let open = async || server.metric("pinstream_connections").await;
    until("all of them are connected", async || open().await == f64::from(THOUSANDS)).await;
    let client = server.client(&[], |client| client);
    server.ask(&client, &pod_review(&["app:1"])).await;
    drop((idle, client));
    until("all of them are gone", async || open().await == 0.0).await;
}

#[tokio::test]
async fn without_descriptors_it_says_so_and_goes_on_where_it_was() {
    let started = Instant::now();
    let server = Server::start(&[], |folder| write(folder, 'a'));
    let client = server.client(&[], |client| client.pool_max_idle_per_host(0));
    let review = pod_review(&["app:1"]);
    let ask = async |digit: char| patch_of(&server.ask(&client, &review).await).to_string().contains(&image(digit));
    assert!(ask('a').await);

    let pid = server.pid();
    let open = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap().count() as u64;
    let few = Rlimit { current: Some(open + FEW), maximum: Some(open + FEW) };
    prlimit(Some(pid), Resource::Nofile, few).unwrap();
    let idle: Vec<_> = (0..MANY).map(|_| TcpStream::connect(server.webhook).unwrap()).collect();
    let said = || fs::read_to_string(server.path("stderr")).unwrap();
    until("it says so", async || said().contains("connection cannot be accepted")).await;
    write(server.folder.path(), 'b');
    for what in ["the last good ones stay", "the one before it stays in use"] {
        until("it says so", async || said().contains(what)).await;
    }
    drop(idle);
    until("the edited stream is what counts", async || ask('b').await).await;
    let lines = said().matches("connection cannot be accepted").count() as u64;
    assert!(lines <= 2 * (2 + started.elapsed().as_secs() / 10), "it was said {lines} times");
}
