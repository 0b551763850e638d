//! A bare HTTP/1.1 client that reads bodies and keeps nothing of them, so that what is measured is the server.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::Error;

/// How much is read at once.
const BUFFER: usize = 128 << 10;

/// Where a server is, and how it is spoken to.
#[derive(Clone)]
pub struct Address {
    socket: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// A connection that is kept.
pub struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Address {
    /// Plain HTTP.
    pub fn plain(socket: SocketAddr) -> Self {
        Self { socket, tls: None }
    }

    /// HTTPS of whoever has a certificate of this CA for `localhost`.
    pub fn tls(socket: SocketAddr, ca: &Path) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca)?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { socket, tls: Some(Arc::new(config)) })
    }

    /// Connects.
    pub fn connect(&self) -> Result<Connection, Error> {
        let stream = TcpStream::connect(self.socket)?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let connection = ClientConnection::new(Arc::clone(config), "localhost".try_into()?)?;
                Box::new(StreamOwned::new(connection, stream))
            }
        };
        Ok(Connection { stream, buffer: vec![0; BUFFER] })
    }
}

impl Connection {
    /// Asks for a path, and hands on the body as it comes. Gives how many bytes it had.
    pub fn get(&mut self, path: &str, mut take: impl FnMut(&[u8])) -> Result<u64, Error> {
        write!(self.stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let (head, length, mut filled) = self.head()?;
        take(&self.buffer[head..filled]);
        let mut came = (filled - head) as u64;
        while came < length {
            filled = self.stream.read(&mut self.buffer)?;
            if filled == 0 {
                return Err(format!("{path} broke off after {came} of {length} bytes").into());
            }
            take(&self.buffer[..filled]);
            came += filled as u64;
        }
        Ok(length)
    }

    /// Reads to the end of the head of an answer: where that is, how long the body is, and how much was read already.
    fn head(&mut self) -> Result<(usize, u64, usize), Error> {
        let mut filled = 0;
        let end = loop {
            let read = self.stream.read(&mut self.buffer[filled..])?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            filled += read;
            if let Some(end) = self.buffer[..filled].windows(4).position(|end| end == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(format!("refused: {head}").into());
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).ok_or("no length")?;
        Ok((end, length.trim().parse()?, filled))
    }
}
