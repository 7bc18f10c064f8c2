//! Unified diffs: reading them as models write them, and applying them exactly.

mod apply;
mod parse;

pub use apply::apply;
pub use parse::parse;

/// What a patch does to one file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FilePatch {
    /// Where the file is before; `None`: it is created.
    pub old_path: Option<String>,
    /// Where it is afterwards; `None`: it is deleted. Differs from `old_path` in a rename or a copy.
    pub new_path: Option<String>,
    /// Whether the old file stays although the paths differ.
    pub copy: bool,
    /// The executable bit, where the patch sets or clears it.
    pub executable: Option<bool>,
    /// The changes, in order.
    pub hunks: Vec<Hunk>,
}

impl FilePatch {
    /// The path to name it by: the new one, or the old one of a deleted file.
    pub fn path(&self) -> &str {
        self.new_path.as_deref().or(self.old_path.as_deref()).unwrap_or_default()
    }
}

/// One hunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hunk {
    /// The old file's line (from 1) that the header names; `None` for a header without numbers.
    pub old_start: Option<usize>,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// A line of a hunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What becomes of it.
    pub kind: LineKind,
    /// Its text, without the line feed (a carriage return is part of it).
    pub text: String,
    /// Whether `\ No newline at end of file` follows it.
    pub no_newline: bool,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// It must be there and stays.
    Context,
    /// It must be there and goes.
    Remove,
    /// It comes.
    Add,
}

impl Hunk {
    /// The texts of the lines that must be there.
    fn old(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.kind != LineKind::Add)
    }

    /// The texts of the lines that will be there.
    fn after(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.kind != LineKind::Remove)
    }
}

#[cfg(test)]
mod tests;
