//! Where tools run, as written.

use crate::model::exec::{DriverKind, ExecMode};
use crate::workflow::schema::kinds::{OneOrMany, Shell, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where tools run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SandboxDoc {
    /// Docker, native, whichever there is, or none.
    #[serde(default)]
    pub driver: Option<DriverKind>,
    /// Docker image.
    #[serde(default)]
    pub image: Option<String>,
    /// A copy, the user's tree itself, or both.
    #[serde(default)]
    pub exec_mode: Option<ExecMode>,
    /// What may be reached.
    #[serde(default)]
    pub network: Option<NetworkDoc>,
    /// Limits of the sandbox.
    #[serde(default)]
    pub resources: Option<ResourcesDoc>,
    /// Commands that run once, with a network of their own; the result is cached.
    #[serde(default)]
    pub setup: OneOrMany<Shell>,
    /// Paths of the host to show inside, `HOST:INSIDE[:ro]`.
    #[serde(default)]
    pub mounts: Vec<String>,
    /// The weakest isolation that will do: `auto` never falls below it.
    #[serde(default)]
    pub min_isolation: Option<DriverKind>,
}

/// What may be reached from the sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum NetworkDoc {
    /// Nothing.
    Word(NetworkWord),
    /// A list of hosts and of package registries by name.
    Allow(NetworkAllow),
}

/// No network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum NetworkWord {
    /// Nothing can be reached.
    None,
}

/// Hosts that may be reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkAllow {
    /// Host names, `*.example.com`, or a registry's name.
    pub allow: Vec<String>,
}

/// Limits of a sandbox.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourcesDoc {
    /// Memory.
    #[serde(default)]
    pub memory: Option<Size>,
    /// CPUs, fractions allowed.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub cpus: Option<f64>,
    /// Processes and threads.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4194304))]
    pub pids: Option<u32>,
    /// Bytes that a file, and the scratch space, may take.
    #[serde(default)]
    pub disk: Option<Size>,
}
