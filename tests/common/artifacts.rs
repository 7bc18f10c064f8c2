//! Artifacts in the hands of those who would forge them.

use super::{git, ok};
use codeforge::model::artifact::{Artifact, Part, Taken, Word};
use codeforge::model::id::TreeId;
use codeforge::model::journal::Verdict;
use codeforge::model::patch::{GONE, Patch};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

/// The one run of an artifact.
pub fn read(file: &Path) -> Taken {
    Artifact::read(&std::fs::read(file).unwrap()).unwrap().pop().unwrap()
}

/// What an honest gate's job says of an artifact.
pub fn word(taken: &Taken) -> Word {
    let gates = taken.part.claims.gates.iter();
    Word {
        patch: taken.hash(),
        gates: gates.map(|(name, hash)| (name.clone(), (Verdict::Pass, hash.clone()))).collect(),
    }
}

/// Changes an artifact's JSON.
pub fn edit(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(file, value.to_string()).unwrap();
}

/// Puts another change in an artifact, with its hash.
pub fn replace(file: &Path, change: impl FnOnce(&mut Patch)) -> Word {
    let taken = read(file);
    let mut patch = taken.patch.clone().unwrap();
    change(&mut patch);
    patch.files.sort_by(|a, b| a.path.cmp(&b.path));
    let (packed, hash) = Part::packed(Some(&patch.encode()));
    edit(file, |value| {
        value["runs"][0]["patch"] = json!(packed);
        value["runs"][0]["patch_sha256"] = json!(hash);
    });
    Word { patch: hash, ..word(&taken) }
}

/// The tree that a change makes of the commit that is checked out, as git itself makes it.
pub fn tree_of(repo: &Path, patch: &Patch) -> TreeId {
    let index = repo.join(".git/other-index");
    let in_it = |arguments: &[&str]| {
        let mut command = git();
        command.current_dir(repo).env("GIT_INDEX_FILE", &index).args(arguments);
        command
    };
    ok(&mut in_it(&["read-tree", "HEAD"]));
    for put in &patch.files {
        let path = String::from_utf8(put.path.clone()).unwrap();
        if put.mode == GONE {
            ok(&mut in_it(&["rm", "--quiet", "--cached", "--", &path]));
            continue;
        }
        let mut hash = in_it(&["hash-object", "-w", "--stdin"]);
        let mut child = hash.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&put.content).unwrap();
        let oid = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let entry = format!("{:o},{},{path}", put.mode, oid.trim());
        ok(&mut in_it(&["update-index", "--add", "--cacheinfo", &entry]));
    }
    TreeId(ok(&mut in_it(&["write-tree"])).trim().to_owned())
}
