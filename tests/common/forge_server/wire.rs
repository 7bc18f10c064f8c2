//! A request on its way in and its answer on the way out: what is scripted to go wrong, tags, pages, who may ask.

use super::fault::Kind;
use super::{Asked, Inner, JOB_TOKEN, Memory, TOKEN, app, contract, gitea, github, gitlab, repository};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State as Extracted};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use codeforge::model::forge::ForgeKind;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A time as a query has it, compared with one that we wrote: both are UTC and of whole seconds.
pub(super) fn since(call: &Call, name: &str, at: &str) -> bool {
    call.asked(name).is_none_or(|since| at >= since)
}

/// A request, taken apart.
pub(super) struct Call {
    pub(super) method: String,
    /// Decoded segments.
    pub(super) path: Vec<String>,
    pub(super) query: BTreeMap<String, String>,
    pub(super) body: Value,
    /// The token is one that an App minted.
    pub(super) of_app: bool,
}

impl Call {
    pub(super) fn text(&self, name: &str) -> String {
        self.body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    pub(super) fn asked(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }
}

/// An answer: status and JSON; a list is paged.
pub(super) type Said = (u16, Value);

pub(super) fn not_found() -> Said {
    (404, json!({ "message": "Not Found" }))
}

/// A comment goes.
pub(super) fn removed(memory: &mut Memory, id: &str) -> Said {
    let before = memory.comments.len();
    memory.comments.retain(|comment| comment.id.to_string() != id);
    if memory.comments.len() < before { (204, Value::Null) } else { not_found() }
}

pub(super) async fn serve(Extracted(inner): Extracted<Arc<Inner>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 256 << 20).await.unwrap_or_default();
    let whole = parts.uri.path().to_owned();
    let Some(path) = inner.within(&whole) else {
        inner.memory().wrong.push(format!("{whole} lies beside {}", inner.below));
        return answer(404, not_found().1.to_string().into_bytes());
    };
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let method = parts.method.as_str().to_owned();
    let git = path.starts_with("/acme/widgets.git");
    let mutates = body.windows(8).any(|part| part == b"mutation");
    if !git {
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let (method, path, query) = (method.clone(), path.clone(), query.clone());
        let wrong = contract::judge(inner.kind, &method, &path, &query, &json);
        let mut memory = inner.memory();
        memory.wrong.extend(wrong);
        let (headers, at) = (parts.headers.clone(), std::time::Instant::now());
        memory.asked.push(Asked { method, path, query, body: json, headers, at });
    }
    let fault = {
        let mut memory = inner.memory();
        let found = memory.faults.iter_mut().find(|fault| {
            fault.times > 0 && fault.method == method && (path.ends_with(&fault.path) || query.contains(&fault.path))
        });
        found.map(|fault| {
            fault.times -= 1;
            fault.kind.clone()
        })
    };
    if let Some(Kind::Status(status, headers, body)) = &fault {
        let mut response = answer(*status, body.to_string().into_bytes());
        for (name, value) in headers {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        return response;
    }
    if let Some(Kind::After(branch)) = &fault {
        inner.commit_by("ann", branch, "main", &[("by-hand.txt", Some("by hand\n"))]);
    }
    let response = if git {
        repository::serve(&inner, &parts.method, &path, &query, &parts.headers, body).await
    } else {
        api(&inner, &parts.method, (&path, &whole), &query, &parts.headers, &body)
    };
    let response = tagged(&inner, &parts, response).await;
    let writes = match (git, method.as_str()) {
        (true, _) => path.ends_with("git-receive-pack") && method == "POST",
        (false, "GET") => false,
        (false, _) => !path.ends_with("graphql") || mutates,
    };
    let stop = {
        let mut memory = inner.memory();
        memory.written += usize::from(writes);
        memory.stopped |= writes && memory.stop_at == Some(memory.written);
        memory.stopped
    };
    if stop {
        std::future::pending::<()>().await;
    }
    if let Some(Kind::Slow(time)) = &fault {
        tokio::time::sleep(*time).await;
    }
    if matches!(fault, Some(Kind::Close)) {
        // What serves the connection ends with it.
        std::panic::resume_unwind(Box::new("the socket is closed"));
    }
    if matches!(fault, Some(Kind::Lose)) {
        // What was done is done; the connection breaks off before the answer is whole.
        let broken = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("scripted"))]);
        return Response::builder().status(200).header("content-length", "9").body(Body::from_stream(broken)).unwrap();
    }
    response
}

