//! Judging the `shell` tool: each command by its own first matching rule, each file that is written as `write_file`.

use super::advice;
use super::calls::{Finding, Source, by_rules, from_rule, guarded, strictness};
use super::matching::{Doubt, command_matches, path_matches, pattern_names, tool_matches};
use super::paths::{Place, place};
use super::shell::{self, Arg, Simple, basename};
use super::{JudgedCommand, Scope};
use crate::model::policy::{Decision, Policy, Rule};
use crate::model::tool::ToolCall;
use serde_json::Value;

/// Programs that only read the files they are given, unless told otherwise by an option.
const READERS: [&str; 38] = [
    "cat",
    "ls",
    "grep",
    "egrep",
    "fgrep",
    "rg",
    "head",
    "tail",
    "wc",
    "diff",
    "cmp",
    "find",
    "test",
    "[",
    "stat",
    "file",
    "less",
    "more",
    "sed",
    "sort",
    "cut",
    "jq",
    "tree",
    "du",
    "basename",
    "dirname",
    "realpath",
    "readlink",
    "md5sum",
    "sha256sum",
    "cd",
    "echo",
    "printf",
    "od",
    "hexdump",
    "nl",
    "actionlint",
    "yamllint",
];
const GIT_READERS: [&str; 11] =
    ["diff", "log", "show", "status", "blame", "grep", "ls-files", "ls-tree", "rev-parse", "cat-file", "describe"];
/// Programs whose arguments are text, never files.
const TALKERS: [&str; 5] = ["echo", "printf", ":", "true", "false"];
/// Most folders that a text may change to before its paths count as unknown.
const MAX_DIRS: usize = 64;

/// The folders that a text may be in, relative to the workspace's root.
struct Dirs {
    known: Vec<String>,
    /// It may be somewhere else too.
    elsewhere: bool,
}

impl Dirs {
    fn new(start: &str, changes: &[Option<String>]) -> Self {
        let mut dirs = Self { known: vec![start.to_owned()], elsewhere: false };
        for change in changes {
            let Some(change) = change else {
                dirs.elsewhere = true;
                continue;
            };
            let joined: Vec<String> = if change.starts_with('/') {
                vec![change.clone()]
            } else {
                dirs.known
                    .iter()
                    .map(|dir| if dir.is_empty() { change.clone() } else { format!("{dir}/{change}") })
                    .collect()
            };
            for dir in joined {
                if dirs.known.len() >= MAX_DIRS {
                    dirs.elsewhere = true;
                    break;
                }
                if !dirs.known.contains(&dir) {
                    dirs.known.push(dir);
                }
            }
        }
        dirs
    }
}

pub(super) fn decide(policy: &Policy, call: &ToolCall, scope: &Scope<'_>) -> (Finding, Vec<JudgedCommand>) {
    let Some(text) = call.args.get("command").and_then(Value::as_str) else {
        return (Finding::fixed("it names no command", "", "Give the command as text."), Vec::new());
    };
    let start =
        ["cwd", "workdir"].iter().find_map(|key| call.args.get(*key).and_then(Value::as_str)).unwrap_or_default();
    let script = match shell::script(text) {
        Ok(script) => script,
        Err(unparsable) => {
            return (Finding::fixed(unparsable.reason, advice::shortened(text), advice::PLAIN_SHELL), Vec::new());
        }
    };
    let dirs = Dirs::new(start, &script.dirs);
    let mut commands = script.commands;
    if commands.iter().all(|c| c.transparent || c.argv.is_empty()) {
        // Nothing that a rule need be about: then the text as a whole needs one.
        for command in &mut commands {
            command.transparent = false;
        }
        if commands.iter().all(|c| c.argv.is_empty()) {
            commands.push(Simple { argv: vec![Arg::Literal(":".into())], ..Simple::default() });
        }
    }
    let mut strictest: Option<Finding> = None;
    let mut judged = Vec::new();
    for command in &commands {
        let finding = one(policy, scope, &dirs, command);
        judged.push(JudgedCommand {
            command: command.to_string(),
            decision: finding.decision,
            by: finding.by_ref(policy),
            reason: finding.reason.clone(),
        });
        if strictest.as_ref().is_none_or(|known| strictness(finding.decision) > strictness(known.decision)) {
            strictest = Some(finding);
        }
    }
    let fallback = || Finding::fixed("it holds no command", "", advice::PLAIN_SHELL);
    (strictest.unwrap_or_else(fallback), judged)
}

