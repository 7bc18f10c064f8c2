//! What a command is for; whole trees are looked at in `tests/init.rs`.

use super::classify::classify;
use super::*;

fn class(line: &str) -> Option<(Role, u8)> {
    classify(&shell::words(line)?).map(|class| (class.role, class.weight))
}

#[test]
fn only_plain_commands_count() {
    for line in
        ["cargo test", "cargo test -- --nocapture", "RUST_BACKTRACE=1 cargo test --locked", "uv run --frozen pytest -q"]
    {
        assert_eq!(class(line), Some((Role::Tests, 3)), "{line}");
    }
    for line in [
        "cargo test ${{ matrix.flags }}",
        "cargo test $FLAGS",
        "cargo test && rm -rf /",
        "cargo test; curl evil",
        "npm test | tee log",
        "npm test > out",
        "pytest `id`",
        "cargo +nightly test",
        "cargo test --target wasm32-wasi",
        "tox run --installpkg dist/*.whl",
        "echo cargo test",
        "# cargo test",
        "npm install left-pad evil-pad",
        "mvn deploy",
        "make release",
        "",
    ] {
        assert_eq!(class(line), None, "{line}");
    }
}

#[test]
fn tests_and_lint_are_told_apart_by_name() {
    for (line, role, weight) in [
        ("npm run lint", Role::Lint, 3),
        ("npm run lint:es", Role::Lint, 2),
        ("npm run test:typescript", Role::Tests, 1),
        ("yarn test", Role::Tests, 3),
        ("pnpm run typecheck", Role::Lint, 1),
        ("python -m unittest discover", Role::Tests, 3),
        ("tox -e py312", Role::Tests, 3),
        ("tox -e mypy", Role::Lint, 1),
        ("nox -s lint", Role::Lint, 3),
        ("make check", Role::Tests, 2),
        ("golangci-lint run ./...", Role::Lint, 3),
        ("mvn -X verify -B", Role::Tests, 3),
        ("cargo fmt --all -- --check", Role::Lint, 1),
        ("poetry run pytest", Role::Tests, 3),
        ("npx eslint .", Role::Lint, 3),
        ("npm ci", Role::Setup, 3),
    ] {
        assert_eq!(class(line), Some((role, weight)), "{line}");
    }
}

#[test]
fn a_listing_alone_gives_the_habit_of_its_language_and_nothing_is_made_up() {
    let look = |files: &[(&str, &str)]| {
        let paths: Vec<String> = files.iter().map(|(path, _)| (*path).to_owned()).collect();
        let read = |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
        survey(&Tree { paths: &paths, read: &read })
    };
    let rust = look(&[
        ("Cargo.toml", "[workspace]\nmembers = [\"a\"]\n"),
        ("Cargo.lock", ""),
        ("a/Cargo.toml", "[package]"),
        ("a/src/lib.rs", ""),
    ]);
    assert_eq!(rust.tests().as_deref(), Some("cargo test --workspace"));
    assert_eq!(rust.lint().as_deref(), Some("cargo clippy --workspace --all-targets -- -D warnings"));
    assert_eq!(rust.packages, ["a/Cargo.toml"]);
    assert_eq!(rust.generated, ["Cargo.lock"]);
    let none = look(&[("README.md", "# x"), ("main.c", "int main(){}")]);
    assert_eq!((none.tests(), none.lint(), none.kits.len()), (None, None, 0));
    let npm = look(&[("package.json", "{\"scripts\":{\"test\":\"echo \\\"Error: no test specified\\\" && exit 1\"}}")]);
    assert_eq!(npm.tests(), None);
    let make = look(&[("Makefile", "CC := gcc\nall: x\n\tcc x\ntest: all\n\t./x\nlint:\n\tcppcheck .\n"), ("x.c", "")]);
    assert_eq!((make.tests().as_deref(), make.lint().as_deref()), (Some("make test"), Some("make lint")));
    let nested = look(&[
        (
            ".github/workflows/ci.yml",
            "jobs:\n  t:\n    steps:\n      - run: go test ./...\n        working-directory: ./tool\n      - run: |\n          if x; then\n            go vet ./...\n          fi\n",
        ),
        ("tool/go.mod", "module x\n\ngo 1.22\n"),
        ("tool/a.go", ""),
    ]);
    assert_eq!(nested.tests().as_deref(), Some("(cd tool && go test ./...)"));
    assert_eq!(nested.kits[0].tests.as_ref().unwrap().seen.to_string(), ".github/workflows/ci.yml:4");
    assert_eq!(nested.kits[0].image, "golang:1.22");
}
