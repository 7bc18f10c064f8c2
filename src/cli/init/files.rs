//! Files that are made: written where there is none, kept where there is one.

use super::{CliError, unwritable};
use serde_json::{Value, json};
use similar::TextDiff;
use std::io::Write;
use std::path::Path;

/// A file to write.
#[derive(Debug, Clone)]
pub(super) struct Made {
    /// From the repository's top.
    pub(super) path: String,
    pub(super) text: String,
    /// It is theirs: what we would put in is shown, and they put it in.
    pub(super) shown_only: bool,
}

impl Made {
    pub(super) fn new(path: impl Into<String>, text: String) -> Self {
        Self { path: path.into(), text, shown_only: false }
    }
}

/// What became of the files.
#[derive(Debug, Default)]
pub(super) struct Written {
    made: Vec<Made>,
    kept: Vec<Made>,
}

/// Writes what is not there.
pub(super) fn write(all: Vec<Made>, root: &Path, dry_run: bool) -> Result<Written, CliError> {
    let mut written = Written::default();
    for made in all {
        let path = root.join(&made.path);
        // A link that leads nowhere is there, too.
        if made.shown_only || std::fs::symlink_metadata(&path).is_ok() {
            written.kept.push(made);
            continue;
        }
        if !dry_run {
            create(root, &made)?;
        }
        written.made.push(made);
    }
    Ok(written)
}

fn create(root: &Path, made: &Made) -> Result<(), CliError> {
    let path = root.join(&made.path);
    let mut folder = root.to_path_buf();
    for part in Path::new(&made.path).parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        if std::fs::symlink_metadata(&folder).is_ok_and(|facts| facts.is_symlink()) {
            return Err(CliError::usage(format!("{} is a link; nothing is written through it", folder.display())));
        }
    }
    std::fs::create_dir_all(&folder).map_err(|error| unwritable(&folder, &error))?;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    file.and_then(|mut file| file.write_all(made.text.as_bytes())).map_err(|error| unwritable(&path, &error))
}

/// Replaces a file's text, all or nothing.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), CliError> {
    let folder = path.parent().unwrap_or(path);
    let made = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        let mode = std::fs::metadata(path)?.permissions();
        file.as_file().set_permissions(mode)?;
        Ok(file)
    });
    let file = made.map_err(|error| unwritable(path, &error))?;
    file.persist(path).map_err(|error| unwritable(path, &error.error))?;
    Ok(())
}

/// The difference of two texts, as people read it.
pub(super) fn difference(path: &str, before: &str, after: &str) -> String {
    TextDiff::from_lines(before, after).unified_diff().context_radius(3).header(path, path).to_string()
}

impl Written {
    /// For people: a dry run shows what the files would hold.
    pub(super) fn render(&self, dry_run: bool) -> String {
        let mut text = String::new();
        for made in &self.made {
            if dry_run {
                text.push_str(&difference(&made.path, "", &made.text));
            } else {
                text.push_str(&format!("wrote  {}\n", made.path));
            }
        }
        for made in &self.kept {
            text.push_str(&format!("kept   {} (it is there already)\n", made.path));
            if made.shown_only {
                text.push_str(&format!("       put this into it:\n\n{}\n", made.text));
            }
        }
        if dry_run {
            text.push_str("\nnothing was written\n");
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let one = |made: &Made, state: &str| json!({ "path": made.path, "state": state, "text": made.text });
        let made = self.made.iter().map(|made| one(made, "new"));
        Value::Array(made.chain(self.kept.iter().map(|made| one(made, "kept"))).collect())
    }
}
