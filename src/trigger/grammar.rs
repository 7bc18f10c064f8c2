//! The grammar of commands in comments: `/codeforge NAME key=value --key=value TEXT`, short words of the configuration
//! (`/review TEXT`), and free text after a mention (`@codeforge TEXT`).
//!
//! Only lines of plain paragraphs count. Quotes, lists, headings, tables, code and HTML hold no commands.

use crate::model::event::CommandText;
use crate::workflow::schema::{Library, RESERVED};
use pulldown_cmark::{Event as Piece, Options, Parser, Tag, TagEnd};
use std::collections::{BTreeMap, BTreeSet};

/// What free text begins with where nobody says.
const MENTION: &str = "@codeforge";

/// As much of a word is kept that is no command's name, in characters.
const LONGEST: usize = 60;

/// What commands look like in one repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grammar {
    phrase: String,
    /// What free text begins with, and the command that it starts.
    mention: Option<(String, String)>,
    /// Short words without their slash, and the commands that they stand for.
    aliases: BTreeMap<String, String>,
    /// The names of all commands.
    names: BTreeSet<String>,
}

/// A line that begins a command.
enum Line {
    Command(CommandText),
    /// Free text, from this byte of the line on.
    Free(usize),
}

impl Grammar {
    /// What commands look like under this configuration. `phrase`: what they begin with (`/codeforge`).
    pub fn of(library: &Library, phrase: &str) -> Self {
        let comments = library.config.comments.clone().unwrap_or_default();
        let mention = comments.mention.unwrap_or_else(|| MENTION.to_owned());
        let ours =
            library.workflows.values().filter_map(|it| Some(it.doc.on.as_ref()?.command.as_ref()?.name.0.clone()));
        Self {
            phrase: phrase.to_owned(),
            mention: comments.free_text.map(|command| (mention, command.0)),
            aliases: comments.aliases.into_iter().map(|(short, command)| (short.0, command.0)).collect(),
            names: ours.chain(RESERVED.map(str::to_owned)).collect(),
        }
    }

    /// The names of all commands, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The short words that stand for a command, without their slash.
    pub fn short(&self, command: &str) -> Vec<&str> {
        self.aliases.iter().filter(|(_, leads)| *leads == command).map(|(short, _)| short.as_str()).collect()
    }

    /// What free text begins with, where it starts something, and what it starts.
    pub fn free_text(&self) -> Option<(&str, &str)> {
        self.mention.as_ref().map(|(mention, command)| (mention.as_str(), command.as_str()))
    }

    /// The commands in a Markdown text, in their order.
    pub fn commands(&self, text: &str) -> Vec<CommandText> {
        // Most comments have none: they are not parsed.
        if !self.may_hold_some(text) {
            return Vec::new();
        }
        let mut depth = 0usize;
        let mut paragraph = false;
        let mut line_start = false;
        let mut found = Vec::new();
        // Where free text began. It goes on to the end of its paragraph, or to the next command.
        let mut free: Option<usize> = None;
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
                        found.extend(free.take().and_then(|from| self.said(text.get(from..range.end)?)));
                    }
                    line_start = false;
                }
                Piece::SoftBreak | Piece::HardBreak => line_start = paragraph && depth == 1,
                Piece::Text(_) if line_start => {
                    let line = text.get(range.start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
                    // A backslash before it makes it words.
                    let before =
                        text.get(..range.start).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
                    if before.trim().is_empty()
                        && let Some(begins) = self.line(line)
                    {
                        found.extend(free.take().and_then(|from| self.said(text.get(from..range.start)?)));
                        match begins {
                            Line::Command(command) => found.push(command),
                            Line::Free(at) => free = Some(range.start + at),
                        }
                    }
                    line_start = false;
                }
                _ => line_start = false,
            }
        }
        found
    }

    fn may_hold_some(&self, text: &str) -> bool {
        let has = |word: &str| contains_ignoring_case(text, word);
        !self.phrase.is_empty() && has(&self.phrase)
            || self.mention.as_ref().is_some_and(|(mention, _)| has(mention))
            || self.aliases.keys().any(|short| has(&format!("/{short}")))
    }

    /// What a line begins.
    fn line(&self, line: &str) -> Option<Line> {
        let ends = |rest: &&str| rest.is_empty() || rest.starts_with(char::is_whitespace);
        if let Some(rest) = after(line, &self.phrase).filter(ends) {
            let rest = rest.trim();
            let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let name = name.to_lowercase();
            // Whoever calls us is answered, also where that is no command's name.
            let unnamed = || CommandText { name: name.chars().take(LONGEST).collect(), ..CommandText::default() };
            return Some(Line::Command(command(&name, rest).unwrap_or_else(unnamed)));
        }
        for (short, name) in &self.aliases {
            let rest = after(line, &format!("/{short}"));
            if let Some(rest) = rest.filter(ends) {
                return command(name, rest).map(Line::Command);
            }
        }
        let (mention, _) = self.mention.as_ref()?;
        let rest = after(line, mention)?;
        let ends = |c: char| c.is_whitespace() || ",:".contains(c);
        rest.starts_with(ends).then(|| Line::Free(line.len() - rest.trim_start_matches(ends).len()))
    }

    /// Free text as a command. One word that is a command's name is that command.
    fn said(&self, text: &str) -> Option<CommandText> {
        let (_, command) = self.mention.as_ref()?;
        let text = text.trim();
        let word = text.to_lowercase();
        if self.names.contains(&word) {
            return Some(CommandText { name: word, ..CommandText::default() });
        }
        let name = command.clone();
        (!text.is_empty()).then(|| CommandText { name, text: text.to_owned(), values: BTreeMap::new() })
    }
}

