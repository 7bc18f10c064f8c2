//! What a change changes, as forges show it.

use super::{FakeChange, Inner};

/// One file of a difference.
pub(super) struct DiffFile {
    pub(super) old: String,
    pub(super) new: String,
    /// `A`, `D`, `M`, `R`.
    pub(super) how: char,
    pub(super) patch: String,
}

impl Inner {
    /// The difference of a change, as forges show it: from where its branch left.
    pub(super) fn diff(&self, change: &FakeChange) -> Vec<DiffFile> {
        let range = format!("refs/heads/{}...refs/heads/{}", change.base, change.head);
        let names = self.git(&["diff", "--name-status", "-M", "-z", &range]).unwrap();
        let mut words = names.split('\0').filter(|word| !word.is_empty());
        let mut files = Vec::new();
        while let Some(how) = words.next() {
            let how = how.chars().next().unwrap();
            let old = words.next().unwrap().to_owned();
            let new = if how == 'R' { words.next().unwrap().to_owned() } else { old.clone() };
            let whole = self.git(&["diff", "-M", &range, "--", &old, &new]).unwrap();
            let patch = whole.find("@@ -").map(|at| whole[at..].trim_end().to_owned()).unwrap_or_default();
            files.push(DiffFile { old, new, how, patch });
        }
        files
    }

    /// The commit that a change's branch left at.
    pub(super) fn merge_base(&self, change: &FakeChange) -> String {
        let (base, head) = (format!("refs/heads/{}", change.base), format!("refs/heads/{}", change.head));
        self.git(&["merge-base", &base, &head]).unwrap().trim().to_owned()
    }
}

/// Line numbers that hunks show: (old, new), one of them missing for added and removed lines.
pub(super) fn shown(patch: &str) -> Vec<(Option<u64>, Option<u64>)> {
    let mut lines = Vec::new();
    let (mut old, mut new) = (0, 0);
    for line in patch.lines() {
        if let Some(rest) = line.strip_prefix("@@ -") {
            let numbers: Vec<u64> = rest
                .split("@@")
                .next()
                .unwrap()
                .split(' ')
                .filter_map(|word| word.trim_start_matches('+').split(',').next().unwrap().parse().ok())
                .collect();
            (old, new) = (numbers[0], numbers[1]);
            continue;
        }
        match line.chars().next() {
            Some('+') => {
                lines.push((None, Some(new)));
                new += 1;
            }
            Some('-') => {
                lines.push((Some(old), None));
                old += 1;
            }
            Some('\\') => {}
            _ => {
                lines.push((Some(old), Some(new)));
                (old, new) = (old + 1, new + 1);
            }
        }
    }
    lines
}
