//! The operator's `serve.yml`: what its shape does not say, and its checked form.

use super::super::schema::document::{Document, Node};
use super::super::schema::library::nearest;
use super::super::schema::serve::{AppId, ForgeWord, RepositoryDoc, ServeDoc, SweepDoc};
use super::super::schema::{DocKind, HostSecret, Size, Span, Url, codes, values};
use super::checker::Checker;
use super::{Known, normal};
use crate::model::diagnostic::{Diagnostic, Severity};
use crate::model::forge::ForgeKind;
use crate::model::serve::{Commands, Hook, Keep, Limits, Login, Network, Repository, Retries, SecretAt, Serve};
use core::net::SocketAddr;
use std::collections::BTreeMap;

/// Reads a `serve.yml`. `None` where there is an error among the problems.
pub fn serve(path: &str, text: &str) -> (Option<Serve>, Vec<Diagnostic>) {
    let (document, mut problems) = Document::parse(path, text);
    if document.root.is_null() && problems.is_empty() {
        problems.push(document.error(codes::MISSING_KEY, document.root.at, "the file is empty"));
    }
    problems.extend(super::document(DocKind::Serve, "serve", false, &document, &Known::default()));
    problems.sort_by(|a, b| (&a.place, a.code, &a.message).cmp(&(&b.place, b.code, &b.message)));
    problems.dedup();
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return (None, problems);
    }
    match serde_json::from_value(normal(DocKind::Serve, &document.root)) {
        Ok(doc) => (checked(&doc), problems),
        Err(error) => {
            problems.push(document.error(codes::WRONG_TYPE, document.root.at, error.to_string()));
            (None, problems)
        }
    }
}

/// What the shape does not say.
pub(super) fn check(checker: &mut Checker<'_>, root: &Node) {
    if let Some(node) = root.get("listen")
        && let Some(text) = node.text().filter(|text| text.parse::<SocketAddr>().is_err())
    {
        checker.error(codes::BAD_ADDRESS, node.at, format!("`{text}` is not an address to listen at")).help =
            Some("write an address and a port: 127.0.0.1:8080, [::]:8080".into());
    }
    for node in root.get("proxies").map(Node::items).unwrap_or_default() {
        if let Some(text) = node.text().filter(|text| Network::parse(text).is_none()) {
            checker.error(codes::BAD_ADDRESS, node.at, format!("`{text}` is neither an address nor a network")).help =
                Some("write 10.1.2.3, 10.0.0.0/8 or fd00::/8".into());
        }
    }
    let repositories = root.get("repositories").map(Node::items).unwrap_or_default();
    let mut names: Vec<Named> = Vec::new();
    for node in repositories {
        repository(checker, node, &mut names);
    }
    for (_, hook) in root.get("hooks").map(Node::entries).unwrap_or_default() {
        secrets(checker, hook);
        let Some(node) = hook.get("repository") else { continue };
        let Some(text) = node.text() else { continue };
        let found = names.iter().filter(|it| it.is_meant(text)).count();
        if found == 0 {
            let known: Vec<&str> = names.iter().map(|it| it.name.as_str()).collect();
            let near = nearest(text, known.iter().copied());
            let problem = checker.error(codes::UNKNOWN_REPOSITORY, node.at, format!("unknown repository `{text}`"));
            problem.label = near.map(|near| format!("did you mean `{near}`?"));
            problem.help = Some("name one that stands under `repositories`".into());
        } else if found > 1 {
            let message = format!("two repositories are called `{text}`");
            checker.error(codes::UNKNOWN_REPOSITORY, node.at, message).help =
                Some(format!("say which forge's, `github:{text}`, or which server's, `git.example.com:{text}`"));
        }
    }
    if let Some(node) = root.get("commands").and_then(|commands| commands.get("phrase"))
        && node.text().is_some_and(|text| text.trim().len() < 2 || text.contains(char::is_whitespace))
    {
        checker.error(codes::BAD_NAME, node.at, "a phrase is one word of two characters or more").help =
            Some("`/codeforge` is the usual one".into());
    }
}

/// A repository by what tells it apart.
#[derive(PartialEq)]
struct Named {
    forge: String,
    /// The server's host, with its port where it has one of its own.
    host: String,
    /// In small letters.
    name: String,
}

