//! What runs in containers, sold and moved: `./test recipes` brings the engine.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use stackpro_testkit::wordpress::{Load, Outcome, WordPress, Written, dump, rows};
use stackpro_testkit::{Engine, PASSWORD, Person, TestApp, eventually};

use crate::product;
use crate::travel::gone;

/// Everything at the engine goes with the test, also when it fails.
struct Cleared(String);

impl Drop for Cleared {
    fn drop(&mut self) {
        Engine::remove(&self.0);
    }
}

/// Programs take longer to start than a folder of files.
async fn becomes(app: &TestApp, person: &Person, kind: &str) -> Value {
    eventually(&format!("ready on a {kind} instance"), Duration::from_mins(5), async || {
        let deployment = app.deployment(person).await;
        (deployment["status"] == "ready" && deployment["deploymentType"] == kind).then_some(deployment)
    })
    .await
}

/// The container of the client's database, where it is served from now.
fn database_of(app: &TestApp, person: &Person) -> String {
    let shown = app.command_json(&["clients", "show", &person.client, "--json"]);
    let instance = shown["instance"]["cloudId"].as_str().unwrap_or_else(|| panic!("no instance: {shown}"));
    Engine::container(&person.client, instance, "db")
}

/// Nothing failed, writes waited as long as they were held, and all that was acknowledged is there: in the database,
/// on its page, and byte by byte.
async fn check(
    app: &TestApp,
    person: &Person,
    blog: &WordPress,
    (before, database): (Written, String),
    (outcome, certificate): (Outcome, &Value),
) {
    let Outcome { reads, failed_reads, longest_read, longest_write, mut written } = outcome;
    assert_eq!(failed_reads, Vec::<String>::new(), "failed reads of {reads}");
    let held = Duration::from_millis(certificate["heldMs"].as_u64().expect("a hold"));
    assert!(longest_write > held / 2, "writes were held for {held:?}, and none took longer than {longest_write:?}");
    written.push(before);
    let (mut posts, mut files) = (0, 0);
    let now = dump(&database_of(app, person)).expect("a dump");
    let kept = rows(&now, "wp_posts");
    for writer in &written {
        assert_eq!(writer.failed, Vec::<String>::new(), "failed writes");
        assert!(writer.posts.len() > 2 && writer.files.len() > 2);
        for (id, title) in &writer.posts {
            let row = kept.iter().find(|row| row.starts_with(&format!("({id},")));
            assert!(row.is_some_and(|row| row.contains(title.as_str())), "post {id}, {title}: {row:?}");
            let page = blog.request(Method::GET, &format!("/?p={id}")).send().await.unwrap().text().await.unwrap();
            assert!(page.contains(title.as_str()), "the page of post {id}, {title}: {page}");
        }
        for (path, content) in &writer.files {
            let answer = blog.request(Method::GET, path).send().await.unwrap();
            assert!(answer.bytes().await.unwrap() == content.as_slice(), "{path}");
        }
        (posts, files) = (posts + writer.posts.len(), files + writer.files.len());
    }
    for table in ["wp_posts", "wp_postmeta", "wp_users", "wp_terms"] {
        let (before, after) = (rows(&database, table), rows(&now, table));
        assert!(!before.is_empty() && before.is_subset(&after), "{table}: {:?}", before.difference(&after).next());
    }
    println!("{reads} reads, {posts} posts, {files} files; the longest took {longest_read:?} and {longest_write:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wordpress_from_a_sign_up_to_an_instance_of_its_own() {
    let app = product()
        .env("STACKPRO_RECIPES", "[\"wordpress\"]")
        .env("STACKPRO_ENGINE", Engine::socket().display())
        .env("STACKPRO_COMPOSE", Engine::compose().display())
        .start()
        .await;
    let person = app.sign_up("Acme Law & Söhne").await;
    let label = format!("com.stackpro.client={}", person.client);
    let _cleared = Cleared(label.clone());
    let ready = becomes(&app, &person, "shared").await;
    let site = ready["url"].as_str().unwrap().to_owned();
    let page = app.at_host(Method::GET, &site, "/").send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Söhne"), "{page}");
    // The owner's account is theirs: the dashboard says where, as whom and by which password.
    let browser = app.browser();
    browser.log_in(&person.email, PASSWORD).await;
    let dashboard = browser.page(&format!("/dashboard/{}", person.client)).await;
    assert!(dashboard.contains("Sign in at WordPress") && dashboard.contains("/wp-login.php"), "{dashboard}");
    assert!(!dashboard.contains("Open file portal"), "there is none");
    let credentials = browser.portal(&person.client).await;
    assert_eq!(credentials.user, "admin");
    let host = site.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let blog = WordPress { http: app.http().clone(), base: app.url(""), host, password: credentials.password };
    let author = blog.sign_in().await;
    let mut before = Written::default();
    for n in 0..10 {
        author.write(&format!("written before {n}"), 200_000, &mut before).await;
    }
    let database = dump(&database_of(&app, &person)).expect("a dump");
    // They pay, and everybody goes on meanwhile, by the public name.
    let load = Load::start(&blog, 4, 2).await;
    app.pay(&person, "starter").await;
    let moved = becomes(&app, &person, "dedicated").await;
    let outcome = load.end().await;
    let certificate = &moved["certificate"];
    check(&app, &person, &blog, (before, database), (outcome, certificate)).await;
    assert_eq!(moved["url"], ready["url"], "the address stays");
    println!("moved: {certificate}");
    assert_eq!(certificate["sourceHash"], certificate["copyHash"]);
    let page = app.at_host(Method::GET, &site, "/").send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Söhne"), "{page}");
    eventually("the old place is released", Duration::from_mins(1), async || {
        (Engine::containers(&label).len() == 2).then_some(())
    })
    .await;
    let said = app.command(&["clients", "delete", &person.client, "--yes"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    gone(&app, &person.client).await;
    assert_eq!((Engine::containers(&label), Engine::networks(&label)), (vec![], vec![]));
}
