//! The website, the portal's doors, and WebDAV's verbs.

use hmac::{Hmac, KeyInit, Mac};
use reqwest::multipart::{Form, Part};
use stackpro_protocol::agent::{PortalLink, StackSpec};

use crate::support::*;

/// Signs in with the password; gives the cookie.
pub(crate) async fn sign_in(agent: &TestAgent, spec: &StackSpec) -> String {
    let form = post(agent, spec, "/portal/sign-in", &[("password", PASSWORD)]);
    cookie(form.send().await.unwrap())
}

fn cookie(answer: reqwest::Response) -> String {
    assert_eq!(answer.status(), 303);
    let set = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax") && !set.contains("Domain"), "{set}");
    set.split(';').next().unwrap().to_owned()
}

fn post(agent: &TestAgent, spec: &StackSpec, path: &str, fields: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let origin = format!("http://{}", spec.hosts[0]);
    agent.visit("POST", &spec.hosts[0], path).header("origin", origin).form(fields)
}

fn link(spec: &StackSpec, expires: i64) -> String {
    let key: Vec<u8> =
        (0..PORTAL_KEY.len()).step_by(2).map(|at| u8::from_str_radix(&PORTAL_KEY[at..at + 2], 16).unwrap()).collect();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
    mac.update(PortalLink::message(&spec.client_id, expires).as_bytes());
    let signature = mac.finalize().into_bytes().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    format!("/portal/enter?expires={expires}&signature={signature}")
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[tokio::test]
async fn the_portal_opens_by_password_and_by_a_link_once() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start(&server).await;
    let spec = spec("acme-law-7f3k");
    agent.put_stack(&spec).await;
    let host = &spec.hosts[0];
    let open = async |cookie: &str| {
        agent.visit("GET", host, "/portal/").header("cookie", cookie).send().await.unwrap().status()
    };
    assert_eq!(open("portal=").await, 401);
    let by_password = sign_in(&agent, &spec).await;
    assert_eq!(open(&by_password).await, 200);

    let good = link(&spec, now() + 30);
    let by_link = cookie(agent.visit("GET", host, &good).send().await.unwrap());
    assert_eq!(open(&by_link).await, 200);
    let other = StackSpec { client_id: "other-client".parse().unwrap(), ..spec.clone() };
    for bad in [&good, &link(&spec, now() - 1), &link(&spec, now() + 100), &link(&other, now() + 30), "/portal/enter"] {
        assert_eq!(agent.visit("GET", host, bad).send().await.unwrap().status(), 403, "{bad}");
    }
    agent.kill();
    agent.restart().await;
    assert_eq!(open(&by_link).await, 200, "a session outlives a restart");
    assert_eq!(agent.visit("GET", host, &good).send().await.unwrap().status(), 403, "and so does a used link");
    let out = post(&agent, &spec, "/portal/sign-out", &[]).header("cookie", &by_link).send().await.unwrap();
    assert_eq!(out.status(), 303);
    assert_eq!(open(&by_link).await, 401);
}

#[tokio::test]
async fn forms_from_elsewhere_and_guesses_are_refused() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start(&server).await;
    let spec = spec("acme-law-7f3k");
    agent.put_stack(&spec).await;
    let cookie = sign_in(&agent, &spec).await;
    for origin in ["http://evil.localhost", "null"] {
        let form =
            agent.visit("POST", &spec.hosts[0], "/portal/folder").header("cookie", &cookie).header("origin", origin);
        assert_eq!(form.form(&[("to", "files"), ("name", "x")]).send().await.unwrap().status(), 403);
    }
    let unsigned = post(&agent, &spec, "/portal/folder", &[("to", "files"), ("name", "x")]).send().await.unwrap();
    assert_eq!(unsigned.status(), 303);
    assert_eq!(agent.status(&spec).await.usage.files, 0);
    assert!(!agent.folder(&spec).join("data/files/x").exists());
    for _ in 0..10 {
        let guess = post(&agent, &spec, "/portal/sign-in", &[("password", "guess")]).send().await.unwrap();
        assert_eq!(guess.status(), 401);
    }
    let guess = post(&agent, &spec, "/portal/sign-in", &[("password", PASSWORD)]).send().await.unwrap();
    assert_eq!(guess.status(), 429);
    assert!(guess.headers().contains_key("retry-after"));
    assert_eq!(agent.dav("GET", &spec, "/dav/files/").send().await.unwrap().status(), 429);
}

