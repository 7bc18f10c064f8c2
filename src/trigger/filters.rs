//! `types`, `labels`, `branches`, `tags` and `paths` of an event. What is not set lets all pass.

use super::Facts;
use crate::model::event::{Event, EventKind};
use crate::workflow::schema::{ForgeEventDoc, Glob};
use globset::{GlobBuilder, GlobMatcher};

pub(super) enum Passes {
    Yes,
    No(String),
    NeedsChangedPaths,
}

/// Whether the event passes; the cheap questions first.
pub(super) fn passes(filter: &ForgeEventDoc, event: &Event, facts: &Facts<'_>) -> Passes {
    let checks = [types(filter, event), labels(filter, event), refs(filter, event)];
    if let Some(why) = checks.into_iter().flatten().next() {
        return Passes::No(why);
    }
    let wanted = filter.paths.as_slice();
    if wanted.is_empty() || !matches!(event.kind, EventKind::PullRequest | EventKind::Push) {
        return Passes::Yes;
    }
    let Some(changed) = facts.changed else { return Passes::NeedsChangedPaths };
    let globs = Globs::new(wanted);
    if changed.iter().any(|path| globs.is_match(path)) {
        return Passes::Yes;
    }
    Passes::No(format!("only when a file under {} changes; changed: {}", listed(wanted), some(changed)))
}

fn types(filter: &ForgeEventDoc, event: &Event) -> Option<String> {
    let wanted = filter.types.as_slice();
    if wanted.is_empty() {
        return unusual(filter, event);
    }
    match event.action.as_deref() {
        Some(action) if wanted.iter().any(|word| word.eq_ignore_ascii_case(action)) => None,
        Some(action) => Some(format!("only when it was {}; it was {action}", wanted.join(", "))),
        // A home that runs a pipeline for a change and does not say why does so when it is opened and pushed to.
        None if event.kind == EventKind::PullRequest
            && wanted.iter().any(|word| matches!(word.as_str(), "opened" | "synchronize" | "reopened")) =>
        {
            None
        }
        None => Some(format!("only when it was {}; nobody says what it was", wanted.join(", "))),
    }
}

/// A change's own event without `types:` is that there is something new to look at, as on GitHub; with `labels:` a label
/// that was set is, too.
fn unusual(filter: &ForgeEventDoc, event: &Event) -> Option<String> {
    let action = event.action.as_deref().filter(|_| event.kind == EventKind::PullRequest)?;
    let usual = matches!(action, "opened" | "synchronize" | "reopened")
        || action == "labeled" && !filter.labels.as_slice().is_empty();
    (!usual).then(|| {
        format!("only when it was opened, pushed to or reopened, where no `types` are listed; it was {action}")
    })
}

fn labels(filter: &ForgeEventDoc, event: &Event) -> Option<String> {
    let wanted = filter.labels.as_slice();
    if wanted.is_empty() {
        return None;
    }
    let is_wanted = |label: &String| wanted.contains(label);
    // Where a label was set or taken away, that one is meant; else those that are there.
    if matches!(event.action.as_deref(), Some("labeled" | "unlabeled"))
        && let Some(label) = &event.label
    {
        return (!is_wanted(label)).then(|| format!("only for the label {}; this is {label}", wanted.join(", ")));
    }
    let there = event.labels();
    if there.iter().any(is_wanted) {
        return None;
    }
    let has = if there.is_empty() { "there is none".to_owned() } else { format!("there are {}", some(there)) };
    Some(format!("only with the label {}; {has}", wanted.join(", ")))
}

fn refs(filter: &ForgeEventDoc, event: &Event) -> Option<String> {
    let (branches, tags) = (filter.branches.as_slice(), filter.tags.as_slice());
    match event.kind {
        EventKind::PullRequest => {
            let base = event.change.as_ref().map_or("", |change| change.base.branch.as_str());
            let fits = branches.is_empty() || Globs::new(branches).is_match(base);
            (!fits).then(|| format!("only into {}; this goes into {base}", listed(branches)))
        }
        EventKind::Push => {
            let push = event.push.clone().unwrap_or_default();
            if push.after.is_none() {
                return Some("the ref was deleted: there is nothing to work on".to_owned());
            }
            let (wanted, name, what) = match (&push.branch, &push.tag) {
                // A list of tags alone leaves branches out, and the other way round.
                (Some(branch), _) if !branches.is_empty() || !tags.is_empty() => (branches, branch, "the branch"),
                (None, Some(tag)) if !branches.is_empty() || !tags.is_empty() => (tags, tag, "the tag"),
                _ => return None,
            };
            let only = match (branches.is_empty(), tags.is_empty()) {
                (false, _) => format!("branches {}", listed(branches)),
                (true, _) => format!("tags {}", listed(tags)),
            };
            let fits = !wanted.is_empty() && Globs::new(wanted).is_match(name);
            (!fits).then(|| format!("only for {only}; this is {what} {name}"))
        }
        _ => None,
    }
}

/// Globs of which those with `!` take out again; the last one that matches decides.
struct Globs(Vec<(bool, GlobMatcher)>);

impl Globs {
    fn new(wanted: &[Glob]) -> Self {
        let globs = wanted.iter().filter_map(|glob| {
            let (keeps, text) = match glob.0.strip_prefix('!') {
                Some(text) => (false, text),
                None => (true, glob.0.as_str()),
            };
            let glob = GlobBuilder::new(text).literal_separator(true).build().ok()?;
            Some((keeps, glob.compile_matcher()))
        });
        Self(globs.collect())
    }

    fn is_match(&self, name: &str) -> bool {
        let all_take_out = self.0.iter().all(|(keeps, _)| !keeps);
        let start = all_take_out && !self.0.is_empty();
        self.0.iter().fold(start, |so_far, (keeps, glob)| if glob.is_match(name) { *keeps } else { so_far })
    }
}

fn listed(globs: &[Glob]) -> String {
    globs.iter().map(|glob| glob.0.as_str()).collect::<Vec<_>>().join(", ")
}

fn some(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
    match (names.len(), names.len().saturating_sub(shown.len())) {
        (0, _) => "nothing".to_owned(),
        (_, 0) => shown.join(", "),
        (_, more) => format!("{} and {more} more", shown.join(", ")),
    }
}
