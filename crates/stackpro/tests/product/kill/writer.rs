//! A client at work while things die: stores, replaces and removes files through their public name, and
//! remembers what was acknowledged. All of that must be there in the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use reqwest::{Method, StatusCode};
use stackpro_protocol::agent::STACK_HEADER;
use stackpro_testkit::{Portal, TestApp, eventually};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::WITHIN;

/// Between two requests.
const PACE: Duration = Duration::from_millis(50);
/// Requests of which nothing is known after this time have failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a strange answer may come from another process that was given the port of one that died, until
/// the test has noticed that it died.
const UNNOTICED: Duration = Duration::from_secs(20);
const SIDE_BY_SIDE: usize = 8;

/// Whether the site is to be there for the whole time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    Stays,
    /// It is being deleted: from some moment on nothing is there.
    Goes,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    http: reqwest::Client,
    host: String,
    portal: Portal,
    site: Site,
    /// Where the server listens now.
    url: Mutex<String>,
    over: AtomicBool,
    acknowledged: AtomicUsize,
    refused: AtomicUsize,
    files: Mutex<BTreeMap<String, File>>,
    /// Answers that must not be.
    strange: Mutex<Vec<String>>,
}

/// What is known of one path. A content of none: there is no such file.
#[derive(Clone, Default)]
struct File {
    acknowledged: Option<String>,
    /// What was asked for since, and may have happened or not.
    perhaps: Vec<Option<String>>,
}

/// What one request asks for.
struct Wish {
    path: String,
    content: Option<String>,
}

impl Writer {
    /// Returns once some writes of each kind were acknowledged.
    pub(super) async fn start(app: &TestApp, site_url: &str, portal: &Portal, site: Site) -> Self {
        let host = site_url.split_once("://").map_or(site_url, |(_, host)| host);
        let shared = Arc::new(Shared {
            http: app.http().clone(),
            host: host.trim_end_matches('/').to_owned(),
            portal: portal.clone(),
            site,
            url: Mutex::new(app.info().url.clone()),
            over: AtomicBool::new(false),
            acknowledged: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            files: Mutex::default(),
            strange: Mutex::default(),
        });
        let task = tokio::spawn(Arc::clone(&shared).work());
        let writer = Self { shared, task };
        writer.is_acknowledged().await;
        writer
    }

    /// The server listens elsewhere now.
    pub(super) fn follow(&self, app: &TestApp) {
        self.shared.url.lock().unwrap().clone_from(&app.info().url);
    }

    /// Waits until the site takes writes (again).
    pub(super) async fn is_acknowledged(&self) {
        let enough = self.shared.acknowledged.load(SeqCst) + ROUND;
        eventually("writes are acknowledged", WITHIN, async || {
            (self.shared.acknowledged.load(SeqCst) >= enough).then_some(())
        })
        .await;
    }

    /// Checks that from now on no write is acknowledged.
    pub(super) async fn is_refused(&self) {
        let refusals = async |more: usize| {
            let enough = self.shared.refused.load(SeqCst) + more;
            eventually("writes are refused", WITHIN, async || {
                (self.shared.refused.load(SeqCst) >= enough).then_some(())
            })
            .await;
        };
        // One that was under way may still end.
        refusals(1).await;
        let before = self.shared.acknowledged.load(SeqCst);
        refusals(5).await;
        assert_eq!(self.shared.acknowledged.load(SeqCst), before, "acknowledged by a site that does not serve");
    }

    /// Stops, and checks that nothing strange was answered.
    pub(super) async fn stop(self) -> Written {
        self.shared.over.store(true, SeqCst);
        self.task.await.unwrap();
        let strange = std::mem::take(&mut *self.shared.strange.lock().unwrap());
        assert!(strange.is_empty(), "{strange:#?}");
        Written { files: std::mem::take(&mut *self.shared.files.lock().unwrap()) }
    }
}

/// Requests after which each kind of them was made.
const ROUND: usize = 10;

