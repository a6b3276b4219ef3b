//! Hostile addresses and hosts: each is refused or given up with its name, nothing inside is ever connected to, and nothing without an end
//! is read to its end.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use astromech::media::{Lookup, Media, MediaError};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::support::{Answer, LOCAL, Server, config, fetch, ok, redirect, resolving_to, status};

/// Every host and every port is listed, so that only what the rules say of addresses is left to refuse.
const ANY_PUBLIC: &str = "http_hosts = [\"localhost:*\", \".example.com:*\", \"[::1]:*\", \"127.0.0.1:*\", \"10.0.0.1:*\", \
                          \"[::ffff:7f00:1]:*\", \"169.254.169.254:*\", \"0.0.0.0:*\"]\nconnect_timeout_ms = 50\ntimeout_ms = 200\n";

#[tokio::test]
async fn an_address_inside_is_private_however_it_is_written_and_nobody_is_connected_to() {
    let server = Server::start(&[("/a", ok("secret"))]).await;
    let port = server.address.port();
    let media = Media::with_lookup(&config(ANY_PUBLIC), resolving_to(&["127.0.0.1"])).unwrap();
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "127.0.1",
        "127.000.000.001",
        "0",
        "0.0.0.0",
        "１２７.０.０.１",
        "127。0。0。1",
        "%31%32%37.0.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fc00::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.0.0.8",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ] {
        let url = format!("http://{host}:{port}/a");
        match fetch(&media, &url).await {
            Err(MediaError::Forbidden(said)) => assert!(said.contains("private address"), "{url}: {said}"),
            other => panic!("{url}: {other:?}"),
        }
    }
    // A name is resolved first, and what it resolves to is held to the same rules.
    for host in ["localhost", "LOCALHOST.", "inside.example.com", "127.0.0.1.example.com"] {
        match fetch(&media, &format!("http://{host}:{port}/a")).await {
            Err(MediaError::Forbidden(said)) => assert!(said.contains("private addresses only"), "{host}: {said}"),
            other => panic!("{host}: {other:?}"),
        }
    }
    assert_eq!(server.hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_an_address_may_not_have_is_named() {
    let media = Media::new(&config("http_hosts = [\"img.example.com\", \".cdn.example.com:8443\"]")).unwrap();
    for (url, said) in [
        ("file:///etc/passwd", "media.file_roots"),
        ("FILE:/etc/passwd", "media.file_roots"),
        ("ftp://img.example.com/a", "scheme `ftp`"),
        ("gopher://img.example.com/_x", "scheme `gopher`"),
        ("javascript:alert(1)", "scheme `javascript`"),
        ("data:image/png;base64,AA==", "scheme `data`"),
        ("unix:/var/run/docker.sock", "scheme `unix`"),
        ("http://user@img.example.com/a", "user name or password"),
        ("http://user:password@img.example.com/a", "user name or password"),
        ("http://img.example.com@evil.example.org/a", "user name or password"),
        ("http://:@img.example.com:22/a", "port 22"),
        ("http://img.example.com:6379/a", "port 6379"),
        ("https://img.example.com:8443/a", "port 8443"),
        ("https://eu.cdn.example.com/a", "port 443"),
        ("http://img.example.com:0/a", "port 0"),
        ("http://img.example.com:99999/a", "no address"),
        ("http://img.example.com.evil.example.org/a", "not in media.http_hosts"),
        ("http://evilcdn.example.com/a", "not in media.http_hosts"),
        ("http://evil.example.org\\@img.example.com/a", "not in media.http_hosts"),
        ("http://img.example.com\n:22/a", "port 22"),
        ("http://8.8.8.8/a", "not in media.http_hosts"),
        ("http://[::1/a", "no address"),
        ("", "no address"),
        ("/etc/passwd", "no address"),
    ] {
        match fetch(&media, url).await {
            Err(MediaError::Forbidden(refused)) => assert!(refused.contains(said), "{url}: {refused}"),
            other => panic!("{url}: {other:?}"),
        }
    }
}

/// A few kilobytes that unpack to `bytes` zeros.
fn gzip_bomb(bytes: usize) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&vec![0; bytes]).unwrap();
    packed.finish().unwrap()
}

fn with_encoding(encoding: &str, body: &[u8]) -> Answer {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    Answer::Bytes([head.as_bytes(), body].concat())
}

