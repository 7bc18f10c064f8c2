//! Gitea's side of the fake: the routes and rules that adapters meet.

use super::issues;
use super::{BOT, Call, FakeChange, FakeComment, FakeRemark, Inner, Memory, Said, not_found, removed, shown, since};
use serde_json::{Value, json};

pub(super) fn handle(inner: &Inner, call: &Call) -> Said {
    let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
    let ["api", "v1", path @ ..] = path.as_slice() else { return not_found() };
    if path == ["user"] {
        return (200, json!({ "login": inner.account() }));
    }
    let ["repos", "acme", "widgets", rest @ ..] = path else { return not_found() };
    match (call.method.as_str(), rest) {
        ("GET", []) => {
            let permissions = json!({ "admin": true, "push": true, "pull": true });
            (
                200,
                json!({
                    "full_name": "acme/widgets", "default_branch": "main", "permissions": permissions,
                    "has_issues": !inner.memory().no_issues,
                }),
            )
        }
        ("GET", ["pulls"]) => {
            let open = call.asked("state") != Some("all");
            let head = call.asked("head");
            let memory = inner.memory();
            let of =
                |change: &&FakeChange| (!open || change.state == "open") && head.is_none_or(|head| change.head == head);
            let found: Vec<FakeChange> = memory.changes.iter().rev().filter(of).cloned().collect();
            drop(memory);
            (200, found.iter().map(|change| pull(inner, change)).collect())
        }
        ("POST", ["pulls"]) => open(inner, call),
        ("GET", ["pulls", number]) => one(inner, number, |change| (200, pull(inner, change))),
        ("PATCH", ["pulls", number]) => {
            with(&mut inner.memory(), number, |change| {
                if call.body.get("title").is_some() {
                    change.title = call.text("title");
                    change.draft = change.title.starts_with("WIP:");
                }
                if call.body.get("body").is_some() {
                    change.body = call.text("body");
                }
                // A whole list, in the place of what was there.
                if let Some(names) = call.body.get("assignees") {
                    change.assignees = serde_json::from_value(names.clone()).unwrap();
                }
                if let Some(milestone) = call.body.get("milestone") {
                    change.milestone = milestone.as_u64();
                }
            });
            one(inner, number, |change| (201, pull(inner, change)))
        }
        ("GET", ["pulls", number, "files"]) => one(inner, number, |change| {
            let files = inner.diff(change).into_iter().map(|file| {
                let status = match file.how {
                    'A' => "added",
                    'D' => "deleted",
                    'R' => "renamed",
                    _ => "changed",
                };
                let mut wire = json!({ "filename": file.new, "status": status });
                if file.how == 'R' {
                    wire["previous_filename"] = json!(file.old);
                }
                wire
            });
            (200, files.collect())
        }),
        ("POST", ["pulls", number, "requested_reviewers"]) => {
            let names: Vec<String> = serde_json::from_value(call.body["reviewers"].clone()).unwrap_or_default();
            with(&mut inner.memory(), number, |change| change.reviewers.extend(names));
            (201, json!([]))
        }
        // Every remark of the fake is a review of its own.
        ("GET", ["pulls", number, "reviews"]) => {
            let memory = inner.memory();
            let of = memory.remarks.iter().filter(|remark| remark.change.to_string() == *number);
            (200, of.map(|it| json!({ "id": it.id, "user": { "login": it.author }, "comments_count": 1 })).collect())
        }
        ("GET", ["pulls", _, "reviews", id, "comments"]) => {
            let memory = inner.memory();
            let of = memory.remarks.iter().filter(|remark| remark.id.to_string() == *id);
            (200, of.map(|it| json!({ "id": it.id, "user": { "login": it.author }, "body": it.body })).collect())
        }
        ("POST", ["pulls", number, "reviews"]) => one(inner, number, |change| review(inner, change, call)),
        // An issue does not say who closed it, the list of what happened does.
        ("GET", ["issues"]) => match call.asked("created_by") {
            None => (200, Value::Array(inner.memory().listed.clone())),
            author => (200, Value::Array(issues::list(inner, author, false))),
        },
        ("POST", ["issues"]) => {
            let labels = named(&inner.memory(), &call.body["labels"]);
            issues::open(inner, call, labels)
        }
        ("PATCH", ["issues", number]) => match issues::edit(inner, call, number) {
            (200, wire) => (201, wire),
            other => other,
        },
        ("GET", ["issues", number, "timeline"]) => {
            let mut memory = inner.memory();
            let Value::Array(mut all) = memory.events_of(number) else { return not_found() };
            let event = |id: u64, what: &str, who: &str| json!({ "id": id, "type": what, "user": { "login": who } });
            if let Some(found) = memory.issue(number) {
                all.extend([event(1, "label", "ann"), event(2, "comment", "bob")]);
                all.extend(found.closed_by.as_ref().map(|who| event(3, "close", who)));
            }
            (200, Value::Array(all))
        }
        ("GET", ["issues", "comments"]) => {
            let memory = inner.memory();
            let late = memory.comments.iter().filter(|comment| since(call, "since", &memory.touched(comment.id)));
            (200, late.map(|it| comment(&memory, it)).collect())
        }
        ("GET", ["issues", number, "comments"]) => {
            let memory = inner.memory();
            let of = memory.comments.iter().filter(|comment| comment.thread.ends_with(&format!(" {number}")));
            (200, of.map(|it| comment(&memory, it)).collect())
        }
        ("POST", ["issues", "0", "comments"]) => not_found(),
        ("POST", ["issues", number, "comments"]) => {
            let mut memory = inner.memory();
            let is_change = memory.changes.iter().any(|change| change.number.to_string() == *number);
            let thread = format!("{} {number}", if is_change { "change" } else { "issue" });
            let id = memory.id();
            let made = FakeComment { id, thread, author: BOT.into(), body: call.text("body"), reactions: vec![] };
            memory.comments.push(made.clone());
            (201, comment(&memory, &made))
        }
        ("DELETE", ["issues", "comments", id]) => removed(&mut inner.memory(), id),
        ("PATCH", ["issues", "comments", id]) => {
            let mut memory = inner.memory();
            match memory.comments.iter_mut().find(|comment| comment.id.to_string() == *id) {
                Some(found) => {
                    found.body = call.text("body");
                    let found = found.clone();
                    memory.edited.push(found.id);
                    (200, comment(&memory, &found))
                }
                None => not_found(),
            }
        }
        ("POST", ["issues", "comments", id, "reactions"]) => {
            let mut memory = inner.memory();
            match memory.comments.iter_mut().find(|comment| comment.id.to_string() == *id) {
                Some(found) if found.reactions.contains(&call.text("content")) => (200, json!({})),
                Some(found) => {
                    found.reactions.push(call.text("content"));
                    (201, json!({ "content": call.text("content") }))
                }
                None => not_found(),
            }
        }
        ("GET", ["labels"]) => {
            let memory = inner.memory();
            (200, labels(&memory).into_iter().map(|(id, name)| json!({ "id": id, "name": name })).collect())
        }
        ("POST", ["labels"]) => {
            let mut memory = inner.memory();
            memory.labels.entry("all".into()).or_default().push(call.text("name"));
            let id = memory.labels["all"].len();
            (201, json!({ "id": id, "name": call.text("name") }))
        }
        ("POST", ["issues", number, "labels"]) => {
            let mut memory = inner.memory();
            let names = named(&memory, &call.body["labels"]);
            match memory.issue(number) {
                Some(issue) => issues::add(&mut issue.labels, names),
                None => with(&mut memory, number, |change| change.labels.extend(names)),
            }
            (200, json!([]))
        }
        ("DELETE", ["issues", number, "labels", id]) => {
            let mut memory = inner.memory();
            let names = named(&memory, &json!([id.parse::<u64>().unwrap()]));
            with(&mut memory, number, |change| change.labels.retain(|label| !names.contains(label)));
            (204, Value::Null)
        }
        ("GET", ["milestones"]) => {
            let memory = inner.memory();
            (200, memory.milestones.iter().map(|(id, title)| json!({ "id": id, "title": title })).collect())
        }
        ("GET", ["collaborators", user, "permission"]) => match inner.memory().members.get(*user).map(String::as_str) {
            Some("triage") => (200, json!({ "permission": "read", "role_name": "read" })),
            Some("maintain") => (200, json!({ "permission": "write", "role_name": "write" })),
            Some("blocked") => (200, json!({ "permission": "none", "role_name": "none" })),
            Some(role) => (200, json!({ "permission": role, "role_name": role })),
            None => not_found(),
        },
        ("GET", ["branch_protections"]) => (200, Value::Array(inner.memory().protections.clone())),
        ("GET", ["branches", branch]) => match inner.tip(branch) {
            Some(sha) => {
                let memory = inner.memory();
                let rule = memory.rules.contains_key(*branch);
                let protected = rule || memory.protected.iter().any(|there| there == branch);
                let name = if protected { *branch } else { "" };
                let commit = json!({ "id": sha });
                (
                    200,
                    json!({ "name": branch, "commit": commit, "protected": protected, "effective_branch_protection_name": name }),
                )
            }
            None => not_found(),
        },
        ("GET", ["commits"]) => {
            let branch = format!("refs/heads/{}", call.asked("sha").unwrap_or("main"));
            let log = inner.git(&["log", "--format=%s", &branch]).unwrap_or_default();
            (200, log.lines().map(|title| json!({ "commit": { "message": format!("{title}\n\nMore.") } })).collect())
        }
        ("GET", ["git", "commits", id]) => super::github::commit(inner, id),
        ("POST", ["statuses", sha]) => {
            let state = call.text("state");
            if !["pending", "success", "failure", "error", "warning"].contains(&state.as_str()) {
                return (422, json!({ "message": "state is invalid" }));
            }
            inner.memory().statuses.push(((*sha).to_owned(), call.text("context"), state));
            (201, json!({ "id": 1 }))
        }
        _ => not_found(),
    }
}

