//! `control.events`: what the data plane has to tell the control plane. JSON, keyed by project id.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DeliveryId, DestinationId, ProjectId};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ControlEvent {
    /// A destination answered `410 Gone`: it is to be disabled.
    DestinationGone {
        project_id: ProjectId,
        destination_id: DestinationId,
        delivery_id: DeliveryId,
        /// Milliseconds since 1970.
        at_ms: i64,
    },
}
