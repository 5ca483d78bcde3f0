//! What the unit tests of this crate share.

use crate::world::{Rates, Settings};

pub(crate) fn settings() -> Settings {
    Settings {
        name: "StackPro".into(),
        public_url: "http://127.0.0.1:8080".into(),
        client_domain: "stackpro.localhost".into(),
        mail_from: "StackPro <hello@stackpro.localhost>".into(),
        support_email: "help@stackpro.localhost".into(),
        warm_places: 1,
        dns_ttl_seconds: 60,
        trusted_proxies: Vec::new(),
        cors_origins: Vec::new(),
        hash_queue: 64,
        rates: Rates::default(),
    }
}
