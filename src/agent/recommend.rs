//! Which tools are offered where there are many: those whose descriptions fit the task best.

use super::bm25::bm25;
use crate::model::chat::Turn;
use crate::model::plan::AgentSpec;
use crate::model::tool::ToolSpec;
use serde_json::Value;

/// What a step is offered.
pub(super) struct Offer {
    /// The tools, in their usual order.
    pub offered: Vec<ToolSpec>,
    /// What the system prompt says of the others; empty where there are none. It stays the same for the whole attempt.
    pub note: String,
}

/// The tools to offer for `task`, as `spec.recommend` says: the best, `finish`, those that are always offered, and those
/// that were called in `turns` although they were not. It depends on nothing that changes within an attempt but those
/// calls, so the provider's cache holds until one is made.
pub(super) fn offer(spec: &AgentSpec, task: &str, all: Vec<ToolSpec>, turns: &[Turn]) -> Offer {
    let Some(recommend) = spec.recommend.as_ref().filter(|it| all.len() > it.above) else {
        return Offer { offered: all, note: String::new() };
    };
    let best = best(task, &all, recommend.keep, &recommend.always);
    let others: Vec<String> = all.iter().map(|tool| tool.name.clone()).filter(|name| !best.contains(name)).collect();
    let note = match others.as_slice() {
        [] => String::new(),
        names => format!(
            "\n\nThere are more tools than are described to you. Where you need one of these, call it by its name; from \
             then on it is described: {}.",
            names.join(", ")
        ),
    };
    let called = |name: &str| turns.iter().flat_map(|turn| &turn.answer.raw_calls).any(|call| call.name == name);
    let offered = all.into_iter().filter(|tool| best.contains(&tool.name) || called(&tool.name)).collect();
    Offer { offered, note }
}

/// The names of the `keep` tools that fit the task best, with `finish` and `always` on top. Of equals the earlier one
/// comes first.
pub fn best(task: &str, tools: &[ToolSpec], keep: usize, always: &[String]) -> Vec<String> {
    let (fixed, free): (Vec<&ToolSpec>, Vec<&ToolSpec>) =
        tools.iter().partition(|tool| tool.name == "finish" || always.contains(&tool.name));
    let texts: Vec<String> = free.iter().map(|tool| text(tool)).collect();
    let scores = bm25(task, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    let mut ranked: Vec<(f64, &ToolSpec)> = scores.into_iter().zip(free).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    fixed.into_iter().chain(ranked.into_iter().take(keep).map(|(_, tool)| tool)).map(|tool| tool.name.clone()).collect()
}

/// What a tool says of itself: name, description, and its arguments with theirs.
fn text(tool: &ToolSpec) -> String {
    let mut text = format!("{} {}", tool.name, tool.description);
    let arguments = tool.parameters.get("properties").and_then(Value::as_object);
    for (name, schema) in arguments.into_iter().flatten() {
        text.push(' ');
        text.push_str(name);
        if let Some(description) = schema.get("description").and_then(Value::as_str) {
            text.push(' ');
            text.push_str(description);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Two hundred tools, as servers offer them: forty systems with five verbs each, and our own `finish`.
    fn many() -> Vec<ToolSpec> {
        let systems = "jira github gitlab slack postgres redis kubernetes terraform grafana sentry stripe figma notion \
                       confluence pagerduty datadog snowflake bigquery kafka rabbitmq elastic mongo airflow jenkins \
                       argo vault consul nginx cloudflare route53 s3 lambda sqs dynamo okta auth0 twilio sendgrid \
                       zendesk salesforce";
        let verbs = [
            ("list", "List"),
            ("get", "Show one"),
            ("create", "Create a"),
            ("update", "Change a"),
            ("delete", "Remove a"),
        ];
        let tool = |name: String, description: String| ToolSpec {
            name,
            description,
            parameters: json!({ "type": "object", "properties": { "id": { "description": "Its identifier" } } }),
        };
        let mut all: Vec<ToolSpec> = systems
            .split_whitespace()
            .flat_map(|system| {
                verbs.iter().map(move |(verb, words)| {
                    tool(format!("{system}_{verb}"), format!("{words} record of {system} by its identifier."))
                })
            })
            .collect();
        all.push(tool("finish".into(), "End your work.".into()));
        all
    }

    #[test]
    fn the_tools_that_the_task_speaks_of_are_offered_and_always_the_same() {
        let all = many();
        assert_eq!(all.len(), 201);
        let task = "A pod restarts in Kubernetes. Look it up there and in Grafana, then create an issue in Jira.";
        let first = best(task, &all, 12, &["slack_get".into()]);
        assert_eq!(first.len(), 14, "twelve, finish, and one that is always there: {first:?}");
        for system in ["kubernetes", "grafana", "jira"] {
            assert!(first.iter().filter(|name| name.starts_with(system)).count() >= 3, "{system}: {first:?}");
        }
        assert!(first.contains(&"jira_create".into()) && first.contains(&"finish".into()));
        assert!(first.contains(&"slack_get".into()) && !first.contains(&"stripe_list".into()));
        assert_eq!(first, best(task, &all, 12, &["slack_get".into()]));
        let none = best("", &all, 3, &[]);
        assert_eq!(none, ["finish", "jira_list", "jira_get", "jira_create"], "of equals the earlier ones");
    }
}
