//! A run's trajectory: one JSON object per journal row, in order.
//!
//! Every record has `seq`, `at` (RFC 3339, UTC), `at_ms`, `kind` (`input`: a fact; `intent`: something to be done)
//! and `type`; the fact's or the effect's own fields follow.

use crate::model::journal::{Row, RowBody};
use serde_json::{Map, Value, json};

/// One row as one line of JSON, without a line end. What must not be shown is redacted by the caller.
pub fn line(row: &Row) -> String {
    let (kind, of, body) = match &row.body {
        RowBody::Input(input) => ("input", input.kind(), serde_json::to_value(input)),
        RowBody::Intent(effect) => ("intent", effect.work.kind(), serde_json::to_value(effect)),
    };
    let mut record = Map::new();
    record.insert("seq".into(), json!(row.seq));
    record.insert("at".into(), json!(jiff::Timestamp::from_millisecond(row.at_ms).map(|at| at.to_string()).ok()));
    record.insert("at_ms".into(), json!(row.at_ms));
    record.insert("kind".into(), json!(kind));
    record.insert("type".into(), json!(of));
    if let Ok(Value::Object(fields)) = body {
        for (name, value) in fields {
            record.entry(name).or_insert(value);
        }
    }
    Value::Object(record).to_string()
}
