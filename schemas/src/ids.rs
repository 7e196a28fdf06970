//! Identifiers as newtypes, so that two of them cannot be swapped.
//!
//! All are UUIDs written in lower case with hyphens, the same text in headers, JSON, URLs and tables.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ReadError;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id, ordered by time of creation (UUIDv7).
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(s).map(Self)
            }
        }
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "format": "uuid"})
            }
        }
    };
}

id!(
    /// Something that users teach the classifier: a rule, a label of their own, or a correction.
    KnowledgeId
);
id!(
    /// One webhook as it was received. UUIDv7: its first 48 bits are the time of receipt in
    /// milliseconds, by which the log tables are partitioned.
    EventId
);
id!(
    /// One piece of delivery work: the same on every retry, another on a replay.
    DeliveryId
);
id!(
    /// The tenant that everything belongs to.
    ProjectId
);
id!(SourceId);
id!(DestinationId);
id!(RouteId);
id!(KeyId);
id!(UserId);
id!(
    /// One run of `replay`.
    ReplayId
);

impl ProjectId {
    /// The project that exists until people make more.
    pub const DEFAULT: Self = Self(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001));
}

impl EventId {
    /// Time of receipt in milliseconds since 1970, or why this is not an event id of ours.
    ///
    /// # Errors
    /// The id is of another UUID version.
    pub fn received_at_ms(self) -> Result<i64, ReadError> {
        if self.0.get_version_num() != 7 {
            return Err(ReadError::BadEventId("is not a UUIDv7"));
        }
        Ok((self.0.as_u128() >> 80) as i64)
    }

    /// Checks that the id is one that an edge can have given between `oldest_ms` and `newest_ms`.
    ///
    /// # Errors
    /// Another version, or a time outside the range: such an id would fall outside every table partition.
    pub fn check_range(self, oldest_ms: i64, newest_ms: i64) -> Result<(), ReadError> {
        let at = self.received_at_ms()?;
        if at < oldest_ms {
            return Err(ReadError::BadEventId("lies before the kept range"));
        }
        if at > newest_ms {
            return Err(ReadError::BadEventId("lies in the future"));
        }
        Ok(())
    }

    /// Checks that an edge can have given the id to a raw record that the broker stamped `record_ms`: not
    /// before 2020, when there was no edge, and not more than a day ahead of the broker's clock. One rule
    /// for all who account for raw records: where it fails, [`EventId::synthetic`] names the record.
    ///
    /// # Errors
    /// Another version, or a time outside the range.
    pub fn check_given(self, record_ms: i64) -> Result<(), ReadError> {
        const OLDEST_MS: i64 = 1_577_836_800_000;
        const CLOCK_SLACK_MS: i64 = 24 * 3_600_000;
        self.check_range(OLDEST_MS, record_ms.saturating_add(CLOCK_SLACK_MS))
    }

    /// The id under which a record without a usable id of its own is accounted for: a pure function of
    /// where it stands, so that reading it twice names it the same.
    #[must_use]
    pub fn synthetic(timestamp_ms: i64, topic: &str, partition: i32, offset: i64) -> Self {
        let place = Uuid::new_v5(
            &NAMESPACE,
            format!("{topic}/{partition}/{offset}").as_bytes(),
        );
        let time = (timestamp_ms.max(0) as u128 & 0xffff_ffff_ffff) << 80;
        let rest = place.as_u128() & ((1 << 80) - 1);
        // Version 7 and the variant bits of RFC 9562.
        let bits = (time | rest) & !(0xf << 76) & !(0x3 << 62) | (0x7 << 76) | (0x2 << 62);
        Self(Uuid::from_u128(bits))
    }
}

/// Namespace of the name-based ids of this product (a random UUID, fixed for ever).
const NAMESPACE: Uuid = Uuid::from_u128(0x6d0f_1c52_9a3e_4b57_8f21_c4d8_07b6_ea93);

impl DeliveryId {
    /// The id of the delivery of `item` of `event` to `destination`: working a record twice names the
    /// same delivery, a replay names another.
    #[must_use]
    pub fn derive(
        event: EventId,
        item: u32,
        destination: DestinationId,
        replay: Option<ReplayId>,
    ) -> Self {
        let mut name = [0u8; 52];
        name[..16].copy_from_slice(event.0.as_bytes());
        name[16..20].copy_from_slice(&item.to_be_bytes());
        name[20..36].copy_from_slice(destination.0.as_bytes());
        if let Some(replay) = replay {
            name[36..].copy_from_slice(replay.0.as_bytes());
        }
        Self(Uuid::new_v5(&NAMESPACE, &name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_id_depends_on_each_of_its_parts_and_on_nothing_else() {
        let (event, other) = (EventId::generate(), EventId::generate());
        let destination = DestinationId::generate();
        let replay = ReplayId::generate();
        let id = DeliveryId::derive(event, 0, destination, None);
        assert_eq!(id, DeliveryId::derive(event, 0, destination, None));
        assert_ne!(id, DeliveryId::derive(other, 0, destination, None));
        assert_ne!(id, DeliveryId::derive(event, 1, destination, None));
        assert_ne!(
            id,
            DeliveryId::derive(event, 0, DestinationId::generate(), None)
        );
        assert_ne!(id, DeliveryId::derive(event, 0, destination, Some(replay)));
    }

    #[test]
    fn a_synthetic_event_id_is_a_valid_v7_of_the_records_time() {
        let id = EventId::synthetic(1_780_000_000_123, "webhooks.raw", 3, 42);
        assert_eq!(id.received_at_ms(), Ok(1_780_000_000_123));
        assert_eq!(
            id,
            EventId::synthetic(1_780_000_000_123, "webhooks.raw", 3, 42)
        );
        assert_ne!(
            id,
            EventId::synthetic(1_780_000_000_123, "webhooks.raw", 3, 43)
        );
    }

    #[test]
    fn an_id_of_another_century_is_refused() {
        let old = EventId::synthetic(1_000, "t", 0, 0);
        let now_ms = 1_780_000_000_000;
        assert!(old.check_given(now_ms).is_err());
        assert!(
            EventId::synthetic(now_ms, "t", 0, 0)
                .check_given(now_ms)
                .is_ok()
        );
        let ahead = EventId::synthetic(now_ms + 25 * 3_600_000, "t", 0, 0);
        assert!(ahead.check_given(now_ms).is_err());
        assert!(old.check_range(1_700_000_000_000, i64::MAX).is_err());
        assert!(
            EventId(Uuid::from_u128(0x1234))
                .check_range(0, i64::MAX)
                .is_err()
        );
    }
}
