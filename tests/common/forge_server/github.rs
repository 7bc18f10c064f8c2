//! GitHub's side of the fake: the routes and rules that adapters meet.

use super::app::{change_run, check_run, check_runs};
use super::issues;
use super::{BOT, Call, FakeChange, FakeComment, FakeRemark, Inner, Memory, Said, not_found, removed, shown, since};
use serde_json::{Value, json};

pub(super) fn handle(inner: &Inner, call: &Call) -> Said {
    let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
    if path == ["graphql"] {
        return graphql(inner, call);
    }
    let ["repos", "acme", "widgets", rest @ ..] = path.as_slice() else { return not_found() };
    match (call.method.as_str(), rest) {
        ("GET", []) => (
            200,
            json!({
                "id": 1, "full_name": "acme/widgets", "default_branch": "main", "permissions": { "push": true },
                "has_issues": !inner.memory().no_issues,
            }),
        ),
        ("GET", ["issues", "events"]) => (200, Value::Array(inner.memory().events.clone())),
        ("GET", ["pulls", "comments"]) => (200, json!([])),
        ("POST", ["pulls", "comments", _, "reactions"] | ["issues", _, "reactions"]) => {
            (201, json!({ "id": 1, "content": call.text("content") }))
        }
        ("GET", ["pulls"]) => pulls(inner, call),
        ("POST", ["pulls"]) => open(inner, call),
        ("GET", ["pulls", number]) => one(inner, number, |inner, change| (200, pull(inner, change))),
        ("PATCH", ["pulls", number]) => {
            let found = with(&mut inner.memory(), number, |change| change.body = call.text("body"));
            if found { one(inner, number, |inner, change| (200, pull(inner, change))) } else { not_found() }
        }
        ("GET", ["pulls", number, "files"]) => one(inner, number, |inner, change| {
            let files = inner.diff(change).into_iter().map(|file| {
                let status = match file.how {
                    'A' => "added",
                    'D' => "removed",
                    'R' => "renamed",
                    _ => "modified",
                };
                let mut wire = json!({ "filename": file.new, "status": status, "patch": file.patch });
                if file.how == 'R' {
                    wire["previous_filename"] = json!(file.old);
                }
                wire
            });
            (200, files.collect())
        }),
        ("POST", ["pulls", number, "requested_reviewers"]) => {
            let list =
                |name: &str| -> Vec<String> { serde_json::from_value(call.body[name].clone()).unwrap_or_default() };
            let teams = list("team_reviewers").into_iter().map(|team| format!("acme/{team}"));
            let names: Vec<String> = list("reviewers").into_iter().chain(teams).collect();
            with(&mut inner.memory(), number, |change| change.reviewers.extend(names));
            (201, json!({}))
        }
        ("GET", ["pulls", number, "comments"]) => {
            let memory = inner.memory();
            let of = memory.remarks.iter().filter(|remark| remark.change.to_string() == *number);
            (
                200,
                of.map(|remark| json!({ "id": remark.id, "body": remark.body, "user": { "login": remark.author } }))
                    .collect(),
            )
        }
        ("POST", ["pulls", number, "reviews"]) => one(inner, number, |inner, change| review(inner, change, call)),
        // A list does not say who closed one, and has pull requests, too.
        ("GET", ["issues"]) => {
            let author = call.asked("creator");
            let mut all = issues::list(inner, author, false);
            let memory = inner.memory();
            if author.is_none() {
                return (200, Value::Array(memory.listed.clone()));
            }
            let changes = memory.changes.iter().filter(|change| author.is_none_or(|author| change.author == author));
            all.extend(changes.map(|change| {
                json!({
                    "number": change.number, "title": change.title, "body": change.body, "state": "open",
                    "user": { "login": change.author }, "pull_request": { "url": "…" },
                })
            }));
            (200, Value::Array(all))
        }
        ("POST", ["issues"]) => issues::open(inner, call, issues::names(&call.body["labels"])),
        ("GET", ["issues", "comments"]) => {
            let memory = inner.memory();
            let late = memory.comments.iter().filter(|comment| since(call, "since", &memory.touched(comment.id)));
            (200, late.map(|it| comment(&memory, it)).collect())
        }
        ("GET", ["issues", number]) => {
            let mut memory = inner.memory();
            memory.issue(number).map_or_else(not_found, |found| (200, issues::issue(found, true)))
        }
        ("GET", ["issues", number, "comments"]) => {
            let memory = inner.memory();
            let of = memory.comments.iter().filter(|comment| comment.thread.ends_with(&format!(" {number}")));
            (200, of.map(|it| comment(&memory, it)).collect())
        }
        ("GET", ["commits", sha, "check-runs"]) => check_runs(&inner.memory(), call, sha),
        ("POST", ["check-runs"]) => check_run(&mut inner.memory(), call),
        ("PATCH", ["check-runs", id]) => change_run(&mut inner.memory(), call, id),
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
                Some(found) => {
                    found.reactions.push(call.text("content"));
                    (201, json!({ "id": 1, "content": call.text("content") }))
                }
                None => not_found(),
            }
        }
        ("POST", ["issues", number, "labels"]) => {
            let labels: Vec<String> = serde_json::from_value(call.body["labels"].clone()).unwrap_or_default();
            let mut memory = inner.memory();
            match memory.issue(number) {
                Some(issue) => issues::add(&mut issue.labels, labels),
                None => drop(with(&mut memory, number, |change| change.labels.extend(labels))),
            }
            (200, json!([]))
        }
        ("DELETE", ["issues", number, "labels", label]) => {
            with(&mut inner.memory(), number, |change| change.labels.retain(|there| there != label));
            (200, json!([]))
        }
        ("GET", ["collaborators", user, "permission"]) => match inner.memory().members.get(*user).map(String::as_str) {
            Some("admin") => (200, json!({ "permission": "admin", "role_name": "admin" })),
            Some(role @ ("maintain" | "write")) => (200, json!({ "permission": "write", "role_name": role })),
            Some(role @ ("triage" | "read")) => (200, json!({ "permission": "read", "role_name": role })),
            Some(role) => (200, json!({ "permission": role, "role_name": role })),
            None => not_found(),
        },
        ("GET", ["branches", branch]) => match inner.tip(branch) {
            Some(sha) => {
                let protected = inner.memory().protected.iter().any(|there| there == branch);
                (200, json!({ "name": branch, "commit": { "sha": sha }, "protected": protected }))
            }
            None => not_found(),
        },
        ("GET", ["rules", "branches", branch]) => {
            let memory = inner.memory();
            let rules = memory.rules.get(*branch).cloned().unwrap_or_default();
            (200, rules.iter().map(|rule| json!({ "type": rule })).collect())
        }
        ("GET", ["commits"]) => {
            let subjects = inner.subjects(call.asked("sha").unwrap_or("main"));
            (200, subjects.into_iter().map(|message| json!({ "sha": "x", "commit": { "message": message } })).collect())
        }
        ("GET", ["milestones"]) => {
            let memory = inner.memory();
            (200, memory.milestones.iter().map(|(number, title)| json!({ "number": number, "title": title })).collect())
        }
        // What is named is put in the place of what was there.
        ("PATCH", ["issues", number]) => {
            if inner.memory().issue(number).is_some() {
                return issues::edit(inner, call, number);
            }
            with(&mut inner.memory(), number, |change| {
                if let Some(assignees) = call.body.get("assignees") {
                    change.assignees = serde_json::from_value(assignees.clone()).unwrap();
                }
                if let Some(milestone) = call.body.get("milestone") {
                    change.milestone = milestone.as_u64();
                }
            });
            (200, json!({}))
        }
        ("POST", ["issues", number, "assignees"]) => {
            let names: Vec<String> = serde_json::from_value(call.body["assignees"].clone()).unwrap();
            let mut memory = inner.memory();
            match memory.issue(number) {
                Some(issue) => issues::add(&mut issue.assignees, names),
                None => drop(with(&mut memory, number, |change| issues::add(&mut change.assignees, names))),
            }
            (201, json!({}))
        }
        ("GET", ["commits", id]) => commit(inner, id),
        ("POST", ["statuses", sha]) => {
            let state = call.text("state");
            if !["pending", "success", "failure", "error"].contains(&state.as_str()) {
                return (422, json!({ "message": "state is invalid" }));
            }
            inner.memory().statuses.push(((*sha).to_owned(), call.text("context"), state));
            (201, json!({ "id": 1 }))
        }
        _ => not_found(),
    }
}

