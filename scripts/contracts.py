#!/usr/bin/env python3
"""contracts.py github|gitlab|gitea|graphql SPEC: cuts a forge's published API description down to the requests that we make.

What stays: of each operation its parameters and its body, names and types only (no prose, no examples, no answers).
GitHub's description is in the npm package @octokit/openapi; GitLab's is `doc/api/openapi/openapi_v3.yaml` of its
repository, as JSON; Gitea's is Forgejo's `templates/swagger/v1_json.tmpl` (Swagger 2.0), its blanks filled in. Writes tests/contracts/NAME.json.

GitHub's other API is described by `schema.graphql` of the npm package @octokit/graphql-schema. Writes
tests/contracts/github.graphql: the fields that we ask for with all that they take, and whole types of input.
"""
import json
import pathlib
import re
import sys

GITHUB = """
GET /repos/{owner}/{repo}
GET /repos/{owner}/{repo}/pulls
POST /repos/{owner}/{repo}/pulls
GET /repos/{owner}/{repo}/pulls/{pull_number}
PATCH /repos/{owner}/{repo}/pulls/{pull_number}
GET /repos/{owner}/{repo}/pulls/{pull_number}/files
GET /repos/{owner}/{repo}/pulls/{pull_number}/comments
POST /repos/{owner}/{repo}/pulls/{pull_number}/reviews
POST /repos/{owner}/{repo}/pulls/{pull_number}/requested_reviewers
GET /repos/{owner}/{repo}/issues/{issue_number}/comments
POST /repos/{owner}/{repo}/issues/{issue_number}/comments
PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}
POST /repos/{owner}/{repo}/issues/comments/{comment_id}/reactions
POST /repos/{owner}/{repo}/issues/{issue_number}/labels
DELETE /repos/{owner}/{repo}/issues/{issue_number}/labels/{name}
GET /repos/{owner}/{repo}/collaborators/{username}/permission
GET /repos/{owner}/{repo}/branches/{branch}
GET /repos/{owner}/{repo}/rules/branches/{branch}
GET /repos/{owner}/{repo}/commits/{ref}
GET /repos/{owner}/{repo}/contents/{path}
POST /repos/{owner}/{repo}/statuses/{sha}
PATCH /repos/{owner}/{repo}/issues/{issue_number}
GET /repos/{owner}/{repo}/milestones
GET /repos/{owner}/{repo}/issues/comments
GET /repos/{owner}/{repo}/commits/{ref}/check-runs
POST /repos/{owner}/{repo}/check-runs
PATCH /repos/{owner}/{repo}/check-runs/{check_run_id}
GET /repos/{owner}/{repo}/installation
POST /app/installations/{installation_id}/access_tokens
GET /repos/{owner}/{repo}/commits
POST /repos/{owner}/{repo}/issues/{issue_number}/assignees
DELETE /repos/{owner}/{repo}/issues/comments/{comment_id}
GET /repos/{owner}/{repo}/issues
POST /repos/{owner}/{repo}/issues
GET /repos/{owner}/{repo}/issues/{issue_number}
GET /repos/{owner}/{repo}/issues/events
GET /repos/{owner}/{repo}/pulls/comments
POST /repos/{owner}/{repo}/pulls/comments/{comment_id}/reactions
POST /repos/{owner}/{repo}/issues/{issue_number}/reactions
"""

GITLAB = """
GET /api/v4/user
GET /api/v4/users
GET /api/v4/projects/{id}/merge_requests
POST /api/v4/projects/{id}/merge_requests
GET /api/v4/projects/{id}/merge_requests/{merge_request_iid}
PUT /api/v4/projects/{id}/merge_requests/{merge_request_iid}
GET /api/v4/projects/{id}/merge_requests/{merge_request_iid}/diffs
GET /api/v4/projects/{id}/merge_requests/{noteable_id}/notes
POST /api/v4/projects/{id}/merge_requests/{noteable_id}/notes
PUT /api/v4/projects/{id}/merge_requests/{noteable_id}/notes/{note_id}
GET /api/v4/projects/{id}/issues/{noteable_id}/notes
PUT /api/v4/projects/{id}/issues/{noteable_id}/notes/{note_id}
PUT /api/v4/projects/{id}/issues/{issue_iid}
POST /api/v4/projects/{id}/issues/{issue_iid}/notes/{note_id}/award_emoji
POST /api/v4/projects/{id}/issues/{noteable_id}/notes
POST /api/v4/projects/{id}/merge_requests/{merge_request_iid}/notes/{note_id}/award_emoji
GET /api/v4/projects/{id}/merge_requests/{noteable_id}/discussions
POST /api/v4/projects/{id}/merge_requests/{noteable_id}/discussions
PUT /api/v4/projects/{id}/merge_requests/{noteable_id}/discussions/{discussion_id}
GET /api/v4/projects/{id}/issues
GET /api/v4/projects/{id}/repository/branches/{branch}
GET /api/v4/projects/{id}/repository/commits/{sha}
GET /api/v4/projects/{id}/repository/files/{file_path}/raw
POST /api/v4/projects/{id}/statuses/{sha}
GET /api/v4/projects/{id}/repository/commits
GET /api/v4/projects/{id}/protected_branches
DELETE /api/v4/projects/{id}/merge_requests/{noteable_id}/notes/{note_id}
DELETE /api/v4/projects/{id}/issues/{noteable_id}/notes/{note_id}
POST /api/v4/projects/{id}/issues
GET /api/v4/projects/{id}/issues/{issue_iid}
GET /api/v4/projects/{id}/issues/{eventable_id}/resource_label_events
GET /api/v4/projects/{id}/merge_requests/{eventable_id}/resource_label_events
"""

