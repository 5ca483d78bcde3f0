//! Access tokens: JSON Web Tokens (RFC 7519) that live for a quarter of an hour, each of a session in the
//! database. A session that ends, by whichever node, takes its tokens with it: what reads asks the database
//! at most once a second, and what changes something asks it each time ([`super`]).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use stackpro_domain::time::{MINUTE, SECOND};
use stackpro_domain::{ClientId, MemberId, Time};
use stackpro_store::{Member, Role, Store};

use crate::problem::{Error, Result};
use crate::secrets::Secrets;

pub const LIFE_MS: i64 = 15 * MINUTE;
/// So long a token is accepted after the database said that its session lives.
const TRUST_MS: i64 = SECOND;
/// Verified tokens that are remembered.
const MAX_KNOWN: usize = 16_384;
/// Ours have some 300 bytes.
const MAX_BYTES: usize = 1_024;

/// Who is calling, as the token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(rename = "sub")]
    pub member: MemberId,
    /// None for an operator.
    #[serde(rename = "cid", default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientId>,
    pub role: String,
    #[serde(rename = "sid")]
    pub session: String,
    /// In seconds of real time.
    pub exp: i64,
}

impl Claims {
    pub fn is_operator(&self) -> bool {
        self.client.is_none() && self.role == Role::Operator.as_str()
    }

    /// Milliseconds until it ends.
    pub fn left_ms(&self, now: Time) -> i64 {
        Time(self.exp.saturating_mul(1000)).since(now)
    }
}

/// A token of ours that was read before.
struct Known {
    claims: Arc<Claims>,
    /// When the database last said that its session lives.
    alive_at: Time,
}

pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    known: RwLock<HashMap<Box<str>, Known>>,
}

impl Tokens {
    pub fn new(secrets: &Secrets) -> Self {
        let key = secrets.jwt_key();
        let mut validation = Validation::new(Algorithm::HS256);
        // The clock is passed in, and so is not the library's.
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self {
            encoding: EncodingKey::from_secret(&key),
            decoding: DecodingKey::from_secret(&key),
            validation,
            known: RwLock::default(),
        }
    }

    pub fn issue(&self, member: &Member, session: &str, now: Time) -> Result<(String, Arc<Claims>)> {
        let claims = Claims {
            member: member.id.clone(),
            client: member.client_id.clone(),
            role: member.role.as_str().to_owned(),
            session: session.to_owned(),
            exp: now.plus(LIFE_MS).ms() / 1000,
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .map_err(|error| Error::Internal(format!("an access token cannot be made: {error}")))?;
        Ok((token, Arc::new(claims)))
    }

    /// `None`: not ours, changed, too old, or its session has ended.
    pub async fn verify(&self, store: &Store, token: &str, now: Time) -> Result<Option<Arc<Claims>>> {
        let known = self.known().get(token).map(|known| (Arc::clone(&known.claims), known.alive_at));
        let (claims, alive_at) = match known {
            Some((claims, alive_at)) => (claims, Some(alive_at)),
            None => match self.read(token) {
                Some(claims) => (claims, None),
                None => return Ok(None),
            },
        };
        if claims.left_ms(now) <= 0 {
            return Ok(None);
        }
        if alive_at.is_some_and(|at| (0..TRUST_MS).contains(&now.since(at))) {
            return Ok(Some(claims));
        }
        if !store.session_lives(&claims.session).await? {
            self.forget(&claims.session);
            return Ok(None);
        }
        self.remember(token, &claims, now);
        Ok(Some(claims))
    }

    fn read(&self, token: &str) -> Option<Arc<Claims>> {
        if token.len() > MAX_BYTES {
            return None;
        }
        Some(Arc::new(jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok()?.claims))
    }

    fn remember(&self, token: &str, claims: &Arc<Claims>, alive_at: Time) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(token.into(), Known { claims: Arc::clone(claims), alive_at });
    }

    /// Has the database asked at once about the tokens of this session.
    pub fn forget(&self, session: &str) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, known| known.claims.session != session);
    }

    fn known(&self) -> RwLockReadGuard<'_, HashMap<Box<str>, Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::member;

    const NOW: Time = Time(1_795_562_204_000);

    #[test]
    fn only_our_own_unchanged_tokens_are_read() {
        let tokens = Tokens::new(&Secrets::new([1; 32]));
        let (token, claims) = tokens.issue(&member("ann"), "s1", NOW).unwrap();
        assert_eq!(tokens.read(&token), Some(claims));
        assert_eq!(Tokens::new(&Secrets::new([2; 32])).read(&token), None, "another key");
        let parts: Vec<&str> = token.split('.').collect();
        let none = format!("eyJhbGciOiJub25lIn0.{}.", parts[1]);
        let swapped = format!("{}.{}.{}", parts[0], parts[1].replace('a', "b"), parts[2]);
        for bad in ["", "a.b.c", none.as_str(), swapped.as_str(), &"x".repeat(100_000)] {
            assert_eq!(tokens.read(bad), None);
        }
    }
}
