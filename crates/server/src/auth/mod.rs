//! Who is calling, and what they may do. The extractors carry the authority: a handler cannot even receive
//! a client that its caller may not see.
//!
//! [`Caller`] is anyone who is signed in, [`ClientAccess`] someone who may see the client of the path,
//! [`Operator`] whoever runs StackPro, [`Verified`] someone who has proved their address.

pub mod password;
pub mod session;
pub mod token;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use stackpro_domain::ClientId;
use stackpro_store::{Member, Role};

use crate::http::App;
use crate::problem::{Error, Result};
pub use crate::secrets::hash_token;
use crate::world::{Rate, Settings};
use token::Claims;

/// Anyone who is signed in: by a bearer token or, where nothing is changed, by the cookie of the pages.
#[derive(Clone, Debug)]
pub struct Caller(pub Arc<Claims>);

impl FromRequestParts<App> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        if let Some(claims) = parts.extensions.get::<Arc<Claims>>() {
            return Ok(Self(Arc::clone(claims)));
        }
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        let token = match bearer(&parts.headers) {
            Some(token) => Some(token),
            None if reads => session::access_cookie(app, &parts.headers),
            None => None,
        };
        let Some(token) = token else { return Err(Error::SignIn) };
        let claims = app.tokens.verify(&app.world.store, token, app.world.real_now()).await?;
        claims.map(Self).ok_or(Error::SignIn)
    }
}

/// Someone who may see the client that the path names. Any other client does not exist for them.
#[derive(Clone, Debug)]
pub struct ClientAccess {
    pub claims: Arc<Claims>,
    pub client: ClientId,
}

impl FromRequestParts<App> for ClientAccess {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let Caller(claims) = Caller::from_request_parts(parts, app).await?;
        let params = RawPathParams::from_request_parts(parts, app).await.map_err(|_| Error::NotFound)?;
        let (_, named) = params.iter().find(|(name, _)| *name == "client_id").ok_or(Error::NotFound)?;
        // Their own is compared as text, so that nothing is made for the usual case.
        if let Some(own) = claims.client.clone().filter(|own| own.as_str() == named) {
            return Ok(Self { claims, client: own });
        }
        match named.parse() {
            Ok(client) if claims.is_operator() => Ok(Self { claims, client }),
            _ => Err(Error::NotFound),
        }
    }
}

/// A person who runs StackPro. The database has the word: an operator may have been removed.
#[derive(Clone, Debug)]
pub struct Operator(pub Member);

impl FromRequestParts<App> for Operator {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let Caller(claims) = Caller::from_request_parts(parts, app).await?;
        if !claims.is_operator() {
            return Err(Error::Forbidden("Only an operator may do this."));
        }
        let member = member_of(app, &claims).await?;
        if member.role == Role::Operator { Ok(Self(member)) } else { Err(Error::SignIn) }
    }
}

/// A member of the path's client who has proved their mail address, and may run the client's affairs.
#[derive(Clone, Debug)]
pub struct Verified {
    pub member: Member,
    pub client: ClientId,
}

impl FromRequestParts<App> for Verified {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let Owner { member, client } = Owner::from_request_parts(parts, app).await?;
        if member.email_verified_at.is_none() {
            return Err(Error::Forbidden("Prove your mail address first: open the link in the welcome mail."));
        }
        Ok(Self { member, client })
    }
}

/// A member of the path's client who may run its affairs: its owner or an admin.
#[derive(Clone, Debug)]
pub struct Owner {
    pub member: Member,
    pub client: ClientId,
}

impl FromRequestParts<App> for Owner {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let ClientAccess { claims, client } = ClientAccess::from_request_parts(parts, app).await?;
        let member = member_of(app, &claims).await?;
        match member.role {
            Role::Owner | Role::Admin if member.client_id.as_ref() == Some(&client) => Ok(Self { member, client }),
            _ => Err(Error::Forbidden("Only the client's owner or an admin may do this.")),
        }
    }
}

/// Who is calling, as the database knows them now: the session must live, whatever was known a second ago.
pub async fn member_of(app: &App, claims: &Claims) -> Result<Member> {
    app.world.store.member_of_session(&claims.session).await?.ok_or(Error::SignIn)
}

pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Where a request comes from, for rate limits: the peer, or whom a trusted proxy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(pub String);

