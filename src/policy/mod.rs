//! May this tool call run? Rules, first match wins; shell text is judged on what it would execute.
//!
//! A ruling is advice: whatever it allows is harmless only because of what the sandbox lacks. It exists so that the
//! model is told early and well what it may do instead, and so that a person can read what was refused and why.

mod advice;
mod calls;
mod matching;
mod paths;
pub mod shell;
mod shell_calls;

use crate::model::policy::{Decision, Policy};
use crate::model::tool::{RuleRef, Ruling, ToolCall};

/// Proof that a policy approved a call. Only this room can make one.
#[derive(Debug, Clone)]
pub struct Approved {
    ruling: Ruling,
}

impl Approved {
    /// The ruling that approved it.
    pub fn ruling(&self) -> &Ruling {
        &self.ruling
    }

    /// Turns a ruling that asks into an approval, after a person said yes.
    ///
    /// # Errors
    /// The ruling itself, where it does not ask: nobody can approve what a rule denies.
    pub fn granted(mut ruling: Ruling, by: &str) -> Result<Self, Ruling> {
        if ruling.decision != Decision::Ask {
            return Err(ruling);
        }
        ruling.decision = Decision::Allow;
        ruling.reason = format!("{}; approved by {by}", ruling.reason);
        ruling.advice.clear();
        ruling.allow_with = None;
        Ok(Self { ruling })
    }
}

/// What a call is judged against, beside the policy.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The tools on offer in this step.
    pub offered: &'a [String],
    /// A read-only mode: writing tools are refused; `shell` runs with the workspace mounted read-only.
    pub read_only: bool,
    /// Command globs that the mode forbids.
    pub blocked_commands: &'a [String],
    /// Path globs that no agent may write: those of the configuration. The policy's own are added.
    pub protected_paths: &'a [String],
    /// Commands of the operator's own (gates): the same text, word for word, is allowed whatever the rules say.
    pub operator_commands: &'a [String],
    /// Where the workspace lies in the sandbox, as an absolute path.
    pub workspace: &'a str,
    /// Whether a person can be asked.
    pub can_ask: bool,
}

/// A command of a shell text, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedCommand {
    /// The command as it was understood.
    pub command: String,
    /// What its own first matching rule decides.
    pub decision: Decision,
    /// Which rule that is.
    pub by: RuleRef,
    /// Why.
    pub reason: String,
}

/// A ruling with everything that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The ruling on the call.
    pub ruling: Ruling,
    /// For `shell`: the commands that were found, in the order of the text. Empty where it could not be told.
    pub commands: Vec<JudgedCommand>,
}

/// Judges a call.
///
/// # Errors
/// The ruling that denies it or asks a person. Never panics, whatever the arguments are.
pub fn judge(policy: &Policy, call: &ToolCall, scope: &Scope<'_>) -> Result<Approved, Ruling> {
    let ruling = explain(policy, call, scope).ruling;
    if ruling.decision == Decision::Allow { Ok(Approved { ruling }) } else { Err(ruling) }
}

/// Judges a call and says how.
pub fn explain(policy: &Policy, call: &ToolCall, scope: &Scope<'_>) -> Explanation {
    calls::explain(policy, call, scope)
}
