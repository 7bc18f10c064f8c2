//! What happened against what starts each workflow: which run, and why the others do not. Pure: what must be asked of
//! a forge (may this person?) or of git (which files?) is named here and asked elsewhere.

mod command;
pub mod cron;
mod filters;
pub mod firing;
mod grammar;
mod key;
mod meeting;
pub mod schedule;
mod settings;
mod zone;

pub use command::{Arguments, Builtin, Meant, commands_of, dollars};
pub use grammar::Grammar;
pub use key::key;

use crate::model::event::{CommandText, CommentKind, Event, EventKind};
use crate::workflow::schema::docs::ScheduleDoc;
use crate::workflow::schema::{
    Access, EventAccess, ForgeEventDoc, InputDoc, InputType, Library, Loaded, OnDoc, WorkflowDoc,
};
use std::collections::BTreeMap;

/// Our mark in what we write to a forge: a comment that holds it is none of a person's.
pub const MARK: &str = "<!-- codeforge";
/// The task of the command `fix` on a change where nobody says more: what was found lies beside it.
pub const REPAIR: &str = "Repair what reviews of this change found.";

/// What is known beside the event.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What a command begins with: `/codeforge`.
    pub phrase: &'a str,
    /// People whom the operator lets give commands, whatever the forge says; not on forks.
    pub allow_users: &'a [String],
    /// Accounts that we act as: what they do starts nothing.
    pub ours: &'a [String],
    /// The files that the change or push touches; `None`: nobody has looked yet.
    pub changed: Option<&'a [String]>,
    /// The head comes from another repository, or nobody knows that it does not.
    pub fork: bool,
    /// Now, in milliseconds since 1970: zones of time tables hang on it.
    pub now_ms: i64,
}

/// What comes of an event for one workflow.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It runs.
    Run(Box<Start>),
    /// It does not, and why, in words.
    Skip(String),
    /// A command for it cannot be carried out as it was given, and why: whoever gave it wants to know.
    Refuse(String),
    /// That hangs on the files that were changed: ask again with [`Facts::changed`].
    NeedsChangedPaths,
}

/// A workflow that is to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Its name.
    pub workflow: String,
    /// Inputs that the event gives. None of it is the operator's text.
    pub inputs: BTreeMap<String, String>,
    /// The command that started it.
    pub command: Option<CommandText>,
    /// The same as it was given, with the commit and the settings that it names. In an event it is what counts of a
    /// comment: whoever looks at the event again decides the same.
    pub given: Option<CommandText>,
    /// What the forge must say yes to first. Anything but a clear yes is no.
    pub access: Option<NeedsAccess>,
    /// What the command sets for this run alone (`policy`, `model`, `max_cost_usd`), which the configuration allows.
    pub settings: BTreeMap<String, String>,
}

/// A question to the forge: may this person do that here?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedsAccess {
    /// The person.
    pub user: String,
    /// What they must be allowed to do.
    pub access: Access,
}

/// Decides for each workflow of the library; where a comment gives one several commands, for each of them. Shipped ones
/// start by a command, or by name.
pub fn decide(library: &Library, event: &Event, facts: &Facts<'_>) -> Vec<(String, Decision)> {
    let given = command::given(&Grammar::of(library, facts.phrase), event, facts);
    let decided = library.workflows.iter().flat_map(|(name, workflow)| {
        let on = workflow.doc.on.clone().unwrap_or_default();
        let only_commands = OnDoc { command: on.command.clone(), ..OnDoc::default() };
        let on = if workflow.builtin { only_commands } else { on };
        let each = each(&given, &on);
        each.into_iter().map(move |given| (name.clone(), one(library, workflow, &on, event, facts, &given)))
    });
    decided.collect()
}

/// What a comment gives a workflow that it gives several commands: one after the other.
fn each(given: &Result<Vec<CommandText>, String>, on: &OnDoc) -> Vec<Result<Vec<CommandText>, String>> {
    let (Ok(commands), Some(wanted)) = (given, &on.command) else { return vec![given.clone()] };
    let mut own: Vec<&CommandText> = Vec::new();
    for command in commands.iter().filter(|command| command.name == wanted.name.0) {
        // The same line twice asks for one thing.
        if !own.contains(&command) {
            own.push(command);
        }
    }
    match own.as_slice() {
        [] | [_] => vec![given.clone()],
        several => several.iter().map(|command| Ok(vec![(*command).clone()])).collect(),
    }
}

