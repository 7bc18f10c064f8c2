//! People who do things at the forge: it remembers, and tells.

use super::{Town, locked};
use crate::common::forge_server::FakeChange;
use crate::common::forge_server::hooks::{Seen, What};
use crate::common::{git, ok};

/// Somebody who does things at the forge.
pub struct Person<'a> {
    pub(super) town: &'a Town,
    pub(super) name: &'a str,
}

impl Person<'_> {
    async fn tells(&self, what: What) {
        self.town.hooks.tell(&self.town.forge, self.name, &what).await;
    }

    fn thread(&self, number: u64) -> String {
        let is_change = self.town.forge.memory().changes.iter().any(|change| change.number == number);
        format!("{} {number}", if is_change { "change" } else { "issue" })
    }

    /// Commits to a branch, from `main` where it is new; gives the commit.
    pub async fn pushes(&self, branch: &str, files: &[(&str, &str)]) -> String {
        let before = self.town.forge.tip(branch);
        let files: Vec<(&str, Option<&str>)> = files.iter().map(|(path, text)| (*path, Some(*text))).collect();
        let after = self.town.forge.commit_by(self.name, branch, "main", &files);
        self.moved(branch, before, after.clone()).await;
        after
    }

    /// Puts a branch somewhere else: one new commit on `main`.
    pub async fn force_pushes(&self, branch: &str, files: &[(&str, &str)]) -> String {
        let before = self.town.forge.tip(branch);
        let bare = self.town.forge.bare();
        ok(git().arg("-C").arg(bare).args(["update-ref", "-d", &format!("refs/heads/{branch}")]));
        let files: Vec<(&str, Option<&str>)> = files.iter().map(|(path, text)| (*path, Some(*text))).collect();
        let after = self.town.forge.commit_by(self.name, branch, "main", &files);
        self.moved(branch, before, after.clone()).await;
        after
    }

    /// Puts a branch back to a commit that it had.
    pub async fn pushes_back(&self, branch: &str, commit: &str) {
        let before = self.town.forge.tip(branch);
        ok(git().arg("-C").arg(self.town.forge.bare()).args(["update-ref", &format!("refs/heads/{branch}"), commit]));
        self.moved(branch, before, commit.to_owned()).await;
    }

    async fn moved(&self, branch: &str, before: Option<String>, after: String) {
        let branch_of = |change: &FakeChange| change.head == branch && change.state == "open";
        let changes: Vec<u64> =
            self.town.forge.memory().changes.iter().filter(|it| branch_of(it)).map(|change| change.number).collect();
        for number in &changes {
            self.town.keeps_head(*number);
        }
        *locked(&self.town.seen) = Seen::of(&self.town.forge);
        let what = What::Pushed { branch: branch.to_owned(), before: before.clone(), after: Some(after) };
        self.tells(what).await;
        for number in changes {
            let before = before.clone().unwrap_or_default();
            self.tells(What::Synchronized { number, before }).await;
        }
    }

    /// Pushes a branch and opens a change of it; gives its number.
    pub async fn opens_change(&self, branch: &str, files: &[(&str, &str)]) -> u64 {
        self.opens(branch, files, false).await
    }

    /// The same from a fork.
    pub async fn opens_fork(&self, branch: &str, files: &[(&str, &str)]) -> u64 {
        self.opens(branch, files, true).await
    }

    async fn opens(&self, branch: &str, files: &[(&str, &str)], fork: bool) -> u64 {
        let files: Vec<(&str, Option<&str>)> = files.iter().map(|(path, text)| (*path, Some(*text))).collect();
        self.town.forge.commit_by(self.name, branch, "main", &files);
        let number = self.town.forge.open(self.name, branch, "Please have a look.");
        self.with_change(number, |change| change.fork = fork);
        self.town.keeps_head(number);
        self.tells(What::Change { number, action: "opened" }).await;
        number
    }

    fn with_change(&self, number: u64, set: impl FnOnce(&mut FakeChange)) {
        let mut memory = self.town.forge.memory();
        set(memory.changes.iter_mut().find(|change| change.number == number).expect("a change"));
    }

    /// Closes a change.
    pub async fn closes(&self, number: u64) {
        self.with_change(number, |change| change.state = "closed");
        self.tells(What::Change { number, action: "closed" }).await;
    }

    /// Opens a change again.
    pub async fn reopens(&self, number: u64) {
        self.with_change(number, |change| change.state = "open");
        self.tells(What::Change { number, action: "reopened" }).await;
    }

    /// Lets a change go into another branch.
    pub async fn retargets(&self, number: u64, base: &str) {
        let from = self.town.change(number).base;
        self.with_change(number, |change| change.base = base.to_owned());
        self.tells(What::Retargeted { number, from }).await;
    }

    /// Opens an issue; gives its number.
    pub async fn opens_issue(&self, title: &str, body: &str) -> u64 {
        let number = self.town.hooks.new_issue(&self.town.forge, self.name, title, body);
        self.tells(What::Issue { number }).await;
        number
    }

    /// Sets a label.
    pub async fn labels(&self, number: u64, label: &str) {
        self.town.hooks.label(&self.town.forge, number, label, true);
        self.tells(What::Label { number, label: label.to_owned(), set: true }).await;
    }

    /// Takes a label away.
    pub async fn unlabels(&self, number: u64, label: &str) {
        self.town.hooks.label(&self.town.forge, number, label, false);
        self.tells(What::Label { number, label: label.to_owned(), set: false }).await;
    }

    /// Writes a comment; gives its id.
    pub async fn comments(&self, number: u64, body: &str) -> u64 {
        let id = self.town.forge.comment_by(self.name, &self.thread(number), body);
        self.tells(What::Comment { id }).await;
        id
    }

    /// Edits a comment, whoever wrote it.
    pub async fn edits(&self, id: u64, body: &str) {
        let before = {
            let mut memory = self.town.forge.memory();
            let comment = memory.comments.iter_mut().find(|comment| comment.id == id).expect("a comment");
            std::mem::replace(&mut comment.body, body.to_owned())
        };
        *locked(&self.town.seen) = Seen::of(&self.town.forge);
        self.tells(What::Edited { id, before }).await;
    }
}
