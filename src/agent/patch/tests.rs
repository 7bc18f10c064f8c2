use super::*;
use proptest::prelude::*;
use similar::TextDiff;

fn one(patch: &str) -> FilePatch {
    let mut files = parse(patch).unwrap();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

const FILE: &str = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n";

#[test]
fn a_patch_as_git_writes_it() {
    let patch = "diff --git a/src/new.rs b/src/new.rs\nnew file mode 100755\nindex 0000000..e69de29\n--- /dev/null\n+++ b/src/new.rs\n@@ -0,0 +1,2 @@\n+fn main() {\n+}\n\
                 diff --git a/old name.txt b/new name.txt\nsimilarity index 90%\nrename from old name.txt\nrename to new name.txt\nindex 1..2 100644\n--- a/old name.txt\n+++ b/new name.txt\n@@ -1,3 +1,3 @@ heading\n one\n-two\n+TWO\n three\n\
                 diff --git a/gone b/gone\ndeleted file mode 100644\nindex 1..0\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-bye\n\\ No newline at end of file\n\
                 diff --git \"a/caf\\303\\251\" \"b/caf\\303\\251\"\nold mode 100644\nnew mode 100755\n\
                 diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y\n";
    let files = parse(patch).unwrap();
    assert_eq!(files.len(), 5, "{files:#?}");
    assert_eq!(
        (files[0].old_path.as_deref(), files[0].new_path.as_deref(), files[0].executable),
        (None, Some("src/new.rs"), Some(true))
    );
    assert_eq!(apply(None, &files[0]), Ok(Some("fn main() {\n}\n".into())));
    assert!(apply(Some("here"), &files[0]).unwrap_err().contains("exists already"));
    assert_eq!(
        (files[1].old_path.as_deref(), files[1].new_path.as_deref()),
        (Some("old name.txt"), Some("new name.txt"))
    );
    assert_eq!(apply(Some(FILE), &files[1]), Ok(Some(FILE.replace("two", "TWO"))));
    assert_eq!((files[2].old_path.as_deref(), files[2].new_path.as_deref()), (Some("gone"), None));
    assert_eq!(apply(Some("bye"), &files[2]), Ok(None));
    assert!(apply(Some("bye\nmore\n"), &files[2]).is_err());
    assert_eq!((files[3].path(), files[3].executable), ("café", Some(true)));
    assert_eq!(apply(Some("text"), &files[3]), Ok(Some("text".into())));
    assert_eq!((files[4].old_path.as_deref(), files[4].new_path.as_deref()), (Some("x"), Some("y")));
}

#[test]
fn a_patch_as_models_write_it() {
    // Prose and a code fence around it, wrong counts, wrong line numbers, trimmed empty context lines.
    let patch =
        "Here is the fix:\n```diff\n--- a/f\n+++ b/f\n@@ -40,2 +40,9 @@\n three\n-four\n+FOUR\n five\n```\nDone.";
    assert_eq!(apply(Some(FILE), &one(patch)), Ok(Some(FILE.replace("four", "FOUR"))));
    let patch = "--- f\n+++ f\n@@\n-six\n+SIX\n";
    assert_eq!(apply(Some(FILE), &one(patch)), Ok(Some(FILE.replace("six", "SIX"))));
    let patch = "--- a/f\n+++ b/f\n@@ -1,3 +1,4 @@\n a\n\n-b\n+B\n+C\n\n";
    assert_eq!(apply(Some("a\n\nb\n"), &one(patch)), Ok(Some("a\n\nB\nC\n".into())));
    let two = "--- a/f\n+++ b/f\n@@ -1,1 +1,1 @@\n-one\n+ONE\n--- a/g\n+++ b/g\n@@ -7 +7 @@\n-seven\n+SEVEN\n";
    assert_eq!(parse(two).unwrap().iter().map(FilePatch::path).collect::<Vec<_>>(), ["f", "g"]);
    // Lines of a body that look like headers.
    let sql = "--- a/q.sql\n+++ b/q.sql\n@@ -1,2 +1,2 @@\n select 1;\n--- old comment\n+++ new comment\n";
    assert_eq!(apply(Some("select 1;\n-- old comment\n"), &one(sql)), Ok(Some("select 1;\n++ new comment\n".into())));
}

#[test]
fn drift_is_followed_and_ambiguity_refused() {
    let shifted = format!("new first line\n{FILE}");
    let patch = one("--- a/f\n+++ b/f\n@@ -2,2 +2,2 @@\n two\n-three\n+3\n@@ -6,2 +6,2 @@\n six\n-seven\n+7\n");
    assert_eq!(apply(Some(&shifted), &patch), Ok(Some(shifted.replace("three", "3").replace("seven", "7"))));
    let twice = "x\na\ny\na\nz\n";
    let patch = one("--- a/f\n+++ b/f\n@@ -9 +9 @@\n-a\n+b\n");
    let error = apply(Some(twice), &patch).unwrap_err();
    assert!(error.contains("hunk 1") && error.contains("lines 2, 4"), "{error}");
    let patch = one("--- a/f\n+++ b/f\n@@ -4 +4 @@\n-a\n+b\n");
    assert_eq!(apply(Some(twice), &patch), Ok(Some("x\na\ny\nb\nz\n".into())));
}

#[test]
fn errors_say_which_hunk_and_what_is_near() {
    let patch = one("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-one\n+1\n@@ -4,2 +4,2 @@\n four\n-fife\n+5\n");
    let error = apply(Some(FILE), &patch).unwrap_err();
    assert!(
        error.contains("hunk 2") && error.contains("lines 4-5") && error.contains("-fife") && error.contains("+five"),
        "{error}"
    );
    assert!(apply(None, &patch).unwrap_err().contains("no such file"));
    for (text, word) in [
        ("just words", "no patch"),
        ("*** Begin Patch\n*** Update File: x", "another format"),
        ("@@ -1 +1 @@\n-a\n+b\n", "a hunk without"),
        ("--- a/f\n+++ b/f\n", "no `@@` hunk"),
        ("--- a/f\n+++ b/f\n@@ -x +y @@\n a\n", "not a hunk header"),
        ("--- /dev/null\n+++ /dev/null\n@@ -1 +1 @@\n a\n", "/dev/null"),
        ("diff --git a/i b/i\nGIT binary patch\nliteral 0\n", "binary"),
    ] {
        assert!(parse(text).unwrap_err().contains(word), "{text}: {:?}", parse(text));
    }
}

#[test]
fn line_endings_are_kept() {
    let patch = "--- a/f\n+++ b/f\n@@ -1,2 +1,3 @@\n one\n-two\n+TWO\n+2\n";
    assert_eq!(apply(Some("one\r\ntwo\r\n"), &one(patch)), Ok(Some("one\r\nTWO\r\n2\r\n".into())));
    let crlf = patch.replace('\n', "\r\n");
    assert_eq!(apply(Some("one\ntwo\n"), &one(&crlf)), Ok(Some("one\nTWO\n2\n".into())));
    assert_eq!(apply(Some("one\r\ntwo\r\n"), &one(&crlf)), Ok(Some("one\r\nTWO\r\n2\r\n".into())));
}

proptest! {
    #[test]
    fn a_diff_applied_to_the_old_text_gives_the_new_one(
        a in prop::collection::vec("[ab\\-+@ ]{0,3}", 0..14), b in prop::collection::vec("[ab\\-+@ ]{0,3}", 0..14),
        a_newline in any::<bool>(), b_newline in any::<bool>(), context in 0usize..4,
    ) {
        let join = |lines: &[String], newline: bool| {
            let text = lines.join("\n");
            if newline && !text.is_empty() { text + "\n" } else { text }
        };
        let (a, b) = (join(&a, a_newline), join(&b, b_newline));
        prop_assume!(a != b);
        let diff = TextDiff::from_lines(a.as_str(), b.as_str());
        let patch = diff.unified_diff().context_radius(context).header("a/file", "b/file").to_string();
        let files = parse(&patch).map_err(|error| TestCaseError::fail(format!("{error}\n{patch}")))?;
        prop_assert_eq!(files.len(), 1);
        prop_assert_eq!(apply(Some(&a), &files[0]), Ok(Some(b)), "{}", patch);
    }

    #[test]
    fn any_text_is_read_without_panic(text in "(---|\\+\\+\\+|@@|diff --git|-1|,| |a/f|b/f|\"|\\\\|\n|x|\r){0,40}", file in "[ab\n\r]{0,20}") {
        if let Ok(files) = parse(&text) {
            for patch in files {
                let _ = apply(Some(&file), &patch);
                let _ = apply(None, &patch);
            }
        }
    }
}
