//! Pictures of items.

use astromech::index::ChangeBody;
use astromech_schemas::Kind;
use serde_json::json;

use super::support::{Server, expect_problem, picture};

async fn put(server: &Server, id: &str, image_url: Option<&str>) {
    let payload = image_url.map_or_else(|| json!({"title": "x"}), |url| json!({"title": "x", "image_url": url}));
    server.put(Kind::Image, id, Some("x"), None, payload).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_under_a_root_is_sent_with_the_type_of_its_bytes_and_once() {
    let server = Server::start().await;
    let bytes = picture("emoji-3896dd86ac");
    // The name lies: the type is told by the bytes.
    std::fs::write(server.root().join("唇 印.html"), &bytes).unwrap();
    put(&server, "图/片 1", Some("file:唇 印.html")).await;
    let path = "/v1/media/image/%E5%9B%BE%2F%E7%89%87%201";
    let answer = server.get(path).await;
    assert_eq!(answer.status(), 200);
    let headers = answer.headers().clone();
    assert_eq!(headers["content-type"], "image/jpeg");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert!(headers["content-security-policy"].to_str().unwrap().contains("sandbox"));
    assert_eq!(answer.bytes().await.unwrap(), bytes);
    let again = server.client.get(server.url(path)).header("if-none-match", &headers["etag"]).send().await.unwrap();
    assert_eq!(again.status(), 304);
    assert!(again.bytes().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_picture_or_lies_outside_is_not_sent() {
    let server = Server::start().await;
    let root = server.root();
    let outside = server.folder.path().join("outside.jpg");
    std::fs::write(&outside, picture("emoji-3896dd86ac")).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("link.jpg")).unwrap();
    std::fs::write(root.join("page.jpg"), "<!doctype html><script>alert(1)</script>").unwrap();
    std::fs::write(root.join("drawing.svg"), "<svg xmlns='x'/>").unwrap();
    let mut large = picture("emoji-3896dd86ac");
    large.resize(100_001, 0);
    std::fs::write(root.join("large.jpg"), large).unwrap();
    let absolute = format!("file://{}", outside.display());
    for url in [
        "file:link.jpg",
        "file:../outside.jpg",
        &absolute,
        "file:page.jpg",
        "file:drawing.svg",
        "file:large.jpg",
        "file:none.jpg",
        "data:text/html,x",
    ] {
        put(&server, url, Some(url)).await;
        let id = url.bytes().fold(String::new(), |path, byte| path + &format!("%{byte:02x}"));
        expect_problem(server.get(&format!("/v1/media/image/{id}")).await, 404, "not-found", &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_on_the_web_is_a_redirect() {
    let server = Server::start().await;
    put(&server, "web", Some("https://example.com/a b.jpg")).await;
    let answer = server.get("/v1/media/image/web").await;
    assert_eq!(answer.status(), 302);
    assert_eq!(answer.headers()["location"], "https://example.com/a%20b.jpg");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_item_no_picture_and_a_deleted_item_are_not_found() {
    let server = Server::start().await;
    put(&server, "inline", None).await;
    put(&server, "deleted", Some("https://example.com/a.jpg")).await;
    server.apply(Kind::Image, "deleted", 2, ChangeBody::Delete).await;
    expect_problem(server.get("/v1/media/image/inline").await, 404, "not-found", &["sent inside a record"]).await;
    expect_problem(server.get("/v1/media/image/deleted").await, 404, "not-found", &["no image of this id"]).await;
    expect_problem(server.get("/v1/media/article/inline").await, 404, "not-found", &["no article of this id"]).await;
    expect_problem(server.get("/v1/media/song/inline").await, 400, "invalid-request", &["kind: unknown kind `song`"]).await;
}
