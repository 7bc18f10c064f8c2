//! Stall detection and termination conditions.

use crate::model::policy::Stop;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;

/// How many of the latest calls are looked at. A stall is a repetition, so a handful beyond the threshold is enough.
const RING: usize = 32;

/// A fingerprint of one call and what it gave.
pub(super) fn fingerprint(tool: &str, arguments: &str, result: &str) -> u64 {
    let mut hash = Sha256::new();
    for part in [tool, "\0", arguments, "\0", result] {
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    digest.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// Adds a fingerprint; true when it now stands in the ring `threshold` times.
pub(super) fn repeats(ring: &mut VecDeque<u64>, print: u64, threshold: u32) -> bool {
    if ring.len() == RING {
        ring.pop_front();
    }
    ring.push_back(print);
    threshold > 0 && ring.iter().filter(|seen| **seen == print).count() >= threshold as usize
}

/// What a termination condition looks at.
pub(super) struct Facts<'a> {
    pub turns: u32,
    pub cost_usd: f64,
    pub text: &'a str,
    pub elapsed_ms: u64,
    pub stalled: bool,
}

/// Whether the condition holds; if so, the part of it that does, in words.
pub(super) fn holds(stop: &Stop, facts: &Facts<'_>) -> Option<String> {
    match stop {
        Stop::MaxTurns(turns) => (facts.turns >= *turns).then(|| format!("max_steps({turns})")),
        Stop::CostAbove(usd) => (facts.cost_usd > *usd).then(|| format!("cost_above({usd})")),
        Stop::TextMentions(text) => facts.text.contains(text.as_str()).then(|| format!("text_mentions('{text}')")),
        Stop::Timeout(ms) => (facts.elapsed_ms >= *ms).then(|| format!("timeout('{}')", super::view::span(*ms))),
        Stop::Stalled => facts.stalled.then(|| "stalled()".to_owned()),
        Stop::Any(parts) => parts.iter().find_map(|part| holds(part, facts)),
        Stop::All(parts) => {
            let held: Vec<String> = parts.iter().filter_map(|part| holds(part, facts)).collect();
            (!parts.is_empty() && held.len() == parts.len()).then(|| held.join(" and "))
        }
    }
}
