//! Headers of `webhooks.raw` and `webhooks.replay`: a CloudEvents 1.0 record in Kafka binary mode.
//!
//! The value is the body, byte for byte. Attributes are from the CloudEvents specification 1.0.2 and its
//! Kafka protocol binding (section 3.2.3, "Metadata Headers"); what is ours rides in extension attributes.

use crate::{DestinationId, EventId, KeyId, ProjectId, ReadError, ReplayId, SourceId};

/// Header names. Extension attributes are lower-case letters and digits only, as CloudEvents asks.
pub mod header {
    pub const SPEC_VERSION: &str = "ce_specversion";
    pub const ID: &str = "ce_id";
    pub const SOURCE: &str = "ce_source";
    pub const TYPE: &str = "ce_type";
    pub const TIME: &str = "ce_time";
    pub const CONTENT_TYPE: &str = "content-type";
    pub const PROJECT: &str = "ce_project";
    pub const KEY_ID: &str = "ce_keyid";
    pub const CONFIG_OFFSET: &str = "ce_configoffset";
    pub const SENDER_HEADERS: &str = "ce_senderheaders";
    pub const SENDER_CONTENT_TYPE: &str = "ce_sendercontenttype";
    pub const SENDER_ENCODING: &str = "ce_senderencoding";
    pub const SENDER_QUERY: &str = "ce_senderquery";
    pub const TRACE_PARENT: &str = "ce_traceparent";
    pub const REPLAY_ID: &str = "ce_replayid";
    pub const REPLAY_DESTINATION: &str = "ce_replaydestination";
    pub const REPLAY_ROUND: &str = "ce_replayround";
}

/// `ce_type` of every raw record.
pub const RECEIVED: &str = "webhook.received";
const SOURCE_PREFIX: &str = "/sources/";
const OPAQUE: &str = "application/octet-stream";

/// Headers that carry credentials by definition; others are found by their name's ending.
const CREDENTIALS: [&str; 8] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "api-key",
    "apikey",
    "x-auth-key",
    "x-amz-security-token",
];

/// Whether a header's value (its name in lower case) is blanked before anything is stored. Signatures may stay: they
/// prove one body and open nothing.
#[must_use]
pub fn is_credential(name: &str) -> bool {
    CREDENTIALS.contains(&name)
        || ["token", "api-key", "apikey", "password", "secret"]
            .iter()
            .any(|end| name.ends_with(end))
}

/// What is known about a raw webhook beside its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMeta {
    pub event_id: EventId,
    pub project_id: ProjectId,
    pub source_id: SourceId,
    /// The API key that let it in; none for `/in/{token}`.
    pub key_id: Option<KeyId>,
    /// RFC 3339 in UTC with milliseconds.
    pub received_at: String,
    /// The sender's own `content-type`.
    pub content_type: Option<String>,
    /// The sender's own `content-encoding`; the body is stored as it came.
    pub content_encoding: Option<String>,
    /// Query string of the request, without `?`.
    pub query: Option<String>,
    /// JSON array of `[name, value]`, or `[name, base64, "base64"]` where a value is not UTF-8, in the
    /// order of the request, credentials blanked. Untrusted: never read as control headers.
    pub sender_headers: String,
    /// How far the edge had read `control.config`.
    pub config_offset: i64,
    /// W3C trace context of the sender, where it gave one.
    pub trace_parent: Option<String>,
    /// Set on records of `webhooks.replay`.
    pub replay: Option<ReplayMeta>,
}

/// What a replay asks of the stages behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayMeta {
    /// None for a redrive from the dead letters, whose deliveries keep their ids.
    pub replay_id: Option<ReplayId>,
    /// Only this destination may receive what follows.
    pub destination_id: Option<DestinationId>,
    /// Counts redrives; 0 on a replay.
    pub round: u32,
}

