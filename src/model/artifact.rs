//! What a job without the right to write hands to one that has it: the artifact, and the gate's word about it.
//!
//! An artifact carries bytes; it decides nothing. What it says of workflow, policy, kind, gates and branch ([`Claims`])
//! is there to be compared with what the writing job finds out by itself, so that a forged one is noticed. What may
//! pass is said by a [`Word`], which travels through the pipeline and never in the artifact.

use super::account::{Account, Ending};
use super::finding::Finding;
use super::id::{RunId, short_hash};
use super::journal::Verdict;
use super::patch::{Patch, PatchError};
use super::plan::{DeliverKind, DeliverWhen};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// The version that is written and read.
pub const VERSION: u32 = 1;
/// Most bytes of an artifact's file.
pub const LARGEST: usize = 32 * 1024 * 1024;
/// Most bytes of a run's values for templates, and of its account.
const LARGEST_VALUES: usize = 4 * 1024 * 1024;
/// Most findings of a run, and most bytes of all of them.
const MOST_FINDINGS: usize = 2000;
const LARGEST_FINDINGS: usize = 2 * 1024 * 1024;
/// Most bytes of a comment.
const LARGEST_COMMENT: usize = 64 * 1024;
/// Most runs in one artifact.
const MOST_RUNS: usize = 32;
/// Longest name, in bytes.
const LONGEST_NAME: usize = 256;

/// An artifact: all runs of one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// [`VERSION`].
    pub codeforge_artifact: u32,
    /// The program that wrote it.
    pub version: String,
    /// The runs.
    pub runs: Vec<Part>,
}

/// One run in an artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The run.
    pub run: RunId,
    /// What it says of its plan.
    pub claims: Claims,
    /// The commit that it worked on.
    pub commit: String,
    /// The triggering change's head commit, where there is one.
    pub head: Option<String>,
    /// When it began, milliseconds since 1970: the commit's time.
    pub started_ms: i64,
    /// How it ended.
    pub ending: Ending,
    /// Why, in words.
    pub reason: String,
    /// The change ([`Patch::encode`]) in base 64; `None`: nothing is to be handed over.
    pub patch: Option<String>,
    /// SHA-256 of the change's bytes (of no bytes, where there is none), 64 hex digits: against accidents. What counts
    /// is what the gate's word says.
    pub patch_sha256: String,
    /// The inputs that the operator gave, for a delivery by hand. In CI they come from the event again.
    pub inputs: BTreeMap<String, Value>,
    /// What templates see as `steps`.
    pub steps: Value,
    /// What was found.
    pub findings: Vec<Finding>,
    /// The text of a comment or review.
    pub comment: Option<String>,
    /// For reports.
    pub account: Box<Account>,
}

/// What a run's plan was, as far as a delivery depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// `owner/name`.
    pub repository: Option<String>,
    /// What happened: kind, action, and the numbers of what it is about.
    pub event: String,
    /// The workflow.
    pub workflow: String,
    /// Hash of its text.
    pub workflow_hash: String,
    /// Hash of its inputs.
    pub inputs_hash: String,
    /// The policy.
    pub policy: String,
    /// Hash of the policy with the protected paths.
    pub policy_hash: String,
    /// The form of the delivery.
    pub kind: DeliverKind,
    /// When it is made.
    pub when: DeliverWhen,
    /// The required gates, with the hashes of their definitions.
    pub gates: BTreeMap<String, String>,
    /// The branch; `None`: nothing is to be handed over.
    pub branch: Option<String>,
}

impl Claims {
    /// Whether its names are short and hold nothing that is not shown.
    fn are_names(&self) -> bool {
        let names = [&self.event, &self.workflow, &self.policy];
        let more = [self.repository.as_ref(), self.branch.as_ref()];
        let mut names = names.into_iter().chain(more.into_iter().flatten()).chain(self.gates.keys());
        names.all(|name| name.len() <= LONGEST_NAME && !name.chars().any(char::is_control))
    }

