//! Compares `control.config` with the tables and mends the topic: what is missing, older or different is
//! written again, what no table owns is deleted.
//!
//! The tables are the truth. What is to be written goes through the outbox like every change, so that
//! there is one writer whether or not a publisher runs.

use std::collections::BTreeMap;

use router_runtime::kafka::KafkaSettings;
use router_schemas::config::{ConfigRecord, Kind, MARKER_KEY, READER_VERSION};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::{
    config_topic::{self, Contents},
    error::CommandError,
    publisher,
    store::{
        Setting, StoreError, api_keys, corrections, destinations, labels, models, outbox, routes,
        rules, sources,
    },
};

/// A version above this was not reached by changing a row.
const VERSION_MAX: i64 = i64::MAX / 2;

/// One record that is not as the tables say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `<kind>/<id>`; bytes that are not UTF-8 are shown as replacement characters.
    pub key: String,
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Missing,
    Unreadable,
    Older,
    /// The topic holds a version above that of the tables: they were restored from a backup, or another
    /// installation writes to this topic. The row is raised above it.
    Newer,
    Different,
    /// No table owns it.
    Stray,
    /// Written by a newer version of the control plane; left alone.
    FromTheFuture,
}

impl What {
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Missing => "missing; written",
            Self::Unreadable => "unreadable; written",
            Self::Older => "older than the tables; written",
            Self::Newer => "newer than the tables; the row's version was raised and written",
            Self::Different => "same version, another value; written",
            Self::Stray => "in no table; deleted",
            Self::FromTheFuture => "written by a newer version of this program; left alone",
        }
    }
}

/// What should stand under a key.
struct Wanted {
    kind: &'static str,
    id: String,
    version: i64,
    value: Value,
}

/// Mends the topic; returns what was wrong, once everything is acknowledged.
///
/// # Errors
/// Kafka or PostgreSQL fails; running it again goes on.
pub async fn republish(
    pool: &PgPool,
    kafka: &KafkaSettings,
) -> Result<Vec<Difference>, CommandError> {
    // What only waits to be published is no difference.
    let waiting = outbox::unpublished(pool).await?;
    publisher::confirm(pool, kafka, &waiting).await?;
    let settings = kafka.clone();
    let contents = tokio::task::spawn_blocking(move || config_topic::read(&settings));
    let contents = contents.await.map_err(anyhow::Error::from)??;
    let mut transaction = pool.begin().await?;
    // No change may come between reading the rows and writing their outbox records. In the order in which
    // changes take them, so that neither waits for the other.
    sqlx::query(
        "lock table config.rules, config.labels, config.corrections, config.models, config.routes, auth.api_keys,
             config.destinations, config.sources, config.outbox in share row exclusive mode",
    )
    .execute(&mut *transaction)
    .await?;
    let wanted = wanted(&mut transaction).await?;
    let differences = compare(&wanted, &contents);
    let mut seqs = Vec::new();
    for (key, what, topic_version) in &differences {
        if let Some(seq) = mend(&mut transaction, key, *what, *topic_version, &wanted).await? {
            seqs.push(seq);
        }
    }
    transaction.commit().await?;
    publisher::confirm(pool, kafka, &seqs).await?;
    let shown = |(key, what, _): (Vec<u8>, What, i64)| Difference {
        key: String::from_utf8_lossy(&key).into_owned(),
        what,
    };
    Ok(differences.into_iter().map(shown).collect())
}

async fn wanted(connection: &mut PgConnection) -> Result<BTreeMap<Vec<u8>, Wanted>, StoreError> {
    let mut all = BTreeMap::new();
    let marker = Wanted {
        kind: Kind::Marker.name(),
        id: "installation".into(),
        version: 1,
        value: json!({}),
    };
    all.insert(MARKER_KEY.as_bytes().to_vec(), marker);
    add(&mut all, &sources::all(connection).await?);
    add(&mut all, &api_keys::all(connection).await?);
    add(&mut all, &destinations::all(connection).await?);
    add(&mut all, &routes::all(connection).await?);
    add(&mut all, &rules::all(connection).await?);
    add(&mut all, &labels::all(connection).await?);
    add(&mut all, &corrections::all(connection).await?);
    add(&mut all, &models::all(connection).await?);
    Ok(all)
}

fn add<S: Setting>(all: &mut BTreeMap<Vec<u8>, Wanted>, rows: &[S]) {
    for row in rows {
        let Some(value) = row.record() else { continue };
        let (kind, id) = (S::KIND.name(), row.id());
        let key = format!("{kind}/{id}").into_bytes();
        all.insert(
            key,
            Wanted {
                kind,
                id,
                version: row.version(),
                value,
            },
        );
    }
}

/// Keys whose record is not as wanted, why, and the version that stands in the topic (0 where none does).
fn compare(wanted: &BTreeMap<Vec<u8>, Wanted>, contents: &Contents) -> Vec<(Vec<u8>, What, i64)> {
    let mut differences = Vec::new();
    for (key, wanted) in wanted {
        let found = match contents.get(key) {
            None => Some((What::Missing, 0)),
            Some(bytes) => differs(wanted, bytes),
        };
        differences.extend(found.map(|(what, version)| (key.clone(), what, version)));
    }
    for (key, bytes) in contents {
        if wanted.contains_key(key) {
            continue;
        }
        let future = parse(bytes).is_some_and(|(_, reader, _)| reader > READER_VERSION);
        differences.push((
            key.clone(),
            if future {
                What::FromTheFuture
            } else {
                What::Stray
            },
            0,
        ));
    }
    differences
}

