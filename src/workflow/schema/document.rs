//! Text → a tree in which every key and every scalar knows its place.
//!
//! YAML 1.2 core schema: `on` and `no` are text. A document is refused past [`MAX_BYTES`], [`MAX_DEPTH`] and the alias
//! budgets, before anything is built from it.

use super::codes;
use crate::model::diagnostic::{Diagnostic, Place, Severity};
use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Largest document, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Deepest nesting of lists and maps.
pub const MAX_DEPTH: usize = 64;
/// Most nodes of a document that come from repeating anchors.
const MAX_ALIAS_NODES: usize = 10_000;
/// Most bytes of text of a document that come from repeating anchors.
const MAX_ALIAS_BYTES: usize = 1 << 20;
/// After so many problems of one file, further ones help nobody.
const MAX_PROBLEMS: usize = 200;

/// A place inside one document: line and column from 1, columns and width in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct At {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// Characters to underline; at least 1.
    pub width: usize,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Yaml {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the document, without duplicates.
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Its place.
    pub at: At,
}

/// How a scalar was written: decides how a place inside its text maps to a place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Plain, or not a scalar.
    Plain,
    /// In single or double quotes.
    Quoted,
    /// As a block that keeps its lines (`|`). Its place is its first line that is not empty.
    Block,
    /// As a block whose lines are joined (`>`). Its place is its first line that is not empty.
    Folded,
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Yaml,
    /// Its place.
    pub at: At,
    /// How it was written.
    pub written: Written,
}

impl Node {
    fn null(at: At) -> Self {
        Self { value: Yaml::Null, at, written: Written::Plain }
    }

    /// The value under `key`, where this is a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(k, _)| k.text == key).map(|(_, node)| node)
    }

    /// The key itself, where this is a map.
    pub fn key(&self, key: &str) -> Option<&Key> {
        self.entries().iter().find(|(k, _)| k.text == key).map(|(key, _)| key)
    }

    /// The entries of a map; empty for anything else.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.value {
            Yaml::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; empty for anything else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Yaml::List(items) => items,
            _ => &[],
        }
    }

    /// A list's items, or the node itself where it is a scalar: for keys that take one or many.
    pub fn one_or_many(&self) -> &[Node] {
        match &self.value {
            Yaml::List(items) => items,
            Yaml::Null | Yaml::Map(_) => &[],
            _ => std::slice::from_ref(self),
        }
    }

    /// The text, where this is text.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Yaml::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether nothing stands here.
    pub fn is_null(&self) -> bool {
        self.value == Yaml::Null
    }

    /// In words, for people.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Yaml::Null => "nothing",
            Yaml::Bool(_) => "true or false",
            Yaml::Int(_) => "a whole number",
            Yaml::Float(_) => "a number",
            Yaml::Text(_) => "text",
            Yaml::List(_) => "a list",
            Yaml::Map(_) => "a map",
        }
    }

    /// As JSON, without places.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as J;
        match &self.value {
            Yaml::Null => J::Null,
            Yaml::Bool(b) => J::Bool(*b),
            Yaml::Int(i) => J::from(*i),
            Yaml::Float(f) => serde_json::Number::from_f64(*f).map_or(J::Null, J::Number),
            Yaml::Text(text) => J::String(text.clone()),
            Yaml::List(items) => J::Array(items.iter().map(Node::to_json).collect()),
            Yaml::Map(entries) => J::Object(entries.iter().map(|(k, v)| (k.text.clone(), v.to_json())).collect()),
        }
    }
}

/// A parsed document.
#[derive(Debug, Clone)]
pub struct Document {
    /// Path as it was given or found; `built in: …` for shipped ones.
    pub file: String,
    /// The text.
    pub text: Arc<str>,
    /// The tree; null where it could not be parsed.
    pub root: Node,
}

