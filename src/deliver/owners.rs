//! Who a repository says is to review a path: `CODEOWNERS`, as GitHub, GitLab and Gitea read it.
//!
//! The file is of others, but of people with the right to write: it is to be read at the tip of the branch that a
//! change goes to, never at the change's head. Lines that cannot be read are passed over, as forges do.

use crate::model::forge::ForgeKind;
use crate::text::{is_account, is_mail};
use globset::{GlobBuilder, GlobMatcher};
use regex::RegexBuilder;
use std::collections::BTreeMap;

/// The largest file that is read, in bytes (GitHub's limit is 3 MB).
pub const LARGEST: usize = 3 * 1024 * 1024;
/// The most rules of one file.
const MOST_RULES: usize = 10_000;
/// Bytes of a compiled pattern (Gitea's are regular expressions).
const PATTERN: usize = 64 * 1024;

/// Whose reading of the file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Patterns like those of `.gitignore`; the last one that matches counts.
    Github,
    /// The same within each `[Section]`; sections have owners of their own.
    Gitlab,
    /// Regular expressions for whole paths; every rule that matches counts.
    Gitea,
}

impl Dialect {
    /// The dialect of a forge; `None`: it asks nobody for a review.
    pub fn of(kind: ForgeKind) -> Option<Self> {
        match kind {
            ForgeKind::Github => Some(Self::Github),
            ForgeKind::Gitlab => Some(Self::Gitlab),
            ForgeKind::Gitea => Some(Self::Gitea),
            ForgeKind::Local => None,
        }
    }

    /// Where the file may be: the first that is there counts.
    pub fn places(self) -> [&'static str; 3] {
        match self {
            Self::Github => [".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS"],
            Self::Gitlab => ["CODEOWNERS", "docs/CODEOWNERS", ".gitlab/CODEOWNERS"],
            Self::Gitea => ["CODEOWNERS", "docs/CODEOWNERS", ".gitea/CODEOWNERS"],
        }
    }
}

/// An owner as the file names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// `@name`: an account (on GitLab it may be a group).
    Account(String),
    /// `@organisation/team`, `@group/subgroup`.
    Team(String),
    /// A mail address.
    Mail(String),
}

impl Owner {
    fn read(word: &str) -> Option<Self> {
        match word.strip_prefix('@') {
            // GitLab's `@@developers` are roles, not accounts.
            Some(name) if !is_account(name) => None,
            Some(name) if name.contains('/') => Some(Self::Team(name.to_owned())),
            Some(name) => Some(Self::Account(name.to_owned())),
            None if is_mail(word) => Some(Self::Mail(word.to_owned())),
            None => None,
        }
    }
}

enum Pattern {
    Glob(Vec<GlobMatcher>),
    Regex(regex::Regex),
}

impl Pattern {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Glob(globs) => globs.iter().any(|glob| glob.is_match(path)),
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

struct Rule {
    pattern: Pattern,
    /// GitLab: what matches is nobody's in this section. Gitea: what does not match counts.
    negative: bool,
    owners: Vec<Owner>,
}

struct Section {
    name: String,
    rules: Vec<Rule>,
}

/// The owners of paths, those of most paths first; of as many, by name.
///
/// ```
/// use codeforge::deliver::{Dialect, Owner, owners};
/// let file = "*       @acme/core\n*.js    @ann\n/docs/  docs@example.com\n";
/// assert_eq!(owners(file, Dialect::Github, &["web/a.js".into()]), [Owner::Account("ann".into())]);
/// ```
pub fn owners(file: &str, dialect: Dialect, paths: &[String]) -> Vec<Owner> {
    let sections = read(file, dialect);
    let mut count: BTreeMap<&Owner, usize> = BTreeMap::new();
    for path in paths {
        let mut of_path: Vec<&Owner> = sections.iter().flat_map(|section| of(section, dialect, path)).collect();
        of_path.sort();
        of_path.dedup();
        for owner in of_path {
            *count.entry(owner).or_default() += 1;
        }
    }
    let mut found: Vec<(&Owner, usize)> = count.into_iter().collect();
    found.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    found.into_iter().map(|(owner, _)| owner.clone()).collect()
}

fn of<'a>(section: &'a Section, dialect: Dialect, path: &str) -> Vec<&'a Owner> {
    let rules = &section.rules;
    match dialect {
        Dialect::Gitea => rules
            .iter()
            .filter(|rule| rule.pattern.matches(path) != rule.negative)
            .flat_map(|rule| &rule.owners)
            .collect(),
        Dialect::Gitlab if rules.iter().any(|rule| rule.negative && rule.pattern.matches(path)) => Vec::new(),
        Dialect::Github | Dialect::Gitlab => rules
            .iter()
            .rev()
            .find(|rule| !rule.negative && rule.pattern.matches(path))
            .map(|rule| rule.owners.iter().collect())
            .unwrap_or_default(),
    }
}

