//! A real server in this process, whose answers are the test's.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use astromech::config::{Config, MediaConfig};
use astromech::media::{Lookup, Media, MediaError};
use astromech_schemas::ImageSource;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the server does at one path.
#[derive(Clone)]
pub(crate) enum Answer {
    /// Status line, headers and body.
    Say(String),
    /// A body without an end.
    Endless,
    /// A byte now and then.
    Slow,
    /// A header line without an end.
    EndlessHead,
    /// Takes the request and never answers.
    Silent,
    /// As [`Answer::Say`], of bytes.
    Bytes(Vec<u8>),
    /// Closes in the middle of the body.
    Broken,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Connections so far.
    pub(crate) hits: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) async fn start(answers: &[(&str, Answer)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, hits) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let answers: Arc<HashMap<_, _>> =
            Arc::new(answers.iter().map(|(path, answer)| ((*path).to_owned(), answer.clone())).collect());
        let counted = Arc::clone(&hits);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&answers)));
            }
        });
        Self { address, hits }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.address.port())
    }
}

/// One request a connection. Errors are the client's: it went away.
pub(crate) async fn serve(mut stream: TcpStream, answers: Arc<HashMap<String, Answer>>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split_whitespace().nth(1).unwrap_or_default();
    let start = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    match answers.get(path) {
        None => drop(stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await),
        Some(Answer::Say(text)) => drop(stream.write_all(text.as_bytes()).await),
        Some(Answer::Endless) => {
            let mut alive = stream.write_all(start.as_bytes()).await.is_ok();
            while alive {
                alive = stream.write_all(&[b'x'; 4096]).await.is_ok();
            }
        }
        Some(Answer::Slow) => {
            let mut alive = stream.write_all(start.as_bytes()).await.is_ok();
            while alive {
                alive = stream.write_all(b"x").await.is_ok();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Some(Answer::EndlessHead) => {
            let mut alive = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await.is_ok();
            while alive {
                alive = stream.write_all(&[b'x'; 4096]).await.is_ok();
            }
        }
        // Until the client goes away.
        Some(Answer::Silent) => drop(stream.read_buf(&mut Vec::new()).await),
        Some(Answer::Bytes(bytes)) => drop(stream.write_all(bytes).await),
        Some(Answer::Broken) => drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await),
    }
}

pub(crate) fn ok(body: &str) -> Answer {
    Answer::Say(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()))
}

pub(crate) fn status(code: u16) -> Answer {
    Answer::Say(format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"))
}

pub(crate) fn redirect(to: &str) -> Answer {
    Answer::Say(format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"))
}

pub(crate) fn config(extra: &str) -> MediaConfig {
    let text = format!("[bundle]\npath = \"b\"\n[index.embedded]\npath = \"i\"\n[media]\n{extra}\n");
    Config::parse(&text, Path::new("/"), &|_| None).unwrap().media
}

pub(crate) const LOCAL: &str = "http_hosts = [\"127.0.0.1:*\"]\nallow_private_networks = true\n";

pub(crate) async fn fetch(media: &Media, url: &str) -> Result<Vec<u8>, MediaError> {
    media.fetch(ImageSource::from_url(url)).await
}

/// A name server that knows these addresses for every name.
pub(crate) fn resolving_to(addresses: &[&str]) -> Lookup {
    let found: Vec<SocketAddr> = addresses.iter().map(|a| SocketAddr::new(a.parse::<IpAddr>().unwrap(), 0)).collect();
    Arc::new(move |_| Box::pin(std::future::ready(Ok(found.clone()))))
}
