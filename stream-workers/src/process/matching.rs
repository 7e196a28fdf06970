//! Which destinations an event goes to. Pure: the same answer for a worker and for a tester.

use router_schemas::{DestinationId, ProjectId, RouteId, SourceId, config::RouteConfig};

use crate::directory::Tables;

/// What a route can ask about.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    pub project_id: ProjectId,
    pub source_id: SourceId,
    pub category: &'a str,
    pub confidence: f32,
}

/// The destinations of an event, each with the first route that gave it the event. Deleted and foreign
/// destinations are passed over; disabled ones are not, since their deliveries are to be accounted for.
#[must_use]
pub fn destinations(tables: &Tables, event: Event<'_>) -> Vec<(DestinationId, RouteId)> {
    let mut found: Vec<(DestinationId, RouteId)> = Vec::new();
    let routes = tables
        .routes
        .get(&event.project_id)
        .map_or(&[][..], Vec::as_slice);
    for route in routes.iter().filter(|route| matches(&route.config, event)) {
        for destination in &route.config.destinations {
            let known = tables.destinations.get(destination);
            let ours = known.is_some_and(|d| d.config.project_id == event.project_id);
            if ours && !found.iter().any(|(other, _)| other == destination) {
                found.push((*destination, route.id));
            }
        }
    }
    found
}

fn matches(route: &RouteConfig, event: Event<'_>) -> bool {
    (route.sources.is_empty() || route.sources.contains(&event.source_id))
        && (route.categories.is_empty() || route.categories.iter().any(|c| c == event.category))
        && event.confidence >= route.min_confidence
}

#[cfg(test)]
mod tests {
    use router_runtime::config_view::View;
    use serde_json::{Value, json};

    use super::*;
    use crate::directory::Directory;

    struct Fixture {
        directory: Directory,
        source: SourceId,
        a: DestinationId,
        b: DestinationId,
    }

    impl Fixture {
        fn new() -> Self {
            let fixture = Self {
                directory: Directory::default(),
                source: SourceId::generate(),
                a: DestinationId::generate(),
                b: DestinationId::generate(),
            };
            fixture.destination(fixture.a, ProjectId::DEFAULT);
            fixture.destination(fixture.b, ProjectId::DEFAULT);
            fixture
        }
        fn destination(&self, id: DestinationId, project: ProjectId) {
            let value = json!({"project_id": project, "name": "d", "url": "https://example.com/",
                "timeout_ms": 1000, "concurrency": 1, "retry": {}});
            self.directory
                .apply("destination", &id.to_string(), Some(&value.to_string()))
                .unwrap();
        }
        fn route(&self, position: i32, destinations: &[DestinationId], extra: Value) -> RouteId {
            let id = RouteId::generate();
            let mut value = json!({"project_id": ProjectId::DEFAULT, "name": "r",
                "position": position, "destinations": destinations});
            for (name, extra) in extra.as_object().unwrap() {
                value[name] = extra.clone();
            }
            self.directory
                .apply("route", &id.to_string(), Some(&value.to_string()))
                .unwrap();
            id
        }
        fn find(&self, category: &str, confidence: f32) -> Vec<(DestinationId, RouteId)> {
            let event = Event {
                project_id: ProjectId::DEFAULT,
                source_id: self.source,
                category,
                confidence,
            };
            destinations(&self.directory.snapshot(), event)
        }
    }

    #[test]
    fn a_destination_gets_an_event_once_by_the_first_route() {
        let f = Fixture::new();
        let second = f.route(2, &[f.a, f.b], json!({}));
        let first = f.route(1, &[f.a], json!({}));
        assert_eq!(f.find("billing", 0.9), [(f.a, first), (f.b, second)]);
    }

    #[test]
    fn a_route_asks_for_source_category_and_confidence() {
        let f = Fixture::new();
        let route = f.route(
            1,
            &[f.a],
            json!({"sources": [f.source], "categories": ["billing"], "min_confidence": 0.8}),
        );
        assert_eq!(f.find("billing", 0.8), [(f.a, route)]);
        assert!(f.find("billing", 0.79).is_empty());
        assert!(f.find("code", 0.9).is_empty());
        let other = Fixture::new();
        other.route(1, &[other.a], json!({"sources": [SourceId::generate()]}));
        assert!(other.find("billing", 0.9).is_empty());
    }

    #[test]
    fn another_projects_destination_receives_nothing() {
        let f = Fixture::new();
        let foreign = DestinationId::generate();
        f.destination(foreign, ProjectId::generate());
        f.route(1, &[foreign], json!({}));
        assert!(f.find("billing", 0.9).is_empty());
    }
}
