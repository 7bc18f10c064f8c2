//! Which forge a repository on a laptop belongs to: from its remote `origin` and the environment.

use super::Context;
use super::error::CliError;
use crate::engine::publish::{How, Signing};
use crate::engine::{Outgoing, Outlet, Told, Wording, Words};
use crate::model::account::{Ending, StepStatus};
use crate::model::delivery::Delivered;
use crate::model::event::Event;
use crate::model::finding::Finding;
use crate::model::forge::ForgeKind;
use crate::model::plan::DeliverKind;
use crate::port::forge::{AppKey, Credential, ForgeAt, ForgeError, PushRule, RuleAbout};
use crate::port::repository::{Repository, Signer};
use crate::port::world::World;
use crate::report::ci as reports;
use crate::text;
use crate::workflow::schema::{self, Library};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What to do where the only token is one of a GitLab job.
pub(super) const OF_A_JOB: [&str; 3] = [
    "use a project or group access token (role Developer, scopes `api` and `write_repository`) in CODEFORGE_FORGE_TOKEN, \
     masked and protected",
    "a merge request's pipeline gets no protected variable: there `codeforge serve` delivers, or a protected project \
     (docs/gitlab.md)",
    "or take the change as a file: CODEFORGE_DELIVERY=patch",
];

/// Whether a token is the one that every job on GitLab has by itself.
pub(super) fn is_of_job(token: &SecretString, world: &dyn World) -> bool {
    given(world, "CI_JOB_TOKEN").is_some_and(|own| own == token.expose_secret())
}

/// What names of our branches begin with, unless `CODEFORGE_BRANCH_PREFIX` says otherwise.
pub(super) const PREFIX: &str = "codeforge/";

/// The outlet of a run on a laptop. Without a token, or without a known forge, it is closed: only a delivery that
/// needs one fails then.
pub(super) async fn outlet(repository: &dyn Repository, cx: &Context<'_>) -> Result<Outlet, CliError> {
    let Some(origin) = repository.remote_url("origin")? else { return Ok(Outlet::Closed) };
    let configured = configured(&super::run::load(repository.root(), cx)?);
    let Some(at) = forge_at(&origin, configured, &|name| given(cx.world, name))? else { return Ok(Outlet::Closed) };
    let forge = cx.world.forge(&at)?;
    Ok(Outlet::Forge(Arc::new(Outgoing {
        forge,
        event: None,
        prefix: given(cx.world, "CODEFORGE_BRANCH_PREFIX").unwrap_or_else(|| PREFIX.to_owned()),
        target: given(cx.world, "CODEFORGE_BASE_BRANCH"),
        hosts: Vec::new(),
        push_branches: false,
        wording: Some(wording(repository, cx)),
        signing: signing(cx.world)?,
    })))
}

/// The longest file that findings are looked up in.
const LARGEST: usize = 1024 * 1024;

/// The words of what a run here publishes: the evidence of a change, what a review found. No secret of this process is
/// in them.
fn wording(repository: &dyn Repository, cx: &Context<'_>) -> Wording {
    let checkout = cx.world.checkout(repository.root()).ok();
    let secrets = cx.world.secrets();
    Arc::new(move |told: &Told<'_>| {
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let Told { context, delivery, changes, .. } = *told;
        let mut account = told.account.clone();
        // The run ends with this.
        let failed = account.steps.iter().any(|step| step.status == StepStatus::Failed);
        account.ending.get_or_insert(if failed { Ending::Failed } else { Ending::Done });
        let (kind, branch, changed) = (delivery.kind, delivery.branch.clone(), delivery.base != delivery.tree);
        let (patch, commit, published) = (None, None, None);
        let changes = changes.clone();
        account.delivered = Some(Delivered { kind, patch, commit, branch, changes, changed, published });
        let event = Event::read(context.get("event").unwrap_or(&Value::Null));
        let task = context.pointer("/inputs/task").and_then(Value::as_str);
        let base = account.base.clone();
        let file = |path: &str| {
            // Where files changed the lines are those of what is handed over.
            let bytes = checkout.as_ref().filter(|_| !changed)?.file(base.as_deref()?, path, LARGEST).ok()??;
            String::from_utf8(bytes).ok()
        };
        let tree = reports::Tree { text: &file, renamed: &BTreeMap::new() };
        let findings = redacted(reports::findings(reports::outputs(&account), &tree), &secrets);
        let mut facts = reports::Facts { done: reports::planned(&account), ..reports::Facts::of(&event, task) };
        facts.head = facts.head.or(base.clone());
        let clean = |words: String| text::redact(&words, &secrets);
        let sticky = || reports::sticky_comment(&account, &findings, &facts, reports::BODY_CAP);
        Words {
            body: clean(reports::change_body(&account, &findings, &facts, reports::BODY_CAP)),
            comment: matches!(kind, DeliverKind::Comment | DeliverKind::Review).then(|| clean(sticky())),
            findings,
        }
    })
}