fn with(memory: &mut Memory, number: &str, change: impl FnOnce(&mut FakeChange)) -> bool {
    memory.changes.iter_mut().find(|there| there.number.to_string() == number).map(change).is_some()
}

fn one(inner: &Inner, number: &str, say: impl FnOnce(&Inner, &FakeChange) -> Said) -> Said {
    let found = inner.memory().changes.iter().find(|change| change.number.to_string() == number).cloned();
    found.map_or_else(not_found, |change| say(inner, &change))
}

fn comment(memory: &Memory, comment: &FakeComment) -> Value {
    let (kind, number) = comment.thread.split_once(' ').unwrap();
    let kind = if kind == "change" { "pull" } else { "issues" };
    let url = format!("https://forge.example/acme/widgets/{kind}/{number}#issuecomment-{}", comment.id);
    json!({
        "id": comment.id, "body": comment.body, "user": { "login": comment.author }, "html_url": url,
        "created_at": memory.made(comment.id), "updated_at": memory.touched(comment.id),
    })
}

fn pull(inner: &Inner, change: &FakeChange) -> Value {
    let repo = json!({ "id": 1, "full_name": "acme/widgets" });
    let head = inner.memory().head_repository(change, &repo);
    let gone = "0".repeat(40);
    let (teams, people): (Vec<&String>, Vec<&String>) = change.reviewers.iter().partition(|name| name.contains('/'));
    json!({
        "node_id": format!("PR_{}", change.number), "created_at": "2026-09-21T14:13:20Z",
        "number": change.number, "title": change.title, "body": change.body, "user": { "login": change.author },
        "html_url": format!("https://forge.example/acme/widgets/pull/{}", change.number), "draft": change.draft,
        "labels": change.labels.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        "state": if change.state == "open" { "open" } else { "closed" },
        "updated_at": inner.memory().touched(change.number),
        "merged_at": (change.state == "merged").then_some("2026-01-01T00:00:00Z"),
        "head": { "ref": change.head, "sha": inner.tip(&change.head).unwrap_or_else(|| gone.clone()), "repo": head },
        "base": { "ref": change.base, "sha": inner.tip(&change.base).unwrap_or(gone), "repo": repo },
        "requested_reviewers": people.iter().map(|name| json!({ "login": name })).collect::<Vec<_>>(),
        "requested_teams": teams.iter().map(|name| json!({ "slug": name.split_once('/').unwrap().1 })).collect::<Vec<_>>(),
        "assignees": change.assignees.iter().map(|name| json!({ "login": name })).collect::<Vec<_>>(),
        "milestone": milestone(&inner.memory(), change),
    })
}

