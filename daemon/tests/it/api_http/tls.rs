//! HTTPS: real handshakes of a real client.

use std::path::Path;

use astromech::api::Limits;
use astromech::config::HttpConfig;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use reqwest::{Certificate, Client, Identity};

use super::support::{Server, towers};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key of `name`, PEM.
fn issue(by: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, by).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn write(folder: &Path, (certificate, key): &(String, String)) {
    std::fs::write(folder.join("certificate.pem"), certificate).unwrap();
    std::fs::write(folder.join("key.pem"), key).unwrap();
}

fn settings(folder: &Path) -> String {
    let file = |name: &str| serde_json::Value::from(folder.join(name).to_str().unwrap());
    format!("[http.tls]\ncertificate_file = {}\nkey_file = {}\n", file("certificate.pem"), file("key.pem"))
}

fn client(trusted: &Authority, identity: Option<&(String, String)>) -> Client {
    let root = Certificate::from_pem(trusted.pem().as_bytes()).unwrap();
    let builder = Client::builder().no_proxy().tls_certs_only([root]).pool_max_idle_per_host(0);
    let identity = identity.map(|(certificate, key)| Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap());
    identity.into_iter().fold(builder, reqwest::ClientBuilder::identity).build().unwrap()
}

async fn health(client: &Client, server: &Server, scheme: &str) -> Result<u16, String> {
    let url = format!("{scheme}://localhost:{}/healthz", server.address.port());
    client.get(url).send().await.map(|response| response.status().as_u16()).map_err(|e| format!("{e:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn https_is_served_and_nothing_else_and_a_renewed_certificate_without_a_restart_but_a_broken_one_never() {
    let towers = towers();
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (authority("old"), authority("new"));
    write(folder.path(), &issue(&old, "localhost"));
    let server = Server::start_configured(towers, Limits::default(), &settings(folder.path())).await;
    let (of_old, of_new) = (client(&old, None), client(&new, None));
    assert_eq!(health(&of_old, &server, "https").await, Ok(200));
    assert!(health(&of_new, &server, "https").await.unwrap_err().contains("UnknownIssuer"), "another authority");
    assert!(health(&of_old, &server, "http").await.is_err(), "plain HTTP has no answer");

    let tls = server.tls.clone().unwrap();
    assert!(!tls.reload().unwrap(), "nothing changed");
    let (certificate, _) = issue(&new, "localhost");
    std::fs::write(folder.path().join("certificate.pem"), &certificate).unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("http.tls.certificate_file") && error.contains("http.tls.key_file"), "{error}");
    std::fs::write(folder.path().join("key.pem"), "-----BEGIN PRIVATE KEY-----\nsecret\n").unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("http.tls.key_file: ") && error.contains("fix: ") && !error.contains("secret"), "{error}");
    assert_eq!(health(&of_old, &server, "https").await, Ok(200), "the one before is served");

    write(folder.path(), &issue(&new, "localhost"));
    assert!(tls.reload().unwrap());
    assert_eq!(health(&of_new, &server, "https").await, Ok(200));
    assert!(health(&of_old, &server, "https").await.is_err());
    let from_other_name = issue(&new, "elsewhere");
    write(folder.path(), &from_other_name);
    assert!(tls.reload().unwrap());
    assert!(health(&of_new, &server, "https").await.unwrap_err().contains("NotValidForName"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_clients_must_show_a_certificate_only_those_of_the_named_authority_are_answered() {
    let towers = towers();
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (authority("ours"), authority("others"));
    write(folder.path(), &issue(&ours, "localhost"));
    let ca = folder.path().join("clients.pem");
    std::fs::write(&ca, ours.pem()).unwrap();
    let settings = format!("{}client_ca_file = {}\n", settings(folder.path()), serde_json::Value::from(ca.to_str().unwrap()));
    let server = Server::start_configured(towers, Limits::default(), &settings).await;
    assert_eq!(health(&client(&ours, Some(&issue(&ours, "caller"))), &server, "https").await, Ok(200));
    for stranger in [client(&ours, None), client(&ours, Some(&issue(&others, "caller")))] {
        assert!(health(&stranger, &server, "https").await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_begins_no_handshake_is_cut_off_after_the_time_for_headers() {
    use tokio::io::AsyncReadExt as _;
    let towers = towers();
    let folder = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    write(folder.path(), &issue(&ours, "localhost"));
    let limits = Limits {
        http: HttpConfig { read_timeout: std::time::Duration::from_millis(300), ..HttpConfig::default() },
        ..Limits::default()
    };
    let server = Server::start_configured(towers, limits, &settings(folder.path())).await;
    let mut silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), silent.read(&mut [0; 16])).await;
    assert!(matches!(ended.expect("cut off"), Ok(0) | Err(_)));
    assert_eq!(health(&client(&ours, None), &server, "https").await, Ok(200));
}
