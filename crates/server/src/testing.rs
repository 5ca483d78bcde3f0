//! What the unit tests of this crate share.

use stackpro_domain::Time;
use stackpro_domain::plan::{DEFAULT_PLANS, Plans};
use stackpro_store::{Member, Role};

use crate::world::{Rates, Settings};

pub(crate) fn settings() -> Settings {
    Settings {
        name: "StackPro".into(),
        public_url: "http://127.0.0.1:8080".into(),
        client_domain: "stackpro.localhost".into(),
        mail_from: "StackPro <hello@stackpro.localhost>".into(),
        support_email: "help@stackpro.localhost".into(),
        time_zone: stackpro_domain::zone::Zone::default(),
        warm_places: 1,
        dns_ttl_seconds: 60,
        acme: None,
        trusted_proxies: Vec::new(),
        cors_origins: Vec::new(),
        hash_queue: 64,
        rates: Rates::default(),
        admission: stackpro_domain::admission::Rules::default(),
        signup_networks: (24, 56),
        patience: crate::world::PATIENCE,
    }
}

pub(crate) fn plans() -> Plans {
    Plans::parse(DEFAULT_PLANS).unwrap()
}

/// An owner of `acme-7f3k`.
pub(crate) fn member(id: &str) -> Member {
    Member {
        id: id.parse().unwrap(),
        client_id: Some("acme-7f3k".parse().unwrap()),
        email: format!("{id}@acme.example"),
        first_name: "Ann".into(),
        last_name: "Acme".into(),
        role: Role::Owner,
        password_hash: None,
        email_verified_at: None,
        created_at: Time(0),
    }
}
