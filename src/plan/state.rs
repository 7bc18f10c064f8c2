//! What a run leaves for later ones, and what cannot hold where nothing keeps it.

use super::compile::Compiler;
use crate::model::budget::Scope;
use crate::model::id::StepId;
use crate::model::plan::{PlanStep, StepKind};
use crate::model::policy::Limits;
use crate::workflow::schema::codes;
use indexmap::IndexMap;

/// Whether what a run leaves is there for later ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Memory {
    /// It is.
    #[default]
    Kept,
    /// It is not: the machine forgets, and no store is configured.
    Nowhere,
    /// It is read, and not written: why, in words (`this run is of refs/pull/7/merge, and only runs of main write it`).
    ReadOnly(String),
    /// Amounts of money are kept, and nothing else; `Some`: not this run's, and why, in words.
    Amounts(Option<String>),
}

impl Compiler<'_> {
    /// A limit that counts other runs' spending is none where that is not known; better no run than one without the
    /// limit that somebody believes in.
    pub(super) fn forgotten(&mut self, limits: &Limits, steps: &IndexMap<StepId, PlanStep>) {
        let (why, help) = match &self.request.memory {
            Memory::Kept => return,
            Memory::Amounts(None) => {
                return self.unlearnt(
                    steps,
                    "the branch of `state: { store: branch }` holds amounts of money, and nothing else",
                );
            }
            Memory::Nowhere => (
                "a CI job forgets what was before, and no store is set".to_owned(),
                "keep it in a CI cache (`state: { store: cache }` in config.yml) or on a branch (`store: branch`), let a server run the workflows, or take \
                 the limit away: `per_run_usd` holds everywhere",
            ),
            Memory::ReadOnly(why) | Memory::Amounts(Some(why)) => (
                why.clone(),
                "start such runs by a comment (they are of the trusted branch), let a server run the workflows, or take \
                 the limit away: `per_run_usd` holds everywhere",
            ),
        };
        let capped = limits.shared.iter().filter(|shared| shared.max_usd.is_some());
        let keys: Vec<&str> = capped.map(|shared| shared.scope).map(Scope::config_key).collect();
        for key in keys {
            self.forgets(&["budget", key], format!("`{key}` cannot be kept: {why}"), help);
        }
        if matches!(self.request.memory, Memory::Nowhere | Memory::Amounts(_)) {
            self.unlearnt(steps, &why);
        }
    }

    /// Refuses experience where nothing keeps it.
    fn unlearnt(&mut self, steps: &IndexMap<StepId, PlanStep>, why: &str) {
        let learns = |step: &PlanStep| matches!(&step.kind, StepKind::Agent(spec) if spec.experience.is_some());
        if !self.request.allow_unpriced && steps.values().any(learns) {
            self.forgets(
                &["experience", "enabled"],
                format!("experience cannot be kept: {why}"),
                "keep it in a CI cache (`state: { store: cache }`), or switch it off here: `experience: { enabled: \
                 false }`",
            );
        }
    }

    fn forgets(&mut self, path: &[&str], message: String, help: &str) {
        let problem = match &self.library.config_document {
            Some(document) => document.error(codes::STATE_FORGOTTEN, document.at(path), message),
            None => {
                let at = self.workflow.at(&["name"]);
                self.workflow.document.error(codes::STATE_FORGOTTEN, at, message)
            }
        };
        self.problems.push(problem);
        self.help(help);
    }
}
