#!/usr/bin/env python3
"""contracts.py github|gitlab|gitea SPEC.json: cuts a forge's published API description down to the requests that we make.

What stays: of each operation its parameters and its body, names and types only (no prose, no examples, no answers).
GitHub's description is in the npm package @octokit/openapi; GitLab's is `doc/api/openapi/openapi_v3.yaml` of its
repository, as JSON; Gitea's is Forgejo's `templates/swagger/v1_json.tmpl` (Swagger 2.0), its blanks filled in. Writes tests/contracts/NAME.json.
"""
import json
import pathlib
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


def main():
    kind, source = sys.argv[1], sys.argv[2]
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
