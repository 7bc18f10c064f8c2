//! Reading JSON by an allowlist: what is not named is refused.

use serde_json::{Map, Value};

/// Why a request is not a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// It is not what the dialect says: the program's mistake.
    Malformed(String),
    /// It asks for something that is not allowed here: `what` names it, for the audit.
    Refused {
        /// The field, or the kind of thing.
        what: String,
        /// Why, and what to do instead.
        why: String,
    },
}

impl Problem {
    pub(super) fn refused(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), why: why.into() }
    }
}

/// An object whose members are taken one by one. `null` says nothing, so it counts as absent.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    place: String,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Reads an object; `place` names it in messages (`messages[3]`, empty for the body).
    pub(super) fn of(value: &'a Value, place: impl Into<String>) -> Result<Self, Problem> {
        let place = place.into();
        match value.as_object() {
            Some(map) => Ok(Self { map, place, known: Vec::new() }),
            None => Err(Problem::Malformed(format!("{} is to be an object", named(&place, "")))),
        }
    }

    /// Where a member stands.
    pub(super) fn at(&self, name: &str) -> String {
        named(&self.place, name)
    }

    /// A member, if it is there.
    pub(super) fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Members that may be there and change nothing: hints that are not passed on.
    pub(super) fn hints(&mut self, names: &[&'static str]) {
        self.known.extend(names);
    }

    /// A member that is refused unless it says `harmless`.
    pub(super) fn refuse(
        &mut self,
        name: &'static str,
        harmless: impl FnOnce(&Value) -> bool,
        why: &str,
    ) -> Result<(), Problem> {
        match self.get(name) {
            Some(value) if !harmless(value) => Err(Problem::refused(self.at(name), why)),
            _ => Ok(()),
        }
    }

    /// A text.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<&'a str>, Problem> {
        self.get(name).map(|value| value.as_str().ok_or_else(|| self.wrong(name, "a text"))).transpose()
    }

    /// A text that has to be there.
    pub(super) fn need_text(&mut self, name: &'static str) -> Result<&'a str, Problem> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// A number.
    pub(super) fn number(&mut self, name: &'static str) -> Result<Option<f64>, Problem> {
        self.get(name).map(|value| value.as_f64().ok_or_else(|| self.wrong(name, "a number"))).transpose()
    }

    /// A whole number of 0 or more.
    pub(super) fn count(&mut self, name: &'static str) -> Result<Option<u64>, Problem> {
        self.get(name)
            .map(|value| {
                // Some clients write `4096.0`.
                let whole = value.as_f64().filter(|number| *number >= 0.0 && number.fract() == 0.0 && *number < 1e15);
                value.as_u64().or(whole.map(|number| number as u64)).ok_or_else(|| self.wrong(name, "a whole number"))
            })
            .transpose()
    }

    /// True or false; false where it is absent.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, Problem> {
        let flag = self.get(name).map(|value| value.as_bool().ok_or_else(|| self.wrong(name, "true or false")));
        Ok(flag.transpose()?.unwrap_or(false))
    }

    /// A list; empty where it is absent.
    pub(super) fn list(&mut self, name: &'static str) -> Result<&'a [Value], Problem> {
        match self.get(name) {
            None => Ok(&[]),
            Some(value) => value.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong(name, "a list")),
        }
    }

    /// Texts, or a single one.
    pub(super) fn texts(&mut self, name: &'static str) -> Result<Vec<String>, Problem> {
        let wrong = || Problem::Malformed(format!("`{}` is to be a text or a list of texts", self.at(name)));
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(texts)) => {
                texts.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
            }
            Some(_) => Err(wrong()),
        }
        .inspect(|_| self.known.push(name))
    }

    pub(super) fn missing(&self, name: &str) -> Problem {
        Problem::Malformed(format!("`{}` is missing", self.at(name)))
    }

    pub(super) fn wrong(&self, name: &str, wanted: &str) -> Problem {
        Problem::Malformed(format!("`{}` is to be {wanted}", self.at(name)))
    }

    /// Refuses what was not named.
    pub(super) fn end(self) -> Result<(), Problem> {
        let unknown = self.map.iter().find(|(name, value)| !value.is_null() && !self.known.contains(&name.as_str()));
        match unknown {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(100).collect();
                Err(Problem::refused(self.at(&name), "the gateway passes on only what it knows, and this is not known"))
            }
        }
    }
}

fn named(place: &str, name: &str) -> String {
    match (place.is_empty(), name.is_empty()) {
        (true, true) => "the body".to_owned(),
        (true, false) => name.to_owned(),
        (false, true) => place.to_owned(),
        (false, false) => format!("{place}.{name}"),
    }
}

/// Joins a text with what is there already, on a line of its own.
pub(super) fn add_line(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push('\n');
    }
    text.push_str(more);
}

/// Why images are refused.
pub(super) const NO_IMAGES: &str =
    "images, audio and files are not passed on: read the file in the workspace, or describe what it shows";
/// Why tools of the provider are refused.
pub(super) const NO_HOSTED_TOOLS: &str = "tools that run at the provider (web search, web fetch, code execution, \
     computer use, remote MCP servers, file search) would be a way out of the sandbox: offer functions of your own only";
/// Why state at the provider is refused.
pub(super) const NO_STATE: &str =
    "nothing is kept between requests: send the whole conversation, in the foreground, with `store: false`";
