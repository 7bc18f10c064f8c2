//! Issues that stay current: pages in `codeforge/issues`, which a person closes by writing `State: closed`.

use super::page::Page;
use super::{Local, US, write};
use crate::adapter::forge::issues::Wanted;
use crate::adapter::forge::time_text;
use crate::port::forge::{ForgeError, IssueEdit, IssueInfo, IssueText, Issues, NewIssue, Thread};
use async_trait::async_trait;

/// Whoever wrote in a page without saying who they are.
const SOMEBODY: &str = "somebody";

impl Local {
    fn issue(&self, number: u64, page: &Page) -> IssueInfo {
        IssueInfo {
            number,
            title: page.title.clone(),
            body: page.body().to_owned(),
            author: Some(page.fact("Author").to_owned()).filter(|author| !author.is_empty()),
            url: Some(self.path(Thread::Issue(number)).display().to_string()),
            open: !page.fact("State").eq_ignore_ascii_case("closed"),
            labels: page.list("Labels"),
            assignees: page.list("Assignees"),
            memory: None,
        }
    }

    fn kept(&self, key: &str) -> Result<Vec<IssueInfo>, ForgeError> {
        let mut all = Vec::new();
        for number in self.numbered("issues")? {
            all.push(self.issue(number, &self.page(Thread::Issue(number))?));
        }
        Ok(self.marks.kept(Some(US), key, all))
    }
}

#[async_trait]
impl Issues for Local {
    async fn kept_issues(&self, key: &str) -> Result<Vec<IssueInfo>, ForgeError> {
        self.kept(key)
    }

    async fn open_issue(&self, new: &NewIssue<'_>) -> Result<(IssueInfo, Vec<String>), ForgeError> {
        let _lock = self.locked()?;
        if let Some(there) = self.kept(new.key)?.into_iter().next() {
            return Ok((there, Vec::new()));
        }
        let number = self.numbered("issues")?.last().unwrap_or(&0) + 1;
        let mut page = Page { title: new.title.to_owned(), ..Page::default() };
        for (name, value) in [
            ("State", "open"),
            ("Author", US),
            ("Opened", &time_text(self.clock.now_ms())),
            ("Labels", &new.labels.join(", ")),
            ("Assignees", &new.assignees.join(", ")),
        ] {
            page.set(name, value);
        }
        page.set_body(&self.marks.issue(IssueText::Kept { key: new.key, body: new.body, memory: new.memory }));
        write(&self.path(Thread::Issue(number)), &page.write())?;
        Ok((self.issue(number, &page), Vec::new()))
    }

    async fn edit_issue(&self, issue: &IssueInfo, edit: &IssueEdit<'_>) -> Result<(bool, Vec<String>), ForgeError> {
        let wanted = Wanted::of(issue, edit, self.marks.issue(edit.text));
        if wanted.nothing() {
            return Ok((false, Vec::new()));
        }
        self.edit(Thread::Issue(issue.number), |page| {
            if let Some(body) = &wanted.body {
                page.set_body(body);
            }
            if let Some(open) = wanted.open {
                page.set("State", if open { "open" } else { "closed" });
            }
            page.set("Closed by", if edit.open { "" } else { US });
            for (name, more) in [("Labels", &wanted.labels), ("Assignees", &wanted.assignees)] {
                let mut list = page.list(name);
                list.extend(more.iter().cloned());
                page.set(name, &list.join(", "));
            }
        })?;
        Ok((true, Vec::new()))
    }

    async fn closed_by(&self, number: u64) -> Result<Option<String>, ForgeError> {
        let page = self.page(Thread::Issue(number))?;
        let who = page.fact("Closed by");
        Ok(Some(if who.is_empty() { SOMEBODY } else { who }.to_owned()))
    }
}