/// Decides for a workflow that the operator named. Naming it adds the event to what starts it; where the workflow says
/// more of that event (`paths`, `types`), that holds. A comment starts nothing by a name alone. `None`: there is no
/// such workflow.
pub fn decide_named(library: &Library, name: &str, event: &Event, facts: &Facts<'_>) -> Option<Decision> {
    let workflow = library.workflows.get(name)?;
    let on = workflow.doc.on.clone().unwrap_or_default();
    let given = command::given(&Grammar::of(library, facts.phrase), event, facts);
    let listens = match event.kind {
        EventKind::Manual => false,
        EventKind::PullRequest => on.pull_request.is_some(),
        EventKind::Push => on.push.is_some(),
        // Which time table starts it is the pipeline's to say, where it names the workflow.
        EventKind::Schedule => false,
        EventKind::Issues => on.issues.is_some(),
        EventKind::IssueComment => true,
        EventKind::MergeGroup => on.merge_group.is_some(),
        EventKind::WorkflowDispatch => on.workflow_dispatch.is_some(),
        EventKind::Webhook => on.webhook.is_some(),
    };
    if listens {
        return Some(one(library, workflow, &on, event, facts, &given));
    }
    if let Some(why) = left_alone(library, event, facts) {
        return Some(Decision::Skip(why));
    }
    // Anybody can open an issue; whoever makes one start a workflow that does not ask for issues must be one of us.
    let access = (event.kind == EventKind::Issues)
        .then(|| NeedsAccess { user: event.actor.clone().unwrap_or_default(), access: Access::Write });
    Some(start(workflow, event, None, access))
}

fn one(
    library: &Library,
    workflow: &Loaded<WorkflowDoc>,
    on: &OnDoc,
    event: &Event,
    facts: &Facts<'_>,
    given: &Result<Vec<CommandText>, String>,
) -> Decision {
    let skip = |why: String| Decision::Skip(why);
    let not_at_all = || skip(format!("runs on {}; this is {}", listening(on), a(event.kind)));
    // A command is looked for first: what a person asks for in so many words.
    if event.kind == EventKind::IssueComment
        && let Some(wanted) = &on.command
    {
        match given {
            Ok(commands) => {
                if let Some(command) = commands.iter().find(|command| command.name == wanted.name.0) {
                    return commanded(library, workflow, wanted.access, command, event, facts);
                }
                if on.issue_comment.is_none() {
                    let phrase = format!("{} {}", facts.phrase, wanted.name.0);
                    return skip(match commands.as_slice() {
                        [] => format!("runs on the command `{phrase}`; no line of the comment begins with it"),
                        [first, ..] => format!("runs on the command `{phrase}`; the comment says `{}`", first.name),
                    });
                }
            }
            Err(why) if on.issue_comment.is_none() => return skip(why.clone()),
            Err(_) => {}
        }
    }
    if let Some(why) = left_alone(library, event, facts) {
        return skip(why);
    }
    if event.comment.as_ref().is_some_and(|comment| comment.kind != CommentKind::Thread) {
        return skip("the words of a review start nothing but by a command".to_owned());
    }
    let filter = match event.kind {
        EventKind::Manual => return start(workflow, event, None, None),
        EventKind::PullRequest => on.pull_request.as_ref(),
        EventKind::Push => on.push.as_ref(),
        EventKind::Issues => on.issues.as_ref(),
        EventKind::IssueComment => on.issue_comment.as_ref(),
        EventKind::MergeGroup => match on.merge_group {
            Some(_) => return start(workflow, event, None, None),
            None => return not_at_all(),
        },
        EventKind::WorkflowDispatch => match on.workflow_dispatch {
            Some(_) => return start(workflow, event, None, None),
            None => return not_at_all(),
        },
        EventKind::Webhook => {
            let Some(wanted) = &on.webhook else { return not_at_all() };
            let called = event.webhook.as_ref().map_or("", |hook| hook.event.as_str());
            return match wanted.event.0 == called {
                true => start(workflow, event, None, None),
                false => skip(format!("runs on the webhook `{}`; this is `{called}`", wanted.event.0)),
            };
        }
        EventKind::Schedule => {
            let seed = cron::seed(event.repository.as_deref().unwrap_or_default(), &workflow.name);
            return match on.schedule.as_slice() {
                [] => not_at_all(),
                entries => match event.schedule.as_ref().and_then(|tick| tick.cron.as_deref()) {
                    Some(due) if !entries.iter().any(|entry| is_due(entry, due, &seed, facts.now_ms)) => {
                        let own: Vec<String> = entries.iter().map(|entry| written(entry, &seed)).collect();
                        skip(format!("runs at `{}`; this is the time table `{due}`", own.join("`, `")))
                    }
                    _ => start(workflow, event, None, None),
                },
            };
        }
    };
    let Some(filter) = filter else { return not_at_all() };
    match filters::passes(filter, event, facts) {
        filters::Passes::Yes => start(workflow, event, None, asked(filter, event, facts)),
        filters::Passes::No(why) => skip(why),
        filters::Passes::NeedsChangedPaths => Decision::NeedsChangedPaths,
    }
}

