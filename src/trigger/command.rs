//! Which commands of a comment count: people's, new ones, and none that we wrote ourselves.

use super::grammar::{Grammar, pairs};
use super::{Facts, MARK};
use crate::model::event::{CommandText, Event};
use crate::workflow::schema::library::nearest;
use crate::workflow::schema::{Library, RESERVED};

/// A command that the program answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Builtin {
    /// Who can use what.
    Help,
    /// How the jobs of this change stand.
    Status,
    /// Ends jobs.
    Cancel,
    /// Runs a job once more.
    Retry,
    /// Says yes to a job that waits for it.
    Approve,
    /// Says no to a job that waits for a yes.
    Deny,
    /// Why a run did what it did.
    Explain,
}

impl Builtin {
    /// All, in the order of [`RESERVED`].
    pub const ALL: [Self; 7] =
        [Self::Help, Self::Status, Self::Cancel, Self::Retry, Self::Approve, Self::Deny, Self::Explain];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        RESERVED.iter().position(|it| *it == name).and_then(|at| Self::ALL.get(at)).copied()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        RESERVED.get(self as usize).copied().unwrap_or_default()
    }
}

/// What a command means here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    /// The program answers.
    Builtin(Builtin),
    /// A workflow waits for it: [`super::decide`] says whether it runs.
    Workflow,
    /// There is none of that name; the nearest one, where one is near.
    Unknown(Option<String>),
}

/// What is said after a built-in command.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Arguments {
    /// The first word: a job's id, or the beginning of one, or a word of `text`.
    pub id: Option<String>,
    /// `max=USD`.
    pub max_usd: Option<f64>,
    /// All of it but the pairs.
    pub text: String,
}

impl Arguments {
    /// Reads a built-in command's line.
    ///
    /// # Errors
    /// A pair that it does not take, or a price that is none; in words.
    pub fn of(command: &CommandText) -> Result<Self, String> {
        let (id, rest) = command.text.split_once(char::is_whitespace).unwrap_or((&command.text, ""));
        let (after, rest) = pairs(rest);
        let mut values = command.values.clone();
        values.extend(after);
        let max = values.remove("max").or_else(|| values.remove("max_cost_usd"));
        if let Some(unknown) = values.keys().next() {
            return Err(format!("`{}` does not take `{unknown}=`", command.name));
        }
        let max_usd = match max {
            None => None,
            Some(text) => Some(dollars(&text).ok_or_else(|| format!("`{text}` is not an amount of US dollars"))?),
        };
        let id = id.trim_matches('`').to_lowercase();
        let text = format!("{id} {}", rest.trim()).trim().to_owned();
        Ok(Self { id: (!id.is_empty()).then_some(id), max_usd, text })
    }
}

/// An amount of US dollars: `2`, `1.50`, `$2`.
pub fn dollars(text: &str) -> Option<f64> {
    text.trim_start_matches('$').parse::<f64>().ok().filter(|usd| usd.is_finite() && *usd >= 0.0)
}

/// The commands of the event's comment that count, with what each means here; or why none does.
///
/// # Errors
/// In words: the comment is one of ours, a program's, an edit of somebody else's words, …
pub fn commands_of(library: &Library, event: &Event, facts: &Facts<'_>) -> Result<Vec<(CommandText, Meant)>, String> {
    let grammar = Grammar::of(library, facts.phrase);
    let given = given(&grammar, event, facts)?.into_iter().map(|command| {
        let name = command.name.as_str();
        let meant = match Builtin::named(name) {
            Some(builtin) => Meant::Builtin(builtin),
            None if grammar.names().any(|it| it == name) => Meant::Workflow,
            None if name.is_empty() => Meant::Unknown(None),
            None => Meant::Unknown(nearest(name, grammar.names()).map(str::to_owned)),
        };
        (command, meant)
    });
    Ok(given.collect())
}

/// The commands of the event's comment that count, or why none does.
pub(super) fn given(grammar: &Grammar, event: &Event, facts: &Facts<'_>) -> Result<Vec<CommandText>, String> {
    let Some(comment) = &event.comment else { return Ok(event.command.iter().cloned().collect()) };
    let Some(actor) = event.actor.as_deref() else { return Err("nobody says who wrote the comment".to_owned()) };
    if facts.ours.iter().any(|name| name.eq_ignore_ascii_case(actor)) || comment.body.contains(MARK) {
        return Err("the comment is one of ours".to_owned());
    }
    if event.actor_is_bot {
        return Err(format!("`{actor}` is a program: commands are people's"));
    }
    // A server looked at the comment already, and this event is about one of its commands. No forge's event says that.
    if let Some(command) = &event.command {
        return Ok(vec![command.clone()]);
    }
    let now = grammar.commands(&comment.body);
    match event.action.as_deref() {
        Some("created") => {
            let other = comment.author.as_deref().filter(|author| !author.eq_ignore_ascii_case(actor));
            match other {
                Some(author) => Err(format!("the comment is `{author}`'s, and `{actor}` sent it")),
                None => Ok(now),
            }
        }
        Some("edited") => {
            let theirs = comment.author.as_deref().is_some_and(|author| author.eq_ignore_ascii_case(actor));
            if !theirs {
                return Err(format!(
                    "`{actor}` edited a comment that is not known to be theirs: no command of it counts"
                ));
            }
            let Some(before) = &comment.before else {
                return Err("nobody says what the comment was before it was edited: no command of it counts".to_owned());
            };
            // What was there before has had its chance.
            let mut old = grammar.commands(before);
            let fresh = now.into_iter().filter(|command| match old.iter().position(|known| known == command) {
                Some(place) => {
                    old.remove(place);
                    false
                }
                None => true,
            });
            Ok(fresh.collect())
        }
        Some(other) => Err(format!("the comment was {other}: only new ones and edits give commands")),
        None => Err("nobody says whether the comment is new: no command of it counts".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_commands_have_their_names() {
        for (builtin, name) in Builtin::ALL.into_iter().zip(RESERVED) {
            assert_eq!((builtin.name(), Builtin::named(name)), (name, Some(builtin)));
        }
        assert_eq!(Builtin::named("review"), None);
    }

    #[test]
    fn an_id_and_a_price_are_read_in_either_order() {
        let read = |text: &str, max: Option<&str>| {
            let values = max.iter().map(|max| ("max".to_owned(), (*max).to_owned())).collect();
            Arguments::of(&CommandText { name: "approve".into(), text: text.into(), values })
        };
        let wanted = |id: Option<&str>, max_usd: Option<f64>, text: &str| {
            Ok(Arguments { id: id.map(str::to_owned), max_usd, text: text.to_owned() })
        };
        assert_eq!(read("", None), wanted(None, None, ""));
        assert_eq!(read("`AB12` max=$1.50", None), wanted(Some("ab12"), Some(1.5), "ab12"));
        assert_eq!(read("ab12", Some("2")), wanted(Some("ab12"), Some(2.0), "ab12"));
        assert_eq!(read("why was that denied?", None), wanted(Some("why"), None, "why was that denied?"));
        assert!(read("", Some("much")).is_err_and(|why| why.contains("`much` is not an amount")));
        assert!(read("", Some("-1")).is_err() && read("", Some("NaN")).is_err());
        assert!(read("ab12 model=x", None).is_err_and(|why| why.contains("does not take `model=`")));
    }
}
