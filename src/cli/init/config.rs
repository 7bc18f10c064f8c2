//! `.codeforge/config.yml`, the workflows, and which commit of the action is called.

use super::Intent;
use crate::cli::Context;
use crate::port::world::Tape;
use crate::workflow;

/// A scalar of YAML: JSON's strings are YAML's.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

/// Who serves the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Provider {
    Anthropic,
    Openai,
    Openrouter,
    Litellm,
    /// Variables and a secret of the CI say it: `CODEFORGE_MODEL`, `CODEFORGE_LLM_BASE_URL`, `CODEFORGE_LLM_API_KEY`.
    Variables,
}

impl Provider {
    pub(super) const NAMES: [&'static str; 5] = ["anthropic", "openai", "openrouter", "litellm", "variables"];

    /// By its name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let all = [Self::Anthropic, Self::Openai, Self::Openrouter, Self::Litellm, Self::Variables];
        let place = Self::NAMES.iter().position(|known| *known == name.trim().to_lowercase())?;
        all.get(place).copied()
    }

    /// The one that was asked for, else the one that the environment names.
    pub(super) fn find(asked: Option<&str>, cx: &Context<'_>) -> Result<Self, String> {
        if let Some(name) = asked {
            return Self::named(name)
                .ok_or_else(|| format!("`{name}` is no provider that init knows; choose {}", Self::NAMES.join(", ")));
        }
        let own = |key: &str| key.starts_with("env://CODEFORGE_");
        let model = cx.world.models(&Tape::Off).into_iter().next();
        let model = model.filter(|model| !model.api_key.as_deref().is_some_and(own));
        Ok(model.and_then(|model| Self::named(&model.provider)).unwrap_or(Self::Variables))
    }

    pub(super) fn is_variables(self) -> bool {
        self == Self::Variables
    }

    /// The secret that holds its key.
    pub(super) fn secret(self) -> &'static str {
        match self {
            Self::Anthropic => "ANTHROPIC_API_KEY",
            Self::Openai => "OPENAI_API_KEY",
            Self::Openrouter => "OPENROUTER_API_KEY",
            Self::Litellm => "LITELLM_API_KEY",
            Self::Variables => "CODEFORGE_LLM_API_KEY",
        }
    }

    /// The entry of `models:`; `None`: the environment alone says which model.
    fn entry(self) -> Option<String> {
        let (name, model, url) = match self {
            Self::Anthropic => ("anthropic", "claude-sonnet-4-6", None),
            Self::Openai => ("openai", "gpt-5", None),
            Self::Openrouter => ("openrouter", "anthropic/claude-sonnet-4.6", None),
            Self::Litellm => ("litellm", "default", Some("http://litellm:4000/v1")),
            Self::Variables => return None,
        };
        let url = url.map(|url| format!(", base_url: {}", quoted(url))).unwrap_or_default();
        Some(format!("{{ provider: {name}, model: {}{url}, api_key: env://{} }}", quoted(model), self.secret()))
    }

    /// What is left to a person.
    pub(super) fn next(self) -> &'static str {
        match self {
            Self::Variables => {
                "in the CI's settings: a secret CODEFORGE_LLM_API_KEY (best in the environment codeforge-agent), and the variables CODEFORGE_MODEL and \
                 CODEFORGE_LLM_BASE_URL (an endpoint that speaks OpenAI's language)"
            }
            Self::Anthropic => {
                "in the CI's settings: a secret ANTHROPIC_API_KEY (best in the environment codeforge-agent)"
            }
            Self::Openai => "in the CI's settings: a secret OPENAI_API_KEY (best in the environment codeforge-agent)",
            Self::Openrouter => {
                "in the CI's settings: a secret OPENROUTER_API_KEY (best in the environment codeforge-agent)"
            }
            Self::Litellm => {
                "in the CI's settings: a secret LITELLM_API_KEY; in .codeforge/config.yml the proxy's address"
            }
        }
    }
}

/// The commit of the action, and the version that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ActionRef {
    pub(super) repository: String,
    pub(super) commit: String,
    pub(super) version: String,
}

impl ActionRef {
    /// What was given, else what this program was built with.
    pub(super) fn find(given: Option<&str>) -> Result<Self, String> {
        let built = option_env!("CODEFORGE_ACTION_REF").filter(|text| !text.is_empty());
        let Some(text) = given.or(built) else {
            return Err("this build does not know which commit of the action it belongs to; give --action-ref \
                        OWNER/codeforge@COMMIT#VERSION (a release's page names the commit)"
                .to_owned());
        };
        let wrong = || format!("`{text}` is not OWNER/REPO@COMMIT#VERSION with a whole commit id of 40 digits");
        let (name, version) = text.split_once('#').unwrap_or((text, ""));
        let (repository, commit) = name.trim().split_once('@').ok_or_else(wrong)?;
        let plain = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        let hex = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (owner, repo) = repository.split_once('/').ok_or_else(wrong)?;
        let version = if version.trim().is_empty() { concat!("v", env!("CARGO_PKG_VERSION")) } else { version.trim() };
        if !hex || !plain(owner) || !plain(repo) || !plain(version) {
            return Err(wrong());
        }
        Ok(Self { repository: repository.to_owned(), commit: commit.to_ascii_lowercase(), version: version.to_owned() })
    }
}