fn labels(memory: &Memory) -> Vec<(u64, String)> {
    let all = memory.labels.get("all").cloned().unwrap_or_default();
    (1..).zip(all).collect()
}

fn named(memory: &Memory, ids: &Value) -> Vec<String> {
    let ids: Vec<u64> = serde_json::from_value(ids.clone()).unwrap_or_default();
    labels(memory).into_iter().filter(|(id, _)| ids.contains(id)).map(|(_, name)| name).collect()
}

fn with(memory: &mut Memory, number: &str, change: impl FnOnce(&mut FakeChange)) {
    memory.changes.iter_mut().find(|there| there.number.to_string() == number).map(change);
}

fn one(inner: &Inner, number: &str, say: impl FnOnce(&FakeChange) -> Said) -> Said {
    let found = inner.memory().changes.iter().find(|change| change.number.to_string() == number).cloned();
    found.map_or_else(not_found, |change| say(&change))
}

fn comment(memory: &Memory, comment: &FakeComment) -> Value {
    let (kind, number) = comment.thread.split_once(' ').unwrap();
    let page = |word: &str| format!("https://forge.example/acme/widgets/{word}/{number}");
    let (pull, issue) = if kind == "change" { (page("pulls"), String::new()) } else { (String::new(), page("issues")) };
    json!({
        "id": comment.id, "body": comment.body, "user": { "login": comment.author }, "issue_url": issue,
        "pull_request_url": pull, "html_url": format!("{}#issuecomment-{}", page("issues"), comment.id),
        "created_at": memory.made(comment.id), "updated_at": memory.touched(comment.id),
    })
}

