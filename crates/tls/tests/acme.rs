//! The way to a certificate with a real CA, cut short at every moment.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use async_trait::async_trait;
use stackpro_domain::Time;
use stackpro_testkit::{Ca, ChallengeServer, Lost};
use stackpro_tls::acme::{AcmeError, Answer, Directory, Keeper, Progress, Proof, obtain, renewal};
use stackpro_tls::{KeyedChain, Roots};

const WILDCARD: [&str; 2] = ["*.clients.example", "clients.example"];

/// A CA, and a name server that is ours.
struct World {
    ca: Ca,
    names: ChallengeServer,
}

/// What survives a death, and what is answered.
struct Notes<'a> {
    world: &'a World,
    proof: Proof,
    kept: Progress,
    /// Writing fails at so many-th time.
    fail_at: Option<usize>,
    writes: usize,
    /// Publishes something else than what is asked for.
    lies: bool,
}

#[async_trait]
impl Keeper for Notes<'_> {
    async fn keep(&mut self, progress: &Progress) -> Result<(), String> {
        self.writes += 1;
        if self.fail_at == Some(self.writes) {
            return Err("the disk is full".into());
        }
        self.kept = progress.clone();
        Ok(())
    }

    async fn answer(&mut self, answers: &[Answer]) -> Result<(), String> {
        let lie = |value: &str| if self.lies { "a lie".to_owned() } else { value.to_owned() };
        match self.proof {
            Proof::Dns => {
                let values: Vec<String> = answers.iter().map(|answer| lie(&answer.value)).collect();
                let names: BTreeSet<&str> = answers.iter().map(|answer| answer.name.as_str()).collect();
                assert!(names.len() <= 1, "one name for the wildcard and its domain: {names:?}");
                for name in names {
                    self.world.names.set_text(&format!("_acme-challenge.{name}"), &values).await;
                }
            }
            Proof::Http => {
                for answer in answers {
                    self.world.names.add_page(&answer.token, &lie(&answer.value)).await;
                }
            }
        }
        Ok(())
    }
}

impl World {
    async fn new() -> Self {
        let names = ChallengeServer::start().await;
        Self { ca: Ca::start(names.dns, names.http.port()).await, names }
    }

    fn directory(&self) -> Directory {
        let roots = Roots { more: Some(self.ca.server_root()) };
        Directory { url: self.ca.directory(), contact: Some("mailto:ops@clients.example".into()), roots }
    }

