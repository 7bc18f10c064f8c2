//! Another agent's command line and files with their values, and what its output says.

use crate::model::backend::{BackendSpec, Pick, Stream};
use crate::text::cap;
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest value of one argument, in bytes: the system takes no more than 128 KiB.
const LONGEST: usize = 100 * 1024;
/// Bytes of closing words that are kept.
const WORDS: usize = 8 * 1024;
/// A line of JSON that is longer is not read.
const LINE: usize = 4 * 1024 * 1024;
/// Lines of plain text that count as closing words.
const CLOSING_LINES: usize = 10;

/// Where the prompt lies, beneath the home folder.
pub const PROMPT_FILE: &str = ".codeforge-prompt.md";

/// The values that placeholders stand for.
#[derive(Debug, Clone, Default)]
pub struct Values<'a> {
    /// What it is asked.
    pub prompt: &'a str,
    /// The model's name, as its provider knows it.
    pub model: &'a str,
    /// The gateway's address, without `/v1`.
    pub base_url: &'a str,
    /// The step's token.
    pub api_key: &'a str,
    /// The home folder inside.
    pub home: &'a str,
}

/// A backend with its values: what is started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Started {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its variables.
    pub env: BTreeMap<String, String>,
    /// Files in its home folder.
    pub files: BTreeMap<String, String>,
}

/// Puts the values in their places: each within one argument, one variable, one file.
///
/// # Errors
/// A prompt that is too long for an argument.
pub fn start(spec: &BackendSpec, values: &Values<'_>) -> Result<Started, String> {
    let prompt = values.prompt.replace('\0', "");
    let values = Values { prompt: &prompt, ..values.clone() };
    let mut argv = Vec::with_capacity(spec.argv.len());
    for word in &spec.argv {
        if spec.literal {
            argv.push(word.clone());
            continue;
        }
        let mut filled = fill(word, &values, str::to_owned);
        // Whatever it begins with, it is no option.
        if word == "{prompt}" && filled.starts_with('-') {
            filled.insert(0, ' ');
        }
        if filled.len() > LONGEST {
            return Err(format!(
                "backend `{}`: an argument with the prompt in it has {} bytes, and {LONGEST} are the most; let its \
                 command take `{{prompt_file}}` in place of `{{prompt}}`",
                spec.name,
                filled.len()
            ));
        }
        argv.push(filled);
    }
    let env = spec.env.iter().map(|(name, text)| (name.clone(), fill(text, &values, str::to_owned))).collect();
    let mut files: BTreeMap<String, String> = spec
        .files
        .iter()
        .map(|(path, text)| {
            let quoted = [".json", ".jsonc", ".toml", ".yml", ".yaml"].iter().any(|ending| path.ends_with(ending));
            (path.clone(), fill(text, &values, if quoted { escaped } else { str::to_owned }))
        })
        .collect();
    let texts = spec.argv.iter().chain(spec.env.values()).chain(spec.files.values());
    if !spec.literal && texts.into_iter().any(|text| text.contains("{prompt_file}")) {
        files.insert(PROMPT_FILE.to_owned(), prompt.clone());
    }
    Ok(Started { argv, env, files })
}