fn contains_ignoring_case(text: &str, phrase: &str) -> bool {
    let (text, phrase) = (text.as_bytes(), phrase.as_bytes());
    text.windows(phrase.len().max(1)).any(|window| window.eq_ignore_ascii_case(phrase))
}

/// What follows a word at the beginning of a line, in any letter case.
fn after<'t>(line: &'t str, word: &str) -> Option<&'t str> {
    let begins = !word.is_empty() && line.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    line.get(word.len()..).filter(|_| begins)
}

/// A command of this name, and the rest of its line.
fn command(name: &str, rest: &str) -> Option<CommandText> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        return None;
    }
    let (values, rest) = pairs(rest);
    Some(CommandText { name: name.to_owned(), text: rest.trim().to_owned(), values })
}

/// The pairs at the start of a text, and what follows them: an `a=b` within a sentence is a part of the sentence.
pub(super) fn pairs(mut rest: &str) -> (BTreeMap<String, String>, &str) {
    let mut values = BTreeMap::new();
    while let Some((key, value, after)) = pair(rest.trim_start()) {
        values.insert(key, value);
        rest = after;
    }
    (values, rest)
}

/// `key=value`, `key="a value"` or `--key=value` at the start of a text, and what follows.
fn pair(text: &str) -> Option<(String, String, &str)> {
    let (key, rest) = text.split_once('=')?;
    let (key, dashes) = match key.strip_prefix("--") {
        Some(key) => (key, true),
        None => (key, false),
    };
    let first = key.starts_with(|c: char| c.is_ascii_lowercase());
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || dashes && c == '-';
    if !first || !key.chars().all(fits) {
        return None;
    }
    let key = key.replace('-', "_");
    if let Some(quoted) = rest.strip_prefix('"')
        && let Some((value, after)) = quoted.split_once('"')
        && (after.is_empty() || after.starts_with(char::is_whitespace))
    {
        return Some((key, value.to_owned(), after));
    }
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (value, after) = (rest.get(..end)?, rest.get(end..)?);
    Some((key, value.to_owned(), after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grammar() -> Grammar {
        let names = ["review", "fix", "ask", "help", "status"].map(str::to_owned);
        let aliases = [("review", "review"), ("s", "status")].map(|(short, name)| (short.to_owned(), name.to_owned()));
        Grammar {
            phrase: "/codeforge".into(),
            mention: Some(("@codeforge".into(), "ask".into())),
            aliases: aliases.into(),
            names: names.into(),
        }
    }

    fn said(text: &str) -> Vec<String> {
        let commands = grammar().commands(text).into_iter();
        commands.map(|it| format!("{}|{}|{:?}", it.name, it.text, it.values)).collect()
    }

    #[test]
    fn a_line_of_a_paragraph_that_begins_with_the_phrase_is_a_command() {
        assert_eq!(said("/codeforge fix the parser"), ["fix|the parser|{}"]);
        assert_eq!(said("Hello!\n/CodeForge Review\nthanks"), ["review||{}"]);
        assert_eq!(said("  /codeforge fix\r\n\r\n/codeforge review"), ["fix||{}", "review||{}"]);
        assert_eq!(
            said("/codeforge fix depth=2 --focus=\"the a parser\" --dry-run=yes set x=1 there"),
            [r#"fix|set x=1 there|{"depth": "2", "dry_run": "yes", "focus": "the a parser"}"#]
        );
        assert_eq!(said("/codeforge fix *this* `code` <b>"), ["fix|*this* `code` <b>|{}"]);
        assert_eq!(said("/codeforge fix http://a/?b=c"), ["fix|http://a/?b=c|{}"]);
        assert_eq!(said("/codeforge fix --no-such thing=1"), ["fix|--no-such thing=1|{}"]);
    }

    #[test]
    fn whoever_calls_us_without_a_commands_name_is_heard() {
        assert_eq!(said("/codeforge"), ["||{}"]);
        assert_eq!(said("/codeforge  \nthanks"), ["||{}"]);
        assert_eq!(said("/codeforge Help!"), ["help!||{}"]);
        assert_eq!(said("/codeforge Révision de tout"), ["révision||{}"]);
        assert_eq!(said("/codeforge $(rm) x"), ["$(rm)||{}"]);
        assert_eq!(said(&format!("/codeforge {}", "é".repeat(100))), [format!("{}||{{}}", "é".repeat(60))]);
    }

    #[test]
    fn short_words_stand_for_commands() {
        assert_eq!(said("/review focus=x all of it"), [r#"review|all of it|{"focus": "x"}"#]);
        assert_eq!(said("/REVIEW"), ["review||{}"]);
        assert_eq!(said("/s"), ["status||{}"]);
        for text in ["/reviewer", "/review/x", "/fix it", "> /review", "a /review", "`/review`", "\\/review", "- /s"] {
            assert_eq!(said(text), Vec::<String>::new(), "{text:?}");
        }
    }

    #[test]
    fn after_a_mention_a_paragraph_is_free_text() {
        assert_eq!(said("@codeforge why is this slow?"), ["ask|why is this slow?|{}"]);
        assert_eq!(said("@CodeForge, why is this\n*slow* here?\n\nThanks"), ["ask|why is this\n*slow* here?|{}"]);
        assert_eq!(said("@codeforge: help"), ["help||{}"]);
        assert_eq!(said("@codeforge one\n/codeforge fix x\n@codeforge two"), ["ask|one|{}", "fix|x|{}", "ask|two|{}"]);
        for text in [
            "@codeforge",
            "@codeforge-bot hi",
            "@codeforger hi",
            "ask @codeforge now",
            "> @codeforge hi",
            "`@codeforge hi`",
        ] {
            assert_eq!(said(text), Vec::<String>::new(), "{text:?}");
        }
        let silent = Grammar { mention: None, ..grammar() };
        assert_eq!(silent.commands("@codeforge help"), Vec::new(), "nothing says what free text starts");
    }

    #[test]
    fn quotes_code_and_other_places_hold_none() {
        for text in [
            "please /codeforge fix",
            "/codeforgery fix",
            "/codeforge, fix",
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
        fn no_text_breaks_it(text in "(/codeforge fix|@codeforge |/review|`|```|>|\\n|- |    |[a-z=\" ]|\\PC){0,30}") {
            for command in grammar().commands(&text) {
                let text = text.to_lowercase();
                prop_assert!(text.contains("codeforge") || text.contains("/review") || text.contains("/s"));
                prop_assert!(!command.name.contains(char::is_whitespace));
            }
        }

        #[test]
        fn what_is_quoted_line_by_line_runs_nothing(text in "(/codeforge fix|@codeforge x|/review|\\n|[a-z` *~-]){0,40}") {
            let quoted: String = text.lines().map(|line| format!("> {line}\n")).collect();
            prop_assert_eq!(grammar().commands(&quoted), Vec::new());
        }
    }
}