fn pull(inner: &Inner, change: &FakeChange) -> Value {
    let repo = json!({ "id": 1, "full_name": "acme/widgets" });
    let head = inner.memory().head_repository(change, &repo);
    let tip = |branch: &str| inner.tip(branch).unwrap_or_default();
    json!({
        "number": change.number, "title": change.title, "body": change.body, "user": { "login": change.author },
        "html_url": format!("https://forge.example/acme/widgets/pulls/{}", change.number), "draft": change.draft,
        "labels": change.labels.iter().map(|name| json!({ "id": 1, "name": name })).collect::<Vec<_>>(),
        "state": if change.state == "open" { "open" } else { "closed" }, "merged": change.state == "merged",
        "created_at": inner.memory().made(change.number), "updated_at": inner.memory().touched(change.number),
        "head": { "ref": change.head, "sha": tip(&change.head), "repo": head },
        "base": { "ref": change.base, "sha": tip(&change.base), "repo": repo },
        "requested_reviewers": change.reviewers.iter().map(|name| json!({ "login": name })).collect::<Vec<_>>(),
        "assignees": change.assignees.iter().map(|name| json!({ "login": name })).collect::<Vec<_>>(),
        "milestone": super::github::milestone(&inner.memory(), change),
    })
}

fn open(inner: &Inner, call: &Call) -> Said {
    let (head, base, title) = (call.text("head"), call.text("base"), call.text("title"));
    if inner.tip(&head).is_none() || inner.tip(&base).is_none() {
        return not_found();
    }
    let mut memory = inner.memory();
    if memory.changes.iter().any(|change| change.head == head && change.state == "open") {
        return (409, json!({ "message": "pull request already exists for these targets" }));
    }
    let number = memory.id();
    let change = FakeChange {
        number,
        draft: title.starts_with("WIP:"),
        title,
        body: call.text("body"),
        author: BOT.into(),
        head,
        base,
        state: "open",
        labels: named(&memory, &call.body["labels"]),
        reviewers: vec![],
        assignees: serde_json::from_value(call.body["assignees"].clone()).unwrap_or_default(),
        milestone: call.body["milestone"].as_u64(),
        fork: false,
    };
    memory.changes.push(change.clone());
    drop(memory);
    (201, pull(inner, &change))
}

