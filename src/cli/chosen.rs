//! What several commands are told: which repository, which run.

use super::Context;
use std::path::PathBuf;

/// Which repository.
#[derive(Debug, clap::Args)]
pub struct At {
    /// The repository (default: the one around the current folder)
    #[arg(long, value_name = "DIR")]
    pub repo: Option<PathBuf>,
}

impl At {
    /// Where that is looked for.
    pub fn path(&self, cx: &Context<'_>) -> PathBuf {
        self.repo.as_deref().map_or_else(|| cx.world.cwd().to_path_buf(), |repo| cx.world.cwd().join(repo))
    }
}

/// Which run, of which repository.
#[derive(Debug, clap::Args)]
pub struct OfRun {
    /// The run's id, or the beginning of it
    pub run: String,
    /// The repository.
    #[command(flatten)]
    pub at: At,
}