impl RawMeta {
    /// Hands every header to `put` as name and value.
    pub fn write(&self, mut put: impl FnMut(&'static str, &[u8])) {
        let mut id = uuid::Uuid::encode_buffer();
        put(header::SPEC_VERSION, b"1.0");
        put(
            header::ID,
            self.event_id
                .0
                .hyphenated()
                .encode_lower(&mut id)
                .as_bytes(),
        );
        let mut source = [0u8; SOURCE_PREFIX.len() + 36];
        source[..SOURCE_PREFIX.len()].copy_from_slice(SOURCE_PREFIX.as_bytes());
        self.source_id
            .0
            .hyphenated()
            .encode_lower(&mut source[SOURCE_PREFIX.len()..]);
        put(header::SOURCE, &source);
        put(header::TYPE, RECEIVED.as_bytes());
        put(header::TIME, self.received_at.as_bytes());
        put(
            header::PROJECT,
            self.project_id
                .0
                .hyphenated()
                .encode_lower(&mut id)
                .as_bytes(),
        );
        if let Some(key) = self.key_id {
            put(
                header::KEY_ID,
                key.0.hyphenated().encode_lower(&mut id).as_bytes(),
            );
        }
        put(
            header::CONFIG_OFFSET,
            self.config_offset.to_string().as_bytes(),
        );
        // A reader of CloudEvents would take a compressed body for what content-type says, and a
        // structured-mode one for the event itself: both are hidden behind octet-stream.
        let hidden = self.content_encoding.is_some()
            || self
                .content_type
                .as_deref()
                .is_some_and(is_structured_cloud_event);
        match &self.content_type {
            Some(content_type) if !hidden => put(header::CONTENT_TYPE, content_type.as_bytes()),
            Some(content_type) => {
                put(header::CONTENT_TYPE, OPAQUE.as_bytes());
                put(header::SENDER_CONTENT_TYPE, content_type.as_bytes());
            }
            None if hidden => put(header::CONTENT_TYPE, OPAQUE.as_bytes()),
            None => {}
        }
        let mut optional = |name, value: &Option<String>| {
            if let Some(value) = value {
                put(name, value.as_bytes());
            }
        };
        optional(header::SENDER_ENCODING, &self.content_encoding);
        optional(header::SENDER_QUERY, &self.query);
        optional(header::TRACE_PARENT, &self.trace_parent);
        put(header::SENDER_HEADERS, self.sender_headers.as_bytes());
        if let Some(replay) = self.replay {
            if let Some(replay_id) = replay.replay_id {
                put(
                    header::REPLAY_ID,
                    replay_id.0.hyphenated().encode_lower(&mut id).as_bytes(),
                );
            }
            if let Some(only) = replay.destination_id {
                put(
                    header::REPLAY_DESTINATION,
                    only.0.hyphenated().encode_lower(&mut id).as_bytes(),
                );
            }
            put(header::REPLAY_ROUND, replay.round.to_string().as_bytes());
        }
    }

    /// Reads the headers of a record; those it does not know are left alone.
    ///
    /// # Errors
    /// A header that must be there is missing, or one cannot be read.
    pub fn read<'a>(
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Result<Self, ReadError> {
        let mut event_id = None;
        let mut project_id = None;
        let mut source_id = None;
        let mut key_id = None;
        let mut received_at = None;
        let mut content_type = None;
        let mut sender_content_type = None;
        let mut content_encoding = None;
        let mut query = None;
        let mut sender_headers = None;
        let mut config_offset = None;
        let mut trace_parent = None;
        let mut replay_id = None;
        let mut replay_destination = None;
        let mut round = None;
        for (name, value) in headers {
            let Some(value) = value else { continue };
            match name {
                header::ID => event_id = Some(EventId(read_uuid(header::ID, value)?)),
                header::PROJECT => project_id = Some(ProjectId(read_uuid(header::PROJECT, value)?)),
                header::SOURCE => {
                    let id = value
                        .strip_prefix(SOURCE_PREFIX.as_bytes())
                        .unwrap_or(value);
                    source_id = Some(SourceId(read_uuid(header::SOURCE, id)?));
                }
                header::KEY_ID => key_id = Some(KeyId(read_uuid(header::KEY_ID, value)?)),
                header::TIME => received_at = Some(read_text(header::TIME, value)?),
                header::CONTENT_TYPE => {
                    content_type = Some(read_text(header::CONTENT_TYPE, value)?)
                }
                header::SENDER_CONTENT_TYPE => {
                    sender_content_type = Some(read_text(header::SENDER_CONTENT_TYPE, value)?);
                }
                header::SENDER_ENCODING => {
                    content_encoding = Some(read_text(header::SENDER_ENCODING, value)?);
                }
                header::SENDER_QUERY => query = Some(read_text(header::SENDER_QUERY, value)?),
                header::SENDER_HEADERS => {
                    sender_headers = Some(read_text(header::SENDER_HEADERS, value)?);
                }
                header::CONFIG_OFFSET => {
                    config_offset = Some(read_number(header::CONFIG_OFFSET, value)?);
                }
                header::TRACE_PARENT => {
                    trace_parent = Some(read_text(header::TRACE_PARENT, value)?)
                }
                header::REPLAY_ID => {
                    replay_id = Some(ReplayId(read_uuid(header::REPLAY_ID, value)?));
                }
                header::REPLAY_DESTINATION => {
                    let id = read_uuid(header::REPLAY_DESTINATION, value)?;
                    replay_destination = Some(DestinationId(id));
                }
                header::REPLAY_ROUND => {
                    round = Some(read_number::<u32>(header::REPLAY_ROUND, value)?);
                }
                _ => {}
            }
        }
        let hidden = content_encoding.is_some() || sender_content_type.is_some();
        Ok(Self {
            event_id: event_id.ok_or(ReadError::MissingHeader(header::ID))?,
            project_id: project_id.ok_or(ReadError::MissingHeader(header::PROJECT))?,
            source_id: source_id.ok_or(ReadError::MissingHeader(header::SOURCE))?,
            key_id,
            received_at: received_at.ok_or(ReadError::MissingHeader(header::TIME))?,
            content_type: if hidden {
                sender_content_type
            } else {
                content_type
            },
            content_encoding,
            query,
            sender_headers: sender_headers.unwrap_or_else(|| "[]".into()),
            config_offset: config_offset.unwrap_or(0),
            trace_parent,
            replay: round.map(|round| ReplayMeta {
                replay_id,
                destination_id: replay_destination,
                round,
            }),
        })
    }
}

fn is_structured_cloud_event(content_type: &str) -> bool {
    const PREFIX: &str = "application/cloudevents";
    content_type
        .get(..PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

pub(crate) fn read_text(name: &'static str, value: &[u8]) -> Result<String, ReadError> {
    match std::str::from_utf8(value) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(ReadError::BadHeader {
            name,
            why: error.to_string(),
        }),
    }
}

fn read_uuid(name: &'static str, value: &[u8]) -> Result<uuid::Uuid, ReadError> {
    uuid::Uuid::try_parse_ascii(value).map_err(|error| ReadError::BadHeader {
        name,
        why: error.to_string(),
    })
}

fn read_number<T: std::str::FromStr>(name: &'static str, value: &[u8]) -> Result<T, ReadError> {
    let text = std::str::from_utf8(value).unwrap_or("");
    text.parse().map_err(|_| ReadError::BadHeader {
        name,
        why: "is not a number".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> RawMeta {
        RawMeta {
            event_id: EventId::generate(),
            project_id: ProjectId::DEFAULT,
            source_id: SourceId::generate(),
            key_id: Some(KeyId::generate()),
            received_at: "2026-11-24T01:02:03.004Z".into(),
            content_type: Some("application/json".into()),
            content_encoding: None,
            query: None,
            sender_headers: r#"[["x-github-event","push"]]"#.into(),
            config_offset: 17,
            trace_parent: None,
            replay: None,
        }
    }

    fn written(meta: &RawMeta) -> Vec<(&'static str, Vec<u8>)> {
        let mut headers = Vec::new();
        meta.write(|name, value| headers.push((name, value.to_vec())));
        headers
    }

    fn read_back(headers: &[(&'static str, Vec<u8>)]) -> Result<RawMeta, ReadError> {
        RawMeta::read(
            headers
                .iter()
                .map(|(name, value)| (*name, Some(value.as_slice()))),
        )
    }

    fn header_value(headers: &[(&'static str, Vec<u8>)], name: &str) -> Option<String> {
        let (_, value) = headers.iter().find(|(n, _)| *n == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let plain = meta();
        let compressed = RawMeta {
            content_encoding: Some("gzip".into()),
            ..meta()
        };
        let nothing_told = RawMeta {
            content_type: None,
            key_id: None,
            query: Some("a=1".into()),
            ..meta()
        };
        let replayed = RawMeta {
            replay: Some(ReplayMeta {
                replay_id: Some(ReplayId::generate()),
                destination_id: Some(DestinationId::generate()),
                round: 0,
            }),
            ..meta()
        };
        for original in [plain, compressed, nothing_told, replayed] {
            assert_eq!(read_back(&written(&original)), Ok(original));
        }
    }

    #[test]
    fn readers_of_cloud_events_are_not_misled() {
        let structured = RawMeta {
            content_type: Some("application/cloudevents+json; charset=utf-8".into()),
            ..meta()
        };
        let headers = written(&structured);
        assert_eq!(
            header_value(&headers, "content-type").as_deref(),
            Some(OPAQUE)
        );
        assert_eq!(read_back(&headers), Ok(structured));

        let compressed = RawMeta {
            content_encoding: Some("br".into()),
            ..meta()
        };
        let headers = written(&compressed);
        assert_eq!(
            header_value(&headers, "content-type").as_deref(),
            Some(OPAQUE)
        );
        assert_eq!(
            header_value(&headers, "ce_sendercontenttype").as_deref(),
            Some("application/json")
        );
    }

    #[test]
    fn a_record_without_our_headers_is_an_error_that_names_the_header() {
        assert_eq!(read_back(&[]), Err(ReadError::MissingHeader("ce_id")));
        let bad = vec![("ce_id", b"not a uuid".to_vec())];
        assert!(matches!(
            read_back(&bad),
            Err(ReadError::BadHeader { name: "ce_id", .. })
        ));
    }
}