impl Document {
    /// Parses `text`. What could be read is returned in any case, with the problems.
    pub fn parse(file: &str, text: &str) -> (Self, Vec<Diagnostic>) {
        let mut document = Self { file: file.to_owned(), text: Arc::from(text), root: Node::null(start()) };
        if text.len() > MAX_BYTES {
            let problem = format!("the file has {} bytes; at most {MAX_BYTES} are read", text.len());
            let place = Place { file: file.to_owned(), line: 1, column: 1, width: 1 };
            // Its lines are not shown: one of them may be all of it.
            let problem = Diagnostic {
                code: codes::TOO_LARGE,
                severity: Severity::Error,
                message: problem,
                place,
                source_line: String::new(),
                label: None,
                help: Some("move long texts to files of their own: .codeforge/prompts/*.j2".into()),
            };
            document.text = Arc::from("");
            return (document, vec![problem]);
        }
        let mut builder = Builder::default();
        builder.build(text);
        document.root = builder.root.take().unwrap_or_else(|| Node::null(start()));
        let problems = builder.problems;
        let problems = problems.into_iter().map(|p| {
            let mut diagnostic = document.error(p.code, p.at, p.message);
            diagnostic.help = p.help;
            diagnostic
        });
        let problems = problems.collect();
        (document, problems)
    }

    /// A problem at a place.
    pub fn diagnostic(&self, code: &'static str, severity: Severity, at: At, message: impl Into<String>) -> Diagnostic {
        let at = if at.line == 0 { start() } else { at };
        Diagnostic {
            code,
            severity,
            message: message.into(),
            place: Place { file: self.file.clone(), line: at.line, column: at.column, width: at.width.max(1) },
            source_line: clipped(self.text.lines().nth(at.line - 1).unwrap_or_default()),
            label: None,
            help: None,
        }
    }

    /// An error at a place.
    pub fn error(&self, code: &'static str, at: At, message: impl Into<String>) -> Diagnostic {
        self.diagnostic(code, Severity::Error, at, message)
    }

    /// The node at a path of keys.
    pub fn node(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(&self.root, |node, key| node.get(key))
    }

    /// The place of the value at a path of keys, or of the nearest thing above it that exists.
    pub fn at(&self, path: &[&str]) -> At {
        let (mut node, mut at) = (&self.root, start());
        for key in path {
            let Some(next) = node.get(key) else { break };
            // A map or list begins where its first key stands: its own key is the better place to point at.
            at = match (&next.value, node.key(key)) {
                (Yaml::Map(_) | Yaml::List(_) | Yaml::Null, Some(key)) => key.at,
                _ => next.at,
            };
            node = next;
        }
        at
    }

    /// The place of a part of a scalar's text: `line` from 1 and `column` from 0 inside the text.
    pub fn inside(&self, node: &Node, line: usize, column: usize, width: usize) -> At {
        let line = line.max(1);
        match node.written {
            Written::Block => {
                let Yaml::Text(text) = &node.value else { return node.at };
                let empty = text.chars().take_while(|c| *c == '\n').count();
                let line = (node.at.line + line - 1).saturating_sub(empty).max(1);
                At { line, column: node.at.column + column, width: width.max(1) }
            }
            Written::Plain | Written::Quoted if line == 1 => {
                let quote = usize::from(node.written == Written::Quoted);
                let column = node.at.column + quote + column;
                At { line: node.at.line, column, width: width.max(1) }
            }
            Written::Plain | Written::Quoted | Written::Folded => node.at,
        }
    }
}

/// The beginning of a file.
fn start() -> At {
    At { line: 1, column: 1, width: 1 }
}

/// A line that is fit to be shown.
fn clipped(line: &str) -> String {
    if line.len() <= 400 { line.to_owned() } else { line.chars().take(400).collect() }
}

struct Problem {
    code: &'static str,
    at: At,
    message: String,
    help: Option<String>,
}

/// A list or map under construction.
enum Open {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, seen: BTreeMap<String, usize>, key: Option<Key> },
}

