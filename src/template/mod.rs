//! Rendering of prompts, bodies and expressions: strict and bounded.
//!
//! * [`render`] is for titles, branches and bodies: values are printed as they are.
//! * [`prompt`] is for what a model reads: every interpolated text is fenced as untrusted data, unless [`Trust`] names it.
//! * [`truth`] decides `if:` and `until:`.
//!
//! An undefined name is an error with its position. There is no loader: nothing can be included. Work is paid for with
//! fuel (an instruction costs one, and so do 64 bytes of text that are made or read), the result may have at most
//! [`MAX_OUTPUT`] bytes. A value is never read as a template: `{{ 7 * 7 }}` in a title stays text.

mod condition;
mod trust;

pub use condition::{Status, mentions_status, truth};
pub use trust::{SYSTEM_TRUST, Trust, prompt};

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

/// The longest template, in bytes.
pub const MAX_TEMPLATE: usize = 256 * 1024;
/// The longest result, in bytes.
pub const MAX_OUTPUT: usize = 1024 * 1024;
/// Fuel of one rendering: enough for some 20 MB of text that passes through filters, or 300,000 instructions.
const FUEL: u64 = 300_000;

/// Why a template or an expression cannot be used. Always the author's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}:{line}{}: {message}", column.map(|column| format!(":{column}")).unwrap_or_default())]
pub struct TemplateError {
    /// The template's name, as given by the caller.
    pub name: String,
    /// Line in the template, from 1.
    pub line: usize,
    /// Column in that line, in characters from 1, where it is known.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
}

/// Renders a template whose values are printed as they are: titles, branches, bodies.
///
/// # Errors
/// [`TemplateError`]: syntax, an undefined name, too much work, a result past [`MAX_OUTPUT`].
pub fn render(name: &str, text: &str, ctx: &serde_json::Value) -> Result<String, TemplateError> {
    let mut env = environment();
    env.set_formatter(|out, _, value| print(out, value));
    run(&env, name, text, trust::values(ctx))
}

/// Whether `text` is a template at all: its syntax, not its names.
///
/// # Errors
/// [`TemplateError`] with the position.
pub fn check(text: &str) -> Result<(), TemplateError> {
    bounded("template", text)?;
    environment()
        .template_from_named_str("template", text)
        .map(|_| ())
        .map_err(|error| explain("template", text, &error))
}

/// Whether `text` is an expression, as in `if:` and `until:`: its syntax, not its names.
///
/// # Errors
/// [`TemplateError`] with the position.
pub fn check_expression(text: &str) -> Result<(), TemplateError> {
    bounded("expression", text)?;
    environment().compile_expression(text).map(|_| ()).map_err(|error| explain("expression", text, &error))
}

/// The environment that all renderings share.
fn environment<'source>() -> Environment<'source> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(64);
    env.set_debug(true);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    // What declares text to be safe, or escapes it for HTML, has no meaning here.
    for filter in ["safe", "escape", "e"] {
        env.remove_filter(filter);
    }
    // `debug()` prints the whole context.
    env.remove_global("debug");
    env.add_filter("tojson", tojson);
    env
}

/// JSON, indented by two spaces under `tojson(indent=true)`. Trusted only if all of the value is.
fn tojson(value: &Value, kwargs: Kwargs) -> Result<Value, Error> {
    let indent = kwargs.get::<Option<bool>>("indent")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let json = if indent { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    let json = json.map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    if json.len() > MAX_OUTPUT {
        return Err(too_long());
    }
    Ok(if trust::is_trusted(value) { Value::from_safe_string(json) } else { Value::from(json) })
}

/// What a value looks like as text: strings as they are, all else as JSON.
fn text_of(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    if value.as_object().is_some() {
        return serde_json::to_string(value)
            .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()));
    }
    Ok(match value.kind() {
        // minijinja would write `True` and `None`, as Python does.
        ValueKind::Bool => {
            if value.is_true() {
                "true".to_owned()
            } else {
                "false".to_owned()
            }
        }
        ValueKind::None => "null".to_owned(),
        _ => value.to_string(),
    })
}

fn print(out: &mut Output, value: &Value) -> Result<(), Error> {
    out.write_str(&text_of(value)?).map_err(Error::from)
}

fn too_long() -> Error {
    Error::new(ErrorKind::WriteFailure, format!("the result is longer than {MAX_OUTPUT} bytes"))
}

/// Renders into a bounded buffer.
fn run(env: &Environment<'_>, name: &str, text: &str, ctx: Value) -> Result<String, TemplateError> {
    bounded(name, text)?;
    let mut out = Bounded { bytes: Vec::new(), overflow: false };
    let result = env
        .template_from_named_str(name, text)
        .and_then(|template| template.render_captured_to(ctx, &mut out).map(|_| ()));
    if out.overflow {
        return Err(TemplateError { name: name.into(), line: 1, column: None, message: too_long_message() });
    }
    result.map_err(|error| explain(name, text, &error))?;
    Ok(String::from_utf8_lossy(&out.bytes).into_owned())
}

fn too_long_message() -> String {
    format!("the result is longer than {MAX_OUTPUT} bytes; shorten what is interpolated")
}

fn bounded(name: &str, text: &str) -> Result<(), TemplateError> {
    if text.len() <= MAX_TEMPLATE {
        return Ok(());
    }
    let message = format!("the template has {} bytes; {MAX_TEMPLATE} are allowed", text.len());
    Err(TemplateError { name: name.into(), line: 1, column: None, message })
}

struct Bounded {
    bytes: Vec<u8>,
    overflow: bool,
}