    /// What differs from `own`, which the caller has found out by itself, in words; empty: nothing.
    pub fn against(&self, own: &Self) -> Vec<String> {
        let mut told = Vec::new();
        let mut differ = |what: &str, theirs: String, ours: String| {
            if theirs != ours {
                told.push(format!("its {what} is {theirs}, and should be {ours}"));
            }
        };
        let quoted = |text: &str| format!("`{}`", text.escape_debug());
        let maybe = |text: &Option<String>| text.as_deref().map_or_else(|| "none".to_owned(), quoted);
        differ("repository", maybe(&self.repository), maybe(&own.repository));
        differ("event", quoted(&self.event), quoted(&own.event));
        differ("workflow", quoted(&self.workflow), quoted(&own.workflow));
        differ("delivery", quoted(&word(&self.kind)), quoted(&word(&own.kind)));
        differ("delivery's condition", quoted(&word(&self.when)), quoted(&word(&own.when)));
        differ("policy", quoted(&self.policy), quoted(&own.policy));
        differ("branch", maybe(&self.branch), maybe(&own.branch));
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        let hash = |hash: &str| quoted(&short(hash));
        differ("workflow's text (by hash)", hash(&self.workflow_hash), hash(&own.workflow_hash));
        differ("inputs (by hash)", hash(&self.inputs_hash), hash(&own.inputs_hash));
        differ("policy's text (by hash)", hash(&self.policy_hash), hash(&own.policy_hash));
        let gates = |gates: &BTreeMap<String, String>| {
            let named = gates.iter().map(|(name, hash)| format!("{name}:{}", short(hash)));
            quoted(&named.collect::<Vec<_>>().join(" "))
        };
        differ("list of required gates", gates(&self.gates), gates(&own.gates));
        told
    }
}

/// A unit variant as its JSON says it.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A run out of an artifact whose parts have been looked at: sizes, names, and that the change is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// As it stands there.
    pub part: Part,
    /// The change's bytes; empty where there is none.
    pub bytes: Vec<u8>,
    /// The change.
    pub patch: Option<Patch>,
}

impl Taken {
    /// SHA-256 of the change's bytes, 64 hex digits.
    pub fn hash(&self) -> String {
        short_hash(&self.bytes, 64)
    }
}

/// Why an artifact is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    /// It is not what this version writes: cut, too large, edited, of another version.
    #[error("{0}")]
    Malformed(String),
    /// It holds something that is never delivered.
    #[error("{0}")]
    Refused(String),
}

impl Artifact {
    /// An artifact of these runs.
    pub fn new(runs: Vec<Part>) -> Self {
        Self { codeforge_artifact: VERSION, version: env!("CARGO_PKG_VERSION").to_owned(), runs }
    }

    /// As a file's text.
    ///
    /// # Errors
    /// Where it is larger than [`Artifact::read`] takes, or not read the same again: says which part.
    pub fn write(&self) -> Result<String, ArtifactError> {
        let text = serde_json::to_string(self).map_err(|error| ArtifactError::Malformed(error.to_string()))?;
        Self::read(text.as_bytes())?;
        Ok(text)
    }

    /// Reads a file, strictly: what this version does not know is an error.
    ///
    /// # Errors
    /// [`ArtifactError`].
    pub fn read(bytes: &[u8]) -> Result<Vec<Taken>, ArtifactError> {
        if bytes.len() > LARGEST {
            let most = LARGEST >> 20;
            return malformed(format!("it is larger than the {most} MiB of an artifact"));
        }
        #[derive(Deserialize)]
        struct Head {
            codeforge_artifact: u32,
        }
        match serde_json::from_slice::<Head>(bytes) {
            Ok(Head { codeforge_artifact: VERSION }) => {}
            Ok(Head { codeforge_artifact: other }) => {
                return malformed(format!(
                    "it is of version {other}, and this program reads version {VERSION}; use one version in all jobs"
                ));
            }
            Err(error) if error.is_eof() => return malformed("it is cut off"),
            Err(error) => return malformed(format!("it is not an artifact of codeforge: {error}")),
        }
        let artifact: Self =
            serde_json::from_slice(bytes).map_err(|error| ArtifactError::Malformed(error.to_string()))?;
        if artifact.runs.len() > MOST_RUNS {
            return malformed(format!("it holds more than {MOST_RUNS} runs"));
        }
        let mut taken: Vec<Taken> = Vec::new();
        for part in artifact.runs {
            if taken
                .iter()
                .any(|other| other.part.run == part.run || other.part.claims.workflow == part.claims.workflow)
            {
                return malformed("it holds a run or a workflow twice");
            }
            taken.push(part.take()?);
        }
        Ok(taken)
    }
}

fn malformed<T>(why: impl Into<String>) -> Result<T, ArtifactError> {
    Err(ArtifactError::Malformed(why.into()))
}