/// Findings without the secrets of this process, should a model have seen one.
pub(super) fn redacted(findings: Vec<Finding>, secrets: &[&str]) -> Vec<Finding> {
    let clean = |words: String| text::redact(&words, secrets);
    let clean_all = |finding: Finding| Finding {
        file: clean(finding.file),
        rule: finding.rule.map(clean),
        what: clean(finding.what),
        suggestion: finding.suggestion.map(clean),
        ..finding
    };
    findings.into_iter().map(clean_all).collect()
}

/// How commits are signed, as the environment of who delivers says it: a repository's files never do.
///
/// `CODEFORGE_SIGNING`: `none`, `forge`, `ssh` or `gpg`; `CODEFORGE_SIGNING_KEY`: for `ssh` a reference to the private key
/// (`env://NAME`, `file:///path`), for `gpg` the key's id; `CODEFORGE_SIGNING_FALLBACK`: `refuse` or `unsigned`.
///
/// # Errors
/// It is set up wrong.
pub(super) fn signing(world: &dyn World) -> Result<Signing, CliError> {
    let wrong = |name: &str, takes: &str| CliError::usage(format!("{name} takes {takes}"));
    let key = || {
        given(world, "CODEFORGE_SIGNING_KEY").ok_or_else(|| {
            CliError::usage("commits are to be signed, and CODEFORGE_SIGNING_KEY does not say with which key")
        })
    };
    let how = match given(world, "CODEFORGE_SIGNING").as_deref() {
        None | Some("none") => How::Not,
        Some("forge") => How::Forge,
        Some("ssh") => How::By(Signer::Ssh(referred(world, &key()?)?)),
        Some("gpg") => How::By(Signer::Gpg { key: key()?, home: given(world, "GNUPGHOME").map(Into::into) }),
        Some(_) => return Err(wrong("CODEFORGE_SIGNING", "none, forge, ssh or gpg")),
    };
    let or_not = match given(world, "CODEFORGE_SIGNING_FALLBACK").as_deref() {
        None | Some("refuse") => false,
        Some("unsigned") => true,
        Some(_) => return Err(wrong("CODEFORGE_SIGNING_FALLBACK", "refuse or unsigned")),
    };
    Ok(Signing { how, or_not })
}

/// Whether a rule keeps our pushes away for certain, and what to do about it.
pub(super) fn meets(rule: &PushRule, signing: &Signing) -> (bool, Option<String>) {
    match rule.about {
        RuleAbout::Signature if !matches!(signing.how, How::Not) => (false, None),
        RuleAbout::Signature => (
            true,
            Some("let commits be signed: CODEFORGE_SIGNING=forge on GitHub, or ssh with a key that the bot's account has (docs/delivery.md)".to_owned()),
        ),
        RuleAbout::Branch => (
            true,
            Some("exempt the token's account from the rule, or take another prefix (CODEFORGE_BRANCH_PREFIX)".to_owned()),
        ),
        RuleAbout::Unsure => (
            false,
            Some("look in the repository's settings whether the token's account is among those who may, or take another prefix (CODEFORGE_BRANCH_PREFIX)".to_owned()),
        ),
        RuleAbout::Form => (
            false,
            Some("look whether our titles, addresses and files keep it: `delivery.convention`, `forge.bot`".to_owned()),
        ),
    }
}

/// What a reference leads to. What stands there instead may be the secret itself: it is not shown.
fn referred(world: &dyn World, reference: &str) -> Result<SecretString, CliError> {
    let name = "CODEFORGE_SIGNING_KEY";
    if let Some(variable) = reference.strip_prefix("env://") {
        let value = given(world, variable);
        return value
            .map(SecretString::from)
            .ok_or_else(|| CliError::usage(format!("{name}: the variable {variable} is not set")));
    }
    if let Some(file) = reference.strip_prefix("file://") {
        let text = std::fs::read_to_string(file);
        return text.map(SecretString::from).map_err(|error| CliError::usage(format!("{name}: {file}: {error}")));
    }
    Err(CliError::usage(format!(
        "{name} is a reference to the key, env://NAME or file:///path, and not the key itself"
    )))
}

