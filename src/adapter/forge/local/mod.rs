//! No forge at all: a bare repository on disk. Changes are Markdown pages beside its objects, in `codeforge/changes`, and
//! issues in `codeforge/issues`; comments and remarks are written there. Nothing is sent anywhere.

mod issues;
mod page;
mod remote;

use super::alike::status_word;
use super::lines::{patches, sorted};
use super::marks::Marks;
use super::{Lacks, before, missing, same_text, time_ms, time_text};
use crate::model::event::{Change, CommentKind, Side};
use crate::model::forge::{Access, CheckState, ForgeKind, Right, TokenRights};
use crate::port::clock::Clock;
use crate::port::forge::{
    Capabilities, ChangeInfo, ChangeState, ChangedFile, Changes, Check, Code, CommentAt, CommentInfo, Comments,
    CommitInfo, Forge, ForgeAt, ForgeError, Kept, NewChange, NewReview, Place, Protection, Remote, Reviewed, Reviews,
    Rights, Said, Sticky, Stuck, Thread,
};
use crate::text;
use async_trait::async_trait;
use git2::{Delta, DiffFindOptions, DiffFormat, DiffOptions, ErrorCode, Oid, Repository};
use page::{About, Page, Part, Spot};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Who writes the pages.
const US: &str = "codeforge";

pub(super) struct Local {
    folder: PathBuf,
    place: Place,
    marks: Marks,
    clock: Arc<dyn Clock>,
}

fn broken(doing: &str, error: impl ToString) -> ForgeError {
    ForgeError::Unavailable { doing: doing.to_owned(), message: error.to_string() }
}

impl Local {
    pub(super) fn new(at: &ForgeAt, clock: Arc<dyn Clock>) -> Result<Self, ForgeError> {
        let folder = PathBuf::from(at.git_url.strip_prefix("file://").unwrap_or(&at.git_url));
        if !folder.is_absolute() || Repository::open_bare(&folder).is_err() {
            return Err(ForgeError::Unsupported(format!(
                "`{}` is not a bare repository on this machine; make one with `git init --bare`",
                folder.display()
            )));
        }
        let place = Place { kind: ForgeKind::Local, repository: at.repository.clone(), host: String::new() };
        Ok(Self { folder, place, marks: Marks::new(at), clock })
    }

    fn pages(&self) -> PathBuf {
        self.folder.join("codeforge")
    }

    fn path(&self, thread: Thread) -> PathBuf {
        let (folder, number) = match thread {
            Thread::Change(number) => ("changes", number),
            Thread::Issue(number) => ("issues", number),
        };
        self.pages().join(folder).join(format!("{number}.md"))
    }

    /// One writer at a time, in whatever process.
    fn locked(&self) -> Result<fs::File, ForgeError> {
        let doing = "locking the pages' folder";
        for folder in ["changes", "issues"] {
            fs::create_dir_all(self.pages().join(folder)).map_err(|error| broken(doing, error))?;
        }
        // Where earlier versions lock, too.
        let lock = fs::File::create(self.pages().join("changes/.lock")).map_err(|error| broken(doing, error))?;
        lock.lock().map_err(|error| broken(doing, error))?;
        Ok(lock)
    }

    fn page(&self, thread: Thread) -> Result<Page, ForgeError> {
        let path = self.path(thread);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Page::read(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(ForgeError::NotFound {
                doing: match thread {
                    Thread::Change(number) => format!("reading change {number}"),
                    Thread::Issue(number) => format!("reading issue {number}"),
                },
                hint: format!("there is no {}", path.display()),
            }),
            Err(error) => Err(broken(&format!("reading {}", path.display()), error)),
        }
    }

    /// Changes a page under the lock: all of it or nothing.
    fn edit<T>(&self, thread: Thread, edit: impl FnOnce(&mut Page) -> T) -> Result<T, ForgeError> {
        let _lock = self.locked()?;
        let mut page = self.page(thread)?;
        let before = page.clone();
        let done = edit(&mut page);
        if page != before {
            write(&self.path(thread), &page.write())?;
        }
        Ok(done)
    }

