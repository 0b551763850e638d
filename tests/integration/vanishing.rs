//! Clients whose machine vanishes, of which nothing tells the server: in a network of their own, which is taken away.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;

use crate::namespace::namespace;
use crate::pulling::serve;
use crate::support::{Server, pod_review, until};
use crate::upstream::Upstream;

/// Set in the process that is in such a network.
const INSIDE: &str = "PINSTREAM_TEST_INSIDE";
/// As the kernel's table of sockets has it.
const LISTENING: &str = "0A";

#[test]
fn clients_whose_machine_vanishes_are_let_go() {
    if std::env::var_os(INSIDE).is_some() {
        return tokio::runtime::Runtime::new().unwrap().block_on(clients_vanish());
    }
    let Some(network) = namespace("--net", &["ip", "link", "set", "lo", "up"]) else { return };
    let inside = Command::new(network[0])
        .args(&network[1..])
        .args(["sh", "-c", r#"ip link set lo up && exec "$@""#, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "vanishing::clients_whose_machine_vanishes_are_let_go"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout);
    assert!(said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&inside.stderr));
}

/// Each at another point of what a client does.
async fn clients_vanish() {
    let upstream = Upstream::start(32 << 20).await;
    let limits = ["--handshake-timeout", "--header-timeout", "--idle-timeout", "--write-timeout"];
    let server = serve(&upstream, &limits.map(|limit| [limit, "3s"]).concat(), "");
    let layer = format!("{}{}", server.registry(), upstream.layer_path());
    let (http1, http2) = (server.client(&[], reqwest::ClientBuilder::http1_only), server.client(&[], |client| client));
    let silent = TcpStream::connect(server.webhook).unwrap();
    let half = [
        "POST /mut",
        "POST /mutate?timeout=3s HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    ];
    let half = half.map(|written| {
        let mut client = server.raw(|_| ());
        client.write_all(written.as_bytes()).unwrap();
        client
    });
    let mut pulls = Vec::new();
    for client in [&http1, &http2] {
        server.ask(client, &pod_review(&["app:1"])).await;
        pulls.push(client.get(&layer).send().await.unwrap());
    }
    assert!(held(&server) > 0);
    set_network("down");
    drop((silent, half, pulls, http1, http2));
    until("the server holds no connection any more", async || held(&server) == 0).await;

    set_network("up");
    let client = server.client(&[], |client| client);
    server.ask(&client, &pod_review(&["app:1"])).await;
    assert_eq!(client.get(&layer).send().await.unwrap().bytes().await.unwrap(), upstream.layer);
    drop(client);
    until("nobody is counted any more", async || server.metric("pinstream_connections").await == 0.0).await;
}

/// How many connections of clients the server has.
fn held(server: &Server) -> usize {
    let registry = server.registry().rsplit(':').next().unwrap().parse().unwrap();
    let ports: [u16; 2] = [server.webhook.port(), registry];
    let table = fs::read_to_string(format!("/proc/{}/net/tcp", server.pid().as_raw_nonzero())).unwrap();
    let is_held = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (local, state, inode) = (fields[1], fields[3], fields[9]);
        let port = u16::from_str_radix(local.split_once(':').unwrap().1, 16).unwrap();
        // What a program has closed, and the kernel has not yet, has no inode.
        ports.contains(&port) && state != LISTENING && inode != "0"
    };
    table.lines().skip(1).filter(is_held).count()
}

fn set_network(state: &str) {
    assert!(Command::new("ip").args(["link", "set", "lo", state]).status().unwrap().success());
}
