//! Settings of other tools that have a counterpart here; what has none is listed.

mod claude;
mod pr_agent;
mod renovate;

use super::config::{Provider, quoted};
use crate::scout::Tree;
use crate::text;
use crate::workflow::schema::document::{Node, Yaml};

/// A tool whose settings are carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tool {
    /// anthropics/claude-code-action, in GitHub workflows
    ClaudeCodeAction,
    /// `.pr_agent.toml`
    PrAgent,
    /// `renovate.json` and its other names
    Renovate,
}

/// What was carried over.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// Who serves the model, where the tool says.
    pub(super) provider: Option<Provider>,
    /// An entry of `models:`.
    pub(super) model: Option<String>,
    /// Further ones, for when the first does not answer.
    pub(super) fallbacks: Vec<String>,
    /// What commands begin with.
    pub(super) phrase: Option<String>,
    /// The trusted branch.
    pub(super) base_branch: Option<String>,
    /// What branches begin with.
    pub(super) branch_prefix: Option<String>,
    /// Workflows: name and text.
    pub(super) workflows: Vec<(String, String)>,
    /// Lines of the configuration.
    pub(super) config: Vec<String>,
    /// What was taken, and what it is now.
    pub(super) taken: Vec<String>,
    /// What has no counterpart, and why.
    pub(super) left: Vec<String>,
}

impl Carried {
    fn took(&mut self, from: impl AsRef<str>, to: impl AsRef<str>) {
        self.taken.push(format!("{} → {}", from.as_ref(), to.as_ref()));
    }

    fn leave(&mut self, from: impl AsRef<str>, why: impl AsRef<str>) {
        self.left.push(format!("{}: {}", from.as_ref(), why.as_ref()));
    }

    /// A word for the CI file, where it is one: in that file an expression or a quote would mean something.
    fn plain(&mut self, from: &str, to: &str, text: &str) -> Option<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "@/-_.+~ ".contains(c);
        if text.trim().is_empty() || text.len() > 100 || !text.chars().all(plain) {
            self.leave(from, format!("`{to}` takes letters, digits and @/-_.+~ here"));
            return None;
        }
        self.took(from, format!("{to} of the CI file"));
        Some(text.trim().to_owned())
    }

    /// A model as the tool calls it.
    fn model(&mut self, from: &str, name: &str) {
        let Some((provider, entry)) = model(name) else {
            return self.leave(from, format!("the model `{name}`: name it in .codeforge/config.yml"));
        };
        if self.model.is_none() {
            self.took(from, format!("models.main ({name})"));
            self.provider = Some(provider);
            self.model = Some(entry);
        } else {
            self.took(from, format!("a model of scenarios.default ({name})"));
            self.fallbacks.push(entry);
        }
    }

    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let taken = self.taken.iter().map(|line| format!("carried over  {line}"));
        let left = self.left.iter().map(|line| format!("not carried   {line}"));
        taken.chain(left).map(|line| text::clean(&line).replace('\n', " ")).collect()
    }
}

/// `anthropic/claude-…`, `claude-…`, `gpt-…` → who serves it, and the entry of `models:`.
fn model(name: &str) -> Option<(Provider, String)> {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:@".contains(c));
    let (who, model) = name.split_once('/').unwrap_or(("", name));
    let provider = match who {
        "anthropic" => Provider::Anthropic,
        "openai" => Provider::Openai,
        "openrouter" => Provider::Openrouter,
        "" if name.starts_with("claude") => Provider::Anthropic,
        "" if name.starts_with("gpt-")
            || name.starts_with('o') && name[1..].starts_with(|c: char| c.is_ascii_digit()) =>
        {
            Provider::Openai
        }
        _ => return None,
    };
    let kind = Provider::NAMES.iter().find(|known| Provider::named(known) == Some(provider))?;
    let entry = format!("{{ provider: {kind}, model: {}, api_key: env://{} }}", quoted(model), provider.secret());
    plain.then_some((provider, entry))
}

/// Reads a tool's files.
///
/// # Errors
/// There are none, or they cannot be read: in words.
pub(super) fn read(tool: Tool, tree: &Tree<'_>) -> Result<Carried, String> {
    match tool {
        Tool::ClaudeCodeAction => claude::claude(tree),
        Tool::PrAgent => pr_agent::pr_agent(tree),
        Tool::Renovate => renovate::renovate(tree),
    }
}

/// Text that a template takes for nothing else.
fn literal(text: &str) -> String {
    if ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) {
        // The end of a raw block is the one thing that it cannot hold.
        format!("{{% raw %}}{}{{% endraw %}}", text.replace("endraw", "end-raw"))
    } else {
        text.to_owned()
    }
}

fn scalar(node: &Node) -> String {
    match &node.value {
        Yaml::Text(text) => text.clone(),
        Yaml::Bool(value) => value.to_string(),
        Yaml::Int(value) => value.to_string(),
        Yaml::Float(value) => value.to_string(),
        _ => String::new(),
    }
}
