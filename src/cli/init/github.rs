//! The workflow of GitHub Actions: three jobs, each with the rights it needs.

use super::Intent;
use super::config::{ActionRef, quoted};
use crate::trigger::firing::Wanted;
use std::collections::BTreeSet;

/// Where it lies.
pub(super) const FILE: &str = ".github/workflows/codeforge.yml";
const BEGIN: &str = "# codeforge:triggers begin";
const END: &str = "# codeforge:triggers end";

/// Actions of others that the file calls, each at one commit.
pub(super) const PINS: [(&str, &str, &str); 5] = [
    ("actions/checkout", "3d3c42e5aac5ba805825da76410c181273ba90b1", "v7.0.1"),
    ("actions/upload-artifact", "bbbca2ddaa5d8feaa63e36b76fdaad77386f024f", "v7.0.0"),
    ("actions/cache/restore", "27d5ce7f107fe9357f9df03efb73ab90386fccae", "v5.0.5"),
    ("actions/cache/save", "27d5ce7f107fe9357f9df03efb73ab90386fccae", "v5.0.5"),
    ("actions/download-artifact", "3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c", "v8.0.1"),
];

fn pinned(name: &str) -> String {
    let found = PINS.iter().find(|(action, ..)| *action == name);
    found.map_or_else(|| name.to_owned(), |(action, commit, version)| format!("{action}@{commit} # {version}"))
}

/// The file.
pub(super) fn text(wanted: &Wanted, intent: &Intent, action: &ActionRef) -> String {
    let ours = format!("{}@{} # {}", action.repository, action.commit, action.version);
    let phrase = intent.carried.phrase.as_deref().unwrap_or(crate::cli::ci::settings::PHRASE);
    let mut shared = String::new();
    let settings = [
        ("trigger-phrase", intent.carried.phrase.as_ref()),
        ("base-branch", intent.carried.base_branch.as_ref()),
        ("branch-prefix", intent.carried.branch_prefix.as_ref()),
    ];
    for (name, value) in settings {
        if let Some(value) = value {
            shared.push_str(&format!("          {name}: {}\n", quoted(value)));
        }
    }
    let model = match intent.provider.is_variables() {
        true => "          model: ${{ vars.CODEFORGE_MODEL }}\n          llm-base-url: ${{ vars.CODEFORGE_LLM_BASE_URL }}\n          \
                 llm-api-key: ${{ secrets.CODEFORGE_LLM_API_KEY }}\n"
            .to_owned(),
        false => String::new(),
    };
    let key = match intent.provider.is_variables() {
        true => String::new(),
        false => format!("          {0}: ${{{{ secrets.{0} }}}}\n", intent.provider.secret()),
    };
    // What runs by a time table may keep an issue: its agents are told of what was found before.
    let remembers = match wanted.schedule.is_empty() {
        true => "",
        false => "      issues: read # what earlier nights found\n",
    };
    let triggers = triggers(wanted);
    let meeting = meeting(wanted);
    let (checkout, upload, download) =
        (pinned("actions/checkout"), pinned("actions/upload-artifact"), pinned("actions/download-artifact"));
    let (restore, save) = (pinned("actions/cache/restore"), pinned("actions/cache/save"));
    format!(
        r#"# Agents that review and change this repository. From `codeforge init`; yours to change. Three jobs, each with the rights it
# needs: the agent has a model's key and reads, the gates have nothing, deliver writes and runs no code of the repository.
name: CodeForge

{triggers}
permissions: {{}}

{meeting}
env:
  CODEFORGE_WORKFLOW: ${{{{ inputs.workflow }}}}
  CODEFORGE_PROMPT: ${{{{ inputs.prompt }}}}

jobs:
  agent:
    name: Agent
    # Comments that hold no command start no runner's work.
    if: "github.event_name != 'issue_comment' || contains(github.event.comment.body, '{phrase}')"
    runs-on: ubuntu-latest
    timeout-minutes: 60
    # Where the model's key may live, so that no other job can be given it.
    environment: codeforge-agent
    permissions:
      contents: read # the code, and who may give commands
{remembers}    outputs:
      artifact: ${{{{ steps.codeforge.outputs.artifact }}}}
    steps:
      - name: Check out
        uses: {checkout}
        with:
          persist-credentials: false
      # What earlier runs spent (`state: {{ store: cache }}`): every run reads it, only runs of the default branch keep theirs.
      - name: Fetch what earlier runs spent
        uses: {restore}
        with:
          path: ${{{{ runner.temp }}}}/codeforge-state
          key: codeforge-state-${{{{ github.run_id }}}}-${{{{ github.run_attempt }}}}
          restore-keys: codeforge-state-
      - name: Let the agents work
        id: codeforge
        uses: {ours}
        with:
          phase: agent
{model}{shared}        env:
          CODEFORGE_STATE_DIR: ${{{{ runner.temp }}}}/codeforge-state
{key}      - name: Keep what was spent
        if: always() && github.event_name != 'pull_request' && github.ref_name == github.event.repository.default_branch
        uses: {save}
        with:
          path: ${{{{ runner.temp }}}}/codeforge-state
          key: codeforge-state-${{{{ github.run_id }}}}-${{{{ github.run_attempt }}}}
      - name: Keep what they made
        if: always() && steps.codeforge.outputs.artifact != ''
        uses: {upload}
        with:
          name: codeforge
          path: ${{{{ steps.codeforge.outputs.artifact }}}}
          if-no-files-found: error
          retention-days: 7

  gate:
    name: Gates
    needs: agent
    if: ${{{{ !cancelled() && needs.agent.outputs.artifact != '' }}}}
    runs-on: ubuntu-latest
    timeout-minutes: 60
    permissions:
      contents: read # the code
    outputs:
      gate-word: ${{{{ steps.codeforge.outputs.gate-word }}}}
    steps:
      - name: Check out
        uses: {checkout}
        with:
          persist-credentials: false
          fetch-depth: 0 # this job has no token to fetch the trusted branch with
      - name: Take what the agents made
        uses: {download}
        with:
          name: codeforge
          path: ${{{{ runner.temp }}}}/codeforge
      - name: Judge it
        id: codeforge
        uses: {ours}
        with:
          phase: gate
{shared}
  deliver:
    name: Deliver
    needs: [agent, gate]
    if: ${{{{ !cancelled() && needs.gate.outputs.gate-word != '' }}}}
    runs-on: ubuntu-latest
    timeout-minutes: 15
    permissions:
      contents: write # pushes codeforge/* branches
      issues: write # answers commands on issues, keeps the issue of what a night found
      pull-requests: write # opens pull requests, comments on them
    steps:
      - name: Check out
        uses: {checkout}
        with:
          persist-credentials: false
      - name: Take what the agents made
        uses: {download}
        with:
          name: codeforge
          path: ${{{{ runner.temp }}}}/codeforge
      - name: Hand it over
        id: codeforge
        uses: {ours}
        with:
          phase: deliver
          gate-word: ${{{{ needs.gate.outputs.gate-word }}}}
{shared}"#
    )
    .trim_end()
    .to_owned()
        + "\n"
}

