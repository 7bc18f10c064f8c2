//! Processors of a conversation, recommendation of tools, experience: what their parts must be to each other.

use super::super::schema::codes;
use super::super::schema::document::{At, Node, Yaml};
use super::checker::Checker;
use crate::model::experience::Weights;
use crate::model::history::PATTERN_BYTES;
use regex::RegexBuilder;

/// Processors that decide which turns stay: only one of them can.
const STRATEGIES: [&str; 3] = ["buffered", "token_limit", "head_and_tail"];
/// Characters that a pattern may have.
const PATTERN_CHARS: usize = 1_000;

/// The `history` of a mode or a step.
pub(super) fn history(checker: &mut Checker<'_>, node: Option<&Node>) {
    let mut seen: Vec<(String, At)> = Vec::new();
    for item in node.map(Node::items).unwrap_or_default() {
        let names: Vec<(String, At)> = match &item.value {
            Yaml::Text(word) => vec![(word.clone(), item.at)],
            Yaml::Map(entries) => entries.iter().map(|(key, _)| (key.text.clone(), key.at)).collect(),
            _ => continue,
        };
        match names.as_slice() {
            [] => {
                checker.error(codes::BAD_HISTORY, item.at, "this item names no processor").help =
                    Some("write `closed_windows`, `last_observations: 5`, `token_limit: 100000`, …".into());
            }
            [_] => {}
            [(first, _), (second, at), ..] => {
                let message = format!("`{first}` and `{second}` stand in one item, which says nothing of their order");
                checker.error(codes::BAD_HISTORY, *at, message).help =
                    Some(format!("make two items of it: `- {first}: …` and `- {second}: …`"));
            }
        }
        for (name, at) in names {
            let strategy = STRATEGIES.contains(&name.as_str());
            let twin = seen.iter().find(|(other, _)| *other == name && name != "remove");
            let rival = seen.iter().find(|(other, _)| strategy && STRATEGIES.contains(&other.as_str()));
            if let Some((_, first)) = twin {
                let line = first.line;
                let message = format!("`{name}` stands here a second time; the first is in line {line}");
                checker.error(codes::BAD_HISTORY, at, message).help = Some("keep one of them".into());
            } else if let Some((other, first)) = rival {
                let message = format!("`{name}` and `{other}` (line {}) both decide which turns stay", first.line);
                checker.error(codes::BAD_HISTORY, at, message).help = Some(format!(
                    "keep one strategy of {}; the model's window holds in any case",
                    STRATEGIES.join(", ")
                ));
            }
            seen.push((name, at));
        }
    }
}

/// A regular expression.
pub(super) fn pattern(checker: &mut Checker<'_>, node: &Node, text: &str) {
    if text.chars().count() > PATTERN_CHARS {
        let message = format!("a pattern has at most {PATTERN_CHARS} characters");
        checker.error(codes::BAD_PATTERN, node.at, message);
        return;
    }
    let built = RegexBuilder::new(text).size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES).build();
    let (message, help) = match built {
        Ok(pattern) if pattern.is_match("") => (
            "this pattern matches an empty text, so there is one between all letters".to_owned(),
            "write `+` in place of `*`",
        ),
        Ok(_) => return,
        Err(regex::Error::CompiledTooBig(_)) => (
            "this pattern becomes too large".to_owned(),
            "make its repetitions smaller: `{1,20}` in place of `{1,2000}`",
        ),
        Err(error) => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            (format!("not a regular expression: {last}"), "Rust's syntax, without look-around and back-references")
        }
    };
    checker.error(codes::BAD_PATTERN, node.at, message).help = Some(help.into());
}

/// The `tools_recommend` of a mode.
pub(super) fn recommend(checker: &mut Checker<'_>, node: Option<&Node>) {
    let number = |key: &str| match node?.get(key)?.value {
        Yaml::Int(number) => Some(number),
        _ => None,
    };
    if let (Some(above), Some(keep)) = (number("above"), number("keep"))
        && keep > above
    {
        let at = node.and_then(|node| node.get("keep")).map_or_else(At::default, |keep| keep.at);
        checker.error(codes::OUT_OF_RANGE, at, format!("`keep: {keep}` is more than `above: {above}`")).help =
            Some("fewer tools are offered than there are only where `keep` is the smaller number".into());
    }
}

/// The `experience` of the configuration.
pub(super) fn experience(checker: &mut Checker<'_>, node: Option<&Node>) {
    let Some(weights) = node.and_then(|node| node.get("weights")) else { return };
    let share = |key: &str| match weights.get(key)?.value {
        Yaml::Int(number) => Some(number as f64),
        Yaml::Float(number) => Some(number),
        _ => None,
    };
    let (Some(semantic), Some(recency), Some(importance)) = (share("semantic"), share("recency"), share("importance"))
    else {
        return;
    };
    let given = Weights { semantic, recency, importance };
    if !given.are_shares() {
        let sum = (given.sum() * 1e6).round() / 1e6;
        let at = node.and_then(|node| node.key("weights")).map_or(weights.at, |key| key.at);
        checker.error(codes::BAD_WEIGHTS, at, format!("the weights come to {sum}")).help =
            Some("they are shares and come to 1: `{ semantic: 0.5, recency: 0.3, importance: 0.2 }`".into());
    }
}
