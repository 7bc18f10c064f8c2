//! `codeforge policies`: what is configured, and trying a call by hand.

use super::error::CliError;
use super::{Context, Format};
use crate::model::account::Ending;
use crate::model::policy::{Decision, Policy, Rule};
use crate::model::tool::{TOOLS, ToolCall};
use crate::policy::{Explanation, Scope, explain};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Policies: list them, show one, or try a tool call against one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge policies list
  codeforge policies show headless-safe-sandbox
  codeforge policies test headless-safe-sandbox shell --command 'git push origin HEAD'
  codeforge policies test headless-safe-sandbox write_file --path .github/workflows/ci.yml")]
pub struct Args {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Lists the policies by name.
    List,
    /// Shows a policy: rules with their lines, limits, protected paths.
    Show {
        /// The policy's name.
        name: String,
    },
    /// Says whether a tool call would run, by which rule, and what would allow it. Exit code 0: it would; 4: it would not.
    Test {
        /// The policy's name.
        profile: String,
        /// The tool's name.
        tool: String,
        /// A path that the call names; may be given more than once.
        #[arg(long)]
        path: Vec<String>,
        /// For `shell`: the text.
        #[arg(long)]
        command: Option<String>,
        /// Judge as in a read-only mode.
        #[arg(long)]
        read_only: bool,
    },
}

/// Runs the command over the policies that there are. `protected_paths` are those of the configuration.
///
/// # Errors
/// An unknown name or tool (2); a call that is denied or needs a person (4).
pub fn run(
    args: Args,
    cx: &Context<'_>,
    policies: &IndexMap<String, Policy>,
    protected_paths: &[String],
) -> Result<(), CliError> {
    match args.command {
        Sub::List => list(cx, policies),
        Sub::Show { name } => show(cx, find(policies, &name)?),
        Sub::Test { profile, tool, path, command, read_only } => {
            let policy = find(policies, &profile)?;
            if !TOOLS.contains(&tool.as_str()) {
                let error = CliError::usage(format!("there is no tool `{tool}`"));
                return Err(error.hint(format!("the tools are {}", TOOLS.join(", "))));
            }
            let call = call(&tool, &path, command)?;
            let offered: Vec<String> = TOOLS.iter().map(ToString::to_string).collect();
            let scope = Scope {
                offered: &offered,
                read_only,
                blocked_commands: &[],
                protected_paths,
                workspace: "/workspace",
                can_ask: true,
                operator_commands: &[],
            };
            test(cx, &explain(policy, &call, &scope))
        }
    }
}

fn find<'p>(policies: &'p IndexMap<String, Policy>, name: &str) -> Result<&'p Policy, CliError> {
    policies.get(name).ok_or_else(|| {
        let near = policies.keys().map(|known| (strsim::jaro_winkler(known, name), known));
        let best = near.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known);
        let error = CliError::usage(format!("there is no policy `{name}`"));
        match best {
            Some(known) => error.hint(format!("did you mean `{known}`?")),
            None => error.hint(format!("there are {}", policies.keys().cloned().collect::<Vec<_>>().join(", "))),
        }
    })
}

fn call(tool: &str, path: &[String], command: Option<String>) -> Result<ToolCall, CliError> {
    let mut args = Map::new();
    match (tool, command) {
        ("shell", Some(text)) => {
            args.insert("command".into(), Value::String(text));
        }
        ("shell", None) => return Err(CliError::usage("`shell` needs `--command TEXT`")),
        (_, Some(_)) => return Err(CliError::usage("`--command` is for the tool `shell`")),
        (_, None) => {}
    }
    if tool == "shell" && !path.is_empty() {
        return Err(CliError::usage("for `shell`, paths are those that the command names"));
    }
    if !path.is_empty() {
        args.insert("paths".into(), json!(path));
    }
    Ok(ToolCall { id: "test".into(), name: tool.to_owned(), args: Value::Object(args), malformed: None })
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Allow => "allow",
        Decision::Deny => "deny",
        Decision::Ask => "ask",
    }
}

