//! What a denial says: which rule, why, what to do instead, and the rule that would allow it.

use super::calls::{Finding, Source};
use super::shell::{Arg, Simple, basename};
use crate::model::policy::{Decision, Policy};
use crate::model::tool::RuleRef;

pub(super) const PROTECTED: &str = "No agent may change this path, whatever the rules say: leave it as it is and say in your answer what should change there.";
pub(super) const ALL_PROTECTED: &str =
    "Nothing is written in this run: say in your answer what should change, and where.";
pub(super) const OUTSIDE: &str = "Use paths inside of the workspace; from the shell, scratch files may go to /tmp.";
pub(super) const PLAIN_SHELL: &str =
    "Write it in plain `sh`, with the names of all commands written out, or as several calls.";

/// The reason where none is written.
pub(super) fn default_reason(decision: Decision) -> &'static str {
    match decision {
        Decision::Allow => "allowed",
        Decision::Deny => "no rule allows it",
        Decision::Ask => "a person decides",
    }
}

/// A text that fits in a sentence.
pub(super) fn shortened(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(160).collect();
    if line.chars().count() < text.chars().count() { format!("{line}…") } else { line }
}

/// What the model reads.
pub(super) fn message(policy: &Policy, tool: &str, finding: &Finding, by: &RuleRef) -> String {
    let subject =
        if finding.subject.is_empty() { format!("`{tool}`") } else { format!("`{tool}: {}`", finding.subject) };
    let place = by.place();
    let name = &policy.name;
    let who = match by.rule {
        Some(number) => format!("Rule {number} of policy {name} ({place})"),
        None if finding.source == Source::Default => format!("The default of policy {name} ({place})"),
        None => format!("Policy {name}"),
    };
    let verb = if finding.decision == Decision::Ask { "needs a person's approval" } else { "was not run" };
    let instead = if finding.instead.is_empty() { instead(policy, tool, finding) } else { finding.instead.clone() };
    format!("{subject} {verb}. {who}: {}. {instead}", finding.reason.trim_end_matches('.')).trim_end().to_owned()
}

fn instead(policy: &Policy, tool: &str, finding: &Finding) -> String {
    if tool != "shell" {
        return "Go on without it, or say in your answer why it is needed.".to_owned();
    }
    let words: Vec<&str> = finding.subject.split_whitespace().collect();
    let program = words.first().map_or("", |w| basename(w));
    let second = words.get(1).copied().unwrap_or_default();
    match (program, second) {
        ("git", "push" | "remote" | "send-pack") => {
            "You can finish with `finish`; the change is delivered for you.".to_owned()
        }
        (
            "git",
            "commit" | "add" | "stash" | "checkout" | "switch" | "restore" | "reset" | "rebase" | "merge" | "tag",
        ) => "You need not record the change: what is in the workspace is delivered for you. `git_diff` shows it."
            .to_owned(),
        (
            "curl" | "wget" | "nc" | "ncat" | "socat" | "ssh" | "scp" | "sftp" | "rsync" | "ftp" | "telnet" | "dig",
            _,
        )
        | ("git", "clone" | "fetch" | "pull" | "ls-remote")
        | ("pip" | "pip3" | "npm" | "yarn" | "pnpm" | "cargo" | "gem" | "apt" | "apt-get" | "apk" | "dnf", _)
            if !finding.reason.contains("no rule allows") || second != "test" =>
        {
            "Work with what is in the workspace and installed: the sandbox has no network of its own.".to_owned()
        }
        ("env" | "printenv" | "set", _) => "Nothing in the environment is needed for the task.".to_owned(),
        ("cat" | "less" | "head" | "tail" | "grep" | "sed" | "find" | "ls", _) if finding.source == Source::Default => {
            "Use `read_file`, `search` and `list_files`.".to_owned()
        }
        _ => {
            let allowed: Vec<&str> = policy
                .rules
                .iter()
                .filter(|r| r.decision == Decision::Allow && r.tools.iter().any(|t| t == "shell" || t == "*"))
                .flat_map(|r| r.commands.iter().map(String::as_str))
                .take(12)
                .collect();
            if allowed.is_empty() {
                "Use the other tools.".to_owned()
            } else {
                format!("Commands that may run are, among others: {}.", allowed.join(", "))
            }
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

/// The rule that would allow a command, as far as its words are known.
pub(super) fn command_rule(command: &Simple) -> String {
    let known: Vec<&str> = command
        .argv
        .iter()
        .map_while(Arg::literal)
        .take_while(|w| !w.is_empty() && !w.contains(char::is_whitespace) && w.len() <= 80)
        .take(6)
        .collect();
    let more = if known.len() < command.argv.len() { " *" } else { "" };
    format!("- {{ tool: shell, command: {}, decision: allow }}", quoted(&format!("{}{more}", known.join(" "))))
}

/// The rule that would allow a tool on paths.
pub(super) fn path_rule(tool: &str, paths: &[String]) -> String {
    match paths {
        [] => format!("- {{ tool: {tool}, decision: allow }}"),
        [one] => format!("- {{ tool: {tool}, path: {}, decision: allow }}", quoted(one)),
        many => {
            let list: Vec<String> = many.iter().map(|p| quoted(p)).collect();
            format!("- {{ tool: {tool}, path: [{}], decision: allow }}", list.join(", "))
        }
    }
}

/// The rule with a comment that says where it goes.
pub(super) fn placed(rule: &str, policy: &Policy, by: &RuleRef) -> String {
    let place = match (by.line, by.rule) {
        (0, _) => "as the first rule".to_owned(),
        (line, Some(_)) => format!("above line {line}"),
        (line, None) => format!("as the last rule, above line {line}"),
    };
    if policy.file == "built in" {
        let name = &policy.name;
        return format!(
            "{rule}  # {place} of a copy of `{name}` under another name (`codeforge policies show {name}`)"
        );
    }
    format!("{rule}  # {place}")
}
