//! Jobs of a pipeline on GitLab.

use crate::common::ModelServer;
use crate::common::forge_server::{ForgeServer, JOB_TOKEN, TOKEN};
use crate::common::hub::{Clone, Job, clone_of};
use crate::steps::{OPEN, at_a_forge};
use codeforge::model::forge::ForgeKind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gitlab_delivers_a_merge_request() {
    let forge = at_a_forge(ForgeKind::Gitlab).await;
    let clone = clone_of(&forge, "refs/heads/main");
    let job = on_gitlab(&forge, &clone).env("CODEFORGE_FORGE_TOKEN", TOKEN).env("CODEFORGE_WORKFLOW", "mend");
    let job = job.env("CODEFORGE_PROMPT", "the parser");
    let ran = tokio::task::block_in_place(|| job.run()).ends(0, "success");
    assert_eq!(forge.memory().changes.len(), 1);
    let env = ran.report("outputs.env");
    assert!(
        env.contains("CODEFORGE_BRANCH_NAME=codeforge/mend/") && env.contains("CODEFORGE_CONCLUSION=success\n"),
        "{env}"
    );
    assert_eq!(clone.git(&["status", "--porcelain"]), "");
}

/// A job of a pipeline that somebody started by hand, without a token of ours.
fn on_gitlab<'a>(forge: &ForgeServer, clone: &'a Clone) -> Job<'a> {
    let url = forge.git_url();
    Job::bare(clone)
        .env("GITLAB_CI", "true")
        .env("CI_PIPELINE_SOURCE", "web")
        .env("CI_PROJECT_PATH", "acme/widgets")
        .env("CI_PROJECT_ID", "1")
        .env("CI_PROJECT_URL", url.trim_end_matches(".git"))
        .env("CI_API_V4_URL", &forge.api())
        .env("CI_DEFAULT_BRANCH", "main")
        .env("CI_COMMIT_SHA", &clone.git(&["rev-parse", "HEAD"]))
        .env("CI_COMMIT_REF_NAME", "main")
        .env("CI_PIPELINE_ID", "5")
        .env("GITLAB_USER_LOGIN", "ann")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gitlab_jobs_own_token_delivers_nothing_and_that_is_said_before_it_costs_anything() {
    let asks = "name: ask\non: { workflow_dispatch: {} }\npolicy: lax\nsteps:\n  work: { mode: coder, prompt: \"Mend it\" }\n\
                deliver: { as: pull_request, title: Mended }\n";
    let files = [(".codeforge/workflows/ask.yml", asks), (".codeforge/policies/lax.yml", OPEN), ("src/a.txt", "one\n")];
    let forge = ForgeServer::with(ForgeKind::Gitlab, &files).await;
    let clone = clone_of(&forge, "refs/heads/main");
    let model = ModelServer::start(Vec::new()).await;
    let job =
        || on_gitlab(&forge, &clone).model(model.url()).env("CI_JOB_TOKEN", JOB_TOKEN).env("CODEFORGE_WORKFLOW", "ask");
    // The one that every job has, left where it is or given as ours; one that says itself what it is.
    for token in ["", JOB_TOKEN, "glcbt-64_aaaaaaaaaaaaaaaaaaaa"] {
        let job = if token.starts_with("glcbt-") { job().env("CI_JOB_TOKEN", token) } else { job() };
        let job = job.env("CODEFORGE_FORGE_TOKEN", token);
        let ran = tokio::task::block_in_place(|| job.run()).ends(2, "misconfigured");
        let parts = ["`ask` was not started", "CI_JOB_TOKEN", "project or group access token", "codeforge serve"];
        let ran = ran.says(&parts);
        assert!(!ran.said().contains(JOB_TOKEN), "{}", ran.said());
    }
    assert!(model.asked().is_empty(), "nothing was asked of the model");
    assert!(forge.asked().iter().all(|asked| asked.method == "GET") && forge.memory().changes.is_empty());
    // What stays here needs no token.
    let job = job().env("CODEFORGE_DELIVERY", "patch").env("CODEFORGE_DRY_RUN", "true");
    tokio::task::block_in_place(|| job.run()).ends(0, "success");
}
