//! GitLab's REST API, version 4.

use super::http::{Answer, Ask, Failed, Http, Kind, address, bearer, read, secret_header};
use super::lines::{Lines, Place, suggestion};
use super::remote::GitRemote;
use super::{Jitter, Marks, Settings, parse};
use crate::model::event::{Change, Side};
use crate::model::forge::{Access, CheckState, ForgeKind, Right, TokenRights};
use crate::port::clock::Clock;
use crate::port::forge::{
    Capabilities, ChangeInfo, ChangeState, ChangedFile, Changes, Code, CommentInfo, Comments, CommitInfo, Forge,
    ForgeAt, ForgeError, LineSide, NewChange, NewReview, Protection, Remark, Remote, Reviewed, Reviews, Rights, Status,
    Sticky, Stuck, Thread,
};
use async_trait::async_trait;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::OnceCell;

const READ_API: &str = "scope read_api";
const API: &str = "scope api, role Developer";
const PUSH: &str = "scope write_repository, role Developer";
/// GitLab's number for the role that may push.
const DEVELOPER: u64 = 30;

pub(super) struct Gitlab {
    http: Arc<Http>,
    api: Url,
    repository: String,
    host: String,
    marks: Marks,
    remote: GitRemote,
    /// The token is that of a CI job: it may read some and write little.
    job: bool,
    own: OnceCell<Option<String>>,
    project: OnceCell<Project>,
}

#[derive(Clone, Deserialize)]
struct Project {
    id: u64,
    default_branch: Option<String>,
    path_with_namespace: String,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    username: String,
}

#[derive(Clone, Deserialize)]
struct DiffRefs {
    base_sha: Option<String>,
    head_sha: Option<String>,
    start_sha: Option<String>,
}

#[derive(Deserialize)]
struct Merge {
    iid: u64,
    title: String,
    description: Option<String>,
    author: Option<User>,
    web_url: String,
    #[serde(default)]
    draft: bool,
    #[serde(default)]
    labels: Vec<String>,
    state: String,
    source_branch: String,
    target_branch: String,
    source_project_id: Option<u64>,
    target_project_id: Option<u64>,
    sha: Option<String>,
    diff_refs: Option<DiffRefs>,
    #[serde(default)]
    reviewers: Vec<User>,
}

#[derive(Deserialize)]
struct FileWire {
    new_path: String,
    old_path: String,
    #[serde(default)]
    new_file: bool,
    #[serde(default)]
    renamed_file: bool,
    #[serde(default)]
    deleted_file: bool,
    #[serde(default)]
    diff: String,
}

#[derive(Deserialize)]
struct Note {
    id: u64,
    body: String,
    author: Option<User>,
    #[serde(default)]
    system: bool,
    #[serde(default)]
    resolvable: bool,
    #[serde(default)]
    resolved: bool,
}

#[derive(Deserialize)]
struct Discussion {
    id: String,
    notes: Vec<Note>,
}

impl Gitlab {
    pub(super) fn new(
        at: &ForgeAt,
        clock: Arc<dyn Clock>,
        jitter: Jitter,
        settings: Settings,
    ) -> Result<Self, ForgeError> {
        let api = parse("the API's address", &at.api)?;
        let git = parse("the repository's address", &at.git_url)?;
        let token = at.token.expose_secret().trim();
        // A job's token is taken in a header of its own; all others as bearer.
        let job = token.starts_with("glcbt-");
        let headers = if job {
            let mut headers = HeaderMap::new();
            headers.insert("job-token", secret_header(token)?);
            headers
        } else {
            bearer(token)?
        };
        let http = Arc::new(Http::new(&api, headers, clock, jitter, settings.clone())?);
        let user = if job { "gitlab-ci-token" } else { "oauth2" };
        let remote = GitRemote::new(Arc::clone(&http), git.clone(), user, &at.token, &settings, PUSH)?;
        Ok(Self {
            http,
            api,
            repository: at.repository.clone(),
            host: git.host_str().unwrap_or_default().to_owned(),
            marks: Marks::new(at),
            remote,
            job,
            own: OnceCell::new(),
            project: OnceCell::new(),
        })
    }

