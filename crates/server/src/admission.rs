//! Who may have a trial: asked at the sign-up, decided when an address is confirmed.
//!
//! A sign-up proves nothing: anybody can type anybody's address. So it takes no trial away from anyone. The first client
//! of a company whose owner confirms their address has the company's trial; from then on no other may sign up, and
//! who had signed up already is paused, with their data kept. Until their address is confirmed a client can neither
//! invite anyone nor send mail.

use std::net::{IpAddr, Ipv6Addr};

use stackpro_domain::ClientId;
use stackpro_domain::admission::{Admission, Claimant};
use stackpro_domain::lifecycle::{Event, State};
use stackpro_store::{Member, Role, Trial, Tx};

use crate::auth::{Address, limit_rate};
use crate::http::App;
use crate::lives::{self, LifeError};
use crate::problem::{Error, Result};
use crate::world::{Settings, World};

/// What a sign-up with this address, from this network, may be. The error says what else to do.
pub async fn judge(app: &App, address: &Address, email: &str) -> Result<Admission> {
    let settings = &app.world.settings;
    let admission = settings.admission.judge(email);
    match &admission {
        Admission::Allowed => return Ok(admission),
        Admission::Disposable { domain } => {
            let support = &settings.support_email;
            let message = format!(
                "is one that is thrown away ({domain}). Take one that you keep, your company's if you can. If yours \
                 is taken for what it is not, write to {support}"
            );
            return Err(Error::field("email", message));
        }
        Admission::OneTrial(_) => {}
    }
    let key = format!("signup-network:{}", network(&address.0, settings));
    limit_rate(app, &[(key, settings.rates.signup_network)]).await.map_err(|error| match error {
        Error::TooMany { retry_after_ms } => {
            let message = format!(
                "There were many sign-ups from your network today. Sign up from another one, try again tomorrow, or \
                 write to {}.",
                settings.support_email
            );
            Error::Crowded { retry_after_ms, message }
        }
        error => error,
    })?;
    Ok(admission)
}

/// The network that an address is in, for counting.
fn network(address: &str, settings: &Settings) -> String {
    let (v4, v6) = settings.signup_networks;
    match address.parse() {
        Ok(IpAddr::V4(ip)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(v4.min(32))).unwrap_or(0);
            format!("{}/{v4}", std::net::Ipv4Addr::from(u32::from(ip) & mask))
        }
        Ok(IpAddr::V6(ip)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(v6.min(128))).unwrap_or(0);
            format!("{}/{v6}", Ipv6Addr::from(u128::from(ip) & mask))
        }
        Err(_) => address.to_owned(),
    }
}

/// Refuses who has had the trial. To be called before anything else is written in `tx`.
pub async fn check(world: &World, tx: &mut Tx, admission: &Admission) -> Result<()> {
    let Admission::OneTrial(claimant) = admission else { return Ok(()) };
    if tx.trial_holder(&world.secrets.claimant(&claimant.key())).await?.is_none() {
        return Ok(());
    }
    let support = &world.settings.support_email;
    Err(Error::NotNow(match claimant {
        Claimant::Company(domain) => format!(
            "{domain} has had its free trial. Ask the colleague who signed up to invite you, or write to {support}."
        ),
        Claimant::Person(address) => format!(
            "{address} has had its free trial. Log in with the address that you signed up with, or write to {support}."
        ),
    }))
}

/// Keeps for whom the new client signed up.
pub async fn keep(world: &World, tx: &mut Tx, client: &ClientId, admission: &Admission) -> Result<()> {
    if let Admission::OneTrial(claimant) = admission {
        tx.claim_trial(client, &world.secrets.claimant(&claimant.key())).await?;
    }
    Ok(())
}

/// An address was confirmed. Some: the member's client has no trial, since this company or person has had it.
pub async fn confirmed(world: &World, tx: &mut Tx, member: &Member) -> Result<Option<String>> {
    let Some(client) = member.client_id.as_ref().filter(|_| member.role == Role::Owner) else { return Ok(None) };
    match tx.hold_trial(client, world.now()).await? {
        Trial::Free => Ok(None),
        Trial::Held { rivals } => {
            for rival in &rivals {
                end_trial(world, tx, rival).await?;
            }
            Ok(None)
        }
        Trial::Lost => {
            let ended = end_trial(world, tx, client).await?;
            Ok(ended.then(|| match world.settings.admission.judge(&member.email) {
                Admission::OneTrial(claimant) => claimant.name().to_owned(),
                _ => member.email.clone(),
            }))
        }
    }
}

/// False: they have none that could end; who pays, for one.
async fn end_trial(world: &World, tx: &mut Tx, client: &ClientId) -> std::result::Result<bool, LifeError> {
    let Some(mut row) = tx.client(client).await? else { return Ok(false) };
    if !matches!(row.life.state, State::Trial | State::Grace) {
        return Ok(false);
    }
    lives::apply(world, tx, &mut row, Event::TrialHadAlready).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    #[test]
    fn neighbours_are_one_network() {
        let settings = crate::testing::settings();
        let network = |address: &str| super::network(address, &settings);
        assert_eq!(network("192.0.2.77"), "192.0.2.0/24");
        assert_eq!(network("192.0.2.78"), network("192.0.2.1"));
        assert_ne!(network("192.0.3.78"), network("192.0.2.1"));
        assert_eq!(network("2001:db8:1:2ff::"), network("2001:db8:1:200::"));
        assert_ne!(network("2001:db8:1:300::"), network("2001:db8:1:200::"));
        assert_eq!(network("local"), "local");
        let all = crate::world::Settings { signup_networks: (0, 0), ..settings };
        assert_eq!(super::network("192.0.2.77", &all), "0.0.0.0/0");
    }
}
