//! `help`: who can use what, from the trusted configuration.

use super::{Desk, DeskError, Given, Reply, prose};
use crate::model::forge::Access;
use crate::report::ci::answers::{self, HelpFacts, Offer};
use crate::trigger::{Builtin, Grammar};
use crate::workflow::schema::Library;

impl Desk<'_> {
    pub(super) async fn help(&self, given: &Given<'_>) -> Result<Reply, DeskError> {
        if !self.reaches(given.actor, Access::Read, given.fork).await {
            return Ok(Reply { note: format!("`{}` may not read here", given.actor), ..Reply::default() });
        }
        let grammar = Grammar::of(self.library, self.phrase);
        let facts = HelpFacts {
            phrase: self.phrase,
            free_text: grammar.free_text(),
            settings: settings(self.library),
            note: &self.broken.map(|why| format!("Nothing runs here: {}.", prose(why))).unwrap_or_default(),
        };
        let body = answers::help(&offers(self.library, &grammar), &facts);
        Ok(Reply { body: Some(body), may: true, jobs: Vec::new(), note: "help".to_owned() })
    }
}

/// The commands of the configuration's workflows, then those that the program answers itself.
pub fn offers(library: &Library, grammar: &Grammar) -> Vec<Offer> {
    let short = |name: &str| grammar.short(name).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let workflows = library.workflows.values().filter_map(|workflow| {
        let command = workflow.doc.on.as_ref()?.command.as_ref()?;
        let inputs =
            workflow.doc.inputs.iter().filter(|(name, _)| *name != "task").map(|(name, _)| format!("{name}=…"));
        let task = workflow.doc.inputs.contains_key("task").then(|| "TEXT".to_owned());
        let mut what = workflow.doc.description.clone();
        if workflow.doc.quote {
            what.push_str(" Names its price first, and waits for a yes.");
        }
        Some(Offer {
            name: command.name.0.clone(),
            arguments: inputs.chain(task).collect::<Vec<_>>().join(" "),
            access: command.access.word().to_owned(),
            what,
            short: short(&command.name.0),
        })
    });
    let own = Builtin::ALL.into_iter().map(|builtin| {
        let (arguments, access, what) = match builtin {
            Builtin::Help => ("", "read", "This."),
            Builtin::Status => ("", "read", "How the jobs here stand, what they cost, what they made."),
            Builtin::Cancel => ("[ID]", "write, or who asked", "Ends a job, or all of them here."),
            Builtin::Retry => ("[ID]", "as the workflow", "Runs a job that ended once more."),
            Builtin::Approve => ("[ID] [max=USD]", "write", "Says yes to a price that was named."),
            Builtin::Deny => ("[ID]", "write", "Says no to it."),
            Builtin::Explain => ("[ID] [TEXT]", "read", "Why a run did what it did: rules, checks, limits."),
        };
        Offer {
            name: builtin.name().to_owned(),
            arguments: arguments.to_owned(),
            access: access.to_owned(),
            what: what.to_owned(),
            short: short(builtin.name()),
        }
    });
    workflows.chain(own).collect()
}

/// What a comment may set for one run, as it is written.
pub fn settings(library: &Library) -> Vec<String> {
    let allowed = library.config.comments.as_ref().and_then(|it| it.settings.clone()).unwrap_or_default();
    let mut told = vec!["max_cost_usd=…".to_owned()];
    let names: Vec<&str> = allowed.policy.as_slice().iter().map(|it| it.0.as_str()).collect();
    if !names.is_empty() {
        told.push(format!("policy={}", names.join(" or ")));
    }
    let names: Vec<&str> = allowed.model.as_slice().iter().map(|it| it.0.as_str()).collect();
    if !names.is_empty() {
        told.push(format!("model={}", names.join(" or ")));
    }
    told
}