    fn notes(&self, proof: Proof) -> Notes<'_> {
        Notes { world: self, proof, kept: Progress::default(), fail_at: None, writes: 0, lies: false }
    }

    /// One try, from what was kept: as a process that has just begun.
    async fn once(&self, notes: &mut Notes<'_>, names: &[&str]) -> Result<KeyedChain, AcmeError> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let (mut progress, proof) = (notes.kept.clone(), notes.proof);
        let got = obtain(&self.directory(), &names, proof, None, &mut progress, notes).await;
        match &got {
            // As promised: what it leaves behind is to be kept.
            Ok(_) | Err(AcmeError::Refused(_)) => notes.kept = progress,
            Err(_) => {}
        }
        got
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_and_its_domain_by_dns_and_a_host_by_http() {
    let world = World::new().await;
    let mut notes = world.notes(Proof::Dns);
    let chain = world.once(&mut notes, &WILDCARD).await.unwrap();
    let facts = chain.facts().unwrap();
    assert!(facts.covers("acme.clients.example") && facts.covers("clients.example"));
    assert!(facts.not_after > facts.not_before && !notes.kept.has_order());
    assert_eq!(world.ca.seen("/sign-me-up"), 1);
    // The same account again; this CA has no opinion about when to renew.
    let other = world.once(&mut notes, &WILDCARD).await.unwrap();
    assert_ne!(other.facts().unwrap().fingerprint, facts.fingerprint);
    assert_eq!(world.ca.seen("/sign-me-up"), 1);
    assert_eq!(renewal(&world.directory(), &notes.kept, &chain).await, None::<(Time, Time)>);
    let mut notes = world.notes(Proof::Http);
    let host = world.once(&mut notes, &["www.acme.example"]).await.unwrap();
    assert_eq!(host.facts().unwrap().names, ["www.acme.example"]);
    // What is kept goes through text and back.
    let text = serde_json::to_string(&notes.kept).unwrap();
    assert!(serde_json::from_str::<Progress>(&text).unwrap() == notes.kept);
}

/// Of each call, the request is lost and then the answer. The process dies of it every time, and begins
/// again with what it kept: one account, one order and one certificate come of it.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_lost_there_is_one_order_and_one_certificate() {
    for (path, lost) in [
        ("/dir", Lost::Answer),
        ("/sign-me-up", Lost::Request),
        ("/sign-me-up", Lost::Answer),
        ("/order-plz", Lost::Request),
        ("/authZ/", Lost::Answer),
        ("/chalZ/", Lost::Request),
        ("/chalZ/", Lost::Answer),
        ("/my-order/", Lost::Request),
        ("/finalize-order/", Lost::Request),
        ("/finalize-order/", Lost::Answer),
        ("/certZ/", Lost::Request),
        ("/certZ/", Lost::Answer),
    ] {
        let world = World::new().await;
        let mut notes = world.notes(Proof::Dns);
        world.ca.lose(path, lost);
        let first = world.once(&mut notes, &WILDCARD).await;
        assert!(matches!(first, Err(AcmeError::Unreachable(_))), "{path} {lost:?}: {first:?}");
        assert!(world.ca.has_lost_all(), "{path} was never asked for ({first:?}): {:?}", world.ca.requests());
        let chain = world.once(&mut notes, &WILDCARD).await;
        let chain = chain.unwrap_or_else(|error| panic!("{path} {lost:?}: {error}"));
        chain.certified_key().unwrap();
        assert_eq!(world.ca.seen("/order-plz"), 1, "{path} {lost:?}: orders");
        let signed = world.ca.seen("/finalize-order/");
        assert_eq!(signed, 1, "{path} {lost:?}: certificates");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_answer_was_lost_is_made_again_and_only_one_is_signed() {
    let world = World::new().await;
    let mut notes = world.notes(Proof::Dns);
    world.ca.lose("/order-plz", Lost::Answer);
    assert!(matches!(world.once(&mut notes, &WILDCARD).await, Err(AcmeError::Unreachable(_))));
    world.once(&mut notes, &WILDCARD).await.unwrap();
    assert_eq!((world.ca.seen("/order-plz"), world.ca.seen("/finalize-order/")), (2, 1));
}

/// Dies at each write, before it reached the disk.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_kept_is_not_gone_on_with() {
    let world = World::new().await;
    for at in 1..=3 {
        let mut notes = world.notes(Proof::Dns);
        notes.fail_at = Some(at);
        let failed = world.once(&mut notes, &WILDCARD).await;
        assert!(matches!(&failed, Err(AcmeError::Ours(cause)) if cause == "the disk is full"), "{at}: {failed:?}");
        let signed = world.ca.seen("/finalize-order/");
        notes.fail_at = None;
        world.once(&mut notes, &WILDCARD).await.unwrap();
        assert_eq!(world.ca.seen("/finalize-order/"), signed + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_why_and_the_next_order_is_another() {
    let world = World::new().await;
    for proof in [Proof::Dns, Proof::Http] {
        let names: &[&str] = if proof == Proof::Dns { &WILDCARD } else { &["www.acme.example"] };
        let mut notes = world.notes(proof);
        notes.lies = true;
        let Err(AcmeError::Refused(cause)) = world.once(&mut notes, names).await else { panic!("a lie is believed") };
        assert!(cause.contains(names[0].trim_start_matches("*.")), "{cause}");
        assert!(!notes.kept.has_order());
        notes.lies = false;
        world.once(&mut notes, names).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_down_or_has_forgotten_us_is_lived_with() {
    let world = World::new().await;
    let mut notes = world.notes(Proof::Dns);
    world.ca.down();
    assert!(matches!(world.once(&mut notes, &WILDCARD).await, Err(AcmeError::Unreachable(_))));
    world.ca.up().await;
    world.once(&mut notes, &WILDCARD).await.unwrap();
    // It comes back without our account: said once, and then there is a new one.
    world.ca.up().await;
    let forgotten = world.once(&mut notes, &WILDCARD).await;
    assert!(matches!(forgotten, Err(AcmeError::Refused(_))), "{forgotten:?}");
    world.once(&mut notes, &WILDCARD).await.unwrap();
    // And in the middle of an order.
    world.ca.lose("/finalize-order/", Lost::Request);
    assert!(world.once(&mut notes, &WILDCARD).await.is_err() && notes.kept.has_order());
    world.ca.up().await;
    assert!(world.once(&mut notes, &WILDCARD).await.is_err());
    world.once(&mut notes, &WILDCARD).await.unwrap();
    // A CA whose server is someone else is not spoken to.
    let stranger = Directory { roots: Roots::default(), ..world.directory() };
    let names = [WILDCARD[0].to_owned()];
    let mut progress = Progress::default();
    let refused = obtain(&stranger, &names, Proof::Dns, None, &mut progress, &mut notes).await;
    assert!(matches!(refused, Err(AcmeError::Unreachable(_))), "{refused:?}");
}
