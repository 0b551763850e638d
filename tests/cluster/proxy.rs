//! An HTTP proxy that leads to a registry, whatever host is asked for: so names of the world can be asked on loopback.

use std::io::{BufRead as _, BufReader, Write as _, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

/// Starts one that leads to a port of this machine until the test process ends. Gives its own port.
pub fn lead_to(port: u16) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let own = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // Whoever goes away early is nobody's failure.
            thread::spawn(move || tunnel(client, port).is_ok());
        }
    });
    own
}

/// `CONNECT`, as clients ask for it before TLS.
fn tunnel(mut client: TcpStream, port: u16) -> std::io::Result<()> {
    let mut head = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    while head.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut to_client, mut from_server) = (client.try_clone()?, server.try_clone()?);
    let back = thread::spawn(move || {
        let _ = copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
    copy(&mut head, &mut server)?;
    server.shutdown(Shutdown::Write)?;
    let _ = back.join();
    Ok(())
}
