//! Clients, and the date on which each life moves next.

use stackpro_domain::lifecycle::State;
use stackpro_domain::plan::Interval;
use stackpro_domain::{Cents, ClientId, Time};

use crate::db::Conn;
use crate::error::Result;
use crate::model::{Client, HostKind, Hosting};
use crate::query::{Id, MOST_ROWS, Record, Row, Statement, json, q, values};
use crate::{Store, Tx};

macro_rules! select_client {
    ($condition:literal) => {
        concat!(
            "SELECT t.*, i.cloud_id AS hosting_cloud_id, i.kind AS hosting_kind \
             FROM clients t LEFT JOIN instances i ON i.id = t.hosting_id WHERE ",
            $condition
        )
    };
}

pub(crate) const BY_ID: &str = select_client!("t.id = $1");
pub(crate) const BY_CUSTOMER: &str = select_client!("t.customer_id = $1");
pub(crate) const OF_THE_TILL: &str = select_client!("t.customer_id > $1 ORDER BY t.customer_id LIMIT $2");
pub(crate) const ID_BY_HOST: &str = "SELECT id FROM clients WHERE host = $1";
pub(crate) const DUE: &str = "SELECT id FROM clients WHERE next_at <= $1 ORDER BY next_at LIMIT $2";
pub(crate) const NEXT_DUE: &str = "SELECT min(n) AS n FROM ( \
    SELECT min(next_at) AS n FROM clients WHERE next_at IS NOT NULL \
    UNION ALL SELECT min(next_at) FROM flows WHERE next_at IS NOT NULL \
    UNION ALL SELECT min(next_at) FROM mails WHERE next_at IS NOT NULL \
    UNION ALL SELECT min(next_at) FROM till_events WHERE next_at IS NOT NULL) AS due";
pub(crate) const NEXT_DATE: &str = "SELECT min(next_at) AS n FROM clients WHERE next_at > $1";

const CONFLICTS: &[(&str, &str)] = &[
    ("clients_pkey", "client"),
    ("clients_id", "client"),
    ("clients_host", "host"),
    ("clients_customer_id", "customer"),
];

impl Record for Client {
    fn read(row: &Row<'_>) -> Result<Self> {
        let instance_id = row.maybe_parse("hosting_id")?;
        let kind = row.maybe_word("hosting_kind", HostKind::parse)?;
        let hosting = match (instance_id, kind) {
            (Some(instance_id), Some(kind)) => {
                Some(Hosting { instance_id, cloud_id: row.maybe_parse("hosting_cloud_id")?, kind })
            }
            _ => None,
        };
        Ok(Self {
            id: row.parse("id")?,
            company: row.text("company")?,
            plan: row.text("plan")?,
            recipe: row.text("recipe")?,
            interval: row.maybe_word("billing_interval", interval)?,
            life: row.json("life")?,
            stack: row.word("stack", crate::StackPhase::parse)?,
            hosting,
            host: row.text("host")?,
            customer_id: row.get("customer_id")?,
            subscription_id: row.get("subscription_id")?,
            certificate: row.maybe_json("certificate")?,
            portal_rotation: row.number("portal_rotation")?,
            price: row.get::<Option<i64>>("price_cents")?.map(Cents),
            created_at: row.time("created_at")?,
        })
    }
}

pub(crate) fn interval(text: &str) -> Option<Interval> {
    [Interval::Month, Interval::Year].into_iter().find(|interval| interval.as_str() == text)
}

pub(crate) async fn client(conn: &mut Conn, id: &ClientId) -> Result<Option<Client>> {
    q(BY_ID).bind(id).locking(conn).one(conn).await
}

/// The columns that both writing statements share, after the id.
fn columns(statement: Statement, client: &Client) -> Result<Statement> {
    Ok(statement
        .bind(&client.id)
        .bind(&client.company)
        .bind(&client.plan)
        .bind(client.interval.map(Interval::as_str))
        .bind(client.life.state.as_str())
        .bind(json(&client.life)?)
        .bind(client.life.next().map(|next| next.at))
        .bind(client.stack.as_str())
        .bind(client.hosting.as_ref().map(|hosting| hosting.instance_id.as_str()))
        .bind(&client.host)
        .bind(&client.customer_id)
        .bind(&client.subscription_id)
        .bind(client.certificate.as_ref().map(json).transpose()?)
        .bind(client.portal_rotation)
        .bind(&client.recipe)
        .bind(client.price.map(|price| price.0))
        .conflicts(CONFLICTS))
}

impl Store {
    pub async fn client(&self, id: &ClientId) -> Result<Option<Client>> {
        client(&mut self.read().await?, id).await
    }

    /// By the till's id.
    pub async fn client_by_customer(&self, customer: &str) -> Result<Option<Client>> {
        q(BY_CUSTOMER).bind(customer).one(&mut self.read().await?).await
    }

    /// Clients whom the till knows, by its ids, from the one after `after` on.
    pub async fn clients_of_the_till(&self, after: &str, limit: u32) -> Result<Vec<Client>> {
        q(OF_THE_TILL).bind(after).bind(limit).all(&mut self.read().await?).await
    }

