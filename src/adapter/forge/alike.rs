//! What GitHub and Gitea say and want in the same words.

use super::connection::Connection;
use super::http::{Failed, Http, Kind, read};
use super::issues::{Wanted, refused};
use crate::model::event::Side;
use crate::model::forge::CheckState;
use crate::port::forge::{Changes, Check, CommitInfo, ForgeError, IssueEdit, IssueInfo, NewIssue, Remark, Thread};
use reqwest::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Mutex;

#[derive(Deserialize)]
pub(super) struct User {
    pub(super) login: String,
}

#[derive(Deserialize)]
pub(super) struct RepoRef {
    pub(super) id: u64,
    pub(super) full_name: String,
}

/// A branch of a pull request.
#[derive(Deserialize)]
pub(super) struct RefAt {
    #[serde(rename = "ref")]
    pub(super) branch: String,
    pub(super) sha: String,
    pub(super) repo: Option<RepoRef>,
}

impl From<RefAt> for Side {
    fn from(at: RefAt) -> Self {
        let (repository, repository_id) = at.repo.map_or((None, None), |repo| (Some(repo.full_name), Some(repo.id)));
        Self { branch: at.branch, sha: Some(at.sha), repository, repository_id }
    }
}

/// The title of a milestone that a pull request has.
#[derive(Deserialize)]
pub(super) struct Titled {
    pub(super) title: String,
}

#[derive(Deserialize)]
struct Person {
    email: Option<String>,
}

#[derive(Deserialize)]
struct Verification {
    #[serde(default)]
    verified: bool,
}

#[derive(Deserialize)]
struct Object {
    sha: String,
}

#[derive(Deserialize)]
struct Inner {
    author: Option<Person>,
    committer: Option<Person>,
    message: String,
    tree: Option<Object>,
    verification: Option<Verification>,
}

/// A commit.
#[derive(Deserialize)]
pub(super) struct CommitWire {
    sha: String,
    commit: Inner,
    author: Option<User>,
    parents: Option<Vec<Object>>,
}

impl From<CommitWire> for CommitInfo {
    fn from(wire: CommitWire) -> Self {
        let email = |person: Option<Person>| person.and_then(|person| person.email).unwrap_or_default();
        Self {
            id: wire.sha,
            committer: email(wire.commit.committer),
            author: email(wire.commit.author),
            message: wire.commit.message,
            parents: wire.parents.unwrap_or_default().into_iter().map(|parent| parent.sha).collect(),
            account: wire.author.map(|user| user.login),
            tree: wire.commit.tree.map(|tree| tree.sha),
            verified: wire.commit.verification.is_some_and(|verification| verification.verified),
        }
    }
}

/// A commit of a list, as far as its subject.
#[derive(Deserialize)]
pub(super) struct Listed {
    commit: Message,
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

impl From<Listed> for String {
    /// Its subject.
    fn from(listed: Listed) -> Self {
        listed.commit.message.lines().next().unwrap_or_default().to_owned()
    }
}

/// Changes are issues here.
pub(super) fn number_of(thread: Thread) -> String {
    match thread {
        Thread::Change(number) | Thread::Issue(number) => number.to_string(),
    }
}

/// How a commit stands, in a status's word. There is none for what was called off: `error` is neither a yes, which a
/// rule of branches would take, nor a fault of the change, nor a wait for ever.
pub(super) fn status_word(state: CheckState) -> &'static str {
    match state {
        CheckState::Pending => "pending",
        CheckState::Success => "success",
        CheckState::Failure => "failure",
        CheckState::Error | CheckState::Cancelled => "error",
    }
}

/// A commit status; its words have at most so many characters.
pub(super) fn status(check: &Check<'_>, most: usize) -> Value {
    let words: String = check.words.chars().take(most).collect();
    let mut body = json!({ "state": status_word(check.state), "context": check.name, "description": words });
    if let (Some(url), Some(fields)) = (check.url, body.as_object_mut()) {
        fields.insert("target_url".into(), url.into());
    }
    body
}