/// The `n`th request: most store a new file, some replace one again and again, some remove one.
fn wish(n: usize) -> Wish {
    let new = |n: usize| format!("files/new-{n}.txt");
    match n % ROUND {
        3 | 7 => Wish { path: format!("files/same-{}.txt", n / ROUND % 3), content: Some(format!("version {n}")) },
        9 => Wish { path: new(n - 8), content: None },
        // Now and then one that takes more than one packet.
        5 => Wish { path: new(n), content: Some(format!("content {n};").repeat(10_000)) },
        _ => Wish { path: new(n), content: Some(format!("content {n}")) },
    }
}

impl Shared {
    async fn work(self: Arc<Self>) {
        for n in 0.. {
            if self.over.load(SeqCst) {
                return;
            }
            self.ask(wish(n)).await;
            sleep(PACE).await;
        }
    }

    async fn ask(&self, wish: Wish) {
        let url = self.url.lock().unwrap().clone();
        let method = if wish.content.is_some() { Method::PUT } else { Method::DELETE };
        let request = self.http.request(method, format!("{url}/dav/{}", wish.path)).header("host", &self.host);
        let request = request.basic_auth(&self.portal.user, Some(&self.portal.password)).timeout(PATIENCE);
        let (status, by_stack) = match request.body(wish.content.clone().unwrap_or_default()).send().await {
            Ok(answer) => (answer.status(), answer.headers().contains_key(STACK_HEADER)),
            Err(_) => (StatusCode::BAD_GATEWAY, false),
        };
        let known = self.files.lock().unwrap().get(&wish.path).cloned().unwrap_or_default();
        let is_gone = status == StatusCode::NOT_FOUND;
        let gone_already = is_gone && by_stack && wish.content.is_none() && known.may_be(None);
        if status.is_success() || gone_already {
            self.acknowledged.fetch_add(1, SeqCst);
            let file = File { acknowledged: wish.content, perhaps: Vec::new() };
            self.files.lock().unwrap().insert(wish.path, file);
            return;
        }
        self.refused.fetch_add(1, SeqCst);
        let is_expected = status.is_server_error() || is_gone && self.site == Site::Goes;
        if !is_expected && self.is_still_at(&url).await {
            self.strange.lock().unwrap().push(format!("{status} for {}", wish.path));
        }
        self.files.lock().unwrap().entry(wish.path).or_default().perhaps.push(wish.content);
    }

    async fn is_still_at(&self, url: &str) -> bool {
        let deadline = Instant::now() + UNNOTICED;
        while Instant::now() < deadline && *self.url.lock().unwrap() == url {
            sleep(PACE).await;
        }
        *self.url.lock().unwrap() == url
    }
}

impl File {
    fn may_be(&self, content: Option<&str>) -> bool {
        self.acknowledged.as_deref() == content || self.perhaps.iter().any(|perhaps| perhaps.as_deref() == content)
    }
}

/// All that a writer knows.
pub(super) struct Written {
    files: BTreeMap<String, File>,
}

impl Written {
    /// Checks every path: what was acknowledged last is there, or what was asked for after that.
    pub(super) async fn is_there(&self, app: &TestApp, site: &str, portal: &Portal) {
        let wrong = futures::stream::iter(&self.files).map(|(path, file)| async move {
            // A revived instance may need a moment; what it answers must be right.
            let (status, found) = eventually(&format!("{path} is answered"), WITHIN, async || {
                let (status, found) = app.get_file(site, portal, path).await;
                (!status.is_server_error()).then_some((status, found))
            })
            .await;
            let found = String::from_utf8_lossy(&found);
            let right = match status {
                StatusCode::OK => file.may_be(Some(&found)),
                StatusCode::NOT_FOUND => file.may_be(None),
                _ => false,
            };
            (!right).then(|| {
                let File { acknowledged, perhaps } = file;
                format!(
                    "{path}: {status} {:?}, but {:?}, perhaps {perhaps:?}",
                    short(&found),
                    acknowledged.as_deref().map(short)
                )
            })
        });
        let wrong: Vec<String> = wrong.buffer_unordered(SIDE_BY_SIDE).filter_map(std::future::ready).collect().await;
        assert!(wrong.is_empty(), "{} of {} files: {wrong:#?}", wrong.len(), self.files.len());
    }
}

fn short(content: &str) -> &str {
    content.get(..40).unwrap_or(content)
}
