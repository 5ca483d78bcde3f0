//! A WordPress as its owner and its visitors use it, while other things happen to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use reqwest::header::{COOKIE, HOST, SET_COOKIE};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::Engine;

/// Where a WordPress is reached, by which name, and its first account's password.
#[derive(Clone, Debug)]
pub struct WordPress {
    pub http: Client,
    /// `http://127.0.0.1:8080`
    pub base: String,
    pub host: String,
    pub password: String,
}

/// Someone who is signed in there.
pub struct Author {
    site: WordPress,
    cookies: String,
    nonce: String,
}

/// What was acknowledged: posts with their titles, files with their contents; and what failed.
#[derive(Default)]
pub struct Written {
    pub posts: Vec<(u64, String)>,
    pub files: Vec<(String, Vec<u8>)>,
    pub failed: Vec<String>,
}

/// What became of a [`Load`].
pub struct Outcome {
    pub reads: u64,
    pub failed_reads: Vec<String>,
    pub longest_read: Duration,
    pub longest_write: Duration,
    /// One for each writer.
    pub written: Vec<Written>,
}

/// Readers and writers that go on until they are ended. Every answer counts.
pub struct Load {
    stop: Arc<AtomicBool>,
    longest: Arc<[AtomicU64; 2]>,
    reads: Vec<JoinHandle<(u64, Vec<String>)>>,
    writes: Vec<JoinHandle<Written>>,
}