struct Frame {
    open: Open,
    at: At,
    anchor: usize,
}

#[derive(Default)]
struct Builder {
    frames: Vec<Frame>,
    anchors: HashMap<usize, (Node, usize, usize)>,
    alias_nodes: usize,
    alias_bytes: usize,
    root: Option<Node>,
    problems: Vec<Problem>,
}

impl Builder {
    fn problem(&mut self, code: &'static str, at: At, message: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { code, at, message: message.into(), help: None });
        }
    }

    fn help(&mut self, help: impl Into<String>) {
        if let Some(problem) = self.problems.last_mut() {
            problem.help = Some(help.into());
        }
    }

    fn build(&mut self, text: &str) {
        let mut documents = 0;
        for event in Parser::new_from_str(text) {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    let mark = error.marker();
                    let at = At { line: mark.line().max(1), column: mark.col() + 1, width: 1 };
                    self.problem(codes::YAML_SYNTAX, at, format!("not YAML: {}", error.info()));
                    // What is open is kept as far as it was read, so that the rest can still be checked.
                    self.root = None;
                    return;
                }
            };
            let at = place(&span);
            let fits = match event {
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        self.problem(codes::MANY_DOCUMENTS, at, "a second document begins here; one file holds one");
                        self.help("take out the `---`, or move what follows to a file of its own");
                        return;
                    }
                    true
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let node = self.scalar(&text, style, tag.as_deref(), at);
                    self.done(node, anchor)
                }
                Event::SequenceStart(_, anchor, tag) => {
                    self.tag(tag.as_deref(), at);
                    self.open(Open::List(Vec::new()), at, anchor)
                }
                Event::MappingStart(_, anchor, tag) => {
                    self.tag(tag.as_deref(), at);
                    self.open(Open::Map { entries: Vec::new(), seen: BTreeMap::new(), key: None }, at, anchor)
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(),
                Event::Alias(anchor) => self.alias(anchor, at),
                _ => true,
            };
            if !fits {
                self.root = None;
                return;
            }
        }
    }

    fn open(&mut self, open: Open, at: At, anchor: usize) -> bool {
        if self.frames.len() >= MAX_DEPTH {
            self.problem(codes::TOO_DEEP, at, format!("nested more than {MAX_DEPTH} levels deep"));
            return false;
        }
        self.frames.push(Frame { open, at, anchor });
        true
    }

    fn close(&mut self) -> bool {
        let Some(frame) = self.frames.pop() else { return true };
        let value = match frame.open {
            Open::List(items) => Yaml::List(items),
            Open::Map { entries, .. } => Yaml::Map(entries),
        };
        self.done(Node { value, at: frame.at, written: Written::Plain }, frame.anchor)
    }

    fn alias(&mut self, anchor: usize, at: At) -> bool {
        let Some((_, nodes, bytes)) = self.anchors.get(&anchor) else {
            self.problem(codes::ALIAS_BOMB, at, "an anchor cannot be repeated inside itself");
            return false;
        };
        self.alias_nodes = self.alias_nodes.saturating_add(*nodes);
        self.alias_bytes = self.alias_bytes.saturating_add(*bytes);
        if self.alias_nodes > MAX_ALIAS_NODES || self.alias_bytes > MAX_ALIAS_BYTES {
            self.problem(
                codes::ALIAS_BOMB,
                at,
                format!("repeated anchors expand to more than {MAX_ALIAS_NODES} values"),
            );
            self.help("write the values out, or take out the anchors");
            return false;
        }
        let node = self.anchors.get(&anchor).map_or_else(|| Node::null(at), |(node, ..)| node.clone());
        self.done(node, 0)
    }

    /// A node is complete: it goes where its parent expects it.
    fn done(&mut self, node: Node, anchor: usize) -> bool {
        if anchor != 0 {
            let (nodes, bytes) = size(&node);
            self.anchors.insert(anchor, (node.clone(), nodes, bytes));
        }
        let mut duplicate = None;
        let mut bad_key = None;
        match self.frames.last_mut().map(|frame| &mut frame.open) {
            None => self.root = Some(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map { entries, seen, key }) => match key.take() {
                None => {
                    let text = match &node.value {
                        Yaml::Text(text) => text.clone(),
                        Yaml::Bool(b) => b.to_string(),
                        Yaml::Int(i) => i.to_string(),
                        Yaml::Float(f) => f.to_string(),
                        Yaml::Null | Yaml::List(_) | Yaml::Map(_) => {
                            bad_key = Some(node.at);
                            String::new()
                        }
                    };
                    *key = Some(Key { text, at: node.at });
                }
                Some(found) => match seen.get(&found.text) {
                    Some(line) => duplicate = Some((found, *line)),
                    None => {
                        seen.insert(found.text.clone(), found.at.line);
                        entries.push((found, node));
                    }
                },
            },
        }
        if let Some(at) = bad_key {
            self.problem(codes::BAD_KEY, at, "a key has to be text");
            self.help("values with braces need quotes: `key: \"{{ value }}\"`");
        }
        if let Some((key, line)) = duplicate {
            self.problem(codes::DUPLICATE_KEY, key.at, format!("`{}` stands here twice", key.text));
            self.help(format!("it was first given in line {line}; take out one of them"));
        }
        true
    }

    /// Tags would let a text choose its type; only `!!str`, which does no harm, means something.
    fn tag(&mut self, tag: Option<&Tag>, at: At) -> bool {
        match tag {
            None => false,
            Some(tag) if tag.core_suffix() == Some("str") => true,
            Some(tag) => {
                self.problem(codes::YAML_TAG, at, format!("the tag `{}` means nothing here", tag.original()));
                self.help("take it out");
                false
            }
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, at: At) -> Node {
        let is_text = self.tag(tag, at);
        let written = match style {
            ScalarStyle::Plain => Written::Plain,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Written::Quoted,
            ScalarStyle::Literal => Written::Block,
            ScalarStyle::Folded => Written::Folded,
        };
        let value = match style {
            ScalarStyle::Plain if !is_text => plain(text),
            _ => Yaml::Text(text.to_owned()),
        };
        Node { value, at, written }
    }
}

