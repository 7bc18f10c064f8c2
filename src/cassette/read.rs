//! A cassette as values. Whatever its text: a recording, or what is wrong, with the line and what to do.

use super::kept::{Request, hash};
use super::{Header, VERSION};
use crate::model::journal::{Base, Input, Row, RowBody, Work};
use crate::model::plan::Plan;
use crate::model::recording::{BaseFile, RecordedBase};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// What to do about a line that is damaged.
const RESTORE: &str =
    "take the file from version control again, or record the run again (`codeforge run … --record FILE`)";

/// Milliseconds since 1970 that a row can be from: until the year 9999.
const TIMES: std::ops::Range<i64> = 0..253_402_300_800_000;

/// A recorded run.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The first line.
    pub header: Header,
    /// Files in which the base differs from its commit.
    pub files: Vec<BaseFile>,
    /// The journal.
    pub rows: Vec<Row>,
    /// The requests that were recorded, by their effect's key.
    pub requests: HashMap<String, Request>,
    /// The texts that they are made of, by their hash.
    pub texts: HashMap<String, String>,
}

impl Recording {
    /// The plan that was run and where it started; a recording that was read has both.
    pub fn started(&self) -> Option<(&Plan, &Base)> {
        match &self.rows.first()?.body {
            RowBody::Input(Input::Started { plan, base, .. }) => Some((plan, base)),
            _ => None,
        }
    }

    /// Where it started.
    pub fn base(&self) -> Option<RecordedBase> {
        let (_, base) = self.started()?;
        Some(RecordedBase { commit: base.commit.clone(), tree: base.tree.clone(), files: self.files.clone() })
    }

    /// A request's text.
    pub fn text(&self, hash: &str) -> &str {
        self.texts.get(hash).map_or("", String::as_str)
    }
}

/// Whether a text begins like a cassette of a whole run.
pub fn is_whole_run(text: &str) -> bool {
    #[derive(Deserialize)]
    struct First {
        codeforge_cassette: u32,
    }
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str::<First>(first).is_ok_and(|first| first.codeforge_cassette >= VERSION)
}

/// Reads a cassette. `name`: the file, for messages.
///
/// # Errors
/// `FILE:LINE: what is wrong; what to do`.
pub fn read(text: &str, name: &str) -> Result<Recording, String> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let Some((at, first)) = lines.next() else { return Err(format!("{name} is empty; {RESTORE}")) };
    let header = header(first).map_err(|message| format!("{name}:{}: {message}", at + 1))?;
    let mut reader = Reader {
        recording: Recording {
            header,
            files: Vec::new(),
            rows: Vec::new(),
            requests: HashMap::new(),
            texts: HashMap::new(),
        },
        intents: HashMap::new(),
        ended: false,
    };
    for (at, line) in lines {
        reader.line(line).map_err(|message| format!("{name}:{}: {message}", at + 1))?;
    }
    if !reader.ended {
        return Err(format!(
            "{name}: its last line is missing: it was cut; write it again with `codeforge runs export {} {name}`, or {RESTORE}",
            reader.recording.header.run
        ));
    }
    if reader.recording.started().is_none() {
        return Err(format!("{name}: its first row does not begin a run; {RESTORE}"));
    }
    Ok(reader.recording)
}

fn header(line: &str) -> Result<Header, String> {
    let wrong = |error: serde_json::Error| {
        format!("not a cassette of a run (`{{\"codeforge_cassette\":{VERSION},…}}` is wanted): {error}; {RESTORE}")
    };
    let value: Value = serde_json::from_str(line).map_err(wrong)?;
    match value.get("codeforge_cassette").and_then(Value::as_u64) {
        Some(1) => {
            Err("a cassette of format 1 holds a model's answers alone; play it with `codeforge run … --cassette \
                        FILE`, or record a whole run with `codeforge run … --record FILE`"
                .to_owned())
        }
        Some(version) if version > u64::from(VERSION) => Err(format!(
            "cassette format {version} is not known to this version, which reads {VERSION}; use the version that \
             recorded it ({}), or record the run again",
            value.get("version").and_then(Value::as_str).unwrap_or("a newer one")
        )),
        _ => serde_json::from_value(value).map_err(wrong),
    }
}