impl WordPress {
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).header(HOST, &self.host)
    }

    /// Signs in, and gets what the REST API wants of a browser.
    pub async fn sign_in(&self) -> Author {
        let form = [("log", "admin"), ("pwd", &self.password), ("wp-submit", "Log In"), ("testcookie", "1")];
        let sign_in = self.request(Method::POST, "/wp-login.php");
        let sign_in = sign_in.header(COOKIE, "wordpress_test_cookie=WP%20Cookie%20check").form(&form);
        let answer = sign_in.send().await.expect("an answer to the log-in");
        assert_eq!(answer.status(), 302, "signed in");
        let cookies = answer.headers().get_all(SET_COOKIE).iter().filter_map(|cookie| cookie.to_str().ok());
        let cookies: Vec<&str> = cookies.filter_map(|cookie| cookie.split(';').next()).collect();
        let cookies = cookies.join("; ");
        let nonce = self.request(Method::GET, "/wp-admin/admin-ajax.php?action=rest-nonce").header(COOKIE, &cookies);
        let nonce = nonce.send().await.expect("an answer").text().await.expect("a nonce");
        assert!(nonce.len() == 10, "{nonce}");
        Author { site: self.clone(), cookies, nonce }
    }

    /// Asks for a page until `stop`; a page that leads elsewhere is one, too.
    async fn read(self, path: &str, stop: Arc<AtomicBool>, longest: Arc<[AtomicU64; 2]>) -> (u64, Vec<String>) {
        let (mut count, mut failed, start) = (0, Vec::new(), Instant::now());
        while !stop.load(SeqCst) {
            let began = Instant::now();
            match page(self.request(Method::GET, path)).await {
                Ok(()) => count += 1,
                Err(cause) => failed.push(format!("{path} at {} ms, in {} ms: {cause}", ms(start), ms(began))),
            }
            longest[0].fetch_max(ms(began), SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (count, failed)
    }
}

impl Author {
    fn post(&self, what: &str) -> RequestBuilder {
        let post = self.site.request(Method::POST, &format!("/index.php?rest_route=/wp/v2/{what}"));
        post.header(COOKIE, &self.cookies).header("x-wp-nonce", &self.nonce)
    }

    /// The number of a new post, once it is acknowledged.
    pub async fn publish(&self, title: &str) -> Result<u64, String> {
        let post = self.post("posts").json(&json!({ "title": title, "content": title, "status": "publish" }));
        let body = created(post).await?;
        body["id"].as_u64().ok_or_else(|| body.to_string())
    }

    /// The path of an uploaded file, once it is acknowledged.
    pub async fn upload(&self, name: &str, content: Vec<u8>) -> Result<String, String> {
        let disposition = format!("attachment; filename=\"{name}\"");
        let upload =
            self.post("media").header("content-disposition", disposition).header("content-type", "application/pdf");
        let body = created(upload.body(content)).await?;
        let path = body["source_url"].as_str().and_then(|url| url.splitn(4, '/').nth(3));
        path.map(|path| format!("/{path}")).ok_or_else(|| body.to_string())
    }

    /// A post and a file of so many bytes.
    pub async fn write(&self, name: &str, bytes: usize, written: &mut Written) {
        match self.publish(name).await {
            Ok(id) => written.posts.push((id, name.to_owned())),
            Err(error) => written.failed.push(error),
        }
        let content = pdf(name, bytes);
        match self.upload(&format!("{}.pdf", name.replace(' ', "-")), content.clone()).await {
            Ok(path) => written.files.push((path, content)),
            Err(error) => written.failed.push(error),
        }
    }
}

impl Load {
    pub async fn start(site: &WordPress, readers: usize, writers: usize) -> Self {
        const PATHS: [&str; 4] = ["/", "/?p=1", "/wp-includes/css/dashicons.min.css", "/wp-login.php"];
        let (stop, longest) = (Arc::new(AtomicBool::new(false)), Arc::new([const { AtomicU64::new(0) }; 2]));
        let mut load = Self { stop, longest, reads: Vec::new(), writes: Vec::new() };
        for path in (0..readers).map(|reader| PATHS[reader % PATHS.len()]) {
            let read = site.clone().read(path, Arc::clone(&load.stop), Arc::clone(&load.longest));
            load.reads.push(tokio::spawn(read));
        }
        for writer in 0..writers {
            let (author, stop, longest) = (site.sign_in().await, Arc::clone(&load.stop), Arc::clone(&load.longest));
            load.writes.push(tokio::spawn(async move {
                let mut written = Written::default();
                for n in 0.. {
                    if stop.load(SeqCst) {
                        break;
                    }
                    let began = Instant::now();
                    author.write(&format!("writer {writer} number {n}"), 20_000, &mut written).await;
                    longest[1].fetch_max(ms(began), SeqCst);
                }
                written
            }));
        }
        load
    }

    pub async fn end(self) -> Outcome {
        self.stop.store(true, SeqCst);
        let (mut reads, mut failed_reads, mut written) = (0, Vec::new(), Vec::new());
        for reader in self.reads {
            let (count, failed) = reader.await.expect("a reader ends");
            reads += count;
            failed_reads.extend(failed);
        }
        for writer in self.writes {
            written.push(writer.await.expect("a writer ends"));
        }
        let [longest_read, longest_write] =
            [&self.longest[0], &self.longest[1]].map(|longest| Duration::from_millis(longest.load(SeqCst)));
        Outcome { reads, failed_reads, longest_read, longest_write, written }
    }
}

/// Everything in a WordPress's database, as it dumps itself; none while it does not answer.
pub fn dump(container: &str) -> Option<String> {
    let script = "mariadb-dump --socket=/run/mysqld/mysqld.sock --skip-dump-date --skip-comments --order-by-primary \
                  -u wordpress --password=\"$MARIADB_PASSWORD\" wordpress";
    Engine::try_podman(&["exec", container, "sh", "-c", script]).ok()
}

/// The rows of one table in a dump.
pub fn rows(dump: &str, table: &str) -> BTreeSet<String> {
    let insert = format!("INSERT INTO `{table}` VALUES");
    let lines = dump.lines().skip_while(|line| !line.starts_with(&insert)).skip(1);
    let lines = lines.take_while(|line| line.starts_with('('));
    lines.map(|line| line.trim_end_matches([',', ';']).to_owned()).collect()
}

/// What WordPress takes for a PDF: it looks at the content.
pub fn pdf(text: &str, bytes: usize) -> Vec<u8> {
    let mut content = format!("%PDF-1.4\n% {text}\n").into_bytes();
    content.resize(bytes, b'\n');
    content
}

async fn page(request: RequestBuilder) -> Result<(), String> {
    let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
    let status = answer.status();
    let body = answer.text().await.map_err(|error| format!("{status}: {error:?}"))?;
    if status.is_success() || status.as_u16() == 301 { Ok(()) } else { Err(format!("{status}: {body}")) }
}

async fn created(request: RequestBuilder) -> Result<Value, String> {
    let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
    let status = answer.status();
    let body: Value = answer.json().await.map_err(|error| format!("{status}: {error}"))?;
    if status == 201 { Ok(body) } else { Err(format!("{status}: {body}")) }
}

fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