impl Part {
    fn take(self) -> Result<Taken, ArtifactError> {
        let id = self.run.as_str();
        if id.is_empty() || id.len() > 64 || !id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        {
            return malformed("a run's id is not one");
        }
        if !is_object(&self.commit) || self.head.as_ref().is_some_and(|head| !is_object(head)) {
            return malformed("a commit's id is not one");
        }
        if !self.claims.are_names() {
            return malformed("a name in it is too long, or not one");
        }
        if size(&self.steps) + size(&self.inputs) > LARGEST_VALUES || size(&self.account) > LARGEST_VALUES {
            return malformed(format!("the values or the account of run {id} are too large"));
        }
        if self.findings.len() > MOST_FINDINGS || size(&self.findings) > LARGEST_FINDINGS {
            return malformed(format!("run {id} has more findings than an artifact may hold"));
        }
        if self.comment.as_ref().is_some_and(|comment| comment.len() > LARGEST_COMMENT) {
            return malformed(format!("the comment of run {id} is too long"));
        }
        let bytes = match &self.patch {
            None => Vec::new(),
            Some(text) => match STANDARD.decode(text) {
                Ok(bytes) => bytes,
                Err(error) => return malformed(format!("the change of run {id} is not base 64: {error}")),
            },
        };
        if short_hash(&bytes, 64) != self.patch_sha256 {
            return malformed(format!("the change of run {id} is not the one that its hash names"));
        }
        let patch = match &self.patch {
            None => None,
            Some(_) => Some(Patch::decode(&bytes).map_err(|error| match error {
                PatchError::Malformed(why) => ArtifactError::Malformed(format!("the change of run {id}: {why}")),
                PatchError::Refused(why) => ArtifactError::Refused(format!("the change of run {id}: {why}")),
            })?),
        };
        Ok(Taken { part: self, bytes, patch })
    }

    /// The fields `patch` and `patch_sha256` of a change's bytes.
    pub fn packed(bytes: Option<&[u8]>) -> (Option<String>, String) {
        (bytes.map(|bytes| STANDARD.encode(bytes)), short_hash(bytes.unwrap_or_default(), 64))
    }
}

/// The length of a value's JSON.
fn size(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX / 4, |text| text.len())
}

fn is_object(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What a gate's job says of one change: `sha256:<hex> tests=pass:<definition's hash> …`, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// SHA-256 of the change's bytes, 64 hex digits.
    pub patch: String,
    /// The gates that were run: what each said, and the hash of its definition.
    pub gates: BTreeMap<String, (Verdict, String)>,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.patch)?;
        for (name, (verdict, hash)) in &self.gates {
            write!(f, " {name}={}:{hash}", verdict_word(*verdict))?;
        }
        Ok(())
    }
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Error => "error",
    }
}

impl Word {
    /// Reads the words about an artifact's runs: one each, `;` between them.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Vec<Self>, String> {
        text.split(';').map(str::trim).filter(|word| !word.is_empty()).map(Self::read_one).collect()
    }

    /// Several in one line, as [`Word::read`] takes them.
    pub fn line(words: &[Self]) -> String {
        words.iter().map(Self::to_string).collect::<Vec<_>>().join("; ")
    }

    fn read_one(text: &str) -> Result<Self, String> {
        let wrong =
            |what: &str| format!("the gate's word is not one: {what}; it is the output `gate-word` of the gate's job");
        if text.len() > 64 * 1024 || text.chars().any(char::is_control) {
            return Err(wrong("it is too long, or not one line"));
        }
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let patch = words.next().and_then(|word| word.strip_prefix("sha256:")).unwrap_or_default();
        if patch.len() != 64 || !patch.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong("it does not begin with `sha256:` and a hash"));
        }
        let mut gates = BTreeMap::new();
        for word in words {
            let parts = word.split_once('=').and_then(|(name, rest)| Some((name, rest.split_once(':')?)));
            let Some((name, (verdict, hash))) = parts else {
                return Err(wrong("a gate in it is not `NAME=VERDICT:HASH`"));
            };
            let verdict = match verdict {
                "pass" => Verdict::Pass,
                "fail" => Verdict::Fail,
                "error" => Verdict::Error,
                _ => return Err(wrong("a verdict in it is none of pass, fail, error")),
            };
            if name.is_empty() || hash.is_empty() || gates.insert(name.to_owned(), (verdict, hash.to_owned())).is_some()
            {
                return Err(wrong("a gate in it has no name, no hash, or stands there twice"));
            }
        }
        Ok(Self { patch: patch.to_owned(), gates })
    }
}

#[cfg(test)]
mod tests;
