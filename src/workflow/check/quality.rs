//! What `quality:` must be to itself and to its step.

use super::super::schema::codes;
use super::super::schema::document::{Node, Yaml};
use super::checker::Checker;

/// Checks the settings themselves, of a step or of a mode.
pub(super) fn settings(checker: &mut Checker<'_>, quality: Option<&Node>) {
    let Some(quality) = quality else { return };
    let voices = ["pro", "con", "moderator"].map(|side| quality.get("debate").and_then(|debate| debate.get(side)));
    let guard = quality.get("guardrail");
    for voice in voices.into_iter().chain([guard]).flatten() {
        if let (Some(_), Some(model)) = (voice.key("mode"), voice.key("model")) {
            checker.error(codes::EXCLUSIVE_KEYS, model.at, "it is either a `mode` or a `model`").help =
                Some("a mode brings its own models: its scenario names them".into());
        }
    }
    if let Some(guard) = guard.filter(|guard| matches!(guard.value, Yaml::Map(_)))
        && guard.key("mode").is_none()
        && guard.key("model").is_none()
    {
        checker.error(codes::MISSING_KEY, guard.at, "`guardrail` does not say who looks").help =
            Some("add `mode: reviewer`, or `model:` with a name of .codeforge/config.yml".into());
    }
    if let Some(sampling) = quality.get("action_sampling")
        && let Some(temperature) = sampling.get("temperature")
        && matches!(temperature.value, Yaml::Int(0) | Yaml::Float(0.0))
    {
        let message = "answers at temperature 0 are all alike: there is nothing to choose from";
        checker.error(codes::CONTRADICTORY_QUALITY, temperature.at, message).help =
            Some("leave `temperature` out, or take `action_sampling` out".into());
    }
    if let Some(best) = quality.get("best_of")
        && best.get("by").and_then(Node::text) == Some("choose")
        && let Some(score) = best.key("min_score")
    {
        checker.error(codes::CONTRADICTORY_QUALITY, score.at, "with `by: choose` there are no scores").help =
            Some("write `by: score`, or take `min_score` out".into());
    }
}

/// Checks a step's settings, and what they are to the step.
pub(super) fn of_step(checker: &mut Checker<'_>, step: &Node) {
    let Some(quality) = step.get("quality") else { return };
    settings(checker, Some(quality));
    let attempts = step.get("attempts");
    if let (Some(best), Some(attempts)) = (quality.key("best_of"), attempts)
        && matches!(attempts.value, Yaml::Int(n) if n > 1)
    {
        let message = "`best_of` makes its own attempts: the step cannot have `attempts` too";
        checker.error(codes::CONTRADICTORY_QUALITY, best.at, message).help =
            Some("take `attempts` out; `best_of: { n: 3 }` tries as often".into());
    }
    if step.get("backend").is_some_and(|backend| backend.text() != Some("native")) {
        for key in ["action_sampling", "guardrail", "debate"].iter().filter_map(|key| quality.key(key)) {
            let message = format!("`{}` works on the turns of our own agent, and the step has another one", key.text);
            checker.error(codes::CONTRADICTORY_QUALITY, key.at, message).help =
                Some("take `backend` out; `best_of` works with every agent".into());
        }
    }
}
