//! What of `concurrency:` a CI file can say: its jobs meet by change, issue or branch, whichever workflows they run; a
//! pipeline knows nothing else before it begins.

use crate::model::diagnostic::{Diagnostic, Severity};
use crate::workflow::schema::{ConcurrencyDoc, Library, Loaded, OnConflict, OnDoc, WorkflowDoc, codes};

/// What a pipeline's group follows.
const FOLLOWED: [&str; 4] = ["event.change.number", "event.issue.number", "event.push.branch", "event.git_ref"];

/// Whether all workflows that changes start end the run of an older push. One that does not is not cut off by others.
pub(super) fn cancels(library: &Library) -> bool {
    let own = library.workflows.values().filter(|workflow| !workflow.builtin);
    let of_changes = own.filter(|it| it.doc.on.as_ref().is_some_and(|on| on.pull_request.is_some()));
    let says = of_changes.map(|it| {
        let said = it.doc.concurrency.as_ref();
        said.is_some_and(|said| said.on_conflict == OnConflict::Cancel && said.group.0.contains(FOLLOWED[0]))
    });
    let mut all = says.peekable();
    all.peek().is_some() && all.all(|it| it)
}

/// A warning where the CI does not do what a workflow says.
pub(super) fn unmet(workflow: &Loaded<WorkflowDoc>) -> Option<Diagnostic> {
    let said = workflow.doc.concurrency.as_ref()?;
    let on = workflow.doc.on.clone().unwrap_or_default();
    let (key, why, help) = match why(said, &on) {
        Some(why) => ("group", why, "name a change, an issue or a branch (`{{ event.change.number }}`)"),
        None if said.on_conflict == OnConflict::Skip => (
            "on_conflict",
            "a CI lets the later run wait, and skips none".to_owned(),
            "take `queue`; or `cancel`, which ends the earlier run",
        ),
        None => return None,
    };
    let at = workflow.document.at(&["concurrency", key]);
    let message = format!("`{}` does not meet others in CI as it says: {why}", workflow.name);
    let mut problem = workflow.document.diagnostic(codes::UNMET, Severity::Warning, at, message);
    problem.help = Some(format!("{help}; the server (`codeforge serve`) keeps all of it"));
    Some(problem)
}

/// Why the group is none of a pipeline's; `None`: it is.
fn why(said: &ConcurrencyDoc, on: &OnDoc) -> Option<String> {
    let group = said.group.0.as_str();
    if FOLLOWED.iter().any(|known| group.contains(known)) {
        return None;
    }
    if group.contains("{{") || group.contains("{%") {
        return Some("its jobs meet by change, issue or branch, and know nothing else before they begin".to_owned());
    }
    // One group for everything holds where everything is of one branch.
    let elsewhere = [
        on.pull_request.is_some(),
        on.issues.is_some(),
        on.issue_comment.is_some(),
        on.command.is_some(),
        on.push.is_some(),
        on.merge_group.is_some(),
    ];
    elsewhere.contains(&true).then(|| format!("jobs of different changes or branches do not meet in `{group}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::{self, Source};

    fn library(on: &str, concurrency: &str) -> Library {
        let text = format!(
            "name: it\non: {on}\nconcurrency: {concurrency}\nsteps: {{ look: {{ mode: reviewer, prompt: Look. }} }}\n"
        );
        let mut sources = workflow::builtin();
        sources.push(Source { path: ".codeforge/workflows/it.yml".into(), text, builtin: false });
        workflow::load(&sources, &|_| None)
    }

    #[test]
    fn a_group_is_met_or_it_is_said_why_not() {
        let unmet = |on: &str, group: &str, conflict: &str| {
            let library = library(on, &format!("{{ group: \"{group}\", on_conflict: {conflict} }}"));
            unmet(&library.workflows["it"]).map(|it| it.message).unwrap_or_default()
        };
        assert_eq!(unmet("{ pull_request: {} }", "{{ event.change.number }}", "cancel"), "");
        assert_eq!(unmet("{ schedule: [{ cron: '0 2 * * *' }] }", "nightly", "queue"), "");
        assert!(unmet("{ pull_request: {} }", "one", "queue").contains("do not meet in `one`"));
        assert!(unmet("{ pull_request: {} }", "{{ event.actor }}", "queue").contains("know nothing else"));
        assert!(unmet("{ pull_request: {} }", "{{ event.change.number }}", "skip").contains("skips none"));
    }

    #[test]
    fn a_newer_push_ends_the_older_ones_run_only_where_all_say_so() {
        let cancels = |on: &str, group: &str, conflict: &str| {
            cancels(&library(on, &format!("{{ group: \"{group}\", on_conflict: {conflict} }}")))
        };
        assert!(cancels("{ pull_request: {} }", "{{ event.change.number }}", "cancel"));
        assert!(!cancels("{ pull_request: {} }", "{{ event.change.number }}", "queue"));
        assert!(!cancels("{ pull_request: {} }", "one", "cancel"));
        assert!(!cancels("{ push: {} }", "{{ event.change.number }}", "cancel"), "there is none of a change");
    }
}
