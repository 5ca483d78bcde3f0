//! The ledger: a row for each resource before it exists in any cloud, and its receipt after it is gone.

use stackpro_domain::{ClientId, ResourceId, Time};

use crate::error::Result;
use crate::lists::{Cursor, page};
use crate::model::{Page, Resource, ResourceFilter, ResourceKind, ResourceState};
use crate::query::{Id, Record, Row, q};
use crate::{Store, Tx};

impl Record for Resource {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.parse("id")?,
            kind: row.word("kind", ResourceKind::parse)?,
            name: row.text("name")?,
            cloud_id: row.get("cloud_id")?,
            client_id: row.maybe_parse("client_id")?,
            state: row.word("state", ResourceState::parse)?,
            created_at: row.time("created_at")?,
            deleted_at: row.maybe_time("deleted_at")?,
        })
    }
}

struct Word(String);

impl Record for Word {
    fn read(row: &Row<'_>) -> Result<Self> {
        row.text("word").map(Self)
    }
}

impl Store {
    pub async fn resource(&self, id: &ResourceId) -> Result<Option<Resource>> {
        q("SELECT * FROM resources WHERE id = $1").bind(id).one(&mut self.read().await?).await
    }

    /// The newest first.
    pub async fn resources(&self, filter: &ResourceFilter, after: Option<&str>, limit: u32) -> Result<Page<Resource>> {
        let cursor = Cursor::parse(after)?;
        let sql = "SELECT * FROM resources WHERE (created_at < $1 OR (created_at = $1 AND id < $2)) \
            AND ($3 IS NULL OR client_id = $3) AND ($4 IS NULL OR state = $4) AND ($5 IS NULL OR kind = $5) \
            ORDER BY created_at DESC, id DESC LIMIT $6";
        let rows = q(sql)
            .bind(cursor.at)
            .bind(cursor.id)
            .bind(&filter.client)
            .bind(filter.state.map(ResourceState::as_str))
            .bind(filter.kind.map(ResourceKind::as_str))
            .bind(i64::from(limit) + 1)
            .all(&mut self.read().await?)
            .await?;
        Ok(page(rows, limit, |row: &Resource| (row.created_at, row.id.as_str())))
    }

    /// What may exist in a cloud, by id, those after `after`: what the sweeper compares with the cloud's own list.
    pub async fn live_resources(&self, after: Option<&ResourceId>, limit: u32) -> Result<Vec<Resource>> {
        let sql = "SELECT * FROM resources WHERE deleted_at IS NULL AND id > $1 ORDER BY id LIMIT $2";
        let after = after.map_or("", ResourceId::as_str);
        q(sql).bind(after).bind(i64::from(limit)).all(&mut self.read().await?).await
    }

    /// Those of one client, deleted ones too: the receipts. The oldest first.
    pub async fn resources_of(&self, client: &ClientId) -> Result<Vec<Resource>> {
        let sql = "SELECT * FROM resources WHERE client_id = $1 ORDER BY created_at, id";
        q(sql).bind(client).all(&mut self.read().await?).await
    }

    /// The names of the buckets of all who have a stack on the instance, sorted.
    pub async fn buckets_on(&self, instance: &ResourceId) -> Result<Vec<String>> {
        let sql = "SELECT r.name AS id FROM resources r JOIN stacks s ON s.client_id = r.client_id \
            WHERE s.instance_id = $1 AND r.kind = 'bucket' AND r.state IN ('intended', 'created') ORDER BY r.name";
        let names: Vec<Id<String>> = q(sql).bind(instance).all(&mut self.read().await?).await?;
        Ok(names.into_iter().map(|name| name.0).collect())
    }
}

impl Tx {
    /// Idempotent by id.
    pub async fn insert_resource(&mut self, resource: &Resource) -> Result<()> {
        let sql = "INSERT INTO resources (id, kind, name, cloud_id, client_id, state, created_at, deleted_at) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING";
        q(sql)
            .bind(&resource.id)
            .bind(resource.kind.as_str())
            .bind(&resource.name)
            .bind(&resource.cloud_id)
            .bind(&resource.client_id)
            .bind(resource.state.as_str())
            .bind(resource.created_at)
            .bind(resource.deleted_at)
            .run(&mut self.conn)
            .await?;
        Ok(())
    }

    /// Locks the row.
    pub async fn resource(&mut self, id: &ResourceId) -> Result<Option<Resource>> {
        let statement = q("SELECT t.* FROM resources t WHERE t.id = $1").bind(id).locking(&self.conn);
        statement.one(&mut self.conn).await
    }

    /// The type of the newest instance of the client's own that exists or will: where they are, or are bound for.
    pub async fn newest_instance_type(&mut self, client: &ClientId) -> Result<Option<String>> {
        let sql = "SELECT i.instance_type AS word FROM resources r JOIN instances i ON i.id = r.id \
            WHERE r.client_id = $1 AND r.kind = 'instance' AND r.state IN ('intended', 'created') \
            ORDER BY r.created_at DESC, r.id DESC LIMIT 1";
        let found: Option<Word> = q(sql).bind(client).one(&mut self.conn).await?;
        Ok(found.map(|word| word.0))
    }

    /// It exists, under this id of the cloud's. One that is being deleted, or is gone, stays so.
    pub async fn resource_created(&mut self, id: &ResourceId, cloud_id: Option<&str>) -> Result<()> {
        let sql = "UPDATE resources SET cloud_id = coalesce($2, cloud_id), \
            state = CASE WHEN state = 'intended' THEN 'created' ELSE state END WHERE id = $1";
        q(sql).bind(id).bind(cloud_id).run(&mut self.conn).await?;
        Ok(())
    }

    /// Gives what is not made yet another name, if it still has this one. False when it was changed meanwhile.
    pub async fn rename_resource(&mut self, id: &ResourceId, from: &str, to: &str) -> Result<bool> {
        let sql = "UPDATE resources SET name = $3 WHERE id = $1 AND name = $2 AND state = 'intended'";
        Ok(q(sql).bind(id).bind(from).bind(to).run(&mut self.conn).await? == 1)
    }

    pub async fn resource_deleting(&mut self, id: &ResourceId) -> Result<()> {
        let sql = "UPDATE resources SET state = 'deleting' WHERE id = $1 AND deleted_at IS NULL";
        q(sql).bind(id).run(&mut self.conn).await?;
        Ok(())
    }

    /// It is gone; the first time counts.
    pub async fn resource_deleted(&mut self, id: &ResourceId, now: Time) -> Result<()> {
        let sql = "UPDATE resources SET state = 'deleted', deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL";
        q(sql).bind(id).bind(now).run(&mut self.conn).await?;
        Ok(())
    }
}
