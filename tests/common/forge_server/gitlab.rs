//! GitLab's side of the fake: the routes and rules that adapters meet.

use super::issues::{FakeIssue, add};
use super::{BOT, Call, FakeChange, FakeComment, FakeRemark, Inner, Memory, Said, removed, shown, since};
use serde_json::{Value, json};

fn not_found() -> Said {
    (404, json!({ "message": "404 Not Found" }))
}

pub(super) fn handle(inner: &Inner, call: &Call) -> Said {
    let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
    let ["api", "v4", path @ ..] = path.as_slice() else { return not_found() };
    match (call.method.as_str(), path) {
        ("GET", ["user"]) => return (200, user(BOT)),
        ("GET", ["users"]) => {
            let name = call.asked("username").unwrap_or_default();
            let known = name == BOT || inner.memory().members.contains_key(name);
            return (200, if known { json!([user(name)]) } else { json!([]) });
        }
        ("GET", ["personal_access_tokens", "self"]) => {
            return (200, json!({ "id": 1, "scopes": ["api", "write_repository"] }));
        }
        _ => {}
    }
    // The repository by its path, in one segment.
    let ["projects", "acme/widgets", rest @ ..] = path else { return not_found() };
    match (call.method.as_str(), rest) {
        ("GET", []) => (
            200,
            json!({ "id": 1, "path_with_namespace": "acme/widgets", "default_branch": "main",
            "issues_access_level": if inner.memory().no_issues { "disabled" } else { "enabled" } }),
        ),
        ("GET", ["members", "all", id]) => {
            let memory = inner.memory();
            let role = memory.members.iter().find(|(name, _)| number(name) == *id).map(|(_, role)| role.as_str());
            match role {
                None if number(BOT) == *id => (200, json!({ "access_level": 30, "state": "active" })),
                Some("blocked") => (200, json!({ "access_level": 40, "state": "blocked" })),
                Some(role) => {
                    let level = match role {
                        "admin" => 50,
                        "maintain" => 40,
                        "write" => 30,
                        "triage" => 20,
                        _ => 10,
                    };
                    (200, json!({ "access_level": level, "state": "active" }))
                }
                None => not_found(),
            }
        }
        ("GET", ["merge_requests"]) => {
            let branch = call.asked("source_branch");
            let opened = call.asked("state") == Some("opened");
            let found: Vec<FakeChange> = inner
                .memory()
                .changes
                .iter()
                .rev()
                .filter(|change| branch.is_none_or(|branch| change.head == branch))
                .filter(|change| !opened || change.state == "open")
                .cloned()
                .collect();
            let memory = inner.memory();
            let commented = |change: &FakeChange| {
                let thread = thread("merge_requests", &change.number.to_string());
                let of = memory.comments.iter().filter(|comment| comment.thread == thread);
                let latest = of.map(|comment| memory.touched(comment.id)).max();
                latest.unwrap_or_default().max(memory.touched(change.number))
            };
            let found: Vec<FakeChange> =
                found.into_iter().filter(|change| since(call, "updated_after", &commented(change))).collect();
            drop(memory);
            (200, found.iter().map(|change| merge(inner, change)).collect())
        }
        ("POST", ["merge_requests"]) => open(inner, call),
        ("GET", ["issues"]) if call.asked("updated_after").is_none() => {
            let author = call.asked("author_username");
            let memory = inner.memory();
            let of = memory.issues.iter().filter(|issue| author.is_none_or(|author| issue.author == author));
            (200, of.map(issue).collect())
        }
        ("POST", ["issues"]) => {
            let author = inner.account();
            let mut memory = inner.memory();
            if memory.no_issues {
                return (403, json!({ "message": "403 Forbidden" }));
            }
            let members: Vec<String> = memory.members.keys().cloned().collect();
            let number = memory.id();
            let made = FakeIssue {
                labels: strings(&call.body["labels"]),
                assignees: named(&members, &call.body["assignee_ids"]),
                ..FakeIssue::new(number, &author, &call.text("title"), &call.text("description"))
            };
            memory.issues.push(made.clone());
            (201, issue(&made))
        }
        ("GET", ["issues", number]) => inner.memory().issue(number).map_or_else(not_found, |found| (200, issue(found))),
        ("PUT", ["issues", number]) => {
            let by = inner.account();
            let mut memory = inner.memory();
            let members: Vec<String> = memory.members.keys().cloned().collect();
            let Some(found) = memory.issue(number) else { return not_found() };
            if call.body.get("description").is_some() {
                found.body = call.text("description");
            }
            match call.text("state_event").as_str() {
                "close" if found.state == "open" => found.set_open(false, &by),
                "reopen" if found.state == "closed" => found.set_open(true, &by),
                _ => {}
            }
            add(&mut found.labels, strings(&call.body["add_labels"]));
            // A whole list, in the place of what was there.
            if let Some(ids) = call.body.get("assignee_ids") {
                found.assignees = named(&members, ids);
            }
            (200, issue(found))
        }
        ("GET", ["issues"]) => {
            let memory = inner.memory();
            let late =
                memory.comments.iter().filter(|comment| since(call, "updated_after", &memory.touched(comment.id)));
            let numbers: std::collections::BTreeSet<u64> =
                late.filter_map(|comment| comment.thread.strip_prefix("issue ")?.parse().ok()).collect();
            let moved = numbers.into_iter().map(|number| json!({ "iid": number }));
            (200, memory.listed.iter().cloned().chain(moved).collect())
        }
        ("GET", ["issues" | "merge_requests", number, "resource_label_events"]) => {
            (200, inner.memory().events_of(number))
        }
        ("GET", ["merge_requests", number]) => one(inner, number, |inner, change| (200, merge(inner, change))),
        ("PUT", ["merge_requests", number]) => {
            let members: Vec<String> = inner.memory().members.keys().cloned().collect();
            if let Some(change) = inner.memory().changes.iter_mut().find(|change| change.number.to_string() == *number)
            {
                if call.body.get("description").is_some() {
                    change.body = call.text("description");
                }
                if call.body.get("title").is_some() {
                    change.title = call.text("title");
                    change.draft = change.title.starts_with("Draft: ");
                }
                let list = |name: &str| strings(&call.body[name]);
                let gone = list("remove_labels");
                change.labels.extend(list("add_labels"));
                change.labels.retain(|label| !gone.contains(label));
                // Whole lists, in the place of what was there.
                if let Some(ids) = call.body.get("reviewer_ids") {
                    change.reviewers = named(&members, ids);
                }
                if let Some(ids) = call.body.get("assignee_ids") {
                    change.assignees = named(&members, ids);
                }
                if let Some(milestone) = call.body.get("milestone_id") {
                    change.milestone = milestone.as_u64();
                }
            }
            one(inner, number, |inner, change| (200, merge(inner, change)))
        }
        ("GET", ["repository", "commits"]) => {
            let subjects = inner.subjects(call.asked("ref_name").unwrap_or("main"));
            (200, subjects.into_iter().map(|title| json!({ "id": "x", "title": title })).collect())
        }
        ("GET", ["milestones"]) => {
            let memory = inner.memory();
            let title = call.asked("title").unwrap_or_default();
            let found = memory.milestones.iter().filter(|(_, there)| there == title);
            (200, found.map(|(id, title)| json!({ "id": id, "title": title })).collect())
        }
        ("GET", ["merge_requests", number, "diffs"]) => one(inner, number, |inner, change| {
            let files = inner.diff(change).into_iter().map(|file| {
                json!({
                    "old_path": file.old, "new_path": file.new, "new_file": file.how == 'A', "deleted_file": file.how == 'D',
                    "renamed_file": file.how == 'R', "diff": file.patch,
                })
            });
            (200, files.collect())
        }),
        ("GET", [kind @ ("merge_requests" | "issues"), number, "notes"]) => {
            let memory = inner.memory();
            let thread = thread(kind, number);
            let mut of: Vec<&FakeComment> = memory.comments.iter().filter(|comment| comment.thread == thread).collect();
            if call.asked("sort") == Some("desc") {
                of.sort_by_key(|comment| std::cmp::Reverse(memory.touched(comment.id)));
            }
            (200, of.into_iter().map(|it| note(&memory, it)).collect())
        }
        ("POST", [kind @ ("merge_requests" | "issues"), number, "notes"]) => {
            let mut memory = inner.memory();
            let id = memory.id();
            let made = FakeComment {
                id,
                thread: thread(kind, number),
                author: BOT.into(),
                body: call.text("body"),
                reactions: vec![],
            };
            memory.comments.push(made.clone());
            (201, note(&memory, &made))
        }
        ("DELETE", ["merge_requests" | "issues", _, "notes", id]) => removed(&mut inner.memory(), id),
        ("PUT", ["merge_requests" | "issues", _, "notes", id]) => {
            let mut memory = inner.memory();
            match memory.comments.iter_mut().find(|comment| comment.id.to_string() == *id) {
                Some(found) => {
                    found.body = call.text("body");
                    let found = found.clone();
                    memory.edited.push(found.id);
                    (200, note(&memory, &found))
                }
                None => not_found(),
            }
        }
        ("POST", ["merge_requests" | "issues", _, "notes", id, "award_emoji"]) => {
            let mut memory = inner.memory();
            match memory.comments.iter_mut().find(|comment| comment.id.to_string() == *id) {
                // GitLab's answer to a reaction that is there.
                Some(found) if found.reactions.contains(&call.text("name")) => {
                    (404, json!({ "message": "404 Award Emoji Name has already been taken Not Found" }))
                }
                Some(found) => {
                    found.reactions.push(call.text("name"));
                    (201, json!({ "id": 1 }))
                }
                None => not_found(),
            }
        }
        ("GET", ["merge_requests", number, "discussions"]) => {
            let memory = inner.memory();
            let remarks = memory.remarks.iter().filter(|remark| remark.change.to_string() == *number).map(|remark| {
                let note = json!({
                    "id": remark.id, "body": remark.body, "author": user(&remark.author), "resolvable": true,
                    "resolved": remark.resolved,
                });
                json!({ "id": format!("d{}", remark.id), "notes": [note] })
            });
            (200, remarks.collect())
        }
        ("POST", ["merge_requests", number, "discussions"]) => {
            one(inner, number, |inner, change| discuss(inner, change, call))
        }
        ("PUT", ["merge_requests", _, "discussions", id]) => {
            let mut memory = inner.memory();
            match memory.remarks.iter_mut().find(|remark| format!("d{}", remark.id) == *id) {
                Some(remark) => {
                    remark.resolved = call.body["resolved"].as_bool().unwrap_or(false);
                    (200, json!({ "id": id, "notes": [] }))
                }
                None => not_found(),
            }
        }
        ("GET", ["protected_branches"]) => (200, Value::Array(inner.memory().protections.clone())),
        ("GET", ["push_rule"]) => match inner.memory().push_rule.clone() {
            Some(rule) => (200, rule),
            None => not_found(),
        },
        ("GET", ["repository", "branches", branch]) => match inner.tip(branch) {
            Some(sha) => {
                let protected = inner.memory().protected.iter().any(|there| there == branch);
                (200, json!({ "name": branch, "commit": { "id": sha }, "protected": protected }))
            }
            None => not_found(),
        },
        ("GET", ["repository", "commits", id]) => commit(inner, id),
        ("POST", ["statuses", sha]) => {
            let (name, state) = (call.text("name"), call.text("state"));
            if !["pending", "running", "success", "failed", "canceled", "skipped"].contains(&state.as_str()) {
                return (400, json!({ "error": "state does not have a valid value" }));
            }
            let mut memory = inner.memory();
            let last = memory.statuses.iter().rev().find(|there| there.0 == *sha && there.1 == name);
            if last.is_some_and(|last| last.2 == state) {
                return (400, json!({ "message": format!("Cannot transition status via :enqueue from :{state}") }));
            }
            memory.statuses.push(((*sha).to_owned(), name, state));
            (201, json!({ "id": 1 }))
        }
        _ => not_found(),
    }
}