impl std::io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + more.len() > MAX_OUTPUT {
            self.overflow = true;
            return Err(std::io::Error::other("too long"));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// minijinja's error in our words, with its place in `text`.
fn explain(name: &str, text: &str, error: &Error) -> TemplateError {
    // The innermost cause knows best where it happened.
    let mut place = (error.line(), error.range());
    let mut message = match error.kind() {
        ErrorKind::OutOfFuel => "rendering takes too much work (loops, or very long values)".to_owned(),
        ErrorKind::UndefinedError => undefined(text, error),
        ErrorKind::TemplateNotFound => "templates cannot include or extend others".to_owned(),
        kind => error.detail().map_or_else(|| kind.to_string(), str::to_owned),
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(inner) = cause.downcast_ref::<Error>() {
            if inner.line().is_some() {
                place = (inner.line(), inner.range().or(place.1));
            }
            if let Some(detail) = inner.detail() {
                message = format!("{message}: {detail}");
            }
        }
        source = cause.source();
    }
    let column = place.1.and_then(|range| {
        let before = text.get(..range.start)?;
        Some(before.chars().rev().take_while(|c| *c != '\n').count() + 1)
    });
    TemplateError { name: name.into(), line: place.0.unwrap_or(1).max(1), column, message }
}

/// Names the undefined value, from the source range or from what minijinja says.
fn undefined(text: &str, error: &Error) -> String {
    let source = error.range().and_then(|range| text.get(range)).map(str::trim).filter(|source| !source.is_empty());
    match (error.detail(), source) {
        (Some(detail), _) if !detail.is_empty() => format!("undefined value: {detail}"),
        (_, Some(source)) if source.len() <= 200 => format!("`{source}` is undefined here"),
        _ => "undefined value".to_owned(),
    }
}

/// Ends a formatter's work on something that is too long.
fn write_bounded(out: &mut Output, text: &str) -> Result<(), Error> {
    if text.len() > MAX_OUTPUT {
        return Err(too_long());
    }
    out.write_str(text).map_err(Error::from)
}

/// The formatter's view of a state: whether the template has switched the escaping off.
fn escaping_is_on(state: &State<'_, '_>) -> bool {
    matches!(state.auto_escape(), AutoEscape::Custom(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_printed_as_they_are_and_never_read_as_templates() {
        let ctx = json!({ "title": "{{ 7 * 7 }} <b>", "n": 3, "list": ["a", "b"], "map": { "k": [1, null] } });
        let text = "{{ title }}|{{ n }}|{{ list | join('+') }}|{{ map | tojson }}|{{ map }}|{{ 7 * 7 }}";
        assert_eq!(render("title", text, &ctx).unwrap(), r#"{{ 7 * 7 }} <b>|3|a+b|{"k":[1,null]}|{"k":[1,null]}|49"#);
    }

    #[test]
    fn errors_have_a_place() {
        let error =
            render("branch", "ok\n  {{ steps.plan.missing }}", &json!({ "steps": { "plan": {} } })).unwrap_err();
        assert_eq!((error.name.as_str(), error.line, error.column), ("branch", 2, Some(6)), "{error:?}");
        assert!(error.message.contains("missing"), "{error}");
        let error = render("t", "{{ nope.deeper }}", &json!({})).unwrap_err();
        assert!(error.message.contains("nope"), "{error}");
        let error = check("line one\n{% if x %}").unwrap_err();
        assert_eq!(error.line, 2, "{error:?}");
        let error = check_expression("a and or b").unwrap_err();
        assert_eq!((error.line, error.column), (1, Some(10)), "{error:?}");
        assert!(check("{{ a.b }}").is_ok() && check_expression("not steps.review.output.approved").is_ok());
        assert!(render("t", "{% include 'x' %}", &json!({})).unwrap_err().message.contains("cannot include"));
    }

    #[test]
    fn bombs_are_refused_quickly() {
        let ctx = json!({ "x": "y".repeat(200_000), "many": vec![1; 5000] });
        let doubling = format!("{{% set a = x %}}{}{{{{ a | length }}}}", "{% set a = a ~ a %}".repeat(30));
        let bombs = [
            "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
            "{% for i in range(90000) %}xxxxxxxxxxxxxxxxxxxx{% endfor %}",
            "{% for i in many %}{{ x }}{% endfor %}",
            "{{ 'x' * 1000000000 }}",
            "{{ ('x' * 90000000) | length }}",
            "{{ x | replace('y', x) | length }}",
            "{{ x | indent(1000000000) }}",
            "{{ many | join(x) }}",
            "{{ '%999999999s' | format('a') }}",
            "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
            "{% set ns = namespace(a=x) %}{% for i in range(60) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}{{ ns.a | length }}",
            "{% set a %}{% for i in many %}{{ x }}{% endfor %}{% endset %}{{ a | length }}",
            "{{ range(1000000000) | list | length }}",
            "{{ [[x, x], [x, x]] | tojson }}{{ [x, x, x, x] | tojson }}",
            doubling.as_str(),
        ];
        for bomb in bombs {
            assert!(render("bomb", bomb, &ctx).is_err(), "{bomb}");
            assert!(prompt("bomb", bomb, &ctx, &Trust::none()).is_err(), "{bomb}");
        }
        let error = render("t", &" ".repeat(MAX_TEMPLATE + 1), &ctx).unwrap_err();
        assert!(error.message.contains("bytes"), "{error}");
        // What people really write has room.
        let ctx = json!({ "findings": (0..2000).map(|i| json!({ "file": "src/a.rs", "line": i, "message": "x".repeat(80) })).collect::<Vec<_>>() });
        let text = "{% for f in findings %}- {{ f.file }}:{{ f.line }} {{ f.message }}\n{% endfor %}";
        assert!(render("body", text, &ctx).unwrap().len() > 180_000);
    }
}