    /// The changes' numbers.
    fn numbers(&self) -> Result<Vec<u64>, ForgeError> {
        self.numbered("changes")
    }

    fn numbered(&self, folder: &str) -> Result<Vec<u64>, ForgeError> {
        let entries = match fs::read_dir(self.pages().join(folder)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| broken(&format!("reading the {folder}"), error))?,
        };
        let number =
            |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.strip_suffix(".md")?.parse().ok();
        let mut numbers: Vec<u64> = entries.filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn info(&self, git: &Repository, number: u64) -> Result<ChangeInfo, ForgeError> {
        let thread = Thread::Change(number);
        let page = self.page(thread)?;
        let tip = |branch: &str| git.refname_to_id(&format!("refs/heads/{branch}")).ok();
        let (head, base) = (page.fact("Branch").to_owned(), page.fact("Into").to_owned());
        let (head_id, base_id) = (tip(&head), tip(&base));
        let merged = head_id
            .zip(base_id)
            .is_some_and(|(head, base)| head == base || git.graph_descendant_of(base, head).unwrap_or(false));
        let state = match page.fact("State").to_lowercase().as_str() {
            "merged" => ChangeState::Merged,
            "closed" => ChangeState::Closed,
            _ if merged => ChangeState::Merged,
            _ => ChangeState::Open,
        };
        let side = |branch: &str, id: Option<Oid>| Side {
            branch: branch.to_owned(),
            sha: id.map(|id| id.to_string()),
            repository: Some(self.place.repository.clone()),
            repository_id: None,
        };
        let written = fs::metadata(self.path(thread)).and_then(|it| it.modified()).ok();
        let written = written.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(ChangeInfo {
            change: Change {
                number,
                title: page.title.clone(),
                body: page.body().to_owned(),
                author: Some(page.fact("Author").to_owned()).filter(|author| !author.is_empty()),
                url: Some(self.path(thread).display().to_string()),
                draft: page.fact("Draft") == "yes",
                labels: page.list("Labels"),
                head: side(&head, head_id),
                base: side(&base, base_id),
            },
            state,
            reviewers: page.list("Reviewers"),
            assignees: page.list("Assignees"),
            milestone: Some(page.fact("Milestone").to_owned()).filter(|title| !title.is_empty()),
            updated_ms: written.and_then(|since| i64::try_from(since.as_millis()).ok()),
        })
    }

    /// All changes, newest first.
    fn infos(&self) -> Result<Vec<ChangeInfo>, ForgeError> {
        let git =
            Repository::open_bare(&self.folder).map_err(|error| broken("opening the repository", error.message()))?;
        self.numbers()?.into_iter().rev().map(|number| self.info(&git, number)).collect()
    }

    fn about(&self, id: u64) -> About {
        let now = self.clock.now_ms();
        About { id, author: US.to_owned(), created_ms: now, updated_ms: now }
    }

    fn comment(&self, thread: Thread, about: &About, body: &str) -> CommentInfo {
        CommentInfo {
            id: about.id,
            kind: CommentKind::Thread,
            body: body.to_owned(),
            author: Some(about.author.clone()),
            url: Some(self.path(thread).display().to_string()),
            created_ms: Some(about.created_ms),
            updated_ms: Some(about.updated_ms),
        }
    }

    fn is_ours(&self, thread: Thread, key: &str, about: &About, body: &str) -> bool {
        self.marks.is((Some(US), Some(about.author.as_str())), thread, key, body)
    }
}

/// Writes a file whole.
fn write(path: &Path, text: &str) -> Result<(), ForgeError> {
    let doing = format!("writing {}", path.display());
    let folder = path.parent().unwrap_or(Path::new("/"));
    let done = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    });
    done.map_err(|error| broken(&doing, error))
}

#[async_trait]
impl Rights for Local {
    async fn access_of(&self, _: &str) -> Access {
        Access::None
    }

    async fn own_account(&self) -> Result<Option<String>, ForgeError> {
        Ok(Some(US.to_owned()))
    }

