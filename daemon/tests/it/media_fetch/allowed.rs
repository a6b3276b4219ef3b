//! What is allowed, what is for good, what may pass.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use astromech::media::{Lookup, Media, MediaError};
use astromech_schemas::ImageSource;
use tokio::net::TcpListener;

use super::support::{Answer, LOCAL, Server, config, fetch, ok, redirect, resolving_to, status};

#[tokio::test]
async fn a_picture_is_fetched_and_redirects_are_followed() {
    let server = Server::start(&[("/a", ok("picture")), ("/r", redirect("/a")), ("/rr", redirect("r"))]).await;
    let media = Media::new(&config(LOCAL)).unwrap();
    for path in ["/a", "/r", "/rr"] {
        assert_eq!(fetch(&media, &server.url(path)).await, Ok(b"picture".to_vec()), "{path}");
    }
    let inline = media.fetch(ImageSource::from_bytes(*b"inline")).await;
    assert_eq!(inline, Ok(b"inline".to_vec()));
}

#[tokio::test]
async fn a_redirect_is_followed_whatever_its_location_is_written_in() {
    let location = |location: &[u8]| {
        let end = b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        Answer::Bytes([b"HTTP/1.1 302 Found\r\nlocation: ", location, end].concat())
    };
    let utf8 = "/%E5%9B%BE.png?%E5%AD%97=%E5%9B%BE";
    let server = Server::start(&[
        (utf8, ok("utf-8")),
        ("/%CD%BC.png", ok("gbk")),
        ("/caf%E9.png", ok("latin-1")),
        ("/a%20b.png", ok("space")),
        ("/d/e.png", ok("relative")),
        ("/raw", location("/图.png?字=图".as_bytes())),
        ("/escaped", location(utf8.as_bytes())),
        ("/fragment", location("/图.png?字=图#图".as_bytes())),
        ("/gbk", location(b"/\xcd\xbc.png")),
        ("/latin-1", location(b"/caf\xe9.png")),
        ("/space", location(b"  /a b.png  ")),
        ("/d/relative", location(b"e.png")),
        ("/d/up/up", location(b"../e.png")),
        ("/backslash", location(b"\\d\\e.png")),
        ("/empty", location(b"")),
        ("/wrong", location("http://[图/".as_bytes())),
        ("/other-host", location("http://图片.中国/图.png".as_bytes())),
        ("/no-host", location(b"http://\xcd\xff/")),
    ])
    .await;
    let media = Media::new(&config(LOCAL)).unwrap();
    for (path, body) in [
        ("/raw", "utf-8"),
        ("/escaped", "utf-8"),
        ("/fragment", "utf-8"),
        ("/gbk", "gbk"),
        ("/latin-1", "latin-1"),
        ("/space", "space"),
        ("/d/relative", "relative"),
        ("/d/up/up", "relative"),
        ("/backslash", "relative"),
    ] {
        assert_eq!(fetch(&media, &server.url(path)).await, Ok(body.as_bytes().to_vec()), "{path}");
    }
    for (path, says) in [("/empty", "no Location"), ("/wrong", "is no address"), ("/no-host", "is no address")] {
        let error = fetch(&media, &server.url(path)).await.unwrap_err();
        assert!(matches!(&error, MediaError::NotFound(text) if text.contains(says)), "{path}: {error}");
    }
    let error = fetch(&media, &server.url("/other-host")).await.unwrap_err();
    assert!(matches!(&error, MediaError::Forbidden(text) if text.contains("host `xn--")), "{error}");
}