fn differs(wanted: &Wanted, bytes: &[u8]) -> Option<(What, i64)> {
    let Some((version, reader, value)) = parse(bytes) else {
        return Some((What::Unreadable, 0));
    };
    if reader > READER_VERSION {
        return Some((What::FromTheFuture, version));
    }
    match version.cmp(&wanted.version) {
        std::cmp::Ordering::Less => Some((What::Older, version)),
        // Of the marker only its presence counts; it has no row whose version could be raised.
        std::cmp::Ordering::Greater if wanted.kind == Kind::Marker.name() => None,
        std::cmp::Ordering::Greater => Some((What::Newer, version)),
        std::cmp::Ordering::Equal if value != wanted.value => Some((What::Different, version)),
        std::cmp::Ordering::Equal => None,
    }
}

fn parse(bytes: &[u8]) -> Option<(i64, u32, Value)> {
    let record: ConfigRecord<'_> = serde_json::from_slice(bytes).ok()?;
    Some((
        record.version,
        record.reader,
        serde_json::from_str(record.value.get()).ok()?,
    ))
}

async fn mend(
    connection: &mut PgConnection,
    key: &[u8],
    what: What,
    topic_version: i64,
    wanted: &BTreeMap<Vec<u8>, Wanted>,
) -> Result<Option<i64>, StoreError> {
    if what == What::FromTheFuture {
        return Ok(None);
    }
    let Some(wanted) = wanted.get(key) else {
        return delete(connection, key).await.map(Some);
    };
    let mut version = wanted.version;
    if what == What::Newer && topic_version < VERSION_MAX {
        // Readers keep the higher version, so the row has to come out above it.
        version = topic_version + 1;
        raise(connection, wanted, version).await?;
    } else if what == What::Newer {
        // No honest writer got that far, and a row raised above it could not be changed any more. Deleting
        // makes readers forget the version; the value follows in the same transaction of the topic.
        delete(connection, key).await?;
    }
    let value = Some(wanted.value.clone());
    outbox::insert(connection, wanted.kind, &wanted.id, version, value)
        .await
        .map(Some)
}

/// Deletes a record by its key's bytes, whatever it is.
async fn delete(connection: &mut PgConnection, key: &[u8]) -> Result<i64, StoreError> {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    outbox::insert(connection, outbox::STRAY, &hex, 0, None).await
}

async fn raise(
    connection: &mut PgConnection,
    wanted: &Wanted,
    version: i64,
) -> Result<(), StoreError> {
    let table = match Kind::parse(wanted.kind) {
        Some(Kind::Key) => "auth.api_keys",
        Some(Kind::Source) => "config.sources",
        Some(Kind::Destination) => "config.destinations",
        Some(Kind::Route) => "config.routes",
        Some(Kind::Rule) => "config.rules",
        Some(Kind::Label) => "config.labels",
        Some(Kind::Correction) => "config.corrections",
        Some(Kind::Model) => "config.models",
        // The marker has no row.
        Some(Kind::Marker) | None => return Ok(()),
    };
    // The name of the table is one of those above. The model's id is text, all others are UUIDs.
    sqlx::query(AssertSqlSafe(format!(
        "update {table} set version = $2 where id::text = $1"
    )))
    .bind(&wanted.id)
    .bind(version)
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted_one(version: i64) -> BTreeMap<Vec<u8>, Wanted> {
        let wanted = Wanted {
            kind: "key",
            id: "a".into(),
            version,
            value: json!({ "x": 1 }),
        };
        BTreeMap::from([(b"key/a".to_vec(), wanted)])
    }

    fn found(bytes: &str) -> Vec<What> {
        let contents = Contents::from([(b"key/a".to_vec(), bytes.as_bytes().to_vec())]);
        compare(&wanted_one(5), &contents)
            .into_iter()
            .map(|(_, what, _)| what)
            .collect()
    }

    #[test]
    fn each_way_to_differ_is_told_apart() {
        assert_eq!(found(r#"{"version":5,"reader":1,"value":{"x":1}}"#), []);
        assert_eq!(
            found(r#"{"version":4,"reader":1,"value":{"x":1}}"#),
            [What::Older]
        );
        assert_eq!(
            found(r#"{"version":6,"reader":1,"value":{"x":1}}"#),
            [What::Newer]
        );
        assert_eq!(
            found(r#"{"version":5,"reader":1,"value":{"x":2}}"#),
            [What::Different]
        );
        assert_eq!(
            found(r#"{"version":5,"reader":9,"value":{"x":2}}"#),
            [What::FromTheFuture]
        );
        assert_eq!(found("garbage"), [What::Unreadable]);
        let mut marker = wanted_one(1);
        if let Some(wanted) = marker.get_mut(b"key/a".as_slice()) {
            wanted.kind = Kind::Marker.name();
        }
        let newer = br#"{"version":9,"reader":1,"value":{"x":1}}"#.to_vec();
        let contents = Contents::from([(b"key/a".to_vec(), newer)]);
        assert_eq!(
            compare(&marker, &contents),
            [],
            "the marker has no version to raise"
        );
        let missing = compare(&wanted_one(5), &Contents::new());
        assert_eq!(missing[0].1, What::Missing);
    }

    #[test]
    fn what_no_table_owns_is_stray_unless_a_newer_program_wrote_it() {
        let contents = Contents::from([
            (
                b"key/b".to_vec(),
                br#"{"version":1,"reader":1,"value":{}}"#.to_vec(),
            ),
            (vec![0xff], b"garbage".to_vec()),
            (
                b"filter/a".to_vec(),
                br#"{"version":1,"reader":2,"value":{}}"#.to_vec(),
            ),
        ]);
        let kinds: Vec<What> = compare(&BTreeMap::new(), &contents)
            .into_iter()
            .map(|(_, what, _)| what)
            .collect();
        assert_eq!(kinds, [What::FromTheFuture, What::Stray, What::Stray]);
    }
}
