//! Sessions of the pages: an access token in one cookie and a rotating refresh token in another.
//!
//! A refresh token is good once. Its predecessor is accepted for [`GRACE_MS`] more, because a browser asks
//! for several things at once; after that its use means that it was stolen, and the session ends.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use stackpro_domain::time::{DAY, MINUTE, SECOND};
use stackpro_store::{Member, Session, Tx};

use super::token::Claims;
use crate::http::App;
use crate::problem::Result;
use crate::secrets::{hash_token, random_token};

/// A session that nobody uses ends.
const LIFE_MS: i64 = 30 * DAY;
const GRACE_MS: i64 = 30 * SECOND;
/// A page gets a token that outlives a live stream which it may open.
const FRESH_MS: i64 = 11 * MINUTE;

/// Tokens for one browser.
pub struct Opened {
    pub claims: Arc<Claims>,
    pub access: String,
    /// None: the browser has, or is about to get, the right one.
    pub refresh: Option<String>,
}

/// Begins a session of the pages for a member whose password was right.
pub async fn open(app: &App, tx: &mut Tx, member: &Member) -> Result<Opened> {
    begin(app, tx, member, LIFE_MS).await
}

/// Begins one for an API token that nothing continues, and so ends with it.
pub async fn open_for_token(app: &App, tx: &mut Tx, member: &Member) -> Result<String> {
    Ok(begin(app, tx, member, super::token::LIFE_MS).await?.access)
}

async fn begin(app: &App, tx: &mut Tx, member: &Member, life_ms: i64) -> Result<Opened> {
    let now = app.world.real_now();
    let refresh = random_token();
    let session = Session {
        id: uuid::Uuid::new_v4().to_string(),
        member_id: member.id.clone(),
        refresh_hash: hash_token(&refresh),
        previous_hash: None,
        rotated_at: now,
        expires_at: now.plus(life_ms),
        created_at: now,
    };
    tx.insert_session(&session).await?;
    let (access, claims) = app.tokens.issue(member, &session.id, now)?;
    Ok(Opened { claims, access, refresh: Some(refresh) })
}

/// New tokens for a refresh token; `None` when it is no good.
pub async fn refresh(app: &App, refresh: &str) -> Result<Option<Opened>> {
    let now = app.world.real_now();
    let hash = hash_token(refresh);
    let Some((session, member)) = app.world.store.session_by_hash(&hash).await? else { return Ok(None) };
    if session.expires_at <= now {
        return Ok(None);
    }
    let mut next = None;
    if session.refresh_hash == hash {
        let fresh = random_token();
        let mut tx = app.world.store.begin().await?;
        let rotated = tx.rotate_session(&session.id, &hash, &hash_token(&fresh), now, now.plus(LIFE_MS)).await?;
        tx.commit().await?;
        // Lost against a request of the same browser: that one's answer bears the next token.
        next = rotated.then_some(fresh);
    } else if now.since(session.rotated_at) > GRACE_MS {
        tracing::warn!(session = session.id, "an old refresh token was used: the session ends");
        end(app, &session.id).await?;
        return Ok(None);
    }
    let (access, claims) = app.tokens.issue(&member, &session.id, now)?;
    Ok(Some(Opened { claims, access, refresh: next }))
}

pub async fn end(app: &App, session: &str) -> Result<()> {
    let mut tx = app.world.store.begin().await?;
    tx.delete_session(session).await?;
    tx.commit().await?;
    app.tokens.forget(session);
    Ok(())
}

/// Around the pages: knows who is calling by their cookies ([`Claims`] among the extensions), and renews
/// these when it is time.
pub async fn with_session(State(app): State<App>, mut request: Request, next: Next) -> Result<Response> {
    let now = app.world.real_now();
    let claims = match access_cookie(&app, request.headers()) {
        Some(token) => app.tokens.verify(&app.world.store, token, now).await?,
        None => None,
    };
    let mut cookies = Vec::new();
    match claims {
        Some(claims) if claims.left_ms(now) > FRESH_MS => drop(request.extensions_mut().insert(claims)),
        stale => {
            let token = cookie(request.headers(), names(&app).1).map(str::to_owned);
            let opened = match &token {
                Some(token) => refresh(&app, token).await?,
                None => None,
            };
            if let Some(opened) = opened {
                cookies = set_cookies(&app, &opened);
                request.extensions_mut().insert(opened.claims);
            } else if let Some(claims) = stale.filter(|_| token.is_none()) {
                request.extensions_mut().insert(claims);
            } else if token.is_some() {
                cookies = clear_cookies(&app);
            }
        }
    }
    let mut response = next.run(request).await;
    // A handler that began or ended a session has the last word.
    if !response.headers().contains_key(SET_COOKIE) {
        append(response.headers_mut(), cookies);
    }
    Ok(response)
}

pub fn append(headers: &mut HeaderMap, cookies: Vec<HeaderValue>) {
    for cookie in cookies {
        headers.append(SET_COOKIE, cookie);
    }
}

/// Names of the access and the refresh cookie. `__Host-` binds a cookie to this very host (RFC 6265bis),
/// which browsers only grant over https.
fn names(app: &App) -> (&'static str, &'static str) {
    if app.world.settings.is_https() { ("__Host-access", "__Host-refresh") } else { ("access", "refresh") }
}

pub fn access_cookie<'a>(app: &App, headers: &'a HeaderMap) -> Option<&'a str> {
    cookie(headers, names(app).0)
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    pairs.flat_map(|value| value.split(';')).find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name && !value.is_empty()).then_some(value)
    })
}

pub fn set_cookies(app: &App, opened: &Opened) -> Vec<HeaderValue> {
    let (access, refresh) = names(app);
    let mut cookies = vec![set(app, access, &opened.access, super::token::LIFE_MS)];
    cookies.extend(opened.refresh.as_ref().map(|token| set(app, refresh, token, LIFE_MS)));
    cookies.into_iter().flatten().collect()
}

pub fn clear_cookies(app: &App) -> Vec<HeaderValue> {
    let (access, refresh) = names(app);
    [set(app, access, "", 0), set(app, refresh, "", 0)].into_iter().flatten().collect()
}

fn set(app: &App, name: &str, value: &str, life_ms: i64) -> Option<HeaderValue> {
    let secure = if app.world.settings.is_https() { "; Secure" } else { "" };
    let life = life_ms / SECOND;
    let text = format!("{name}={value}; Path=/; Max-Age={life}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&text).ok()
}
