//! What a job would cost: the price that is named before somebody says yes.

use super::{Desk, DeskError, is_fork};
use crate::engine::history;
use crate::model::event::Event;
use crate::model::forge::Access;
use crate::model::job::{Job, NeedsApproval, NewJob};
use crate::model::plan::Plan;
use crate::model::usage::NanoUsd;
use crate::plan::{self, Memory, Request};
use crate::report::quote::{Quote, quote};
use crate::trigger::{self, Decision, Facts};
use crate::workflow::schema::APPROVAL_EXPIRES_MS;
use crate::workflow::schema::values::duration_ms;

impl Desk<'_> {
    /// A job as it is to be made: where its workflow says `quote: true`, it waits for a yes to its price, whatever yes it
    /// has. The inner error: why it cannot be quoted, in words.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn price(&self, mut job: NewJob) -> Result<Result<NewJob, String>, DeskError> {
        // Who asked for what it repeats is known from there.
        let asked = job.approval.take().map(|approval| approval.asked).unwrap_or_default();
        let Some(workflow) = self.library.workflows.get(&job.workflow).filter(|workflow| workflow.doc.quote) else {
            return Ok(Ok(job));
        };
        let of_change = job.event.change.as_ref().and_then(|change| change.head.sha.clone());
        let commit = match of_change.or_else(|| job.event.sha.clone()) {
            Some(commit) => commit,
            None => match self.tip().await? {
                Some(commit) => commit,
                None => return Ok(Err("nobody says which commit it is about".to_owned())),
            },
        };
        if job.event.change.is_none() {
            // What is approved is what runs: the branch may go on meanwhile.
            job.event.sha = Some(commit.clone());
        }
        let (_, quote) = match self.quoted(&job).await? {
            Ok(quoted) => quoted,
            Err(why) => return Ok(Err(why)),
        };
        let on = workflow.doc.on.as_ref().and_then(|on| on.command.as_ref());
        job.approval = Some(NeedsApproval {
            max_cost_usd: quote.at_most.map(usd),
            commit,
            access: on.map_or(Access::Write, |command| command.access.wanted()).max(Access::Write),
            independent: workflow.doc.independent_approval,
            asked,
        });
        Ok(Ok(job))
    }

    /// The tip of the default branch.
    async fn tip(&self) -> Result<Option<String>, DeskError> {
        Ok(self.forge.tip(&self.forge.default_branch().await?).await?)
    }

    /// A job's plan and what it would cost; the inner error: why there is none, in words.
    pub(super) async fn quoted(&self, job: &NewJob) -> Result<Result<(Plan, Quote), String>, DeskError> {
        let chosen;
        let library = match job.settings.get("model") {
            Some(model) => {
                let mut library = self.library.clone();
                library.only_model(model);
                chosen = library;
                &chosen
            }
            None => self.library,
        };
        let mut request = Request {
            workflow: job.workflow.clone(),
            inputs: self.inputs(&job.workflow, &job.event),
            event: job.event.value(),
            models: self.models.to_vec(),
            outside: true,
            key: trigger::key(&job.event, &job.workflow, None),
            memory: Memory::Kept,
            ..Request::default()
        };
        request.set(&job.settings);
        let plan = match plan::compile(library, &request) {
            Ok(plan) => plan,
            Err(problems) => {
                let first = problems.first();
                let why = first.map(|it| format!("{}:{}: {}", it.place.file, it.place.line, it.message));
                return Ok(Err(format!("`{}` cannot run as it stands: {}", job.workflow, why.unwrap_or_default())));
            }
        };
        let (earlier, left) = match self.store {
            Some(store) => history::spent(store, &plan, self.now_ms).await?,
            None => (Vec::new(), None),
        };
        let quote = quote(&plan, &earlier, left);
        Ok(Ok((plan, quote)))
    }

    /// The inputs that an event gives a workflow, as its run will find them.
    fn inputs(&self, workflow: &str, event: &Event) -> std::collections::BTreeMap<String, String> {
        let facts = Facts {
            phrase: self.phrase,
            allow_users: self.allow_users,
            ours: self.ours,
            changed: Some(&[]),
            fork: is_fork(event),
            now_ms: self.now_ms,
        };
        match trigger::decide_named(self.library, workflow, event, &facts) {
            Some(Decision::Run(start)) => start.inputs,
            _ => Default::default(),
        }
    }

    /// Until when a job can be approved, in milliseconds since 1970.
    pub(super) fn until(&self, job: &Job) -> i64 {
        let said = self.library.config.comments.as_ref().and_then(|comments| comments.approval_expires.as_ref());
        let lasts = said.and_then(|span| duration_ms(&span.0).ok()).and_then(|ms| i64::try_from(ms).ok());
        job.created_ms.saturating_add(lasts.unwrap_or(APPROVAL_EXPIRES_MS))
    }
}

/// Dollars as text; what is smaller than a hundredth of a cent is rounded up, so that the price is never less than what
/// was named.
pub(super) fn usd(cost: NanoUsd) -> String {
    format!("{:.4}", (cost.usd() * 10_000.0).ceil() / 10_000.0)
}