/// How runs meet. A newer push cuts off what works on the older one, where all workflows of changes say so; what a
/// comment asked for is never cut off by that.
fn meeting(wanted: &Wanted) -> String {
    let about = "${{ github.event.pull_request.number || github.event.issue.number || github.ref }}";
    let (why, group, cancel) = match wanted.cancels {
        true => (
            "One after the other for each change, issue or branch; a newer push to a change ends the review of the older one.",
            format!("codeforge-${{{{ github.event_name == 'pull_request' && 'change' || 'asked' }}}}-{about}"),
            "${{ github.event_name == 'pull_request' }}",
        ),
        false => (
            "One after the other for each change, issue or branch: none is cut off in the middle.",
            format!("codeforge-{about}"),
            "false",
        ),
    };
    format!("# {why}\nconcurrency:\n  group: {group}\n  cancel-in-progress: {cancel}\n")
}

/// Types of events; what is no plain word is quoted.
fn words(types: &BTreeSet<String>) -> String {
    let plain = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let words = types.iter().map(|word| if plain(word) { word.clone() } else { quoted(word) });
    words.collect::<Vec<_>>().join(", ")
}

/// The marked block.
fn triggers(wanted: &Wanted) -> String {
    let mut text = format!("{BEGIN}: `codeforge init --sync` writes this block from the workflows' `on:`\non:\n");
    let list = |words: &BTreeSet<String>| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ");
    if let Some(types) = &wanted.pull_request {
        text.push_str(&format!("  pull_request:\n    types: [{}]\n", words(types)));
    }
    if wanted.issue_comment {
        // Comments are where commands come from. What they may start is asked of the forge, not read from the event.
        text.push_str("  issue_comment: # zizmor: ignore[dangerous-triggers] who may give commands is asked of the forge\n    types: [created, edited]\n");
    }
    if let Some(types) = &wanted.issues {
        text.push_str("  issues:\n");
        if !types.is_empty() {
            text.push_str(&format!("    types: [{}]\n", words(types)));
        }
    }
    if let Some((branches, tags)) = &wanted.push {
        text.push_str("  push:\n");
        for (key, words) in [("branches", branches), ("tags", tags)] {
            if !words.is_empty() {
                text.push_str(&format!("    {key}: [{}]\n", list(words)));
            }
        }
    }
    if wanted.merge_group {
        text.push_str("  merge_group:\n");
    }
    if !wanted.schedule.is_empty() {
        text.push_str("  schedule:\n");
        for (cron, workflows) in &wanted.schedule {
            text.push_str(&format!("    - cron: {} # {}\n", quoted(cron), workflows.join(", ")));
        }
    }
    text.push_str(
        "  workflow_dispatch:\n    inputs:\n      workflow: { description: \"The workflow; empty: all that match\", type: string }\n      \
         prompt: { description: \"What to do\", type: string }\n",
    );
    text.push_str(&format!("{END}\n"));
    text
}

/// A file with its marked block as it should be.
pub(super) fn synced(before: &str, wanted: &Wanted) -> Result<String, String> {
    let begin = before.lines().position(|line| line.starts_with(BEGIN));
    let end = before.lines().position(|line| line.starts_with(END));
    let (Some(begin), Some(end)) = (begin, end) else {
        return Err(format!(
            "{FILE} has no block between `{BEGIN}` and `{END}`: put the lines around its `on:`, and `--sync` keeps it"
        ));
    };
    if end < begin || before.lines().filter(|line| line.starts_with(BEGIN) || line.starts_with(END)).count() != 2 {
        return Err(format!("{FILE}: the lines `{BEGIN}` and `{END}` have to stand there once, in this order"));
    }
    let mut after = String::new();
    for line in before.lines().take(begin) {
        after.push_str(line);
        after.push('\n');
    }
    after.push_str(&triggers(wanted));
    for line in before.lines().skip(end + 1) {
        after.push_str(line);
        after.push('\n');
    }
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::PINS;

    #[test]
    fn every_action_of_others_is_pinned_to_a_whole_commit() {
        for (action, commit, version) in PINS {
            assert!(action.starts_with("actions/") && version.starts_with('v'));
            assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{action}");
        }
    }
}