fn list(cx: &Context<'_>, policies: &IndexMap<String, Policy>) -> Result<(), CliError> {
    if cx.format == Format::Json {
        let rows: Vec<Value> = policies
            .values()
            .map(|p| json!({ "name": p.name, "file": p.file, "description": p.description }))
            .collect();
        cx.data(&format!("{}\n", Value::Array(rows)));
        return Ok(());
    }
    let wide = policies.keys().map(String::len).max().unwrap_or(0);
    for policy in policies.values() {
        cx.data(&format!("{:wide$}  {} ({})\n", policy.name, policy.description, policy.file));
    }
    Ok(())
}

fn show(cx: &Context<'_>, policy: &Policy) -> Result<(), CliError> {
    if cx.format == Format::Json {
        let value = serde_json::to_value(policy).map_err(|e| CliError::new(Ending::Failed, e.to_string()))?;
        cx.data(&format!("{value}\n"));
        return Ok(());
    }
    let mut text = format!("{} ({})\n{}\n\n", policy.name, policy.file, policy.description);
    for (index, rule) in policy.rules.iter().enumerate() {
        let _ = writeln!(text, "{:>3}  {}", index + 1, describe(rule));
    }
    let _ = writeln!(text, "     else {}", word(policy.default));
    for (title, items) in [("protected", &policy.protected_paths), ("gates required", &policy.require_gates)] {
        if !items.is_empty() {
            let _ = writeln!(text, "{title}: {}", items.join(", "));
        }
    }
    let limits = &policy.limits;
    let mut parts = Vec::new();
    parts.extend(limits.max_turns.map(|n| format!("{n} steps")));
    parts.extend(limits.timeout_ms.map(|ms| format!("{} s", ms / 1000)));
    parts.extend(limits.max_cost_usd.map(|usd| format!("${usd:.2}")));
    parts.extend(limits.max_cost_per_step_usd.map(|usd| format!("${usd:.2} a step")));
    parts.extend(limits.max_tokens.map(|n| format!("{n} tokens")));
    parts.extend(limits.max_file_changes.map(|n| format!("{n} files")));
    parts.extend(limits.stall_threshold.map(|n| format!("stalled after {n} repeats")));
    if !parts.is_empty() {
        let _ = writeln!(text, "limits: {}", parts.join(", "));
    }
    cx.data(&text);
    Ok(())
}

fn describe(rule: &Rule) -> String {
    let mut text = format!("{:5} {}", word(rule.decision), rule.tools.join(", "));
    for (title, items) in [("path", &rule.paths), ("command", &rule.commands)] {
        if !items.is_empty() {
            let _ = write!(text, "  {title}: {}", items.join(", "));
        }
    }
    if let Some(reason) = &rule.reason {
        let _ = write!(text, "  ({reason})");
    }
    if rule.line > 0 {
        let _ = write!(text, "  line {}", rule.line);
    }
    text
}

fn test(cx: &Context<'_>, explanation: &Explanation) -> Result<(), CliError> {
    let ruling = &explanation.ruling;
    if cx.format == Format::Json {
        let commands: Vec<Value> = explanation
            .commands
            .iter()
            .map(|c| json!({ "command": c.command, "decision": c.decision, "by": c.by, "reason": c.reason }))
            .collect();
        cx.data(&format!("{}\n", json!({ "ruling": ruling, "commands": commands })));
    } else {
        let by = &ruling.by;
        let rule = match (by.rule, by.line) {
            (Some(number), _) => format!("rule {number}, {}", by.place()),
            (None, 0) => by.file.clone(),
            (None, _) => format!("default, {}", by.place()),
        };
        let mut text = format!("{}: {} ({rule})\n", word(ruling.decision), ruling.reason);
        for command in &explanation.commands {
            let number = command.by.rule.map_or_else(String::new, |n| format!(" (rule {n})"));
            let _ = writeln!(text, "  {:5} {}  {}{number}", word(command.decision), command.command, command.reason);
        }
        if !ruling.advice.is_empty() {
            let _ = writeln!(text, "{}", ruling.advice);
        }
        if let Some(rule) = &ruling.allow_with {
            let _ = writeln!(text, "To allow it:\n  {rule}");
        }
        cx.data(&text);
    }
    if ruling.decision == Decision::Allow { Ok(()) } else { Err(CliError::silent(Ending::Denied)) }
}
