//! What was typed, checked against what a workflow takes.

use crate::model::diagnostic::{Diagnostic, Place, Severity};
use crate::workflow::schema::library::nearest;
use crate::workflow::schema::{InputDoc, InputType, Loaded, Scalar, WorkflowDoc, codes};
use serde_json::Value;
use std::collections::BTreeMap;

/// The inputs with their types and defaults, and the names of those that were typed. All problems at once.
pub(super) fn check(
    workflow: &Loaded<WorkflowDoc>,
    given: &BTreeMap<String, String>,
    problems: &mut Vec<Diagnostic>,
) -> (BTreeMap<String, Value>, Vec<String>) {
    let known = &workflow.doc.inputs;
    let mut values = BTreeMap::new();
    for name in given.keys().filter(|name| !known.contains_key(*name)) {
        let mut problem = typed(format!("workflow `{}` takes no input `{name}`", workflow.name));
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        problem.help = Some(match (nearest(name, names.iter().copied()), names.is_empty()) {
            (Some(near), _) => format!("did you mean `-i {near}=…`? it takes: {}", names.join(", ")),
            (None, true) => "it takes none".into(),
            (None, false) => format!("it takes: {}", names.join(", ")),
        });
        problems.push(problem);
    }
    for (name, input) in known {
        let value = match (given.get(name), &input.default) {
            (Some(text), _) => match value_of(input, text) {
                Ok(value) => value,
                Err(message) => {
                    problems.push(typed(format!("input `{name}`: {message}")));
                    continue;
                }
            },
            (None, Some(default)) => default_value(input, default),
            (None, None) if input.required => {
                let mut problem = workflow.document.error(
                    codes::BAD_INPUT,
                    workflow.at(&["inputs", name]),
                    format!("workflow `{}` needs the input `{name}`", workflow.name),
                );
                let about = input.description.trim_end_matches('.');
                let about = if about.is_empty() { String::new() } else { format!(" ({about})") };
                problem.help = Some(format!("give it on the command line: -i {name}=\"…\"{about}"));
                problems.push(problem);
                continue;
            }
            (None, None) => Value::Null,
        };
        values.insert(name.clone(), value);
    }
    (values, given.keys().filter(|name| known.contains_key(*name)).cloned().collect())
}

/// A problem of the command line: it has no place in a file.
pub(super) fn typed(message: String) -> Diagnostic {
    Diagnostic {
        code: codes::BAD_INPUT,
        severity: Severity::Error,
        message,
        place: Place { file: "command line".into(), line: 1, column: 1, width: 1 },
        source_line: String::new(),
        label: None,
        help: None,
    }
}

fn value_of(input: &InputDoc, text: &str) -> Result<Value, String> {
    match input.kind {
        InputType::String => Ok(Value::String(text.to_owned())),
        InputType::Number => {
            let number = text.trim();
            let whole = number.parse::<i64>().ok().map(Value::from);
            let real = || number.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Value::Number);
            whole.or_else(real).ok_or_else(|| format!("`{text}` is not a number"))
        }
        InputType::Boolean => match text.trim() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(format!("`{text}` is neither true nor false")),
        },
        InputType::Choice if input.options.iter().any(|option| option == text) => Ok(Value::String(text.to_owned())),
        InputType::Choice => Err(format!("`{text}` is none of {}", input.options.join(", "))),
    }
}

fn default_value(input: &InputDoc, default: &Scalar) -> Value {
    match (input.kind, default) {
        (InputType::String | InputType::Choice, other) => Value::String(other.as_text()),
        (_, Scalar::Bool(b)) => Value::Bool(*b),
        (_, Scalar::Int(i)) => Value::from(*i),
        (_, Scalar::Float(f)) => Value::from(*f),
        (_, Scalar::Text(text)) => Value::String(text.clone()),
    }
}
