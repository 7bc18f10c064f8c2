//! Commands in comments: `/codeforge NAME key=value … TEXT`.

use super::{Facts, MARK};
use crate::model::event::{CommandText, Event};
use pulldown_cmark::{Event as Piece, Options, Parser, Tag, TagEnd};
use std::collections::BTreeMap;

/// The commands of the event's comment that count, or why none does.
pub(super) fn given(event: &Event, facts: &Facts<'_>) -> Result<Vec<CommandText>, String> {
    let Some(comment) = &event.comment else { return Ok(event.command.iter().cloned().collect()) };
    let Some(actor) = event.actor.as_deref() else { return Err("nobody says who wrote the comment".to_owned()) };
    if facts.ours.iter().any(|name| name.eq_ignore_ascii_case(actor)) || comment.body.contains(MARK) {
        return Err("the comment is one of ours".to_owned());
    }
    if event.actor_is_bot {
        return Err(format!("`{actor}` is a program: commands are people's"));
    }
    let now = commands(&comment.body, facts.phrase);
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
            let mut old = commands(before, facts.phrase);
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

/// The commands in a Markdown text: lines of plain paragraphs that begin with the phrase, in any letter case. Quotes,
/// lists, headings, tables, code and HTML hold none.
pub fn commands(text: &str, phrase: &str) -> Vec<CommandText> {
    // Most comments have none: they are not parsed.
    if phrase.is_empty() || !contains_ignoring_case(text, phrase) {
        return Vec::new();
    }
    let mut depth = 0usize;
    let mut paragraph = false;
    let mut line_start = false;
    let mut found = Vec::new();
    let options = Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_GFM;
    for (piece, range) in Parser::new_ext(text, options).into_offset_iter() {
        match piece {
            Piece::Start(tag) => {
                if depth == 0 {
                    paragraph = matches!(tag, Tag::Paragraph);
                    line_start = paragraph;
                } else {
                    line_start = false;
                }
                depth += 1;
            }
            Piece::End(end) => {
                depth = depth.saturating_sub(1);
                if matches!(end, TagEnd::Paragraph) {
                    paragraph = false;
                }
                line_start = false;
            }
            Piece::SoftBreak | Piece::HardBreak => line_start = paragraph && depth == 1,
            Piece::Text(_) if line_start => {
                let line = text.get(range.start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
                // A backslash before it makes it words.
                let before = text.get(..range.start).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
                if before.trim().is_empty() {
                    found.extend(command(line, phrase));
                }
                line_start = false;
            }
            _ => line_start = false,
        }
    }
    found
}

fn contains_ignoring_case(text: &str, phrase: &str) -> bool {
    let (text, phrase) = (text.as_bytes(), phrase.as_bytes());
    text.windows(phrase.len()).any(|window| window.eq_ignore_ascii_case(phrase))
}

/// A line as a command.
fn command(line: &str, phrase: &str) -> Option<CommandText> {
    let begins = line.get(..phrase.len()).is_some_and(|start| start.eq_ignore_ascii_case(phrase));
    let rest = line.get(phrase.len()..).filter(|_| begins)?;
    if !rest.starts_with(char::is_whitespace) {
        return None;
    }
    let rest = rest.trim();
    let (name, mut rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let name = name.to_lowercase();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        return None;
    }
    let mut values = BTreeMap::new();
    // Pairs stand before the text: an `a=b` within a sentence is a part of the sentence.
    while let Some((key, value, after)) = pair(rest.trim_start()) {
        values.insert(key, value);
        rest = after;
    }
    Some(CommandText { name, text: rest.trim().to_owned(), values })
}

/// `key=value` or `key="a value"` at the start of a text, and what follows.
fn pair(text: &str) -> Option<(String, String, &str)> {
    let (key, rest) = text.split_once('=')?;
    let first = key.starts_with(|c: char| c.is_ascii_lowercase());
    if !first || !key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
        return None;
    }
    if let Some(quoted) = rest.strip_prefix('"')
        && let Some((value, after)) = quoted.split_once('"')
        && (after.is_empty() || after.starts_with(char::is_whitespace))
    {
        return Some((key.to_owned(), value.to_owned(), after));
    }
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (value, after) = (rest.get(..end)?, rest.get(end..)?);
    Some((key.to_owned(), value.to_owned(), after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(text: &str) -> Vec<String> {
        commands(text, "/codeforge").into_iter().map(|it| format!("{}|{}|{:?}", it.name, it.text, it.values)).collect()
    }

    #[test]
    fn a_line_of_a_paragraph_that_begins_with_the_phrase_is_a_command() {
        assert_eq!(said("/codeforge fix the parser"), ["fix|the parser|{}"]);
        assert_eq!(said("Hello!\n/CodeForge Review\nthanks"), ["review||{}"]);
        assert_eq!(said("  /codeforge fix\r\n\r\n/codeforge review"), ["fix||{}", "review||{}"]);
        assert_eq!(
            said("/codeforge fix depth=2 focus=\"the a parser\" set x=1 there"),
            [r#"fix|set x=1 there|{"depth": "2", "focus": "the a parser"}"#]
        );
        assert_eq!(said("/codeforge fix *this* `code` <b>"), ["fix|*this* `code` <b>|{}"]);
        assert_eq!(said("/codeforge fix http://a/?b=c"), ["fix|http://a/?b=c|{}"]);
    }

    #[test]
    fn quotes_code_and_other_places_hold_none() {
        for text in [
            "please /codeforge fix",
            "/codeforge",
            "/codeforgery fix",
            "/codeforge $(rm)",
            "> /codeforge fix",
            "> somebody said\n/codeforge fix",
            "```\n/codeforge fix\n```",
            "~~~~ sh\n/codeforge fix\n~~~\n/codeforge fix\n~~~~",
            "```\n/codeforge fix",
            "    /codeforge fix",
            "text\n\n\t/codeforge fix",
            "`/codeforge fix`",
            "a `code\n/codeforge fix\nspan`",
            "- /codeforge fix",
            "- item\n/codeforge fix",
            "- ```\n  /codeforge fix\n  ```",
            "1. /codeforge fix",
            "# /codeforge fix",
            "/codeforge fix\n---",
            "<!-- \n/codeforge fix\n-->",
            "<pre>\n/codeforge fix\n</pre>",
            "<div>\n/codeforge fix\n</div>",
            "| a | b |\n|---|---|\n/codeforge fix | b",
            "[^1]: /codeforge fix",
            "**/codeforge fix**",
            "\\/codeforge fix",
            "[/codeforge fix](http://example.com)",
            "/code\u{200b}forge fix",
        ] {
            assert_eq!(said(text), Vec::<String>::new(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "(/codeforge fix|`|```|>|\\n|- |    |[a-z=\" ]|\\PC){0,30}") {
            for command in commands(&text, "/codeforge") {
                prop_assert!(text.to_lowercase().contains("/codeforge"));
                prop_assert!(!command.name.is_empty());
            }
        }

        #[test]
        fn what_is_quoted_line_by_line_runs_nothing(text in "(/codeforge fix|\\n|[a-z` *~-]){0,40}") {
            let quoted: String = text.lines().map(|line| format!("> {line}\n")).collect();
            prop_assert_eq!(commands(&quoted, "/codeforge"), Vec::new());
        }
    }
}
