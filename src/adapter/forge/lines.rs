//! Which lines a change's difference shows: remarks can stand there and nowhere else.

use crate::port::forge::{ChangedFile, LineSide, Remark};
use std::collections::BTreeMap;

/// The lines of one file's hunks.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Lines as they are.
    new: BTreeMap<u64, Place>,
    /// Lines as they were.
    old: BTreeMap<u64, Place>,
}

/// A line's place on both sides; one of them at least is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) old: Option<u64>,
    pub(super) new: Option<u64>,
    /// Where both sides stand at it, old and new: a side that does not have it stands at the line that comes next there.
    pub(super) at: (u64, u64),
}

/// A remark's place: its last line, and the first one where it spans several and the difference shows it as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: Option<Place>,
    pub(super) last: Place,
}

impl Span {
    /// The remark as it can be made: where its first line is not shown, it stands at the last one, without the text to
    /// put there, which would go in the place of too few lines.
    pub(super) fn told(&self, remark: &Remark) -> Remark {
        let mut told = remark.clone();
        if self.first.is_none() && remark.first_line().is_some() {
            (told.start_line, told.replacement) = (None, None);
        }
        told
    }
}

/// Remarks as they can be made on a change's files, and the keys of those that cannot be.
pub(super) fn sorted(remarks: &[Remark], files: &[ChangedFile]) -> (Vec<Remark>, Vec<String>) {
    let lines = |file: &ChangedFile| Lines::of(file.patch.as_deref().unwrap_or_default());
    let files: BTreeMap<&str, Lines> = files.iter().map(|file| (file.path.as_str(), lines(file))).collect();
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for remark in remarks {
        match files.get(remark.path.as_str()).and_then(|lines| lines.span(remark)) {
            Some(span) => inside.push(span.told(remark)),
            None => outside.push(remark.key.clone()),
        }
    }
    (inside, outside)
}

impl Lines {
    /// Where a remark is shown. All of its lines must be of one hunk, or it stands at its last line.
    pub(super) fn span(&self, remark: &Remark) -> Option<Span> {
        let last = self.place(remark.side, remark.line)?;
        let shown = |start: &u64| (*start..remark.line).all(|line| self.place(remark.side, line).is_some());
        let first = remark.first_line().filter(shown).and_then(|start| self.place(remark.side, start));
        Some(Span { first, last })
    }

    /// Reads hunks.
    pub(super) fn of(patch: &str) -> Self {
        let mut lines = Self::default();
        let (mut old, mut new) = (0u64, 0u64);
        // Lines that the hunk still holds: what follows is not of it.
        let (mut old_left, mut new_left) = (0u64, 0u64);
        for line in patch.lines() {
            if old_left == 0 && new_left == 0 {
                if let Some(hunk) = hunk(line) {
                    ((old, old_left), (new, new_left)) = hunk;
                }
                continue;
            }
            match line.as_bytes().first() {
                Some(b'+') => {
                    lines.new.insert(new, Place { old: None, new: Some(new), at: (old, new) });
                    new += 1;
                    new_left = new_left.saturating_sub(1);
                }
                Some(b'-') => {
                    lines.old.insert(old, Place { old: Some(old), new: None, at: (old, new) });
                    old += 1;
                    old_left = old_left.saturating_sub(1);
                }
                Some(b'\\') => {}
                _ => {
                    let both = Place { old: Some(old), new: Some(new), at: (old, new) };
                    lines.new.insert(new, both);
                    lines.old.insert(old, both);
                    (old, new) = (old + 1, new + 1);
                    (old_left, new_left) = (old_left.saturating_sub(1), new_left.saturating_sub(1));
                }
            }
        }
        lines
    }

    /// Where a line is shown.
    pub(super) fn place(&self, side: LineSide, line: u64) -> Option<Place> {
        match side {
            LineSide::New => self.new.get(&line).copied(),
            LineSide::Old => self.old.get(&line).copied(),
        }
    }
}

/// The hunks of each file of a whole difference, in its order; `None`: it has none (binary, a rename alone).
pub(super) fn patches(whole: &str) -> Vec<Option<String>> {
    let mut files: Vec<Option<String>> = Vec::new();
    let (mut old_left, mut new_left) = (0u64, 0u64);
    for line in whole.split('\n') {
        let inside = old_left > 0 || new_left > 0;
        let head = if inside { None } else { hunk(line) };
        if let Some(((_, old), (_, new))) = head {
            (old_left, new_left) = (old, new);
        } else if inside {
            match line.as_bytes().first() {
                Some(b'+') => new_left = new_left.saturating_sub(1),
                Some(b'-') => old_left = old_left.saturating_sub(1),
                Some(b'\\') => {}
                _ => (old_left, new_left) = (old_left.saturating_sub(1), new_left.saturating_sub(1)),
            }
        } else if line.starts_with("diff --git ") {
            files.push(None);
            continue;
        } else if !line.starts_with('\\') {
            continue;
        }
        if let Some(file) = files.last_mut() {
            let text = file.get_or_insert_default();
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(line);
        }
    }
    files
}

/// `@@ -1,2 +3,4 @@`: where the sides begin, and how many lines of each there are.
fn hunk(line: &str) -> Option<((u64, u64), (u64, u64))> {
    let mut words = line.strip_prefix("@@ -")?.split(' ');
    let side = |word: &str| -> Option<(u64, u64)> {
        match word.split_once(',') {
            Some((at, count)) => Some((at.parse().ok()?, count.parse().ok()?)),
            None => Some((word.parse().ok()?, 1)),
        }
    };
    Some((side(words.next()?)?, side(words.next()?.strip_prefix('+')?)?))
}

/// A text to put in a line's place, in a fence that it cannot close.
pub(super) fn suggestion(word: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{word}\n{}\n{fence}", text.trim_end_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_removed_and_unchanged_lines_have_their_places() {
        let lines =
            Lines::of("@@ -1,3 +1,3 @@ fn main\n a\n-b\n+B\n c\n\\ No newline at end of file\n@@ -10 +10,2 @@\n x\n+y");
        let place = |side, line| lines.place(side, line).map(|place| (place.old, place.new));
        assert_eq!(place(LineSide::New, 1), Some((Some(1), Some(1))));
        assert_eq!(place(LineSide::New, 2), Some((None, Some(2))));
        assert_eq!(place(LineSide::Old, 2), Some((Some(2), None)));
        assert_eq!(place(LineSide::New, 3), Some((Some(3), Some(3))));
        assert_eq!(place(LineSide::New, 11), Some((None, Some(11))));
        assert_eq!(place(LineSide::New, 4), None);
        assert_eq!(place(LineSide::Old, 11), None);
    }

    #[test]
    fn a_suggestion_cannot_close_its_own_fence() {
        assert_eq!(suggestion("suggestion", "let a = 1;\n"), "```suggestion\nlet a = 1;\n```");
        assert_eq!(suggestion("suggestion", "````\nx"), "`````suggestion\n````\nx\n`````");
    }
}
