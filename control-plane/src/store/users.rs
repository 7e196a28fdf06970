//! `auth.users`: people who may sign in.

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, phc::PasswordHash},
};
use router_runtime::crypto;
use router_schemas::UserId;
use serde::Serialize;
use serde_json::json;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::{Change, StoreError};
use crate::validate;

#[derive(Debug, Clone, FromRow, Serialize)]
pub struct User {
    pub id: Uuid,
    pub email: String,
    pub has_password: bool,
    pub created_at_ms: i64,
    pub disabled: bool,
}

/// Adds a user.
///
/// # Errors
/// The address or the password is refused, or the address is taken.
pub async fn create(
    change: &mut Change,
    email: &str,
    password: &str,
) -> Result<UserId, StoreError> {
    let email = validate::email(email)?;
    let hash = hash_password(validate::password(password)?);
    let id = UserId::generate();
    sqlx::query("insert into auth.users (id, email, password_hash) values ($1, $2, $3)")
        .bind(id.0)
        .bind(email)
        .bind(hash)
        .execute(change.connection())
        .await
        .map_err(|error| super::name_taken(error, "user", email))?;
    change
        .audit(
            "user.create",
            &id.to_string(),
            None,
            Some(json!({ "email": email })),
        )
        .await?;
    Ok(id)
}

/// Every user, the oldest first.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn list(pool: &PgPool) -> Result<Vec<User>, StoreError> {
    let users = sqlx::query_as(
        "select id, email, password_hash is not null as has_password,
                (extract(epoch from created_at) * 1000)::bigint as created_at_ms,
                disabled_at is not null as disabled
         from auth.users order by created_at, id",
    )
    .fetch_all(pool)
    .await?;
    Ok(users)
}

/// Argon2id in PHC string format, with the parameters that OWASP's Password Storage Cheat Sheet names
/// first: 19 MiB, two passes, one lane.
fn hash_password(password: &str) -> String {
    let params =
        Params::new(19_456, 2, 1, None).expect("the parameters are within argon2's bounds");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let salt = crypto::random_bytes::<16>();
    let hash: PasswordHash = argon2
        .hash_password_with_salt(password.as_bytes(), &salt)
        .expect("salt and password are within argon2's bounds");
    hash.to_string()
}

#[cfg(test)]
mod tests {
    use argon2::PasswordVerifier as _;

    use super::*;

    #[test]
    fn a_hash_is_argon2id_and_verifies_only_its_password() {
        let text = hash_password("correct horse battery");
        assert!(
            text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{text}"
        );
        let hash = PasswordHash::new(&text).unwrap();
        assert!(
            Argon2::default()
                .verify_password(b"correct horse battery", &hash)
                .is_ok()
        );
        assert!(
            Argon2::default()
                .verify_password(b"another", &hash)
                .is_err()
        );
        assert_ne!(text, hash_password("correct horse battery"), "salts differ");
    }
}
