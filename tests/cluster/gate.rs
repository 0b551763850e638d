//! A way to servers of this machine that counts what passes, and kills a process at a moment that is counted so.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal};

/// Forwards connections for as long as the test process lives.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<Count>>);

#[derive(Default)]
struct Count {
    /// Pieces of data that passed, either way.
    passed: u64,
    /// After how many of them to kill whom.
    fuse: Option<(u64, Pid)>,
}

impl Gate {
    /// Leads to a port of this machine; the port where it does so.
    pub fn lead_to(&self, port: u16) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let own = listener.local_addr().unwrap().port();
        let gate = self.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", port)) {
                    gate.join(&client, &server);
                }
            }
        });
        own
    }

    /// How many pieces of data passed so far.
    pub fn passed(&self) -> u64 {
        self.0.lock().unwrap().passed
    }

    /// Kills a process with SIGKILL once so many more pieces of data have passed, before the last of them does.
    pub fn kill_after(&self, pieces: u64, process: Pid) {
        let mut count = self.0.lock().unwrap();
        count.fuse = Some((count.passed + pieces, process));
    }

    /// Kills nobody any more.
    pub fn spare(&self) {
        self.0.lock().unwrap().fuse = None;
    }

    fn join(&self, client: &TcpStream, server: &TcpStream) {
        let is_prompt = client.set_nodelay(true).is_ok() && server.set_nodelay(true).is_ok();
        let (true, Ok(from_client), Ok(from_server)) = (is_prompt, client.try_clone(), server.try_clone()) else {
            return;
        };
        let (Ok(to_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { return };
        for (from, to) in [(from_client, to_server), (from_server, to_client)] {
            let gate = self.clone();
            thread::spawn(move || gate.copy(from, to));
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16 << 10];
        while let Ok(length) = from.read(&mut buffer)
            && length > 0
        {
            self.count();
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    fn count(&self) {
        let mut count = self.0.lock().unwrap();
        count.passed += 1;
        let passed = count.passed;
        if let Some((_, process)) = count.fuse.take_if(|(at, _)| *at <= passed) {
            let _ = rustix::process::kill_process(process, Signal::KILL);
        }
    }
}