    async fn token_rights(&self) -> Result<TokenRights, ForgeError> {
        let mut rights = TokenRights::none(Some(US.to_owned()), "write access to the folder");
        rights.read = Right::Yes;
        rights.ask_access = Right::No("a forge with accounts".to_owned());
        if self.locked().is_ok() {
            (rights.push, rights.open_changes) = (Right::Yes, Right::Yes);
            (rights.comment, rights.issues) = (Right::Yes, Right::Yes);
        }
        Ok(rights)
    }
}

#[async_trait]
impl Changes for Local {
    async fn change(&self, number: u64) -> Result<ChangeInfo, ForgeError> {
        let git =
            Repository::open_bare(&self.folder).map_err(|error| broken("opening the repository", error.message()))?;
        self.info(&git, number)
    }

    async fn changes_of_branch(&self, branch: &str) -> Result<Vec<ChangeInfo>, ForgeError> {
        Ok(self.infos()?.into_iter().filter(|info| info.change.head.branch == branch).collect())
    }

    async fn changed_files(&self, number: u64) -> Result<Vec<ChangedFile>, ForgeError> {
        let change = self.change(number).await?.change;
        let doing = "reading the change's files";
        let (Some(base), Some(head)) = (change.base.sha, change.head.sha) else {
            return Err(ForgeError::NotFound { doing: doing.into(), hint: "one of its branches is gone".into() });
        };
        self.git(doing, move |git| files(git, &base, &head)).await
    }

    async fn open_branches(&self, prefix: &str) -> Result<Vec<String>, ForgeError> {
        let open = self.infos()?.into_iter().filter(|info| info.state == ChangeState::Open);
        Ok(open.map(|info| info.change.head.branch).filter(|branch| branch.starts_with(prefix)).collect())
    }

    async fn changes_since(&self, since_ms: i64) -> Result<Vec<ChangeInfo>, ForgeError> {
        let late = |info: &ChangeInfo| info.updated_ms.is_none_or(|at| at >= since_ms);
        let mut found: Vec<ChangeInfo> =
            self.infos()?.into_iter().filter(|info| info.state == ChangeState::Open && late(info)).collect();
        found.sort_by_key(|info| std::cmp::Reverse(info.updated_ms));
        Ok(found)
    }

    async fn open_change(&self, new: &NewChange) -> Result<(ChangeInfo, Vec<String>), ForgeError> {
        let refs = self.refs("refs/heads/").await?;
        for branch in [&new.head, &new.base] {
            if !refs.iter().any(|(name, _)| name.strip_prefix("refs/heads/") == Some(branch.as_str())) {
                let hint = format!("there is no branch `{}`", text::clean(branch));
                return Err(ForgeError::NotFound { doing: "opening a change".into(), hint });
            }
        }
        let mut found = {
            let _lock = self.locked()?;
            let infos = self.infos()?;
            let open = infos.iter().find(|it| it.state == ChangeState::Open && it.change.head.branch == new.head);
            match open {
                Some(open) => open.clone(),
                None => {
                    let number = self.numbers()?.last().unwrap_or(&0) + 1;
                    let mut page = Page { title: new.title.clone(), ..Page::default() };
                    let draft = if new.draft { "yes" } else { "" };
                    let milestone = new.milestone.as_deref().unwrap_or_default();
                    for (name, value) in [
                        ("Branch", new.head.as_str()),
                        ("Into", new.base.as_str()),
                        ("State", "open"),
                        ("Draft", draft),
                        ("Author", US),
                        ("Opened", &time_text(self.clock.now_ms())),
                        ("Labels", &new.labels.join(", ")),
                        ("Reviewers", &new.reviewers.join(", ")),
                        ("Assignees", &new.assignees.join(", ")),
                        ("Milestone", milestone),
                    ] {
                        page.set(name, value);
                    }
                    page.set_body(&new.body);
                    write(&self.path(Thread::Change(number)), &page.write())?;
                    let git = Repository::open_bare(&self.folder)
                        .map_err(|error| broken("opening the repository", error.message()))?;
                    self.info(&git, number)?
                }
            }
        };
        let lacks = Lacks::of(new, &found);
        if !lacks.nothing() {
            self.edit(Thread::Change(found.change.number), |page| {
                let lists =
                    [("Labels", &lacks.labels), ("Reviewers", &lacks.reviewers), ("Assignees", &lacks.assignees)];
                for (name, more) in lists {
                    let mut list = page.list(name);
                    list.extend(more.iter().cloned());
                    page.set(name, &list.join(", "));
                }
                if let Some(title) = &lacks.milestone {
                    page.set("Milestone", title);
                }
            })?;
            lacks.set_on(&mut found);
        }
        Ok((found, Vec::new()))
    }

