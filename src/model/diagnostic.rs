//! Problems of a document, with their place and their cure.

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For information.
    Note,
    /// Works, but perhaps not as meant; `--strict` makes it an error.
    Warning,
    /// The document cannot be used.
    Error,
}

/// A place in a document; lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Path as it was given or found.
    pub file: String,
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
    /// How many characters to underline; at least 1.
    pub width: usize,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Stable code (`unknown-mode`); each has a fixture.
    pub code: &'static str,
    /// How bad.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub place: Place,
    /// The source line at that place, unchanged.
    pub source_line: String,
    /// A short word beside the underline (did you mean …?).
    pub label: Option<String>,
    /// What to do.
    pub help: Option<String>,
}
