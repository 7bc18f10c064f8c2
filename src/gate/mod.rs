//! Check results → verdict.
//!
//! What a verdict does (keep, roll back, retry) is the run's business, since it depends on attempts; what a check's
//! end *means* is decided here.

mod hidden;
mod weakened;

pub use hidden::{Hidden, hidden};
pub use weakened::{Weakened, Weakness, weakened};

use crate::model::exec::{ExecOutcome, ExecStatus};
use crate::model::id::TreeId;
use crate::model::journal::{GateResult, Verdict};
use crate::model::plan::Gate;

/// How much of a gate's output is kept, in bytes: its end, where test runners put their summary.
const KEPT: usize = 16 * 1024;

/// One run of a gate's command.
pub struct Check<'a> {
    /// `the base's own tests`, or empty for the candidate's.
    pub what: &'a str,
    /// How it ended, or why it could not be run.
    pub outcome: Result<ExecOutcome, String>,
}

/// The result of a gate from its checks, all of which must pass. Anything but a clean exit is no pass: a command that
/// could not be run, ran out of time or memory is an error, whatever the code.
pub fn result(gate: &Gate, tree: &TreeId, checks: &[Check<'_>]) -> GateResult {
    let mut verdict = if checks.is_empty() { Verdict::Error } else { Verdict::Pass };
    let mut detail = if checks.is_empty() { "nothing was run".to_owned() } else { "exit code 0".to_owned() };
    let mut output = String::new();
    let mut duration_ms = 0;
    for check in checks {
        let (this, words) = match &check.outcome {
            Ok(outcome) => {
                duration_ms += outcome.duration_ms;
                output.push_str(&outcome.output);
                (verdict_of(outcome), outcome.describe())
            }
            Err(message) => {
                output.push_str(message);
                (Verdict::Error, "it could not be run".to_owned())
            }
        };
        if this != Verdict::Pass && verdict == Verdict::Pass {
            verdict = this;
            detail = if check.what.is_empty() { words } else { format!("{words}, with {}", check.what) };
        }
    }
    GateResult {
        gate: gate.name.clone(),
        gate_hash: gate.hash.clone(),
        tree: tree.clone(),
        verdict,
        detail,
        output: end_of(&output),
        duration_ms,
    }
}

fn verdict_of(outcome: &ExecOutcome) -> Verdict {
    match outcome.status {
        ExecStatus::Exited(0) => Verdict::Pass,
        // 126 and 127: the shell could not run the command at all.
        ExecStatus::Exited(126 | 127) => Verdict::Error,
        ExecStatus::Exited(_) => Verdict::Fail,
        ExecStatus::Signaled(_) | ExecStatus::TimedOut | ExecStatus::OutOfMemory | ExecStatus::TooManyProcesses => {
            Verdict::Error
        }
    }
}

fn end_of(output: &str) -> String {
    if output.len() <= KEPT {
        return output.to_owned();
    }
    let mut from = output.len() - KEPT;
    while !output.is_char_boundary(from) {
        from += 1;
    }
    format!("… {from} bytes before this are left out …\n{}", &output[from..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::plan::OnGateFail;

    fn gate() -> Gate {
        Gate {
            name: "tests".into(),
            command: "make test".into(),
            timeout_ms: 1,
            on_fail: OnGateFail::Retry,
            from_base: true,
            paths: vec![],
            hash: "h".into(),
        }
    }

    fn ended(status: ExecStatus) -> Result<ExecOutcome, String> {
        Ok(ExecOutcome { status, output: "out".into(), dropped: 0, duration_ms: 2 })
    }

    fn verdict(ends: Vec<Result<ExecOutcome, String>>) -> Verdict {
        let checks: Vec<Check<'_>> = ends.into_iter().map(|outcome| Check { what: "", outcome }).collect();
        result(&gate(), &"t".into(), &checks).verdict
    }

    #[test]
    fn only_a_clean_exit_of_every_check_passes() {
        use ExecStatus::*;
        assert_eq!(verdict(vec![ended(Exited(0)), ended(Exited(0))]), Verdict::Pass);
        assert_eq!(verdict(vec![ended(Exited(0)), ended(Exited(1))]), Verdict::Fail);
        assert_eq!(verdict(vec![]), Verdict::Error);
        for status in [Exited(127), Signaled(9), TimedOut, OutOfMemory, TooManyProcesses] {
            assert_eq!(verdict(vec![ended(status)]), Verdict::Error, "{status:?}");
        }
        assert_eq!(verdict(vec![Err("no sandbox".into())]), Verdict::Error);
    }

    #[test]
    fn the_end_of_a_long_output_is_kept_on_a_character_boundary() {
        let long = "ä".repeat(KEPT);
        let kept = end_of(&long);
        assert!(kept.ends_with('ä') && kept.len() < KEPT + 100);
    }
}
