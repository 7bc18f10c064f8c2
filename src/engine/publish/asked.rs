//! What a change is given beside its text, and what of it people took away: that stays away.
//!
//! A hidden line of the change's own description remembers what was asked for and set. What stands there and not on the
//! change was taken away since. The line is an aid and no authority: whoever can write in the description can also set
//! labels and take them away.

use crate::port::forge::{ChangeInfo, NewChange};
use crate::text;
use std::collections::BTreeMap;

/// What the line's name is.
const NAME: &str = "asked";
/// The longest line that is read, in bytes.
const LONGEST: usize = 16 * 1024;

/// Labels, reviewers, assignees and a milestone, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked(BTreeMap<String, Vec<String>>);

impl Asked {
    fn new(lists: [(&str, &[String]); 4]) -> Self {
        let some = lists.into_iter().filter(|(_, list)| !list.is_empty());
        Self(some.map(|(kind, list)| (kind.to_owned(), list.to_vec())).collect())
    }

    /// What is asked for.
    pub(super) fn of(new: &NewChange) -> Self {
        let NewChange { labels, reviewers, assignees, milestone, .. } = new;
        let milestone = milestone.as_slice();
        Self::new([("label", labels), ("reviewer", reviewers), ("assignee", assignees), ("milestone", milestone)])
    }

    /// What a change has.
    pub(super) fn on(info: &ChangeInfo) -> Self {
        let ChangeInfo { change, reviewers, assignees, milestone, .. } = info;
        let (labels, milestone) = (change.labels.as_slice(), milestone.as_slice());
        Self::new([("label", labels), ("reviewer", reviewers), ("assignee", assignees), ("milestone", milestone)])
    }

    /// What the description of the change of a key on a branch of ours remembers; of another's: nothing.
    pub(super) fn remembered(body: &str, key: &str, branch: &str) -> Self {
        let line = text::remembered(body, key, branch, None).filter(|line| line.len() <= LONGEST);
        let read = line.and_then(|line| serde_json::from_str(text::hidden_json(NAME, line)?).ok());
        Self(read.unwrap_or_default())
    }

    /// The hidden line, with its end; nothing where there is nothing to remember.
    pub(super) fn line(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        text::hidden_line(NAME, &serde_json::to_string(&self.0).unwrap_or_default()) + "\n"
    }

    /// What of this is not in the other.
    pub(super) fn without(&self, other: &Self) -> Self {
        let left = self.0.iter().map(|(kind, names)| {
            let there = other.0.get(kind).map(Vec::as_slice).unwrap_or_default();
            let is_there = |name: &String| there.iter().any(|it| it.eq_ignore_ascii_case(name));
            (kind.clone(), names.iter().filter(|name| !is_there(name)).cloned().collect::<Vec<_>>())
        });
        Self(left.filter(|(_, names)| !names.is_empty()).collect())
    }

    /// What was asked for before, is asked for again, and is not on the change any more.
    pub(super) fn taken_away(&self, before: &Self, info: &ChangeInfo) -> Self {
        self.without(&self.without(&before.without(&Self::on(info))))
    }

    /// Asks for this and no more.
    pub(super) fn ask(mut self, new: &mut NewChange) {
        let mut take = |kind: &str| self.0.remove(kind).unwrap_or_default();
        (new.labels, new.reviewers, new.assignees) = (take("label"), take("reviewer"), take("assignee"));
        new.milestone = take("milestone").pop();
    }

    /// In words.
    pub(super) fn words(&self) -> String {
        let all = self.0.iter().flat_map(|(kind, names)| names.iter().map(move |name| (kind, text::clean(name))));
        all.map(|(kind, name)| format!("{kind} `{name}`")).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_end_the_line_does_not() {
        let asked = Asked(BTreeMap::from([("label".to_owned(), vec!["a --> <b> @ann `x` #1\n/close".to_owned()])]));
        let line = asked.line();
        assert_eq!((line.lines().count(), line.matches("-->").count()), (1, 1), "{line}");
        let body = format!("{}\n{line}Words.", text::marker("k", "codeforge/x", None));
        assert_eq!(Asked::remembered(&body, "k", "codeforge/x"), asked);
        for other in [body.replace("asked", "else"), body.replacen('\n', "\nWords.\n", 1), "Words.".to_owned()] {
            assert_eq!(Asked::remembered(&other, "k", "codeforge/x"), Asked::default(), "{other}");
        }
        assert_eq!(Asked::default().line(), "");
    }
}
