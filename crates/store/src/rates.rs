//! Limits on how often something may happen, counted in fixed windows; and forgetting what has expired.

use stackpro_domain::Time;

use crate::error::Result;
use crate::query::q;
use crate::{Store, Tx, mail_events};

impl Tx {
    /// Counts one more use of `key` in the window of `window_ms` that `now` is in. Some: `limit` is exceeded;
    /// the window ends in so many milliseconds. Refused uses count too, until the transaction is taken back.
    pub async fn take_rate(&mut self, key: &str, limit: u32, window_ms: i64, now: Time) -> Result<Option<i64>> {
        let window = window_ms.max(1);
        let starts_at = now.ms().div_euclid(window).saturating_mul(window);
        let ends_at = starts_at.saturating_add(window);
        let sql = "INSERT INTO rates (name, starts_at, used, expires_at) VALUES ($1, $2, 1, $3) \
            ON CONFLICT (name) DO UPDATE SET \
            used = CASE WHEN rates.starts_at = excluded.starts_at THEN rates.used + 1 ELSE 1 END, \
            starts_at = excluded.starts_at, expires_at = excluded.expires_at RETURNING used AS n";
        let used = q(sql).bind(key).bind(starts_at).bind(ends_at).number(&mut self.conn).await?;
        Ok((used > i64::from(limit)).then(|| ends_at.saturating_sub(now.ms()).max(1)))
    }
}

impl Tx {
    /// How many more uses of `key` the window lets through that `now` is in. No other transaction is told so
    /// before this one has ended.
    pub(crate) async fn room(&mut self, key: &str, limit: u32, window_ms: i64, now: Time) -> Result<u32> {
        let starts_at = now.ms().div_euclid(window_ms).saturating_mul(window_ms);
        let sql = "INSERT INTO rates (name, starts_at, used, expires_at) VALUES ($1, $2, 0, $3) \
            ON CONFLICT (name) DO UPDATE SET \
            used = CASE WHEN rates.starts_at = excluded.starts_at THEN rates.used ELSE 0 END, \
            starts_at = excluded.starts_at, expires_at = excluded.expires_at RETURNING used AS n";
        let ends_at = starts_at.saturating_add(window_ms);
        let used = q(sql).bind(key).bind(starts_at).bind(ends_at).number(&mut self.conn).await?;
        Ok(u32::try_from(i64::from(limit).saturating_sub(used)).unwrap_or(0))
    }

    /// Counts so many uses of `key` in the window that [`Tx::room`] looked at.
    pub(crate) async fn take_room(&mut self, key: &str, uses: u32) -> Result<()> {
        q("UPDATE rates SET used = used + $2 WHERE name = $1").bind(key).bind(uses).run(&mut self.conn).await?;
        Ok(())
    }
}

impl Store {
    /// Removes windows, tokens and sessions that have expired, and what carriers told of mails long ago. To be
    /// called now and then.
    pub async fn forget_expired(&self, now: Time) -> Result<()> {
        let mut tx = self.begin().await?;
        q("DELETE FROM rates WHERE expires_at <= $1").bind(now).run(&mut tx.conn).await?;
        q("DELETE FROM tokens WHERE expires_at <= $1").bind(now).run(&mut tx.conn).await?;
        q("DELETE FROM sessions WHERE expires_at <= $1").bind(now).run(&mut tx.conn).await?;
        q(mail_events::FORGET).bind(now.plus(-mail_events::KEPT_MS)).run(&mut tx.conn).await?;
        tx.commit().await
    }
}
