//! Instances, and who has a stack on which.

use stackpro_domain::placement::{Placement, Room, place};
use stackpro_domain::time::MINUTE;
use stackpro_domain::{ClientId, InstanceId, ResourceId, Time};

use crate::db::{Conn, Turn};
use crate::error::Result;
use crate::model::{HostKind, InstancePhase, InstanceRow, SetupFailure};
use crate::query::{Id, Record, Row, Statement, q};
use crate::{Store, Tx};

macro_rules! select_instance {
    ($rest:literal) => {
        concat!(
            "SELECT t.*, (SELECT count(*) FROM stacks s WHERE s.instance_id = t.id) AS clients FROM instances t ",
            $rest
        )
    };
}

pub(crate) const BY_ID: &str = select_instance!("WHERE t.id = $1");
/// Shared instances that may take one more, if there is room.
pub(crate) const OPEN: &str =
    select_instance!("WHERE t.kind = 'shared' AND t.state IN ('launching', 'ready') ORDER BY t.id");
/// One that has been launching for longer may never come up: nobody else is to wait for it. In milliseconds.
const LAUNCHES_WITHIN: i64 = 10 * MINUTE;

impl Record for InstanceRow {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.parse("id")?,
            cloud_id: row.maybe_parse("cloud_id")?,
            kind: row.word("kind", HostKind::parse)?,
            instance_type: row.text("instance_type")?,
            capacity: row.count("capacity")?,
            state: row.word("state", InstancePhase::parse)?,
            front: row.maybe_parse("front")?,
            control: row.maybe_parse("control")?,
            fingerprint: row.maybe_parse("fingerprint")?,
            edition: row.get("edition")?,
            version: row.get("version")?,
            enrolled_at: row.maybe_time("enrolled_at")?,
            last_report_at: row.maybe_time("last_report_at")?,
            created_at: row.time("created_at")?,
            clients: row.count("clients")?,
        })
    }
}

impl Record for SetupFailure {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self { log: row.text("setup_log")?, at: row.time("setup_failed_at")? })
    }
}

fn columns(statement: Statement, instance: &InstanceRow) -> Statement {
    statement
        .bind(&instance.id)
        .bind(&instance.cloud_id)
        .bind(instance.kind.as_str())
        .bind(&instance.instance_type)
        .bind(instance.capacity)
        .bind(instance.state.as_str())
        .bind(instance.front.map(|address| address.to_string()))
        .bind(instance.control.map(|address| address.to_string()))
        .bind(instance.fingerprint.as_ref().map(ToString::to_string))
        .bind(&instance.edition)
        .bind(&instance.version)
        .bind(instance.enrolled_at)
        .bind(instance.last_report_at)
        .conflicts(&[("instances_cloud_id", "instance")])
}

async fn instance(conn: &mut Conn, id: &ResourceId) -> Result<Option<InstanceRow>> {
    q(BY_ID).bind(id).locking(conn).one(conn).await
}

async fn instance_by_cloud_id(conn: &mut Conn, id: &InstanceId) -> Result<Option<InstanceRow>> {
    q(select_instance!("WHERE t.cloud_id = $1")).bind(id).locking(conn).one(conn).await
}

impl Store {
    /// The oldest first.
    pub async fn instances(&self, include_released: bool) -> Result<Vec<InstanceRow>> {
        let sql = if include_released {
            select_instance!("ORDER BY t.created_at, t.id")
        } else {
            select_instance!("WHERE t.state <> 'released' ORDER BY t.created_at, t.id")
        };
        q(sql).all(&mut self.read().await?).await
    }

    pub async fn instance(&self, id: &ResourceId) -> Result<Option<InstanceRow>> {
        instance(&mut self.read().await?, id).await
    }

    pub async fn instance_by_cloud_id(&self, id: &InstanceId) -> Result<Option<InstanceRow>> {
        instance_by_cloud_id(&mut self.read().await?, id).await
    }

    /// None when its setup has not failed, or its agent has enrolled since.
    pub async fn setup_failure(&self, id: &ResourceId) -> Result<Option<SetupFailure>> {
        let sql = "SELECT setup_log, setup_failed_at FROM instances WHERE id = $1 AND setup_log IS NOT NULL";
        q(sql).bind(id).one(&mut self.read().await?).await
    }

