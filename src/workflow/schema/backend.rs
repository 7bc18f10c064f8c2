//! Backends as written: other agents, and plain programs.

use super::kinds::{BackendFile, BackendText, Glob, Name, OneOrMany, Span};
use crate::model::backend::{BackendSpec, Capabilities, Dialect, Pick, Stream};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A backend: a program that does a step's work in the sandbox, in place of the agent that is built in.
///
/// Placeholders within texts: `{prompt}` (what it is asked), `{prompt_file}` (a file that holds that), `{model}`,
/// `{base_url}` (the gateway, without `/v1`), `{api_key}` (a token for this step only), `{home}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "CodeForge backend")]
pub struct BackendDoc {
    /// The backend's name; the file's name without its ending.
    pub name: Name,
    /// What it is.
    #[serde(default)]
    pub description: String,
    /// The program and its arguments. Not needed where the step gives the command.
    #[serde(default)]
    pub command: Vec<BackendText>,
    /// Its variables.
    #[serde(default)]
    pub env: BTreeMap<String, BackendText>,
    /// The protocol in which it asks for models; `none`: it asks for none.
    pub dialect: Dialect,
    /// Programs that have to be on the `PATH`. Default: the command's first word.
    #[serde(default)]
    pub programs: Option<Vec<String>>,
    /// Folders of the host that it needs, shown read-only at their own place; `~/` is your home folder. What the
    /// programs stand on is found without this.
    #[serde(default)]
    pub show: OneOrMany<String>,
    /// How to install it, said where it is missing.
    #[serde(default)]
    pub install: String,
    /// How its output is read. Default: text.
    #[serde(default)]
    pub stream: Option<StreamDoc>,
    /// What it can do.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// Files in its home folder before it starts: path beneath the home → text. In `.json`, `.toml` and `.yml` files
    /// values are escaped for a text in double quotes.
    #[serde(default)]
    pub files: IndexMap<String, BackendFile>,
    /// Globs of what it leaves in the workspace for itself: new files of such names are removed when it has ended.
    #[serde(default)]
    pub leaves: OneOrMany<Glob>,
    /// Wall time of one attempt.
    #[serde(default)]
    pub timeout: Option<Span>,
}

/// How a program's output is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum StreamDoc {
    /// As text.
    Word(StreamWord),
    /// As a JSON value a line.
    Lines(Box<LinesDoc>),
}

/// Plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum StreamWord {
    /// Plain text; its last lines are its closing words.
    Text,
}

/// One JSON value a line.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinesDoc {
    /// Where it says something on the way.
    pub jsonl: OneOrMany<PickDoc>,
    /// Where its closing words stand. Default: the last of `jsonl`.
    #[serde(default)]
    pub last: OneOrMany<PickDoc>,
    /// Where it says that it failed.
    #[serde(default)]
    pub error: OneOrMany<PickDoc>,
    /// Where it reports what it used.
    #[serde(default)]
    pub usage: OneOrMany<PickDoc>,
    /// Where it names its session.
    #[serde(default)]
    pub session: OneOrMany<PickDoc>,
}

/// A place in a line: a JSON Pointer, or one with conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum PickDoc {
    /// A JSON Pointer.
    At(String),
    /// A JSON Pointer that counts only under conditions.
    When(WhenDoc),
}

/// A JSON Pointer that counts only under conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhenDoc {
    /// The JSON Pointer.
    pub at: String,
    /// Pointers and the values that they have to lead to.
    pub when: BTreeMap<String, Value>,
}

fn picks(docs: &OneOrMany<PickDoc>) -> Vec<Pick> {
    let pick = |doc: &PickDoc| match doc {
        PickDoc::At(at) => Pick { at: at.clone(), when: BTreeMap::new() },
        PickDoc::When(doc) => Pick { at: doc.at.clone(), when: doc.when.clone() },
    };
    docs.as_slice().iter().map(pick).collect()
}

impl BackendDoc {
    /// As it is run; `own`: the step's command, which stands as written.
    pub fn to_spec(&self, own: Option<Vec<String>>) -> BackendSpec {
        let literal = own.is_some();
        let argv = own.unwrap_or_else(|| self.command.iter().map(|word| word.0.clone()).collect());
        let programs = match &self.programs {
            Some(programs) => programs.clone(),
            None if literal => Vec::new(),
            // A program of the repository's own is there, or says itself that it is not.
            None => argv
                .first()
                .filter(|first| !first.contains('/') || first.starts_with('/'))
                .cloned()
                .into_iter()
                .collect(),
        };
        let stream = match &self.stream {
            None | Some(StreamDoc::Word(StreamWord::Text)) => Stream::default(),
            Some(StreamDoc::Lines(lines)) => Stream {
                jsonl: true,
                text: picks(&lines.jsonl),
                last: picks(&lines.last),
                error: picks(&lines.error),
                usage: picks(&lines.usage),
                session: picks(&lines.session),
            },
        };
        let texts = |map: &BTreeMap<String, BackendText>| map.iter().map(|(k, v)| (k.clone(), v.0.clone())).collect();
        BackendSpec {
            name: self.name.0.clone(),
            argv,
            literal,
            env: texts(&self.env),
            files: self.files.iter().map(|(path, text)| (path.clone(), text.0.clone())).collect(),
            dialect: self.dialect,
            programs,
            show: self.show.as_slice().to_vec(),
            install: self.install.clone(),
            leaves: self.leaves.as_slice().iter().map(|glob| glob.0.clone()).collect(),
            stream,
            capabilities: self.capabilities,
        }
    }
}
