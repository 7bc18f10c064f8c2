//! `codeforge policies list|show|test`.

use super::error::CliError;
use super::{Context, Format, run};
use crate::model::account::Ending;
use crate::model::policy::{Decision, Policy};
use crate::model::tool::{TOOLS, ToolCall};
use crate::policy;
use serde_json::{Value, json};
use std::fmt::Write;

/// Shows policies, and tries calls against them by hand.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge policies list
  codeforge policies show headless-safe-sandbox
  codeforge policies test headless-safe-sandbox shell --command 'cargo test; curl x'
  codeforge policies test headless-safe-sandbox write_file --path .github/workflows/ci.yml

`test` exits with 0 where the call is allowed and with 4 where it is denied.")]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub what: What,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// All policies, a line each
    List,
    /// One policy's rules and limits
    Show {
        /// The policy's name
        name: String,
    },
    /// Judge a call without running it
    Test {
        /// The policy's name
        profile: String,
        /// The tool: read_file, write_file, edit_file, apply_patch, list_files, search, shell, git_diff, git_log, finish
        tool: String,
        /// A path it names
        #[arg(long)]
        path: Option<String>,
        /// The shell text
        #[arg(long)]
        command: Option<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// [`CliError`]; a denial is one that has been shown, with exit code 4.
pub async fn run(args: Args, cx: &Context<'_>) -> Result<(), CliError> {
    let root = match cx.world.repository(cx.world.cwd()) {
        Ok(repository) => repository.root().to_path_buf(),
        // Presets can be looked at anywhere.
        Err(_) => cx.world.cwd().to_path_buf(),
    };
    let library = run::load(&root, cx)?;
    let find = |name: &str| {
        library.policies.get(name).ok_or_else(|| {
            let names: Vec<&str> = library.policies.keys().map(String::as_str).collect();
            CliError::usage(format!("no policy `{name}`")).hint(format!("policies: {}", names.join(", ")))
        })
    };
    match args.what {
        What::List => {
            if cx.format == Format::Json {
                cx.data(&format!("{:#}\n", json!(library.policies)));
                return Ok(());
            }
            let mut text = String::new();
            for policy in library.policies.values() {
                let _ = writeln!(text, "{:<32} {}", policy.name, policy.description);
            }
            cx.data(&text);
            Ok(())
        }
        What::Show { name } => {
            let policy = find(&name)?;
            if cx.format == Format::Json {
                cx.data(&format!("{:#}\n", json!(policy)));
            } else {
                cx.data(&shown(policy));
            }
            Ok(())
        }
        What::Test { profile, tool, path, command } => test(find(&profile)?, tool, path, command, cx),
    }
}

fn shown(policy: &Policy) -> String {
    let mut text = format!("{}  ({})\n{}\n\n", policy.name, policy.file, policy.description);
    for (number, rule) in policy.rules.iter().enumerate() {
        let mut parts = vec![rule.tools.join(", ")];
        if !rule.paths.is_empty() {
            parts.push(format!("path {}", rule.paths.join(", ")));
        }
        if !rule.commands.is_empty() {
            parts.push(format!("command {}", rule.commands.join(", ")));
        }
        let reason = rule.reason.as_ref().map(|reason| format!("  # {reason}")).unwrap_or_default();
        let _ = writeln!(text, "{:>3}. {:<5} {}{reason}", number + 1, word(rule.decision), parts.join("; "));
    }
    let _ = writeln!(text, "     {:<5} everything else", word(policy.default));
    if !policy.protected_paths.is_empty() {
        let _ = writeln!(text, "\nprotected: {}", policy.protected_paths.join(", "));
    }
    if !policy.require_gates.is_empty() {
        let _ = writeln!(text, "required gates: {}", policy.require_gates.join(", "));
    }
    text
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Allow => "allow",
        Decision::Deny => "deny",
        Decision::Ask => "ask",
    }
}

fn test(
    policy: &Policy,
    tool: String,
    path: Option<String>,
    command: Option<String>,
    cx: &Context<'_>,
) -> Result<(), CliError> {
    if !TOOLS.contains(&tool.as_str()) {
        return Err(CliError::usage(format!("no tool `{tool}`")).hint(format!("tools: {}", TOOLS.join(", "))));
    }
    if tool == "shell" && command.is_none() {
        return Err(CliError::usage("`shell` needs --command").hint("policies test NAME shell --command 'cargo test'"));
    }
    let args = arguments(&tool, path, command);
    let call = ToolCall { id: "test".into(), name: tool, args, malformed: None };
    let offered: Vec<String> = TOOLS.iter().map(|tool| (*tool).to_owned()).collect();
    let scope = policy::Scope {
        offered: &offered,
        read_only: false,
        blocked_commands: &[],
        protected_paths: &policy.protected_paths,
        workspace: "/workspace",
        can_ask: false,
    };
    let explained = policy::explain(policy, &call, &scope);
    let ruling = &explained.ruling;
    if cx.format == Format::Json {
        let commands: Vec<Value> = explained
            .commands
            .iter()
            .map(|it| json!({ "command": it.command, "decision": it.decision, "by": it.by, "reason": it.reason }))
            .collect();
        cx.data(&format!("{:#}\n", json!({ "ruling": ruling, "commands": commands })));
    } else {
        let rule = ruling.by.rule.map_or_else(|| "default".to_owned(), |rule| format!("rule {rule}"));
        let mut text = format!(
            "{}: {rule} of {} ({}:{}){}\n",
            word(ruling.decision),
            ruling.by.policy,
            ruling.by.file,
            ruling.by.line,
            if ruling.reason.is_empty() { String::new() } else { format!(": {}", ruling.reason) }
        );
        for it in &explained.commands {
            let _ = writeln!(text, "  {:<5} {}", word(it.decision), it.command);
        }
        if !ruling.advice.is_empty() {
            let _ = writeln!(text, "the model is told: {}", ruling.advice);
        }
        if let Some(yaml) = &ruling.allow_with {
            let _ = writeln!(text, "to allow it: {yaml}");
        }
        cx.data(&text);
    }
    if ruling.decision == Decision::Allow { Ok(()) } else { Err(CliError::silent(Ending::Denied)) }
}

/// Arguments as a model would send them, with harmless ones for what the rules do not look at.
fn arguments(tool: &str, path: Option<String>, command: Option<String>) -> Value {
    let file = path.clone().unwrap_or_else(|| "README.md".to_owned());
    match tool {
        "shell" => json!({ "command": command.unwrap_or_default() }),
        "read_file" => json!({ "path": file }),
        "write_file" => json!({ "path": file, "content": "" }),
        "edit_file" => json!({ "path": file, "old": "a", "new": "b" }),
        "apply_patch" => json!({ "patch": format!("--- a/{file}\n+++ b/{file}\n@@ -1 +1 @@\n-a\n+b\n") }),
        "search" => json!({ "pattern": "a", "path": path.unwrap_or_default() }),
        "finish" => json!({ "summary": "done" }),
        _ => path.map_or_else(|| json!({}), |path| json!({ "path": path })),
    }
}
