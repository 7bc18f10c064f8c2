//! `explain`: why a run did what it did. The run's journal is folded; no model is asked.

use super::{Desk, DeskError, Given, Reply, code};
use crate::engine;
use crate::model::account::{Account, Ending};
use crate::model::forge::Access;
use crate::model::job::Job;
use crate::port::store::StoreError;
use crate::report::ci::answers;
use crate::run;
use crate::trigger::Arguments;

impl Desk<'_> {
    pub(super) async fn explain(&self, given: &Given<'_>, arguments: &Arguments) -> Result<Reply, DeskError> {
        if !self.reaches(given.actor, Access::Read, given.fork).await {
            return Ok(Reply { note: format!("`{}` may not read here", given.actor), ..Reply::default() });
        }
        let jobs = self.here(given.event).await?;
        // The first word is an id where a job has it; else it is a part of the question.
        let named =
            arguments.id.as_deref().and_then(|id| jobs.iter().find(|job| job.id.starts_with(id) && id.len() >= 3));
        let Some(job) = named.or_else(|| jobs.iter().find(|job| job.attempts > 0)).or(jobs.first()) else {
            return Ok(Reply::said("nothing to explain", vec!["There is no job here yet.".to_owned()]));
        };
        let question = match (named, &arguments.id) {
            (Some(_), Some(id)) => arguments.text.strip_prefix(id.as_str()).unwrap_or_default(),
            _ => arguments.text.as_str(),
        };
        let account = match self.account(job).await? {
            Ok(account) => account,
            Err(why) => {
                let line = format!("The journal of {} cannot be read: {why}", code(&job.id));
                return Ok(Reply::said("not known", vec![line]));
            }
        };
        let said = self.queue.answers(&job.id).await?;
        let body = answers::explain(job, &said, account.as_ref(), question);
        Ok(Reply { body: Some(body), may: true, jobs: Vec::new(), note: format!("explained {}", job.id) })
    }

    /// The account of a job's last run; `None`: there is no journal of it. The inner error: why it cannot be folded.
    async fn account(&self, job: &Job) -> Result<Result<Option<Account>, String>, DeskError> {
        let Some(store) = self.store else { return Ok(Ok(None)) };
        // What was put back and not begun yet is explained by what was before.
        for round in (0..=job.rounds).rev() {
            let (mut id, mut last) = (job.run(round), None);
            // A run that ended because something was unavailable was followed by another one.
            while last.as_ref().is_none_or(|it: &Account| it.ending == Some(Ending::Unavailable)) {
                let rows = match store.rows(&id).await {
                    Ok(rows) => rows,
                    Err(StoreError::NoSuchRun(_)) => break,
                    Err(error) => return Err(error.into()),
                };
                match engine::replay(&rows) {
                    Ok(state) => last = Some(run::account(&state)),
                    Err(why) => return Ok(Err(why)),
                }
                id = id.next();
            }
            if last.is_some() {
                return Ok(Ok(last));
            }
        }
        Ok(Ok(None))
    }
}