/// A text with its placeholders replaced, in one pass: a value that looks like a placeholder stays what it is.
fn fill(text: &str, values: &Values<'_>, shape: fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let prompt_file;
        let found = match from.find('}').and_then(|end| Some((end, from.get(1..end)?))) {
            Some((end, "prompt")) => Some((end, values.prompt)),
            Some((end, "model")) => Some((end, values.model)),
            Some((end, "base_url")) => Some((end, values.base_url)),
            Some((end, "api_key")) => Some((end, values.api_key)),
            Some((end, "home")) => Some((end, values.home)),
            Some((end, "prompt_file")) => {
                prompt_file = format!("{}/{PROMPT_FILE}", values.home);
                Some((end, prompt_file.as_str()))
            }
            _ => None,
        };
        match found {
            Some((end, value)) if !out.ends_with('$') => {
                out.push_str(&shape(value));
                rest = from.get(end + 1..).unwrap_or_default();
            }
            _ => {
                out.push('{');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

/// For a place between double quotes.
fn escaped(value: &str) -> String {
    let quoted = Value::from(value).to_string();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// Reads a program's output while it comes.
#[derive(Debug, Default)]
pub struct Reader {
    stream: Stream,
    rest: String,
    skipping: bool,
    text: String,
    last: Option<String>,
    error: Option<String>,
    usage: Option<Value>,
    session: Option<String>,
    tail: std::collections::VecDeque<String>,
}

/// What a program said.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Said {
    /// Its closing words.
    pub text: String,
    /// That it failed.
    pub error: Option<String>,
    /// What it says that it used.
    pub usage: Option<Value>,
    /// Its session.
    pub session: Option<String>,
}

impl Reader {
    /// For an output of this form.
    pub fn new(stream: &Stream) -> Self {
        Self { stream: stream.clone(), ..Self::default() }
    }

    /// Takes more of the output in; returns what of it is for people.
    pub fn push(&mut self, text: &str) -> String {
        let mut shown = String::new();
        for piece in text.split_inclusive('\n') {
            if !self.skipping {
                self.rest.push_str(piece);
            }
            if self.rest.len() > LINE {
                self.rest.clear();
                self.skipping = true;
            }
            if piece.ends_with('\n') {
                let line = std::mem::take(&mut self.rest);
                self.skipping = false;
                shown.push_str(&self.line(line.trim_end()));
            }
        }
        shown
    }

    fn line(&mut self, line: &str) -> String {
        let value =
            if self.stream.jsonl { serde_json::from_str::<Value>(line).ok().filter(Value::is_object) } else { None };
        let Some(value) = value else {
            if !line.trim().is_empty() {
                self.tail.push_back(line.to_owned());
                if self.tail.len() > CLOSING_LINES {
                    self.tail.pop_front();
                }
            }
            return format!("{line}\n");
        };
        let texts = |picks: &[Pick]| picks.iter().find_map(|pick| text_at(&value, pick));
        if let Some(usage) = self.stream.usage.iter().find_map(|pick| found(&value, pick)) {
            self.usage = Some(usage.clone());
        }
        if let Some(session) = texts(&self.stream.session) {
            self.session = Some(cap(&session, 200));
        }
        if let Some(error) = texts(&self.stream.error) {
            let error = cap(error.trim(), WORDS);
            self.error = Some(error.clone());
            return format!("{error}\n");
        }
        if let Some(last) = texts(&self.stream.last) {
            self.last = Some(cap(&last, WORDS));
            self.error = None;
            return String::new();
        }
        match texts(&self.stream.text).filter(|text| !text.trim().is_empty()) {
            Some(text) => {
                self.text = cap(&text, WORDS);
                // It went on: what went wrong before was mended.
                self.error = None;
                format!("{}\n", text.trim_end())
            }
            None => String::new(),
        }
    }

    /// What it said, at the end.
    pub fn finish(mut self) -> Said {
        if !self.rest.is_empty() {
            let line = std::mem::take(&mut self.rest);
            self.line(line.trim_end());
        }
        let words = self.last.or(Some(self.text).filter(|text| !text.is_empty()));
        let plain = || cap(&self.tail.into_iter().collect::<Vec<_>>().join("\n"), WORDS);
        Said { text: words.unwrap_or_else(plain), error: self.error, usage: self.usage, session: self.session }
    }
}

fn found<'v>(value: &'v Value, pick: &Pick) -> Option<&'v Value> {
    let holds = pick.when.iter().all(|(at, wanted)| value.pointer(at) == Some(wanted));
    if holds { value.pointer(&pick.at) } else { None }
}

fn text_at(value: &Value, pick: &Pick) -> Option<String> {
    found(value, pick)?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec() -> BackendSpec {
        BackendSpec {
            name: "other".into(),
            argv: ["other", "--model", "x/{model}", "{prompt}", "${home}", "{nothing}"].map(str::to_owned).to_vec(),
            env: [("URL".to_owned(), "{base_url}/v1".to_owned()), ("KEY".to_owned(), "{api_key}".to_owned())].into(),
            files: [
                ("a.json".to_owned(), "{\"ask\": \"{prompt}\"}".to_owned()),
                ("b.txt".to_owned(), "{prompt}".to_owned()),
            ]
            .into(),
            ..BackendSpec::default()
        }
    }

    #[test]
    fn values_stay_within_their_place() {
        let prompt = "--yes; $(rm -rf /) \"quoted\" {api_key}\n\0two";
        let values =
            Values { prompt, model: "m", base_url: "http://127.0.0.1:4141", api_key: "token", home: "/home/agent" };
        let started = start(&spec(), &values).unwrap();
        let said = " --yes; $(rm -rf /) \"quoted\" {api_key}\ntwo";
        assert_eq!(started.argv, ["other", "--model", "x/m", said, "${home}", "{nothing}"]);
        assert_eq!(started.env["URL"], "http://127.0.0.1:4141/v1");
        let config: Value = serde_json::from_str(&started.files["a.json"]).unwrap();
        assert_eq!(config["ask"], said.trim_start());
        assert_eq!(started.files["b.txt"], said.trim_start());
        assert!(!started.files.contains_key(PROMPT_FILE));

        let by_file = BackendSpec { argv: vec!["other".into(), "{prompt_file}".into()], ..BackendSpec::default() };
        let started = start(&by_file, &values).unwrap();
        assert_eq!(started.argv[1], format!("/home/agent/{PROMPT_FILE}"));
        assert_eq!(started.files[PROMPT_FILE], said.trim_start());

        let literal = BackendSpec { argv: vec!["sed".into(), "s/{prompt}/x/".into()], literal: true, ..by_file };
        assert_eq!(start(&literal, &values).unwrap().argv[1], "s/{prompt}/x/");

        let long = "x".repeat(200_000);
        let error = start(&spec(), &Values { prompt: &long, ..Values::default() }).unwrap_err();
        assert!(error.contains("{prompt_file}"), "{error}");
    }

    #[test]
    fn a_stream_is_read_as_it_comes() {
        let pick = |at: &str, when: Value| Pick {
            at: at.into(),
            when: when.as_object().unwrap().iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        };
        let stream = Stream {
            jsonl: true,
            text: vec![pick("/item/text", json!({ "/type": "done" }))],
            last: vec![pick("/result", json!({ "/type": "end", "/is_error": false }))],
            error: vec![pick("/message", json!({ "/type": "error" }))],
            usage: vec![pick("/usage", json!({}))],
            session: vec![pick("/id", json!({}))],
        };
        let mut reader = Reader::new(&stream);
        let mut shown = String::new();
        let lines = [
            json!({ "type": "start", "id": "s1" }),
            json!({ "type": "error", "message": "will try again" }),
            json!({ "type": "thinking", "item": { "text": "hidden" } }),
            json!({ "type": "done", "item": { "text": "one\ntwo" } }),
            json!({ "type": "done", "item": { "text": "three" }, "usage": { "total": 3 } }),
        ];
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect::<String>() + "no json\n";
        for piece in text.as_bytes().chunks(7) {
            shown.push_str(&reader.push(std::str::from_utf8(piece).unwrap()));
        }
        assert_eq!(shown, "will try again\none\ntwo\nthree\nno json\n");
        let said = reader.finish();
        assert_eq!((said.text.as_str(), said.error, said.session.as_deref()), ("three", None, Some("s1")));
        assert_eq!(said.usage, Some(json!({ "total": 3 })));

        let mut reader = Reader::new(&stream);
        reader.push(&format!("{}\n{}", json!({ "type": "error", "message": "over" }), json!({ "type": "x" })));
        assert_eq!(reader.finish().error.as_deref(), Some("over"));

        let mut plain = Reader::new(&Stream::default());
        assert_eq!(plain.push("a\nb"), "a\n");
        assert_eq!(plain.finish().text, "a\nb");
    }
}