GITEA = """
GET /user
GET /repos/{owner}/{repo}
GET /repos/{owner}/{repo}/pulls
POST /repos/{owner}/{repo}/pulls
GET /repos/{owner}/{repo}/pulls/{index}
PATCH /repos/{owner}/{repo}/pulls/{index}
GET /repos/{owner}/{repo}/pulls/{index}.{diffType}
GET /repos/{owner}/{repo}/pulls/{index}/files
POST /repos/{owner}/{repo}/pulls/{index}/requested_reviewers
GET /repos/{owner}/{repo}/pulls/{index}/reviews
POST /repos/{owner}/{repo}/pulls/{index}/reviews
GET /repos/{owner}/{repo}/pulls/{index}/reviews/{id}/comments
GET /repos/{owner}/{repo}/issues/comments
GET /repos/{owner}/{repo}/issues/{index}/comments
POST /repos/{owner}/{repo}/issues/{index}/comments
PATCH /repos/{owner}/{repo}/issues/comments/{id}
POST /repos/{owner}/{repo}/issues/comments/{id}/reactions
POST /repos/{owner}/{repo}/issues/{index}/labels
DELETE /repos/{owner}/{repo}/issues/{index}/labels/{identifier}
GET /repos/{owner}/{repo}/labels
POST /repos/{owner}/{repo}/labels
GET /repos/{owner}/{repo}/milestones
GET /repos/{owner}/{repo}/collaborators/{collaborator}/permission
GET /repos/{owner}/{repo}/branches/{branch}
GET /repos/{owner}/{repo}/commits
GET /repos/{owner}/{repo}/git/commits/{sha}
GET /repos/{owner}/{repo}/raw/{filepath}
POST /repos/{owner}/{repo}/statuses/{sha}
GET /repos/{owner}/{repo}/branch_protections
DELETE /repos/{owner}/{repo}/issues/comments/{id}
GET /repos/{owner}/{repo}/issues
POST /repos/{owner}/{repo}/issues
PATCH /repos/{owner}/{repo}/issues/{index}
GET /repos/{owner}/{repo}/issues/{index}/timeline
"""

# What we ask GitHub's GraphQL for: fields of types. Arguments, and what they are made of, stay whole.
GRAPHQL = {
    "Query": ["repository", "viewer"],
    "Mutation": ["createCommitOnBranch", "markPullRequestReadyForReview", "resolveReviewThread"],
    "Actor": ["login"],
    "Commit": ["oid"],
    "CreateCommitOnBranchPayload": ["commit"],
    "MarkPullRequestReadyForReviewPayload": ["pullRequest"],
    "PageInfo": ["endCursor", "hasNextPage"],
    "PullRequest": ["id", "reviewThreads"],
    "PullRequestReviewComment": ["author", "body"],
    "PullRequestReviewCommentConnection": ["nodes"],
    "PullRequestReviewThread": ["comments", "id", "isResolved"],
    "PullRequestReviewThreadConnection": ["nodes", "pageInfo"],
    "Repository": ["pullRequest"],
    "ResolveReviewThreadPayload": ["thread"],
    "User": ["login"],
}

# Parameters of queries that we use; an operation that lacks one of them must not be asked with it.
ASKED = {
    "author_username", "check_name", "created_after", "created_by", "creator", "direction", "files", "filter", "head",
    "limit", "name", "order_by", "page", "per_page", "ref", "ref_name", "sha", "since", "sort", "source_branch", "stat",
    "state", "title", "type", "updated_after", "username", "verification",
}

KEPT = {"type", "enum", "format", "pattern", "minimum", "maximum", "minLength", "maxLength", "required", "nullable"}


def schema(spec, given, deep=0):
    """A schema with its references put in their place, and nothing but what checks a value."""
    if "$ref" in given:
        name = given["$ref"].rsplit("/", 1)[1]
        known = spec["definitions"] if "swagger" in spec else spec["components"]["schemas"]
        return schema(spec, known[name], deep + 1)
    out = {key: value for key, value in given.items() if key in KEPT}
    # A number in quotes is what some descriptions mean by a pattern of digits; formats are not checked.
    out.pop("format", None)
    if out.pop("nullable", False) and isinstance(out.get("type"), str):
        out["type"] = [out["type"], "null"]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in given:
            out["anyOf" if key == "oneOf" else key] = [schema(spec, one, deep + 1) for one in given[key]]
    if "items" in given:
        out["items"] = schema(spec, given["items"], deep + 1)
    if "properties" in given:
        out["properties"] = {name: schema(spec, one, deep + 1) for name, one in given["properties"].items()}
        # What is not described is a mistake of ours.
        if "additionalProperties" not in given:
            out["additionalProperties"] = False
    return out


