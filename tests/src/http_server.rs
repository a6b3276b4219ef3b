//! A small HTTP/1.1 server of pictures, for the daemon to fetch from. It can go down and come back on its port.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::authority::Certified;
use crate::wait::{block_on, spawn};

/// Longest head of a request, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, Default)]
struct Files {
    by_path: Mutex<HashMap<String, Vec<u8>>>,
    requests: AtomicU64,
}

/// The server. Paths it doesn't know answer 404.
#[derive(Debug)]
pub struct PictureHost {
    address: SocketAddr,
    files: Arc<Files>,
    tls: Option<Arc<ServerConfig>>,
    accept: Option<JoinHandle<()>>,
}

impl PictureHost {
    /// A server on a free port of 127.0.0.1, answering.
    pub fn start() -> Self {
        Self::serving(None)
    }

    /// As [`PictureHost::start`], by TLS only, with this certificate.
    pub fn start_tls(certificate: &Certified) -> Self {
        Self::serving(Some(certificate.server_config()))
    }

    fn serving(tls: Option<Arc<ServerConfig>>) -> Self {
        let mut host = Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), files: Arc::default(), tls, accept: None };
        host.up();
        host
    }

    /// Listens (again) on its port.
    pub fn up(&mut self) {
        assert!(self.accept.is_none(), "the host is up already");
        let listener = block_on(TcpListener::bind(self.address)).unwrap_or_else(|e| panic!("{}: {e}", self.address));
        self.address = listener.local_addr().expect("a bound socket has an address");
        let (files, acceptor) = (Arc::clone(&self.files), self.tls.clone().map(TlsAcceptor::from));
        self.accept = Some(spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (files, acceptor) = (Arc::clone(&files), acceptor.clone());
                // A client that goes away is its own matter.
                tokio::spawn(async move {
                    match acceptor {
                        None => drop(answer(stream, &files).await),
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                drop(answer(stream, &files).await);
                            }
                        }
                    }
                });
            }
        }));
    }

    /// Refuses connections from now on.
    pub fn down(&mut self) {
        if let Some(accept) = self.accept.take() {
            accept.abort();
            // Until the task is gone, its listener holds the port.
            drop(block_on(accept));
        }
    }

    /// Serves `bytes` under `path` (with its slash) and returns the address. The host is called `localhost`, which `127.0.0.1` is not.
    pub fn serve(&self, path: &str, bytes: Vec<u8>) -> String {
        self.files.by_path.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), bytes);
        self.url(path)
    }

    /// Address of `path`.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}{path}", self.address.port())
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.files.requests.load(Ordering::Relaxed)
    }
}

impl Drop for PictureHost {
    fn drop(&mut self) {
        self.down();
    }
}

/// One request, one answer, then the connection closes.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, files: &Files) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    files.requests.fetch_add(1, Ordering::Relaxed);
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let found = files.by_path.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
    let (status, kind) = if found.is_some() { ("200 OK", "image/jpeg") } else { ("404 Not Found", "text/plain") };
    let body = found.unwrap_or_else(|| b"not here".to_vec());
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}
