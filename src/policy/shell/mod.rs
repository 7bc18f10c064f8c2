//! What a shell text would execute.
//!
//! The text is parsed strictly, in the part of the language that `sh`, `dash`, `bash` and BusyBox read alike.
//! Whatever they read differently (`((`, `[[`, `$'\x'`, `!(…)`, a here-document cut off by its substitution), and
//! whatever hides what it executes (`$cmd`, `eval "$x"`, `. file`, `alias`), is refused with a reason instead of
//! guessed at. A judge that guesses wrong has waved a command through that nobody looked at.
//!
//! What is *not* solved here: programs that run code of their own (`python -c`, `perl -e`, `awk`, `make`, a test
//! runner). They are judged by their name and arguments. The sandbox is the wall.

mod builtins;
mod names;
mod options;
mod parse;
mod programs;
mod word;

pub(super) use names::{basename, opaque, standard};
use std::collections::BTreeSet;
use std::fmt;

/// Longest text that is looked at, in bytes.
pub const MAX_TEXT: usize = 64 * 1024;
/// Deepest nesting (groups, substitutions, `sh -c`, wrappers).
const MAX_DEPTH: usize = 32;
/// Most commands in one text.
const MAX_COMMANDS: usize = 2_000;

/// One word of a command as far as it can be told before it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arg {
    /// Exactly this text.
    Literal(String),
    /// Something that only the shell will know.
    Unknown {
        /// What it is known to begin with.
        prefix: String,
        /// The pattern, where it is a file name pattern; it then stands for any number of names.
        glob: Option<String>,
        /// It may become any number of words, none included.
        many: bool,
    },
}

impl Arg {
    /// The text, where it is known.
    pub fn literal(&self) -> Option<&str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Unknown { .. } => None,
        }
    }

    /// What it certainly begins with.
    pub fn prefix(&self) -> &str {
        match self {
            Self::Literal(text) => text,
            Self::Unknown { prefix, .. } => prefix,
        }
    }

    fn lit(text: impl Into<String>) -> Self {
        Self::Literal(text.into())
    }

    fn anything(many: bool) -> Self {
        Self::Unknown { prefix: String::new(), glob: None, many }
    }
}

impl fmt::Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !is_special(b)) => {
                f.write_str(text)
            }
            Self::Literal(text) => write!(f, "'{}'", text.replace('\'', "'\\''")),
            Self::Unknown { glob: Some(glob), .. } => f.write_str(glob),
            Self::Unknown { prefix, .. } => write!(f, "{prefix}…"),
        }
    }
}

fn is_special(b: u8) -> bool {
    matches!(
        b,
        b'\'' | b'"' | b'\\' | b'$' | b'`' | b'*' | b'?' | b'[' | b'&' | b'|' | b';' | b'<' | b'>' | b'(' | b')' | b'#'
    )
}

/// A command that would, or could, execute; or, with an empty `argv`, redirections that would be made without one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Simple {
    /// Program and arguments. The first is always [`Arg::Literal`].
    pub argv: Vec<Arg>,
    /// Files that its redirections (or options that are known to write files) create or change.
    pub writes: Vec<Arg>,
    /// Files that its redirections read.
    pub reads: Vec<Arg>,
    /// It does nothing of its own but run the commands that are listed beside it (`timeout 5 …`, `sh -c …`), or it
    /// belongs to the language (`export`, `exit`): refused where a rule refuses it, else it needs no rule.
    pub transparent: bool,
}

impl Simple {
    /// The program as it was named.
    pub fn program(&self) -> Option<&str> {
        self.argv.first().and_then(Arg::literal)
    }
}

impl fmt::Display for Simple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let redirects = self.reads.iter().map(|w| ("< ", w)).chain(self.writes.iter().map(|w| ("> ", w)));
        for (sign, word) in self.argv.iter().map(|w| ("", w)).chain(redirects) {
            if !std::mem::take(&mut first) {
                f.write_str(" ")?;
            }
            write!(f, "{sign}{word}")?;
        }
        Ok(())
    }
}

/// Why it cannot be told what a text would execute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unparsable {
    /// In words for the model.
    pub reason: String,
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, Unparsable> {
    Err(Unparsable { reason: reason.into() })
}

/// A text, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    /// Every command that would or could execute, in the order of the text, wrappers before what they run.
    pub commands: Vec<Simple>,
    /// Folders that it changes to (`cd`, `git -C`), in order; `None` where that cannot be told.
    pub dirs: Vec<Option<String>>,
}

/// Takes a text apart.
///
/// # Errors
/// [`Unparsable`] where it cannot be told, for every shell alike, what the text would execute. Never panics, and
/// takes time in proportion to the text's length.
pub fn script(text: &str) -> Result<Script, Unparsable> {
    let mut found = Found::default();
    found.text(text, 0, true)?;
    if let Some(name) = found.arithmetic.iter().find(|n| !found.numeric.contains(*n) || found.tainted.contains(*n)) {
        return refuse(format!(
            "the arithmetic uses `{name}`, which is not known to be a number (some shells run commands hidden in such values)"
        ));
    }
    Ok(Script { commands: found.commands, dirs: found.dirs })
}

/// Every command that a text would or could execute.
///
/// # Errors
/// As [`script`].
pub fn commands(text: &str) -> Result<Vec<Simple>, Unparsable> {
    script(text).map(|script| script.commands)
}

/// What has been found so far, over all nested texts.
#[derive(Default)]
struct Found {
    commands: Vec<Simple>,
    dirs: Vec<Option<String>>,
    /// Variables that were given a number.
    numeric: BTreeSet<String>,
    /// Variables that were given something else.
    tainted: BTreeSet<String>,
    /// Variables that arithmetic evaluates.
    arithmetic: BTreeSet<String>,
    /// Functions that are certainly defined at this point of this shell.
    functions: BTreeSet<String>,
}

impl Found {
    /// Takes a text apart that a shell of its own (or `eval`) would run.
    fn text(&mut self, text: &str, depth: usize, top: bool) -> Result<(), Unparsable> {
        if text.len() > MAX_TEXT {
            return refuse(format!("the text is longer than {} KiB", MAX_TEXT / 1024));
        }
        if text.bytes().any(|b| b < b' ' && b != b'\n' && b != b'\t' || b == 0x7f) {
            return refuse("the text holds a control character");
        }
        let functions = std::mem::take(&mut self.functions);
        let done = parse::Parser::new(text.as_bytes(), depth, top, self).program();
        self.functions = functions;
        done
    }

    fn push(&mut self, simple: Simple) -> Result<(), Unparsable> {
        if self.commands.len() >= MAX_COMMANDS {
            return refuse(format!("the text holds more than {MAX_COMMANDS} commands"));
        }
        self.commands.push(simple);
        Ok(())
    }

    /// A variable is given a value.
    fn assign(&mut self, name: &str, value: Option<&str>) -> Result<(), Unparsable> {
        if names::dangerous(name) {
            return refuse(format!("setting `{name}` changes what other commands execute"));
        }
        if value.is_some_and(|v| !v.is_empty() && v.len() < 19 && v.bytes().all(|b| b.is_ascii_digit())) {
            self.numeric.insert(name.to_owned());
        } else {
            self.tainted.insert(name.to_owned());
        }
        Ok(())
    }
}
