//! A TCP proxy that answers late: a server far away, or one with too much to do.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::wait::{block_on, spawn};

/// Bytes handed on at a time.
const CHUNK: usize = 64 * 1024;

/// Stands before a server; what the server says is held back for a time.
#[derive(Debug)]
pub struct SlowProxy {
    address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl SlowProxy {
    /// Stands before `target` (`host:port`), every burst of its answers `delay` late.
    pub fn start(target: &str, delay: Duration) -> Self {
        let listener = block_on(TcpListener::bind(("127.0.0.1", 0))).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let target = target.to_owned();
        let accepting = async move {
            while let Ok((client, _)) = listener.accept().await {
                // Where the server is away the client sees its connection closed.
                if let Ok(server) = TcpStream::connect(&target).await {
                    hand_on(client, server, delay);
                }
            }
        };
        Self { address, accepting: spawn(accepting) }
    }

    /// `host:port` for clients.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for SlowProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn hand_on(client: TcpStream, server: TcpStream, delay: Duration) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    spawn(async move {
        // Either end may close at any time; the other way ends with it.
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    });
    spawn(async move {
        let mut chunk = vec![0; CHUNK];
        while let Ok(length @ 1..) = from_server.read(&mut chunk).await {
            tokio::time::sleep(delay).await;
            if to_client.write_all(&chunk[..length]).await.is_err() {
                return;
            }
        }
    });
}