fn one(policy: &Policy, scope: &Scope<'_>, dirs: &Dirs, command: &Simple) -> Finding {
    let subject = advice::shortened(&command.to_string());
    if let Some(glob) = scope.blocked_commands.iter().find(|g| command_matches(g, command, Doubt::Possible)) {
        return Finding::fixed(format!("this mode forbids `{glob}`"), subject, "");
    }
    let mut strictest: Option<Finding> = None;
    let mut note = |finding: Finding| {
        if strictest.as_ref().is_none_or(|known| strictness(finding.decision) > strictness(known.decision)) {
            strictest = Some(finding);
        }
    };
    for target in &command.writes {
        note(written(policy, scope, dirs, target, &subject));
    }
    for path in command.reads.iter().flat_map(|target| places(target, dirs, scope)) {
        let refusal = by_rules(policy, "read_file", std::slice::from_ref(&path));
        if refusal.decision != Decision::Allow && refusal.source != Source::Default {
            note(refusal);
        }
    }
    if !command.argv.is_empty() {
        let named = Named::of(command, dirs, scope);
        if !reader(command) {
            for path in &named.paths {
                if let Some(mut finding) = guarded(policy, scope, path, true) {
                    finding.subject.clone_from(&subject);
                    note(finding);
                }
            }
        }
        note(by_command(policy, command, &named, subject));
    }
    strictest.unwrap_or_else(|| Finding { decision: Decision::Allow, ..Finding::fixed("redirections only", "", "") })
}

/// A file that a redirection creates or changes, judged as `write_file` would be.
fn written(policy: &Policy, scope: &Scope<'_>, dirs: &Dirs, target: &Arg, subject: &str) -> Finding {
    let unknown = |reason: &str| Finding::fixed(reason, subject, "Write the file's name out, or use `write_file`.");
    let Some(path) = target.literal() else {
        return unknown("it cannot be told which file this writes");
    };
    if dirs.elsewhere && !path.starts_with('/') {
        return unknown("it cannot be told in which folder this writes");
    }
    let mut last = Finding { decision: Decision::Allow, ..Finding::fixed("a scratch file", subject, "") };
    for dir in &dirs.known {
        let finding = match place(path, dir, scope.workspace) {
            Place::Scratch => continue,
            Place::Outside => Finding::fixed("this writes outside of the workspace", subject, advice::OUTSIDE),
            Place::Inside(_) if scope.read_only => Finding::fixed(
                "this mode only reads",
                subject,
                "Files that you need for yourself belong under /tmp; describe the change in your answer.",
            ),
            Place::Inside(path) => {
                guarded(policy, scope, &path, true).unwrap_or_else(|| by_rules(policy, "write_file", &[path]))
            }
        };
        if strictness(finding.decision) > strictness(last.decision) {
            last = finding;
        }
    }
    last
}

/// What the words of a command may name.
struct Named {
    /// Paths inside of the workspace.
    paths: Vec<String>,
    /// File name patterns of the shell.
    patterns: Vec<String>,
    /// Words that are only known when it runs, or that lead out of the workspace.
    unknown: bool,
}