/// Nodes and bytes of text of a tree.
fn size(node: &Node) -> (usize, usize) {
    match &node.value {
        Yaml::Text(text) => (1, text.len()),
        Yaml::List(items) => items.iter().map(size).fold((1, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        Yaml::Map(entries) => entries
            .iter()
            .map(|(key, value)| (size(value), key.text.len()))
            .fold((1, 0), |a, (b, key)| (a.0 + b.0 + 1, a.1 + b.1 + key)),
        _ => (1, 0),
    }
}

fn place(span: &Span) -> At {
    let (from, to) = (span.start, span.end);
    let width = if to.line() == from.line() { to.col().saturating_sub(from.col()) } else { 1 };
    At { line: from.line().max(1), column: from.col() + 1, width: width.max(1) }
}

/// YAML 1.2's core schema for plain scalars.
fn plain(text: &str) -> Yaml {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Yaml::Null,
        "true" | "True" | "TRUE" => return Yaml::Bool(true),
        "false" | "False" | "FALSE" => return Yaml::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Yaml::Text(text.to_owned());
    }
    if digits.bytes().all(|b| b.is_ascii_digit())
        && let Ok(number) = text.parse::<i64>()
    {
        return Yaml::Int(number);
    }
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(number) = text.strip_prefix(prefix).and_then(|rest| i64::from_str_radix(rest, radix).ok()) {
            return Yaml::Int(number);
        }
    }
    let numeric = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse::<f64>() {
        Ok(number) if numeric && number.is_finite() => Yaml::Float(number),
        _ => Yaml::Text(text.to_owned()),
    }
}