#[tokio::test]
async fn files_come_and_go_by_forms() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start(&server).await;
    let mut spec = spec("acme-law-7f3k");
    spec.notice = Some("Your trial <ends> soon".into());
    agent.put_stack(&spec).await;
    let cookie = sign_in(&agent, &spec).await;
    let get =
        async |path: &str| agent.visit("GET", &spec.hosts[0], path).header("cookie", &cookie).send().await.unwrap();
    let send = async |path: &str, fields: &[(&str, &str)]| {
        post(&agent, &spec, path, fields).header("cookie", &cookie).send().await.unwrap().status()
    };
    assert_eq!(send("/portal/folder", &[("to", "files"), ("name", "Fälle & <Akten>")]).await, 303);
    assert_eq!(send("/portal/folder", &[("to", "files"), ("name", "Fälle & <Akten>")]).await, 409);
    for bad in ["..", "a/b", "", "a\nb"] {
        assert_eq!(send("/portal/folder", &[("to", "files"), ("name", bad)]).await, 400, "{bad:?}");
    }
    let folder = "files/Fälle & <Akten>";
    let part = |name: &str, text: &str| Part::text(text.to_owned()).file_name(name.to_owned());
    let form = Form::new()
        .text("to", folder)
        .part("file", part("a 1.html", "<script>one</script>"))
        .part("file", part("b.txt", "two"));
    let upload = agent.visit("POST", &spec.hosts[0], "/portal/upload").header("cookie", &cookie);
    let upload = upload.header("origin", format!("http://{}", spec.hosts[0])).multipart(form).send().await.unwrap();
    assert_eq!(upload.status(), 303);
    let listing = text(get(upload.headers()["location"].to_str().unwrap()).await).await;
    assert!(listing.contains("a 1.html") && listing.contains("b.txt") && listing.contains("Uploaded"), "{listing}");
    assert!(!listing.contains("<Akten>") && !listing.contains("<ends>") && listing.contains("Your trial"), "{listing}");

    let file = get("/portal/file/files/F%C3%A4lle%20%26%20%3CAkten%3E/a%201.html").await;
    assert!(file.headers()["content-disposition"].to_str().unwrap().starts_with("attachment"));
    assert!(file.headers()["content-security-policy"].to_str().unwrap().contains("sandbox"));
    assert_eq!(text(file).await, "<script>one</script>");
    for outside in [
        "/portal/file/files/../../stack.json",
        "/portal/file/files/%2e%2e/%2e%2e/stack.json",
        "/portal/?path=files/../..",
    ] {
        assert_eq!(get(outside).await.status(), 404, "{outside}");
    }
    assert!(
        text(get("/portal/remove?path=files%2FF%C3%A4lle%20%26%20%3CAkten%3E").await)
            .await
            .contains("everything in it")
    );
    assert_eq!(send("/portal/remove", &[("path", "files")]).await, 400);
    assert_eq!(send("/portal/remove", &[("path", folder)]).await, 303);
    assert_eq!(agent.status(&spec).await.usage.files, 0);
}

