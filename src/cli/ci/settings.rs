//! What the Action, the component and people set through variables.

use crate::cli::error::CliError;
use crate::model::exec::DriverKind;
use crate::model::plan::DeliverKind;
use crate::port::world::World;
use crate::workflow::schema::{Document, IfNoChanges, Yaml};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What commands begin with where nobody says otherwise.
pub const PHRASE: &str = "/codeforge";
/// What our branches begin with where nobody says otherwise.
pub const PREFIX: &str = "codeforge/";
/// The longest inputs and prompts, in bytes.
const LONGEST: usize = 256 * 1024;

/// A part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Phase {
    /// Everything in one job: weaker, and not for forks
    All,
    /// The agents' work, without a write token; leaves an artifact
    Agent,
    /// The gates, without any key
    Gate,
    /// Handing over, without a model
    Deliver,
}

/// What an unavailable provider, forge or sandbox means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnavailable {
    /// Exit code 5.
    Fail,
    /// Exit code 0, said loudly.
    Neutral,
}

/// The settings. An empty variable counts as not given.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `CODEFORGE_WORKFLOW`: the workflow to run; `None`: all that match.
    pub workflow: Option<String>,
    /// `CODEFORGE_INPUTS`: a YAML map of scalars.
    pub inputs: BTreeMap<String, String>,
    /// `CODEFORGE_PROMPT`: the input `task`.
    pub prompt: Option<String>,
    /// `CODEFORGE_PROMPT_FILE`: the same from a file within the workspace.
    pub prompt_file: Option<PathBuf>,
    /// `CODEFORGE_WORKING_DIRECTORY`: the repository's folder.
    pub working_directory: Option<PathBuf>,
    /// `CODEFORGE_FORGE_TOKEN`.
    pub token: Option<SecretString>,
    /// `CODEFORGE_SANDBOX`.
    pub sandbox: Option<DriverKind>,
    /// `CODEFORGE_MODEL`: the model for every scenario.
    pub model: Option<String>,
    /// `CODEFORGE_POLICY`.
    pub policy: Option<String>,
    /// `CODEFORGE_MAX_COST_USD`: tightens the budget.
    pub max_cost_usd: Option<f64>,
    /// `CODEFORGE_DELIVERY`.
    pub delivery: Option<DeliverKind>,
    /// `CODEFORGE_PHASE`.
    pub phase: Phase,
    /// `CODEFORGE_ARTIFACT`: the artifact's file.
    pub artifact: Option<PathBuf>,
    /// `CODEFORGE_GATE_WORD`.
    pub gate_word: Option<String>,
    /// `CODEFORGE_ALLOW_USERS`.
    pub allow_users: Vec<String>,
    /// `CODEFORGE_TRIGGER_PHRASE`.
    pub phrase: String,
    /// `CODEFORGE_BASE_BRANCH`: the trusted branch.
    pub base_branch: Option<String>,
    /// `CODEFORGE_BRANCH_PREFIX`.
    pub branch_prefix: String,
    /// `CODEFORGE_IF_NO_CHANGES`.
    pub if_no_changes: Option<IfNoChanges>,
    /// `CODEFORGE_ON_UNAVAILABLE`; `None`: the configuration's.
    pub on_unavailable: Option<OnUnavailable>,
    /// `CODEFORGE_DRY_RUN`.
    pub dry_run: bool,
    /// `CODEFORGE_REPORT_DIR`.
    pub report_dir: Option<PathBuf>,
    /// `CODEFORGE_EXTRA_CA`: certificates to trust beside the machine's.
    pub extra_ca: Option<PathBuf>,
}

