//! Protected branches and push rules: which hold for a branch, and what they mean for a push of ours.

use super::Gitlab;
use crate::adapter::forge::http::{Ask, read};
use crate::model::forge::Access;
use crate::port::forge::{ForgeError, PushRule, Rights, RuleAbout};
use serde::Deserialize;

const MAINTAINER: &str = "scope api, role Maintainer: only that lets an account read protected branches and push rules";

#[derive(Deserialize)]
struct Protected {
    /// A branch, or a pattern: `*` is anything, slashes too.
    name: String,
    #[serde(default)]
    push_access_levels: Vec<Level>,
    #[serde(default)]
    allow_force_push: bool,
}

/// Who may: a role, or one of the others.
#[derive(Deserialize)]
struct Level {
    access_level: Option<u64>,
    user_id: Option<u64>,
    group_id: Option<u64>,
    deploy_key_id: Option<u64>,
}

/// What a project asks of each push; not all GitLabs have these.
#[derive(Deserialize)]
struct Asked {
    commit_message_regex: Option<String>,
    commit_message_negative_regex: Option<String>,
    branch_name_regex: Option<String>,
    author_email_regex: Option<String>,
    file_name_regex: Option<String>,
    member_check: Option<bool>,
    prevent_secrets: Option<bool>,
    max_file_size: Option<u64>,
    commit_committer_check: Option<bool>,
    commit_committer_name_check: Option<bool>,
    reject_unsigned_commits: Option<bool>,
    reject_non_dco_commits: Option<bool>,
}

impl Asked {
    fn meant(&self) -> Vec<PushRule> {
        let shown = |text: &str| crate::text::clean(text).replace('\n', " ");
        let patterns = [
            (&self.commit_message_regex, "messages must fit"),
            (&self.commit_message_negative_regex, "messages must not fit"),
            (&self.branch_name_regex, "names of branches must fit"),
            (&self.author_email_regex, "authors' addresses must fit"),
            (&self.file_name_regex, "names of files must not fit"),
        ];
        let patterns = patterns.into_iter().filter_map(|(pattern, words)| {
            let pattern = pattern.as_deref().filter(|pattern| !pattern.is_empty())?;
            Some((RuleAbout::Form, format!("{words} `{}`", shown(pattern))))
        });
        let checks = [
            (self.reject_unsigned_commits, RuleAbout::Signature, "commits must be signed"),
            (self.reject_non_dco_commits, RuleAbout::Form, "commits must be signed off (`delivery.sign_off`)"),
            (self.member_check, RuleAbout::Form, "authors must have an account with their address"),
            (self.commit_committer_check, RuleAbout::Form, "committers must be the token's account, by its address"),
            (self.commit_committer_name_check, RuleAbout::Form, "authors must be the token's account, by its name"),
            (self.prevent_secrets, RuleAbout::Form, "files that look like secrets may not be pushed"),
        ];
        let checks = checks.into_iter().filter(|(on, ..)| *on == Some(true));
        let size = self.max_file_size.filter(|most| *most > 0);
        let size = size.map(|most| (RuleAbout::Form, format!("files of more than {most} MB may not be pushed")));
        let all = checks.map(|(_, about, words)| (about, words.to_owned())).chain(patterns).chain(size);
        all.map(|(about, words)| PushRule { words, about }).collect()
    }
}

impl Gitlab {
    /// The rules that hold for a branch.
    pub(super) async fn rules_of(&self, branch: &str) -> Result<Vec<PushRule>, ForgeError> {
        let doing = format!("asking which rules hold for `{branch}`");
        let url = self.at.url(&["protected_branches"], &[("per_page", "100")])?;
        let needs = if self.job { self.needs() } else { MAINTAINER };
        let ask = Ask { needs: Some(needs), ..self.reading(url, &doing) };
        let all: Vec<Protected> = self.at.http.all(ask).await?;
        let holding: Vec<Protected> = all.into_iter().filter(|it| fits(&it.name, branch)).collect();
        let mut rules: Vec<PushRule> = self.protects(&holding).await?.into_iter().collect();
        match self.at.get(&["push_rule"], &[], &doing, MAINTAINER).await {
            // A project that never had any says `null`.
            Ok(answer) => rules.extend(read::<Option<Asked>>(&doing, &answer.body)?.iter().flat_map(Asked::meant)),
            // Not every GitLab has push rules.
            Err(ForgeError::NotFound { .. }) => {}
            Err(ForgeError::Refused { message, .. }) => rules.push(PushRule {
                words: format!("the project's push rules could not be read: {message}"),
                about: RuleAbout::Unsure,
            }),
            Err(error) => return Err(error),
        }
        Ok(rules)
    }

    /// What protections of a branch mean for us: of several the one that allows most counts.
    async fn protects(&self, holding: &[Protected]) -> Result<Option<PushRule>, ForgeError> {
        let Some(first) = holding.first() else { return Ok(None) };
        let name = crate::text::clean(&first.name).replace('\n', " ");
        let rule = |about, words: &str| Some(PushRule { about, words: format!("`{name}` is protected: {words}") });
        let own = self.own().await?;
        let (access, id) = match own {
            Some(own) => (Some(self.access_of(own).await), self.user(own).await?.map(|user| user.id)),
            None => (None, None),
        };
        let (mut may, mut unsure) = (false, own.is_none());
        for level in holding.iter().flat_map(|it| &it.push_access_levels) {
            match level {
                Level { deploy_key_id: Some(_), .. } => {}
                Level { user_id: Some(user), .. } => may |= id == Some(*user),
                Level { group_id: Some(_), .. } => unsure = true,
                Level { access_level: Some(level), .. } => {
                    let wanted = match level {
                        30 => Access::Write,
                        40 => Access::Maintain,
                        50.. => Access::Admin,
                        // Nobody.
                        _ => continue,
                    };
                    may |= access.is_some_and(|access| access.reaches(wanted));
                }
                _ => {}
            }
        }
        Ok(match (may, unsure) {
            // What we have proposed is brought up to date by a push that replaces it.
            (true, _) if holding.iter().any(|it| it.allow_force_push) => None,
            (true, _) => rule(RuleAbout::Branch, "such a branch may not be moved (no force pushes)"),
            (false, true) => rule(RuleAbout::Unsure, "only some accounts and groups may push to it"),
            (false, false) => rule(RuleAbout::Branch, "the token's account may not push to it"),
        })
    }
}

/// Whether a pattern of GitLab's fits: `*` stands for any characters.
fn fits(pattern: &str, branch: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| branch.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_is_anything_and_everything_else_is_itself() {
        for (pattern, branch) in [
            ("main", "main"),
            ("*", "codeforge/fix/1"),
            ("codeforge/*", "codeforge/fix/1"),
            ("*-stable", "15-0-stable"),
            ("a*b*c", "a-b-b-c"),
            ("a*b*b*c", "a-b-b-c"),
            ("a**c", "abc"),
            ("*fix*", "codeforge/fix/1"),
            ("v1.*", "v1.2"),
        ] {
            assert!(fits(pattern, branch), "{pattern} {branch}");
        }
        for (pattern, branch) in [
            ("main", "main2"),
            ("main", "domain"),
            ("codeforge/*", "codeforge"),
            ("a*b*c", "a-c"),
            ("ab*ba", "aba"),
            ("a*b*b*c", "a-b-c"),
            ("*-stable", "15-0-stable-1"),
            ("fix/*", "codeforge/fix/1"),
            ("v1.*", "v1x2"),
            ("Main", "main"),
        ] {
            assert!(!fits(pattern, branch), "{pattern} {branch}");
        }
    }
}
