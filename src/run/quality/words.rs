//! What the engine tells an agent of its guard. The guard's words are data: they are fenced.

use crate::text::{cap, fence};

/// Bytes of a guard's words that the agent is shown.
const GUARD_BYTES: usize = 8 * 1024;

/// After a conclusion that the guard rejects.
pub(super) fn rejected_conclusion(feedback: &str) -> String {
    format!(
        "Your conclusion is not accepted yet. Another model has looked at the task, your closing words and your changes. \
         What it found wrong:\n{}\nWhat you have done so far is kept. Look into each point: mend what is true of it, then \
         conclude again, and say why where you disagree.",
        shown(feedback)
    )
}

/// After a turn that the guard rejects.
pub(super) fn rejected_turn(feedback: &str) -> String {
    format!(
        "None of your last calls was carried out: another model has looked at them and rejects them. Its reasons:\n{}\n\
         Take another step.",
        shown(feedback)
    )
}

fn shown(feedback: &str) -> String {
    let feedback = feedback.trim();
    if feedback.is_empty() { "(it gave no reason)".to_owned() } else { fence(&cap(feedback, GUARD_BYTES)) }
}
