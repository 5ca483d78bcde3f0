//! The journey with everything over TLS: instances with public doors on loopback addresses of their own, a
//! wildcard from a real CA by our own name server, and visitors who believe nobody but that CA.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use stackpro_testkit::{Builder, Ca, TestApp, eventually, free_address, postgres};
use stackpro_tls::Roots;

use crate::product;

const DOMAIN: &str = "clients.example";

/// A CA, and what a product that is certified by it is started with.
struct Setting {
    ca: Ca,
    dns: SocketAddr,
    https: u16,
    http: u16,
    root: String,
    folder: tempfile::TempDir,
}

impl Setting {
    async fn new() -> Self {
        let dns = free_address();
        let ca = Ca::start(dns, 1).await;
        let root = ca.issuer_root().await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("roots.pem"), ca.server_root() + &root).unwrap();
        Self { ca, dns, https: free_address().port(), http: free_address().port(), root, folder }
    }

    fn roots(&self) -> &Path {
        self.folder.path()
    }

    fn product(&self) -> Builder {
        product()
            // Where we are reached without what the world has before us.
            .listen(&free_address().to_string())
            .env("STACKPRO_PUBLIC_URL", "https://console.example")
            .env("CLIENT_DOMAIN", DOMAIN)
            .env("STACKPRO_DNS_PORT", self.dns.port())
            .env("STACKPRO_INSTANCE_TLS", format!("{{http={}, https={}}}", self.http, self.https))
            .env("STACKPRO_ACME", true)
            .env("STACKPRO_ACME_DIRECTORY", self.ca.directory())
            .env("STACKPRO_ACME_RETRY_SECONDS", 1)
            .env("STACKPRO_TRUSTED_ROOTS", self.roots().join("roots.pem").display())
    }

    /// Where a name leads, as a visitor's resolver learns it.
    fn address(&self, host: &str) -> Option<IpAddr> {
        // RFC 1035, section 4: a header with one question, for an A record.
        let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in host.split('.') {
            question.push(u8::try_from(label.len()).unwrap());
            question.extend(label.as_bytes());
        }
        question.extend([0, 0, 1, 0, 1]);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.send_to(&question, self.dns).unwrap();
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).ok()?;
        let has_answer = answer[7] == 1;
        let address: [u8; 4] = answer[..length].last_chunk().copied()?;
        has_answer.then(|| IpAddr::from(address))
    }

    /// One look at a page by https, as a browser that has never been there takes it.
    async fn visit(&self, host: &str) -> Result<(u16, String), String> {
        let at = self.address(host).ok_or("no such name")?;
        let config = Roots { more: Some(self.root.clone()) }.client_config().map_err(|error| error.to_string())?;
        let visitor = reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy();
        let visitor = visitor.resolve(host, (at, self.https).into()).timeout(Duration::from_secs(5)).build();
        let visitor = visitor.map_err(|error| error.to_string())?;
        let answer = visitor.get(format!("https://{host}:{}/", self.https)).send().await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await.map_err(|error| error.to_string())?))
    }
}

/// What the doctor says of the certificate.
fn certificate(app: &TestApp) -> Option<(bool, String)> {
    let output = app.command(&["doctor", "--json"]);
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let check = checks.as_array()?.iter().find(|check| check["check"] == "certificate")?;
    Some((check["ok"].as_bool()?, check["detail"].as_str()?.to_owned()))
}

async fn certified(app: &TestApp) {
    let valid = async || certificate(app).filter(|(ok, detail)| *ok && detail.contains("valid until"));
    eventually("there is a certificate", Duration::from_mins(2), valid).await;
}

/// Visitors who come all the time.
struct Visitors {
    stop: Arc<AtomicBool>,
    visits: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Visitors {
    fn start(setting: Arc<Setting>, host: String) -> Self {
        let (stop, visits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (Arc::clone(&stop), Arc::clone(&visits));
        let task = tokio::spawn(async move {
            let mut failed = Vec::new();
            while !until.load(SeqCst) {
                match setting.visit(&host).await {
                    Ok((200, _)) => _ = count.fetch_add(1, SeqCst),
                    other => failed.push(format!("{other:?}")),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            failed
        });
        Self { stop, visits, task }
    }

    async fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, SeqCst);
        let failed = self.task.await.unwrap();
        (self.visits.load(SeqCst), failed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_signs_up_pays_and_moves_and_the_site_answers_by_https_throughout() {
    let setting = Arc::new(Setting::new().await);
    let app = setting.product().start().await;
    certified(&app).await;
    let person = app.ready_client("Acme Law").await;
    let host = format!("{}.{DOMAIN}", person.client);
    let deployment = app.deployment(&person).await;
    assert_eq!(deployment["url"], format!("https://{host}"));
    let before = setting.address(&host).unwrap();
    let (status, page) = setting.visit(&host).await.unwrap();
    assert!(status == 200 && page.contains("Acme Law"), "{page}");
    // Port 80 leads there, and neither the control door nor another's name is to be had.
    let plain =
        app.http().get(format!("http://{before}:{}/x", setting.http)).header("host", &host).send().await.unwrap();
    assert_eq!(plain.status(), 308);
    assert_eq!(plain.headers()["location"], format!("https://{host}:{}/x", setting.https));
    assert!(setting.visit("control.stackpro.internal").await.is_err());

    let visitors = Visitors::start(Arc::clone(&setting), host.clone());
    app.pay(&person, "starter").await;
    app.wait_for(&person, "ready", "dedicated").await;
    eventually("the name leads to the new place", Duration::from_mins(1), async || {
        (setting.address(&host)? != before).then_some(())
    })
    .await;
    let so_far = visitors.visits.load(SeqCst);
    eventually("visitors come there", Duration::from_mins(1), async || {
        (visitors.visits.load(SeqCst) > so_far + 5).then_some(())
    })
    .await;
    let (visits, failed) = visitors.end().await;
    assert!(failed.is_empty() && visits > 10, "of {visits} visits failed: {failed:?}");
    println!("{visits} visits by https through the move, none failed");
    // One certificate for everything, and no order for any one host.
    assert_eq!((setting.ca.seen("/order-plz"), setting.ca.seen("/finalize-order/")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_on_postgresql_order_one_certificate() {
    let setting = Setting::new().await;
    let url = postgres::database().await;
    let builder = || setting.product().database(&url).env("STACKPRO_SECRET_KEY", "07".repeat(32));
    let first = builder().start().await;
    let till = first.info().stripe_url.clone().unwrap();
    let second = builder().env("STRIPE_API_BASE", till).env("STACKPRO_DNS_PORT", 0).start_beside(&first).await;
    certified(&first).await;
    certified(&second).await;
    assert_eq!((setting.ca.seen("/order-plz"), setting.ca.seen("/finalize-order/")), (1, 1));
}
