//! The way from a step's sandbox to the gateway: a door for each step at work, with a token of its own.

use super::desk::StepDesk;
use super::perform::Trouble;
use super::session::{Session, lock};
use crate::model::plan::PlanStep;
use crate::port::gateway::{Desk, GATEWAY_PORT};
use crate::port::sandbox::Loopback;
use std::any::Any;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// A step's way to the gateway. What it serves ends with it.
pub(super) struct Door {
    token: String,
    desk: Arc<StepDesk>,
    served: Arc<Mutex<Served>>,
    loopback: Loopback,
}

/// The listeners that are served.
#[derive(Default)]
struct Served {
    /// Of the listener that was made last.
    port: Option<u16>,
    guards: Vec<Box<dyn Any + Send + Sync>>,
    closed: bool,
}

impl Door {
    /// What the program shows with each question.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// The port of the listener that was made last, as it is known outside.
    pub(super) fn port(&self) -> Option<u16> {
        lock(&self.served).port
    }

    /// For the sandbox.
    pub(super) fn loopback(&self) -> Loopback {
        self.loopback.clone()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.desk.close();
        let mut served = lock(&self.served);
        served.closed = true;
        served.guards.clear();
    }
}

impl Session {
    /// Opens a door for a step.
    pub(super) async fn open_door(self: &Arc<Self>, step: &PlanStep) -> Result<Door, Trouble> {
        let (token, desk) = self.open_desk(step)?;
        let served = Arc::new(Mutex::new(Served::default()));
        let runtime = tokio::runtime::Handle::current();
        let (gateway, watch) = (Arc::clone(&self.engine.gateway), Arc::clone(&self.engine.watch));
        let (answers, behind) = (Arc::clone(&desk), Arc::clone(&served));
        let hand_over = move |listener: TcpListener| {
            // The driver may call from a thread of its own.
            let _entered = runtime.enter();
            let mut served = lock(&behind);
            if served.closed {
                return;
            }
            let port = listener.local_addr().ok().map(|at| at.port());
            match gateway.serve(listener, Arc::clone(&answers) as Arc<dyn Desk>) {
                Ok(guard) => {
                    served.port = port;
                    served.guards.push(guard);
                }
                // The program will find nobody there, and say so.
                Err(message) => watch.saw(&crate::model::progress::Progress::Note(message)),
            }
        };
        let loopback = Loopback { port: GATEWAY_PORT, hand_over: Arc::new(hand_over) };
        Ok(Door { token, desk, served, loopback })
    }
}