    async fn opened_within(&self, prefix: &str, seconds: u64) -> Result<Vec<String>, ForgeError> {
        let since = before(self.clock.now_ms(), seconds);
        let mut found = Vec::new();
        for number in self.numbers()? {
            let page = self.page(Thread::Change(number))?;
            let late = time_ms(page.fact("Opened")).is_none_or(|at| at >= since);
            if late && page.fact("Branch").starts_with(prefix) {
                found.push(page.fact("Branch").to_owned());
            }
        }
        Ok(found)
    }

    async fn make_ready(&self, number: u64) -> Result<(), ForgeError> {
        self.edit(Thread::Change(number), |page| page.set("Draft", ""))
    }

    async fn update_body(&self, number: u64, body: &str) -> Result<(), ForgeError> {
        self.edit(Thread::Change(number), |page| page.set_body(body))
    }

    async fn label(&self, thread: Thread, add: &[String], remove: &[String]) -> Result<(), ForgeError> {
        if add.is_empty() && remove.is_empty() {
            return Ok(());
        }
        self.edit(thread, |page| {
            let mut labels = page.list("Labels");
            labels.extend(missing(add, &labels));
            labels.retain(|label| !remove.contains(label));
            page.set("Labels", &labels.join(", "));
        })
    }
}

#[async_trait]
impl Comments for Local {
    async fn comments(&self, thread: Thread) -> Result<Vec<CommentInfo>, ForgeError> {
        let page = self.page(thread)?;
        let of = |part: &Part| match part {
            Part::Comment(about, text) => Some(self.comment(thread, about, text)),
            _ => None,
        };
        Ok(page.parts.iter().filter_map(of).collect())
    }

    async fn comments_since(&self, since_ms: i64) -> Result<Vec<(Thread, CommentInfo)>, ForgeError> {
        let mut found = Vec::new();
        let changes = self.numbers()?.into_iter().map(Thread::Change);
        for thread in changes.chain(self.numbered("issues")?.into_iter().map(Thread::Issue)) {
            found.extend(self.comments(thread).await?.into_iter().map(|comment| (thread, comment)));
        }
        found.retain(|(_, comment)| comment.updated_ms.is_none_or(|at| at >= since_ms));
        found.sort_by_key(|(_, comment)| (comment.updated_ms, comment.id));
        Ok(found)
    }

    async fn stick(&self, sticky: &Sticky<'_>) -> Result<Stuck, ForgeError> {
        let body = self.marks.sticky(sticky);
        let now = self.clock.now_ms();
        let (about, created, updated) = self.edit(sticky.thread, |page| {
            for part in &mut page.parts {
                if let Part::Comment(about, text) = part
                    && self.is_ours(sticky.thread, sticky.key, about, text)
                {
                    let updated = !same_text(text, &body);
                    if updated {
                        (*text, about.updated_ms) = (body.clone(), now);
                    }
                    return (about.clone(), false, updated);
                }
            }
            let about = self.about(page.next_id());
            page.parts.push(Part::Comment(about.clone(), body.clone()));
            (about, true, false)
        })?;
        Ok(Stuck { comment: self.comment(sticky.thread, &about, &body), created, updated })
    }

    async fn stuck(&self, thread: Thread, key: &str) -> Result<Option<Kept>, ForgeError> {
        self.marks.stuck(Some(US), thread, key, self.comments(thread).await?)
    }