fn read(file: &str, dialect: Dialect) -> Vec<Section> {
    let mut sections = vec![Section { name: String::new(), rules: Vec::new() }];
    let (mut at, mut usual): (usize, Vec<Owner>) = (0, Vec::new());
    for line in file.lines().take(MOST_RULES) {
        let words = words(line);
        let Some((first, rest)) = words.split_first() else { continue };
        if dialect == Dialect::Gitlab
            && let Some((name, defaults)) = header(line)
        {
            usual = defaults;
            let known = sections.iter().position(|section| section.name == name);
            at = known.unwrap_or(sections.len());
            if known.is_none() {
                sections.push(Section { name, rules: Vec::new() });
            }
            continue;
        }
        let negated = first.strip_prefix('!').filter(|_| dialect != Dialect::Github);
        let Some(pattern) = pattern(negated.unwrap_or(first), dialect) else { continue };
        let named: Vec<Owner> = rest.iter().filter_map(|word| Owner::read(word)).collect();
        // On GitHub a path without an owner is nobody's; in a section of GitLab it is the section's.
        let owners = if named.is_empty() { usual.clone() } else { named };
        if let Some(section) = sections.get_mut(at) {
            section.rules.push(Rule { pattern, negative: negated.is_some(), owners });
        }
    }
    sections
}

/// The words of a line; a blank that is escaped belongs to its word, and `#` begins a comment.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if matches!(chars.peek(), Some(' ' | '#')) => word.extend(chars.next()),
            '#' if word.is_empty() => break,
            c if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// GitLab's `[Section]`, `^[Optional]`, `[Section][2] @default-owner`: its name, and its owners.
fn header(line: &str) -> Option<(String, Vec<Owner>)> {
    let inner = line.trim().trim_start_matches('^').strip_prefix('[')?;
    let (name, mut rest) = inner.split_once(']')?;
    if let Some(number) = rest.strip_prefix('[') {
        rest = number.split_once(']').filter(|(digits, _)| digits.bytes().all(|byte| byte.is_ascii_digit()))?.1;
    }
    if !(rest.is_empty() || rest.starts_with(char::is_whitespace)) {
        return None;
    }
    let owners = words(rest).iter().filter_map(|word| Owner::read(word)).collect();
    Some((name.trim().to_lowercase(), owners))
}

fn pattern(text: &str, dialect: Dialect) -> Option<Pattern> {
    if dialect == Dialect::Gitea {
        let mut regex = RegexBuilder::new(&format!("^(?:{text})$"));
        return regex.size_limit(PATTERN).build().ok().map(Pattern::Regex);
    }
    let rooted = text.starts_with('/');
    let folder = text.ends_with('/');
    let inner = text.trim_matches('/');
    if inner.is_empty() {
        return None;
    }
    // A blank was unescaped before; brackets and braces mean themselves.
    let mut glob = String::with_capacity(inner.len() + 8);
    for c in inner.chars() {
        if "[]{}\\".contains(c) {
            glob.push('\\');
        }
        glob.push(c);
    }
    // GitHub reads a pattern with a slash in it from the root, GitLab anywhere.
    let anywhere = !rooted && (dialect == Dialect::Gitlab || !inner.contains('/'));
    let glob = if anywhere && !glob.starts_with("**/") { format!("**/{glob}") } else { glob };
    let wild = inner.rsplit('/').next().is_some_and(|last| last.contains('*'));
    let mut all = Vec::new();
    if !folder {
        all.push(glob.clone());
    }
    // A name may be a folder's; `docs/*` is only what lies directly in it.
    if folder || (dialect == Dialect::Github && !wild) {
        all.push(format!("{glob}/**"));
    }
    let compile = |glob: String| GlobBuilder::new(&glob).literal_separator(true).backslash_escape(true).build();
    let globs: Vec<GlobMatcher> =
        all.into_iter().filter_map(|glob| compile(glob).ok()).map(|glob| glob.compile_matcher()).collect();
    (!globs.is_empty()).then_some(Pattern::Glob(globs))
}