fn given(world: &dyn World, name: &str) -> Option<String> {
    world.env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// A remote's address, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    /// `http` only where the address says so.
    scheme: &'static str,
    /// With its port, where it has one.
    host: String,
    path: String,
}

/// Reads `https://HOST/owner/name.git`, `ssh://git@HOST/owner/name`, `git@HOST:owner/name.git`. A name and a password
/// in it are dropped.
fn origin(url: &str) -> Option<Origin> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => ("http", rest),
        Some(("https" | "ssh" | "git", rest)) => ("https", rest),
        Some(_) => return None,
        None => {
            let (host, path) = url.split_once(':').filter(|(host, _)| !host.contains('/'))?;
            return Some(Origin { scheme: "https", host: after_name(host), path: name(path)? });
        }
    };
    let (host, path) = rest.split_once('/')?;
    let host = after_name(host);
    // The port of ssh is not that of https.
    let host = if url.starts_with("ssh://") { host.split(':').next().unwrap_or_default().to_owned() } else { host };
    Some(Origin { scheme, host, path: name(path)? })
}

fn after_name(host: &str) -> String {
    host.rsplit_once('@').map_or(host, |(_, host)| host).to_lowercase()
}

fn name(path: &str) -> Option<String> {
    let path = path.trim_matches('/').trim_end_matches(".git").trim_end_matches('/');
    let whole =
        path.split('/').count() >= 2 && path.split('/').all(|part| !part.is_empty() && part != ".." && part != ".");
    whole.then(|| path.to_owned())
}

/// The host of an address.
fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    Some(after_name(rest.split('/').next()?))
}

/// The path that a server's address has: empty, or `/git`, without a slash at its end.
fn path_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split_once('/').map_or_else(String::new, |(_, path)| format!("/{path}")).trim_end_matches('/').to_owned()
}

/// Which forge the configuration names. Only that counts: a token goes to the host of the remote, and a repository
/// cannot send it elsewhere.
pub(super) fn configured(library: &Library) -> Option<ForgeKind> {
    match library.config.forge.as_ref()?.kind? {
        schema::ForgeKind::Auto => None,
        schema::ForgeKind::Github => Some(ForgeKind::Github),
        schema::ForgeKind::Gitlab => Some(ForgeKind::Gitlab),
        schema::ForgeKind::Gitea => Some(ForgeKind::Gitea),
        schema::ForgeKind::Local => Some(ForgeKind::Local),
    }
}

