//! Discussions at lines.

use super::Gitlab;
use super::wire::{DiffRefs, FileWire};
use crate::adapter::forge::http::Kind;
use crate::adapter::forge::lines::{Lines, Place, Span};
use crate::port::forge::{ForgeError, NewReview, Reviewed, Reviews};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Map, Value, json};
use sha1::{Digest, Sha1};
use std::collections::BTreeMap;

/// Where a remark stands, as GitLab counts: an added line by its new number, a removed one by its old number, one that
/// is the same by both. A renamed file keeps both of its names on every line. Of several lines the first and the last
/// are named by their `line_code` as well.
fn position(file: &FileWire, span: Span, refs: &DiffRefs) -> Value {
    let mut position = json!({
        "position_type": "text", "base_sha": refs.base_sha, "start_sha": refs.start_sha, "head_sha": refs.head_sha,
        "old_path": file.old_path, "new_path": file.new_path,
    });
    if let Some(fields) = position.as_object_mut() {
        lines(fields, span.last);
        if let Some(first) = span.first {
            let end = |place| line(file, place);
            fields.insert("line_range".into(), json!({ "start": end(first), "end": end(span.last) }));
        }
    }
    position
}

/// One end of several lines.
fn line(file: &FileWire, place: Place) -> Value {
    let mut end = json!({ "line_code": line_code(&file.new_path, place) });
    if let Some(fields) = end.as_object_mut() {
        match (place.old, place.new) {
            (None, _) => fields.insert("type".into(), "new".into()),
            (_, None) => fields.insert("type".into(), "old".into()),
            _ => None,
        };
        lines(fields, place);
    }
    end
}

fn lines(fields: &mut Map<String, Value>, place: Place) {
    for (name, line) in [("old_line", place.old), ("new_line", place.new)] {
        if let Some(line) = line {
            fields.insert(name.to_owned(), line.into());
        }
    }
}

/// GitLab's name of a line: its file's, and where both sides stand at it. A side that does not have it stands at the
/// line that comes next there.
fn line_code(path: &str, place: Place) -> String {
    let name: String = Sha1::digest(path.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}_{}_{}", place.at.0, place.at.1)
}

#[async_trait]
impl Reviews for Gitlab {
    async fn review(&self, review: &NewReview<'_>) -> Result<Reviewed, ForgeError> {
        let mut done = Reviewed::default();
        let doing = "writing a remark";
        let number = review.number.to_string();
        if !review.remarks.is_empty() {
            let refs = self.merge(review.number).await?.diff_refs;
            let Some(refs) = refs.filter(|refs| refs.base_sha.is_some() && refs.head_sha.is_some()) else {
                return Err(ForgeError::Contract {
                    doing: doing.into(),
                    message: "GitLab has not prepared the merge request's difference yet; run again in a minute".into(),
                });
            };
            if refs.head_sha.as_deref() != Some(review.commit) {
                let message = format!("the merge request's head is no longer {}; nothing was remarked", review.commit);
                return Err(ForgeError::Moved { name: format!("!{number}"), message });
            }
            let files = self.files(review.number).await?;
            let lines: BTreeMap<&str, (&FileWire, Lines)> =
                files.iter().map(|file| (file.new_path.as_str(), (file, Lines::of(&file.diff)))).collect();
            for remark in review.remarks {
                let place =
                    lines.get(remark.path.as_str()).and_then(|(file, lines)| Some((*file, lines.span(remark)?)));
                let Some((file, span)) = place else {
                    done.outside.push(remark.key.clone());
                    continue;
                };
                let word = format!("suggestion:-{}+0", remark.lines_before());
                let words = self.at.marks.remark(review.number, &span.told(remark), &word);
                let body = json!({ "body": words, "position": position(file, span, &refs) });
                let parts = ["merge_requests", number.as_str(), "discussions"];
                let look = || async { Ok(self.our_thread(review.number, &remark.key).await?.map(|_| ())) };
                let make =
                    || async { self.write(Method::POST, &parts, body.clone(), doing, Kind::Once).await.map(|_| ()) };
                let (_, made) = self.at.http.once_only(look, make).await?;
                if made {
                    done.made += 1;
                } else {
                    done.kept += 1;
                }
            }
        }
        for key in review.resolved {
            let Some((id, false)) = self.our_thread(review.number, key).await? else { continue };
            let parts = ["merge_requests", number.as_str(), "discussions", &id];
            let body = json!({ "resolved": true });
            match self.write(Method::PUT, &parts, body, "resolving a thread", Kind::Again).await {
                Ok(_) => done.resolved += 1,
                Err(error) => done.told.push(format!("a thread was not resolved: {}", error.into_inner())),
            }
        }
        Ok(done)
    }
}
