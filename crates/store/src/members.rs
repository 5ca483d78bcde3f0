//! Members, their sessions, and one-time tokens.

use stackpro_domain::{ClientId, MemberId, Time};

use crate::db::Conn;
use crate::error::Result;
use crate::model::{Member, Purpose, Role, Session};
use crate::query::{Record, Row, Statement, q};
use crate::{Store, Tx};

const CONFLICTS: &[(&str, &str)] = &[("members_email", "email"), ("members_pkey", "member"), ("members_id", "member")];

impl Record for Member {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.parse("id")?,
            client_id: row.maybe_parse("client_id")?,
            email: row.text("email")?,
            first_name: row.text("first_name")?,
            last_name: row.text("last_name")?,
            role: row.word("role", Role::parse)?,
            password_hash: row.get("password_hash")?,
            email_verified_at: row.maybe_time("email_verified_at")?,
            created_at: row.time("created_at")?,
        })
    }
}

/// A session beside its member, whose columns keep their own names.
struct SessionOf(Session, Member);

impl Record for SessionOf {
    fn read(row: &Row<'_>) -> Result<Self> {
        let session = Session {
            id: row.text("session_id")?,
            member_id: row.parse("id")?,
            refresh_hash: row.text("refresh_hash")?,
            previous_hash: row.get("previous_hash")?,
            rotated_at: row.time("rotated_at")?,
            expires_at: row.time("expires_at")?,
            created_at: row.time("session_created_at")?,
        };
        Ok(Self(session, Member::read(row)?))
    }
}

pub(crate) async fn member(conn: &mut Conn, id: &MemberId) -> Result<Option<Member>> {
    q("SELECT t.* FROM members t WHERE t.id = $1").bind(id).locking(conn).one(conn).await
}

async fn member_by_email(conn: &mut Conn, email: &str) -> Result<Option<Member>> {
    q("SELECT t.* FROM members t WHERE t.email = $1").bind(email).locking(conn).one(conn).await
}