    /// Who has a stack there.
    pub async fn clients_on(&self, instance: &ResourceId) -> Result<Vec<ClientId>> {
        let sql = "SELECT client_id AS id FROM stacks WHERE instance_id = $1 ORDER BY client_id";
        let ids: Vec<Id<ClientId>> = q(sql).bind(instance).all(&mut self.read().await?).await?;
        Ok(ids.into_iter().map(|id| id.0).collect())
    }

    /// Instances in use whose agent has a certificate of its own, has reported since then, and has another edition
    /// of what visitors are shown.
    pub async fn instances_without_edition(&self, edition: &str, since: Time) -> Result<Vec<InstanceRow>> {
        let sql = select_instance!(
            "WHERE t.state <> 'released' AND t.fingerprint IS NOT NULL AND t.last_report_at > $2 \
            AND (t.edition IS NULL OR t.edition <> $1) ORDER BY t.id"
        );
        q(sql).bind(edition).bind(since).all(&mut self.read().await?).await
    }

    /// Where the client has a stack: on two instances while it moves.
    pub async fn stacks_of(&self, client: &ClientId) -> Result<Vec<ResourceId>> {
        let sql = "SELECT instance_id AS id FROM stacks WHERE client_id = $1 ORDER BY instance_id";
        let ids: Vec<Id<ResourceId>> = q(sql).bind(client).all(&mut self.read().await?).await?;
        Ok(ids.into_iter().map(|id| id.0).collect())
    }

    /// Who has a stack where, on every instance.
    pub async fn stacks(&self) -> Result<Vec<(ResourceId, ClientId)>> {
        struct Stack(ResourceId, ClientId);
        impl Record for Stack {
            fn read(row: &Row<'_>) -> Result<Self> {
                Ok(Self(row.parse("instance_id")?, row.parse("client_id")?))
            }
        }
        let sql = "SELECT instance_id, client_id FROM stacks ORDER BY instance_id, client_id";
        let stacks: Vec<Stack> = q(sql).all(&mut self.read().await?).await?;
        Ok(stacks.into_iter().map(|Stack(instance, client)| (instance, client)).collect())
    }
}

impl Tx {
    /// Idempotent by id. Conflicts: `instance` (its cloud id is another row's).
    pub async fn insert_instance(&mut self, instance: &InstanceRow) -> Result<()> {
        let sql = "INSERT INTO instances (id, cloud_id, kind, instance_type, capacity, state, front, control, \
            fingerprint, edition, version, enrolled_at, last_report_at, created_at, launched_at) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT (id) DO NOTHING";
        let launched_at = instance.cloud_id.as_ref().map(|_| instance.created_at);
        columns(q(sql), instance).bind(instance.created_at).bind(launched_at).run(&mut self.conn).await?;
        Ok(())
    }

    /// Conflicts: `instance` (its cloud id is another row's). It costs from when it has the cloud's id until it
    /// is released.
    pub async fn update_instance(&mut self, instance: &InstanceRow) -> Result<()> {
        let sql = "UPDATE instances SET cloud_id = $2, kind = $3, instance_type = $4, capacity = $5, state = $6, \
            front = $7, control = $8, fingerprint = $9, edition = $10, version = $11, enrolled_at = $12, \
            last_report_at = $13, launched_at = coalesce(launched_at, $14), released_at = coalesce(released_at, $15) \
            WHERE id = $1";
        let now = self.store.now();
        let launched_at = instance.cloud_id.as_ref().map(|_| now);
        let released_at = (instance.state == InstancePhase::Released).then_some(now);
        columns(q(sql), instance).bind(launched_at).bind(released_at).run(&mut self.conn).await?;
        Ok(())
    }

    /// None: it has not failed, or that is over.
    pub async fn set_setup_failure(&mut self, id: &ResourceId, failure: Option<&SetupFailure>) -> Result<()> {
        let sql = "UPDATE instances SET setup_log = $2, setup_failed_at = $3 WHERE id = $1";
        let (log, at) = (failure.map(|failure| failure.log.clone()), failure.map(|failure| failure.at));
        q(sql).bind(id).bind(log).bind(at).run(&mut self.conn).await?;
        Ok(())
    }

    /// Locks the row.
    pub async fn instance(&mut self, id: &ResourceId) -> Result<Option<InstanceRow>> {
        instance(&mut self.conn, id).await
    }

