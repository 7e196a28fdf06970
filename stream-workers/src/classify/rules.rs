//! The rules of a project, compiled: pure, exact, and before any model. Nothing here allocates for a webhook.
//!
//! Which rule decides, and why, is said here; what a single condition finds in a webhook, in `place`. The control
//! plane compiles a rule before it saves it, and explains one with the same code.

use std::sync::Arc;

use router_schemas::{
    KnowledgeId, SourceId,
    config::{Condition, RuleConfig},
};
use serde_json::Value;

use super::place::Place;
use crate::headers::SenderHeaders;

/// Enabled rules of one project, in the order in which they are read.
#[derive(Debug, Default, Clone)]
pub struct Rules {
    rules: Vec<Arc<Rule>>,
}

/// A rule whose pointers are parsed.
#[derive(Debug)]
pub struct Rule {
    pub id: KnowledgeId,
    pub config: RuleConfig,
    /// As the conditions of `config`.
    fields: Vec<Place>,
}

/// Why a rule decided or did not, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation<'a> {
    /// Whether the rule is for webhooks of this source.
    pub source_fits: bool,
    pub conditions: Vec<Asked<'a>>,
}

/// One condition, and what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'a> {
    pub condition: &'a Condition,
    pub holds: bool,
    /// What stands there, as it is compared; of several headers the first. None where nothing does.
    pub found: Option<String>,
}

impl Explanation<'_> {
    /// Whether the rule decides.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.source_fits && self.conditions.iter().all(|asked| asked.holds)
    }
}

impl Rules {
    /// Sets a rule, or takes it away. Disabled ones are left out.
    pub fn set(&mut self, id: KnowledgeId, rule: Option<Rule>) {
        self.rules.retain(|rule| rule.id != id);
        if let Some(rule) = rule.filter(|rule| !rule.config.disabled) {
            // The same order everywhere: by position, then by id.
            let place = rule.place();
            let at = self.rules.partition_point(|other| other.place() < place);
            self.rules.insert(at, Arc::new(rule));
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|rule| &**rule)
    }

    /// The first rule that holds. Headers in lower case; `body` is what was parsed, a form as an object.
    #[must_use]
    pub fn decide<'a>(
        &'a self,
        source: SourceId,
        headers: &SenderHeaders<'_>,
        body: Option<&Value>,
    ) -> Option<&'a Rule> {
        self.iter().find(|rule| rule.holds(source, headers, body))
    }
}

impl Rule {
    /// # Errors
    /// A pointer is none, or the rule asks nothing.
    pub fn compile(id: KnowledgeId, config: RuleConfig) -> Result<Self, String> {
        if config.conditions.is_empty() {
            // It would decide everything, which nobody has asked for.
            return Err("a rule needs at least one condition".into());
        }
        let fields = config
            .conditions
            .iter()
            .map(|condition| Place::of(&condition.field))
            .collect::<Result<_, _>>()?;
        Ok(Self { id, config, fields })
    }

    fn place(&self) -> (i32, KnowledgeId) {
        (self.config.position, self.id)
    }

    fn is_for(&self, source: SourceId) -> bool {
        self.config.sources.is_empty() || self.config.sources.contains(&source)
    }

    fn conditions(&self) -> impl Iterator<Item = (&Condition, &Place)> {
        self.config.conditions.iter().zip(&self.fields)
    }

    fn holds(&self, source: SourceId, headers: &SenderHeaders<'_>, body: Option<&Value>) -> bool {
        self.is_for(source)
            && self
                .conditions()
                .all(|(condition, place)| place.passes(&condition.test, headers, body))
    }

