//! TLS that fails is a host that does not answer: named as TLS, waited for, never a dead letter, and never gone round by plain text.

use std::sync::Arc;

use astromech::media::{Media, MediaError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::support::{LOCAL, config, fetch};

/// A certificate for `localhost` that it signed itself, and its key, made for this test and used nowhere else.
const CERTIFICATE: &str = "MIIBmzCCAUGgAwIBAgIUSHJxr1QIxy4wyUsg+AmTB7v5I3AwCgYIKoZIzj0EAwIwFDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNjE2MjUw\
     NFoYDzIxMjYxMTAyMTYyNTA0WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQgv12vKBOOmyUlmvuaAZGgQnWiA3vXV1Oumh\
     XROSWVIzpA1kFA68nt3f9Gfde4gHKmYDXrsLF95Pl/N83CQiJRo28wbTAdBgNVHQ4EFgQUYwmaQmEfxEh+OVDYB0LHNkFP2EgwHwYDVR0jBBgwFoAUYwmaQmEfxEh+\
     OVDYB0LHNkFP2EgwDwYDVR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZIzj0EAwIDSAAwRQIgUMN431/J2txtnj6iPtUIHghI/c\
     AgTpY78dgXyy8fIYoCIQCw0jnXHix3OmkVibeyQOURdhRNueKW48opOswO2QFMmw==";
const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg+p81+0pAk5pjmf/asKYNiln3jAFzzPSkTPW6n2cIjk6hRANCAAQgv12vKBOOmyUlmvuaAZGg\
     QnWiA3vXV1OumhXROSWVIzpA1kFA68nt3f9Gfde4gHKmYDXrsLF95Pl/N83CQiJR";

/// A server whose certificate nobody vouches for; returns its port.
async fn self_signed() -> u16 {
    let certificate = CertificateDer::from(STANDARD.decode(CERTIFICATE).unwrap());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(STANDARD.decode(KEY).unwrap()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let (listener, acceptor) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), TlsAcceptor::from(Arc::new(tls)));
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret").await;
            }
        }
    });
    port
}

/// A server that answers whatever it is sent in plain HTTP, as a host does whose TLS port is another one; returns its port.
async fn plain_text() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read_buf(&mut Vec::new()).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
    });
    port
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_and_a_host_that_speaks_no_tls_are_named_and_may_pass() {
    let signed_by_nobody = self_signed().await;
    let plain = plain_text().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = listener.local_addr().unwrap().port();
    let rules = format!(
        "{}timeout_ms = 5000\nconnect_timeout_ms = 300\n",
        LOCAL.replace("127.0.0.1:*\"", "127.0.0.1:*\", \"localhost:*\"")
    );
    let media = Media::new(&config(&rules)).unwrap();
    for (port, said) in
        [(signed_by_nobody, "TLS"), (plain, "TLS"), (mute, "connecting took longer than media.connect_timeout_ms")]
    {
        for host in ["127.0.0.1", "localhost"] {
            let error = fetch(&media, &format!("https://{host}:{port}/a")).await.unwrap_err();
            assert!(matches!(&error, MediaError::Transient(text) if text.contains(said)), "{host}:{port}: {error}");
        }
    }
    drop(listener);
}
