//! What there is at a forge, as it crosses the port: changes, comments, issues, reviews, checks.

use crate::model::event::{Change, CommentKind, Issue};
use crate::model::finding::Level;
use crate::model::forge::CheckState;

/// A change and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeInfo {
    /// The change.
    pub change: Change,
    /// How it stands.
    pub state: ChangeState,
    /// Who may read how it came about: the accounts asked for a review.
    pub reviewers: Vec<String>,
    /// Whom it is assigned to.
    pub assignees: Vec<String>,
    /// Its milestone's title.
    pub milestone: Option<String>,
    /// When it last changed, in milliseconds since 1970; `None`: the forge does not say.
    pub updated_ms: Option<i64>,
}

/// How a change stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeState {
    /// Open.
    Open,
    /// Closed without being merged.
    Closed,
    /// Merged.
    Merged,
}

impl ChangeState {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Merged => "merged",
        }
    }
}

/// Something that happened to an issue or a change, from the forge's own list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// What tells it apart from others of this repository.
    pub id: String,
    /// What it happened to.
    pub thread: Thread,
    /// What it was, in the words of workflows: `opened`, `labeled`, `unlabeled`, `closed`, …
    pub action: String,
    /// The label, where one was set or taken away.
    pub label: Option<String>,
    /// Who did it.
    pub by: Option<String>,
    /// Whether that is a program.
    pub by_program: bool,
    /// When, in milliseconds since 1970; `None`: the forge does not say.
    pub at_ms: Option<i64>,
    /// The issue as it is now; `None`: it happened to a change.
    pub issue: Option<Issue>,
}

/// A file of a change's difference.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangedFile {
    /// Its path (the new one of a rename).
    pub path: String,
    /// The old path of a rename.
    pub from: Option<String>,
    /// It is new.
    pub added: bool,
    /// It is gone.
    pub removed: bool,
    /// Its difference as hunks (`@@ … @@`), without headers; `None`: too large, or binary.
    pub patch: Option<String>,
}

/// A change to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewChange {
    /// The branch that it is made from.
    pub head: String,
    /// The branch that it is to go to.
    pub base: String,
    /// Its title.
    pub title: String,
    /// Its body, with our marker.
    pub body: String,
    /// Whether it begins as a draft.
    pub draft: bool,
    /// Labels.
    pub labels: Vec<String>,
    /// Reviewers.
    pub reviewers: Vec<String>,
    /// Whom it is assigned to.
    pub assignees: Vec<String>,
    /// The milestone's title.
    pub milestone: Option<String>,
}

/// What comments stand under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Thread {
    /// A pull or merge request.
    Change(u64),
    /// An issue.
    Issue(u64),
}

/// A comment by what it is reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommentAt {
    /// What it stands under.
    pub thread: Thread,
    /// Where it stands there.
    pub kind: CommentKind,
    /// The forge's number for it.
    pub id: u64,
}

/// A comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentInfo {
    /// The forge's number for it.
    pub id: u64,
    /// Where it stands.
    pub kind: CommentKind,
    /// Its text.
    pub body: String,
    /// Who wrote it.
    pub author: Option<String>,
    /// Its address for people.
    pub url: Option<String>,
    /// When it was written, in milliseconds since 1970; `None`: the forge does not say.
    pub created_ms: Option<i64>,
    /// When its text last changed.
    pub updated_ms: Option<i64>,
}

impl CommentInfo {
    /// Whether its text was changed after it was written.
    pub fn edited(&self) -> bool {
        matches!((self.created_ms, self.updated_ms), (Some(created), Some(updated)) if updated > created)
    }
}

/// A commit that the forge is to make, and to sign as the account of the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCommit<'a> {
    /// The branch; it is at `parent`.
    pub branch: &'a str,
    /// The commit that it is made on.
    pub parent: &'a str,
    /// Its subject.
    pub title: &'a str,
    /// The rest of its message.
    pub body: &'a str,
    /// Files to write, with their contents.
    pub additions: &'a [(String, Vec<u8>)],
    /// Files to take away.
    pub deletions: &'a [String],
}

/// A comment that there is one of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky<'a> {
    /// Where.
    pub thread: Thread,
    /// Its key: one comment for each.
    pub key: &'a str,
    /// Its text, without the marker.
    pub body: &'a str,
    /// What it remembers: one hidden line, that stands between the marker and the text.
    pub memory: Option<&'a str>,
}

/// A comment of ours that there is one of, without our marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its text.
    pub body: String,
    /// What it remembers, where that is ours.
    pub memory: Option<String>,
}

/// What became of a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// The comment as it is now.
    pub comment: CommentInfo,
    /// It was made just now.
    pub created: bool,
    /// It was there, with another text.
    pub updated: bool,
}