impl FromRequestParts<App> for Address {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> std::result::Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        Ok(Self(address(peer, &parts.headers, &app.world.settings)))
    }
}

/// Of a chain of proxies, each appends whom it saw: the rightmost that is not ours is the caller, and
/// what stands to its left anyone may have written.
fn address(peer: Option<IpAddr>, headers: &HeaderMap, settings: &Settings) -> String {
    let Some(peer) = peer.map(|peer| peer.to_canonical()) else { return "local".into() };
    let trusted = |ip: &IpAddr| settings.trusted_proxies.contains(ip);
    let mut seen = peer;
    if trusted(&peer) {
        let lines = headers.get_all("x-forwarded-for").into_iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = lines.flat_map(|line| line.split(',')).collect();
        for hop in hops.iter().rev() {
            let Ok(ip) = hop.trim().parse::<IpAddr>() else { break };
            seen = ip.to_canonical();
            if !trusted(&seen) {
                break;
            }
        }
    }
    match seen {
        IpAddr::V4(ip) => ip.to_string(),
        // A household has a whole /64.
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX)).to_string(),
    }
}

/// Counts one use of each key; the first limit that is reached is the answer.
pub async fn limit_rate(app: &App, uses: &[(String, Rate)]) -> Result<()> {
    let now = app.world.real_now();
    let mut tx = app.world.store.begin().await?;
    let mut over = None;
    for (key, rate) in uses {
        if let Some(retry_after_ms) = tx.take_rate(key, rate.limit, rate.window_ms, now).await? {
            over = over.max(Some(retry_after_ms));
        }
    }
    tx.commit().await?;
    over.map_or(Ok(()), |retry_after_ms| Err(Error::TooMany { retry_after_ms }))
}

/// Whether a form was sent from a page of ours. SameSite cookies do not help: clients' sites are same-site.
pub fn check_origin(headers: &HeaderMap, settings: &Settings) -> Result<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let ours = settings.public_url.as_str();
    let ok = match (text("sec-fetch-site"), text("origin"), text("referer")) {
        (Some(site), ..) => site == "same-origin",
        (None, Some(origin), _) => origin == ours,
        (None, None, Some(referer)) => {
            referer.strip_prefix(ours).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        (None, None, None) => false,
    };
    if ok { Ok(()) } else { Err(Error::Forbidden("This form did not come from our own pages.")) }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn an_address_is_the_peers_unless_a_proxy_of_ours_names_another() {
        let mut settings = crate::testing::settings();
        let peer = Some("10.0.0.1".parse().unwrap());
        let forged = headers(&[("x-forwarded-for", "1.1.1.1, 2.2.2.2, 10.0.0.2")]);
        assert_eq!(address(peer, &forged, &settings), "10.0.0.1");
        settings.trusted_proxies = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        assert_eq!(address(peer, &forged, &settings), "2.2.2.2");
        assert_eq!(address(peer, &headers(&[("x-forwarded-for", "junk")]), &settings), "10.0.0.1");
        assert_eq!(address(peer, &headers(&[]), &settings), "10.0.0.1");
        let v6 = |text: &str| address(Some(text.parse().unwrap()), &headers(&[]), &settings);
        assert_eq!(v6("2001:db8:1:2:3:4:5:6"), v6("2001:db8:1:2:ffff::1"));
        assert_eq!(v6("::ffff:9.9.9.9"), "9.9.9.9");
    }

    #[test]
    fn forms_of_neighbours_are_refused() {
        let settings = crate::testing::settings();
        let ok = |pairs: &[(&'static str, &str)]| check_origin(&headers(pairs), &settings).is_ok();
        assert!(ok(&[("origin", "http://127.0.0.1:8080")]));
        assert!(ok(&[("referer", "http://127.0.0.1:8080/signup")]));
        assert!(ok(&[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:8080")]));
        for neighbour in ["http://acme.stackpro.localhost:8080", "http://127.0.0.1:80801", "null", ""] {
            assert!(!ok(&[("origin", neighbour)]), "{neighbour}");
        }
        assert!(!ok(&[("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:8080")]));
        assert!(!ok(&[("referer", "http://127.0.0.1:8080.evil.example/")]));
        assert!(!ok(&[]));
    }
}