impl Named {
    /// One that stands in the file; `server`: the forge's address, where it is given.
    fn new(forge: &str, server: Option<&str>, name: &str) -> Self {
        let server = server.unwrap_or_else(|| cloud(forge == "github"));
        let host = server.split_once("://").map_or(server, |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or_default().to_lowercase();
        Self { forge: forge.to_owned(), host, name: name.to_lowercase() }
    }

    /// Whether a hook's `repository` means this one: `owner/name`, after the forge or the server where two are called so.
    fn is_meant(&self, text: &str) -> bool {
        let (wanted, called) = text.rsplit_once(':').map_or((None, text), |(wanted, name)| (Some(wanted), name));
        let there = |wanted: &str| wanted == self.forge || wanted.eq_ignore_ascii_case(&self.host);
        self.name == called.to_lowercase() && wanted.is_none_or(there)
    }
}

/// The address of a forge that is everybody's.
fn cloud(github: bool) -> &'static str {
    if github { "https://github.com" } else { "https://gitlab.com" }
}

fn repository(checker: &mut Checker<'_>, node: &Node, names: &mut Vec<Named>) {
    let text = |key: &str| node.get(key).and_then(Node::text);
    let forge = text("forge").map_or("", |forge| if forge == "forgejo" { "gitea" } else { forge });
    if let Some((name, at)) = node.get("name").and_then(|node| Some((node.text()?, node.at))) {
        let whole =
            name.split('/').count() >= 2 && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        if !whole || name.contains(char::is_whitespace) {
            checker.error(codes::BAD_NAME, at, format!("`{name}` is not a repository's name")).help =
                Some("write owner/name, as it stands in the repository's address".into());
        }
        let named = Named::new(forge, text("server"), name);
        if names.contains(&named) {
            checker.error(codes::DUPLICATE_NAME, at, format!("`{name}` stands here twice")).help =
                Some("keep one of them; several secrets go into one list".into());
        }
        names.push(named);
    }
    match (node.get("token"), node.get("app")) {
        (Some(_), Some(app)) => {
            checker.error(codes::EXCLUSIVE_KEYS, app.at, "`token` and `app` are two ways to log in").help =
                Some("keep one of them".into());
        }
        (None, None) => {
            checker.error(codes::MISSING_KEY, node.at, "neither `token` nor `app` is there").help =
                Some("`token: env://NAME`, or an App of GitHub's".into());
        }
        (None, Some(app)) if forge != "github" => {
            checker.error(codes::EXCLUSIVE_KEYS, app.at, format!("`app` is GitHub's, and the forge is {forge}")).help =
                Some("write `token: env://NAME`".into());
        }
        _ => {}
    }
    if forge == "gitea" && node.get("server").is_none() {
        checker.error(codes::MISSING_KEY, node.at, "the key `server` is missing: Gitea has no usual address").help =
            Some("write `server: https://HOST`".into());
    }
    secrets(checker, node);
}

/// A secret that is empty or stands twice helps nobody; more than a few are a list that nobody tidies.
fn secrets(checker: &mut Checker<'_>, node: &Node) {
    const MOST: usize = 4;
    let Some(list) = node.get("secrets") else { return };
    if list.items().len() > MOST {
        checker.error(codes::OUT_OF_RANGE, list.at, format!("more than {MOST} secrets")).help =
            Some("take those away that no webhook is signed with any more".into());
    }
}

