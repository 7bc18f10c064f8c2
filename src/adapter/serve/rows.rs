//! How a job stands in the columns of its table.

use crate::model::event::Event;
use crate::model::job::{Job, NeedsApproval, NewJob, OnConflict, Priority, Served};
use crate::port::queue::Which;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::{FromRow, QueryBuilder, Sqlite};
use std::collections::BTreeMap;

/// Adds what is asked for to a `WHERE`.
pub(super) fn narrow(query: &mut QueryBuilder<Sqlite>, which: &Which) {
    if let Some(id) = &which.id {
        query.push(" AND substr(id, 1, length(").push_bind(id.clone()).push(")) = ").push_bind(id.clone());
    }
    if let Some(Served { forge, host, name }) = &which.repository {
        query.push(" AND forge = ").push_bind(word(forge));
        query.push(" AND host = ").push_bind(host.clone());
        query.push(" AND name = ").push_bind(name.clone());
    }
    if let Some(change) = which.change {
        query.push(" AND change = ").push_bind(i64::try_from(change).unwrap_or(-1));
    }
    if let Some(issue) = which.issue {
        query.push(" AND issue = ").push_bind(i64::try_from(issue).unwrap_or(-1));
    }
    if let Some(workflow) = &which.workflow {
        query.push(" AND workflow = ").push_bind(workflow.clone());
    }
    if let Some(head) = &which.not_head {
        query.push(" AND json_extract(event, '$.change.head.sha') IS NOT ").push_bind(head.clone());
    }
    if let Some(base) = &which.not_base {
        query.push(" AND json_extract(event, '$.change.base.branch') IS NOT ").push_bind(base.clone());
    }
    if !which.states.is_empty() {
        query.push(" AND state IN (");
        let mut states = query.separated(", ");
        for state in &which.states {
            states.push_bind(word(state));
        }
        query.push(")");
    }
}

/// A job as its table holds it.
#[derive(FromRow)]
pub(super) struct Line {
    pub(super) id: String,
    forge: String,
    host: String,
    name: String,
    workflow: String,
    pub(super) key: String,
    pub(super) event: String,
    actor: Option<String>,
    concurrency: Option<String>,
    on_conflict: String,
    priority: i64,
    due_ms: i64,
    settings: String,
    approval: Option<String>,
    state: String,
    conclusion: Option<String>,
    note: Option<String>,
    attempts: i64,
    approved_by: Option<String>,
    approved_usd: Option<String>,
    cost_usd: Option<String>,
    url: Option<String>,
    created_ms: i64,
    updated_ms: i64,
    pub(super) fence: i64,
    pub(super) rounds: i64,
    in_line: bool,
    delivery: Option<i64>,
    delivery_id: Option<String>,
}

pub(super) const COLUMNS: &str = "id, forge, host, name, workflow, key, event, actor, concurrency, on_conflict, priority, due_ms, \
                       settings, approval, state, conclusion, note, attempts, approved_by, approved_usd, cost_usd, \
                       url, created_ms, updated_ms, fence, rounds, in_line, delivery, \
                       (SELECT d.id FROM deliveries d WHERE d.number = delivery) AS delivery_id";

impl Line {
    /// The job; or its id, and why it cannot be read.
    pub(super) fn job(self) -> Result<Job, (String, String)> {
        let damaged = |what: &str| {
            let why = format!("the job {} cannot be read: its {what} is of another version, or damaged", self.id);
            (self.id.clone(), why)
        };
        let repository = Served {
            forge: from_word(&self.forge).ok_or_else(|| damaged("forge"))?,
            host: self.host.clone(),
            name: self.name.clone(),
        };
        let approval: Option<NeedsApproval> = match &self.approval {
            None => None,
            Some(text) => Some(serde_json::from_str(text).map_err(|_| damaged("approval"))?),
        };
        let settings: BTreeMap<String, String> =
            serde_json::from_str(&self.settings).map_err(|_| damaged("settings"))?;
        let event: Event = serde_json::from_str(&self.event).map_err(|_| damaged("event"))?;
        let new = NewJob {
            repository,
            event,
            settings,
            approval,
            on_conflict: match self.in_line {
                true => OnConflict::Line,
                false => from_word(&self.on_conflict).ok_or_else(|| damaged("rule"))?,
            },
            priority: match self.priority {
                0 => Priority::Command,
                1 => Priority::Change,
                2 => Priority::Event,
                _ => Priority::Schedule,
            },
            workflow: self.workflow.clone(),
            key: self.key.clone(),
            actor: self.actor.clone(),
            group: self.concurrency.clone(),
            due_ms: self.due_ms,
        };
        Ok(Job {
            state: from_word(&self.state).ok_or_else(|| damaged("state"))?,
            new,
            conclusion: self.conclusion,
            note: self.note,
            attempts: u32::try_from(self.attempts).unwrap_or_default(),
            rounds: u32::try_from(self.rounds).unwrap_or_default(),
            approved_by: self.approved_by,
            approved_usd: self.approved_usd,
            cost_usd: self.cost_usd,
            url: self.url,
            delivery: self.delivery,
            delivery_id: self.delivery_id,
            created_ms: self.created_ms,
            updated_ms: self.updated_ms,
            id: self.id,
        })
    }
}

/// What happens where a job's group is taken, as its columns hold it: the rule, and whether all wait in line.
pub(super) fn rule(on_conflict: OnConflict) -> (String, bool) {
    match on_conflict {
        OnConflict::Line => (word(&OnConflict::Queue), true),
        other => (word(&other), false),
    }
}

/// Who goes first, as its column holds it.
pub(super) fn rank(priority: Priority) -> i64 {
    match priority {
        Priority::Command => 0,
        Priority::Change => 1,
        Priority::Event => 2,
        Priority::Schedule => 3,
    }
}

/// JSON. Values of ours are never what JSON has no form for.
pub(super) fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A name without its quotes.
pub(super) fn word(value: &impl Serialize) -> String {
    text(value).trim_matches('"').to_owned()
}

pub(super) fn from_word<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(text.into()).ok()
}
