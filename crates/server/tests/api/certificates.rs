//! The certificate of the clients' names, with a real CA and the local cloud's name server.

use std::time::Duration;

use stackpro_cloud::local::NameServer;
use stackpro_domain::Time;
use stackpro_server::certificates::state;
use stackpro_server::reconcilers::certificates::round;
use stackpro_server::world::Acme;
use stackpro_store::CertificateRow;
use stackpro_testkit::{Ca, ChallengeServer, Lost, eventually, free_address};
use stackpro_tls::Roots;
use stackpro_tls::acme::Directory;

use crate::common::Server;

const DOMAIN: &str = "stackpro.localhost";
const LONG: Duration = Duration::from_mins(2);

struct Home {
    server: Server,
    ca: Ca,
    _dns: NameServer,
}

fn acme(ca: &Ca) -> Acme {
    let roots = Roots { more: Some(ca.server_root()) };
    let directory = Directory { url: ca.directory(), contact: None, roots };
    // Longer than any test's order takes, and short enough to wait for.
    Acme { directory, retry_ms: 200, lease_ms: 3_000 }
}

impl Home {
    /// A CA that asks our name server; it is known only once both run.
    async fn new() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let free = free_address();
        let ca = Ca::start(free, 1).await;
        let acme = acme(&ca);
        let server =
            Server::in_cloud(|local| local.dns_port = free.port(), |settings| settings.acme = Some(acme)).await;
        let dns = server.cloud.serve_dns().await.unwrap();
        Self { server, ca, _dns: dns }
    }

    async fn row(&self) -> CertificateRow {
        self.server.world.store.certificate(DOMAIN).await.unwrap().unwrap()
    }

    /// Rounds until there is a certificate other than `than`, and its challenge is cleaned up.
    async fn another(&self, than: Option<&CertificateRow>) -> CertificateRow {
        let before = than.and_then(|row| row.fingerprint.clone());
        eventually("a certificate", LONG, async || {
            round(&self.server.world).await.unwrap();
            let row = self.server.world.store.certificate(DOMAIN).await.unwrap()?;
            (row.fingerprint != before && row.sealed.is_some() && !row.published).then_some(row)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_obtained_once_kept_sealed_and_renewed_in_time() {
    let home = Home::new().await;
    assert!(state(&home.server.world).await.unwrap().unwrap_err().contains("none yet"));
    let first = home.another(None).await;
    let names =
        home.server.world.secrets.unseal::<stackpro_tls::KeyedChain>("certificate", &first.sealed.clone().unwrap());
    assert_eq!(names.unwrap().facts().unwrap().names, [format!("*.{DOMAIN}"), DOMAIN.to_owned()]);
    let kept = format!("{:?} {:?}", first.sealed, first.progress);
    assert!(!kept.contains("PRIVATE") && !kept.contains("BEGIN"));
    assert!(state(&home.server.world).await.unwrap().unwrap().contains("valid until"));
    let requests = home.ca.requests().len();
    for _ in 0..3 {
        round(&home.server.world).await.unwrap();
    }
    assert_eq!(home.ca.requests().len(), requests, "there is nothing to do");
    // Its time comes: another one, of the same account, and the old one stays until it is there.
    let mut tx = home.server.world.store.begin().await.unwrap();
    let mut row = tx.claim_certificate(DOMAIN, 1).await.unwrap().unwrap();
    row.renew_at = Some(Time(0));
    assert!(tx.update_certificate(&row, 0).await.unwrap());
    tx.commit().await.unwrap();
    home.ca.down();
    round(&home.server.world).await.unwrap();
    let failing = home.row().await;
    assert_eq!((&failing.fingerprint, failing.attempts), (&first.fingerprint, 1));
    assert!(state(&home.server.world).await.unwrap().unwrap_err().contains("cannot be reached"));
    home.ca.up().await;
    // It has forgotten the account, too.
    let second = home.another(Some(&first)).await;
    assert_eq!((second.attempts, &second.error), (0, &None));
    assert!(second.renew_at.unwrap() > home.server.world.real_now());
    // One that this secret key does not open is as good as none.
    let mut tx = home.server.world.store.begin().await.unwrap();
    let mut row = tx.claim_certificate(DOMAIN, 1).await.unwrap().unwrap();
    row.sealed = Some("AAAA".into());
    assert!(tx.update_certificate(&row, 0).await.unwrap());
    tx.commit().await.unwrap();
    home.another(Some(&second)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_down_is_asked_again_after_a_rest() {
    let home = Home::new().await;
    home.ca.down();
    round(&home.server.world).await.unwrap();
    let row = home.row().await;
    assert!(row.error.as_deref().unwrap().contains("cannot be reached") && row.attempts == 1);
    round(&home.server.world).await.unwrap();
    assert_eq!(home.row().await.attempts, 1, "it rests");
    home.ca.up().await;
    home.another(None).await;
}

/// The process dies while the CA signs, and another one begins with what is in the database.
#[tokio::test(flavor = "multi_thread")]
async fn a_death_between_the_order_and_the_certificate_loses_neither() {
    for path in ["/order-plz", "/chalZ/", "/finalize-order/", "/certZ/"] {
        let home = Home::new().await;
        let world = home.server.world.clone();
        let dying = tokio::spawn(async move { round(&world).await });
        eventually("it is on its way", LONG, async || (home.ca.seen(path) > 0).then_some(())).await;
        dying.abort();
        drop(dying.await);
        home.another(None).await;
        let (orders, signed) = (home.ca.seen("/order-plz"), home.ca.seen("/finalize-order/"));
        // Only an order whose address was never written down is made again.
        let most = if path == "/order-plz" { 2 } else { 1 };
        assert!(orders <= most && signed == 1, "{path}: {orders} orders, {signed} certificates");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_costs_no_second_certificate() {
    for lost in [Lost::Request, Lost::Answer] {
        let home = Home::new().await;
        home.ca.lose("/finalize-order/", lost);
        home.ca.lose("/certZ/", lost);
        home.another(None).await;
        assert!(home.ca.has_lost_all());
        assert_eq!((home.ca.seen("/order-plz"), home.ca.seen("/finalize-order/")), (1, 1), "{lost:?}");
    }
}

/// What the CA finds is not what it asked for: it says so, and how often it is asked is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_is_said_and_rested_from() {
    let nobody = ChallengeServer::start().await;
    let ca = Ca::start(nobody.dns, 1).await;
    let mut acme = acme(&ca);
    acme.retry_ms = 60_000;
    let server = Server::with(|settings| settings.acme = Some(acme)).await;
    for _ in 0..3 {
        round(&server.world).await.unwrap();
    }
    let row = server.world.store.certificate(DOMAIN).await.unwrap().unwrap();
    assert!(row.error.as_deref().unwrap().contains(DOMAIN), "{:?}", row.error);
    assert_eq!((row.attempts, row.ordered_at, ca.seen("/order-plz")), (1, None, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_work_at_once_get_one_certificate() {
    let home = Home::new().await;
    let work = async || {
        for _ in 0..3 {
            round(&home.server.world).await.unwrap();
        }
    };
    tokio::join!(work(), work(), work());
    home.another(None).await;
    assert_eq!((home.ca.seen("/order-plz"), home.ca.seen("/finalize-order/")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_setting_there_is_none() {
    let server = Server::start().await;
    round(&server.world).await.unwrap();
    assert!(state(&server.world).await.is_none());
    assert_eq!(server.world.store.certificate(DOMAIN).await.unwrap(), None);
}
