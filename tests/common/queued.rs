//! Jobs of a server's queue, as plain as they come.

use codeforge::model::event::Event;
use codeforge::model::forge::ForgeKind;
use codeforge::model::job::{NewJob, OnConflict, Priority, Served};
use std::collections::BTreeMap;

/// The repository that jobs are about.
pub fn served() -> Served {
    Served { forge: ForgeKind::Github, host: "api.github.com".into(), name: "acme/widgets".into() }
}

/// A job that is due at once, of no group, which waits for nobody's yes.
pub fn waiting(workflow: &str, key: &str) -> NewJob {
    NewJob {
        repository: served(),
        workflow: workflow.into(),
        event: Event::default(),
        key: key.into(),
        actor: None,
        group: None,
        on_conflict: OnConflict::Queue,
        priority: Priority::Event,
        due_ms: 0,
        settings: BTreeMap::new(),
        approval: None,
    }
}