    /// `/projects/PATH/…`.
    fn url(&self, parts: &[&str], query: &[(&str, &str)]) -> Result<Url, ForgeError> {
        let mut all = vec!["projects", self.repository.as_str()];
        all.extend(parts);
        address(&self.api, &all, query)
    }

    async fn get(&self, parts: &[&str], query: &[(&str, &str)], doing: &str) -> Result<Answer, ForgeError> {
        let ask = reading(self.url(parts, query)?, doing);
        self.http.ask(&ask).await.map_err(Failed::into_inner)
    }

    async fn write(
        &self,
        method: Method,
        parts: &[&str],
        body: Value,
        doing: &str,
        kind: Kind,
    ) -> Result<Answer, Failed> {
        let url = self.url(parts, &[])?;
        let ask = Ask { method, url, body: Some(body), doing, needs: Some(self.needs()), accept: None, kind };
        self.http.ask(&ask).await
    }

    fn needs(&self) -> &'static str {
        if self.job {
            "a project access token with scope api in CODEFORGE_FORGE_TOKEN; a job's token cannot"
        } else {
            API
        }
    }

    async fn project(&self) -> Result<&Project, ForgeError> {
        let doing = "reading the project";
        self.project
            .get_or_try_init(|| async {
                let answer = self.get(&[], &[], doing).await?;
                read::<Project>(doing, &answer.body)
            })
            .await
    }

    async fn own(&self) -> Result<Option<&str>, ForgeError> {
        let asked = self.own.get_or_try_init(|| async {
            let doing = "asking who we are";
            let ask = reading(address(&self.api, &["user"], &[])?, doing);
            match self.http.ask(&ask).await.map_err(Failed::into_inner) {
                Ok(answer) => Ok(Some(read::<User>(doing, &answer.body)?.username)),
                Err(ForgeError::Refused { .. } | ForgeError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        });
        Ok(asked.await?.as_deref())
    }

    async fn user(&self, name: &str) -> Result<Option<User>, ForgeError> {
        let doing = "looking an account up";
        let url = address(&self.api, &["users"], &[("username", name)])?;
        let answer = self.http.ask(&reading(url, doing)).await.map_err(Failed::into_inner)?;
        let users: Vec<User> = read(doing, &answer.body)?;
        Ok(users.into_iter().find(|user| user.username.eq_ignore_ascii_case(name)))
    }

    async fn merge(&self, number: u64) -> Result<Merge, ForgeError> {
        let doing = format!("reading merge request !{number}");
        let answer = self.get(&["merge_requests", &number.to_string()], &[], &doing).await?;
        read(&doing, &answer.body)
    }

    fn info(&self, merge: Merge, project: &Project) -> ChangeInfo {
        let state = match merge.state.as_str() {
            "opened" | "locked" => ChangeState::Open,
            "merged" => ChangeState::Merged,
            _ => ChangeState::Closed,
        };
        let name = |id: Option<u64>| (id == Some(project.id)).then(|| project.path_with_namespace.clone());
        let refs = merge.diff_refs;
        let change = Change {
            number: merge.iid,
            title: merge.title,
            body: merge.description.unwrap_or_default(),
            author: merge.author.map(|user| user.username),
            url: Some(merge.web_url),
            draft: merge.draft,
            labels: merge.labels,
            head: Side {
                branch: merge.source_branch,
                sha: merge.sha,
                repository: name(merge.source_project_id),
                repository_id: merge.source_project_id,
            },
            base: Side {
                branch: merge.target_branch,
                sha: refs.and_then(|refs| refs.start_sha),
                repository: name(merge.target_project_id),
                repository_id: merge.target_project_id,
            },
        };
        ChangeInfo { change, state, reviewers: merge.reviewers.into_iter().map(|user| user.username).collect() }
    }

    async fn find_open(&self, branch: &str) -> Result<Option<ChangeInfo>, ForgeError> {
        let changes = self.changes_of_branch(branch).await?;
        Ok(changes.into_iter().find(|info| info.state == ChangeState::Open))
    }

    fn comment(&self, thread: Thread, note: Note) -> CommentInfo {
        let (word, number) = at(thread);
        let word = if word == "issues" { "issues" } else { "merge_requests" };
        let url = format!("https://{}/{}/-/{word}/{number}#note_{}", self.host, self.repository, note.id);
        CommentInfo { id: note.id, body: note.body, author: note.author.map(|user| user.username), url: Some(url) }
    }

    async fn sticky(&self, sticky: &Sticky<'_>) -> Result<Option<CommentInfo>, ForgeError> {
        let own = self.own().await?;
        self.marks.can_know(own)?;
        let comments = self.comments(sticky.thread).await?;
        Ok(comments
            .into_iter()
            .find(|comment| self.marks.is((own, comment.author.as_deref()), sticky.thread, sticky.key, &comment.body)))
    }

    async fn files(&self, number: u64) -> Result<Vec<FileWire>, ForgeError> {
        let url = self.url(&["merge_requests", &number.to_string(), "diffs"], &[("per_page", "100")])?;
        self.http.all(reading(url, "reading the change's files")).await
    }

    async fn discussions(&self, number: u64) -> Result<Vec<Discussion>, ForgeError> {
        let url = self.url(&["merge_requests", &number.to_string(), "discussions"], &[("per_page", "100")])?;
        self.http.all(reading(url, "reading the threads")).await
    }

    /// Our thread of a key, and whether it is resolved.
    async fn our_thread(&self, number: u64, key: &str) -> Result<Option<(String, bool)>, ForgeError> {
        let own = self.own().await?;
        self.marks.can_know(own)?;
        let thread = Thread::Change(number);
        let found = self.discussions(number).await?.into_iter().find_map(|discussion| {
            let first = discussion.notes.first()?;
            let author = first.author.as_ref().map(|user| user.username.as_str());
            let is = self.marks.is((own, author), thread, key, &first.body);
            is.then(|| (discussion.id.clone(), first.resolved || !first.resolvable))
        });
        Ok(found)
    }
}

fn reading<'a>(url: Url, doing: &'a str) -> Ask<'a> {
    Ask { method: Method::GET, url, body: None, doing, needs: Some(READ_API), accept: None, kind: Kind::Read }
}