/// The checked form. `None` where the walk missed something, which it does not.
fn checked(doc: &ServeDoc) -> Option<Serve> {
    let listen = doc.listen.as_deref().unwrap_or("127.0.0.1:8080").parse().ok()?;
    let repositories = doc.repositories.iter().map(served).collect::<Option<Vec<_>>>()?;
    let hooks = doc.hooks.iter().map(|(name, hook)| {
        let named = |it: &RepositoryDoc| {
            Named::new(kind(it.forge).word(), it.server.as_ref().map(|server| server.0.as_str()), &it.name)
        };
        let repository = doc.repositories.iter().position(|it| named(it).is_meant(&hook.repository))?;
        let event = hook.event.as_ref().unwrap_or(name).0.clone();
        Some((name.0.clone(), Hook { repository, event, secrets: all(&hook.secrets)? }))
    });
    let limits = &doc.limits;
    let commands = &doc.commands;
    Some(Serve {
        listen,
        state: doc.state.clone().into(),
        repositories,
        hooks: hooks.collect::<Option<_>>()?,
        limits: Limits {
            body: bytes(limits.body.as_ref(), 25 << 20)?,
            header_ms: span(limits.header_timeout.as_ref(), 10_000)?,
            body_ms: span(limits.body_timeout.as_ref(), 30_000)?,
            connections: limits.connections.unwrap_or(1024),
            per_second: limits.requests_per_second.unwrap_or(100.0),
            burst: limits.burst.unwrap_or(500),
            per_repository: limits.per_repository.unwrap_or(2),
            workers: limits.workers.unwrap_or(4),
            run_ms: span(limits.run_timeout.as_ref(), 7_200_000)?,
        },
        retries: Retries {
            attempts: doc.retries.attempts.unwrap_or(3),
            backoff_ms: span(doc.retries.backoff.as_ref(), 30_000)?,
            longest_ms: span(doc.retries.longest.as_ref(), 1_800_000)?,
        },
        grace_ms: span(doc.grace.as_ref(), 60_000)?,
        commands: Commands {
            phrase: commands.phrase.clone().unwrap_or_else(|| "/codeforge".to_owned()),
            allow_users: commands.allow_users.clone(),
        },
        sweep_ms: match &doc.sweep {
            Some(SweepDoc::Switch(false)) => None,
            Some(SweepDoc::Every(every)) => Some(span(Some(every), 0)?),
            None | Some(SweepDoc::Switch(true)) => Some(300_000),
        },
        keep: Keep {
            bodies_ms: span(doc.keep.bodies.as_ref(), 3 * 86_400_000)?,
            logs_ms: span(doc.keep.logs.as_ref(), 30 * 86_400_000)?,
            records_ms: span(doc.keep.records.as_ref(), 90 * 86_400_000)?,
        },
        proxies: doc.proxies.iter().map(|text| Network::parse(text)).collect::<Option<_>>()?,
        marker_key: doc.marker_key.as_ref().map(secret).map_or(Some(None), |it| it.map(Some))?,
        env: variables(&doc.env)?,
    })
}

fn served(doc: &RepositoryDoc) -> Option<Repository> {
    let forge = kind(doc.forge);
    let cloud = cloud(forge == ForgeKind::Github);
    let server = doc.server.as_ref().map_or_else(|| cloud.to_owned(), bare);
    let usual = match forge {
        ForgeKind::Github if server == cloud => "https://api.github.com".to_owned(),
        ForgeKind::Github => format!("{server}/api/v3"),
        ForgeKind::Gitlab => format!("{server}/api/v4"),
        ForgeKind::Gitea | ForgeKind::Local => format!("{server}/api/v1"),
    };
    let login = match (&doc.token, &doc.app) {
        (Some(token), _) => Login::Token(secret(token)?),
        (None, Some(app)) => Login::App {
            id: match &app.id {
                AppId::Number(number) => number.to_string(),
                AppId::Client(id) => id.clone(),
            },
            private_key: secret(&app.private_key)?,
            installation: app.installation,
        },
        (None, None) => return None,
    };
    Some(Repository {
        forge,
        name: doc.name.clone(),
        api: doc.api.as_ref().map_or(usual, bare),
        server,
        login,
        secrets: all(&doc.secrets)?,
        trusted_branch: doc.trusted_branch.clone(),
        env: variables(&doc.env)?,
    })
}

fn kind(word: ForgeWord) -> ForgeKind {
    match word {
        ForgeWord::Github => ForgeKind::Github,
        ForgeWord::Gitlab => ForgeKind::Gitlab,
        ForgeWord::Gitea => ForgeKind::Gitea,
    }
}

fn bare(url: &Url) -> String {
    url.0.trim_end_matches('/').to_owned()
}

fn secret(text: &HostSecret) -> Option<SecretAt> {
    SecretAt::parse(&text.0)
}

fn all(list: &[HostSecret]) -> Option<Vec<SecretAt>> {
    list.iter().map(secret).collect()
}

fn variables(map: &BTreeMap<String, HostSecret>) -> Option<BTreeMap<String, SecretAt>> {
    map.iter().map(|(name, at)| Some((name.clone(), secret(at)?))).collect()
}

fn span(text: Option<&Span>, usual: u64) -> Option<u64> {
    text.map_or(Some(usual), |text| values::duration_ms(&text.0).ok())
}

fn bytes(text: Option<&Size>, usual: u64) -> Option<u64> {
    text.map_or(Some(usual), |text| values::size_bytes(&text.0).ok())
}
