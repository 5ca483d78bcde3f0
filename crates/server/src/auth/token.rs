//! Access tokens: JSON Web Tokens (RFC 7519) that live for a quarter of an hour, so that no request has to
//! ask the database who is calling.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use stackpro_domain::time::MINUTE;
use stackpro_domain::{ClientId, MemberId, Time};
use stackpro_store::{Member, Role};

use crate::secrets::Secrets;

pub const LIFE_MS: i64 = 15 * MINUTE;
/// Verified tokens, and ended sessions, that are remembered.
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

pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    known: RwLock<HashMap<Box<str>, Arc<Claims>>>,
    /// Sessions that were ended here while their last token lives, with when it ends.
    ended: RwLock<HashMap<String, Time>>,
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
            ended: RwLock::default(),
        }
    }

    pub fn issue(&self, member: &Member, session: &str, now: Time) -> Result<(String, Arc<Claims>), String> {
        let claims = Claims {
            member: member.id.clone(),
            client: member.client_id.clone(),
            role: member.role.as_str().to_owned(),
            session: session.to_owned(),
            exp: now.plus(LIFE_MS).ms() / 1000,
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .map_err(|error| format!("an access token cannot be made: {error}"))?;
        Ok((token, Arc::new(claims)))
    }

    /// `None`: not ours, changed, too old, or its session was ended here.
    pub fn verify(&self, token: &str, now: Time) -> Option<Arc<Claims>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(token).map(Arc::clone);
        let claims = match known {
            Some(claims) => claims,
            None => self.read(token)?,
        };
        (claims.left_ms(now) > 0 && !self.has_ended(&claims.session)).then_some(claims)
    }

    fn read(&self, token: &str) -> Option<Arc<Claims>> {
        if token.len() > MAX_BYTES {
            return None;
        }
        let claims = Arc::new(jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok()?.claims);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(token.into(), Arc::clone(&claims));
        Some(claims)
    }

    /// No token of this session is accepted by this process any more; others forget it within its life.
    pub fn end_session(&self, session: &str, now: Time) {
        let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
        if ended.len() >= MAX_KNOWN {
            ended.retain(|_, until| *until > now);
        }
        if ended.len() < MAX_KNOWN {
            ended.insert(session.to_owned(), now.plus(LIFE_MS));
        }
    }

    fn has_ended(&self, session: &str) -> bool {
        let ended = self.ended.read().unwrap_or_else(PoisonError::into_inner);
        !ended.is_empty() && ended.contains_key(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::member;

    const NOW: Time = Time(1_795_562_204_000);

    #[test]
    fn only_our_own_living_unchanged_tokens_count() {
        let tokens = Tokens::new(&Secrets::new([1; 32]));
        let (token, claims) = tokens.issue(&member("ann"), "s1", NOW).unwrap();
        for _ in 0..2 {
            assert_eq!(tokens.verify(&token, NOW), Some(Arc::clone(&claims)));
            assert_eq!(tokens.verify(&token, NOW.plus(LIFE_MS)), None, "too old, also when it is known");
        }
        assert_eq!(Tokens::new(&Secrets::new([2; 32])).verify(&token, NOW), None, "another key");
        let parts: Vec<&str> = token.split('.').collect();
        let none = format!("eyJhbGciOiJub25lIn0.{}.", parts[1]);
        let swapped = format!("{}.{}.{}", parts[0], parts[1].replace('a', "b"), parts[2]);
        for bad in ["", "a.b.c", none.as_str(), swapped.as_str(), &"x".repeat(100_000)] {
            assert_eq!(tokens.verify(bad, NOW), None);
        }
    }

    #[test]
    fn a_session_that_was_ended_has_no_token_any_more() {
        let tokens = Tokens::new(&Secrets::new([1; 32]));
        let (token, _) = tokens.issue(&member("ann"), "s1", NOW).unwrap();
        let (other, _) = tokens.issue(&member("ann"), "s2", NOW).unwrap();
        tokens.end_session("s1", NOW);
        assert!(tokens.verify(&token, NOW).is_none());
        assert!(tokens.verify(&other, NOW).is_some());
    }
}