    /// Locks the row.
    pub async fn instance_by_cloud_id(&mut self, id: &InstanceId) -> Result<Option<InstanceRow>> {
        instance_by_cloud_id(&mut self.conn, id).await
    }

    /// Gives the client a place on a shared instance, and says on which; the one that it has already, if it
    /// has one; otherwise one that is ready before one that is being launched. None: all are full, launch one. No
    /// instance ever gets more clients than its capacity.
    pub async fn place_on_shared(&mut self, client: &ClientId) -> Result<Option<InstanceRow>> {
        self.conn.take_turn(Turn::Places, "").await?;
        let sql = select_instance!(
            "JOIN stacks had ON had.instance_id = t.id \
             WHERE had.client_id = $1 AND t.kind = 'shared' AND t.state IN ('launching', 'ready', 'draining')"
        );
        if let Some(has) = q(sql).bind(client).one(&mut self.conn).await? {
            return Ok(Some(has));
        }
        let open: Vec<InstanceRow> = q(OPEN).locking(&self.conn).all(&mut self.conn).await?;
        let now = self.store.now();
        let comes_up = |row: &InstanceRow| now.since(row.created_at) <= LAUNCHES_WITHIN;
        let place_on = |phase: InstancePhase| {
            let of_phase =
                open.iter().filter(|row| row.state == phase && (phase == InstancePhase::Ready || comes_up(row)));
            match place(&of_phase.filter_map(room).collect::<Vec<_>>()) {
                Placement::On(chosen) => open.iter().find(|row| name(row).as_ref() == Some(&chosen)).cloned(),
                Placement::Launch => None,
            }
        };
        let chosen = place_on(InstancePhase::Ready).or_else(|| place_on(InstancePhase::Launching));
        let Some(mut chosen) = chosen else { return Ok(None) };
        self.insert_stack(client, &chosen.id).await?;
        chosen.clients += 1;
        self.touch(client.as_str());
        Ok(Some(chosen))
    }

    /// The client has a stack there now. Twice is as good as once.
    pub async fn add_stack(&mut self, client: &ClientId, instance: &ResourceId) -> Result<()> {
        self.conn.take_turn(Turn::Places, "").await?;
        self.touch(client.as_str());
        self.insert_stack(client, instance).await
    }

    async fn insert_stack(&mut self, client: &ClientId, instance: &ResourceId) -> Result<()> {
        let sql = "INSERT INTO stacks (client_id, instance_id) VALUES ($1, $2) \
            ON CONFLICT (client_id, instance_id) DO NOTHING";
        if q(sql).bind(client).bind(instance).run(&mut self.conn).await? == 0 {
            return Ok(());
        }
        let sql = "INSERT INTO placements (client_id, instance_id, from_at) VALUES ($1, $2, $3) \
            ON CONFLICT (client_id, instance_id, from_at) DO UPDATE SET until_at = NULL";
        let now = self.store.now();
        q(sql).bind(client).bind(instance).bind(now).run(&mut self.conn).await?;
        Ok(())
    }

    /// The client has no stack there any more. Twice is as good as once.
    pub async fn remove_stack(&mut self, client: &ClientId, instance: &ResourceId) -> Result<()> {
        self.touch(client.as_str());
        let sql = "DELETE FROM stacks WHERE client_id = $1 AND instance_id = $2";
        if q(sql).bind(client).bind(instance).run(&mut self.conn).await? == 0 {
            return Ok(());
        }
        let sql = "UPDATE placements SET until_at = $3 \
            WHERE client_id = $1 AND instance_id = $2 AND until_at IS NULL";
        let now = self.store.now();
        q(sql).bind(client).bind(instance).bind(now).run(&mut self.conn).await?;
        self.end_usage(client, instance).await
    }
}

/// Open: only such rows were asked for.
fn room(row: &InstanceRow) -> Option<Room> {
    Some(Room { instance: name(row)?, clients: row.clients, capacity: row.capacity, open: true })
}

/// By which the planner tells instances apart. One that is not launched yet has no id of the cloud's.
fn name(row: &InstanceRow) -> Option<InstanceId> {
    row.cloud_id.clone().or_else(|| row.id.as_str().parse().ok())
}
