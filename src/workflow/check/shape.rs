//! JSON Schemas, compiled once into a form that a tree with places can be walked by.
//!
//! The typed documents are the one source: their schemas say which keys there are, of which types, and (`x-kind`)
//! which further check a text needs. So what editors complete and what `validate` accepts cannot drift apart.

use super::super::schema::document::{At, Node, Yaml};
use super::super::schema::{DocKind, json_schema};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::OnceLock;

/// Index of a shape.
type Ref = usize;

/// What may stand at a place.
#[derive(Debug, Clone, Default)]
struct Shape {
    anything: bool,
    null: bool,
    bool: bool,
    int: bool,
    float: bool,
    text: bool,
    /// The only texts that may stand here; empty: any.
    words: Vec<String>,
    /// Which further check a text needs.
    kind: String,
    min: Option<f64>,
    max: Option<f64>,
    list: Option<Ref>,
    map: Option<MapShape>,
}

/// A map's keys.
#[derive(Debug, Clone, Default)]
struct MapShape {
    keys: Vec<(String, Ref, Option<String>)>,
    required: Vec<String>,
    /// What further keys hold; `None`: there are no further keys.
    rest: Option<Ref>,
}

/// The compiled schema of a kind of document.
#[derive(Debug)]
pub(super) struct Grammar {
    shapes: Vec<Shape>,
}

/// What the walk finds; the checker makes diagnostics of it.
pub(super) trait Visitor {
    /// A key that means nothing here.
    fn unknown_key(&mut self, at: At, key: &str, known: &[&str], path: &[&str]);
    /// A key that has to be there.
    fn missing_key(&mut self, at: At, key: &str, path: &[&str]);
    /// Two names of one key.
    fn both(&mut self, at: At, key: &str, other: &str);
    /// A value of the wrong type.
    fn wrong_type(&mut self, node: &Node, at: At, expected: &str);
    /// A word that is none of those known.
    fn unknown_value(&mut self, node: &Node, words: &[String]);
    /// A number out of range.
    fn out_of_range(&mut self, node: &Node, min: Option<f64>, max: Option<f64>);
    /// A text of a kind.
    fn text(&mut self, kind: &str, node: &Node, text: &str, path: &[&str]);
}

/// The grammar of a kind of document, compiled on first use.
pub(super) fn grammar(kind: DocKind) -> &'static Grammar {
    static ALL: [OnceLock<Grammar>; 7] = [const { OnceLock::new() }; 7];
    let slot = match kind {
        DocKind::Workflow => &ALL[0],
        DocKind::Mode => &ALL[1],
        DocKind::Policy => &ALL[2],
        DocKind::Config => &ALL[3],
        DocKind::Backend => &ALL[4],
        DocKind::Pricing => &ALL[5],
        DocKind::Serve => &ALL[6],
    };
    slot.get_or_init(|| Grammar::compile(&json_schema(kind)))
}

impl Grammar {
    fn compile(schema: &Value) -> Self {
        let mut builder = Builder { schema, shapes: Vec::new(), named: HashMap::new() };
        builder.shape(schema);
        Self { shapes: builder.shapes }
    }

    /// Walks a tree.
    pub(super) fn walk(&self, root: &Node, visitor: &mut dyn Visitor) {
        self.node(0, root, root.at, &mut Vec::new(), visitor);
    }

    fn node<'n>(&self, shape: Ref, node: &'n Node, at: At, path: &mut Vec<&'n str>, visitor: &mut dyn Visitor) {
        let Some(shape) = self.shapes.get(shape) else { return };
        if shape.anything {
            return;
        }
        match &node.value {
            Yaml::Null if shape.null => {}
            Yaml::Bool(_) if shape.bool => {}
            Yaml::Int(number) if shape.int || shape.float => self.range(shape, node, *number as f64, visitor),
            Yaml::Float(number) if shape.float => self.range(shape, node, *number, visitor),
            Yaml::Text(text) if shape.text => {
                if !shape.words.is_empty() && !shape.words.iter().any(|word| word == text) && shape.kind.is_empty() {
                    visitor.unknown_value(node, &shape.words);
                } else if !shape.kind.is_empty() && !shape.words.contains(text) {
                    visitor.text(&shape.kind, node, text, path);
                }
            }
            Yaml::List(items) => match shape.list {
                Some(inner) => {
                    for item in items {
                        self.node(inner, item, item.at, path, visitor);
                    }
                }
                None => visitor.wrong_type(node, at, &shape.expected()),
            },
            Yaml::Map(entries) => match &shape.map {
                Some(map) => self.map(map, entries, at, path, visitor),
                None => visitor.wrong_type(node, at, &shape.expected()),
            },
            _ => visitor.wrong_type(node, at, &shape.expected()),
        }
    }

    fn range(&self, shape: &Shape, node: &Node, number: f64, visitor: &mut dyn Visitor) {
        if shape.min.is_some_and(|min| number < min) || shape.max.is_some_and(|max| number > max) {
            visitor.out_of_range(node, shape.min, shape.max);
        }
    }

    fn map<'n>(
        &self,
        map: &MapShape,
        entries: &'n [(super::super::schema::document::Key, Node)],
        at: At,
        path: &mut Vec<&'n str>,
        visitor: &mut dyn Visitor,
    ) {
        let has = |key: &str| entries.iter().any(|(k, _)| k.text == key);
        for (key, node) in entries {
            match (map.keys.iter().find(|(name, ..)| *name == key.text), map.rest) {
                (Some((_, inner, synonym)), _) => {
                    if let Some(canonical) = synonym
                        && let Some((other, ..)) = map
                            .keys
                            .iter()
                            .filter(|(name, _, of)| name == canonical || of.as_ref() == Some(canonical))
                            .find(|(name, ..)| {
                                *name != key.text && has(name) && (name == canonical || *name < key.text)
                            })
                    {
                        visitor.both(key.at, &key.text, other);
                    }
                    path.push(&key.text);
                    let at = if matches!(node.value, Yaml::Null) { key.at } else { node.at };
                    self.node(*inner, node, at, path, visitor);
                    path.pop();
                }
                (None, Some(inner)) => {
                    path.push(&key.text);
                    let at = if matches!(node.value, Yaml::Null) { key.at } else { node.at };
                    self.node(inner, node, at, path, visitor);
                    path.pop();
                }
                (None, None) => {
                    let known: Vec<&str> = map.keys.iter().map(|(name, ..)| name.as_str()).collect();
                    visitor.unknown_key(key.at, &key.text, &known, path);
                }
            }
        }
        for required in map.required.iter().filter(|key| !has(key)) {
            visitor.missing_key(at, required, path);
        }
    }
}

