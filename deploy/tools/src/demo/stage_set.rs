//! What the demo needs of the router's settings, made before and taken away afterwards, so that it can be
//! played again and leaves no route to a receiver that is gone.

use std::net::SocketAddr;

use router_schemas::{DestinationId, SourceId};
use serde::Deserialize;

use crate::control::{ControlPlane, NewDestination};

const SOURCE: &str = "demo";
const STEADY: &str = "demo-app";
const REFUSING: &str = "demo-flaky";
const ROUTES: [&str; 2] = ["demo-everything", "demo-urgent"];

pub(super) struct StageSet {
    control: ControlPlane,
    /// What the source's address ends with.
    pub(super) token: String,
    steady: DestinationId,
    refusing: DestinationId,
}

#[derive(Deserialize)]
struct NewSource {
    #[allow(dead_code, reason = "says that a source was made")]
    id: SourceId,
    token: String,
}

impl StageSet {
    pub(super) fn build(
        control: ControlPlane,
        steady: SocketAddr,
        refusing: SocketAddr,
    ) -> anyhow::Result<Self> {
        // What an earlier demo that was killed has left.
        clear(&control);
        let source: NewSource = control.json(&["source", "create", "--name", SOURCE])?;
        let to = |name: &str, addr: SocketAddr| -> anyhow::Result<NewDestination> {
            let url = format!("http://{addr}/");
            // The first retry after a second, the second soon after it: a demo has no day to spare.
            control.json(&[
                "destination",
                "create",
                "--name",
                name,
                "--url",
                &url,
                "--base-ms",
                "1000",
                "--factor",
                "2",
                "--jitter",
                "0",
            ])
        };
        let steady = to(STEADY, steady)?;
        let refusing = to(REFUSING, refusing)?;
        let route = |arguments: &[&str]| {
            control.run(&[&["route", "create", "--source", SOURCE], arguments].concat())
        };
        route(&["--name", ROUTES[0], "--destination", STEADY])?;
        let urgent = [
            "--category",
            "alerts",
            "--category",
            "billing",
            "--category",
            "code",
        ];
        route(
            &[
                &["--name", ROUTES[1], "--destination", REFUSING][..],
                &urgent,
            ]
            .concat(),
        )?;
        // In force everywhere within a second.
        std::thread::sleep(std::time::Duration::from_secs(1));
        Ok(Self {
            token: source.token,
            steady: steady.id,
            refusing: refusing.id,
            control,
        })
    }

    pub(super) fn name(&self, destination: DestinationId) -> &'static str {
        match destination {
            id if id == self.steady => "app",
            id if id == self.refusing => "flaky",
            // A route of the user's own that takes everything.
            _ => "yours",
        }
    }

    pub(super) fn strike(&self) -> anyhow::Result<()> {
        for route in ROUTES {
            self.control.run(&["route", "delete", route])?;
        }
        for destination in [STEADY, REFUSING] {
            self.control.run(&["destination", "delete", destination])?;
        }
        self.control.run(&["source", "delete", SOURCE])?;
        Ok(())
    }
}

/// What is not there need not be taken away.
fn clear(control: &ControlPlane) {
    for route in ROUTES {
        control.run(&["route", "delete", route]).ok();
    }
    for destination in [STEADY, REFUSING] {
        control.run(&["destination", "delete", destination]).ok();
    }
    control.run(&["source", "delete", SOURCE]).ok();
}
