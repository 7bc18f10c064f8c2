//! At most three questions, on a terminal, and none elsewhere.

use super::{Intent, config};
use crate::cli::Context;
use crate::scout::Source;
use std::io::{BufRead, IsTerminal};

/// Whether somebody is there to answer.
pub(super) fn can(cx: &Context<'_>) -> bool {
    cx.interactive && std::io::stdin().is_terminal()
}

/// Asks what nothing says for certain: how it is tested, how it is linted, who serves the model.
pub(super) fn questions(intent: &mut Intent, provider: bool, cx: &Context<'_>) {
    let certain = |found: Option<&crate::scout::Found>| found.is_some_and(|found| found.source > Source::Habit);
    let kits = &intent.survey.kits;
    let (tests, lint) =
        (kits.iter().all(|kit| certain(kit.tests.as_ref())), kits.iter().all(|kit| certain(kit.lint.as_ref())));
    if !tests || kits.is_empty() {
        intent.tests = command("How is it tested?", intent.tests.take(), cx);
    }
    if !lint || kits.is_empty() {
        intent.lint = command("How is it linted?", intent.lint.take(), cx);
    }
    if provider && intent.provider.is_variables() && intent.carried.model.is_none() {
        let names = config::Provider::NAMES.join(", ");
        if let Some(answer) = line(&format!("Who serves the model? ({names}) [variables] "), cx)
            && !answer.is_empty()
        {
            match config::Provider::named(&answer) {
                Some(provider) => intent.provider = provider,
                None => cx.say(&format!("`{}` is none of these; variables are used", crate::text::clean(&answer))),
            }
        }
    }
}

/// A command; Enter takes what was found, `-` says that there is none.
fn command(question: &str, found: Option<String>, cx: &Context<'_>) -> Option<String> {
    let usual = found.as_deref().unwrap_or("none");
    match line(&format!("{question} (- for none) [{}] ", crate::text::clean(usual)), cx) {
        None => found,
        Some(answer) if answer.is_empty() => found,
        Some(answer) if answer == "-" => None,
        Some(answer) => Some(answer),
    }
}

/// One line; `None`: nobody answers any more.
fn line(question: &str, cx: &Context<'_>) -> Option<String> {
    if let Ok(mut err) = cx.err.lock() {
        let _ = write!(err, "{question}").and_then(|()| err.flush());
    }
    let mut answer = String::new();
    match std::io::stdin().lock().read_line(&mut answer) {
        Ok(read) if read > 0 => Some(answer.trim().to_owned()),
        _ => None,
    }
}