/// An issue of ours that there is one of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueInfo {
    /// Its number.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Its text, with our mark.
    pub body: String,
    /// Who opened it.
    pub author: Option<String>,
    /// Its address for people.
    pub url: Option<String>,
    /// Whether it is open.
    pub open: bool,
    /// Its labels.
    pub labels: Vec<String>,
    /// Whom it is assigned to.
    pub assignees: Vec<String>,
    /// What it remembers, where that is ours.
    pub memory: Option<String>,
}

/// The text of an issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssueText<'a> {
    /// Under the mark of a key: it is found again.
    Kept {
        /// Its key: one issue for each.
        key: &'a str,
        /// What is said.
        body: &'a str,
        /// What it remembers: one hidden line, that stands between the mark and what is said.
        memory: Option<&'a str>,
    },
    /// Without a mark: it is nobody's any more.
    Plain(&'a str),
}

/// An issue to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIssue<'a> {
    /// Its key.
    pub key: &'a str,
    /// Its title.
    pub title: &'a str,
    /// What is said, without the mark.
    pub body: &'a str,
    /// As in [`IssueText`].
    pub memory: Option<&'a str>,
    /// Labels.
    pub labels: &'a [String],
    /// Whom it is assigned to.
    pub assignees: &'a [String],
}

/// What is to become of an issue. What it has already is not written again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueEdit<'a> {
    /// Its text.
    pub text: IssueText<'a>,
    /// Whether it is open.
    pub open: bool,
    /// Labels to add.
    pub labels: &'a [String],
    /// Whom to assign it to, beside those who are.
    pub assignees: &'a [String],
}

/// Which side of a difference a line is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LineSide {
    /// As it was.
    Old,
    /// As it is.
    New,
}

/// A remark at a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// What it is known by: made once, resolved by it.
    pub key: String,
    /// The file, by its path on the head's side (for a removed file: its path).
    pub path: String,
    /// The first line, from 1, where it spans several; on the same side.
    pub start_line: Option<u64>,
    /// The line, from 1; of several: the last.
    pub line: u64,
    /// On which side.
    pub side: LineSide,
    /// What is said.
    pub body: String,
    /// The text to put in the place of the line, or of all of them, where they are on the new side.
    pub replacement: Option<String>,
}

impl Remark {
    /// The first line, where the remark spans more than one.
    pub fn first_line(&self) -> Option<u64> {
        self.start_line.filter(|start| *start < self.line)
    }

    /// How many lines before the last one it spans.
    pub fn lines_before(&self) -> u64 {
        self.first_line().map_or(0, |start| self.line - start)
    }
}

/// A review to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReview<'a> {
    /// Of which change.
    pub number: u64,
    /// The commit that the lines are of: the change's head.
    pub commit: &'a str,
    /// Remarks at lines. Those that are there already are not made again.
    pub remarks: &'a [Remark],
    /// Keys of remarks whose threads are to be resolved.
    pub resolved: &'a [String],
}

/// What became of a review.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reviewed {
    /// Remarks made.
    pub made: usize,
    /// Remarks that were there.
    pub kept: usize,
    /// Keys of remarks whose line the forge does not show in the difference: they belong into a comment.
    pub outside: Vec<String>,
    /// Threads resolved.
    pub resolved: usize,
    /// What could not be done, in sentences.
    pub told: Vec<String>,
}

/// Whether a branch may be pushed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protection {
    /// No rule stands in the way.
    Open,
    /// A rule does; which.
    Protected(String),
    /// There is no such branch.
    Missing,
}

/// A commit, as far as one needs to know whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Its id.
    pub id: String,
    /// The address of its committer.
    pub committer: String,
    /// The address of its author.
    pub author: String,
    /// Its message.
    pub message: String,
    /// Its parents.
    pub parents: Vec<String>,
    /// Its author's account, where the forge says.
    pub account: Option<String>,
    /// Its tree, where the forge says.
    pub tree: Option<String>,
    /// Whether the forge vouches for its signature.
    pub verified: bool,
}

/// What is said of a commit: a check where the forge has them and the token may, else a status; never both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check<'a> {
    /// The commit.
    pub commit: &'a str,
    /// Its name: one for each.
    pub name: &'a str,
    /// How it stands.
    pub state: CheckState,
    /// In a few words.
    pub words: &'a str,
    /// Where more is to be read.
    pub url: Option<&'a str>,
    /// A text in Markdown; checks only.
    pub summary: Option<&'a str>,
    /// Words at lines; checks only. Each is shown once, however often the check is said.
    pub annotations: &'a [Annotation],
}

/// Words at lines of a commit's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// The file.
    pub path: String,
    /// The first line, from 1.
    pub start_line: u64,
    /// The last line.
    pub end_line: u64,
    /// How much it matters.
    pub level: Level,
    /// What is said.
    pub message: String,
    /// A heading, where there is one.
    pub title: Option<String>,
}