/// Whom to ask of the owners: at most `most`, and none of `not` (who acts, and we ourselves). What cannot be asked is
/// told beside them, in sentences.
pub fn reviewers(owners: &[Owner], dialect: Dialect, not: &[&str], most: usize) -> (Vec<String>, Vec<String>) {
    let (mut asked, mut told) = (Vec::new(), Vec::new());
    let (mut mails, mut groups, mut more) = (0, 0, 0);
    for owner in owners {
        match owner {
            Owner::Account(name) if not.iter().any(|not| not.eq_ignore_ascii_case(name)) => {}
            Owner::Mail(_) => mails += 1,
            // Only people review there.
            Owner::Team(_) if dialect == Dialect::Gitlab => groups += 1,
            Owner::Account(_) | Owner::Team(_) if asked.len() >= most => more += 1,
            Owner::Account(name) | Owner::Team(name) => asked.push(name.clone()),
        }
    }
    let mut say = |count: usize, what: &str| {
        if count > 0 {
            told.push(format!("{count} of the code owners {what}"));
        }
    };
    say(mails, "are named by a mail address only, and were not asked for a review");
    say(groups, "are groups, which cannot review here, and were not asked");
    say(more, &format!("were not asked for a review: {most} are asked at most"));
    (asked, told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(file: &str, dialect: Dialect, path: &str) -> String {
        let found = owners(file, dialect, &[path.to_owned()]);
        let name = |owner: &Owner| match owner {
            Owner::Account(name) => format!("@{name}"),
            Owner::Team(name) => format!("@{name}"),
            Owner::Mail(mail) => mail.clone(),
        };
        found.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn github_takes_the_last_rule_that_matches() {
        // The examples of GitHub's own page.
        let file = "# comment\n*       @global-owner1 @global-owner2\n*.js    @js-owner #inline\n*.go docs@example.com\n\
                    *.txt @octo-org/octocats\n/build/logs/ @doctocat\ndocs/* docs@example.com\napps/ @octocat\n\
                    /docs/ @doctocat\n/scripts/ @doctocat @octocat\n**/logs @logger\n/apps/ @octocat\n/apps/github\n\
                    with\\ blank.md @ann\n[bad @b\n/x[1].c @eve\n";
        for (path, owners) in [
            ("README.md", "@global-owner1 @global-owner2"),
            ("src/deep/a.js", "@js-owner"),
            ("a.go", "docs@example.com"),
            ("notes/a.txt", "@octo-org/octocats"),
            ("build/logs/a/b.c", "@logger"),
            ("docs/getting-started.md", "@doctocat"),
            ("scripts/run", "@doctocat @octocat"),
            ("deeply/nested/logs/file", "@logger"),
            ("apps/web/a.rs", "@octocat"),
            ("apps/github/a.rs", ""),
            ("with blank.md", "@ann"),
            ("x[1].c", "@eve"),
            ("x1.c", "@global-owner1 @global-owner2"),
        ] {
            assert_eq!(who(file, Dialect::Github, path), owners, "{path}");
        }
        assert_eq!(who("docs/* @a", Dialect::Github, "docs/build/b.md"), "", "only directly in it");
        assert_eq!(who("a/b @a", Dialect::Github, "x/a/b"), "", "a slash in it: from the root");
        assert_eq!(who("!a @a\n* @b", Dialect::Github, "a"), "@b");
    }

    #[test]
    fn gitlab_has_sections_with_owners_of_their_own() {
        let file = "* @all\n[Docs][2] @docs-team @@developer\ndocs/\n*.md @writer\n\n^[Security]\n/src/auth/ @sec/team\n\
                    !src/auth/README.md\n[docs]\nREADME.md @late\n";
        assert_eq!(who(file, Dialect::Gitlab, "src/a.c"), "@all");
        assert_eq!(who(file, Dialect::Gitlab, "x/docs/a.c"), "@all @docs-team", "matches anywhere");
        assert_eq!(who(file, Dialect::Gitlab, "docs/a.md"), "@all @writer");
        assert_eq!(who(file, Dialect::Gitlab, "src/auth/x.c"), "@all @sec/team");
        assert_eq!(who(file, Dialect::Gitlab, "src/auth/README.md"), "@all @late", "left out of its section only");
    }

    #[test]
    fn gitea_has_regular_expressions_and_all_of_them_count() {
        let file = r".*\.go @ann @bob
!docs/.* @eve
docs/.* @org/writers
(((((((((((x{1000}){1000} @never
";
        assert_eq!(who(file, Dialect::Gitea, "a/b.go"), "@ann @bob @eve");
        assert_eq!(who(file, Dialect::Gitea, "docs/a.go"), "@ann @bob @org/writers");
    }

    #[test]
    fn who_acts_is_not_asked_and_not_everybody_is() {
        let file = "* @ann @bob @acme/core m@example.com\n/a @bob\n";
        let found = owners(file, Dialect::Github, &["a".into(), "b".into(), "c".into()]);
        assert_eq!(found.first(), Some(&Owner::Account("bob".into())), "who owns most comes first");
        let (asked, told) = reviewers(&found, Dialect::Github, &["BOB"], 1);
        assert_eq!(asked, ["ann"]);
        assert_eq!(told.len(), 2, "{told:?}");
        let (asked, told) = reviewers(&found, Dialect::Gitlab, &[], 9);
        assert_eq!((asked.len(), told.len()), (2, 2), "{asked:?} {told:?}");
        for bad in ["@", "@-a", "@a/", "@@dev", "a@", "@a b", "no", "a@b@c"] {
            assert!(Owner::read(bad).is_none(), "{bad}");
        }
    }
}
