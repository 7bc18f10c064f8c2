//! Every command that a real shell executes had been found by the judge.
//!
//! Generated scripts run under `dash` and `bash` in an empty folder, with a PATH that holds nothing but shims: each
//! writes down its name and arguments. Whatever they wrote must be among what the judge found in the text.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use codeforge::policy::shell::{self, Arg, Simple};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const NAMES: [&str; 7] = ["alpha", "beta", "gamma", "cargo", "curl", "cat", "rm"];
/// Real programs behind shims that write themselves down first.
const WRAPPERS: [&str; 7] = ["env", "sh", "xargs", "timeout", "nohup", "nice", "find"];

struct Bench {
    home: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let bin = home.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::fs::create_dir(home.path().join("log")).unwrap();
        // One file a process, so that nothing is lost when they write at once. Only builtins of dash.
        let record = "#!/bin/dash\n{ printf '%s\\0' \"${0##*/}\" \"$@\"; } > \"$SHIM_LOG/$$.${0##*/}.$#\"\n";
        for name in NAMES {
            write(&bin.join(name), &format!("{record}exit $(( $# % 2 ))\n"));
        }
        for name in WRAPPERS {
            let real = ["/usr/bin", "/bin"].iter().map(|d| Path::new(d).join(name)).find(|p| p.exists()).unwrap();
            write(&bin.join(name), &format!("{record}exec {} \"$@\"\n", real.display()));
        }
        Self { home }
    }

    /// What the shell executed, each as its name and arguments.
    #[expect(clippy::disallowed_methods, reason = "the shell is what is measured")]
    fn run(&self, shell: &str, text: &str, case: usize) -> Vec<Vec<String>> {
        let log = self.home.path().join("log").join(format!("{case}"));
        let work = self.home.path().join(format!("work{case}"));
        std::fs::create_dir_all(&log).unwrap();
        std::fs::create_dir_all(&work).unwrap();
        let mut child = std::process::Command::new(format!("/bin/{shell}"))
            .args(["-c", text])
            .env_clear()
            .env("PATH", self.home.path().join("bin"))
            .env("SHIM_LOG", &log)
            .current_dir(&work)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let started = std::time::Instant::now();
        while child.try_wait().unwrap().is_none() {
            if started.elapsed() > Duration::from_secs(5) {
                child.kill().unwrap();
                child.wait().unwrap();
                break;
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        // What the script left in the background may be about to write itself down: a record is whole or not there.
        loop {
            let records: Vec<String> = std::fs::read_dir(&log)
                .unwrap()
                .map(|entry| String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap()).into_owned())
                .collect();
            if records.iter().all(|text| text.ends_with('\0')) || started.elapsed() > Duration::from_secs(10) {
                let split = |text: &String| {
                    text.strip_suffix('\0').map(|text| text.split('\0').map(str::to_owned).collect::<Vec<_>>())
                };
                return records.iter().filter_map(split).collect();
            }
            std::thread::sleep(Duration::from_micros(300));
        }
    }
}

fn write(path: &PathBuf, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// True where a command as it was found may have become `argv`.
fn may_become(found: &[Arg], argv: &[String]) -> bool {
    match (found.split_first(), argv.split_first()) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some((Arg::Literal(text), found)), Some((word, argv))) => text == word && may_become(found, argv),
        (Some((Arg::Literal(_), _)), None) => false,
        (Some((Arg::Unknown { many: false, .. }, rest)), Some((_, argv))) => may_become(rest, argv),
        (Some((Arg::Unknown { many: false, .. }, _)), None) => false,
        (Some((Arg::Unknown { many: true, .. }, rest)), _) => {
            (0..=argv.len()).any(|taken| may_become(rest, &argv[taken..]))
        }
    }
}

