//! Certificates of a CA that speaks ACME (RFC 8555).
//!
//! The way to one is walked with [`obtain`], which may be cut short at any moment and called again: what has
//! to survive is [`Progress`], and its keeper writes it down before the next call is made. An account is made
//! by its key, so that making it twice makes one; an order is looked up by its address; the key of the
//! certificate is kept before the CA signs for it, so that an answer that was lost can be fetched.

use async_trait::async_trait;
use instant_acme::{
    Account, AccountBuilder, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Error,
    Identifier, Key, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use stackpro_domain::Time;

use crate::KeyedChain;
use crate::http::Http;
use crate::roots::Roots;

/// A CA, by the address of its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub url: String,
    /// `mailto:ops@example.com`
    pub contact: Option<String>,
    /// By which the CA's own server is known.
    pub roots: Roots,
}

/// How a CA is shown that a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A text record at `_acme-challenge.{name}`; the only way for a wildcard.
    Dns,
    /// A page at `http://{name}/.well-known/acme-challenge/{token}`.
    Http,
}

/// What the CA wants to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Without `*.`.
    pub name: String,
    pub token: String,
    /// For [`Proof::Http`] the page, for [`Proof::Dns`] the record's value.
    pub value: String,
}

/// All that must survive. It holds keys.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    account: Option<KeptAccount>,
    order: Option<KeptOrder>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptAccount {
    directory: String,
    /// PEM.
    key: String,
    /// The account's address, once the CA has said it.
    id: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptOrder {
    url: String,
    names: Vec<String>,
    /// Of the certificate, in PEM.
    key: String,
}

/// Who keeps the progress, and can make the CA's challenges answered. An error's text is for people.
#[async_trait]
pub trait Keeper: Send {
    /// Writes it down, durably. Also called without news now and then, at least every two minutes: whoever
    /// holds a lease renews it.
    async fn keep(&mut self, progress: &Progress) -> Result<(), String>;
    /// Returns once whoever asks gets these answers, and no other.
    async fn answer(&mut self, answers: &[Answer]) -> Result<(), String>;
}

/// Why there is no certificate yet.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The CA did not answer, or not in time. What is under way goes on when it is asked again.
    #[error("the CA cannot be reached: {0}")]
    Unreachable(String),
    /// The CA said no, and the order is over.
    #[error("the CA refuses: {0}")]
    Refused(String),
    /// There were too many orders.
    #[error("the CA wants a pause: {0}")]
    Limited(String),
    /// Our own side.
    #[error("{0}")]
    Ours(String),
}

/// How long one call of [`obtain`] waits for the CA to look, and to sign.
const PATIENCE: RetryPolicy =
    RetryPolicy::new().timeout(std::time::Duration::from_secs(40)).initial_delay(std::time::Duration::from_millis(200));

impl Progress {
    /// Whether an order is in flight. Asking for it again costs the CA's limits nothing.
    pub fn has_order(&self) -> bool {
        self.order.is_some()
    }
}

/// A certificate for `names`, which has a wildcard only with [`Proof::Dns`]. `replaces` is the one that it
/// is to renew, of which a CA may think when it counts.
///
/// Afterwards, whatever comes out, `progress` is what is to be kept: after a success together with the
/// certificate, so that none is ever lost.
pub async fn obtain(
    directory: &Directory,
    names: &[String],
    proof: Proof,
    replaces: Option<&KeyedChain>,
    progress: &mut Progress,
    keeper: &mut dyn Keeper,
) -> Result<KeyedChain, AcmeError> {
    let mut walk = Walk { directory, names, proof, replaces, progress, keeper };
    let account = walk.account().await?;
    let (mut order, key) = walk.order(&account).await?;
    walk.prove(&mut order).await?;
    let chain = walk.sign(&mut order, key).await?;
    walk.progress.order = None;
    Ok(chain)
}

/// When the CA suggests to renew a certificate (RFC 9773): the beginning and the end of a window. None when
/// it has no opinion.
pub async fn renewal(directory: &Directory, progress: &Progress, chain: &KeyedChain) -> Option<(Time, Time)> {
    let kept = progress.account.as_ref().filter(|kept| kept.directory == directory.url)?;
    let account = builder(directory).ok()?.from_parts(kept.id.clone()?, pkcs8(&kept.key).ok()?, kept.directory.clone());
    let certificate = CertificateDer::from_pem_slice(chain.chain.as_bytes()).ok()?;
    let id = CertificateIdentifier::try_from(&certificate).ok()?;
    let (info, _) = account.await.ok()?.renewal_info(&id).await.ok()?;
    let ms = |at: time::OffsetDateTime| Time(at.unix_timestamp().saturating_mul(1000));
    Some((ms(info.suggested_window.start), ms(info.suggested_window.end)))
}