/// The name of a shipped workflow, by its path.
pub(super) fn workflow_name(path: &str) -> Option<String> {
    let name = path.strip_prefix("workflows/")?.strip_suffix(".yml")?;
    (!name.contains('/')).then(|| name.to_owned())
}

/// The text of a shipped workflow, as a file of the repository.
pub(super) fn workflow_text(name: &str) -> Option<String> {
    let all = workflow::builtin();
    let source = all.iter().find(|source| workflow_name(&source.path).as_deref() == Some(name))?;
    let text = source.text.lines().filter(|line| !line.starts_with("# yaml-language-server:"));
    let text: String = text.map(|line| format!("{line}\n")).collect();
    Some(format!("# The built-in workflow `{name}`, from `codeforge init`; yours to change.\n{text}"))
}

/// The configuration.
pub(super) fn text(intent: &Intent) -> String {
    let mut text = String::from(
        "# CodeForge's configuration, from `codeforge init`; yours to change. `codeforge validate` checks it. Only what stands \
         on a\n# trusted branch counts in CI.\n",
    );
    text.push_str(&format!("trusted_branches: [{}]\n", quoted(&intent.place.branch)));
    let carried = &intent.carried;
    let model = carried.model.clone().or_else(|| intent.provider.entry());
    match model {
        Some(entry) => {
            text.push_str(&format!("\nmodels:\n  main: {entry}\n"));
            for (place, entry) in carried.fallbacks.iter().enumerate() {
                text.push_str(&format!("  fallback-{}: {entry}\n", place + 1));
            }
            let names: Vec<String> = std::iter::once("main".to_owned())
                .chain((1..=carried.fallbacks.len()).map(|place| format!("fallback-{place}")))
                .collect();
            text.push_str(&format!("scenarios: {{ default: [{}] }}\n", names.join(", ")));
        }
        None => text.push_str(
            "\n# The model is what the environment names: CODEFORGE_MODEL, CODEFORGE_LLM_BASE_URL, CODEFORGE_LLM_API_KEY.\n",
        ),
    }
    text.push_str("\nbudget: { per_run_usd: 5, per_run_tokens: 2000000 }\n");
    if intent.place.github || intent.place.gitlab {
        text.push_str("# What runs spend is kept in the CI's cache, so that limits of a day or a change (`per_day_usd`) can count it.\nstate: { store: cache }\n");
    }
    gates(intent, &mut text);
    let setup = intent.survey.setup();
    if let Some(kit) = intent.survey.kits.first() {
        text.push_str("\nsandbox:\n");
        text.push_str(&format!(
            "  # image: {}      # for sandboxes of Docker: an image that has the tools\n",
            quoted(&kit.image)
        ));
        if setup.is_empty() {
            text.push_str("  driver: auto\n");
        } else {
            text.push_str("  # Once a run, with a network; agents and gates have none.\n  setup:\n");
            for found in setup {
                text.push_str(&format!("    - {} # {}\n", quoted(&found.command), found.seen));
            }
        }
    }
    for line in &carried.config {
        text.push_str(&format!("\n{line}\n"));
    }
    text
}

fn gates(intent: &Intent, text: &mut String) {
    let (tests, lint) = (&intent.tests, &intent.lint);
    if tests.is_none() && lint.is_none() {
        text.push_str(
            "\n# Nothing says how this repository is tested. Workflows that change it need at least `tests`:\n# gates:\n#   tests: { run: \
             \"make test\", timeout: 10m, on_fail: retry }\n",
        );
        return;
    }
    if lint.is_none() {
        text.push_str("\n# The usual policy requires `lint`, too; this one requires `tests` only.\npolicy: headless-permissive-sandbox\n");
    }
    text.push_str("\ngates:\n");
    let kits = &intent.survey.kits;
    let from = |of: &dyn Fn(&crate::scout::Kit) -> Option<&crate::scout::Found>| {
        let seen: Vec<String> = kits.iter().filter_map(of).map(|found| found.seen.to_string()).collect();
        seen.join(", ")
    };
    if let Some(run) = tests {
        text.push_str(&format!("  # {}\n", from(&|kit| kit.tests.as_ref())));
        text.push_str(&format!("  tests: {{ run: {}, timeout: 15m, on_fail: retry }}\n", quoted(run)));
    }
    if let Some(run) = lint {
        text.push_str(&format!("  # {}\n", from(&|kit| kit.lint.as_ref())));
        text.push_str(&format!("  lint: {{ run: {}, timeout: 10m, on_fail: retry }}\n", quoted(run)));
    }
}