impl Settings {
    /// Reads all variables.
    ///
    /// # Errors
    /// Names the variable, what is in it and what would be right.
    pub fn read(world: &dyn World) -> Result<Self, CliError> {
        let text = |name: &str| {
            let value = world.env(&format!("CODEFORGE_{name}")).map(|value| value.trim().to_owned());
            value.filter(|value| !value.is_empty())
        };
        let path = |name: &str| text(name).map(|text| world.cwd().join(text));
        let list = |name: &str| -> Vec<String> {
            let all = text(name).unwrap_or_default();
            let names = all.split([',', '\n']).map(|name| name.trim().trim_start_matches('@').to_owned());
            names.filter(|name| !name.is_empty()).collect()
        };
        let phrase = text("TRIGGER_PHRASE").unwrap_or_else(|| PHRASE.to_owned());
        if phrase.chars().any(|c| c.is_whitespace() || c.is_control()) || phrase.chars().count() < 2 {
            return Err(wrong("TRIGGER_PHRASE", &phrase, "a word without spaces, like `/codeforge`"));
        }
        let base_branch = text("BASE_BRANCH");
        if let Some(branch) = base_branch.as_ref().filter(|branch| !is_branch(branch)) {
            return Err(wrong("BASE_BRANCH", branch, "a branch's name, without `refs/heads/`"));
        }
        let branch_prefix = text("BRANCH_PREFIX").unwrap_or_else(|| PREFIX.to_owned());
        if !branch_prefix.ends_with('/') || !is_branch(&format!("{branch_prefix}x")) {
            return Err(wrong("BRANCH_PREFIX", &branch_prefix, "the beginning of a branch's name that ends with `/`"));
        }
        let prompt = text("PROMPT");
        if prompt.as_ref().is_some_and(|prompt| prompt.len() > LONGEST) {
            return Err(CliError::usage(format!("CODEFORGE_PROMPT has more than {LONGEST} bytes")));
        }
        Ok(Self {
            workflow: text("WORKFLOW"),
            inputs: inputs(text("INPUTS"))?,
            prompt,
            prompt_file: path("PROMPT_FILE"),
            working_directory: path("WORKING_DIRECTORY"),
            token: text("FORGE_TOKEN").map(SecretString::from),
            sandbox: choice(&text, "SANDBOX", "auto, docker, native or none", |word| {
                crate::cli::run::driver(word).ok()
            })?,
            model: text("MODEL"),
            policy: text("POLICY"),
            max_cost_usd: choice(&text, "MAX_COST_USD", "an amount of US dollars", |word| {
                let usd = word.trim_start_matches('$').parse::<f64>().ok();
                usd.filter(|usd| usd.is_finite() && *usd >= 0.0)
            })?,
            delivery: choice(&text, "DELIVERY", DELIVERIES, |word| {
                serde_json::from_value(serde_json::Value::String(word.to_owned())).ok()
            })?,
            phase: choice(&text, "PHASE", "all, agent, gate or deliver", |word| match word {
                "all" => Some(Phase::All),
                "agent" => Some(Phase::Agent),
                "gate" => Some(Phase::Gate),
                "deliver" => Some(Phase::Deliver),
                _ => None,
            })?
            .unwrap_or(Phase::All),
            artifact: path("ARTIFACT"),
            gate_word: text("GATE_WORD"),
            allow_users: list("ALLOW_USERS"),
            phrase,
            base_branch,
            branch_prefix,
            if_no_changes: choice(&text, "IF_NO_CHANGES", "ok or fail", |word| match word {
                "ok" => Some(IfNoChanges::Ok),
                "fail" => Some(IfNoChanges::Fail),
                _ => None,
            })?,
            on_unavailable: choice(&text, "ON_UNAVAILABLE", "fail or neutral", |word| match word {
                "fail" => Some(OnUnavailable::Fail),
                "neutral" => Some(OnUnavailable::Neutral),
                _ => None,
            })?,
            dry_run: choice(&text, "DRY_RUN", "true or false", |word| match word {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            })?
            .unwrap_or_default(),
            report_dir: path("REPORT_DIR"),
            extra_ca: path("EXTRA_CA"),
        })
    }
}

const DELIVERIES: &str =
    "none, patch, commit-local, branch, push-to-branch, pull_request, comment, review, report or issue";

fn wrong(name: &str, value: &str, right: &str) -> CliError {
    let value: String = value.chars().take(80).collect();
    CliError::usage(format!("CODEFORGE_{name} is `{value}`; it takes {right}"))
}

fn choice<T>(
    text: &dyn Fn(&str) -> Option<String>,
    name: &str,
    right: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, CliError> {
    let Some(value) = text(name) else { return Ok(None) };
    read(&value).map(Some).ok_or_else(|| wrong(name, &value, right))
}

/// A name that git takes for a branch, and that cannot pass for anything else on a command line.
fn is_branch(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.+@#".contains(c) || (!c.is_ascii() && !c.is_whitespace());
    !name.starts_with(['-', '/', '.'])
        && !name.starts_with("refs/")
        && !name.ends_with(['/', '.'])
        && !name.contains("..")
        && !name.contains("//")
        && !name.contains("@{")
        && name.chars().all(plain)
}

/// The YAML map of inputs, read by our own bounded parser: scalars only.
fn inputs(text: Option<String>) -> Result<BTreeMap<String, String>, CliError> {
    let Some(text) = text else { return Ok(BTreeMap::new()) };
    let wrong = |why: String| {
        CliError::usage(format!("CODEFORGE_INPUTS: {why}"))
            .hint("it takes one `name: value` a line, like `task: \"Fix the parser\"`")
    };
    if text.len() > LONGEST {
        return Err(wrong(format!("it has more than {LONGEST} bytes")));
    }
    let (document, problems) = Document::parse("CODEFORGE_INPUTS", &text);
    if let Some(problem) = problems.first() {
        return Err(wrong(format!("line {}: {}", problem.place.line, problem.message)));
    }
    let Yaml::Map(entries) = &document.root.value else {
        return Err(wrong(format!("it is {}, not a map", document.root.kind())));
    };
    let mut inputs = BTreeMap::new();
    for (key, node) in entries {
        let value = match &node.value {
            Yaml::Text(text) => text.clone(),
            Yaml::Null => continue,
            Yaml::List(_) | Yaml::Map(_) => {
                return Err(wrong(format!(
                    "`{}` is {}: an input is a text, a number, true or false",
                    key.text,
                    node.kind()
                )));
            }
            _ => match node.to_json() {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            },
        };
        inputs.insert(key.text.clone(), value);
    }
    Ok(inputs)
}
