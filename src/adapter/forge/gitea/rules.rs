//! Branch protections: which of them holds for a branch, and what it means for a push of ours.

use super::{ADMIN, Gitea};
use crate::adapter::forge::http::read;
use crate::port::forge::{ForgeError, PushRule, RuleAbout};
use globset::GlobBuilder;
use serde::Deserialize;

/// A rule. What a version does not know of is absent, and then not allowed.
#[derive(Deserialize)]
struct Rule {
    #[serde(default)]
    rule_name: String,
    /// Its older name.
    #[serde(default)]
    branch_name: String,
    #[serde(default)]
    enable_push: bool,
    #[serde(default)]
    enable_push_whitelist: bool,
    #[serde(default)]
    push_whitelist_usernames: Option<Vec<String>>,
    #[serde(default)]
    push_whitelist_teams: Option<Vec<String>>,
    #[serde(default)]
    enable_force_push: bool,
    #[serde(default)]
    enable_force_push_allowlist: bool,
    #[serde(default)]
    force_push_allowlist_usernames: Option<Vec<String>>,
    #[serde(default)]
    force_push_allowlist_teams: Option<Vec<String>>,
    #[serde(default)]
    require_signed_commits: bool,
    #[serde(default)]
    protected_file_patterns: String,
}

/// Whether we may do what a list of names allows.
enum May {
    Yes,
    No,
    /// Only who is in a team may, and who that is the forge does not say.
    Unsure,
}

impl Rule {
    fn name(&self) -> &str {
        if self.rule_name.is_empty() { &self.branch_name } else { &self.rule_name }
    }

    /// A plain name holds whatever its case; in a pattern `*` ends at a slash.
    fn holds(&self, branch: &str) -> bool {
        let name = self.name();
        if !name.contains(['*', '?', '[', ']', '{', '}', '\\']) {
            return name.eq_ignore_ascii_case(branch);
        }
        let glob = GlobBuilder::new(name).literal_separator(true).build();
        glob.map_or(name == branch, |glob| glob.compile_matcher().is_match(branch))
    }

    fn may_push(&self, own: Option<&str>) -> May {
        match self.enable_push {
            false => May::No,
            true if !self.enable_push_whitelist => May::Yes,
            true => listed(own, &self.push_whitelist_usernames, &self.push_whitelist_teams),
        }
    }

    fn may_force(&self, own: Option<&str>) -> May {
        match self.enable_force_push {
            false => May::No,
            true if !self.enable_force_push_allowlist => May::Yes,
            true => listed(own, &self.force_push_allowlist_usernames, &self.force_push_allowlist_teams),
        }
    }

    fn meant(&self, own: Option<&str>) -> Vec<PushRule> {
        let name = crate::text::clean(self.name()).replace('\n', " ");
        let mut rules = Vec::new();
        let mut rule = |about, words: &str| {
            rules.push(PushRule { about, words: format!("the rule `{name}`: {words}") });
        };
        match (self.may_push(own), self.may_force(own)) {
            (May::No, _) => rule(RuleAbout::Branch, "such a branch may not be pushed to"),
            // What we have proposed is brought up to date by a push that replaces it.
            (_, May::No) => rule(RuleAbout::Branch, "such a branch may not be moved (no force pushes)"),
            (May::Unsure, _) | (_, May::Unsure) => {
                rule(RuleAbout::Unsure, "only some accounts and teams may push to such a branch");
            }
            (May::Yes, May::Yes) => {}
        }
        if self.require_signed_commits {
            rule(RuleAbout::Signature, "commits must be signed");
        }
        let patterns = crate::text::clean(&self.protected_file_patterns).replace('\n', " ");
        if !patterns.trim().is_empty() {
            rule(RuleAbout::Form, &format!("files that fit `{}` may not be changed", patterns.trim()));
        }
        rules
    }
}

fn listed(own: Option<&str>, names: &Option<Vec<String>>, teams: &Option<Vec<String>>) -> May {
    let Some(own) = own else { return May::Unsure };
    if names.iter().flatten().any(|name| name.eq_ignore_ascii_case(own)) {
        return May::Yes;
    }
    if teams.iter().flatten().next().is_some() { May::Unsure } else { May::No }
}

impl Gitea {
    /// The rules that hold for a branch: those of the first protection that fits it, in the order in which the forge
    /// lists them, which is the one that it goes by.
    pub(super) async fn rules_of(&self, branch: &str) -> Result<Vec<PushRule>, ForgeError> {
        let doing = format!("asking which rules hold for `{branch}`");
        let answer = self.at.get(&["branch_protections"], &[], &doing, ADMIN).await?;
        let rules: Vec<Rule> = read(&doing, &answer.body)?;
        match rules.iter().find(|rule| rule.holds(branch)) {
            Some(rule) => Ok(rule.meant(self.own().await?)),
            None => Ok(Vec::new()),
        }
    }
}