#[tokio::test]
async fn each_way_of_a_host_to_harm_is_refused_or_timed_out_with_its_name_and_in_time() {
    let bomb = gzip_bomb(64 << 20);
    assert!(bomb.len() < 100_000, "{} bytes", bomb.len());
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\nffffffffffffffff\r\nxxxx";
    let server = Server::start(&[
        ("/gzip", with_encoding("gzip", &bomb)),
        ("/GZIP", with_encoding("GZip", &bomb)),
        ("/br", with_encoding("br, gzip", &bomb)),
        ("/raw-gzip", Answer::Bytes([b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".as_slice(), &bomb].concat())),
        ("/endless", Answer::Endless),
        ("/endless-head", Answer::EndlessHead),
        ("/claims", Answer::Say("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\nx".to_owned())),
        ("/chunk", Answer::Say(chunked.to_owned())),
        ("/slow", Answer::Slow),
        ("/silent", Answer::Silent),
        ("/broken", Answer::Broken),
        ("/noise", Answer::Say("\u{1}\u{2}\u{3} noise\r\n\r\n".to_owned())),
        ("/two-lengths", Answer::Say("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy".to_owned())),
        ("/loop", redirect("/loop")),
        ("/to-file", redirect("file:///etc/passwd")),
        ("/to-inside", redirect("http://169.254.169.254/latest/meta-data/")),
        ("/to-ipv6", redirect("http://[::1]:1/a")),
        ("/to-decimal", redirect("http://2852039166/latest")),
        ("/to-other-host", redirect("//evil.example.org/a")),
        ("/to-user", redirect("http://user:password@127.0.0.1/a")),
        ("/to-nothing", redirect("http://[/")),
        ("/401", status(401)),
    ])
    .await;
    // The server itself is the only private host that is listed: the rules are as for a public one, apart from its being here.
    let media = Media::new(&config(&format!("{LOCAL}bytes_max = 200000\ntimeout_ms = 400\nhost_failures_max = 1000\n"))).unwrap();
    for (path, expected, said) in [
        ("/gzip", "forbidden", "content-encoding gzip"),
        ("/GZIP", "forbidden", "content-encoding GZip"),
        ("/br", "forbidden", "content-encoding br, gzip"),
        ("/endless", "too large", "media.bytes_max = 200000"),
        ("/claims", "too large", "media.bytes_max = 200000"),
        ("/chunk", "passing", "the body broke off"),
        ("/endless-head", "passing", "no valid answer"),
        ("/slow", "passing", "media.timeout_ms = 400"),
        ("/silent", "passing", "media.timeout_ms = 400"),
        ("/broken", "passing", "the body broke off"),
        ("/noise", "passing", "no valid answer"),
        ("/two-lengths", "passing", "no valid answer"),
        ("/loop", "forbidden", "media.redirects_max = 3"),
        ("/to-file", "forbidden", "scheme `file`"),
        ("/to-inside", "forbidden", "not in media.http_hosts"),
        ("/to-ipv6", "forbidden", "not in media.http_hosts"),
        ("/to-decimal", "forbidden", "169.254.169.254"),
        ("/to-other-host", "forbidden", "evil.example.org"),
        ("/to-user", "forbidden", "user name or password"),
        ("/to-nothing", "not found", "redirects to nowhere"),
        ("/401", "forbidden", "401"),
    ] {
        let began = Instant::now();
        let error = fetch(&media, &server.url(path)).await.expect_err(path);
        let found = match &error {
            MediaError::Forbidden(_) => "forbidden",
            MediaError::NotFound(_) => "not found",
            MediaError::TooLarge(_) => "too large",
            MediaError::Transient(_) | MediaError::HostPaused { .. } => "passing",
        };
        assert_eq!(found, expected, "{path}: {error}");
        assert!(error.to_string().contains(said), "{path}: {error}");
        assert!(began.elapsed() < Duration::from_secs(10), "{path} took {:?}", began.elapsed());
    }
    // A bomb that does not say what it is comes as the few bytes that it is.
    assert_eq!(fetch(&media, &server.url("/raw-gzip")).await, Ok(bomb));
}

#[tokio::test]
async fn a_name_that_turns_inside_between_a_redirect_and_its_target_is_refused() {
    let server = Server::start(&[("/a", ok("secret"))]).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    // The checks of an address are made on what is connected to, so it does not matter which answer comes when.
    let turning: Lookup = Arc::new(move |_| {
        let call = counted.fetch_add(1, Ordering::SeqCst);
        let ip = if call.is_multiple_of(2) { "127.0.0.1" } else { "::ffff:10.0.0.1" };
        Box::pin(std::future::ready(Ok(vec![std::net::SocketAddr::new(ip.parse().unwrap(), 0)])))
    });
    let media = Media::with_lookup(&config(ANY_PUBLIC), turning).unwrap();
    for _ in 0..4 {
        let url = format!("http://turning.example.com:{}/a", server.address.port());
        assert!(matches!(fetch(&media, &url).await, Err(MediaError::Forbidden(_))));
    }
    assert_eq!((calls.load(Ordering::SeqCst), server.hits.load(Ordering::SeqCst)), (4, 0));
}
