//! placeholder until deploy/local is there
use std::path::Path;
pub(super) struct OwnStack {
    pub(super) brokers: String,
    pub(super) database_url: String,
}
impl OwnStack {
    pub(super) fn start(_root: &Path) -> anyhow::Result<Self> {
        anyhow::bail!("set KAFKA_BROKERS and DATABASE_URL")
    }
}