#[tokio::test]
async fn a_host_in_any_script_and_spelling_is_the_one_that_is_allowed() {
    let server = Server::start(&[("/%E5%9B%BE.png", ok("picture"))]).await;
    let port = server.address.port();
    let rules = format!("http_hosts = [\"例子.中国:{port}\", \".xn--fiqs8s:*\"]\nallow_private_networks = true\n");
    let media = Media::with_lookup(&config(&rules), resolving_to(&["127.0.0.1"])).unwrap();
    for host in [
        "例子.中国",
        "例子。中国",
        "例子．中国｡",
        "xn--fsqu00a.xn--fiqs8s",
        "XN--FSQU00A.中国",
        "%E4%BE%8B%E5%AD%90.中国",
        "图.例子.中国",
    ] {
        assert_eq!(fetch(&media, &format!("http://{host}:{port}/图.png")).await, Ok(b"picture".to_vec()), "{host}");
    }
    for host in ["例子.中國", "例.中国.example"] {
        let error = fetch(&media, &format!("http://{host}:{port}/图.png")).await.unwrap_err();
        assert!(matches!(error, MediaError::Forbidden(_)), "{host}: {error}");
    }
}

#[tokio::test]
async fn a_loopback_address_is_forbidden_without_a_connection_whether_or_not_anybody_listens() {
    let server = Server::start(&[("/a", ok("secret"))]).await;
    let media = Media::new(&config("http_hosts = [\"127.0.0.1:*\", \"localhost:*\"]\ntimeout_ms = 1\n")).unwrap();
    for url in [server.url("/a"), "http://127.0.0.1:1/a".to_owned(), format!("http://2130706433:{}/a", server.address.port())] {
        assert!(matches!(fetch(&media, &url).await, Err(MediaError::Forbidden(_))), "{url}");
    }
    assert_eq!(server.hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_with_private_addresses_only_is_forbidden_and_mixed_ones_use_the_public() {
    let server = Server::start(&[("/a", ok("secret"))]).await;
    let url = format!("http://pictures.example.com:{}/a", server.address.port());
    let rules = "http_hosts = [\".example.com:*\"]\nconnect_timeout_ms = 50\ntimeout_ms = 200\n";
    let media = Media::with_lookup(&config(rules), resolving_to(&["127.0.0.1", "10.0.0.7", "::1"])).unwrap();
    assert!(matches!(fetch(&media, &url).await, Err(MediaError::Forbidden(_))), "{:?}", fetch(&media, &url).await);
    // 198.51.100.0/24 is for documentation, 8.8.8.8 is public: only that one may be tried, and this machine's server is not it.
    let media = Media::with_lookup(&config(rules), resolving_to(&["127.0.0.1", "8.8.8.8"])).unwrap();
    assert!(matches!(fetch(&media, &url).await, Err(MediaError::Transient(_))));
    assert_eq!(server.hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_address_between_two_requests_gains_nothing() {
    let server = Server::start(&[("/a", ok("secret"))]).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let rebinding: Lookup = Arc::new(move |_| {
        let ip: IpAddr = if counted.fetch_add(1, Ordering::SeqCst) == 0 { "8.8.8.8" } else { "127.0.0.1" }.parse().unwrap();
        Box::pin(std::future::ready(Ok(vec![SocketAddr::new(ip, 0)])))
    });
    let rules = "http_hosts = [\"rebind.example.com:*\"]\nconnect_timeout_ms = 50\ntimeout_ms = 200\n";
    let media = Media::with_lookup(&config(rules), rebinding).unwrap();
    let url = format!("http://rebind.example.com:{}/a", server.address.port());
    assert!(matches!(fetch(&media, &url).await, Err(MediaError::Transient(_))));
    assert!(matches!(fetch(&media, &url).await, Err(MediaError::Forbidden(_))));
    assert_eq!((calls.load(Ordering::SeqCst), server.hits.load(Ordering::SeqCst)), (2, 0));
}

#[tokio::test]
async fn redirects_are_checked_like_first_addresses_and_have_a_limit() {
    let server = Server::start(&[
        ("/out", redirect("http://169.254.169.254/latest/meta-data")),
        ("/file", redirect("file:///etc/passwd")),
        ("/loop", redirect("/loop")),
        ("/nowhere", status(302)),
    ])
    .await;
    let media = Media::new(&config(&format!("{LOCAL}redirects_max = 2\n"))).unwrap();
    for path in ["/out", "/file", "/loop"] {
        assert!(matches!(fetch(&media, &server.url(path)).await, Err(MediaError::Forbidden(_))), "{path}");
    }
    assert_eq!(server.hits.load(Ordering::SeqCst), 1 + 1 + 3);
    assert!(matches!(fetch(&media, &server.url("/nowhere")).await, Err(MediaError::NotFound(_))));
}

#[tokio::test]
async fn statuses_are_for_good_or_may_pass() {
    let permanent = [400, 404, 410, 415];
    let forbidden = [401, 403, 451];
    let transient = [408, 425, 429, 500, 502, 503, 504];
    let answers: Vec<_> =
        permanent.iter().chain(&forbidden).chain(&transient).map(|code| (format!("/{code}"), status(*code))).collect();
    let answers: Vec<_> = answers.iter().map(|(path, answer)| (path.as_str(), answer.clone())).collect();
    let server = Server::start(&answers).await;
    let media = Media::new(&config(LOCAL)).unwrap();
    for code in permanent {
        assert!(matches!(fetch(&media, &server.url(&format!("/{code}"))).await, Err(MediaError::NotFound(_))), "{code}");
    }
    for code in forbidden {
        assert!(matches!(fetch(&media, &server.url(&format!("/{code}"))).await, Err(MediaError::Forbidden(_))), "{code}");
    }
    for code in transient {
        assert!(matches!(fetch(&media, &server.url(&format!("/{code}"))).await, Err(MediaError::Transient(_))), "{code}");
    }
}

#[tokio::test]
async fn bytes_are_limited_while_they_come_whatever_the_length_says() {
    let claims = "HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\nconnection: close\r\n\r\nx";
    let server = Server::start(&[
        ("/endless", Answer::Endless),
        ("/claims", Answer::Say(claims.to_owned())),
        ("/fits", ok(&"x".repeat(1000))),
    ])
    .await;
    let media = Media::new(&config(&format!("{LOCAL}bytes_max = 1000\n"))).unwrap();
    for path in ["/endless", "/claims"] {
        assert!(matches!(fetch(&media, &server.url(path)).await, Err(MediaError::TooLarge(_))), "{path}");
    }
    assert_eq!(fetch(&media, &server.url("/fits")).await.map(|bytes| bytes.len()), Ok(1000));
}

#[tokio::test]
async fn slow_broken_and_absent_servers_may_pass() {
    let server = Server::start(&[("/slow", Answer::Slow), ("/broken", Answer::Broken)]).await;
    let media = Media::new(&config(&format!("{LOCAL}timeout_ms = 150\n"))).unwrap();
    let slow = fetch(&media, &server.url("/slow")).await.unwrap_err();
    assert!(matches!(&slow, MediaError::Transient(text) if text.contains("media.timeout_ms = 150")), "{slow}");
    assert!(matches!(fetch(&media, &server.url("/broken")).await, Err(MediaError::Transient(_))));
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(matches!(fetch(&media, &format!("http://{free}/a")).await, Err(MediaError::Transient(_))));
    let failing: Lookup = Arc::new(|_| Box::pin(std::future::ready(Err(std::io::Error::other("no name server")))));
    let media = Media::with_lookup(&config("http_hosts = [\"example.com\"]"), failing).unwrap();
    assert!(matches!(fetch(&media, "http://example.com/a").await, Err(MediaError::Transient(_))));
}

#[tokio::test]
async fn what_is_no_address_is_forbidden() {
    let media = Media::new(&config(LOCAL)).unwrap();
    for url in ["picture.jpg", "ftp://127.0.0.1/a", "gopher://x", "http://", "//127.0.0.1/a", "data:image/png;base64,AA=="] {
        assert!(matches!(fetch(&media, url).await, Err(MediaError::Forbidden(_))), "{url}");
    }
}