struct Reader {
    recording: Recording,
    /// Keys of the model calls that were intended.
    intents: HashMap<String, ()>,
    ended: bool,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if self.ended {
            return Err(format!("a line after the last one; {RESTORE}"));
        }
        let mut fields: Map<String, Value> =
            serde_json::from_str(line).map_err(|error| format!("a damaged line: {error}; {RESTORE}"))?;
        let Some(kind) =
            ["row", "text", "request", "base_file", "end"].into_iter().find(|kind| fields.contains_key(*kind))
        else {
            let known: Vec<&str> = fields.keys().take(3).map(String::as_str).collect();
            return Err(format!(
                "a line of an unknown kind (`{}`): recorded by version {}, read by {}; use the version that recorded it, \
                 or record the run again",
                known.join("`, `"),
                self.recording.header.version,
                env!("CARGO_PKG_VERSION")
            ));
        };
        let value = fields.remove(kind).unwrap_or_default();
        match kind {
            "row" => self.row(value),
            "text" => self.text(value, fields.remove("body").unwrap_or_default()),
            "request" => self.request(value),
            "base_file" => {
                self.recording.files.push(self.value("base file", value)?);
                Ok(())
            }
            _ => self.end(&value),
        }
    }

    /// A part of a line, or why it is none.
    fn value<T: serde::de::DeserializeOwned>(&self, what: &str, value: Value) -> Result<T, String> {
        serde_json::from_value(value).map_err(|error| {
            format!(
                "a {what} that this version ({}) cannot read: {error}; it was recorded by {}: use that version, or \
                 {RESTORE}",
                env!("CARGO_PKG_VERSION"),
                self.recording.header.version
            )
        })
    }

    fn row(&mut self, value: Value) -> Result<(), String> {
        let row: Row = self.value("row", value)?;
        let inner = match &row.body {
            RowBody::Input(Input::Started { at_ms, .. } | Input::Resumed { at_ms, .. }) => *at_ms,
            _ => row.at_ms,
        };
        if ![row.at_ms, inner].iter().all(|at_ms| TIMES.contains(at_ms)) {
            return Err(format!("a row with an impossible time; {RESTORE}"));
        }
        let wanted = self.recording.rows.len() as u64 + 1;
        if row.seq != wanted {
            return Err(format!(
                "row {} where row {wanted} is due: lines are missing or out of place; {RESTORE}",
                row.seq
            ));
        }
        if let RowBody::Intent(effect) = &row.body
            && matches!(effect.work, Work::CallModel { .. })
        {
            self.intents.insert(effect.key.0.clone(), ());
        }
        self.recording.rows.push(row);
        Ok(())
    }

    fn text(&mut self, name: Value, body: Value) -> Result<(), String> {
        let (Value::String(name), Value::String(body)) = (name, body) else {
            return Err(format!("a text without its name or its body; {RESTORE}"));
        };
        if hash(&body) != name {
            return Err(format!("the text {} is not what was recorded: it was changed; {RESTORE}", short(&name)));
        }
        self.recording.texts.insert(name, body);
        Ok(())
    }

    fn request(&mut self, value: Value) -> Result<(), String> {
        let request: Request = self.value("request", value)?;
        if let Some(missing) = request.hashes().find(|hash| !self.recording.texts.contains_key(*hash)) {
            return Err(format!(
                "a request names the text {}, which no line before it holds; {RESTORE}",
                short(missing)
            ));
        }
        let key = request.place.key.0.clone();
        if !self.intents.contains_key(&key) {
            return Err(format!("a request that no row intends ({}); {RESTORE}", short(&key)));
        }
        self.recording.requests.insert(key, request);
        Ok(())
    }

    fn end(&mut self, value: &Value) -> Result<(), String> {
        let Recording { rows, requests, texts, .. } = &self.recording;
        for (what, have) in [("rows", rows.len()), ("requests", requests.len()), ("texts", texts.len())] {
            let wanted = value.get(what).and_then(Value::as_u64);
            if wanted != Some(have as u64) {
                let wanted = wanted.map_or_else(|| "an unknown number".into(), |wanted| wanted.to_string());
                return Err(format!("{have} {what} where {wanted} were recorded; {RESTORE}"));
            }
        }
        self.ended = true;
        Ok(())
    }
}

fn short(text: &str) -> String {
    let short: String = text.chars().filter(|c| !c.is_control()).take(12).collect();
    format!("`{short}`")
}