/// The milestone that a change has.
pub(super) fn milestone(memory: &Memory, change: &FakeChange) -> Value {
    let found = memory.milestones.iter().find(|(id, _)| Some(*id) == change.milestone);
    found.map_or(Value::Null, |(id, title)| json!({ "id": id, "number": id, "title": title }))
}

fn pulls(inner: &Inner, call: &Call) -> Said {
    let head = call.asked("head").and_then(|head| head.split_once(':')).map(|(_, branch)| branch.to_owned());
    let all = call.asked("state") == Some("all");
    let found: Vec<FakeChange> = inner
        .memory()
        .changes
        .iter()
        .rev()
        .filter(|change| head.as_ref().is_none_or(|head| change.head == *head) && (all || change.state == "open"))
        .cloned()
        .collect();
    (200, found.iter().map(|change| pull(inner, change)).collect())
}

fn open(inner: &Inner, call: &Call) -> Said {
    let (head, base) = (call.text("head"), call.text("base"));
    let invalid = |message: &str| (422, json!({ "message": "Validation Failed", "errors": [{ "message": message }] }));
    if inner.tip(&head).is_none() || inner.tip(&base).is_none() {
        return (
            422,
            json!({ "message": "Validation Failed", "errors": [{ "resource": "PullRequest", "field": "head", "code": "invalid" }] }),
        );
    }
    let draft = call.body["draft"].as_bool().unwrap_or(false);
    let mut memory = inner.memory();
    if draft && memory.no_drafts {
        return invalid("Draft pull requests are not supported in this repository.");
    }
    if memory.changes.iter().any(|change| change.head == head && change.state == "open") {
        return invalid(&format!("A pull request already exists for acme:{head}."));
    }
    let number = memory.id();
    let change = FakeChange {
        number,
        title: call.text("title"),
        body: call.text("body"),
        author: BOT.into(),
        head,
        base,
        state: "open",
        draft,
        labels: vec![],
        reviewers: vec![],
        assignees: vec![],
        milestone: None,
        fork: false,
    };
    memory.changes.push(change.clone());
    drop(memory);
    (201, pull(inner, &change))
}