impl Named {
    fn of(command: &Simple, dirs: &Dirs, scope: &Scope<'_>) -> Self {
        let mut named = Self { paths: Vec::new(), patterns: Vec::new(), unknown: dirs.elsewhere };
        let talks = command.program().is_some_and(|p| TALKERS.contains(&p));
        let words: &[Arg] = if talks { &[] } else { &command.argv };
        for arg in words.iter().skip(1).chain(&command.writes).chain(&command.reads) {
            named.paths.extend(places(arg, dirs, scope));
            match arg {
                Arg::Literal(_) => {}
                Arg::Unknown { glob, .. } => {
                    named.unknown = true;
                    named.patterns.extend(glob.iter().map(|g| g.trim_start_matches("./").to_owned()));
                }
            }
        }
        named.paths.sort();
        named.paths.dedup();
        named
    }
}

/// The paths that a word may name: itself, what follows `=`, `:` or `@`, and what is joined to an option's letter.
fn places(arg: &Arg, dirs: &Dirs, scope: &Scope<'_>) -> Vec<String> {
    let text = arg.prefix();
    let mut forms = vec![text];
    forms.extend(text.split_once('=').map(|(_, rest)| rest));
    forms.extend(text.split_once(':').map(|(_, rest)| rest));
    forms.extend(text.strip_prefix('@'));
    if text.starts_with('-') && !text.starts_with("--") {
        forms.extend(text.get(2..));
    }
    let mut found = Vec::new();
    for form in forms.into_iter().filter(|form| !form.is_empty() && !form.starts_with('-')) {
        for dir in &dirs.known {
            if let Place::Inside(path) = place(form, dir, scope.workspace)
                && !path.is_empty()
            {
                found.push(path);
            }
        }
    }
    found
}

fn reader(command: &Simple) -> bool {
    let Some(program) = command.program().filter(|p| shell::standard(p)) else { return false };
    let words = || command.argv.iter().skip(1).map(Arg::prefix);
    let name = basename(program);
    if name == "git" {
        return words().next().is_some_and(|sub| GIT_READERS.contains(&sub)) && !words().any(|w| w.starts_with("--o"));
    }
    READERS.contains(&name)
        && match name {
            "sed" => !words()
                .any(|w| w.starts_with("-i") || w.starts_with("--in") || (w.starts_with('-') && w.contains('i'))),
            "sort" | "tree" => !words().any(|w| w.starts_with("-o") || w.starts_with("--o")),
            "find" => !words().any(|w| ["-delete", "-exec", "-ok", "-fprint", "-fls"].iter().any(|o| w.starts_with(o))),
            _ => true,
        }
}

fn by_command(policy: &Policy, command: &Simple, named: &Named, subject: String) -> Finding {
    for (index, rule) in policy.rules.iter().enumerate() {
        if !rule.tools.iter().any(|t| tool_matches(t, "shell")) {
            continue;
        }
        let refuses = rule.decision != Decision::Allow;
        if command.transparent && !refuses {
            continue;
        }
        let doubt = if refuses { Doubt::Possible } else { Doubt::Certain };
        if !rule.commands.is_empty() && !rule.commands.iter().any(|g| command_matches(g, command, doubt)) {
            continue;
        }
        if rule.paths.is_empty() || matches_paths(rule, named) {
            return from_rule(rule, index, subject, Some(advice::command_rule(command)));
        }
    }
    if command.transparent {
        return Finding {
            decision: Decision::Allow,
            ..Finding::fixed("what it runs is judged by itself", subject, "")
        };
    }
    Finding {
        decision: policy.default,
        source: Source::Default,
        reason: advice::default_reason(policy.default).to_owned(),
        subject,
        instead: String::new(),
        rule: Some(advice::command_rule(command)),
    }
}

fn matches_paths(rule: &Rule, named: &Named) -> bool {
    if rule.decision == Decision::Allow {
        let allowed = |path: &String| rule.paths.iter().any(|g| path_matches(g, path, false, Doubt::Certain));
        return !named.unknown && !named.paths.is_empty() && named.paths.iter().all(allowed);
    }
    rule.paths.iter().any(|glob| {
        named.paths.iter().any(|path| path_matches(glob, path, true, Doubt::Possible))
            || named.patterns.iter().any(|pattern| pattern_names(pattern, glob))
    })
}