    async fn recall(&self, thread: Thread, keys: &[&str]) -> Result<BTreeMap<String, String>, ForgeError> {
        self.marks.memories(Some(US), thread, keys, &self.comments(thread).await?)
    }

    async fn react(&self, _: CommentAt, _: &str) -> Result<(), ForgeError> {
        Err(ForgeError::Unsupported("a local forge has no reactions".into()))
    }
}

#[async_trait]
impl Reviews for Local {
    async fn review(&self, review: &NewReview<'_>) -> Result<Reviewed, ForgeError> {
        let files = self.changed_files(review.number).await?;
        let (inside, outside) = sorted(review.remarks, &files);
        let (number, thread) = (review.number, Thread::Change(review.number));
        self.edit(thread, |page| {
            let mut done = Reviewed { outside, ..Reviewed::default() };
            for remark in &inside {
                let there = page.parts.iter().any(
                    |part| matches!(part, Part::Remark(about, _, text) if self.is_ours(thread, &remark.key, about, text)),
                );
                if there {
                    done.kept += 1;
                    continue;
                }
                let body = self.marks.remark(number, remark, "");
                let spot = Spot {
                    path: remark.path.clone(),
                    commit: review.commit.to_owned(),
                    start_line: remark.first_line(),
                    line: remark.line,
                    old_side: Spot::side(remark.side),
                    resolved: false,
                };
                page.parts.push(Part::Remark(self.about(page.next_id()), spot, body));
                done.made += 1;
            }
            for part in &mut page.parts {
                if let Part::Remark(about, spot, text) = part
                    && !spot.resolved
                    && review.resolved.iter().any(|key| self.is_ours(thread, key, about, text))
                {
                    spot.resolved = true;
                    done.resolved += 1;
                }
            }
            done
        })
    }
}

#[async_trait]
impl Code for Local {
    async fn default_branch(&self) -> Result<String, ForgeError> {
        let doing = "reading the default branch";
        let head = self
            .git(doing, |git| {
                let head = git.find_reference("HEAD")?;
                Ok(head
                    .symbolic_target()
                    .ok()
                    .flatten()
                    .and_then(|name| name.strip_prefix("refs/heads/"))
                    .map(str::to_owned))
            })
            .await?;
        head.ok_or_else(|| ForgeError::NotFound { doing: doing.into(), hint: "its HEAD is no branch".into() })
    }

    async fn tip(&self, branch: &str) -> Result<Option<String>, ForgeError> {
        let full = format!("refs/heads/{branch}");
        Ok(self.refs(&full).await?.into_iter().find(|(name, _)| *name == full).map(|(_, id)| id))
    }

    async fn protection(&self, branch: &str) -> Result<Protection, ForgeError> {
        Ok(if self.tip(branch).await?.is_some() { Protection::Open } else { Protection::Missing })
    }

    async fn commit(&self, id: &str) -> Result<CommitInfo, ForgeError> {
        let wanted = id.to_owned();
        self.git(&format!("reading commit {id}"), move |git| {
            let commit = git.find_commit(Oid::from_str(&wanted)?)?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Ok(CommitInfo {
                id: commit.id().to_string(),
                committer: text(commit.committer().email_bytes()),
                author: text(commit.author().email_bytes()),
                message: text(commit.message_bytes()),
                parents: commit.parent_ids().map(|id| id.to_string()).collect(),
                account: None,
                tree: Some(commit.tree_id().to_string()),
                verified: false,
            })
        })
        .await
    }