/// Answers carry a tag, and who has it already is told so.
async fn tagged(inner: &Inner, request: &axum::http::request::Parts, response: Response) -> Response {
    if request.method != Method::GET || response.status() != 200 || inner.kind == ForgeKind::Gitea {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 256 << 20).await.unwrap();
    let tag =
        format!("\"{:x}\"", body.iter().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte))));
    if request.headers.get("if-none-match").is_some_and(|given| given == &tag) {
        inner.memory().unchanged += 1;
        return Response::builder().status(304).header("etag", tag).body(Body::empty()).unwrap();
    }
    parts.headers.insert("etag", tag.parse().unwrap());
    Response::from_parts(parts, Body::from(body))
}

fn api(
    inner: &Inner,
    method: &Method,
    (path, full): (&str, &str),
    query: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let scheme = if inner.kind == ForgeKind::Gitea { "token" } else { "Bearer" };
    let given = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = given.strip_prefix(scheme).map(str::trim).unwrap_or_default();
    let job = inner.kind == ForgeKind::Gitlab && headers.get("job-token").is_some_and(|value| value == JOB_TOKEN);
    let of_app = inner.memory().app.as_ref().is_some_and(|app| app.knows(given));
    let by_jwt = path.ends_with("/installation") || path.starts_with("/app/");
    if by_jwt {
        let (status, value) = app::handle(&mut inner.memory(), method.as_str(), path, given, body);
        return answer(status, value.to_string().into_bytes());
    }
    if given != TOKEN && !of_app && !(job && method == Method::GET) {
        return answer(401, json!({ "message": "Bad credentials" }).to_string().into_bytes());
    }
    let call = Call {
        method: method.as_str().to_owned(),
        path: path.split('/').filter(|part| !part.is_empty()).map(decoded).collect(),
        query: query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (decoded(name), decoded(&value.replace('+', "%20"))))
            .collect(),
        body: serde_json::from_slice(body).unwrap_or(Value::Null),
        of_app,
    };
    if let Some(raw) = raw_file(inner, &call) {
        return raw.map_or_else(|| answer(404, not_found().1.to_string().into_bytes()), |file| answer(200, file));
    }
    let (status, value) = match inner.kind {
        ForgeKind::Github => github::handle(inner, &call),
        ForgeKind::Gitlab => gitlab::handle(inner, &call),
        ForgeKind::Gitea => gitea::handle(inner, &call),
        ForgeKind::Local => not_found(),
    };
    let Value::Array(items) = value else { return answer(status, value.to_string().into_bytes()) };
    let number = |name: &str, usual: usize| call.asked(name).and_then(|text| text.parse().ok()).unwrap_or(usual);
    let size = if inner.kind == ForgeKind::Gitea { number("limit", 30) } else { number("per_page", 30) };
    // The comments of one thread come at once.
    let whole = inner.kind == ForgeKind::Gitea && path.ends_with("/comments") && !path.ends_with("issues/comments");
    let size = if whole { items.len().max(1) } else { size };
    let (size, page) = (if whole { size } else { size.min(inner.memory().page) }, number("page", 1));
    let here: Vec<Value> = items.iter().skip((page - 1) * size).take(size).cloned().collect();
    let mut response = answer(status, Value::Array(here).to_string().into_bytes());
    if items.len() > page * size {
        let host = headers.get("host").unwrap().to_str().unwrap();
        let rest: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("page=")).collect();
        let next = format!("<http://{host}{full}?{}&page={}>; rel=\"next\"", rest.join("&"), page + 1);
        response.headers_mut().insert("link", next.parse().unwrap());
    }
    response
}

/// A file's bytes, where that is what is asked for; the inner one: where it is there.
fn raw_file(inner: &Inner, call: &Call) -> Option<Option<Vec<u8>>> {
    let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
    let file = match (inner.kind, path.as_slice()) {
        (ForgeKind::Github, ["repos", _, _, "contents", file @ ..]) => file.join("/"),
        (ForgeKind::Gitlab, ["api", "v4", "projects", _, "repository", "files", file, "raw"]) => (*file).to_owned(),
        (ForgeKind::Gitea, ["api", "v1", "repos", _, _, "raw", file @ ..]) => file.join("/"),
        (ForgeKind::Gitea, ["api", "v1", "repos", _, _, "pulls", file]) => {
            let number = file.strip_suffix(".diff")?;
            let change = inner.memory().changes.iter().find(|change| change.number.to_string() == number).cloned()?;
            let range = format!("refs/heads/{}...refs/heads/{}", change.base, change.head);
            return Some(inner.git(&["diff", "-M", &range]).map(String::into_bytes));
        }
        _ => return None,
    };
    let at = call.asked("ref").unwrap_or("HEAD");
    Some(inner.git(&["show", &format!("{at}:{file}")]).map(String::into_bytes))
}

fn answer(status: u16, body: Vec<u8>) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    Response::builder().status(status).header("content-type", "application/json").body(Body::from(body)).unwrap()
}

pub(super) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap()
}