/// A remark stands on one side; several lines begin at the one that is named.
fn review(inner: &Inner, change: &FakeChange, call: &Call) -> Said {
    let files = inner.diff(change);
    let mut made = Vec::new();
    for remark in call.body["comments"].as_array().into_iter().flatten() {
        let path = remark["path"].as_str().unwrap_or_default();
        let of = |name: &str| remark[name].as_u64().filter(|line| *line > 0);
        let more = of("extra_lines_count").unwrap_or(0);
        let (old, new) = (of("old_position"), of("new_position"));
        let last = (old.map(|line| line + more), new.map(|line| line + more));
        let lines = files.iter().find(|file| file.new == path).map(|file| shown(&file.patch)).unwrap_or_default();
        let there = |old: Option<u64>, new: Option<u64>| match (old, new) {
            (None, Some(new)) => lines.iter().any(|line| line.1 == Some(new)),
            (Some(old), None) => lines.iter().any(|line| line.0 == Some(old)),
            _ => false,
        };
        if !there(old, new) || !there(last.0, last.1) {
            return (422, json!({ "message": "the line is not of the difference" }));
        }
        let start = (more > 0).then_some(old.or(new)).flatten();
        made.push((path.to_owned(), start, last, remark["body"].as_str().unwrap_or_default().to_owned()));
    }
    let mut memory = inner.memory();
    for (path, start, lines, body) in made {
        let id = memory.id();
        let (change, author) = (change.number, BOT.into());
        memory.remarks.push(FakeRemark { id, change, author, body, path, start, lines, resolved: false });
    }
    (200, json!({ "id": 1 }))
}