/// All remarks, or none: one that stands outside of the difference is an error for the whole review.
fn review(inner: &Inner, change: &FakeChange, call: &Call) -> Said {
    if call.text("commit_id") != inner.tip(&change.head).unwrap_or_default() {
        return (422, json!({ "message": "commit_id is not part of the pull request" }));
    }
    let files = inner.diff(change);
    let mut made = Vec::new();
    for remark in call.body["comments"].as_array().into_iter().flatten() {
        let (path, line) = (remark["path"].as_str().unwrap_or_default(), remark["line"].as_u64().unwrap_or_default());
        let right = remark["side"].as_str() != Some("LEFT");
        let place = files.iter().find(|file| file.new == path).and_then(|file| {
            shown(&file.patch)
                .into_iter()
                .find(|(old, new)| if right { *new == Some(line) } else { *old == Some(line) })
        });
        let start = remark.get("start_line").map(|start| start.as_u64().unwrap());
        if start.is_some_and(|start| start >= line)
            || remark.get("start_side").is_some_and(|side| *side != remark["side"])
        {
            return (422, json!({ "message": "Unprocessable Entity", "errors": ["start_line must precede the line"] }));
        }
        let Some((old, new)) = place else {
            return (422, json!({ "message": "Unprocessable Entity", "errors": ["Line could not be resolved"] }));
        };
        let lines = if right { (None, new) } else { (old, None) };
        made.push((path.to_owned(), start, lines, remark["body"].as_str().unwrap_or_default().to_owned()));
    }
    let mut memory = inner.memory();
    for (path, start, lines, body) in made {
        let id = memory.id();
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
    }
    (200, json!({ "id": 1 }))
}

pub(super) fn commit(inner: &Inner, id: &str) -> Said {
    let Some(text) = inner.git(&["log", "-1", "--format=%H%n%P%n%ae%n%ce%n%T%n%B", id]) else {
        return (422, json!({ "message": format!("No commit found for SHA: {id}") }));
    };
    let mut lines = text.splitn(6, '\n');
    let mut next = || lines.next().unwrap_or_default().to_owned();
    let (sha, parents, author, committer, tree, message) = (next(), next(), next(), next(), next(), next());
    // What GitHub makes itself is by the account of the token, and it vouches for it.
    let own = committer == "noreply@github.com";
    let account = own.then(|| json!({ "login": inner.account() }));
    let parents: Vec<Value> = parents.split_whitespace().map(|sha| json!({ "sha": sha })).collect();
    (
        200,
        json!({
            "sha": sha, "parents": parents, "author": account,
            "commit": {
                "author": { "email": author }, "committer": { "email": committer }, "message": message.trim_end(),
                "tree": { "sha": tree }, "verification": { "verified": own },
            },
        }),
    )
}