/// A bare repository in a folder of this machine.
fn local_at(url: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<ForgeAt, CliError> {
    let folder = url.strip_prefix("file://").unwrap_or(url);
    let name = folder.trim_end_matches('/').rsplit('/').next().unwrap_or_default().trim_end_matches(".git");
    if !folder.starts_with('/') || name.is_empty() {
        return Err(CliError::usage(format!(
            "the forge is `local`, and the remote `{}` is no folder",
            text::clean(url)
        ))
        .hint("`git remote set-url origin /FOLDER/NAME.git`, or name another forge (`forge.kind`, CODEFORGE_FORGE)"));
    }
    Ok(ForgeAt {
        kind: ForgeKind::Local,
        api: String::new(),
        repository: name.to_owned(),
        token: Credential::None,
        git_url: folder.to_owned(),
        marker_key: env("CODEFORGE_MARKER_KEY").map(SecretString::from),
    })
}

/// What is named for this program: a token, a file that holds it, or a GitHub App.
fn credential(kind: ForgeKind, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Credential>, CliError> {
    if let Some(token) = env("CODEFORGE_FORGE_TOKEN") {
        return Ok(Some(token.into()));
    }
    if let Some(file) = env("CODEFORGE_FORGE_TOKEN_FILE") {
        return Ok(Some(Credential::File(file.into())));
    }
    let (Some(id), ForgeKind::Github) = (env("CODEFORGE_APP_ID"), kind) else { return Ok(None) };
    let key = env("CODEFORGE_APP_KEY").ok_or_else(|| {
        CliError::usage("CODEFORGE_APP_ID is set, and CODEFORGE_APP_KEY is not")
            .hint("it holds the App's private key, as its .pem file has it")
    })?;
    let number = |text: String| {
        text.parse().map_err(|_| CliError::usage("CODEFORGE_APP_INSTALLATION is not a number; it may be left out"))
    };
    let installation = env("CODEFORGE_APP_INSTALLATION").map(number).transpose()?;
    // A variable of one line has its line ends written out.
    let key = SecretString::from(key.replace("\\n", "\n"));
    Ok(Some(Credential::App(AppKey { id, key, installation, permissions: BTreeMap::new() })))
}

/// The forge at a remote; `None`: not known, or no token for it. `configured`: as [`configured`] says.
pub(super) fn forge_at(
    url: &str,
    configured: Option<ForgeKind>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<ForgeAt>, CliError> {
    let named = match env("CODEFORGE_FORGE") {
        Some(name) => Some(ForgeKind::named(&name).ok_or_else(|| {
            CliError::usage(format!("CODEFORGE_FORGE={name}: github, gitlab, gitea or local is wanted"))
        })?),
        None => configured,
    };
    if named == Some(ForgeKind::Local) {
        return local_at(url, env).map(Some);
    }
    let Some(origin) = origin(url) else { return Ok(None) };
    let same = |variable: &str| env(variable).and_then(|url| host_of(&url)).is_some_and(|host| host == origin.host);
    // In a job of Gitea's the variables that are called GitHub's are its own, and so is the token.
    let job_of_gitea = ["GITEA_ACTIONS", "FORGEJO_ACTIONS"].iter().any(|name| env(name).as_deref() == Some("true"));
    let own_github = !job_of_gitea && (origin.host == "github.com" || same("GITHUB_SERVER_URL"));
    let own_gitlab = origin.host == "gitlab.com" || same("CI_SERVER_URL") || same("GITLAB_HOST");
    let job_here = job_of_gitea && same("GITHUB_SERVER_URL");
    let own_gitea =
        ["codeberg.org", "gitea.com"].contains(&origin.host.as_str()) || same("GITEA_SERVER_URL") || job_here;
    let kind = match named {
        Some(named) => named,
        None if own_gitea => ForgeKind::Gitea,
        None if own_github => ForgeKind::Github,
        None if own_gitlab => ForgeKind::Gitlab,
        None => return Ok(None),
    };
    // A token goes to the host it was made for, unless somebody names it for this program.
    let theirs = match kind {
        ForgeKind::Github if own_github => env("GITHUB_TOKEN").or_else(|| env("GH_TOKEN")),
        ForgeKind::Gitlab if own_gitlab => env("GITLAB_TOKEN"),
        ForgeKind::Gitea if own_gitea => {
            env("GITEA_TOKEN").or_else(|| env("FORGEJO_TOKEN")).or_else(|| env("GITHUB_TOKEN").filter(|_| job_here))
        }
        _ => None,
    };
    let Some(token) = credential(kind, env)?.or(theirs.map(Credential::from)) else { return Ok(None) };
    let (own, server_variables): (&str, &[&str]) = match kind {
        ForgeKind::Github => ("/api/v3", &["GITHUB_SERVER_URL"]),
        ForgeKind::Gitlab => ("/api/v4", &["CI_SERVER_URL", "GITLAB_HOST"]),
        ForgeKind::Gitea if job_here => ("/api/v1", &["GITEA_SERVER_URL", "GITHUB_SERVER_URL"]),
        ForgeKind::Gitea => ("/api/v1", &["GITEA_SERVER_URL"]),
        ForgeKind::Local => ("", &[]),
    };
    let named_api = env("CODEFORGE_FORGE_API");
    // A server may lie below a path of its host, which is no part of the repository's name; over ssh it is not in the
    // remote's address.
    let here = |url: &String| host_of(url).is_some_and(|host| host == origin.host);
    let of_api = named_api.clone().filter(here).and_then(|api| Some(path_of(&api).strip_suffix(own)?.to_owned()));
    let below = server_variables.iter().find_map(|name| env(name).filter(here)).map(|url| path_of(&url)).or(of_api);
    let below = below.unwrap_or_default();
    let own_name = format!("/{}", origin.path);
    let stripped = own_name.strip_prefix(&format!("{below}/")).filter(|_| url.starts_with("http"));
    let repository = stripped.filter(|rest| rest.contains('/')).unwrap_or(&origin.path).to_owned();
    let server = format!("{}://{}{below}", origin.scheme, origin.host);
    let api = named_api.unwrap_or_else(|| match kind {
        ForgeKind::Github if origin.host == "github.com" => "https://api.github.com".to_owned(),
        ForgeKind::Local => String::new(),
        ForgeKind::Github | ForgeKind::Gitlab | ForgeKind::Gitea => format!("{server}{own}"),
    });
    Ok(Some(ForgeAt {
        kind,
        api,
        git_url: format!("{server}/{repository}.git"),
        repository,
        token,
        marker_key: env("CODEFORGE_MARKER_KEY").map(SecretString::from),
    }))
}

impl From<ForgeError> for CliError {
    fn from(error: ForgeError) -> Self {
        let ending = match &error {
            ForgeError::Refused { .. } => Ending::Denied,
            ForgeError::Unsupported(_) | ForgeError::NotFound { .. } => Ending::Misconfigured,
            ForgeError::Moved { .. } => Ending::Failed,
            ForgeError::RateLimited { .. } | ForgeError::Unavailable { .. } | ForgeError::Contract { .. } => {
                Ending::Unavailable
            }
        };
        Self::new(ending, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::forge::Credential;

    fn at(url: &str, variables: &[(&str, &str)]) -> Option<(ForgeKind, String, String, String, String)> {
        let env = |name: &str| variables.iter().find(|(there, _)| *there == name).map(|(_, value)| (*value).to_owned());
        let at = forge_at(url, None, &env).unwrap()?;
        let token = match at.token {
            Credential::Token(token) => token.expose_secret().to_owned(),
            other => format!("{other:?}"),
        };
        Some((at.kind, at.api, at.repository, at.git_url, token))
    }

    #[test]
    fn a_remote_names_its_forge_and_a_token_goes_only_where_it_belongs() {
        let github = (
            ForgeKind::Github,
            "https://api.github.com".to_owned(),
            "acme/widgets".to_owned(),
            "https://github.com/acme/widgets.git".to_owned(),
            "t".to_owned(),
        );
        for url in [
            "https://github.com/acme/widgets.git",
            "git@github.com:acme/widgets.git",
            "ssh://git@github.com:22/acme/widgets",
            "https://somebody:old-token@GitHub.com/acme/widgets/",
        ] {
            assert_eq!(at(url, &[("GITHUB_TOKEN", "t")]).as_ref(), Some(&github), "{url}");
        }
        let own = "https://git.acme.example/group/sub/widgets.git";
        let gitlab = [("CI_SERVER_URL", "https://git.acme.example"), ("GITLAB_TOKEN", "t"), ("GITHUB_TOKEN", "g")];
        let found = at(own, &gitlab).unwrap();
        assert_eq!(
            (found.1.as_str(), found.2.as_str(), found.4.as_str()),
            ("https://git.acme.example/api/v4", "group/sub/widgets", "t")
        );
        // No token of another host, even where somebody says which forge it is.
        assert_eq!(at(own, &[("CODEFORGE_FORGE", "github"), ("GITHUB_TOKEN", "g")]), None);
        let all = ["GITHUB_TOKEN", "GITLAB_TOKEN", "GITEA_TOKEN"].map(|name| (name, "g"));
        for stranger in [
            "https://github.com.evil.example/acme/widgets",
            "https://notgithub.com/acme/widgets",
            "https://evil.example/github.com/widgets",
            "https://github.com@evil.example/acme/widgets",
            "https://github.com:8443/acme/widgets",
            "git@notgitlab.com:acme/widgets",
            "https://codeberg.org.evil.example/acme/widgets",
            "/srv/git/acme/widgets",
            // What is no repository's address.
            "ftp://github.com/acme/widgets",
            "https://github.com/widgets",
            "https://github.com/acme/../widgets",
            "https://github.com/acme//widgets",
        ] {
            assert_eq!(at(stranger, &all), None, "{stranger}");
        }
        // Another port is another server.
        let port = "https://git.acme.example:8443/acme/widgets";
        assert_eq!(at(port, &gitlab), None);
        let found = at(port, &[("CI_SERVER_URL", "https://git.acme.example:8443"), ("GITLAB_TOKEN", "t")]).unwrap();
        assert_eq!((found.1.as_str(), found.4.as_str()), ("https://git.acme.example:8443/api/v4", "t"));
        assert!(at(own, &[("CODEFORGE_FORGE", "github"), ("CODEFORGE_FORGE_TOKEN", "c")]).is_some());
        let gitea = at("https://codeberg.org/acme/widgets", &[("GITEA_TOKEN", "t"), ("GITHUB_TOKEN", "g")]).unwrap();
        assert_eq!(
            (gitea.0, gitea.1.as_str(), gitea.4.as_str()),
            (ForgeKind::Gitea, "https://codeberg.org/api/v1", "t")
        );
        // A forge that the configuration names gets no token of another one.
        let named = |variables: &[(&str, &str)]| {
            let env = |name: &str| variables.iter().find(|it| it.0 == name).map(|it| it.1.to_owned());
            forge_at(own, Some(ForgeKind::Gitea), &env).unwrap().map(|at| (at.kind, at.api))
        };
        assert_eq!(named(&[("GITEA_TOKEN", "t"), ("GITHUB_TOKEN", "g")]), None);
        let api = "https://git.acme.example/api/v1".to_owned();
        assert_eq!(named(&[("CODEFORGE_FORGE_TOKEN", "c")]), Some((ForgeKind::Gitea, api)));
        // Below a path of its host: said by the server's address or by the API's, in the remote of https only.
        for (url, variables) in [
            ("https://git.acme.example/lab/group/widgets.git", ("CI_SERVER_URL", "https://git.acme.example/lab/")),
            ("git@git.acme.example:group/widgets.git", ("CI_SERVER_URL", "https://git.acme.example/lab")),
            (
                "https://git.acme.example/lab/group/widgets",
                ("CODEFORGE_FORGE_API", "https://git.acme.example/lab/api/v4"),
            ),
        ] {
            let found = at(url, &[variables, ("CODEFORGE_FORGE", "gitlab"), ("CODEFORGE_FORGE_TOKEN", "c")]).unwrap();
            let wanted = (
                "https://git.acme.example/lab/api/v4",
                "group/widgets",
                "https://git.acme.example/lab/group/widgets.git",
            );
            assert_eq!((found.1.as_str(), found.2.as_str(), found.3.as_str()), wanted, "{url}");
        }
        // In a job of Gitea's `GITHUB_TOKEN` is Gitea's, and goes nowhere else.
        let job =
            [("GITEA_ACTIONS", "true"), ("GITHUB_SERVER_URL", "https://git.acme.example/lab/"), ("GITHUB_TOKEN", "t")];
        let found = at("https://git.acme.example/lab/acme/widgets", &job).unwrap();
        assert_eq!(
            (found.0, found.1.as_str(), found.2.as_str(), found.4.as_str()),
            (ForgeKind::Gitea, "https://git.acme.example/lab/api/v1", "acme/widgets", "t")
        );
        for other in ["https://github.com/acme/widgets", "https://codeberg.org/acme/widgets"] {
            assert_eq!(at(other, &job), None, "{other}");
        }
        // A group that has the path's name is a group.
        let group = [("CI_SERVER_URL", "https://git.acme.example"), ("GITLAB_TOKEN", "t")];
        assert_eq!(at("https://git.acme.example/lab/widgets", &group).unwrap().2, "lab/widgets");
        let local = at("/srv/git/widgets.git", &[("CODEFORGE_FORGE", "local")]).unwrap();
        assert_eq!((local.2.as_str(), local.3.as_str(), local.4.as_str()), ("widgets", "/srv/git/widgets.git", "None"));
        let app = [("CODEFORGE_APP_ID", "7"), ("CODEFORGE_APP_KEY", "-----BEGIN\\nK")];
        let app = at("https://github.com/acme/widgets", &app).unwrap().4;
        assert!(app.contains("id: \"7\"") && !app.contains("BEGIN"), "{app}");
    }

    #[test]
    fn what_is_named_wrong_is_said() {
        let fails = |url: &str, variables: &[(&str, &str)]| {
            let env = |name: &str| variables.iter().find(|it| it.0 == name).map(|it| it.1.to_owned());
            forge_at(url, None, &env).err().unwrap().message
        };
        let url = "https://github.com/acme/widgets";
        assert!(fails(url, &[("CODEFORGE_FORGE", "githbu")]).contains("CODEFORGE_FORGE=githbu"));
        assert!(fails(url, &[("CODEFORGE_APP_ID", "7")]).contains("CODEFORGE_APP_KEY is not"));
        let app = [("CODEFORGE_APP_ID", "7"), ("CODEFORGE_APP_KEY", "k"), ("CODEFORGE_APP_INSTALLATION", "ours")];
        assert!(fails(url, &app).contains("CODEFORGE_APP_INSTALLATION is not a number"));
        assert!(fails("widgets.git", &[("CODEFORGE_FORGE", "local")]).contains("`widgets.git` is no folder"));
        // An App is GitHub's: elsewhere it is no token.
        assert_eq!(at("https://gitlab.com/acme/widgets", &app), None);
    }
}