#[tokio::test]
async fn the_website_is_what_the_folder_holds() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start(&server).await;
    let spec = spec("acme-law-7f3k");
    agent.put_stack(&spec).await;
    let get = async |path: &str| agent.visit("GET", &spec.hosts[0], path).send().await.unwrap();
    assert_eq!(agent.dav("MKCOL", &spec, "/dav/site/shop").send().await.unwrap().status(), 201);
    for (path, content) in [("index.html", "home"), ("shop/index.html", "shop"), ("style.css", "0123456789")] {
        assert_eq!(agent.store(&spec, &format!("/dav/site/{path}"), content).await, 201);
    }
    let home = get("/").await;
    assert_eq!(home.headers()["content-type"], "text/html; charset=utf-8");
    let tag = home.headers()["etag"].to_str().unwrap().to_owned();
    let date = home.headers()["last-modified"].to_str().unwrap().to_owned();
    assert_eq!(text(home).await, "home");
    let again = |name: &str, value: &str| agent.visit("GET", &spec.hosts[0], "/").header(name, value).send();
    assert_eq!(again("if-none-match", &tag).await.unwrap().status(), 304);
    assert_eq!(again("if-modified-since", &date).await.unwrap().status(), 304);
    assert_eq!(again("if-none-match", "\"other\"").await.unwrap().status(), 200);
    let part = agent.visit("GET", &spec.hosts[0], "/style.css").header("range", "bytes=2-4").send().await.unwrap();
    assert_eq!((part.status().as_u16(), part.headers()["content-range"].to_str().unwrap()), (206, "bytes 2-4/10"));
    assert_eq!(text(part).await, "234");
    assert_eq!(get("/shop").await.headers()["location"], "/shop/");
    assert_eq!(get("//shop").await.headers()["location"], "/shop/");
    assert_eq!(text(get("/shop/").await).await, "shop");
    assert_eq!(get("/none").await.status(), 404);
    let put = agent.visit("PUT", &spec.hosts[0], "/index.html").body("x").send().await.unwrap();
    assert_eq!(put.status(), 405);
    let head = agent.visit("HEAD", &spec.hosts[0], "/style.css").send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "10");
}

#[tokio::test]
async fn webdav_speaks_its_verbs() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start(&server).await;
    let spec = spec("acme-law-7f3k");
    agent.put_stack(&spec).await;
    let stranger = agent.visit("PROPFIND", &spec.hosts[0], "/dav/files/").send().await.unwrap();
    assert_eq!(stranger.status(), 401);
    assert!(stranger.headers().contains_key("www-authenticate"));
    let to = |path: &str| format!("http://{}/dav{path}", spec.hosts[0]);
    let ask = async |verb: &str, path: &str, to: &str| {
        agent.dav(verb, &spec, path).header("destination", to).send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("MKCOL", "/dav/files/a", "").await, 201);
    assert_eq!(ask("MKCOL", "/dav/files/a", "").await, 405);
    assert_eq!(ask("MKCOL", "/dav/files/no/b", "").await, 409);
    assert_eq!(ask("MKCOL", "/dav/other", "").await, 403);
    assert_eq!(agent.store(&spec, "/dav/files/a/x", "x").await, 201);
    assert_eq!(agent.store(&spec, "/dav/x", "x").await, 403);
    assert_eq!(ask("COPY", "/dav/files/a", &to("/files/b")).await, 201);
    assert_eq!(ask("MOVE", "/dav/files/b", &to("/files/c")).await, 201);
    assert_eq!(ask("MOVE", "/dav/files/c/x", &to("/files/a/x")).await, 204);
    assert_eq!(ask("MOVE", "/dav/files/a", &to("/files/a/b")).await, 403);
    assert_eq!(ask("DELETE", "/dav/files/c", "").await, 204);
    // What cannot be done changes nothing.
    let impossible = [("DELETE", "/dav/files", ""), ("DELETE", "/dav/", ""), ("MOVE", "/dav/files", "/site/f")];
    let over = [
        ("MOVE", "/dav/files/a/x", "/files/a"),
        ("COPY", "/dav/files/a/x", "/files"),
        ("COPY", "/dav/files/a", "/files/a/b"),
    ];
    for (verb, path, over) in impossible.into_iter().chain(over) {
        assert_eq!(ask(verb, path, &to(over)).await, 403, "{verb} {path} {over}");
    }
    let found = agent.dav("PROPFIND", &spec, "/dav/").header("depth", "1").send().await.unwrap();
    assert_eq!(found.status(), 207);
    let found = text(found).await;
    assert!(found.contains("/dav/files/") && found.contains("/dav/site/"), "{found}");
    assert_eq!(ask("PATCH", "/dav/files/a/x", "").await, 405);
    let usage = agent.status(&spec).await.usage;
    assert_eq!((usage.files, usage.storage_bytes), (1, 1));
}
