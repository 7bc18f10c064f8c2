//! One run in a container: what cron, or any scheduler, calls.

use super::Intent;
use super::config::{ActionRef, quoted};

/// Where it lies.
pub(super) const FILE: &str = ".codeforge/compose.yml";

/// The file.
pub(super) fn text(intent: &Intent, action: &ActionRef) -> String {
    let owner = action.repository.split('/').next().unwrap_or_default().to_lowercase();
    let version = action.version.trim_start_matches('v');
    let repository = intent.place.repository.as_deref().map_or_else(
        || "${CODEFORGE_REPOSITORY:?the https address of the repository}".to_owned(),
        |name| format!("${{CODEFORGE_REPOSITORY:-https://github.com/{name}.git}}"),
    );
    format!(
        r#"# One run in a container, then the end. From `codeforge init`; yours to change.
#
#   docker compose -f .codeforge/compose.yml run --rm once
#   0 2 * * *  cd /srv/codeforge && docker compose run --rm once        # a crontab's line
#
# Secrets are files, so that no `docker inspect` shows them. Pin the image by its digest (`image@sha256:…`) once you have it.
services:
  once:
    image: {image}
    environment:
      CODEFORGE_REPOSITORY: {repository}
      CODEFORGE_WORKFLOW: "${{CODEFORGE_WORKFLOW:-{workflow}}}"
      CODEFORGE_MODEL: "${{CODEFORGE_MODEL:-}}"
      CODEFORGE_LLM_BASE_URL: "${{CODEFORGE_LLM_BASE_URL:-}}"
      CODEFORGE_FORGE_TOKEN_FILE: /run/secrets/forge_token
      CODEFORGE_LLM_API_KEY_FILE: /run/secrets/llm_api_key
    secrets: [forge_token, llm_api_key]
    volumes: ["work:/work"]
    tmpfs: ["/tmp:mode=1777,size=512m"]
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    restart: "no"

volumes: {{ work: {{}} }}

secrets:
  forge_token: {{ file: "${{CODEFORGE_FORGE_TOKEN_FILE:-./secrets/forge_token}}" }}
  llm_api_key: {{ file: "${{CODEFORGE_LLM_API_KEY_FILE:-./secrets/llm_api_key}}" }}
"#,
        image = quoted(&format!("ghcr.io/{owner}/codeforge:{version}")),
        repository = quoted(&repository),
        workflow = intent.workflows.first().map_or("review", String::as_str),
    )
}
