//! `ingestion.logs`: a row for each record of `webhooks.raw`.
//!
//! A record that says no usable event id is stored under the same synthetic id under which `process`
//! accounts for it, so that every raw record has its row. `process` sets such a record aside; a second
//! dead letter from here would only make a redrive work it twice.

use bytes::Bytes;
use router_runtime::consumer::Incoming;
use router_schemas::{EventId, ProjectId, RawMeta, ReadError, RecordPosition};
use sqlx::PgConnection;
use uuid::Uuid;

use super::text;

/// A sender's clock does not stand in an event id, ours does: no more than this may it be ahead.
pub(super) const AHEAD_MS: i64 = 24 * 3_600_000;

#[derive(Debug)]
pub(super) struct RawRow {
    pub(super) event_id: EventId,
    pub(super) project_id: ProjectId,
    received_at_ms: i64,
    source_id: Uuid,
    key_id: Option<Uuid>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    query: Option<String>,
    headers: String,
    body: Bytes,
    position: RecordPosition,
}

impl RawRow {
    pub(super) fn read(record: &Incoming) -> Self {
        Self::own(record).unwrap_or_else(|_| Self::synthetic(record))
    }

    fn own(record: &Incoming) -> Result<Self, ReadError> {
        let meta = RawMeta::read(record.headers())?;
        meta.event_id.check_given(record.timestamp_ms())?;
        // Written by the edge from the clock reading that the id carries; the id's is the fallback.
        let received_at_ms = match meta.received_at.parse::<jiff::Timestamp>() {
            Ok(time) => time.as_millisecond(),
            Err(_) => meta.event_id.received_at_ms()?,
        };
        Ok(Self {
            event_id: meta.event_id,
            project_id: meta.project_id,
            received_at_ms,
            source_id: meta.source_id.0,
            key_id: meta.key_id.map(|key| key.0),
            content_type: meta.content_type.map(text::plain),
            content_encoding: meta.content_encoding.map(text::plain),
            query: meta.query.map(text::plain),
            headers: text::foreign_json(meta.sender_headers),
            body: record.payload_bytes(),
            position: record.position(),
        })
    }

    fn synthetic(record: &Incoming) -> Self {
        let at_ms = record.timestamp_ms();
        let (topic, partition, offset) = (record.topic(), record.partition(), record.offset());
        Self {
            event_id: EventId::synthetic(at_ms, topic, partition, offset),
            project_id: ProjectId::DEFAULT,
            received_at_ms: at_ms,
            source_id: Uuid::nil(),
            key_id: None,
            content_type: None,
            content_encoding: None,
            query: None,
            headers: "[]".into(),
            body: record.payload_bytes(),
            position: record.position(),
        }
    }
}

const INSERT: &str = "\
insert into ingestion.logs (event_id, received_at, project_id, source_id, key_id, content_type, \
    content_encoding, query, headers, body, body_bytes, raw_topic, raw_partition, raw_offset) \
select event_id, ingestion.at_ms(received_at_ms), project_id, source_id, key_id, content_type, \
    content_encoding, query, headers::jsonb, body, octet_length(body), raw_topic, raw_partition, raw_offset \
from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], \
    $8::text[], $9::text[], $10::bytea[], $11::text[], $12::integer[], $13::bigint[]) \
    as new (event_id, received_at_ms, project_id, source_id, key_id, content_type, \
    content_encoding, query, headers, body, raw_topic, raw_partition, raw_offset) \
on conflict do nothing";

/// Writes the rows that are not there yet; returns how many those were.
pub(super) async fn insert(
    connection: &mut PgConnection,
    mut rows: Vec<&RawRow>,
) -> Result<u64, sqlx::Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    // Two writers that meet in the same rows must meet in the same order, or they deadlock.
    rows.sort_unstable_by_key(|row| row.event_id);
    macro_rules! column {
        ($row:ident => $value:expr) => {
            rows.iter().map(|$row| $value).collect::<Vec<_>>()
        };
    }
    let done = sqlx::query(INSERT)
        .bind(column!(row => row.event_id.0))
        .bind(column!(row => row.received_at_ms))
        .bind(column!(row => row.project_id.0))
        .bind(column!(row => row.source_id))
        .bind(column!(row => row.key_id))
        .bind(column!(row => row.content_type.as_deref()))
        .bind(column!(row => row.content_encoding.as_deref()))
        .bind(column!(row => row.query.as_deref()))
        .bind(column!(row => row.headers.as_str()))
        .bind(column!(row => &row.body[..]))
        .bind(column!(row => row.position.topic.as_str()))
        .bind(column!(row => row.position.partition))
        .bind(column!(row => row.position.offset))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests {
    use router_schemas::raw::header;

    use super::*;

    #[test]
    fn a_record_without_a_usable_id_has_a_row_under_a_synthetic_one() {
        let future = EventId::synthetic(9_000_000_000_000, "t", 0, 0).to_string();
        let project = ProjectId::DEFAULT.to_string();
        let with_id = |id: &str| {
            let headers = [
                (header::ID, id.as_bytes()),
                (header::PROJECT, project.as_bytes()),
                (header::SOURCE, project.as_bytes()),
                (header::TIME, b"2026-11-24T01:02:03.004Z".as_slice()),
            ];
            RawRow::read(&Incoming::fixture("webhooks.raw", 7, &headers, b"body"))
        };
        let good = EventId::generate();
        assert_eq!(with_id(&good.to_string()).event_id, good);
        assert_eq!(with_id(&good.to_string()).received_at_ms, 1_795_482_123_004);
        for bad in [
            future.as_str(),
            "garbage",
            "6d0f1c52-9a3e-4b57-8f21-c4d807b6ea93",
        ] {
            let row = with_id(bad);
            assert_ne!(row.event_id.to_string(), bad);
            assert_eq!(
                row.event_id,
                EventId::synthetic(row.received_at_ms, "webhooks.raw", 0, 7)
            );
            assert_eq!(&row.body[..], b"body");
        }
    }
}
