//! One change by one actor: rows, outbox records and audit lines that are committed together.

use router_schemas::{ProjectId, config::Kind};
use serde_json::Value;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::{StoreError, outbox};

/// A row that the data plane knows of.
pub trait Setting {
    const KIND: Kind;
    /// As it stands in the key of its record.
    fn id(&self) -> String;
    fn version(&self) -> i64;
    /// The value of its config record; none where nothing stands in the topic for it (a revoked key).
    fn record(&self) -> Option<Value>;
    /// What the audit log keeps of it: never a secret, sealed or not.
    fn audited(&self) -> Value;
}

/// A transaction over the settings of one project.
pub struct Change {
    transaction: Transaction<'static, Postgres>,
    actor: String,
    project_id: ProjectId,
    /// The outbox rows written.
    written: Vec<i64>,
}

impl Change {
    /// # Errors
    /// PostgreSQL does not answer.
    pub async fn begin(
        pool: &PgPool,
        actor: &str,
        project_id: ProjectId,
    ) -> Result<Self, StoreError> {
        let transaction = pool.begin().await?;
        Ok(Self {
            transaction,
            actor: actor.to_owned(),
            project_id,
            written: Vec::new(),
        })
    }

    #[must_use]
    pub fn project_id(&self) -> ProjectId {
        self.project_id
    }

    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    pub(super) async fn created<S: Setting>(&mut self, row: &S) -> Result<(), StoreError> {
        self.publish(row).await?;
        self.note::<S>("create", &row.id(), None, Some(row.audited()))
            .await
    }

    /// `action` is a verb such as `update`, `disable`, `revoke`.
    pub(super) async fn updated<S: Setting>(
        &mut self,
        action: &str,
        before: &S,
        after: &S,
    ) -> Result<(), StoreError> {
        self.publish(after).await?;
        self.note::<S>(
            action,
            &after.id(),
            Some(before.audited()),
            Some(after.audited()),
        )
        .await
    }

    pub(super) async fn deleted<S: Setting>(&mut self, row: &S) -> Result<(), StoreError> {
        let seq = outbox::insert(
            &mut self.transaction,
            S::KIND.name(),
            &row.id(),
            row.version() + 1,
            None,
        )
        .await?;
        self.written.push(seq);
        self.note::<S>("delete", &row.id(), Some(row.audited()), None)
            .await
    }

    async fn publish<S: Setting>(&mut self, row: &S) -> Result<(), StoreError> {
        let seq = outbox::insert(
            &mut self.transaction,
            S::KIND.name(),
            &row.id(),
            row.version(),
            row.record(),
        )
        .await?;
        self.written.push(seq);
        Ok(())
    }

    async fn note<S: Setting>(
        &mut self,
        action: &str,
        target: &str,
        before: Option<Value>,
        after: Option<Value>,
    ) -> Result<(), StoreError> {
        let action = format!("{}.{action}", S::KIND);
        self.audit(&action, target, before, after).await
    }

    /// Writes a line of the audit log; `before` and `after` must hold no secret.
    pub(crate) async fn audit(
        &mut self,
        action: &str,
        target: &str,
        before: Option<Value>,
        after: Option<Value>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "insert into audit_log (project_id, actor, action, target_id, before, after)
             values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(self.project_id.0)
        .bind(self.actor.chars().take(300).collect::<String>())
        .bind(action)
        .bind(target)
        .bind(before)
        .bind(after)
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Commits; returns the outbox rows that are now to be published.
    ///
    /// # Errors
    /// PostgreSQL did not commit; nothing has changed.
    pub async fn commit(self) -> Result<Vec<i64>, StoreError> {
        self.transaction.commit().await?;
        Ok(self.written)
    }
}