fn at(thread: Thread) -> (&'static str, String) {
    match thread {
        Thread::Change(number) => ("merge_requests", number.to_string()),
        Thread::Issue(number) => ("issues", number.to_string()),
    }
}

#[async_trait]
impl Rights for Gitlab {
    async fn access_of(&self, user: &str) -> Access {
        #[derive(Deserialize)]
        struct Member {
            access_level: u64,
            state: Option<String>,
            expires_at: Option<String>,
        }
        let doing = "asking for somebody's access";
        let Ok(Some(user)) = self.user(user).await else { return Access::None };
        let id = user.id.to_string();
        let Ok(answer) = self.get(&["members", "all", &id], &[], doing).await else { return Access::None };
        let Ok(member) = read::<Member>(doing, &answer.body) else { return Access::None };
        // GitLab takes expired members out; a blocked account stays a member.
        let _ = member.expires_at;
        if member.state.is_some_and(|state| state != "active") {
            return Access::None;
        }
        match member.access_level {
            40 => Access::Maintain,
            50 | 60 => Access::Admin,
            DEVELOPER => Access::Write,
            20 | 15 => Access::Triage,
            10 => Access::Read,
            _ => Access::None,
        }
    }

    async fn own_account(&self) -> Result<Option<String>, ForgeError> {
        Ok(self.own().await?.map(str::to_owned))
    }

