//! The documents as typed values, their JSON Schemas, and the library that holds all of a project's documents.

pub mod backend;
pub mod codes;
pub mod comments;
pub mod dag;
pub mod docs;
pub mod document;
pub mod kinds;
pub mod library;
pub mod memory;
pub mod pricing;
pub mod quality;
pub mod serve;
pub mod settings;
pub mod stop;
pub mod values;

pub use backend::*;
pub use comments::*;
pub use docs::*;
pub use document::{At, Document, Node, Yaml};
pub use kinds::*;
pub use library::{Library, Loaded};
pub use memory::*;
pub use pricing::{PriceDoc, Pricing, PricingDoc};
pub use quality::*;
pub use settings::*;

use serde_json::{Value, json};

/// The kinds of documents that have a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DocKind {
    /// `workflows/NAME.yml`.
    Workflow,
    /// `modes/NAME.yml`.
    Mode,
    /// `policies/NAME.yml`.
    Policy,
    /// `config.yml`.
    Config,
    /// `backends/NAME.yml`.
    Backend,
    /// `pricing.yml`.
    Pricing,
    /// The operator's `serve.yml`.
    Serve,
}

impl DocKind {
    /// All kinds.
    pub const ALL: [Self; 7] =
        [Self::Workflow, Self::Mode, Self::Policy, Self::Config, Self::Backend, Self::Pricing, Self::Serve];

    /// Its name: `workflow`, `mode`, `policy`, `config`, `backend`, `pricing`, `serve`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Mode => "mode",
            Self::Policy => "policy",
            Self::Config => "config",
            Self::Backend => "backend",
            Self::Pricing => "pricing",
            Self::Serve => "serve",
        }
    }
}

/// Other names that keys are accepted under: definition, key, other name. An empty definition is the document itself.
const SYNONYMS: [(DocKind, &str, &str, &str); 7] = [
    (DocKind::Workflow, "", "steps", "pipeline"),
    (DocKind::Workflow, "", "steps", "dag"),
    (DocKind::Workflow, "StepDoc", "needs", "depends_on"),
    (DocKind::Workflow, "StepDoc", "max_steps", "max_turns"),
    (DocKind::Workflow, "LimitsDoc", "max_steps", "max_turns"),
    (DocKind::Mode, "", "max_steps", "max_turns"),
    (DocKind::Policy, "LimitsDoc", "max_steps", "max_turns"),
];

/// The JSON Schema of a kind of document, as editors complete from it.
pub fn json_schema(kind: DocKind) -> Value {
    let schema = match kind {
        DocKind::Workflow => schemars::schema_for!(WorkflowDoc),
        DocKind::Mode => schemars::schema_for!(ModeDoc),
        DocKind::Policy => schemars::schema_for!(PolicyDoc),
        DocKind::Config => schemars::schema_for!(ConfigDoc),
        DocKind::Backend => schemars::schema_for!(BackendDoc),
        DocKind::Pricing => schemars::schema_for!(PricingDoc),
        DocKind::Serve => schemars::schema_for!(serve::ServeDoc),
    };
    let mut schema = schema.to_value();
    for (_, definition, key, synonym) in SYNONYMS.iter().filter(|(of, ..)| *of == kind) {
        let place =
            if definition.is_empty() { Some(&mut schema) } else { schema.pointer_mut(&format!("/$defs/{definition}")) };
        let Some(object) = place else { continue };
        let mut copy = object.pointer(&format!("/properties/{key}")).cloned().unwrap_or(json!({}));
        if let Some(copy) = copy.as_object_mut() {
            copy.insert("description".into(), json!(format!("Another name of `{key}`.")));
            copy.insert("x-synonym".into(), json!(key));
        }
        if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert((*synonym).to_owned(), copy);
        }
    }
    if kind == DocKind::Workflow {
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|key| key != "steps");
        }
        if let Some(object) = schema.as_object_mut() {
            let one_of = ["steps", "pipeline", "dag"].map(|key| json!({ "required": [key] }));
            object.insert("oneOf".into(), json!(one_of));
        }
    }
    schema
}