/// Makes the remarks that do not stand yet, all in one request; what became of them is looked up where its answer was
/// lost. `standing`: the keys of those that stand. Gives how many were made, and how many stood already.
pub(super) async fn remark_once<S, SF, M, MF>(
    http: &Http,
    remarks: &[Remark],
    standing: S,
    make: M,
) -> Result<(usize, usize), ForgeError>
where
    S: Fn() -> SF,
    SF: Future<Output = Result<BTreeSet<String>, ForgeError>>,
    M: Fn(Vec<Remark>) -> MF,
    MF: Future<Output = Result<(), Failed>>,
{
    if remarks.is_empty() {
        return Ok((0, 0));
    }
    let left = Mutex::new((remarks.to_vec(), None));
    let look = || async {
        let there = standing().await?;
        let mut left = left.lock().await;
        left.0.retain(|remark| !there.contains(&remark.key));
        let gone = remarks.len() - left.0.len();
        // What stood before anything was made is what the first look finds.
        left.1.get_or_insert(gone);
        Ok(left.0.is_empty().then_some(()))
    };
    let make_left = || async {
        let now = left.lock().await.0.clone();
        make(now).await
    };
    http.once_only(look, make_left).await?;
    let kept = left.into_inner().1.unwrap_or_default();
    Ok((remarks.len() - kept, kept))
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// An issue.
#[derive(Deserialize)]
pub(super) struct IssueWire {
    number: u64,
    title: String,
    body: Option<String>,
    user: Option<User>,
    html_url: Option<String>,
    state: String,
    labels: Option<Vec<Named>>,
    assignees: Option<Vec<User>>,
    pub(super) closed_by: Option<User>,
    /// It is a pull request.
    pub(super) pull_request: Option<IgnoredAny>,
}

impl From<IssueWire> for IssueInfo {
    fn from(wire: IssueWire) -> Self {
        Self {
            number: wire.number,
            title: wire.title,
            body: wire.body.unwrap_or_default(),
            author: wire.user.map(|user| user.login),
            url: wire.html_url,
            open: wire.state == "open",
            labels: wire.labels.unwrap_or_default().into_iter().map(|label| label.name).collect(),
            assignees: wire.assignees.unwrap_or_default().into_iter().map(|user| user.login).collect(),
            memory: None,
        }
    }
}

/// Opens an issue, or finds the one that `look` finds. `text`: its whole text; `labels`: as the forge takes them. Somebody
/// who cannot be assigned would keep the whole issue from being made: then it is made without, and that is told.
pub(super) async fn open_issue<L, LF>(
    at: &Connection,
    new: &NewIssue<'_>,
    (text, labels): (String, Value),
    needs: &str,
    look: L,
) -> Result<(IssueInfo, Vec<String>), ForgeError>
where
    L: Fn() -> LF,
    LF: Future<Output = Result<Option<IssueInfo>, ForgeError>>,
{
    let doing = "opening an issue";
    let assigned = AtomicBool::new(!new.assignees.is_empty());
    let make = || async {
        let assigns = assigned.load(Ordering::Relaxed);
        let assignees = if assigns { new.assignees } else { &[] };
        let whole = json!({ "title": new.title, "body": text, "labels": labels, "assignees": assignees });
        match at.write(Method::POST, &["issues"], whole, doing, needs, Kind::Once).await {
            Ok(answer) => Ok(IssueInfo::from(read::<IssueWire>(doing, &answer.body).map_err(Failed::Lost)?)),
            Err(Failed::Sure(error @ ForgeError::Contract { .. })) if assigns => {
                assigned.store(false, Ordering::Relaxed);
                Err(Failed::Lost(error))
            }
            Err(error) => Err(error),
        }
    };
    let (info, _) = at.http.once_only(look, make).await.map_err(refused)?;
    let mut told = Vec::new();
    if !new.assignees.is_empty() && !assigned.load(Ordering::Relaxed) {
        told.push("nobody was assigned: somebody who is named cannot be".to_owned());
    }
    Ok((info, told))
}

/// Gives an issue another text and another state in one request, then labels, where it lacks them. Gives what it was to
/// get, and what could not be set.
pub(super) async fn edit_issue(
    at: &Connection,
    forge: &(dyn Changes + Sync),
    (issue, edit): (&IssueInfo, &IssueEdit<'_>),
    needs: &str,
) -> Result<(Wanted, Vec<String>), ForgeError> {
    let wanted = Wanted::of(issue, edit, at.marks.issue(edit.text));
    if wanted.writes() {
        let mut body = Map::new();
        body.extend(wanted.body.as_ref().map(|text| ("body".to_owned(), json!(text))));
        body.extend(wanted.open.map(|open| ("state".to_owned(), json!(if open { "open" } else { "closed" }))));
        let (parts, doing) = (["issues", &issue.number.to_string()], "bringing the issue up to date");
        let done = at.write(Method::PATCH, &parts, Value::Object(body), doing, needs, Kind::Again).await;
        done.map_err(|error| refused(error.into_inner()))?;
    }
    let mut told = Vec::new();
    if let Err(error) = forge.label(Thread::Issue(issue.number), &wanted.labels, &[]).await {
        told.push(format!("the labels were not set: {error}"));
    }
    Ok((wanted, told))
}

/// Sets the assignees of an issue; what could not be set is told.
pub(super) async fn assign_issue(
    at: &Connection,
    how: (Method, &[&str]),
    names: &[&String],
    needs: &str,
) -> Vec<String> {
    if names.is_empty() {
        return Vec::new();
    }
    let body = json!({ "assignees": names });
    match at.write(how.0, how.1, body, "assigning the issue", needs, Kind::Again).await {
        Ok(_) => Vec::new(),
        Err(error) => vec![format!("nobody was assigned: {}", error.into_inner())],
    }
}
