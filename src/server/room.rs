//! What a repository's desk is made of.

use super::commands::Desk;
use super::parts::{Parts, Place};
use crate::model::chat::ModelRef;
use crate::model::serve::Serve;
use crate::port::store::Store;
use crate::workflow::schema::Library;
use std::sync::Arc;

/// What a desk borrows from.
pub(super) struct Room<'a> {
    pub(super) parts: &'a Parts<'a>,
    place: &'a Place,
    library: &'a Library,
    pub(super) ours: &'a [String],
    pub(super) serve: Arc<Serve>,
    models: Vec<ModelRef>,
    journal: Arc<dyn Store>,
}

impl<'a> Room<'a> {
    /// # Errors
    /// The journals cannot be opened; in words.
    pub(super) async fn new(
        parts: &'a Parts<'a>,
        place: &'a Place,
        library: &'a Library,
        ours: &'a [String],
    ) -> Result<Self, String> {
        let (serve, journal) = ((parts.settings)(), parts.journal(place).await?);
        Ok(Self { parts, place, library, ours, serve, models: parts.models(place)?, journal })
    }

    pub(super) fn desk(&self) -> Desk<'_> {
        Desk {
            library: self.library,
            forge: &*self.place.forge,
            queue: &*self.parts.queue,
            store: Some(&*self.journal),
            repository: &self.place.served,
            phrase: &self.serve.commands.phrase,
            allow_users: &self.serve.commands.allow_users,
            ours: self.ours,
            broken: None,
            models: &self.models,
            now_ms: self.parts.now_ms(),
            asked: tokio::sync::Mutex::default(),
        }
    }
}