    async fn token_rights(&self) -> Result<TokenRights, ForgeError> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(default)]
            scopes: Vec<String>,
        }
        let doing = "asking what the token may do";
        let account = self.own_account().await.ok().flatten();
        let no = |needs: &str| Right::No(needs.to_owned());
        if let Err(error) = self.project().await {
            return match error {
                ForgeError::Refused { .. } | ForgeError::NotFound { .. } => Ok(TokenRights {
                    account,
                    read: no(READ_API),
                    push: no(PUSH),
                    open_changes: no(self.needs()),
                    comment: no(self.needs()),
                }),
                error => Err(error),
            };
        }
        let push = self.remote.may_push().await?;
        let changes = if self.job {
            no(self.needs())
        } else {
            let ask = reading(address(&self.api, &["personal_access_tokens", "self"], &[])?, doing);
            let scopes = match self.http.ask(&ask).await.map_err(Failed::into_inner) {
                Ok(answer) => read::<Token>(doing, &answer.body).ok().map(|token| token.scopes),
                Err(_) => None,
            };
            let access = match &account {
                Some(account) => Some(self.access_of(account).await),
                None => None,
            };
            match (scopes, access) {
                (Some(scopes), _) if !scopes.iter().any(|scope| scope == "api") => no(API),
                (_, Some(access)) if !access.reaches(Access::Write) => no(API),
                (Some(_), Some(_)) => Right::Yes,
                _ => Right::Unknown,
            }
        };
        Ok(TokenRights { account, read: Right::Yes, push, open_changes: changes.clone(), comment: changes })
    }
}

#[async_trait]
impl Changes for Gitlab {
    async fn change(&self, number: u64) -> Result<ChangeInfo, ForgeError> {
        let merge = self.merge(number).await?;
        Ok(self.info(merge, self.project().await?))
    }

    async fn changes_of_branch(&self, branch: &str) -> Result<Vec<ChangeInfo>, ForgeError> {
        let query = [
            ("source_branch", branch),
            ("state", "all"),
            ("order_by", "created_at"),
            ("sort", "desc"),
            ("per_page", "100"),
        ];
        let url = self.url(&["merge_requests"], &query)?;
        let merges: Vec<Merge> = self.http.all(reading(url, "looking for the branch's merge request")).await?;
        let project = self.project().await?;
        // A fork may have a branch of that name, too.
        let same = |info: &ChangeInfo| !info.change.is_fork() && info.change.head.branch == branch;
        Ok(merges.into_iter().map(|merge| self.info(merge, project)).filter(same).collect())
    }

    async fn open_branches(&self, prefix: &str) -> Result<Vec<String>, ForgeError> {
        let url = self.url(&["merge_requests"], &[("state", "opened"), ("per_page", "100")])?;
        let merges: Vec<Merge> = self.http.all(reading(url, "counting the open merge requests")).await?;
        let project = self.project().await?;
        let ours = |info: &ChangeInfo| !info.change.is_fork() && info.change.head.branch.starts_with(prefix);
        let infos = merges.into_iter().map(|merge| self.info(merge, project)).filter(ours);
        Ok(infos.map(|info| info.change.head.branch).collect())
    }

    async fn changed_files(&self, number: u64) -> Result<Vec<ChangedFile>, ForgeError> {
        let files = self.files(number).await?;
        Ok(files
            .into_iter()
            .map(|file| ChangedFile {
                from: file.renamed_file.then_some(file.old_path),
                added: file.new_file,
                removed: file.deleted_file,
                path: file.new_path,
                patch: (!file.diff.is_empty()).then_some(file.diff),
            })
            .collect())
    }