fn graphql(inner: &Inner, call: &Call) -> Said {
    let query = call.text("query");
    let variables = &call.body["variables"];
    if query.contains("viewer") {
        return (200, json!({ "data": { "viewer": { "login": inner.account() } } }));
    }
    if query.contains("createCommitOnBranch") {
        return create_commit(inner, &variables["input"]);
    }
    if query.contains("markPullRequestReadyForReview") {
        let number = variables["id"].as_str().unwrap_or_default().trim_start_matches("PR_").to_owned();
        let found = with(&mut inner.memory(), &number, |change| change.draft = false);
        return (200, if found { json!({ "data": {} }) } else { json!({ "errors": [{ "message": "no such node" }] }) });
    }
    let mut memory = inner.memory();
    if query.starts_with("mutation") {
        let id = variables["id"].as_str().unwrap_or_default().trim_start_matches("T_").to_owned();
        match memory.remarks.iter_mut().find(|remark| remark.id.to_string() == id) {
            Some(remark) => remark.resolved = true,
            None => return (200, json!({ "errors": [{ "message": "no such thread" }] })),
        }
        return (200, json!({ "data": { "resolveReviewThread": { "thread": { "id": format!("T_{id}") } } } }));
    }
    // One thread a page, so that pages are followed.
    let after: usize = variables["after"].as_str().and_then(|after| after.parse().ok()).unwrap_or(0);
    let number = variables["number"].as_u64();
    let all: Vec<&FakeRemark> = memory.remarks.iter().filter(|remark| Some(remark.change) == number).collect();
    let nodes: Vec<Value> = all
        .iter()
        .skip(after)
        .take(1)
        .map(|remark| {
            let first = json!({ "author": { "login": remark.author.trim_end_matches("[bot]") }, "body": remark.body });
            json!({ "id": format!("T_{}", remark.id), "isResolved": remark.resolved, "comments": { "nodes": [first] } })
        })
        .collect();
    let info = json!({ "hasNextPage": after + 1 < all.len(), "endCursor": (after + 1).to_string() });
    (
        200,
        json!({ "data": { "repository": { "pullRequest": { "reviewThreads": { "pageInfo": info, "nodes": nodes } } } } }),
    )
}

/// A commit that the forge makes itself, where the branch is at the expected one.
fn create_commit(inner: &Inner, input: &Value) -> Said {
    let refused =
        |message: &str| (200, json!({ "data": null, "errors": [{ "type": "STALE_DATA", "message": message }] }));
    let branch = input["branch"]["branchName"].as_str().unwrap_or_default();
    let expected = input["expectedHeadOid"].as_str().unwrap_or_default();
    if inner.tip(branch).as_deref() != Some(expected) {
        return refused(&format!("Expected branch to point to \"{expected}\" but it did not."));
    }
    let work = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = crate::common::git();
        command.current_dir(work.path()).args(["-c", "commit.gpgsign=false"]).args(arguments);
        command.env("GIT_AUTHOR_NAME", BOT).env("GIT_AUTHOR_EMAIL", format!("1+{BOT}@users.noreply.github.com"));
        command.env("GIT_COMMITTER_NAME", "GitHub").env("GIT_COMMITTER_EMAIL", "noreply@github.com");
        crate::common::ok(&mut command).trim().to_owned()
    };
    run(&["clone", "--quiet", "--branch", branch, inner.bare().to_str().unwrap(), "."]);
    for file in input["fileChanges"]["additions"].as_array().into_iter().flatten() {
        use base64::Engine as _;
        let path = work.path().join(file["path"].as_str().unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(file["contents"].as_str().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    for file in input["fileChanges"]["deletions"].as_array().into_iter().flatten() {
        std::fs::remove_file(work.path().join(file["path"].as_str().unwrap())).unwrap();
    }
    run(&["add", "--all"]);
    let text = |name: &str| input["message"][name].as_str().unwrap_or_default().to_owned();
    run(&["commit", "--quiet", "--allow-empty", "--message", &text("headline"), "--message", &text("body")]);
    run(&["push", "--quiet", "origin", &format!("HEAD:refs/heads/{branch}")]);
    (200, json!({ "data": { "createCommitOnBranch": { "commit": { "oid": run(&["rev-parse", "HEAD"]) } } } }))
}
