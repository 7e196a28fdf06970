//! `config.models`: which models are in force. One row for the whole installation; before a model was ever chosen
//! there is none, and the model that came with the program is in force.

use router_schemas::config::{ACTIVE_MODEL, BUILTIN_MODEL, Kind, ModelConfig};
use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection};

use super::{Change, Setting, StoreError, json_value};
use crate::validate;

/// Models that can be gone back to; the oldest is forgotten first.
const HISTORY_MAX: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Models {
    id: String,
    pub current: String,
    pub shadow: Option<String>,
    /// What was current before, the newest last.
    pub history: Vec<String>,
    version: i64,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            id: ACTIVE_MODEL.into(),
            current: BUILTIN_MODEL.into(),
            shadow: None,
            history: Vec::new(),
            version: 0,
        }
    }
}

impl Models {
    #[must_use]
    pub fn config(&self) -> ModelConfig {
        ModelConfig {
            current: (self.current != BUILTIN_MODEL).then(|| self.current.clone()),
            shadow: self.shadow.clone(),
        }
    }

    /// Lets a model answer beside the current one.
    fn try_out(mut self, name: &str) -> Result<Self, StoreError> {
        if self.current == name {
            return conflict(format!("{name} is the current model already"));
        }
        self.shadow = Some(name.to_owned());
        Ok(self)
    }

    /// Makes a model, or else the shadow, the current one.
    fn promote(mut self, name: Option<&str>) -> Result<Self, StoreError> {
        let Some(name) = name.map(str::to_owned).or_else(|| self.shadow.clone()) else {
            return conflict(
                "there is no shadow to promote; name a model, or try one out first with `control-plane model shadow NAME`".into(),
            );
        };
        if self.current == name {
            return conflict(format!("{name} is the current model already"));
        }
        let before = std::mem::replace(&mut self.current, name);
        self.history.push(before);
        let forgotten = self.history.len().saturating_sub(HISTORY_MAX);
        self.history.drain(..forgotten);
        Ok(self.without_double())
    }

    /// Makes the model before the current one.
    fn roll_back(mut self) -> Result<Self, StoreError> {
        let Some(before) = self.history.pop() else {
            return conflict(
                "there is no model to go back to: none was current before this one".into(),
            );
        };
        self.current = before;
        Ok(self.without_double())
    }

    /// A model that is current has no use as a shadow.
    fn without_double(mut self) -> Self {
        self.shadow = self.shadow.filter(|shadow| *shadow != self.current);
        self
    }
}

fn conflict<T>(why: String) -> Result<T, StoreError> {
    Err(StoreError::Conflict(why))
}

impl Setting for Models {
    const KIND: Kind = Kind::Model;
    fn id(&self) -> String {
        self.id.clone()
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn record(&self) -> Option<Value> {
        Some(json_value(&self.config()))
    }
    fn audited(&self) -> Value {
        json!({ "current": self.current, "shadow": self.shadow })
    }
}

/// Tries a model out beside the current one; none ends the trial.
///
/// # Errors
/// The name is refused, or that model is the current one.
pub async fn set_shadow(change: &mut Change, name: Option<&str>) -> Result<Models, StoreError> {
    let name = name.map(validate::model).transpose()?;
    let action = if name.is_some() {
        "shadow"
    } else {
        "shadow_off"
    };
    alter(change, action, |models| match name {
        Some(name) => models.try_out(name),
        None => Ok(Models {
            shadow: None,
            ..models
        }),
    })
    .await
}

/// Makes a model the current one: that of a name, else the shadow.
///
/// # Errors
/// The name is refused, there is no shadow, or that model is the current one.
pub async fn promote(change: &mut Change, name: Option<&str>) -> Result<Models, StoreError> {
    let name = name.map(validate::model).transpose()?;
    alter(change, "promote", |models| models.promote(name)).await
}

/// Makes the model that was current before the current one again.
///
/// # Errors
/// There was none.
pub async fn roll_back(change: &mut Change) -> Result<Models, StoreError> {
    alter(change, "rollback", Models::roll_back).await
}

async fn alter(
    change: &mut Change,
    action: &str,
    with: impl FnOnce(Models) -> Result<Models, StoreError>,
) -> Result<Models, StoreError> {
    // There is a row from here on, and nobody else changes it.
    sqlx::query("insert into config.models (id) values ($1) on conflict (id) do nothing")
        .bind(ACTIVE_MODEL)
        .execute(change.connection())
        .await?;
    let before: Models = sqlx::query_as("select * from config.models where id = $1 for update")
        .bind(ACTIVE_MODEL)
        .fetch_one(change.connection())
        .await?;
    let wanted = with(before.clone())?;
    let after: Models = sqlx::query_as(
        "update config.models set current = $2, shadow = $3, history = $4 where id = $1 returning *",
    )
    .bind(ACTIVE_MODEL)
    .bind(&wanted.current)
    .bind(&wanted.shadow)
    .bind(&wanted.history)
    .fetch_one(change.connection())
    .await?;
    change.updated(action, &before, &after).await?;
    Ok(after)
}

/// What is in force.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn get(connection: &mut PgConnection) -> Result<Models, StoreError> {
    Ok(all(connection).await?.pop().unwrap_or_default())
}

/// The row, where there is one.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn all(connection: &mut PgConnection) -> Result<Vec<Models>, StoreError> {
    Ok(sqlx::query_as("select * from config.models")
        .fetch_all(connection)
        .await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(models: &Models) -> (&str, Option<&str>) {
        (&models.current, models.shadow.as_deref())
    }

    #[test]
    fn a_model_is_tried_out_promoted_and_gone_back_from() {
        let models = Models::default();
        assert_eq!(models.config(), ModelConfig::default());
        assert!(models.clone().promote(None).is_err(), "there is no shadow");
        assert!(models.clone().roll_back().is_err(), "none was before");
        assert!(models.clone().try_out("builtin").is_err());
        let models = models.try_out("b").unwrap();
        assert_eq!(names(&models), ("builtin", Some("b")));
        let models = models.promote(None).unwrap();
        assert_eq!(names(&models), ("b", None));
        let models = models
            .try_out("builtin")
            .unwrap()
            .promote(Some("c"))
            .unwrap();
        assert_eq!(names(&models), ("c", Some("builtin")));
        let models = models.roll_back().unwrap();
        assert_eq!(names(&models), ("b", Some("builtin")));
        let models = models.roll_back().unwrap();
        assert_eq!(names(&models), ("builtin", None), "current is no shadow");
        assert!(models.roll_back().is_err());
    }

    #[test]
    fn the_oldest_models_are_forgotten() {
        let mut models = Models::default();
        for n in 0..30 {
            models = models.promote(Some(&n.to_string())).unwrap();
        }
        assert_eq!(models.history.len(), HISTORY_MAX);
        assert_eq!(models.history.last().map(String::as_str), Some("28"));
    }
}