/// What the forge is asked of whoever brought an event about. Anybody can open an issue, with labels where its form sets
/// them, and write below one: what comes of that is for whom the trusted configuration lets.
fn asked(filter: &ForgeEventDoc, event: &Event, facts: &Facts<'_>) -> Option<NeedsAccess> {
    let talk = matches!(event.kind, EventKind::Issues | EventKind::IssueComment);
    let access = filter.access.or(talk.then_some(EventAccess::Write))?.asked()?;
    let user = event.actor.clone().unwrap_or_default();
    (!is_allowed(&user, facts)).then_some(NeedsAccess { user, access })
}

/// Whether the operator lets somebody give commands, whatever the forge says.
fn is_allowed(user: &str, facts: &Facts<'_>) -> bool {
    !facts.fork && facts.allow_users.iter().any(|name| name.eq_ignore_ascii_case(user))
}

/// Whether the CI's tick, whose time table counts in UTC, is one of the entry now.
fn is_due(entry: &ScheduleDoc, due: &str, seed: &str, now_ms: i64) -> bool {
    match entry.timezone.as_ref().filter(|zone| zone.0 != "UTC") {
        None => cron::is(&entry.cron.0, due, seed),
        Some(name) => {
            let settled = cron::settled(&entry.cron.0, seed);
            // What cannot be said in UTC stands in the CI file as it is written here.
            zone::fits(&settled, &name.0, due, now_ms)
                || zone::in_utc(&settled, &name.0, now_ms).is_none() && cron::is(&entry.cron.0, due, seed)
        }
    }
}

/// An entry as people read it.
fn written(entry: &ScheduleDoc, seed: &str) -> String {
    let zone = entry.timezone.as_ref().map(|zone| format!(" {}", zone.0)).unwrap_or_default();
    format!("{}{zone}", cron::settled(&entry.cron.0, seed))
}

/// A person gave the command that a workflow waits for.
fn commanded(
    library: &Library,
    workflow: &Loaded<WorkflowDoc>,
    access: Access,
    given: &CommandText,
    event: &Event,
    facts: &Facts<'_>,
) -> Decision {
    let user = event.actor.clone().unwrap_or_default();
    let mut command = given.clone();
    let named = command.values.remove("sha").map(|sha| sha.to_ascii_lowercase());
    if event.change.is_some() && facts.fork {
        // What a maintainer has looked at is what runs, not what was pushed a second later.
        let head = event.change.as_ref().and_then(|change| change.head.sha.clone());
        if named.is_none() || named != head {
            let head = head.unwrap_or_else(|| "THE-FULL-COMMIT-ID".to_owned());
            return Decision::Refuse(format!(
                "the change comes from a fork, and runs only for a command that names its commit: `{} {} sha={head}`",
                facts.phrase, command.name
            ));
        }
    } else if let (Some(named), Some(change)) = (&named, &event.change)
        && change.head.sha.as_ref() != Some(named)
    {
        return Decision::Refuse(format!("the command names the commit {named}, which is not the change's head"));
    }
    let settings = match settings::take(library, workflow, &mut command) {
        Ok(settings) => settings,
        Err(why) => return Decision::Refuse(why),
    };
    if let Some(unknown) = command.values.keys().find(|name| !workflow.doc.inputs.contains_key(*name)) {
        let known: Vec<&str> = workflow.doc.inputs.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Decision::Refuse(format!("the command gives the input `{unknown}`; it takes {known}"));
    }
    let access = (!is_allowed(&user, facts)).then_some(NeedsAccess { user, access });
    match start(workflow, event, Some(command), access) {
        Decision::Run(run) => Decision::Run(Box::new(Start { settings, given: Some(given.clone()), ..*run })),
        other => other,
    }
}

