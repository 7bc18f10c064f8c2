//! Globs: over paths, and word by word over commands.

use super::shell::{Arg, Simple, basename, opaque, standard};
use globset::{GlobBuilder, GlobMatcher};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Which way a doubt falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// For rules that allow: only what certainly matches.
    Certain,
    /// For rules that refuse: whatever might match.
    Possible,
}

/// `None`: it is no glob.
type Compiled = HashMap<(String, bool), Option<Rc<GlobMatcher>>>;

thread_local! {
    /// Compiled globs by text and case folding: compiling one takes a hundred times as long as matching.
    static COMPILED: RefCell<Compiled> = RefCell::default();
}

/// Most globs kept compiled; past that all are forgotten (file name patterns come from the model).
const MAX_COMPILED: usize = 512;

fn path_glob(pattern: &str, fold: bool) -> Option<Rc<GlobMatcher>> {
    COMPILED.with_borrow_mut(|compiled| {
        let key = (pattern.to_owned(), fold);
        if let Some(known) = compiled.get(&key) {
            return known.clone();
        }
        let glob = GlobBuilder::new(pattern).literal_separator(true).case_insensitive(fold).build();
        let matcher = glob.ok().map(|glob| Rc::new(glob.compile_matcher()));
        if compiled.len() >= MAX_COMPILED {
            compiled.clear();
        }
        compiled.insert(key, matcher.clone());
        matcher
    })
}

/// True where `path` (relative, normalised) matches a glob, or is the folder that `FOLDER/**` is about. A glob that
/// is no glob matches whatever is refused and nothing that is allowed.
pub(super) fn path_matches(pattern: &str, path: &str, fold: bool, doubt: Doubt) -> bool {
    let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
    let one = |pattern: &str| match path_glob(pattern, fold) {
        Some(glob) => glob.is_match(path),
        None => doubt == Doubt::Possible,
    };
    one(pattern) || (doubt == Doubt::Possible && pattern.strip_suffix("/**").is_some_and(one))
}

/// True where a file name pattern of the shell would name the most plain file that a glob is about: `.e*` for
/// `**/.env`. (What else a pattern may name is not known before it runs.)
pub(super) fn pattern_names(shell_pattern: &str, glob: &str) -> bool {
    let plain = glob.replace("**/", "").replace("/**", "/x").replace('*', "x");
    let hidden_apart = |pattern: &str, name: &str| {
        pattern.split('/').zip(name.split('/')).all(|(p, n)| !n.starts_with('.') || p.starts_with('.'))
    };
    path_glob(shell_pattern, true)
        .is_some_and(|pattern| pattern.is_match(&plain) && hidden_apart(shell_pattern, &plain))
}

/// True where a tool's name matches a glob (`*` only).
pub(super) fn tool_matches(pattern: &str, tool: &str) -> bool {
    wildcard(pattern, tool)
}

/// True where a command pattern matches a command.
///
/// The pattern is split at blanks. A word of it is a glob (`*`: any text, `?`: one character) over one word of the
/// command; a word that is only `*` stands for any number of words, none included; a `*` at the end of the last word
/// also takes all words that follow. So `cargo test *` is `cargo test` with any arguments, `cargo test*` also
/// `cargo testify`, and neither is `cargo-test` or `./cargo test`.
pub(super) fn command_matches(pattern: &str, command: &Simple, doubt: Doubt) -> bool {
    let mut words: Vec<&str> = pattern.split_whitespace().collect();
    if words.last().is_some_and(|last| last.len() > 1 && last.ends_with('*')) {
        words.push("*");
    }
    let Some(program) = command.program() else { return false };
    let mut argv: Vec<&Arg> = command.argv.iter().collect();
    if words_match(&words, &argv, doubt) {
        return true;
    }
    if doubt == Doubt::Possible && opaque(program) {
        // What a program runs that is not looked through follows somewhere in its arguments.
        return (1..argv.len()).any(|at| argv.get(at..).is_some_and(|rest| words_match(&words, rest, doubt)));
    }
    if !program.contains('/') || (doubt == Doubt::Certain && !standard(program)) {
        return false;
    }
    let name = Arg::Literal(basename(program).to_owned());
    if let Some(first) = argv.first_mut() {
        *first = &name;
    }
    words_match(&words, &argv, doubt)
}

