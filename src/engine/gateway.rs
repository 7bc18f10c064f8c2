//! The way from a step's sandbox to the gateway: a door for each step at work, with a token of its own.

use super::perform::Trouble;
use super::session::{Session, lock};
use crate::model::journal::Fault;
use crate::model::plan::PlanStep;
use crate::port::gateway::GATEWAY_PORT;
use crate::port::sandbox::Loopback;
use std::sync::{Arc, Mutex};

/// A step's way to the gateway. What it serves ends when it and its loopback are gone.
pub(super) struct Door {
    token: String,
    port: Arc<Mutex<Option<u16>>>,
    loopback: Loopback,
}

impl Door {
    /// What the program shows with each question.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// The port of the listener that was made last, as it is known outside.
    pub(super) fn port(&self) -> Option<u16> {
        *lock(&self.port)
    }

    /// For the sandbox.
    pub(super) fn loopback(&self) -> Loopback {
        self.loopback.clone()
    }
}

impl Session {
    /// Opens a door for a step.
    pub(super) async fn open_door(self: &Arc<Self>, step: &PlanStep) -> Result<Door, Trouble> {
        let _ = (GATEWAY_PORT, step);
        Err(Trouble { fault: Fault::Environment, message: "there is no gateway in this build".into() })
    }
}