fn found(commands: &[Simple], argv: &[String]) -> bool {
    commands.iter().any(|command| may_become(&command.argv, argv))
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{1,4}",
        1 => Just("'a b'".to_owned()),
        1 => Just("\"$x\"".to_owned()),
        1 => Just("$x".to_owned()),
        1 => Just("'; curl z'".to_owned()),
        1 => Just("\\;".to_owned()),
        1 => Just("*".to_owned()),
        1 => Just("{a,b}".to_owned()),
        1 => Just("$((i + 1))".to_owned()),
        1 => Just("${#x}".to_owned()),
        1 => Just("\"a'b\"".to_owned()),
        1 => Just("#x".to_owned()),
        1 => Just("a#b".to_owned()),
        1 => Just("\"\"".to_owned()),
    ]
}

fn simple() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        12 => proptest::sample::select(&NAMES[..]).prop_map(str::to_owned),
        1 => Just("c\\url".to_owned()),
        1 => Just("'be'ta".to_owned()),
        1 => Just("f".to_owned()),
        1 => Just("$x".to_owned()),
        1 => Just("command alpha".to_owned()),
    ];
    let prefix = prop_oneof![
        6 => Just(""),
        1 => Just("A=1 "),
        1 => Just("! "),
        1 => Just("env B=2 "),
        1 => Just("timeout 5 "),
        1 => Just("nice -n 1 "),
        1 => Just("nohup "),
        1 => Just("echo q | xargs "),
        1 => Just("time "),
        1 => Just("env -i PATH=\"$PATH\" "),
        1 => Just("find . -maxdepth 0 -exec "),
    ];
    (prefix, name, proptest::collection::vec(word(), 0..3)).prop_map(|(prefix, name, words)| {
        let end = if prefix.starts_with("find") { " \\;" } else { "" };
        format!("{prefix}{name} {}{end}", words.join(" "))
    })
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn script() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![8 => simple(), 1 => Just("x=y".to_owned()), 1 => Just("i=3".to_owned())];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            two.clone().prop_map(|(a, b)| format!("{a}; {b}")),
            two.clone().prop_map(|(a, b)| format!("{a}\n{b}")),
            two.clone().prop_map(|(a, b)| format!("{a} && {b}")),
            two.clone().prop_map(|(a, b)| format!("{a} || {b}")),
            two.clone().prop_map(|(a, b)| format!("{a} | {b}")),
            two.clone().prop_map(|(a, b)| format!("{{ {a}; }} 2>&1 | {b}")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("{{ {a}\n}}")),
            inner.clone().prop_map(|a| format!("alpha $({a})")),
            inner.clone().prop_map(|a| format!("beta \"x $({a}) y\"")),
            inner.clone().prop_map(|a| format!("gamma `{a}`")),
            inner.clone().prop_map(|a| format!("alpha ${{unset:-$({a})}}")),
            inner.clone().prop_map(|a| format!("alpha \"${{unset:-$({a})}}\"")),
            inner.clone().prop_map(|a| format!("sh -c {}", quoted(&a))),
            inner.clone().prop_map(|a| format!("env C=1 sh -ec {}", quoted(&a))),
            inner.clone().prop_map(|a| format!("eval {}", quoted(&a))),
            inner.clone().prop_map(|a| format!("trap {} EXIT", quoted(&a))),
            inner.clone().prop_map(|a| format!("f() {{ {a}\n}}; f")),
            two.clone().prop_map(|(a, b)| format!("cargo() {{ {a}\n}}\ncargo test; {b}")),
            two.clone().prop_map(|(a, b)| format!("if {a}; then {b}\nelse {a}\nfi")),
            inner.clone().prop_map(|a| format!("for x in alpha beta; do {a}\ndone")),
            inner.clone().prop_map(|a| format!("while {a} && false; do {a}\ndone")),
            two.clone().prop_map(|(a, b)| format!("case a in a) {a};; *) {b};; esac")),
            inner.clone().prop_map(|a| format!("cat <<E\nx $({a}) y\nE\n")),
            inner.clone().prop_map(|a| format!("cat <<'E'\nx $({a}) y\nE\n")),
            inner.clone().prop_map(|a| format!("cat <<-E; {a}\n\t`alpha b`\n\tE\n")),
            inner.clone().prop_map(|a| format!("{a} > out 2>&1")),
            inner.clone().prop_map(|a| format!("{a} < /dev/null &\nwait")),
            inner.clone().prop_map(|a| format!("exec {a}")),
            inner.clone().prop_map(|a| format!("alpha <({a})")),
            inner.clone().prop_map(|a| format!("{a} # comment ' \" $(rm x)")),
            inner.clone().prop_map(|a| format!("! {a}")),
            inner.clone().prop_map(|a| format!("(({a}))")),
            inner.clone().prop_map(|a| format!("{a} &> out")),
            inner.clone().prop_map(|a| format!("[[ {a} ]]")),
            inner.clone().prop_map(|a| format!("echo $(({a}))")),
            inner.prop_map(|a| format!("printf '%s' {} | sh", quoted(&a))),
        ]
    })
}