fn words_match(pattern: &[&str], argv: &[&Arg], doubt: Doubt) -> bool {
    // Row by row from the end: `next[j]` is "the pattern after this word matches argv[j..]".
    let uncertain = |arg: &&Arg| doubt == Doubt::Possible && matches!(arg, Arg::Unknown { many: true, .. });
    let mut next: Vec<bool> = vec![false; argv.len() + 1];
    if let Some(last) = next.last_mut() {
        *last = true;
    }
    for at in (0..argv.len()).rev() {
        let vanishes = argv.get(at).is_some_and(uncertain) && next.get(at + 1) == Some(&true);
        if let Some(cell) = next.get_mut(at) {
            *cell = vanishes;
        }
    }
    for word in pattern.iter().rev() {
        let mut row = vec![false; argv.len() + 1];
        for at in (0..=argv.len()).rev() {
            let after = |row: &[bool], at: usize| row.get(at).copied().unwrap_or(false);
            let value = if *word == "*" {
                after(&next, at) || after(&row, at + 1)
            } else {
                match argv.get(at) {
                    None => false,
                    Some(Arg::Literal(text)) => wildcard(word, text) && after(&next, at + 1),
                    Some(Arg::Unknown { .. }) if doubt == Doubt::Certain => false,
                    Some(Arg::Unknown { prefix, glob, many }) => {
                        let fits = (*many && glob.is_none()) || compatible(word, prefix);
                        (fits && after(&next, at + 1)) || (*many && (after(&row, at + 1) || (fits && after(&next, at))))
                    }
                }
            };
            if let Some(cell) = row.get_mut(at) {
                *cell = value;
            }
        }
        next = row;
    }
    next.first().copied().unwrap_or(false)
}

/// Whether a glob can match some text that begins with `prefix`.
fn compatible(glob: &str, prefix: &str) -> bool {
    let head = glob.split(['*', '?']).next().unwrap_or_default();
    if head.len() == glob.len() {
        glob.starts_with(prefix)
    } else {
        head.starts_with(prefix) || prefix.starts_with(head)
    }
}

/// `*` and `?` over one word.
fn wildcard(pattern: &str, text: &str) -> bool {
    let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut in_text) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while in_text < t.len() {
        match p.get(at) {
            Some('*') => {
                star = Some((at, in_text));
                at += 1;
            }
            Some(c) if *c == '?' || t.get(in_text) == Some(c) => {
                at += 1;
                in_text += 1;
            }
            _ => match star {
                Some((back, from)) => {
                    at = back + 1;
                    in_text = from + 1;
                    star = Some((back, from + 1));
                }
                None => return false,
            },
        }
    }
    p.iter().skip(at).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Simple {
        super::super::shell::commands(text).unwrap().remove(0)
    }

    #[test]
    fn a_command_pattern_is_held_word_by_word() {
        for (pattern, text, expected) in [
            ("cargo test *", "cargo test", true),
            ("cargo test *", "cargo test --lib a", true),
            ("cargo test *", "cargo testify-evil", false),
            ("cargo test*", "cargo test -- x", true),
            ("cargo test*", "cargo-test", false),
            ("cargo test*", "cargo -Zx test", false),
            ("cargo test*", "./cargo test", false),
            ("cargo test*", "/usr/bin/cargo test", true),
            ("cargo test*", "/tmp/cargo test", false),
            ("cargo test", "cargo test -v", false),
            ("find * -delete *", "find . -name x -delete", true),
            ("git push origin codeforge/*", "git push origin codeforge/a", true),
            ("git push origin codeforge/*", "git push origin main", false),
            ("*", "anything at all", true),
            ("cargo test *", "cargo test $x", true),
            ("cargo test --lib", "cargo test $x", false),
            ("cargo test", "cargo $x", false),
        ] {
            assert_eq!(command_matches(pattern, &command(text), Doubt::Certain), expected, "{pattern} / {text}");
        }
    }

    #[test]
    fn a_refusal_takes_what_might_match() {
        for (pattern, text, expected) in [
            ("git push *", "git diff $x", false),
            ("rm -rf *", "rm $x y", true),
            ("rm -rf *", "rm src/*.o", false),
            ("curl *", "/opt/curl x", true),
            ("curl *", "strace -f curl x", true),
            ("npm publish", "npm $a $b", true),
            ("npm publish", "npm \"$a\" x", false),
            ("npm publish", "npm publish $more", true),
        ] {
            assert_eq!(command_matches(pattern, &command(text), Doubt::Possible), expected, "{pattern} / {text}");
        }
    }
}