impl Shape {
    /// In words, for people.
    fn expected(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        if !self.words.is_empty() {
            parts.push(format!("one of {}", self.words.join(", ")));
        } else if self.text {
            parts.push("text".into());
        }
        if self.bool {
            parts.push("true or false".into());
        }
        if self.float {
            parts.push("a number".into());
        } else if self.int {
            parts.push("a whole number".into());
        }
        if self.list.is_some() {
            parts.push("a list".into());
        }
        if self.map.is_some() {
            parts.push("a map".into());
        }
        parts.join(" or ")
    }

    /// What may stand at a place of either shape.
    fn join(&mut self, other: Self) {
        self.anything |= other.anything;
        self.null |= other.null;
        self.bool |= other.bool;
        self.int |= other.int;
        self.float |= other.float;
        self.text |= other.text;
        self.words.extend(other.words);
        if self.kind.is_empty() {
            self.kind = other.kind;
        }
        self.min = self.min.or(other.min);
        self.max = self.max.or(other.max);
        self.list = self.list.or(other.list);
        self.map = self.map.take().or(other.map);
    }
}

struct Builder<'s> {
    schema: &'s Value,
    shapes: Vec<Shape>,
    named: HashMap<String, Ref>,
}

impl Builder<'_> {
    /// Reserves a place first, so that schemas may refer to themselves.
    fn shape(&mut self, schema: &Value) -> Ref {
        let name = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
        if let Some(name) = name {
            if let Some(known) = self.named.get(name) {
                return *known;
            }
            let place = self.reserve();
            self.named.insert(name.to_owned(), place);
            let target = self.schema.pointer(&format!("/$defs/{name}")).cloned().unwrap_or_default();
            let shape = self.read(&target);
            self.put(place, shape);
            return place;
        }
        let place = self.reserve();
        let shape = self.read(schema);
        self.put(place, shape);
        place
    }

    fn reserve(&mut self) -> Ref {
        self.shapes.push(Shape::default());
        self.shapes.len() - 1
    }

    fn put(&mut self, place: Ref, shape: Shape) {
        if let Some(slot) = self.shapes.get_mut(place) {
            *slot = shape;
        }
    }

    fn read(&mut self, schema: &Value) -> Shape {
        let mut shape = Shape::default();
        if schema.get("$ref").is_some() {
            let place = self.shape(schema);
            return self.shapes.get(place).cloned().unwrap_or_default();
        }
        let variants = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key)).and_then(Value::as_array);
        if let Some(variants) = variants.filter(|_| schema.get("properties").is_none()) {
            for variant in variants {
                let part = self.read(variant);
                shape.join(part);
            }
            return shape;
        }
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let words = schema.get("enum").and_then(Value::as_array).cloned().unwrap_or_default();
        let words = words.iter().chain(schema.get("const")).filter_map(Value::as_str).map(str::to_owned);
        shape.words = words.collect();
        shape.anything = types.is_empty() && shape.words.is_empty();
        shape.text = types.contains(&"string") || !shape.words.is_empty();
        shape.null = types.contains(&"null");
        shape.bool = types.contains(&"boolean");
        shape.int = types.contains(&"integer");
        shape.float = types.contains(&"number");
        shape.kind = schema.get("x-kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        shape.min = schema.get("minimum").and_then(Value::as_f64);
        shape.max = schema.get("maximum").and_then(Value::as_f64);
        if types.contains(&"array") {
            let items = schema.get("items").cloned().unwrap_or(Value::Bool(true));
            shape.list = Some(self.shape(&items));
        }
        if types.contains(&"object") {
            shape.map = Some(self.map(schema));
        }
        shape
    }

    fn map(&mut self, schema: &Value) -> MapShape {
        let mut map = MapShape::default();
        for (key, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let synonym = value.get("x-synonym").and_then(Value::as_str).map(str::to_owned);
            map.keys.push((key.clone(), self.shape(value), synonym));
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        map.required = required.filter_map(Value::as_str).map(str::to_owned).collect();
        // A map whose keys are names of a kind has its values under their pattern.
        let named = schema.get("patternProperties").and_then(Value::as_object).and_then(|all| all.values().next());
        map.rest = match schema.get("additionalProperties") {
            _ if named.is_some() => named.map(|inner| self.shape(inner)),
            Some(Value::Bool(false)) => None,
            Some(inner) => Some(self.shape(inner)),
            None if map.keys.is_empty() => Some(self.shape(&Value::Bool(true))),
            None => None,
        };
        map
    }
}
