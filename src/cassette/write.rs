//! A run as a cassette.

use super::kept::{Kept, hash};
use super::{Header, Scrub};
use crate::model::journal::{Row, RowBody, Work};
use crate::model::recording::BaseFile;
use crate::model::recording::FileContent;
use serde_json::{Value, json};
use std::collections::HashMap;

/// What a cassette is made of.
#[derive(Debug)]
pub struct Parts {
    /// The first line.
    pub header: Header,
    /// Files in which the base differs from its commit.
    pub files: Vec<BaseFile>,
    /// The journal.
    pub rows: Vec<Row>,
    /// The requests that were kept, by their effect's key.
    pub requests: HashMap<String, Kept>,
}

/// The cassette's text. Nothing of `scrub` is in it: texts are named by what is left of them.
///
/// # Errors
/// Where a value cannot be written as JSON: ours.
pub fn write(parts: &Parts, scrub: &Scrub) -> Result<String, String> {
    let mut out = String::new();
    let mut put = |mut value: Value| {
        scrub.value(&mut value);
        out.push_str(&value.to_string());
        out.push('\n');
    };
    let failed = |error: serde_json::Error| format!("a line of the cassette cannot be written: {error}");
    put(serde_json::to_value(&parts.header).map_err(failed)?);
    for file in &parts.files {
        put(json!({ "base_file": withheld(file, scrub) }));
    }
    // All texts first, so that a request may name one that came with another request.
    let texts: HashMap<&str, &str> = parts
        .requests
        .values()
        .flat_map(|kept| &kept.texts)
        .map(|(hash, text)| (hash.as_str(), text.as_str()))
        .collect();
    let mut renamed: HashMap<&str, String> = HashMap::new();
    let (mut requests, mut bodies) = (0_u64, std::collections::HashSet::new());
    for row in &parts.rows {
        put(json!({ "row": serde_json::to_value(row).map_err(failed)? }));
        let RowBody::Intent(effect) = &row.body else { continue };
        if !matches!(effect.work, Work::CallModel { .. }) {
            continue;
        }
        let Some(kept) = parts.requests.get(&effect.key.0) else { continue };
        // A request one of whose texts was lost is as good as none.
        if kept.request.hashes().any(|hash| !texts.contains_key(hash.as_str())) {
            continue;
        }
        let mut request = kept.request.clone();
        for name in
            request.messages.iter_mut().map(|(_, hash)| hash).chain(&mut request.tools).chain(&mut request.schema)
        {
            let Some((original, text)) = texts.get_key_value(name.as_str()) else { continue };
            if !renamed.contains_key(original) {
                let clean = scrub.text(text);
                let new = hash(&clean);
                if bodies.insert(new.clone()) {
                    put(json!({ "text": new, "body": clean }));
                }
                renamed.insert(original, new);
            }
            if let Some(new) = renamed.get(original) {
                new.clone_into(name);
            }
        }
        put(json!({ "request": request }));
        requests += 1;
    }
    put(json!({ "end": { "rows": parts.rows.len(), "requests": requests, "texts": bodies.len() } }));
    Ok(out)
}

/// A file whose content holds a secret is left out: half of it would give another tree.
fn withheld(file: &BaseFile, scrub: &Scrub) -> BaseFile {
    let holds = match &file.content {
        FileContent::Text(text) => scrub.found_in(text),
        FileContent::Hex(digits) => scrub.found_in(digits),
        FileContent::Gone | FileContent::LeftOut(_) => false,
    };
    if holds {
        BaseFile { content: FileContent::LeftOut("it holds a secret".into()), ..file.clone() }
    } else {
        file.clone()
    }
}
