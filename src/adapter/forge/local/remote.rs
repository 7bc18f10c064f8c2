//! The bare repository itself, without a network.

use super::{Local, broken};
use crate::port::forge::{ForgeError, Login, Remote};
use async_trait::async_trait;
use git2::{ErrorCode, Oid, Repository};
use secrecy::SecretString;
use std::collections::HashSet;
use std::io::Write;

#[async_trait]
impl Remote for Local {
    async fn refs(&self, prefix: &str) -> Result<Vec<(String, String)>, ForgeError> {
        let prefix = prefix.to_owned();
        self.git("reading the repository's branches", move |git| {
            let mut refs = Vec::new();
            for reference in git.references()? {
                let reference = reference?;
                if let (Ok(name), Some(id)) = (reference.name(), reference.target())
                    && name.starts_with(&prefix)
                {
                    refs.push((name.to_owned(), id.to_string()));
                }
            }
            Ok(refs)
        })
        .await
    }

    async fn push(&self, name: &str, old: Option<&str>, new: &str, pack: Vec<u8>) -> Result<(), ForgeError> {
        let doing = format!("pushing to `{name}`");
        if !name.starts_with("refs/heads/") || !git2::Reference::is_valid_name(name) {
            return Err(ForgeError::Unsupported(format!("{doing}: only whole names of branches are pushed")));
        }
        let (full, old, new) = (name.to_owned(), old.map(str::to_owned), new.to_owned());
        let moved = self
            .git(&doing, move |git| {
                // A pack of nothing is no pack to git.
                if pack.get(8..12).is_some_and(|count| count != [0; 4]) {
                    let odb = git.odb()?;
                    let mut writer = odb.packwriter()?;
                    writer.write_all(&pack).map_err(|error| git2::Error::from_str(&error.to_string()))?;
                    writer.commit()?;
                }
                let id = git.find_commit(Oid::from_str(&new)?)?.id();
                let log = "codeforge: push";
                let done = match &old {
                    None => git.reference(&full, id, false, log),
                    Some(old) => git.reference_matching(&full, id, true, Oid::from_str(old)?, log),
                };
                match done {
                    Ok(_) => Ok(None),
                    Err(error) => {
                        let there = git.refname_to_id(&full).ok().map(|id| id.to_string());
                        // It may have been us.
                        match there {
                            Some(there) if there == new => Ok(None),
                            there if there != old => Ok(Some(there)),
                            _ => Err(error),
                        }
                    }
                }
            })
            .await?;
        match moved {
            None => Ok(()),
            Some(there) => {
                let message = there.map_or_else(|| "it is gone".to_owned(), |id| format!("it is at {id} now"));
                Err(ForgeError::Moved { name: name.to_owned(), message })
            }
        }
    }

    async fn fetch(&self, wants: &[String], haves: &[String], depth: u32) -> Result<Vec<u8>, ForgeError> {
        let (wants, haves) = (wants.to_vec(), haves.to_vec());
        self.git("fetching commits", move |git| pack(git, &wants, &haves, depth)).await
    }

    async fn login(&self) -> Result<Option<Login>, ForgeError> {
        Ok(None)
    }

    async fn renew(&self, _: &SecretString) -> bool {
        false
    }
}

fn pack(git: &Repository, wants: &[String], haves: &[String], depth: u32) -> Result<Vec<u8>, git2::Error> {
    let ids = |texts: &[String]| texts.iter().map(|text| Oid::from_str(text)).collect::<Result<Vec<_>, _>>();
    let wants = ids(wants)?;
    let mut builder = git.packbuilder()?;
    if depth == 0 {
        let mut walk = git.revwalk()?;
        for id in &wants {
            walk.push(*id)?;
        }
        for id in ids(haves)? {
            match walk.hide(id) {
                Err(error) if error.code() != ErrorCode::NotFound => return Err(error),
                _ => {}
            }
        }
        builder.insert_walk(&mut walk)?;
    } else {
        let (mut level, mut seen) = (wants, HashSet::new());
        for _ in 0..depth {
            let mut next = Vec::new();
            for id in level.into_iter().filter(|id| seen.insert(*id)) {
                builder.insert_commit(id)?;
                next.extend(git.find_commit(id)?.parent_ids());
            }
            level = next;
        }
    }
    let mut bytes = git2::Buf::new();
    builder.write_buf(&mut bytes)?;
    Ok(bytes.to_vec())
}

impl Local {
    /// Works on the repository, on a thread that may wait.
    pub(super) async fn git<T: Send + 'static>(
        &self,
        doing: &str,
        work: impl FnOnce(&Repository) -> Result<T, git2::Error> + Send + 'static,
    ) -> Result<T, ForgeError> {
        let folder = self.folder.clone();
        let done = tokio::task::spawn_blocking(move || work(&Repository::open_bare(folder)?)).await;
        let failed = |error: git2::Error| match error.code() {
            ErrorCode::NotFound => ForgeError::NotFound { doing: doing.to_owned(), hint: error.message().to_owned() },
            _ => broken(doing, error.message()),
        };
        done.map_err(|error| broken(doing, error))?.map_err(failed)
    }
}
