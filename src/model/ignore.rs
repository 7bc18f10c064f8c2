//! Changes that are left alone: asked before money is spent, and again before anything is written.

use super::event::Event;
use serde::{Deserialize, Serialize};

/// Which changes are left alone (`delivery.ignore`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ignore {
    /// Drafts.
    pub drafts: bool,
    /// Changes that a program opened or pushed to.
    pub bots: bool,
    /// Changes with one of these labels.
    pub labels: Vec<String>,
}

impl Ignore {
    /// Why the event's change is left alone, in a sentence without its end; `None`: it is not. What a person asks for by
    /// a command is done.
    pub fn why(&self, event: &Event) -> Option<String> {
        let change = event.change.as_ref().filter(|_| event.command.is_none())?;
        if let Some(label) = self.labels.iter().find(|label| change.labels.contains(label)) {
            return Some(format!("the change has the label `{label}`, and `delivery.ignore.labels` leaves it alone"));
        }
        if self.drafts && change.draft {
            return Some("the change is a draft, and `delivery.ignore.drafts` leaves drafts alone".to_owned());
        }
        let author = change.author.as_deref().unwrap_or_default();
        let actor = event.actor.as_deref().filter(|_| event.actor_is_bot);
        let program = actor.or(Some(author).filter(|author| author.ends_with("[bot]"))).filter(|_| self.bots)?;
        Some(format!("`{program}` is a program, and `delivery.ignore.bots` leaves the changes of programs alone"))
    }
}

#[cfg(test)]
mod tests {
    use super::Ignore;
    use crate::model::event::{Change, CommandText, Event, EventKind};

    #[test]
    fn drafts_bots_and_labels_are_left_alone_where_that_is_said() {
        let ignore = Ignore { drafts: true, bots: true, labels: vec!["hands-off".into()] };
        let change = Change { number: 7, author: Some("ann".into()), ..Change::default() };
        let event = Event { kind: EventKind::PullRequest, actor: Some("ann".into()), ..Event::default() };
        let of = |change: Change, bot: bool| Event { change: Some(change), actor_is_bot: bot, ..event.clone() };
        let draft = Change { draft: true, ..change.clone() };
        let labelled = Change { labels: vec!["hands-off".into()], ..change.clone() };
        let renovate = Change { author: Some("renovate[bot]".into()), ..change.clone() };
        assert_eq!(ignore.why(&of(change.clone(), false)), None);
        for (event, word) in [
            (of(draft, false), "ignore.drafts"),
            (of(change, true), "ignore.bots"),
            (of(renovate, false), "`renovate[bot]` is a program"),
            (of(labelled, false), "ignore.labels"),
        ] {
            let why = ignore.why(&event).unwrap_or_default();
            assert!(why.contains(word), "{why}");
            assert_eq!(Ignore::default().why(&event), None);
            let asked = Event { command: Some(CommandText::default()), ..event };
            assert_eq!(ignore.why(&asked), None, "somebody asked for it");
        }
        assert_eq!(ignore.why(&event), None, "there is no change");
    }
}
