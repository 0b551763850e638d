//! What a Service is in a cluster: one port that leads to whichever of its processes is ready.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Forwards connections for as long as the test process lives.
#[derive(Clone)]
pub struct Service {
    /// Where it is reached, on 127.0.0.1.
    pub port: u16,
    endpoints: Arc<Mutex<Vec<u16>>>,
}

impl Service {
    /// A Service that leads nowhere yet: connections are closed at once.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoints = Arc::default();
        let service = Self { port, endpoints };
        let forwarder = service.clone();
        thread::spawn(move || {
            let turn = AtomicUsize::default();
            for client in listener.incoming().flatten() {
                if let Some(server) = forwarder.connect(turn.fetch_add(1, Ordering::Relaxed)) {
                    forward(client, server);
                }
            }
        });
        service
    }

    /// The ports of the processes that new connections lead to from now on.
    pub fn lead_to(&self, ports: Vec<u16>) {
        *self.endpoints.lock().unwrap() = ports;
    }

    fn connect(&self, turn: usize) -> Option<TcpStream> {
        let endpoints = self.endpoints.lock().unwrap().clone();
        let port = *endpoints.get(turn.checked_rem(endpoints.len())?)?;
        TcpStream::connect(("127.0.0.1", port)).ok()
    }
}

fn forward(client: TcpStream, server: TcpStream) {
    // What a network would not hold back is not held back here.
    let is_prompt = client.set_nodelay(true).is_ok() && server.set_nodelay(true).is_ok();
    let (true, Ok(from_client), Ok(from_server)) = (is_prompt, client.try_clone(), server.try_clone()) else { return };
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    };
    copy(from_client, server);
    copy(from_server, client);
}