    async fn file_at(&self, commit: &str, path: &str) -> Result<Option<Vec<u8>>, ForgeError> {
        let (commit, wanted) = (commit.to_owned(), PathBuf::from(path));
        self.git(&format!("reading `{path}`"), move |git| {
            let tree = git.find_commit(Oid::from_str(&commit)?)?.tree()?;
            match tree.get_path(&wanted) {
                Ok(entry) => Ok(entry.to_object(git)?.as_blob().map(|blob| blob.content().to_vec())),
                Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn subjects(&self, branch: &str, most: usize) -> Result<Vec<String>, ForgeError> {
        let full = format!("refs/heads/{branch}");
        self.git(&format!("reading the last commits of `{branch}`"), move |git| {
            let mut walk = git.revwalk()?;
            walk.push_ref(&full)?;
            walk.take(most)
                .map(|id| {
                    Ok(String::from_utf8_lossy(git.find_commit(id?)?.summary_bytes().unwrap_or_default()).into_owned())
                })
                .collect()
        })
        .await
    }

    /// A page for each commit, with a line for each name.
    async fn set_check(&self, check: &Check<'_>) -> Result<Said, ForgeError> {
        let doing = "saying how the commit stands";
        if check.commit.len() != 40 || !check.commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ForgeError::Unsupported(format!("{doing}: `{}` is not a commit", text::clean(check.commit))));
        }
        let _lock = self.locked()?;
        let folder = self.folder.join("codeforge/statuses");
        fs::create_dir_all(&folder).map_err(|error| broken(doing, error))?;
        let path = folder.join(format!("{}.md", check.commit));
        let before = fs::read_to_string(&path).unwrap_or_else(|_| format!("# {}\n", check.commit));
        let cell = |text: &str| text::clean(text).replace(['\n', '\r'], " ").replace('|', "\\|");
        let name = format!("| {} |", cell(check.name));
        let state = match check.state {
            CheckState::Cancelled => "cancelled",
            state => status_word(state),
        };
        let mut lines: Vec<String> =
            before.lines().filter(|line| !line.starts_with(&name)).map(str::to_owned).collect();
        if !lines.iter().any(|line| line.starts_with("| name |")) {
            lines.extend(["".to_owned(), "| name | state | | |".to_owned(), "|---|---|---|---|".to_owned()]);
        }
        lines.push(format!("{name} {state} | {} | {} |", cell(check.words), cell(check.url.unwrap_or_default())));
        write(&path, &(lines.join("\n") + "\n"))?;
        Ok(Said::Status)
    }
}

/// The files of a difference, from where the head left the base.
fn files(git: &Repository, base: &str, head: &str) -> Result<Vec<ChangedFile>, git2::Error> {
    let (base, head) = (Oid::from_str(base)?, Oid::from_str(head)?);
    let base = git.merge_base(base, head).unwrap_or(base);
    let tree = |id| git.find_commit(id)?.tree();
    let mut diff =
        git.diff_tree_to_tree(Some(&tree(base)?), Some(&tree(head)?), Some(DiffOptions::new().context_lines(3)))?;
    diff.find_similar(Some(DiffFindOptions::new().renames(true)))?;
    let mut whole = String::new();
    diff.print(DiffFormat::Patch, |_, _, line| {
        if matches!(line.origin(), ' ' | '+' | '-') {
            whole.push(line.origin());
        }
        whole.push_str(&String::from_utf8_lossy(line.content()));
        true
    })?;
    let patches = patches(&whole);
    let name = |file: git2::DiffFile<'_>| file.path_bytes().map(|path| String::from_utf8_lossy(path).into_owned());
    let of = |(at, delta): (usize, git2::DiffDelta<'_>)| ChangedFile {
        path: name(delta.new_file()).or_else(|| name(delta.old_file())).unwrap_or_default(),
        from: name(delta.old_file()).filter(|_| delta.status() == Delta::Renamed),
        added: delta.status() == Delta::Added,
        removed: delta.status() == Delta::Deleted,
        patch: patches.get(at).cloned().flatten(),
    };
    Ok(diff.deltas().enumerate().map(of).collect())
}

impl Forge for Local {
    fn remote(&self) -> &dyn Remote {
        self
    }

    fn place(&self) -> &Place {
        &self.place
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            changes: true,
            comments: true,
            drafts: true,
            inline: true,
            ranges: true,
            suggestions: false,
            resolve: true,
            reactions: false,
            statuses: true,
            checks: false,
            labels: true,
            reviewers: true,
            access: false,
            rules: false,
            issues: true,
            comment_chars: 1_000_000,
        }
    }
}