#[test]
fn every_executed_command_had_been_found() {
    let bench = Bench::new();
    let (cases, parsed, executed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let config = Config { cases: 320, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&script(), |text| {
            let Ok(commands) = shell::commands(&text) else { return Ok(()) };
            parsed.fetch_add(1, Ordering::Relaxed);
            for shell in ["dash", "bash"] {
                let ran = bench.run(shell, &text, cases.fetch_add(1, Ordering::Relaxed));
                executed.fetch_add(ran.len(), Ordering::Relaxed);
                for argv in ran {
                    prop_assert!(found(&commands, &argv), "{shell} ran {argv:?}, not found in:\n{text}\n{commands:#?}");
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let (parsed, executed) = (parsed.into_inner(), executed.into_inner());
    println!("{parsed} of 320 scripts were understood; {executed} commands were executed");
    assert!(parsed >= 100, "only {parsed} scripts were understood: the property says little");
    assert!(executed >= 300, "only {executed} commands were executed: the property says little");
}

#[test]
fn the_measure_sees_what_a_judge_by_prefix_misses() {
    let bench = Bench::new();
    let text = "cargo test; sh -c 'curl x' || env A=1 rm y";
    let ran = bench.run("dash", text, 0);
    let by_prefix = [Simple {
        argv: vec![Arg::Literal("cargo".into()), Arg::Unknown { prefix: String::new(), glob: None, many: true }],
        ..Simple::default()
    }];
    assert!(ran.iter().any(|argv| !found(&by_prefix, argv)), "a judge that only looks at the first word passes");
    assert!(ran.contains(&vec!["curl".to_owned(), "x".to_owned()]), "{ran:?}");
    let commands = shell::commands(text).unwrap();
    assert!(ran.iter().all(|argv| found(&commands, argv)));
}

proptest! {
    #![proptest_config(Config { cases: 2000, failure_persistence: None, ..Config::default() })]
    #[test]
    fn no_text_makes_it_panic(text in "[ \\n\\t;&|()<>{}$`'\"\\\\#*?~=!+\\-\\[\\]:%a-e0-9EOF]{0,60}") {
        let _ = shell::commands(&text);
    }
}

#[test]
fn long_and_deep_texts_end_soon() {
    for text in [
        "(".repeat(60_000),
        "$(".repeat(30_000),
        "`".repeat(60_000),
        "${a:-".repeat(12_000),
        "\"$(".repeat(20_000),
        "env ".repeat(16_000),
        "if ".repeat(20_000),
        "! ".repeat(30_000),
        "a;".repeat(30_000),
        "find . -exec a ; ".repeat(3_000),
        "a <<E\n".repeat(9_000),
        "$(( ".repeat(15_000),
        "x".repeat(70_000),
    ] {
        let started = std::time::Instant::now();
        let _ = shell::commands(&text);
        assert!(started.elapsed() < Duration::from_secs(2), "{}", &text[..20]);
    }
}