    /// Which conditions hold, and which do not.
    #[must_use]
    pub fn explain(
        &self,
        source: SourceId,
        headers: &SenderHeaders<'_>,
        body: Option<&Value>,
    ) -> Explanation<'_> {
        let asked = |(condition, place): (_, &Place)| {
            let condition: &Condition = condition;
            Asked {
                condition,
                holds: place.passes(&condition.test, headers, body),
                found: place.shown(headers, body),
            }
        };
        Explanation {
            source_fits: self.is_for(source),
            conditions: self.conditions().map(asked).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use router_schemas::ProjectId;
    use serde_json::json;

    use super::*;

    fn config(position: i32, conditions: Value) -> RuleConfig {
        serde_json::from_value(json!({"project_id": ProjectId::DEFAULT, "name": "r",
            "position": position, "conditions": conditions, "category": "billing"}))
        .unwrap()
    }

    fn one(condition: Value) -> Rules {
        let id = KnowledgeId::generate();
        let mut rules = Rules::default();
        rules.set(id, Rule::compile(id, config(1, json!([condition]))).ok());
        rules
    }

    fn source() -> SourceId {
        SourceId(uuid::Uuid::from_u128(7))
    }

    fn headers() -> SenderHeaders<'static> {
        SenderHeaders::parse(r#"[["x-event","push"],["x-event","ping"],["x-empty",""]]"#)
    }

    fn holds(condition: Value, body: &Value) -> bool {
        let rules = one(condition);
        assert!(!rules.is_empty(), "it compiles");
        let decided = rules.decide(source(), &headers(), Some(body));
        decided.is_some()
    }

    #[test]
    fn headers_are_asked_by_name_and_one_of_several_is_enough() {
        let body = json!({});
        for (test, wanted) in [
            (json!({"header": "x-event", "equals": "push"}), true),
            (json!({"header": "X-Event", "equals": "ping"}), true),
            (json!({"header": "x-event", "equals": "Push"}), false),
            (json!({"header": "x-event", "one_of": ["a", "push"]}), true),
            (json!({"header": "x-event", "one_of": []}), false),
            (json!({"header": "x-event", "starts_with": "pu"}), true),
            (json!({"header": "x-event", "contains": "in"}), true),
            (json!({"header": "x-empty", "exists": true}), true),
            (json!({"header": "x-empty", "exists": false}), false),
            (json!({"header": "x-none", "exists": false}), true),
            (json!({"header": "x-none", "contains": ""}), false),
        ] {
            assert_eq!(holds(test.clone(), &body), wanted, "{test}");
        }
    }

    #[test]
    fn values_are_compared_as_json_writes_them() {
        let body = json!({"n": 12, "f": 1.5, "big": u64::MAX, "small": -1.7976931348623157e308,
            "yes": true, "none": null, "list": ["a", {"b": "c"}], "text": "Größe"});
        for (test, wanted) in [
            (json!({"json": "/n", "equals": "12"}), true),
            (json!({"json": "/n", "starts_with": "1"}), true),
            (json!({"json": "/f", "equals": "1.5"}), true),
            (
                json!({"json": "/big", "equals": u64::MAX.to_string()}),
                true,
            ),
            (json!({"json": "/small", "starts_with": "-1.797"}), true),
            (json!({"json": "/yes", "equals": "true"}), true),
            (json!({"json": "/none", "equals": "null"}), true),
            (json!({"json": "/none", "exists": true}), true),
            (json!({"json": "/list", "exists": true}), true),
            (json!({"json": "/list", "contains": "a"}), false),
            (json!({"json": "/list/0", "equals": "a"}), true),
            (json!({"json": "/list/1/b", "equals": "c"}), true),
            (json!({"json": "/list/01", "exists": true}), false),
            (json!({"json": "/list/-", "exists": true}), false),
            (json!({"json": "/text", "contains": "öß"}), true),
            (json!({"json": "", "exists": true}), true),
        ] {
            assert_eq!(holds(test.clone(), &body), wanted, "{test}");
        }
    }

    #[test]
    fn a_body_that_could_not_be_parsed_has_no_values() {
        let exists = one(json!({"json": "", "exists": true}));
        assert!(exists.decide(source(), &headers(), None).is_none());
        let absent = one(json!({"json": "/a", "exists": false}));
        assert!(absent.decide(source(), &headers(), None).is_some());
    }

    #[test]
    fn pointers_are_those_of_the_rfc() {
        // The examples of RFC 6901, section 5.
        let body = json!({"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4,
            "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8, "~1": 9});
        for (pointer, value) in [
            ("/foo/0", "bar"),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
            ("/~01", "9"),
        ] {
            let test = json!({"json": pointer, "equals": value});
            assert!(holds(test, &body), "{pointer}");
        }
    }

    #[test]
    fn hostile_pointers_are_refused_or_find_nothing() {
        let id = KnowledgeId::generate();
        for pointer in ["a", "~", "/~", "/~2", "/a~/b", "/é~", " /a"] {
            let condition = json!([{"json": pointer, "exists": true}]);
            assert!(
                Rule::compile(id, config(1, condition)).is_err(),
                "{pointer}"
            );
        }
        let nothing = config(1, json!([]));
        assert!(Rule::compile(id, nothing).is_err(), "it would decide all");
        let deep = "/0".repeat(100_000);
        let large = format!("/{}", "9".repeat(1_000));
        let mut body = json!(["x"]);
        for _ in 0..100 {
            body = json!([body]);
        }
        for pointer in [&deep, &large, "/18446744073709551615", "//", "/\0", "/é"] {
            assert!(!holds(json!({"json": pointer, "exists": true}), &body));
        }
        let mut form = json!({"a[b]": "c"});
        assert!(holds(json!({"json": "/a[b]", "equals": "c"}), &form));
        form["x"] = json!("y".repeat(1 << 20));
        assert!(!holds(json!({"json": "/x", "contains": "z"}), &form));
    }

    #[test]
    fn the_first_by_position_decides_for_its_sources() {
        let mut rules = Rules::default();
        let ids: Vec<_> = (0..3).map(|_| KnowledgeId::generate()).collect();
        let set =
            |rules: &mut Rules, id: KnowledgeId, position, sources: Vec<SourceId>, disabled| {
                let condition = json!([{"header": "x-event", "exists": true}]);
                let config = RuleConfig {
                    sources,
                    disabled,
                    ..config(position, condition)
                };
                rules.set(id, Some(Rule::compile(id, config).unwrap()));
            };
        let decided = |rules: &Rules| rules.decide(source(), &headers(), None).map(|rule| rule.id);
        set(&mut rules, ids[2], 5, vec![], false);
        set(&mut rules, ids[1], 5, vec![], false);
        set(&mut rules, ids[0], 1, vec![SourceId::generate()], false);
        assert_eq!(
            decided(&rules),
            Some(ids[1]),
            "of one position the older id"
        );
        set(&mut rules, ids[0], 1, vec![source()], false);
        assert_eq!(decided(&rules), Some(ids[0]));
        set(&mut rules, ids[0], 9, vec![], false);
        set(&mut rules, ids[1], 5, vec![], true);
        assert_eq!(decided(&rules), Some(ids[2]));
        rules.set(ids[2], None);
        rules.set(ids[0], None);
        assert_eq!((decided(&rules), rules.is_empty()), (None, true));
    }

    #[test]
    fn an_explanation_says_what_held_and_what_was_found() {
        let id = KnowledgeId::generate();
        let conditions = json!([{"header": "x-event", "equals": "push"},
            {"json": "/n", "equals": "2"}, {"json": "/list", "contains": "x"}]);
        let rule = Rule::compile(id, config(1, conditions)).unwrap();
        let body = json!({"n": 1, "list": []});
        let told = rule.explain(source(), &headers(), Some(&body));
        let held: Vec<_> = told.conditions.iter().map(|asked| asked.holds).collect();
        let found: Vec<_> = told
            .conditions
            .iter()
            .map(|asked| asked.found.as_deref())
            .collect();
        assert_eq!(held, [true, false, false]);
        assert_eq!(found, [Some("push"), Some("1"), Some("an array")]);
        assert!(told.source_fits && !told.holds());
    }

    #[test]
    fn five_hundred_rules_of_which_the_last_decides() {
        let mut rules = Rules::default();
        for n in 0..500 {
            let id = KnowledgeId::generate();
            let condition = json!([{"header": "x-event", "starts_with": "p"},
                {"json": "/a/b/c", "equals": n.to_string()}]);
            rules.set(
                id,
                Some(Rule::compile(id, config(500 - n, condition)).unwrap()),
            );
        }
        let body = json!({"a": {"b": {"c": 0}}});
        let decided = rules.decide(source(), &headers(), Some(&body));
        assert_eq!(decided.map(|rule| rule.config.position), Some(500));
        assert_eq!(rules.iter().count(), 500);
    }
}
