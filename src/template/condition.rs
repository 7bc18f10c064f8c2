//! Conditions: `if:` and `until:`.

use super::trust::values;
use super::{TemplateError, bounded, environment, explain};

/// What a condition's status functions answer from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// Whether a step that this one comes after has failed.
    pub failed: bool,
    /// Whether the run is being cancelled.
    pub cancelled: bool,
}

/// The functions that make a condition speak of the run's status.
const FUNCTIONS: [&str; 4] = ["always", "success", "failure", "cancelled"];

/// Whether the expression holds. `always()`, `success()`, `failure()` and `cancelled()` answer from `status`: success is
/// neither failed nor cancelled, failure is failed and not cancelled.
///
/// Nothing is added to the expression: where it stands for `success() and …` (see [`mentions_status`]), the caller asks
/// for success first.
///
/// # Errors
/// [`TemplateError`]: syntax, an undefined name or result, too much work.
pub fn truth(text: &str, ctx: &serde_json::Value, status: Status) -> Result<bool, TemplateError> {
    const NAME: &str = "condition";
    bounded(NAME, text)?;
    let mut env = environment();
    env.add_function("always", || true);
    env.add_function("success", move || !status.failed && !status.cancelled);
    env.add_function("failure", move || status.failed && !status.cancelled);
    env.add_function("cancelled", move || status.cancelled);
    let value = env
        .compile_expression(text)
        .and_then(|expression| expression.eval(values(ctx)))
        .map_err(|error| explain(NAME, text, &error))?;
    if value.is_undefined() {
        let message = format!("`{}` is undefined here", text.trim());
        return Err(TemplateError { name: NAME.into(), line: 1, column: Some(1), message });
    }
    Ok(value.is_true())
}

/// Whether a condition calls one of the status functions. One that does not is implicitly `success() and …`.
pub fn mentions_status(text: &str) -> bool {
    let mut before = ' ';
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '\'' || c == '"' {
            rest = after_string(rest.get(1..).unwrap_or_default(), c);
            before = c;
        } else if c.is_alphabetic() || c == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if before != '.' && FUNCTIONS.contains(&word) && after.trim_start().starts_with('(') {
                return true;
            }
            before = 'a';
            rest = after;
        } else {
            if !c.is_whitespace() {
                before = c;
            }
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    false
}

/// What follows a string literal whose opening quote is already taken.
fn after_string(text: &str, quote: char) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return text.get(at + c.len_utf8()..).unwrap_or_default(),
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_read_steps_and_status() {
        let ctx = json!({ "steps": { "review": { "output": { "approved": false }, "status": "succeeded" } }, "inputs": { "level": 3 } });
        let fine = Status::default();
        let failed = Status { failed: true, cancelled: false };
        let cancelled = Status { failed: true, cancelled: true };
        let cases = [
            ("not steps.review.output.approved", fine, true),
            ("steps.review.status == 'succeeded' and inputs.level > 2", fine, true),
            ("success()", fine, true),
            ("success()", failed, false),
            ("failure()", failed, true),
            ("failure()", cancelled, false),
            ("cancelled() or inputs.level == 7", cancelled, true),
            ("always()", cancelled, true),
            ("steps.review.output.nope is defined", fine, false),
        ];
        for (text, status, expected) in cases {
            assert_eq!(truth(text, &ctx, status), Ok(expected), "{text}");
        }
        let error = truth("steps.reveiw.output.approved", &ctx, fine).unwrap_err();
        assert!(error.message.contains("reveiw"), "{error}");
        assert!(truth("steps.review.output.nope", &ctx, fine).is_err());
        assert!(truth("steps.review ==", &ctx, fine).is_err());
        assert!(truth("range(100000) | map('string') | join('x' * 100000) == 'x'", &ctx, fine).is_err());
    }

    #[test]
    fn status_functions_are_recognised_by_their_call() {
        for text in ["always()", "failure () and x", "not(cancelled())", "x or\nsuccess()"] {
            assert!(mentions_status(text), "{text}");
        }
        for text in
            ["steps.failure", "x == 'always()'", "x.success()", "my_always()", "\"it\\\"s always()\" == x", "always"]
        {
            assert!(!mentions_status(text), "{text}");
        }
    }
}