fn number(name: &str) -> String {
    user(name)["id"].to_string()
}

fn strings(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

fn thread(kind: &str, number: &str) -> String {
    format!("{} {number}", if kind == "issues" { "issue" } else { "change" })
}

/// The accounts of numbers, in their order.
fn named(members: &[String], ids: &Value) -> Vec<String> {
    let ids: Vec<u64> = serde_json::from_value(ids.clone()).unwrap_or_default();
    let of = |id: u64| members.iter().find(|name| user(name)["id"] == json!(id)).cloned();
    ids.into_iter().filter_map(of).collect()
}

/// An account's number, which comes from its name.
pub fn account(name: &str) -> u64 {
    name.bytes().fold(7, |id, byte| (id * 31 + u64::from(byte)) % 1_000_003)
}

fn user(name: &str) -> Value {
    json!({ "id": account(name), "username": name })
}

fn one(inner: &Inner, number: &str, say: impl FnOnce(&Inner, &FakeChange) -> Said) -> Said {
    let found = inner.memory().changes.iter().find(|change| change.number.to_string() == number).cloned();
    found.map_or_else(not_found, |change| say(inner, &change))
}

fn issue(issue: &FakeIssue) -> Value {
    json!({
        "iid": issue.number, "title": issue.title, "description": issue.body, "author": user(&issue.author),
        "web_url": format!("https://forge.example/acme/widgets/-/issues/{}", issue.number), "labels": issue.labels,
        "state": if issue.state == "open" { "opened" } else { issue.state },
        "assignees": issue.assignees.iter().map(|name| user(name)).collect::<Vec<_>>(),
        "closed_by": issue.closed_by.as_ref().map(|who| user(who)),
    })
}

fn note(memory: &Memory, comment: &FakeComment) -> Value {
    json!({
        "id": comment.id, "body": comment.body, "author": user(&comment.author), "system": false, "resolvable": false,
        "created_at": memory.made(comment.id), "updated_at": memory.touched(comment.id),
    })
}

fn merge(inner: &Inner, change: &FakeChange) -> Value {
    let head = inner.tip(&change.head);
    let refs = head.as_ref().map(|head| {
        let base = inner.merge_base(change);
        json!({ "base_sha": base, "head_sha": head, "start_sha": inner.tip(&change.base) })
    });
    json!({
        "iid": change.number, "title": change.title, "description": change.body, "author": user(&change.author),
        "web_url": format!("https://forge.example/acme/widgets/-/merge_requests/{}", change.number), "draft": change.draft,
        "updated_at": inner.memory().touched(change.number), "labels": change.labels, "state": if change.state == "open" { "opened" } else { change.state },
        "source_branch": change.head, "target_branch": change.base, "source_project_id": inner.memory().head_project(change),
        "target_project_id": 1, "sha": head, "diff_refs": refs,
        "reviewers": change.reviewers.iter().map(|name| user(name)).collect::<Vec<_>>(),
        "assignees": change.assignees.iter().map(|name| user(name)).collect::<Vec<_>>(),
        "milestone": super::github::milestone(&inner.memory(), change),
    })
}

fn open(inner: &Inner, call: &Call) -> Said {
    let (head, base, title) = (call.text("source_branch"), call.text("target_branch"), call.text("title"));
    if inner.tip(&head).is_none() {
        return (400, json!({ "message": { "source_branch": ["does not exist"] } }));
    }
    let mut memory = inner.memory();
    if memory.changes.iter().any(|change| change.head == head && change.state == "open") {
        return (409, json!({ "message": ["Another open merge request already exists for this source branch: !1"] }));
    }
    let members: Vec<String> = memory.members.keys().cloned().collect();
    let reviewers = named(&members, &call.body["reviewer_ids"]);
    let assignees = named(&members, &call.body["assignee_ids"]);
    let number = memory.id();
    let change = FakeChange {
        number,
        draft: title.starts_with("Draft: "),
        title,
        body: call.text("description"),
        author: BOT.into(),
        head,
        base,
        state: "open",
        labels: strings(&call.body["labels"]),
        reviewers,
        assignees,
        milestone: call.body["milestone_id"].as_u64(),
        fork: false,
    };
    memory.changes.push(change.clone());
    drop(memory);
    (201, merge(inner, &change))
}

/// A remark: GitLab makes a line code of its position, and where that is not a line of the difference, it says so.
/// An added line has a new number only, a removed one an old number only, any other has both.
fn discuss(inner: &Inner, change: &FakeChange, call: &Call) -> Said {
    let position = &call.body["position"];
    let text = |name: &str| position[name].as_str().unwrap_or_default().to_owned();
    let wrong = |why: &str| (400, json!({ "message": format!("400 Bad request - Note {{:line_code=>[\"{why}\"]}}") }));
    if text("head_sha") != inner.tip(&change.head).unwrap_or_default() || text("base_sha") != inner.merge_base(change) {
        return wrong("the position is of another difference");
    }
    let files = inner.diff(change);
    let Some(file) = files.iter().find(|file| file.new == text("new_path") && file.old == text("old_path")) else {
        return wrong("no such file");
    };
    let lines = (position["old_line"].as_u64(), position["new_line"].as_u64());
    if lines == (None, None) || !shown(&file.patch).contains(&lines) {
        return wrong("can't be blank, must be a valid line code");
    }
    // Of several lines each end is named by its code: the file's, and where both sides stand at it.
    let mut start = None;
    if let Some(range) = position.get("line_range") {
        let places = counted(&file.patch);
        for (end, wanted) in [("start", None), ("end", Some(lines))] {
            let end = &range[end];
            let named = (end["old_line"].as_u64(), end["new_line"].as_u64());
            let Some((_, at)) = places.iter().find(|(place, _)| *place == named) else { return wrong("no such line") };
            let code = format!("{}_{}_{}", sha1(&file.new), at.0, at.1);
            if end["line_code"] != json!(code) || wanted.is_some_and(|wanted| wanted != named) {
                return wrong(&format!("line_code is {code}"));
            }
            start = start.or(named.1.or(named.0));
        }
    }
    let mut memory = inner.memory();
    let id = memory.id();
    let (body, path) = (call.text("body"), file.new.clone());
    memory.remarks.push(FakeRemark {
        id,
        change: change.number,
        author: BOT.into(),
        body,
        path,
        start,
        lines,
        resolved: false,
    });
    (201, json!({ "id": format!("d{id}"), "notes": [] }))
}

fn commit(inner: &Inner, id: &str) -> Said {
    let Some(text) = inner.git(&["log", "-1", "--format=%H%n%P%n%ae%n%ce%n%B", id]) else { return not_found() };
    let mut lines = text.splitn(5, '\n');
    let mut next = || lines.next().unwrap_or_default().to_owned();
    let (sha, parents, author, committer, message) = (next(), next(), next(), next(), next());
    let parents: Vec<&str> = parents.split_whitespace().collect();
    (
        200,
        json!({
            "id": sha, "parent_ids": parents, "author_email": author, "committer_email": committer,
            "message": message.trim_end(),
        }),
    )
}

/// A line, by its numbers on both sides, and where both sides stand at it.
type Counted = ((Option<u64>, Option<u64>), (u64, u64));

/// Lines, and where both sides stand at each.
fn counted(patch: &str) -> Vec<Counted> {
    let (mut next, mut counted) = ((0, 0), Vec::new());
    for (old, new) in shown(patch) {
        // A gap between hunks moves both sides alike: either number says by how much.
        let gap = old.map_or(0, |old| old.saturating_sub(next.0)).max(new.map_or(0, |new| new.saturating_sub(next.1)));
        let at = (old.unwrap_or(next.0 + gap), new.unwrap_or(next.1 + gap));
        counted.push(((old, new), at));
        next = (at.0 + u64::from(old.is_some()), at.1 + u64::from(new.is_some()));
    }
    counted
}

fn sha1(text: &str) -> String {
    use sha1::Digest;
    sha1::Sha1::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