    async fn open_change(&self, new: &NewChange) -> Result<(ChangeInfo, Vec<String>), ForgeError> {
        let doing = "opening a merge request";
        let project = self.project().await?;
        let mut told = Vec::new();
        let mut reviewers = Vec::new();
        for name in &new.reviewers {
            match self.user(name).await? {
                Some(user) => reviewers.push(user.id),
                None => told.push(format!(
                    "`{}` was not asked for a review: there is no such account",
                    crate::text::clean(name)
                )),
            }
        }
        let title = if new.draft { format!("Draft: {}", new.title) } else { new.title.clone() };
        let make = || async {
            let body = json!({
                "source_branch": new.head, "target_branch": new.base, "title": title, "description": new.body,
                "labels": new.labels, "reviewer_ids": reviewers, "remove_source_branch": true,
            });
            let answer = match self.write(Method::POST, &["merge_requests"], body, doing, Kind::Once).await {
                // 409: there is one by now.
                Err(Failed::Sure(ForgeError::Contract { message, .. })) if message.contains("409") => {
                    return Err(Failed::Lost(ForgeError::Contract { doing: doing.into(), message }));
                }
                done => done?,
            };
            Ok(self.info(read::<Merge>(doing, &answer.body).map_err(Failed::Lost)?, project))
        };
        let (info, _) = self.http.once_only(|| self.find_open(&new.head), make).await?;
        let missing: Vec<String> =
            new.labels.iter().filter(|label| !info.change.labels.contains(label)).cloned().collect();
        if !missing.is_empty()
            && let Err(error) = self.label(Thread::Change(info.change.number), &missing, &[]).await
        {
            told.push(format!("the labels were not set: {error}"));
        }
        Ok((info, told))
    }

    async fn update_body(&self, number: u64, body: &str) -> Result<(), ForgeError> {
        let doing = format!("bringing merge request !{number} up to date");
        let parts = ["merge_requests", &number.to_string()];
        let done = self.write(Method::PUT, &parts, json!({ "description": body }), &doing, Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }

    async fn label(&self, thread: Thread, add: &[String], remove: &[String]) -> Result<(), ForgeError> {
        if add.is_empty() && remove.is_empty() {
            return Ok(());
        }
        let (word, number) = at(thread);
        let mut body = serde_json::Map::new();
        for (name, labels) in [("add_labels", add), ("remove_labels", remove)] {
            if !labels.is_empty() {
                body.insert(name.to_owned(), json!(labels));
            }
        }
        let done = self.write(Method::PUT, &[word, &number], Value::Object(body), "setting labels", Kind::Again).await;
        done.map(|_| ()).map_err(Failed::into_inner)
    }
}

#[async_trait]
impl Comments for Gitlab {
    async fn comments(&self, thread: Thread) -> Result<Vec<CommentInfo>, ForgeError> {
        let (word, number) = at(thread);
        let query = [("sort", "asc"), ("order_by", "created_at"), ("per_page", "100")];
        let notes: Vec<Note> =
            self.http.all(reading(self.url(&[word, &number, "notes"], &query)?, "reading the comments")).await?;
        let people = notes.into_iter().filter(|note| !note.system);
        Ok(people.map(|note| self.comment(thread, note)).collect())
    }

    async fn stick(&self, sticky: &Sticky<'_>) -> Result<Stuck, ForgeError> {
        let body = self.marks.sticky(sticky);
        let (word, number) = at(sticky.thread);
        let doing = "writing the comment";
        let make = || async {
            let parts = [word, number.as_str(), "notes"];
            let answer = self.write(Method::POST, &parts, json!({ "body": body }), doing, Kind::Once).await?;
            Ok(self.comment(sticky.thread, read::<Note>(doing, &answer.body).map_err(Failed::Lost)?))
        };
        let (comment, created) = self.http.once_only(|| self.sticky(sticky), make).await?;
        if created || comment.body.trim_end() == body.trim_end() {
            return Ok(Stuck { comment, created, updated: false });
        }
        let parts = [word, number.as_str(), "notes", &comment.id.to_string()];
        let asked = self.write(Method::PUT, &parts, json!({ "body": body }), doing, Kind::Again).await;
        asked.map_err(Failed::into_inner)?;
        Ok(Stuck { comment: CommentInfo { body, ..comment }, created: false, updated: true })
    }

    async fn recall(&self, thread: Thread, keys: &[&str]) -> Result<BTreeMap<String, String>, ForgeError> {
        let own = self.own().await?;
        self.marks.can_know(own)?;
        Ok(self.marks.memories(own, thread, keys, &self.comments(thread).await?))
    }

