//! A host that is down costs itself only: so many fetches at a time, none for a while after so many failures, and all of it may pass.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use astromech::config::Config;
use astromech::media::{Media, MediaError};
use astromech::vitals::Metrics;
use astromech_schemas::ImageSource;

use super::support::{Answer, LOCAL, Server, config, fetch, ok, status};

/// Longest wait for a condition before the test fails.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_host_that_fails_is_left_alone_while_another_is_fetched_and_is_tried_again_after_its_pause() {
    let bad = Server::start(&[("/500", status(500)), ("/a", ok("picture"))]).await;
    let good = Server::start(&[("/a", ok("picture"))]).await;
    let metrics = Arc::new(Metrics::new());
    let media = Media::new(&config(&format!("{LOCAL}host_failures_max = 3\nhost_pause_ms = 300\n"))).unwrap().measured(&metrics);
    for _ in 0..3 {
        assert!(matches!(fetch(&media, &bad.url("/500")).await, Err(MediaError::Transient(_))));
    }
    let paused = fetch(&media, &bad.url("/a")).await.unwrap_err();
    let MediaError::HostPaused { detail, wait } = &paused else { panic!("{paused:?}") };
    assert!(detail.contains("failed 3 times in a row") && *wait <= Duration::from_millis(300), "{paused}");
    assert_eq!(paused.reason(), None, "no dead letter");
    assert_eq!(bad.hits.load(Ordering::SeqCst), 3, "nobody knocks meanwhile");
    assert!(metrics.encode().contains("astromech_media_host_pauses_total 1\n"));
    assert_eq!(fetch(&media, &good.url("/a")).await, Ok(b"picture".to_vec()));
    let began = Instant::now();
    while let Err(error) = fetch(&media, &bad.url("/a")).await {
        let MediaError::HostPaused { wait, .. } = error else { panic!("{error}") };
        assert!(began.elapsed() < DEADLINE, "never tried again");
        tokio::time::sleep(wait).await;
    }
    assert_eq!(fetch(&media, &bad.url("/a")).await, Ok(b"picture".to_vec()));
}

#[tokio::test]
async fn refusals_are_answers_and_never_pause_a_host() {
    let server = Server::start(&[("/403", status(403)), ("/a", ok("picture"))]).await;
    let media = Media::new(&config(&format!("{LOCAL}host_failures_max = 2\nhost_pause_ms = 60000\n"))).unwrap();
    for path in ["/403", "/404", "/403", "/404"] {
        assert!(fetch(&media, &server.url(path)).await.unwrap_err().reason().is_some(), "{path}");
    }
    assert_eq!(fetch(&media, &server.url("/a")).await, Ok(b"picture".to_vec()));
}

#[tokio::test]
async fn a_host_that_hangs_holds_its_own_places_only() {
    let hanging = Server::start(&[("/a", Answer::Silent)]).await;
    let good = Server::start(&[("/a", ok("picture"))]).await;
    let media = Arc::new(Media::new(&config(&format!("{LOCAL}host_in_flight_max = 2\ntimeout_ms = 60000\n"))).unwrap());
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (media, url) = (Arc::clone(&media), hanging.url("/a"));
        waiting.spawn(async move { fetch(&media, &url).await.map(drop) });
    }
    let began = Instant::now();
    while hanging.hits.load(Ordering::SeqCst) < 2 {
        assert!(began.elapsed() < DEADLINE, "two connect");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let third = media.turn(ImageSource::from_url(hanging.url("/a")));
    assert!(tokio::time::timeout(Duration::from_millis(100), third).await.is_err(), "the third waits");
    assert_eq!(hanging.hits.load(Ordering::SeqCst), 2);
    assert_eq!(fetch(&media, &good.url("/a")).await, Ok(b"picture".to_vec()));
    waiting.shutdown().await;
}

#[tokio::test]
async fn only_a_proxy_of_the_configuration_is_used_and_the_rules_hold_through_it() {
    // Plain http through a proxy asks it for the whole address.
    let target = "http://pictures.example.com/a";
    let proxy = Server::start(&[(target, ok("through the proxy"))]).await;
    let settings =
        |more: &str| config(&format!("http_hosts = [\".example.com\"]\nconnect_timeout_ms = 100\ntimeout_ms = 2000\n{more}"));
    let media = Media::new(&settings(&format!("proxy = \"http://127.0.0.1:{}\"", proxy.address.port()))).unwrap();
    assert_eq!(fetch(&media, target).await, Ok(b"through the proxy".to_vec()));
    for url in
        ["http://example.org/a", "http://pictures.example.com:8080/a", "http://127.0.0.1/a", "http://user@pictures.example.com/a"]
    {
        assert!(matches!(fetch(&media, url).await, Err(MediaError::Forbidden(_))), "{url}");
    }
    assert_eq!(proxy.hits.load(Ordering::SeqCst), 1);
}

#[test]
fn a_proxy_with_a_password_is_refused_and_not_repeated() {
    let text = "[bundle]\npath = \"b\"\n[index.embedded]\npath = \"i\"\n[media]\nproxy = \"http://me:hush-hush@proxy:3128\"\n";
    let said = Config::parse(text, std::path::Path::new("/"), &|_| None).unwrap_err();
    let said = format!("{said:?}");
    assert!(said.contains("media.proxy") && !said.contains("hush-hush"), "{said}");
}

/// The variables are set for a process of its own: this test's own binary, with this test's name, because a process that has threads must
/// not change its environment.
#[test]
fn a_proxy_that_the_environment_names_is_ignored() {
    const INSIDE: &str = "ASTROMECH_TEST_PROXY_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::start(&[("/a", ok("direct"))]).await;
            let media = Media::new(&config(LOCAL)).unwrap();
            assert_eq!(fetch(&media, &server.url("/a")).await, Ok(b"direct".to_vec()));
        });
        return;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "hosts::a_proxy_that_the_environment_names_is_ignored"]).env(INSIDE, "1");
    // Nobody listens on port 1: whoever asked a proxy there would fail.
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        command.env(name, "http://127.0.0.1:1");
    }
    let output = command.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
