//! Every request is held against what the forge's published description allows (`tests/contracts`).

use super::wire::decoded;
use apollo_compiler::request::coerce_variable_values;
use apollo_compiler::response::JsonMap;
use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, Schema};
use codeforge::model::forge::ForgeKind;
use serde_json::{Value, json};
use std::sync::LazyLock;

struct Operation {
    method: String,
    path: Vec<String>,
    query: Value,
    body: Option<jsonschema::Validator>,
}

static GITHUB: LazyLock<Vec<Operation>> = LazyLock::new(|| read(include_str!("../../contracts/github.json")));
static GITEA: LazyLock<Vec<Operation>> = LazyLock::new(|| read(include_str!("../../contracts/gitea.json")));
static GITLAB: LazyLock<Vec<Operation>> = LazyLock::new(|| read(include_str!("../../contracts/gitlab.json")));

static GRAPHQL: LazyLock<Valid<Schema>> = LazyLock::new(|| {
    let text = include_str!("../../contracts/github.graphql");
    Schema::parse_and_validate(text, "github.graphql").unwrap()
});

/// What GitLab documents in prose only.
const IN_PROSE: [&str; 5] = [
    "/api/v4/projects/{id}",
    "/api/v4/projects/{id}/members/all/{user}",
    "/api/v4/projects/{id}/milestones",
    "/api/v4/personal_access_tokens/self",
    "/api/v4/projects/{id}/push_rule",
];

fn read(text: &str) -> Vec<Operation> {
    let operations: Vec<Value> = serde_json::from_str(text).unwrap();
    operations
        .into_iter()
        .map(|operation| Operation {
            method: operation["method"].as_str().unwrap().to_owned(),
            path: parts(operation["path"].as_str().unwrap()),
            query: operation["query"].clone(),
            body: match &operation["body"] {
                Value::Null => None,
                schema => Some(jsonschema::validator_for(schema).unwrap()),
            },
        })
        .collect()
}

fn parts(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Whether a path is one of a template; `{path}` and `{filepath}` stand for all that follows.
fn fits(template: &[String], path: &[String]) -> bool {
    let open = template.last().is_some_and(|last| last == "{path}" || last == "{filepath}");
    (template.len() == path.len() || open && path.len() >= template.len())
        && template.iter().zip(path).all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
}

/// Holds a question of GitHub's second API against its schema: the query, and the variables that come with it.
fn judge_graphql(body: &Value) -> Result<(), String> {
    let fields = body.as_object().ok_or("it is no object")?;
    if let Some(name) = fields.keys().find(|name| !["query", "variables"].contains(&name.as_str())) {
        return Err(format!("no field `{name}`"));
    }
    let query = body["query"].as_str().ok_or("there is no query")?;
    let document = ExecutableDocument::parse_and_validate(&GRAPHQL, query, "query");
    let document = document.map_err(|error| error.errors.to_string())?;
    let operation = document.operations.get(None).map_err(|_| "it is not one operation".to_owned())?;
    let variables: JsonMap = serde_json::from_value(body["variables"].clone()).map_err(|error| error.to_string())?;
    let declared = |name: &str| operation.variables.iter().any(|variable| variable.name == name);
    if let Some((name, _)) = variables.iter().find(|(name, _)| !declared(name.as_str())) {
        return Err(format!("the query has no variable `{}`", name.as_str()));
    }
    let fits = coerce_variable_values(&GRAPHQL, operation, &variables);
    fits.map(|_| ()).map_err(|error| error.message().to_string())
}

/// What is wrong with a request; `None`: nothing.
pub fn judge(kind: ForgeKind, method: &str, path: &str, query: &str, body: &Value) -> Option<String> {
    let given = parts(path);
    let operations = match kind {
        ForgeKind::Github if path == "/graphql" => {
            return judge_graphql(body).err().map(|why| format!("{method} {path}: {why}\n{body:#}"));
        }
        ForgeKind::Github => &GITHUB,
        ForgeKind::Gitlab => &GITLAB,
        ForgeKind::Gitea => &GITEA,
        ForgeKind::Local => return None,
    };
    // The most literal template: `comments` is not an issue's number.
    let found = operations
        .iter()
        .filter(|operation| operation.method == method && fits(&operation.path, &given))
        .max_by_key(|operation| operation.path.iter().filter(|part| !part.starts_with('{')).count());
    let Some(operation) = found else {
        let in_prose = method == "GET" && IN_PROSE.iter().any(|template| fits(&parts(template), &given));
        return (!in_prose || kind != ForgeKind::Gitlab).then(|| format!("{method} {path}: no such operation"));
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let parameter = &operation.query[name];
        if parameter.is_null() {
            return Some(format!("{method} {path}: no parameter `{name}`"));
        }
        let text = decoded(value);
        let typed = text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number));
        let truth = text.parse::<bool>().map_or_else(|_| json!(text), |truth| json!(truth));
        let fits = [json!(text), typed, truth].iter().any(|value| jsonschema::is_valid(&parameter["schema"], value));
        if !fits {
            return Some(format!("{method} {path}: `{name}={text}` is not what it takes"));
        }
    }
    match (&operation.body, body) {
        (None, Value::Null) => None,
        // What may come with it, need not.
        (Some(_), Value::Null) if method == "DELETE" => None,
        (None, body) => Some(format!("{method} {path}: takes no body, and got {body}")),
        (Some(schema), body) => {
            let errors: Vec<String> = schema.iter_errors(body).map(|error| error.to_string()).collect();
            (!errors.is_empty()).then(|| format!("{method} {path}: {}", errors.join("; ")))
        }
    }
}