    async fn react(&self, thread: Thread, comment: u64, with: &str) -> Result<(), ForgeError> {
        let (word, number) = at(thread);
        let name = match with {
            "+1" => "thumbsup",
            "-1" => "thumbsdown",
            other => other,
        };
        let parts = [word, number.as_str(), "notes", &comment.to_string(), "award_emoji"];
        let done =
            self.write(Method::POST, &parts, json!({ "name": name }), "reacting to a comment", Kind::Again).await;
        match done.map_err(Failed::into_inner) {
            // It is there already.
            Err(ForgeError::NotFound { .. })
                if self.comments(thread).await?.iter().any(|there| there.id == comment) =>
            {
                Ok(())
            }
            done => done.map(|_| ()),
        }
    }
}

/// Where a remark stands, as GitLab counts: an added line by its new number, a removed one by its old number, one that
/// is the same by both. A renamed file keeps both of its names on every line.
fn position(file: &FileWire, place: Place, refs: &DiffRefs) -> Value {
    let mut position = json!({
        "position_type": "text", "base_sha": refs.base_sha, "start_sha": refs.start_sha, "head_sha": refs.head_sha,
        "old_path": file.old_path, "new_path": file.new_path,
    });
    if let Some(fields) = position.as_object_mut() {
        for (name, line) in [("old_line", place.old), ("new_line", place.new)] {
            if let Some(line) = line {
                fields.insert(name.to_owned(), line.into());
            }
        }
    }
    position
}

#[async_trait]
impl Reviews for Gitlab {
    async fn review(&self, review: &NewReview<'_>) -> Result<Reviewed, ForgeError> {
        let mut done = Reviewed::default();
        let doing = "writing a remark";
        let number = review.number.to_string();
        if !review.remarks.is_empty() {
            let refs = self.merge(review.number).await?.diff_refs;
            let Some(refs) = refs.filter(|refs| refs.base_sha.is_some() && refs.head_sha.is_some()) else {
                return Err(ForgeError::Contract {
                    doing: doing.into(),
                    message: "GitLab has not prepared the merge request's difference yet; run again in a minute".into(),
                });
            };
            if refs.head_sha.as_deref() != Some(review.commit) {
                let message = format!("the merge request's head is no longer {}; nothing was remarked", review.commit);
                return Err(ForgeError::Moved { name: format!("!{number}"), message });
            }
            let files = self.files(review.number).await?;
            let lines: BTreeMap<&str, (&FileWire, Lines)> =
                files.iter().map(|file| (file.new_path.as_str(), (file, Lines::of(&file.diff)))).collect();
            for remark in review.remarks {
                let place = lines
                    .get(remark.path.as_str())
                    .and_then(|(file, lines)| Some((*file, lines.place(remark.side, remark.line)?)));
                let Some((file, place)) = place else {
                    done.outside.push(remark.key.clone());
                    continue;
                };
                let body = json!({
                    "body": self.remark(review.number, remark), "position": position(file, place, &refs),
                });
                let parts = ["merge_requests", number.as_str(), "discussions"];
                let look = || async { Ok(self.our_thread(review.number, &remark.key).await?.map(|_| ())) };
                let make =
                    || async { self.write(Method::POST, &parts, body.clone(), doing, Kind::Once).await.map(|_| ()) };
                let (_, made) = self.http.once_only(look, make).await?;
                if made {
                    done.made += 1;
                } else {
                    done.kept += 1;
                }
            }
        }
        for key in review.resolved {
            let Some((id, false)) = self.our_thread(review.number, key).await? else { continue };
            let parts = ["merge_requests", number.as_str(), "discussions", &id];
            let body = json!({ "resolved": true });
            match self.write(Method::PUT, &parts, body, "resolving a thread", Kind::Again).await {
                Ok(_) => done.resolved += 1,
                Err(error) => done.told.push(format!("a thread was not resolved: {}", error.into_inner())),
            }
        }
        Ok(done)
    }
}

impl Gitlab {
    fn remark(&self, number: u64, remark: &Remark) -> String {
        let mut body = self.marks.under(Thread::Change(number), &remark.key, &remark.body);
        if let (Some(text), LineSide::New) = (&remark.replacement, remark.side) {
            body.push_str("\n\n");
            body.push_str(&suggestion("suggestion:-0+0", text));
        }
        body
    }
}

#[async_trait]
impl Code for Gitlab {
    async fn default_branch(&self) -> Result<String, ForgeError> {
        let branch = self.project().await?.default_branch.clone();
        branch.ok_or_else(|| ForgeError::NotFound {
            doing: "reading the default branch".into(),
            hint: "the project has no commit yet".into(),
        })
    }

