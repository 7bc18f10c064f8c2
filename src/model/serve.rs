//! What the operator of a server says in `serve.yml`, checked. Lengths of time are milliseconds.

use super::forge::ForgeKind;
use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A server's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Serve {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The folder of its database, journals and checkouts.
    pub state: PathBuf,
    /// What it serves.
    pub repositories: Vec<Repository>,
    /// Hooks of its own, by the last part of their address.
    pub hooks: BTreeMap<String, Hook>,
    /// What it takes at most.
    pub limits: Limits,
    /// How a run is tried again that failed for a reason that passes.
    pub retries: Retries,
    /// After an interrupt: how long runs may take to end, or to come to where they can be gone on with.
    pub grace_ms: u64,
    /// Commands in comments.
    pub commands: Commands,
    /// How often is looked for what no webhook told; `None`: never.
    pub sweep_ms: Option<u64>,
    /// How long what was handled is kept.
    pub keep: Keep,
    /// Whose `X-Forwarded-For` counts.
    pub proxies: Vec<Network>,
    /// The key that our marks in comments are signed with.
    pub marker_key: Option<SecretAt>,
    /// Variables of every run: keys of models.
    pub env: BTreeMap<String, SecretAt>,
}

/// Where a secret is; never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretAt {
    /// In a variable of the server's environment: `env://NAME`.
    Env(String),
    /// In a file, without white space around it: `file:///path`.
    File(PathBuf),
}

impl SecretAt {
    /// Reads `env://NAME` or `file:///path`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("env://") {
            let fine = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            return fine.then(|| Self::Env(name.to_owned()));
        }
        let path = text.strip_prefix("file://").filter(|path| path.starts_with('/') && path.len() > 1)?;
        Some(Self::File(PathBuf::from(path)))
    }
}

impl fmt::Display for SecretAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env://{name}"),
            Self::File(path) => write!(f, "file://{}", path.display()),
        }
    }
}

/// A repository that is served.
#[derive(Debug, Clone, PartialEq)]
pub struct Repository {
    /// Its forge.
    pub forge: ForgeKind,
    /// `owner/name`, as people write it; compared without regard to letter case.
    pub name: String,
    /// The API's address: `https://api.github.com`.
    pub api: String,
    /// The forge's address for people and for git: `https://github.com`.
    pub server: String,
    /// As whom the forge is spoken to.
    pub login: Login,
    /// Secrets of its webhooks: all that stand here are good, so that one can be changed without a gap.
    pub secrets: Vec<SecretAt>,
    /// The branch that configuration is read from; `None`: the forge's default branch.
    pub trusted_branch: Option<String>,
    /// Variables of its runs, over those of all.
    pub env: BTreeMap<String, SecretAt>,
}

/// As whom a forge is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// With a token.
    Token(SecretAt),
    /// As a GitHub App, with tokens minted when they are needed.
    App {
        /// The App's id, or its client id.
        id: String,
        /// Its private key, PEM.
        private_key: SecretAt,
        /// The installation; `None`: the repository's is looked up.
        installation: Option<u64>,
    },
}

/// A hook of the server's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The repository's place in [`Serve::repositories`].
    pub repository: usize,
    /// The event's name in `on: webhook`.
    pub event: String,
    /// Its secrets.
    pub secrets: Vec<SecretAt>,
}

/// What the server takes at most.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Bytes of a body.
    pub body: u64,
    /// For a request's head.
    pub header_ms: u64,
    /// For a request's body.
    pub body_ms: u64,
    /// Connections at once.
    pub connections: u32,
    /// Requests of one source in a second, in the long run.
    pub per_second: f64,
    /// Requests of one source at once.
    pub burst: u32,
    /// Jobs of one repository that run at once.
    pub per_repository: u32,
    /// Jobs that run at once.
    pub workers: u32,
    /// For one run; then it is interrupted.
    pub run_ms: u64,
}

/// How a run is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// How often a job is begun at most.
    pub attempts: u32,
    /// Before the second time; doubled each time.
    pub backoff_ms: u64,
    /// The longest wait.
    pub longest_ms: u64,
}

/// Commands in comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commands {
    /// What a command begins with: `/codeforge`.
    pub phrase: String,
    /// People who may give commands whatever the forge says of them; not on forks.
    pub allow_users: Vec<String>,
}

/// How long what was handled is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// The bodies of deliveries.
    pub bodies_ms: u64,
    /// Folders of jobs that are over.
    pub logs_ms: u64,
    /// Deliveries and jobs: as long a replay is known.
    pub records_ms: u64,
}

/// A network: an address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `::1`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|bits| *bits <= most))?;
        Some(Self { address, bits })
    }

    /// Whether an address lies in it. An IPv4 address that was mapped into IPv6 counts as what it is.
    pub fn holds(&self, address: IpAddr) -> bool {
        let bits = u32::from(self.bits);
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u32::from(own) ^ u32::from(other)).checked_shr(32 - bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (u128::from(own) ^ u128::from(other)).checked_shr(128 - bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl Repository {
    /// The API's host, with its port where it has one of its own.
    pub fn host(&self) -> String {
        let rest = self.api.split_once("://").map_or(self.api.as_str(), |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default().to_lowercase()
    }

    /// Where git fetches it from.
    pub fn git_url(&self) -> String {
        format!("{}/{}.git", self.server.trim_end_matches('/'), self.name)
    }

    /// As jobs name it.
    pub fn served(&self) -> super::job::Served {
        super::job::Served { forge: self.forge, host: self.host(), name: self.name.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_lies_in_them() {
        let holds = |network: &str, address: &str| Network::parse(network).unwrap().holds(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.200.3.4") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("127.0.0.1", "127.0.0.1") && !holds("127.0.0.1", "127.0.0.2"));
        assert!(holds("0.0.0.0/0", "8.8.8.8") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fd00::/8", "fd12::1") && !holds("fd00::/8", "fe80::1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.1.1"), "mapped");
        for wrong in ["", "10.0.0.0/33", "x", "10.0.0/8", "::/129", "10.0.0.0/-1"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_a_reference() {
        assert_eq!(SecretAt::parse("env://A_1"), Some(SecretAt::Env("A_1".into())));
        assert_eq!(SecretAt::parse("file:///run/key"), Some(SecretAt::File("/run/key".into())));
        for wrong in ["", "hunter2", "env://", "env://A B", "file://", "file:///", "file://relative", "cmd://id"] {
            assert_eq!(SecretAt::parse(wrong), None, "{wrong}");
        }
    }
}
