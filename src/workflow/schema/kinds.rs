//! Kinds of text that documents hold: each is text to serde, and says in its JSON Schema what it has to look like.
//! The keyword `x-kind` in a schema names the check that [`crate::workflow`] makes beyond the schema.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

macro_rules! kind {
    ($(#[$doc:meta])* $name:ident, $kind:literal, { $($extra:tt)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "x-kind": $kind, $($extra)* })
            }
        }
    };
}

kind!(
    /// A length of time: `90s`, `10m`, `1h30m`, `30d`.
    Span, "duration", { "pattern": "^([0-9]+(ms|s|m|h|d))+$" }
);
kind!(
    /// An amount of memory or disk: `512MiB`, `2GiB`, `4GB`.
    Size, "size", { "pattern": "^[0-9]+([.][0-9]+)?(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?$" }
);
kind!(
    /// A path glob; `**` crosses directories.
    Glob, "glob", {}
);
kind!(
    /// A name of our own files: lower-case letters, digits, `-` and `_`.
    Name, "name", { "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$" }
);
kind!(
    /// A minijinja template.
    Template, "template", {}
);
kind!(
    /// A minijinja expression, without braces.
    Expression, "expression", {}
);
kind!(
    /// Shell text, run by `sh -c`. Never templated: values reach it as environment variables.
    Shell, "shell", { "minLength": 1 }
);
kind!(
    /// Five cron fields; `H` stands for a value of the repository's own.
    Cron, "cron", {}
);
kind!(
    /// An IANA time zone: `Europe/Berlin`.
    Timezone, "timezone", {}
);
kind!(
    /// A day: `2026-11-24`.
    Date, "date", { "format": "date" }
);
kind!(
    /// A termination condition: `max_steps(50) or cost_above(5)`.
    StopText, "stop", {}
);
kind!(
    /// A reference to a secret, never the secret: `env://NAME`.
    SecretRef, "secret", { "pattern": "^env://[A-Za-z_][A-Za-z0-9_]*$" }
);
kind!(
    /// A reference to a secret of the host, never the secret: `env://NAME` or `file:///path`.
    HostSecret, "host-secret", { "pattern": "^(env://[A-Za-z_][A-Za-z0-9_]*|file:///.+)$" }
);
kind!(
    /// A web address: `https://host/path`.
    Url, "url", { "pattern": "^https?://" }
);
kind!(
    /// A label's or milestone's name: one line.
    Label, "label", { "minLength": 1, "maxLength": 100 }
);
kind!(
    /// An account on the forge: `ann`, `organisation/team`.
    Account, "account", { "pattern": "^[A-Za-z0-9_][A-Za-z0-9_./-]*([[]bot[]])?$" }
);
kind!(
    /// Somebody with a mail address: `Ann Example <ann@example.com>`.
    Person, "person", { "pattern": "^[^<>]+ <[^<>@]+@[^<>@]+>$" }
);
kind!(
    /// A regular expression, Rust's syntax: matched in linear time, limited in size.
    Pattern, "regex", { "minLength": 1, "maxLength": 1000 }
);
kind!(
    /// The name of a mode.
    ModeName, "mode", {}
);
kind!(
    /// The name of a policy.
    PolicyName, "policy", {}
);
kind!(
    /// The name of a gate; with `?` at its end it counts only where it is defined.
    GateName, "gate", {}
);
kind!(
    /// The name of a tool.
    ToolName, "tool", {}
);
kind!(
    /// A tool's name or a glob over tools' names (`*`).
    ToolGlob, "tool-glob", {}
);
kind!(
    /// The name of a scenario.
    ScenarioName, "scenario", {}
);
kind!(
    /// The name of a model in `config.yml`.
    ModelName, "model", {}
);

kind!(
    /// The name of a backend; `native` is the agent that is built in.
    BackendName, "backend", {}
);
kind!(
    /// Text with placeholders: `{prompt}`, `{prompt_file}`, `{model}`, `{base_url}`, `{api_key}`, `{home}`.
    BackendText, "backend-text", {}
);
kind!(
    /// The text of a small file, with placeholders.
    BackendFile, "backend-text", {}
);
/// A share, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(pub f64);

impl JsonSchema for Share {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}

/// One value or a list of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// A list.
    Many(Vec<T>),
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> OneOrMany<T> {
    /// As a slice.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// A text, a number, or true or false.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Scalar {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(String),
}

impl Scalar {
    /// As a command's environment shows it.
    pub fn as_text(&self) -> String {
        match self {
            Self::Bool(b) => b.to_string(),
            Self::Int(i) => i.to_string(),
            Self::Float(f) => f.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}