    async fn protection(&self, branch: &str) -> Result<Protection, ForgeError> {
        #[derive(Deserialize)]
        struct Wire {
            protected: bool,
        }
        let doing = format!("asking whether `{branch}` is protected");
        match self.get(&["repository", "branches", branch], &[], &doing).await {
            Ok(answer) if read::<Wire>(&doing, &answer.body)?.protected => {
                Ok(Protection::Protected("it is a protected branch".into()))
            }
            Ok(_) => Ok(Protection::Open),
            Err(ForgeError::NotFound { .. }) => Ok(Protection::Missing),
            Err(error) => Err(error),
        }
    }

    async fn commit(&self, id: &str) -> Result<CommitInfo, ForgeError> {
        #[derive(Deserialize)]
        struct Wire {
            id: String,
            #[serde(default)]
            committer_email: String,
            #[serde(default)]
            author_email: String,
            message: String,
            #[serde(default)]
            parent_ids: Vec<String>,
        }
        let doing = format!("reading commit {id}");
        let answer = self.get(&["repository", "commits", id], &[], &doing).await?;
        let wire: Wire = read(&doing, &answer.body)?;
        Ok(CommitInfo {
            id: wire.id,
            committer: wire.committer_email,
            author: wire.author_email,
            message: wire.message,
            parents: wire.parent_ids,
            account: None,
            tree: None,
            verified: false,
        })
    }

    async fn file_at(&self, commit: &str, path: &str) -> Result<Option<Vec<u8>>, ForgeError> {
        let doing = format!("reading `{path}` at {commit}");
        match self.get(&["repository", "files", path, "raw"], &[("ref", commit)], &doing).await {
            Ok(answer) => Ok(Some(answer.body)),
            Err(ForgeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn set_status(&self, status: &Status<'_>) -> Result<(), ForgeError> {
        let state = match status.state {
            CheckState::Pending => "pending",
            CheckState::Success => "success",
            CheckState::Failure | CheckState::Error => "failed",
        };
        let words: String = status.words.chars().take(255).collect();
        let mut body = json!({ "state": state, "name": status.name, "description": words });
        if let (Some(url), Some(fields)) = (status.url, body.as_object_mut()) {
            fields.insert("target_url".into(), url.into());
        }
        let parts = ["statuses", status.commit];
        match self.write(Method::POST, &parts, body, "saying how the commit stands", Kind::Again).await {
            // GitLab refuses to say the same again.
            Err(Failed::Sure(ForgeError::Contract { message, .. })) if message.contains("Cannot transition status") => {
                Ok(())
            }
            done => done.map(|_| ()).map_err(Failed::into_inner),
        }
    }
}

#[async_trait]
impl Remote for Gitlab {
    async fn refs(&self, prefix: &str) -> Result<Vec<(String, String)>, ForgeError> {
        self.remote.refs(prefix).await
    }

    async fn push(&self, name: &str, old: Option<&str>, new: &str, pack: Vec<u8>) -> Result<(), ForgeError> {
        self.remote.push(name, old, new, pack).await
    }

    async fn fetch(&self, wants: &[String], haves: &[String], depth: u32) -> Result<Vec<u8>, ForgeError> {
        self.remote.fetch(wants, haves, depth).await
    }
}

impl Forge for Gitlab {
    fn kind(&self) -> ForgeKind {
        ForgeKind::Gitlab
    }

    fn repository(&self) -> &str {
        &self.repository
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            drafts: true,
            suggestions: true,
            resolve: true,
            reactions: true,
            rules: false,
            comment_chars: 1_000_000,
        }
    }
}
