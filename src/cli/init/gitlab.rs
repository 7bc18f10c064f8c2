//! The include for GitLab CI.

use super::Intent;
use super::config::{ActionRef, quoted};
use crate::trigger::firing::Wanted;

/// Where it lies.
pub(super) const FILE: &str = ".gitlab-ci.yml";

/// The file: the component does the rest.
pub(super) fn text(wanted: &Wanted, intent: &Intent, action: &ActionRef) -> String {
    let mut inputs = String::new();
    let settings = [
        ("trigger-phrase", intent.carried.phrase.as_ref()),
        ("base-branch", intent.carried.base_branch.as_ref()),
        ("branch-prefix", intent.carried.branch_prefix.as_ref()),
    ];
    for (name, value) in settings {
        if let Some(value) = value {
            inputs.push_str(&format!("      {name}: {}\n", quoted(value)));
        }
    }
    let mut times = String::new();
    for (cron, workflows) in &wanted.schedule {
        for workflow in workflows {
            times.push_str(&format!("#   {cron} (UTC)   CODEFORGE_WORKFLOW={workflow}\n"));
        }
    }
    if !times.is_empty() {
        times.insert_str(
            0,
            "# Time tables are the project's: Build > Pipeline schedules, one for each line, with this variable:\n",
        );
    }
    let key = intent.provider.secret();
    let model = if intent.provider.is_variables() {
        "# CODEFORGE_MODEL and CODEFORGE_LLM_BASE_URL say which model. "
    } else {
        "# "
    };
    format!(
        "# CodeForge: agents that review and change this repository. From `codeforge init`; yours to change.\n\
         # {key} is a masked variable, for the environment codeforge-agent.\n\
         {model}CODEFORGE_FORGE_TOKEN, a project's token\n\
         # with the scopes api and write_repository, is a masked and protected one, for the environment codeforge-deliver.\n\
         # A merge request's pipeline has neither: there agents and gates report, and nothing is delivered.\n\
         {times}\
         include:\n  - component: $CI_SERVER_FQDN/{}/codeforge@{} # {}\n    inputs:\n      stage: test\n{inputs}",
        action.repository, action.commit, action.version,
    )
}
