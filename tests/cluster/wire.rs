//! The wire between a client and a server of this machine, on which packets can vanish: of all connections, or of those
//! that there are. Nobody is told: nothing is closed and nothing is refused.

use std::io;
use std::net::Ipv4Addr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Forwards connections while it lives.
pub struct Wire {
    /// Where the server is reached, on 127.0.0.1.
    pub port: u16,
    state: watch::Sender<State>,
    _runtime: Runtime,
}

/// What passes.
#[derive(Clone, Copy, Default)]
struct State {
    is_cut: bool,
    /// Connections so far.
    connections: u64,
    /// So many of them, the first ones, are dead.
    dead: u64,
}

impl Wire {
    /// Leads to a port of this machine.
    pub fn lead_to(server: u16) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, _) = watch::channel(State::default());
        let (accepting, handle) = (state.clone(), runtime.handle().clone());
        let _accepting = runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = accepting.borrow().connections;
                accepting.send_modify(|state| state.connections += 1);
                let _joining = handle.spawn(join(client, server, number, accepting.subscribe()));
            }
        });
        Self { port, state, _runtime: runtime }
    }

    /// From now on nothing passes, either way.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.is_cut = true);
    }

    /// Passes on what comes, and first what was sent while it was cut, as it would be sent again and again.
    pub fn heal(&self) {
        self.state.send_modify(|state| state.is_cut = false);
    }

    /// On the connections that there are nothing passes any more, for ever, as if a router had forgotten them.
    pub fn forget(&self) {
        self.state.send_modify(|state| state.dead = state.connections);
    }
}

/// Forwards a connection until both ends have closed it.
async fn join(mut client: TcpStream, server: u16, number: u64, state: watch::Receiver<State>) -> io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    tokio::try_join!(
        copy(from_client, to_server, number, state.clone()),
        copy(from_server, to_client, number, state.clone())
    )?;
    Ok(())
}

/// Forwards one way. That it ended is news like any other, and waits like it.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    number: u64,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let length = from.read(&mut buffer).await;
        let passes = state.wait_for(|state| !state.is_cut && number >= state.dead).await;
        passes.map_err(io::Error::other)?;
        match length? {
            0 => return to.shutdown().await,
            length => to.write_all(&buffer[..length]).await?,
        }
    }
}
