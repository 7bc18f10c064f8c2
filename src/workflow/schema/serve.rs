//! The operator's `serve.yml`, as written.

use super::kinds::{HostSecret, Name, Size, Span, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A server's settings: `serve.yml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "CodeForge server")]
pub struct ServeDoc {
    /// Where it listens. Default: 127.0.0.1:8080.
    #[serde(default)]
    pub listen: Option<String>,
    /// The folder of its database, journals and checkouts; taken relative to this file.
    pub state: String,
    /// What it serves.
    pub repositories: Vec<RepositoryDoc>,
    /// Hooks of its own: `POST /api/v1/hooks/NAME`.
    #[serde(default)]
    pub hooks: BTreeMap<Name, HookDoc>,
    /// What it takes at most.
    #[serde(default)]
    pub limits: ServeLimitsDoc,
    /// How a run is tried again that failed for a reason that passes.
    #[serde(default)]
    pub retries: RetriesDoc,
    /// After an interrupt: how long runs may take to end, or to come to where they can be gone on with. Default: 60s.
    #[serde(default)]
    pub grace: Option<Span>,
    /// Commands in comments.
    #[serde(default)]
    pub commands: CommandsDoc,
    /// How often is looked for what no webhook told; `false`: never. Default: 5m.
    #[serde(default)]
    pub sweep: Option<SweepDoc>,
    /// How long what was handled is kept.
    #[serde(default)]
    pub keep: KeepDoc,
    /// Proxies before the server, whose `X-Forwarded-For` counts: `10.0.0.0/8`.
    #[serde(default)]
    pub proxies: Vec<String>,
    /// The key that our marks in comments are signed with.
    #[serde(default)]
    pub marker_key: Option<HostSecret>,
    /// Variables of every run: keys of models.
    #[serde(default)]
    pub env: BTreeMap<String, HostSecret>,
}

/// A repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositoryDoc {
    /// Its forge.
    pub forge: ForgeWord,
    /// `owner/name`; at GitLab the whole path.
    pub name: String,
    /// The forge's address. Default: that of github.com or gitlab.com; Gitea has none.
    #[serde(default)]
    pub server: Option<Url>,
    /// The API's address. Default: the server's usual one.
    #[serde(default)]
    pub api: Option<Url>,
    /// The token that the forge is spoken to with.
    #[serde(default)]
    pub token: Option<HostSecret>,
    /// A GitHub App in the token's place: tokens are minted when they are needed.
    #[serde(default)]
    pub app: Option<AppDoc>,
    /// Secrets of its webhooks. All that stand here are good: put the new one beside the old one, change the webhook,
    /// take the old one away.
    #[serde(default)]
    pub secrets: Vec<HostSecret>,
    /// The branch that configuration is read from. Default: the forge's default branch.
    #[serde(default)]
    pub trusted_branch: Option<String>,
    /// Variables of its runs, over those of all.
    #[serde(default)]
    pub env: BTreeMap<String, HostSecret>,
}

/// A forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForgeWord {
    /// GitHub.
    Github,
    /// GitLab.
    Gitlab,
    /// Gitea or Forgejo.
    #[serde(alias = "forgejo")]
    Gitea,
}

/// A GitHub App.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppDoc {
    /// The App's id, or its client id.
    pub id: AppId,
    /// Its private key, PEM.
    pub private_key: HostSecret,
    /// The installation. Default: the repository's, looked up.
    #[serde(default)]
    pub installation: Option<u64>,
}

/// An App's id: a number, or the client id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum AppId {
    /// The App's number.
    Number(u64),
    /// The client id.
    Client(String),
}

/// A hook of the server's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HookDoc {
    /// The repository that it is for: its name under `repositories`; where two are called the same `forge:name`, or
    /// `host:name` with the server's host.
    pub repository: String,
    /// The event's name in `on: webhook`. Default: the hook's name.
    #[serde(default)]
    pub event: Option<Name>,
    /// Its secrets; all that stand here are good.
    pub secrets: Vec<HostSecret>,
}

/// What the server takes at most.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServeLimitsDoc {
    /// A body. Default: 25MiB, which is GitHub's.
    #[serde(default)]
    pub body: Option<Size>,
    /// How long a request's head may take. Default: 10s.
    #[serde(default)]
    pub header_timeout: Option<Span>,
    /// How long a request's body may take. Default: 30s.
    #[serde(default)]
    pub body_timeout: Option<Span>,
    /// Connections at once. Default: 1024.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100000))]
    pub connections: Option<u32>,
    /// Requests of one source (an address) in a second, in the long run. Default: 100.
    #[serde(default)]
    #[schemars(range(min = 0.1, max = 1000000))]
    pub requests_per_second: Option<f64>,
    /// Requests of one source at once. Default: 500.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000000))]
    pub burst: Option<u32>,
    /// Jobs of one repository that run at once. Default: 2.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    pub per_repository: Option<u32>,
    /// Jobs that run at once. Default: 4.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    pub workers: Option<u32>,
    /// How long one run may take. Default: 2h.
    #[serde(default)]
    pub run_timeout: Option<Span>,
}

/// How a run is tried again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetriesDoc {
    /// How often a job is begun at most. Default: 3.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    pub attempts: Option<u32>,
    /// The wait before the second time; doubled each time. Default: 30s.
    #[serde(default)]
    pub backoff: Option<Span>,
    /// The longest wait. Default: 30m.
    #[serde(default)]
    pub longest: Option<Span>,
}

/// Commands in comments.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandsDoc {
    /// What a command begins with. Default: /codeforge.
    #[serde(default)]
    pub phrase: Option<String>,
    /// People who may give commands whatever the forge says of them; not on forks.
    #[serde(default)]
    pub allow_users: Vec<String>,
}

/// How often is looked for what no webhook told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum SweepDoc {
    /// `false`: never; `true`: as often as usual.
    Switch(bool),
    /// So often.
    Every(Span),
}

/// How long what was handled is kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepDoc {
    /// The bodies of webhooks. Default: 3d.
    #[serde(default)]
    pub bodies: Option<Span>,
    /// What jobs that are over left on the disk: logs, reports, events. Default: 30d.
    #[serde(default)]
    pub logs: Option<Span>,
    /// That a webhook was here, and jobs that are over: as long a replay is known. Default: 90d.
    #[serde(default)]
    pub records: Option<Span>,
}
