use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::HOST;
use stackpro_cloud::local::LocalCloud;
use stackpro_cloud::{Link, LinkUse};
use stackpro_domain::time::DAY;

use super::{Home, tags};

const MINUTE: Duration = Duration::from_mins(1);

/// As a browser sends it, through the edge.
async fn follow(local: &LocalCloud, link: &Link, body: &'static str) -> (StatusCode, String) {
    let (host, path) = link.url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut request = Request::builder().method(link.method.as_str()).uri(format!("/{path}")).header(HOST, host);
    for (name, value) in &link.headers {
        request = request.header(name, value);
    }
    let request = request.body(Body::from(body)).unwrap();
    assert!(local.is_for_storage(request.headers()), "{host}");
    let answer = local.serve_storage(request).await;
    let status = answer.status();
    (status, String::from_utf8(to_bytes(answer.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap())
}

fn put(content_length: u64) -> LinkUse {
    LinkUse::Put { content_type: "text/plain".into(), content_length }
}

#[tokio::test]
async fn a_link_is_good_for_what_it_says_and_for_its_time() {
    let home = Home::new();
    let buckets = home.local.cloud().buckets;
    buckets.create("stackpro-acme", &tags("r")).await.unwrap();
    let key = "files/Müller & Söhne?.txt";
    let get = buckets.link("stackpro-acme", key, &LinkUse::Get, MINUTE).await.unwrap();
    assert_eq!(follow(&home.local, &get, "").await.0, StatusCode::NOT_FOUND);

    let five = buckets.link("stackpro-acme", key, &put(5), MINUTE).await.unwrap();
    assert_eq!(follow(&home.local, &five, "hello").await.0, StatusCode::OK);
    assert_eq!(follow(&home.local, &five, "hullo").await.0, StatusCode::OK);
    // Another process, and the newest version.
    assert_eq!(follow(&home.again(), &get, "").await, (StatusCode::OK, "hullo".into()));

    for body in ["four", "sixsix", ""] {
        assert_eq!(follow(&home.local, &five, body).await.0, StatusCode::BAD_REQUEST, "{body}");
    }
    let mut other = five.clone();
    other.headers[0].1 = "text/html".into();
    assert_eq!(follow(&home.local, &other, "hello").await.0, StatusCode::FORBIDDEN);
    for (from, to) in [
        ("method=PUT", "method=GET"),
        ("length=5", "length=6"),
        ("stackpro-acme", "stackpro-beta"),
        ("files", "backups"),
    ] {
        let mut other = five.clone();
        other.url = other.url.replace(from, to);
        assert_ne!(other.url, five.url);
        assert_eq!(follow(&home.local, &other, "hello").await.0, StatusCode::FORBIDDEN, "{to}");
    }
    let mut as_get = five.clone();
    as_get.method = "GET".into();
    assert_eq!(follow(&home.local, &as_get, "").await.0, StatusCode::FORBIDDEN);
    let late = buckets.link("stackpro-acme", key, &LinkUse::Get, Duration::ZERO).await.unwrap();
    assert_eq!(follow(&home.local, &late, "").await.0, StatusCode::FORBIDDEN);
    // The business's clock has nothing to do with it.
    home.local.clock().advance(DAY).unwrap();
    assert_eq!(follow(&home.local, &get, "").await, (StatusCode::OK, "hullo".into()));

    buckets.delete("stackpro-acme", "r").await.unwrap();
    assert_eq!(follow(&home.local, &get, "").await.0, StatusCode::FORBIDDEN);
    assert!(buckets.credentials("stackpro-acme", MINUTE).await.unwrap().is_none());
}

#[tokio::test]
async fn old_versions_go_after_a_month() {
    let home = Home::new();
    let buckets = home.local.cloud().buckets;
    buckets.create("stackpro-acme", &tags("r")).await.unwrap();
    let link = buckets.link("stackpro-acme", "files/a", &put(1), MINUTE).await.unwrap();
    let versions = || {
        let objects = home.local.folder().join("buckets/stackpro-acme/objects");
        let folder = std::fs::read_dir(objects).unwrap().next().unwrap().unwrap().path();
        super::names(&folder).len() / 2
    };
    for (body, days, kept) in [("a", 0, 1), ("b", 20, 2), ("c", 20, 3), ("d", 11, 3)] {
        home.local.clock().advance(days * DAY).unwrap();
        assert_eq!(follow(&home.local, &link, body).await.0, StatusCode::OK);
        assert_eq!(versions(), kept, "after {body}");
    }
}
