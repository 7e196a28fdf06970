//! What the audit found, as JSON for programs and as tables for people.

use serde::Serialize;

use super::{
    Audit, Unreadable,
    ledger::{Account, Unfit},
};
use crate::output::{self, Table};

/// How much a stage has not finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lag {
    pub stage: String,
    pub records: i64,
}

/// One count, from Kafka and from PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    pub what: &'static str,
    pub kafka: u64,
    pub database: u64,
}

/// The counts of Kafka beside those of PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Database {
    /// Whether `archive` had finished everything, and nothing came while the rows were counted; only then
    /// must the counts be the same.
    pub archived: bool,
    /// Events received from then on are compared: milliseconds since 1970, 0 for all.
    pub since_ms: i64,
    pub counts: Vec<Comparison>,
}

impl Database {
    fn differs(&self) -> bool {
        self.counts
            .iter()
            .any(|count| count.kafka != count.database)
    }

    fn balances(&self) -> bool {
        !self.archived || !self.differs()
    }
}

/// The answer of `control-plane audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Everything is accounted for, as far as it was asked.
    pub balanced: bool,
    /// Every stage had finished everything there was.
    pub idle: bool,
    #[serde(flatten)]
    pub account: Account,
    pub lag: Vec<Lag>,
    pub unreadable: Unreadable,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
}

impl Report {
    #[must_use]
    pub fn new(audit: &Audit, database: Option<Database>) -> Self {
        let account = audit.books.account(audit.idle, 0);
        Self {
            balanced: account.balances() && database.as_ref().is_none_or(Database::balances),
            idle: audit.idle,
            account,
            lag: audit.lags.clone(),
            unreadable: audit.unreadable,
            database,
        }
    }

    /// Prints it for people.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn print(&self) -> anyhow::Result<()> {
        output::line(&self.text())
    }

    #[must_use]
    pub fn text(&self) -> String {
        let raw = &self.account.raw;
        let mut text = ledger(
            "raw records",
            raw.records,
            &[
                ("waiting", raw.waiting),
                ("routed", raw.routed),
                ("unrouted", raw.unrouted),
                ("duplicate", raw.duplicate),
                ("set aside", raw.set_aside),
                ("dead", raw.dead),
                ("expired", raw.expired),
            ],
            &[("LOST", &raw.lost), ("UNKNOWN", &raw.unknown)],
        );
        let deliveries = &self.account.deliveries;
        text += "\n";
        text += &ledger(
            "deliveries",
            deliveries.deliveries,
            &[
                ("waiting: queued or in flight", deliveries.queued),
                ("waiting: parked", deliveries.parked),
                ("waiting: held", deliveries.held),
                ("delivered", deliveries.delivered),
                ("cancelled", deliveries.cancelled),
                ("dead", deliveries.dead),
                ("expired", deliveries.expired),
            ],
            &[("LOST", &deliveries.lost), ("UNKNOWN", &deliveries.unknown)],
        );
        text += &self.explained();
        text += &self.lags();
        if let Some(database) = &self.database {
            text += &database.text();
        }
        text += match self.balanced {
            true => "\nbalanced: everything that was accepted is accounted for",
            false => "\nNOT BALANCED",
        };
        text
    }

    /// What the ids that do not fit mean.
    fn explained(&self) -> String {
        let (raw, deliveries) = (&self.account.raw, &self.account.deliveries);
        let told = [
            (
                &raw.lost,
                "raw record(s) that `process` has finished without an outcome in webhooks.processed",
            ),
            (
                &raw.unknown,
                "result(s) of a raw record that is not in webhooks.raw, though it should still be kept",
            ),
            (
                &deliveries.lost,
                "delivery(ies) not at their end, though no stage has anything left to do",
            ),
            (
                &deliveries.unknown,
                "delivery(ies) that were attempted and that no result in webhooks.processed has queued",
            ),
        ];
        let mut text = String::new();
        for (unfit, what) in told.iter().filter(|(unfit, _)| unfit.count > 0) {
            text += &format!("\n{} {what}; the first:\n", unfit.count);
            for id in &unfit.first {
                text += &format!("  {id}\n");
            }
        }
        let Unreadable {
            processed,
            attempts,
        } = self.unreadable;
        if processed + attempts > 0 {
            text += &format!(
                "\npassed over, since they are not readable: {processed} record(s) of webhooks.processed, {attempts} of webhooks.attempts\n"
            );
        }
        text
    }

    fn lags(&self) -> String {
        let behind: Vec<String> = self
            .lag
            .iter()
            .filter(|lag| lag.records > 0)
            .map(|lag| format!("{} {}", lag.stage, lag.records))
            .collect();
        if behind.is_empty() {
            return "\nevery stage has finished everything there is\n".into();
        }
        format!(
            "\nnot finished, in records by stage: {}\n",
            behind.join(", ")
        )
    }
}

impl Database {
    fn text(&self) -> String {
        let mut table = Table::new(&["PostgreSQL", "Kafka", "PostgreSQL", ""]).numeric(&[1, 2]);
        for count in &self.counts {
            let differs = match (count.kafka == count.database, self.archived) {
                (true, _) => "",
                (false, true) => "DIFFERS",
                (false, false) => "not comparable yet",
            };
            table.row([
                count.what.into(),
                count.kafka.to_string(),
                count.database.to_string(),
                differs.into(),
            ]);
        }
        let mut text = format!("\n{}", table.render());
        if self.since_ms > 0 {
            let since = output::time(Some(self.since_ms));
            text += &format!("compared: events received since {since}, which both still keep\n");
        }
        if !self.archived {
            text += "the archive has not finished, or records came meanwhile: these counts prove nothing until it is quiet\n";
        }
        text
    }
}

/// A ledger as a column of figures that add up to its first line.
fn ledger(
    name: &'static str,
    total: u64,
    places: &[(&str, u64)],
    unfit: &[(&str, &Unfit)],
) -> String {
    let total = total.to_string();
    let width = total.len().max(8);
    let mut text = format!("{name:<30} {total:>width$}\n");
    for (place, count) in places {
        text += &format!("  {place:<28} {count:>width$}\n");
    }
    for (place, unfit) in unfit.iter().filter(|(_, unfit)| unfit.count > 0) {
        text += &format!("  {place:<28} {:>width$}\n", unfit.count);
    }
    text
}