pub(crate) async fn member_count(conn: &mut Conn, client: &ClientId) -> Result<u32> {
    let count = q(MEMBER_COUNT).bind(client).number(conn).await?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

pub(crate) const MEMBER_COUNT: &str = "SELECT count(*) AS n FROM members WHERE client_id = $1";
const SESSION_LIVES: &str = "SELECT count(*) AS n FROM sessions WHERE id = $1";
pub(crate) const SESSION_BY_HASH: &str = "SELECT m.*, s.id AS session_id, s.refresh_hash, s.previous_hash, \
    s.rotated_at, s.expires_at, s.created_at AS session_created_at \
    FROM sessions s JOIN members m ON m.id = s.member_id WHERE s.refresh_hash = $1 OR s.previous_hash = $1";

fn columns(statement: Statement, member: &Member) -> Statement {
    statement
        .bind(&member.id)
        .bind(&member.client_id)
        .bind(&member.email)
        .bind(&member.first_name)
        .bind(&member.last_name)
        .bind(member.role.as_str())
        .bind(&member.password_hash)
        .bind(member.email_verified_at)
        .conflicts(CONFLICTS)
}

/// Of a token.
struct Subject(String);

impl Record for Subject {
    fn read(row: &Row<'_>) -> Result<Self> {
        row.text("subject").map(Self)
    }
}

impl Store {
    pub async fn member(&self, id: &MemberId) -> Result<Option<Member>> {
        member(&mut self.read().await?, id).await
    }

    pub async fn member_by_email(&self, email: &str) -> Result<Option<Member>> {
        member_by_email(&mut self.read().await?, email).await
    }

    /// Of one client, the oldest first.
    pub async fn members(&self, client: &ClientId) -> Result<Vec<Member>> {
        let sql = "SELECT * FROM members WHERE client_id = $1 ORDER BY created_at, id";
        q(sql).bind(client).all(&mut self.read().await?).await
    }

    pub async fn member_count(&self, client: &ClientId) -> Result<u32> {
        member_count(&mut self.read().await?, client).await
    }

    /// The oldest first.
    pub async fn operators(&self) -> Result<Vec<Member>> {
        let sql = "SELECT * FROM members WHERE role = 'operator' ORDER BY created_at, id";
        q(sql).all(&mut self.read().await?).await
    }

    pub async fn operators_exist(&self) -> Result<bool> {
        let sql = "SELECT count(*) AS n FROM (SELECT 1 AS one FROM members WHERE role = 'operator' LIMIT 1) AS found";
        Ok(q(sql).number(&mut self.read().await?).await? > 0)
    }

    /// Whether there is such a session. One that has expired may still be.
    pub async fn session_lives(&self, id: &str) -> Result<bool> {
        Ok(q(SESSION_LIVES).bind(id).number(&mut self.read().await?).await? > 0)
    }

    /// Whose session this is; none when it has ended.
    pub async fn member_of_session(&self, id: &str) -> Result<Option<Member>> {
        let sql = "SELECT m.* FROM sessions s JOIN members m ON m.id = s.member_id WHERE s.id = $1";
        q(sql).bind(id).one(&mut self.read().await?).await
    }

    /// The session whose present or previous refresh token has this hash, expired or not, and whose it is.
    pub async fn session_by_hash(&self, hash: &str) -> Result<Option<(Session, Member)>> {
        let found: Option<SessionOf> = q(SESSION_BY_HASH).bind(hash).one(&mut self.read().await?).await?;
        Ok(found.map(|SessionOf(session, member)| (session, member)))
    }
}

impl Tx {
    /// Locks the row.
    pub async fn member(&mut self, id: &MemberId) -> Result<Option<Member>> {
        member(&mut self.conn, id).await
    }

    /// Locks the row.
    pub async fn member_by_email(&mut self, email: &str) -> Result<Option<Member>> {
        member_by_email(&mut self.conn, email).await
    }

    /// How many members a client has, to decide about one more. Lock the client first.
    pub async fn member_count(&mut self, client: &ClientId) -> Result<u32> {
        member_count(&mut self.conn, client).await
    }

    /// Conflicts: `email`, `member`.
    pub async fn insert_member(&mut self, member: &Member) -> Result<()> {
        let sql = "INSERT INTO members (id, client_id, email, first_name, last_name, role, password_hash, \
            email_verified_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        columns(q(sql), member).bind(member.created_at).run(&mut self.conn).await?;
        self.touch_client_of(member);
        Ok(())
    }

    /// Conflicts: `email`.
    pub async fn update_member(&mut self, member: &Member) -> Result<()> {
        let sql = "UPDATE members SET client_id = $2, email = $3, first_name = $4, last_name = $5, role = $6, \
            password_hash = $7, email_verified_at = $8 WHERE id = $1";
        columns(q(sql), member).run(&mut self.conn).await?;
        self.touch_client_of(member);
        Ok(())
    }

    /// With their sessions. Nothing happens when there is none.
    pub async fn delete_member(&mut self, id: &MemberId) -> Result<()> {
        q("DELETE FROM members WHERE id = $1").bind(id).run(&mut self.conn).await?;
        Ok(())
    }

    fn touch_client_of(&mut self, member: &Member) {
        if let Some(client) = &member.client_id {
            self.touch(client.as_str());
        }
    }

    pub async fn insert_session(&mut self, session: &Session) -> Result<()> {
        let sql = "INSERT INTO sessions (id, member_id, refresh_hash, previous_hash, rotated_at, expires_at, \
            created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        q(sql)
            .bind(&session.id)
            .bind(&session.member_id)
            .bind(&session.refresh_hash)
            .bind(&session.previous_hash)
            .bind(session.rotated_at)
            .bind(session.expires_at)
            .bind(session.created_at)
            .run(&mut self.conn)
            .await?;
        Ok(())
    }

    /// Replaces the refresh token. False: `old_hash` is not the present one (any more), and nothing changed.
    pub async fn rotate_session(
        &mut self,
        id: &str,
        old_hash: &str,
        new_hash: &str,
        now: Time,
        expires_at: Time,
    ) -> Result<bool> {
        let sql = "UPDATE sessions SET previous_hash = refresh_hash, refresh_hash = $3, rotated_at = $4, \
            expires_at = $5 WHERE id = $1 AND refresh_hash = $2";
        let statement = q(sql).bind(id).bind(old_hash).bind(new_hash).bind(now).bind(expires_at);
        Ok(statement.run(&mut self.conn).await? == 1)
    }

    pub async fn delete_session(&mut self, id: &str) -> Result<()> {
        q("DELETE FROM sessions WHERE id = $1").bind(id).run(&mut self.conn).await?;
        Ok(())
    }

    pub async fn delete_sessions_of(&mut self, member: &MemberId) -> Result<()> {
        q("DELETE FROM sessions WHERE member_id = $1").bind(member).run(&mut self.conn).await?;
        Ok(())
    }

    /// Keeps a one-time token by its hash. The same one again changes nothing.
    pub async fn insert_token(&mut self, purpose: Purpose, hash: &str, subject: &str, expires_at: Time) -> Result<()> {
        let sql = "INSERT INTO tokens (hash, purpose, subject, expires_at) VALUES ($1, $2, $3, $4) \
            ON CONFLICT (hash) DO NOTHING";
        q(sql).bind(hash).bind(purpose.as_str()).bind(subject).bind(expires_at).run(&mut self.conn).await?;
        Ok(())
    }

    /// Whom a token is for, without using it up. None: unknown, for something else, expired, or used already.
    pub async fn token_subject(&mut self, purpose: Purpose, hash: &str, now: Time) -> Result<Option<String>> {
        let sql = "SELECT subject FROM tokens WHERE hash = $1 AND purpose = $2 AND used_at IS NULL AND expires_at > $3";
        let statement = q(sql).bind(hash).bind(purpose.as_str()).bind(now);
        Ok(statement.one::<Subject>(&mut self.conn).await?.map(|subject| subject.0))
    }

    /// Uses a token up, and says whom it is for. None: unknown, for something else, expired, or used already.
    pub async fn use_token(&mut self, purpose: Purpose, hash: &str, now: Time) -> Result<Option<String>> {
        let sql = "UPDATE tokens SET used_at = $3 WHERE hash = $1 AND purpose = $2 AND used_at IS NULL \
            AND expires_at > $3 RETURNING subject";
        let statement = q(sql).bind(hash).bind(purpose.as_str()).bind(now);
        Ok(statement.one::<Subject>(&mut self.conn).await?.map(|subject| subject.0))
    }
}
