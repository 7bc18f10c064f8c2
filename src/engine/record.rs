//! Keeping what a recording needs, and making one.
//!
//! Requests are kept in the journal's database while they are sent: each text once in a run, beside the journal, so
//! that a run of any kind can be exported afterwards and a resumed run's recording is whole. Nothing waits for it.

use super::session::{Session, lock};
use super::{Engine, EngineError};
use crate::cassette::{self, Header, Kept, Parts, Scrub};
use crate::model::chat::ChatRequest;
use crate::model::id::RunId;
use crate::model::journal::{Input, Row, RowBody, Work};
use crate::model::recording::{BaseFile, RunOptions};
use std::collections::HashMap;

impl Session {
    /// Keeps a request that is about to be sent. A recording may lack it; the run goes on.
    pub(super) async fn keep_sent(&self, request: &ChatRequest) {
        let kept = {
            let known = lock(&self.kept);
            Kept::of(request, &known)
        };
        let Some(kept) = kept else { return };
        let key = key("request", &self.run, &kept.request.place.key.0);
        let Ok(text) = serde_json::to_string(&kept) else { return };
        match self.engine.store.put_soon(&key, &text).await {
            // Only now: who names a text from here on finds it.
            Ok(()) => lock(&self.kept).extend(kept.texts.into_keys()),
            Err(error) => self.note(&format!("a request could not be kept for recordings: {error}")),
        }
    }
}

impl Engine {
    /// Keeps what was asked for on the command line.
    ///
    /// # Errors
    /// [`EngineError::Store`].
    pub async fn keep_options(&self, run: &RunId, options: &RunOptions) -> Result<(), EngineError> {
        let text = serde_json::to_string(options).unwrap_or_default();
        Ok(self.store.put(&key("options", run, ""), &text).await?)
    }

    /// Keeps where a run is to be recorded, for who resumes it.
    ///
    /// # Errors
    /// [`EngineError::Store`].
    pub async fn keep_record_file(&self, run: &RunId, file: &str) -> Result<(), EngineError> {
        Ok(self.store.put(&key("record", run, ""), file).await?)
    }

    /// Where a run is to be recorded, where it is.
    ///
    /// # Errors
    /// [`EngineError::Store`].
    pub async fn record_file(&self, run: &RunId) -> Result<Option<String>, EngineError> {
        Ok(self.store.get(&key("record", run, "")).await?)
    }

    /// A run as a cassette, without secrets. `base_files`: what the base had beside its commit.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn export(&self, run: &RunId, base_files: Vec<BaseFile>) -> Result<String, EngineError> {
        let rows = self.store.rows(run).await?;
        let broken = |message: String| EngineError::Journal { run: run.clone(), message };
        let Some(Row { body: RowBody::Input(Input::Started { plan, base, version, .. }), .. }) = rows.first() else {
            return Err(broken("it does not begin with `started`".into()));
        };
        let options = match self.store.get(&key("options", run, "")).await? {
            Some(text) => serde_json::from_str(&text).unwrap_or_default(),
            None => RunOptions::default(),
        };
        let header = Header {
            codeforge_cassette: cassette::VERSION,
            version: version.clone(),
            run: run.to_string(),
            workflow: plan.workflow.clone(),
            commit: base.commit.clone(),
            tree: base.tree.to_string(),
            options,
        };
        let mut requests = HashMap::new();
        for row in &rows {
            let RowBody::Intent(effect) = &row.body else { continue };
            if !matches!(effect.work, Work::CallModel { .. }) {
                continue;
            }
            if let Some(text) = self.store.get(&key("request", run, &effect.key.0)).await?
                && let Ok(kept) = serde_json::from_str::<Kept>(&text)
            {
                requests.insert(effect.key.0.clone(), kept);
            }
        }
        let parts = Parts { header, files: base_files, rows, requests };
        cassette::write(&parts, &Scrub::new(&self.secrets)).map_err(broken)
    }

    /// The files in which a run's base differed from its commit.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn base_files(&self, run: &RunId) -> Result<Vec<BaseFile>, EngineError> {
        let rows = self.store.rows(run).await?;
        let Some(Row { body: RowBody::Input(Input::Started { base, .. }), .. }) = rows.first() else {
            return Ok(Vec::new());
        };
        let (repository, base) = (std::sync::Arc::clone(&self.repository), base.clone());
        let files = tokio::task::spawn_blocking(move || repository.base_files(&base)).await;
        let lost =
            |error: tokio::task::JoinError| EngineError::Journal { run: run.clone(), message: error.to_string() };
        Ok(files.map_err(lost)??)
    }
}

fn key(what: &str, run: &RunId, rest: &str) -> String {
    if rest.is_empty() { format!("{what}/{run}") } else { format!("{what}/{run}/{rest}") }
}
