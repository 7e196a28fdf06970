//! One publisher at a time, by an advisory lock of PostgreSQL that lives as long as its connection.
//!
//! The connection is one of its own: in a pool the lock would outlive the publisher, and behind a
//! transaction-pooling proxy it would hold nothing, so `DATABASE_URL` must lead to PostgreSQL itself.

use sqlx::{Connection as _, PgConnection, PgPool};

use crate::store::StoreError;

/// Any number of our own: "webhook router, config publisher".
const LOCK: i64 = 0x7765_6268_6f6f_6b31;

/// The right to publish.
pub struct Lease {
    connection: PgConnection,
}

impl Lease {
    /// Takes the lock, unless another holds it.
    ///
    /// # Errors
    /// PostgreSQL does not answer.
    pub async fn try_take(pool: &PgPool) -> Result<Option<Self>, StoreError> {
        let mut connection = PgConnection::connect_with(&pool.connect_options()).await?;
        let sql = "select pg_try_advisory_lock($1)";
        let taken: bool = sqlx::query_scalar(sql)
            .bind(LOCK)
            .fetch_one(&mut connection)
            .await?;
        if taken {
            return Ok(Some(Self { connection }));
        }
        connection.close().await?;
        Ok(None)
    }

    /// The connection that holds the lock. As long as it answers, the lock is held.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Lets go at once. Dropping the lease does so too, when PostgreSQL notices.
    pub async fn release(self) {
        self.connection.close().await.ok();
    }
}