struct Walk<'a> {
    directory: &'a Directory,
    names: &'a [String],
    proof: Proof,
    replaces: Option<&'a KeyedChain>,
    progress: &'a mut Progress,
    keeper: &'a mut dyn Keeper,
}

impl Walk<'_> {
    /// The account at this CA. Its key is kept before the CA hears of it.
    async fn account(&mut self) -> Result<Account, AcmeError> {
        if self.progress.account.as_ref().is_none_or(|kept| kept.directory != self.directory.url) {
            let key = KeyPair::generate().map_err(ours)?.serialize_pem();
            let account = KeptAccount { directory: self.directory.url.clone(), key, id: None };
            *self.progress = Progress { account: Some(account), order: None };
            self.keep().await?;
        }
        let Some(kept) = self.progress.account.clone() else { return Err(ours("there is no account")) };
        let key = pkcs8(&kept.key)?;
        if let Some(id) = kept.id {
            return self.said(builder(self.directory)?.from_parts(id, key, kept.directory).await);
        }
        let pair = (Key::from_pkcs8_der(key.clone_key()).map_err(ours)?, PrivateKeyDer::Pkcs8(key));
        let (account, _) = self.said(builder(self.directory)?.create_from_key(pair, kept.directory).await)?;
        if let Some(contact) = &self.directory.contact {
            self.said(account.update_contacts(&[contact]).await)?;
        }
        if let Some(kept) = &mut self.progress.account {
            kept.id = Some(account.id().to_owned());
        }
        self.keep().await?;
        Ok(account)
    }

    /// The order that is in flight, or a new one, and the key that its certificate shall have.
    async fn order(&mut self, account: &Account) -> Result<(Order, String), AcmeError> {
        if self.progress.order.as_ref().is_some_and(|kept| kept.names != self.names) {
            self.progress.order = None;
        }
        if let Some(kept) = self.progress.order.clone() {
            let mut order = self.said(account.order(kept.url).await)?;
            if Self::is_over(&mut order) {
                return self.given_up(&mut order).await;
            }
            return Ok((order, kept.key));
        }
        let key = KeyPair::generate().map_err(ours)?.serialize_pem();
        let names: Vec<Identifier> = self.names.iter().cloned().map(Identifier::Dns).collect();
        let mut made = match self.replaced() {
            Some(id) => account.new_order(&NewOrder::new(&names).replaces(id)).await,
            None => account.new_order(&NewOrder::new(&names)).await,
        };
        // Not every CA knows what was replaced: renewing is more than being counted well.
        if self.replaces.is_some() && matches!(made, Err(Error::Unsupported(_) | Error::Api(_) | Error::Other(_))) {
            made = account.new_order(&NewOrder::new(&names)).await;
        }
        let order = self.said(made)?;
        let (url, names) = (order.url().to_owned(), self.names.to_vec());
        self.progress.order = Some(KeptOrder { url, names, key: key.clone() });
        self.keep().await?;
        Ok((order, key))
    }

    fn replaced(&self) -> Option<CertificateIdentifier<'static>> {
        let chain = self.replaces?;
        let certificate = CertificateDer::from_pem_slice(chain.chain.as_bytes()).ok()?;
        CertificateIdentifier::try_from(&certificate).ok().map(CertificateIdentifier::into_owned)
    }

    /// Answers the challenges, and waits until the CA has looked.
    async fn prove(&mut self, order: &mut Order) -> Result<(), AcmeError> {
        if order.state().status != OrderStatus::Pending {
            return Ok(());
        }
        let answers = self.answers(order).await?;
        self.keeper.answer(&answers).await.map_err(AcmeError::Ours)?;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = self.said(authorization)?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let mut challenge = authorization.challenge(self.kind()).ok_or_else(|| self.no_such_challenge())?;
            if challenge.status == ChallengeStatus::Pending {
                let said = challenge.set_ready().await;
                self.said(said)?;
                self.keep().await?;
            }
        }
        let polled = order.poll_ready(&PATIENCE).await;
        if Self::is_over(order) {
            return self.given_up(order).await;
        }
        self.said(polled)?;
        self.keep().await
    }

    /// What the order's authorizations want, but for the names that are proved already.
    async fn answers(&mut self, order: &mut Order) -> Result<Vec<Answer>, AcmeError> {
        let mut wanted = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = self.said(authorization)?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let name = authorization.identifier().to_string();
            let name = name.strip_prefix("*.").unwrap_or(&name).to_owned();
            let challenge = authorization.challenge(self.kind()).ok_or_else(|| self.no_such_challenge())?;
            let authorization = challenge.key_authorization();
            let value = match self.proof {
                Proof::Dns => authorization.dns_value(),
                Proof::Http => authorization.as_str().to_owned(),
            };
            wanted.push(Answer { name, token: challenge.token.clone(), value });
        }
        Ok(wanted)
    }

    /// Has the CA sign, unless it has, and fetches the certificate.
    async fn sign(&mut self, order: &mut Order, key: String) -> Result<KeyedChain, AcmeError> {
        if order.state().status == OrderStatus::Ready {
            let pair = KeyPair::from_pem(&key).map_err(ours)?;
            let mut params = CertificateParams::new(self.names.to_vec()).map_err(ours)?;
            params.distinguished_name = DistinguishedName::new();
            let request = params.serialize_request(&pair).map_err(ours)?;
            let said = order.finalize_csr(request.der()).await;
            self.said(said)?;
        }
        let polled = order.poll_certificate(&PATIENCE).await;
        if Self::is_over(order) {
            return self.given_up(order).await;
        }
        let chain = self.said(polled)?;
        let chain = KeyedChain { chain, key };
        match (chain.certified_key(), chain.facts()) {
            (Ok(_), Ok(facts)) if self.names.iter().all(|name| facts.names.contains(name)) => Ok(chain),
            (Err(error), _) | (_, Err(error)) => self.refused(format!("its certificate cannot be used: {error}")),
            _ => self.refused("its certificate is for other names".into()),
        }
    }

    /// As the CA said last. A problem without that, such as an overload, is no end.
    fn is_over(order: &mut Order) -> bool {
        order.state().status == OrderStatus::Invalid || order.state().error.is_some()
    }

    /// The order is over: says why.
    async fn given_up<T>(&mut self, order: &mut Order) -> Result<T, AcmeError> {
        let mut causes: Vec<String> = order.state().error.iter().map(ToString::to_string).collect();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let Ok(mut authorization) = authorization else { break };
            let _ = authorization.refresh().await;
            let name = authorization.identifier().to_string();
            let errors = authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
            causes.extend(errors.map(|error| format!("{name}: {error}")));
        }
        causes.dedup();
        self.refused(if causes.is_empty() { "it gave the order up".into() } else { causes.join("; ") })
    }

    fn refused<T>(&mut self, cause: String) -> Result<T, AcmeError> {
        self.progress.order = None;
        Err(AcmeError::Refused(cause))
    }

    fn kind(&self) -> ChallengeType {
        match self.proof {
            Proof::Dns => ChallengeType::Dns01,
            Proof::Http => ChallengeType::Http01,
        }
    }

    fn no_such_challenge(&self) -> AcmeError {
        AcmeError::Refused(format!("it offers no proof by {:?}", self.proof))
    }

    async fn keep(&mut self) -> Result<(), AcmeError> {
        self.keeper.keep(self.progress).await.map_err(AcmeError::Ours)
    }

    /// What an answer of the CA means for what is under way.
    fn said<T>(&mut self, answer: Result<T, Error>) -> Result<T, AcmeError> {
        let problem = match answer {
            Ok(value) => return Ok(value),
            Err(Error::Api(problem)) => problem,
            Err(error) => return Err(AcmeError::Unreachable(error.to_string())),
        };
        let kind = problem.r#type.as_deref().unwrap_or_default().rsplit(':').next().unwrap_or_default();
        match kind {
            "accountDoesNotExist" | "unauthorized" => *self.progress = Progress::default(),
            "rateLimited" => return Err(AcmeError::Limited(text(&problem))),
            "serverInternal" | "badNonce" => return Err(AcmeError::Unreachable(text(&problem))),
            _ if problem.status.is_some_and(|status| status >= 500) => {
                return Err(AcmeError::Unreachable(text(&problem)));
            }
            _ => self.progress.order = None,
        }
        Err(AcmeError::Refused(text(&problem)))
    }
}

fn text(problem: &Problem) -> String {
    problem.to_string().trim_start_matches("API error: ").chars().take(500).collect()
}

fn ours(error: impl ToString) -> AcmeError {
    AcmeError::Ours(error.to_string())
}

fn builder(directory: &Directory) -> Result<AccountBuilder, AcmeError> {
    let http = Http::new(&directory.roots).map_err(ours)?;
    Ok(Account::builder_with_http(Box::new(http)))
}

fn pkcs8(pem: &str) -> Result<PrivatePkcs8KeyDer<'static>, AcmeError> {
    PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(ours)
}