TOKEN = re.compile(r'"""(?:\\"""|[^"]|"(?!""))*"""|"(?:\\.|[^"\\])*"|#[^\n]*|[\w]+|[^\s\w]')


def tokens(text):
    """The words of a GraphQL schema without comments, descriptions and directives."""
    words = [word for word in TOKEN.findall(text) if not word.startswith("#") and word != ","]
    out, at = [], 0
    while at < len(words):
        word = words[at]
        if word == "@":
            at += 2
            if at < len(words) and words[at] == "(":
                at = close(words, at)
            continue
        # A text after `=` is a value, any other one describes what follows.
        if not word.startswith('"') or out[-1:] == ["="]:
            out.append(word)
        at += 1
    return out


def close(words, at):
    """Behind the bracket that closes the one here."""
    deep = 0
    while True:
        deep += {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}.get(words[at], 0)
        at += 1
        if deep == 0:
            return at


def fields(words):
    """Fields of a type: name, arguments and type, as words."""
    found, at = {}, 0
    while at < len(words):
        name, at, given = words[at], at + 1, []
        if words[at] == "(":
            end = close(words, at)
            given, at = words[at:end], end
        end = at + 1
        while end < len(words) and not (words[end].isidentifier() and words[end - 1] not in (":", "[", "=")):
            end += 1
        found[name] = (given, words[at:end])
        at = end
    return found


def graphql(source):
    """The part of a GraphQL schema that we ask for."""
    words = tokens(open(source).read())
    known, at = {}, 0
    while at < len(words):
        kind = words[at]
        if kind in ("directive", "schema", "extend") or kind not in ("type", "interface", "input", "enum", "scalar", "union"):
            at += 1
            continue
        name, start = words[at + 1], at + 2
        if kind in ("scalar", "union"):
            known[name], at = (kind, []), start
            continue
        while words[start] != "{":
            start += 1
        end = close(words, start)
        known[name], at = (kind, words[start + 1 : end - 1]), end
    def text(words):
        return re.sub(r" (?=[!)\],:])|(?<=[(\[]) ", "", " ".join(words)).replace(" (", "(")
    out, wanted, done = [], set(), {"String", "Int", "Boolean", "ID", "Float"}
    for name, asked in sorted(GRAPHQL.items()):
        kind, body = known[name]
        there = fields(body)
        lines = []
        for field in asked:
            given, of = there[field]
            wanted |= {word for word in given if word in known}
            lines.append(f"  {field}{text(given)}{text(of)}")
        out.append(f"{kind} {name} {{\n" + "\n".join(lines) + "\n}\n")
    while wanted - done:
        name = min(wanted - done)
        done.add(name)
        kind, body = known[name]
        if kind == "input":
            wanted |= {word for word in body if word in known}
            lines = [f"  {field}{text(of)}" for field, (_, of) in fields(body).items()]
            out.append(f"input {name} {{\n" + "\n".join(lines) + "\n}\n")
        elif kind == "enum":
            out.append(f"enum {name} {{\n" + "\n".join(f"  {word}" for word in body) + "\n}\n")
        else:
            out.append(f"{kind} {name}\n")
    # Scalars of what is answered.
    named = set(re.findall(r"\w+", "".join(out)))
    out += [f"scalar {name}\n" for name in sorted(named - done) if known.get(name, ("",))[0] == "scalar"]
    to = pathlib.Path(__file__).parent.parent / "tests" / "contracts" / "github.graphql"
    to.write_text("\n".join(out))
    print(f"{to}: {len(out)} types, {to.stat().st_size} bytes")


def main():
    kind, source = sys.argv[1], sys.argv[2]
    if kind == "graphql":
        return graphql(source)
    spec = json.load(open(source))
    operations = []
    for line in {"github": GITHUB, "gitlab": GITLAB, "gitea": GITEA}[kind].split("\n"):
        if not line:
            continue
        method, path = line.split(" ")
        item = spec["paths"][path]
        operation = item[method.lower()]
        query = {}
        for parameter in item.get("parameters", []) + operation.get("parameters", []):
            if "$ref" in parameter:
                parameter = spec["components"]["parameters"][parameter["$ref"].rsplit("/", 1)[1]]
            if parameter["in"] == "query" and parameter["name"] in ASKED:
                query[parameter["name"]] = {
                    "schema": schema(spec, parameter.get("schema", parameter)),
                    "required": parameter.get("required", False),
                }
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if "swagger" in spec:
            body = next((one for one in operation.get("parameters", []) if one["in"] == "body"), None)
            path = spec["basePath"] + path
        operations.append(
            {"method": method, "path": path, "query": query, "body": schema(spec, body["schema"]) if body else None}
        )
    to = pathlib.Path(__file__).parent.parent / "tests" / "contracts" / f"{kind}.json"
    to.write_text(json.dumps(operations, indent=1, sort_keys=True) + "\n")
    print(f"{to}: {len(operations)} operations, {to.stat().st_size} bytes")


main()
