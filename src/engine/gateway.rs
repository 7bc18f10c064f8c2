//! The way from a step's sandbox to the gateway: a door for each step at work, with a token of its own.

use super::desk::StepDesk;
use super::perform::Trouble;
use super::session::{Session, lock};
use crate::model::journal::Fault;
use crate::model::plan::{AgentSpec, PlanStep};
use crate::port::gateway::{Desk, GATEWAY_PORT};
use crate::port::sandbox::Loopback;
use std::any::Any;
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
    /// Opens a door for a step: whoever comes in is served by the step's own desk.
    pub(super) fn open_door(self: &Arc<Self>, step: &PlanStep, spec: &AgentSpec) -> Result<Door, Trouble> {
        let Some(gateway) = self.engine.gateway.clone() else {
            return Err(Trouble {
                fault: Fault::Environment,
                message: "this build has no gateway, and other agents reach models only through one".to_owned(),
            });
        };
        let token = gateway.token().map_err(|message| Trouble { fault: Fault::Environment, message })?;
        let model = spec.models.first().map(|model| model.model.as_str()).unwrap_or_default();
        let desk: Arc<dyn Desk> = Arc::new(StepDesk::new(self, step, model, &token));
        let port = Arc::new(Mutex::new(None));
        let served: Mutex<Vec<Box<dyn Any + Send + Sync>>> = Mutex::new(Vec::new());
        let (known, watch) = (Arc::clone(&port), Arc::clone(&self.engine.watch));
        let hand_over = move |listener: std::net::TcpListener| {
            *lock(&known) = listener.local_addr().ok().map(|address| address.port());
            match gateway.serve(listener, Arc::clone(&desk)) {
                Ok(guard) => lock(&served).push(guard),
                Err(why) => watch.saw(&crate::model::progress::Progress::Note(format!("the gateway: {why}"))),
            }
        };
        let loopback = Loopback { port: GATEWAY_PORT, hand_over: Arc::new(hand_over) };
        Ok(Door { token, port, loopback })
    }
}