/// Why the event starts nothing of its own: our own doing, or what the configuration leaves alone.
fn left_alone(library: &Library, event: &Event, facts: &Facts<'_>) -> Option<String> {
    let actor = event.actor.as_deref().unwrap_or_default();
    let ours = facts.ours.iter().any(|name| name.eq_ignore_ascii_case(actor));
    let talk = matches!(event.kind, EventKind::Issues | EventKind::IssueComment);
    if ours && !matches!(event.kind, EventKind::Schedule | EventKind::WorkflowDispatch | EventKind::MergeGroup) {
        return Some(format!("`{actor}` is our own account: what it does starts nothing"));
    }
    if talk && event.actor_is_bot {
        return Some(format!("`{actor}` is a program: what programs write starts nothing"));
    }
    if event.comment.as_ref().is_some_and(|comment| comment.body.contains(MARK)) {
        return Some("the comment is one of ours".to_owned());
    }
    let ignore = library.config.delivery.as_ref()?.ignore.as_ref().filter(|_| event.kind == EventKind::PullRequest)?;
    ignore.meant().why(event)
}

fn start(
    workflow: &Loaded<WorkflowDoc>,
    event: &Event,
    command: Option<CommandText>,
    access: Option<NeedsAccess>,
) -> Decision {
    let takes = &workflow.doc.inputs;
    let run = |inputs, command, access| {
        let (workflow, settings, given) = (workflow.name.clone(), BTreeMap::new(), None);
        Decision::Run(Box::new(Start { workflow, inputs, command, given, access, settings }))
    };
    let mut inputs = BTreeMap::new();
    if event.kind == EventKind::WorkflowDispatch {
        // The pipeline's own inputs come along (`workflow`, `prompt`): ours are taken out.
        for (name, value) in &event.inputs {
            let name = name.replace('-', "_").to_ascii_lowercase();
            if takes.contains_key(&name) && !value.is_empty() {
                inputs.insert(name, value.clone());
            }
        }
    }
    if let Some(command) = &command {
        inputs.extend(command.values.clone());
        if !command.text.is_empty() && takes.contains_key("task") {
            inputs.entry("task".to_owned()).or_insert_with(|| command.text.clone());
        }
    }
    let asks = |task: &InputDoc| task.required && task.kind == InputType::String;
    if takes.get("task").is_some_and(asks) && !inputs.contains_key("task") {
        let repairs = command.as_ref().is_some_and(|command| command.name == "fix") && event.change.is_some();
        if repairs {
            inputs.insert("task".to_owned(), REPAIR.to_owned());
            return run(inputs, command, access);
        }
        let about = match (&event.issue, &event.change) {
            (Some(issue), _) => Some((&issue.title, &issue.body)),
            (None, Some(change)) => Some((&change.title, &change.body)),
            (None, None) => None,
        };
        if let Some((title, body)) = about {
            inputs.insert("task".to_owned(), format!("{title}\n\n{body}").trim().to_owned());
        }
    }
    run(inputs, command, access)
}

fn a(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Schedule => "a schedule",
        other => other.as_str(),
    }
}

/// What starts a workflow, in words.
fn listening(on: &OnDoc) -> String {
    let mut kinds = Vec::new();
    let command = on.command.as_ref().map(|command| format!("the command {}", command.name.0));
    kinds.extend(command);
    for (there, name) in [
        (on.pull_request.is_some(), "pull_request"),
        (on.push.is_some(), "push"),
        (on.issues.is_some(), "issues"),
        (on.issue_comment.is_some(), "issue_comment"),
        (!on.schedule.is_empty(), "schedule"),
        (on.merge_group.is_some(), "merge_group"),
        (on.workflow_dispatch.is_some(), "workflow_dispatch"),
        (on.webhook.is_some(), "webhook"),
    ] {
        if there {
            kinds.push(name.to_owned());
        }
    }
    match kinds.split_last() {
        None => "nothing but its name".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}