    /// How many clients there are in each state; states without any are left out.
    pub async fn counts_by_state(&self) -> Result<Vec<(State, u64)>> {
        struct Count(State, u64);
        impl Record for Count {
            fn read(row: &Row<'_>) -> Result<Self> {
                Ok(Self(row.word("state", State::parse)?, row.count("n")?))
            }
        }
        let sql = "SELECT state, count(*) AS n FROM clients GROUP BY state ORDER BY state";
        let counts: Vec<Count> = q(sql).all(&mut self.read().await?).await?;
        Ok(counts.into_iter().map(|Count(state, n)| (state, n)).collect())
    }

    /// Clients whose next date has come, the longest due first.
    pub async fn due_clients(&self, now: Time, limit: u32) -> Result<Vec<ClientId>> {
        let ids: Vec<Id<ClientId>> = q(DUE).bind(now).bind(limit).all(&mut self.read().await?).await?;
        Ok(ids.into_iter().map(|id| id.0).collect())
    }

    /// When something of what is kept is due next, if anything waits: a client's date, a flow, a mail or an event
    /// of the till. For one who moves the clock.
    pub async fn next_due(&self) -> Result<Option<Time>> {
        Ok(q(NEXT_DUE).maybe_number(&mut self.read().await?).await?.map(Time))
    }

    /// The first date after `now` on which a client's life moves by itself.
    pub async fn next_date_after(&self, now: Time) -> Result<Option<Time>> {
        Ok(q(NEXT_DATE).bind(now).maybe_number(&mut self.read().await?).await?.map(Time))
    }
}

impl Tx {
    /// Locks the row until the transaction ends.
    pub async fn client(&mut self, id: &ClientId) -> Result<Option<Client>> {
        client(&mut self.conn, id).await
    }

    /// By the till's id; locks the row.
    pub async fn client_by_customer(&mut self, customer: &str) -> Result<Option<Client>> {
        let conn = &mut self.conn;
        q(BY_CUSTOMER).bind(customer).locking(conn).one(conn).await
    }

    /// Whose site has this name.
    pub async fn client_by_host(&mut self, host: &str) -> Result<Option<ClientId>> {
        let found: Option<Id<ClientId>> = q(ID_BY_HOST).bind(host).one(&mut self.conn).await?;
        Ok(found.map(|id| id.0))
    }

    /// Conflicts: `client`, `host`, `customer`.
    pub async fn insert_client(&mut self, client: &Client) -> Result<()> {
        self.insert_clients(std::slice::from_ref(client)).await
    }

    /// The same for many at once.
    pub async fn insert_clients(&mut self, clients: &[Client]) -> Result<()> {
        let head = "INSERT INTO clients (id, company, plan, billing_interval, state, life, next_at, stack, hosting_id, \
            host, customer_id, subscription_id, certificate, portal_rotation, recipe, price_cents, created_at) VALUES";
        for chunk in clients.chunks(MOST_ROWS) {
            let mut insert = values(head, 17, chunk.len(), "");
            for client in chunk {
                insert = columns(insert, client)?.bind(client.created_at);
            }
            insert.run(&mut self.conn).await?;
        }
        for client in clients {
            self.touch(client.id.as_str());
            // Who is new has no term that could end.
            if client.life.pays() {
                self.keep_term(client).await?;
            }
        }
        Ok(())
    }

    /// Writes all of it, and when its life moves next. Conflicts: `host`, `customer`.
    pub async fn update_client(&mut self, client: &Client) -> Result<()> {
        self.touch(client.id.as_str());
        let sql = "UPDATE clients SET company = $2, plan = $3, billing_interval = $4, state = $5, life = $6, \
            next_at = $7, stack = $8, hosting_id = $9, host = $10, customer_id = $11, subscription_id = $12, \
            certificate = $13, portal_rotation = $14, recipe = $15, price_cents = $16 WHERE id = $1";
        columns(q(sql), client)?.run(&mut self.conn).await?;
        self.keep_term(client).await
    }

    /// Since when the client pays for what: what is over gets its end, and what is new its beginning.
    async fn keep_term(&mut self, client: &Client) -> Result<()> {
        let (now, pays) = (self.store.now(), client.life.pays());
        let interval = client.interval.unwrap_or(Interval::Month).as_str();
        let price = client.price.map(|price| price.0);
        // Who is suspended is so from its date, also when that was noticed later.
        let over = client.life.suspended_at.map_or(now, |at| at.min(now));
        let sql = "UPDATE terms SET until_at = CASE WHEN from_at > $2 THEN from_at ELSE $2 END \
            WHERE client_id = $1 AND until_at IS NULL AND NOT ($3 AND plan = $4 AND billing_interval = $5 \
            AND coalesce(price_cents, -1) = $6)";
        let statement = q(sql).bind(&client.id).bind(over).bind(pays).bind(&client.plan).bind(interval);
        let statement = statement.bind(price.unwrap_or(-1));
        statement.run(&mut self.conn).await?;
        if pays {
            let sql = "INSERT INTO terms (client_id, plan, billing_interval, from_at, price_cents) SELECT $1, $2, $3, $4, $5 \
                WHERE NOT EXISTS (SELECT 1 FROM terms WHERE client_id = $1 AND until_at IS NULL) \
                ON CONFLICT (client_id, from_at) DO UPDATE SET plan = excluded.plan, \
                billing_interval = excluded.billing_interval, price_cents = excluded.price_cents, until_at = NULL";
            let statement = q(sql).bind(&client.id).bind(&client.plan).bind(interval).bind(now);
            statement.bind(price).run(&mut self.conn).await?;
        }
        Ok(())
    }
}
