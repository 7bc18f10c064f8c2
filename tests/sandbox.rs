//! One compliance suite for all sandbox drivers: each scenario runs under each driver that can hold it.

#![expect(clippy::unwrap_used, reason = "scenarios stop at the first surprise, in their helpers too")]

use codeforge::adapter::sandbox::docker::Docker;
use codeforge::adapter::sandbox::native::{Native, Toolchains};
use codeforge::adapter::sandbox::none::Plain;
use codeforge::model::exec::{Command, DriverKind, ExecOutcome, ExecStatus};
use codeforge::model::plan::Resources;
use codeforge::port::sandbox::{Home, OpenSandbox, Order, Sandbox, SandboxDriver, SandboxError};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const IMAGE: &str = "codeforge-test:latest";

/// The drivers with a wall.
fn walls() -> Vec<Box<dyn SandboxDriver>> {
    vec![
        Box::new(Native::new(PathBuf::from(env!("CARGO_BIN_EXE_codeforge")), Toolchains::system())),
        Box::new(Docker::new(None)),
    ]
}

fn all() -> Vec<Box<dyn SandboxDriver>> {
    let mut drivers = walls();
    drivers.push(Box::new(Plain::new("/usr/bin:/bin".into(), None)));
    drivers
}

/// A workspace owned by a user who is not root, and what to open on it.
struct Ground {
    folder: tempfile::TempDir,
    order: OpenSandbox,
}

fn ground() -> Ground {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let folder = tempfile::tempdir().unwrap();
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let owner = if user.is_root() { (1000, 1000) } else { (user.as_raw(), group.as_raw()) };
    let workspace = folder.path().join("workspace");
    let ground = Ground {
        order: OpenSandbox {
            run: format!("t{}", std::process::id()).as_str().into(),
            name: format!("s{}", COUNT.fetch_add(1, Ordering::Relaxed)),
            workspace,
            writable: true,
            git_dir: None,
            git_objects: None,
            source: None,
            home: Home::Fresh,
            image: Some(IMAGE.into()),
            resources: Resources { memory: 128 << 20, cpus: 1.0, pids: 64, disk: 16 << 20 },
            network: false,
            env: Default::default(),
            owner,
            loopback: None,
            guest: None,
        },
        folder,
    };
    ground.folder_of("workspace");
    ground
}

impl Ground {
    fn folder_of(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        self.own(&path);
        path
    }

    fn own(&self, path: &Path) {
        if nix::unistd::geteuid().is_root() {
            chown(path, Some(self.order.owner.0), Some(self.order.owner.1)).unwrap();
        }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        std::fs::write(&path, text).unwrap();
        self.own(&path);
    }
}

async fn sh(sandbox: &dyn Sandbox, text: &str) -> ExecOutcome {
    let command = Command { timeout_ms: 60_000, ..Command::shell(text) };
    sandbox.exec(Order::Operator(command), &|_| {}).await.unwrap()
}

#[tokio::test]
async fn exit_codes_output_and_variables_come_through() {
    for driver in all() {
        let ground = ground();
        let kind = driver.kind();
        let mut order = ground.order.clone();
        order.env.insert("FROM_ORDER".into(), "one two".into());
        let sandbox = driver.open(&order).await.unwrap();
        let sandbox = sandbox.as_ref();
        assert_eq!(sh(sandbox, "true").await.status, ExecStatus::Exited(0), "{kind:?}");
        assert_eq!(sh(sandbox, "exit 7").await.status, ExecStatus::Exited(7), "{kind:?}");
        assert_eq!(sh(sandbox, "kill -9 $$").await.status, ExecStatus::Signaled(9), "{kind:?}");
        let mixed =
            sh(sandbox, "for i in 1 2 3; do echo out$i; echo err$i >&2; done; printf '\\033[31mred\\033[0m\\r\\n'")
                .await;
        assert_eq!(mixed.output, "out1\nerr1\nout2\nerr2\nout3\nerr3\nred\n", "{kind:?}");
        let mut command = Command::shell("echo $FROM_ORDER/$OWN; pwd; cat <&0; echo $0 $1");
        command.env.insert("OWN".into(), "mine".into());
        command.argv.extend(["a b".into(), "$(id)".into()]);
        std::fs::create_dir_all(order.workspace.join("sub/dir")).unwrap();
        command.cwd = "sub/dir".into();
        let outcome = sandbox.exec(Order::Operator(command), &|_| {}).await.unwrap();
        assert!(outcome.output.starts_with("one two/mine\n"), "{kind:?} {}", outcome.output);
        assert!(outcome.output.ends_with("/sub/dir\na b $(id)\n"), "{kind:?} {}", outcome.output);
        let missing = Command { argv: vec!["no-such-program".into()], ..Command::shell("") };
        let outcome = sandbox.exec(Order::Operator(missing), &|_| {}).await.unwrap();
        assert_eq!(outcome.status, ExecStatus::Exited(127), "{kind:?}");
        assert!(outcome.output.contains("no-such-program"), "{kind:?}");
        let big = Command {
            output_cap: 1000,
            ..Command::shell("i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done")
        };
        let outcome = sandbox.exec(Order::Operator(big), &|_| {}).await.unwrap();
        assert!(outcome.output.starts_with("line 0\n") && outcome.output.ends_with("line 4999\n"), "{kind:?}");
        assert!(outcome.dropped > 40_000 && outcome.output.len() < 1100, "{kind:?}");
        sandbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn output_is_seen_before_the_command_ends() {
    for driver in all() {
        let ground = ground();
        let sandbox = driver.open(&ground.order).await.unwrap();
        // The command waits for a file that is made only once its first line was seen here.
        let flag = ground.order.workspace.join("seen");
        let seen = Mutex::new(String::new());
        let printed = |text: &str| {
            let mut all = seen.lock().unwrap();
            all.push_str(text);
            if all.contains("first") {
                std::fs::write(&flag, "").unwrap();
            }
        };
        let command = Command {
            timeout_ms: 30_000,
            ..Command::shell("echo first; while [ ! -e seen ]; do sleep 0.02; done; echo last")
        };
        let outcome = sandbox.exec(Order::Operator(command), &printed).await.unwrap();
        assert_eq!(outcome.output, "first\nlast\n", "{:?}", driver.kind());
        assert_eq!(*seen.lock().unwrap(), outcome.output);
        sandbox.close().await.unwrap();
    }
}

/// Processes of this machine whose command line holds a text.
fn living(text: &str) -> Vec<String> {
    let listing = std::fs::read_dir("/proc").unwrap().flatten();
    listing
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|entry| {
            let state = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            !state.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
        })
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(text))
        .collect()
}

#[tokio::test]
async fn the_deadline_and_the_end_take_the_whole_tree() {
    for (at, driver) in all().into_iter().enumerate() {
        let kind = driver.kind();
        let ground = ground();
        let sandbox = driver.open(&ground.order).await.unwrap();
        let token = 70_000 + std::process::id() * 10 % 1_000_000 + at as u32;
        let command = Command {
            timeout_ms: 700,
            ..Command::shell(format!(
                "setsid sh -c 'sleep {token}' & (setsid sleep {token} &) ; echo started; sleep {token}"
            ))
        };
        let started = Instant::now();
        let outcome = sandbox.exec(Order::Operator(command), &|_| {}).await.unwrap();
        assert_eq!(outcome.status, ExecStatus::TimedOut, "{kind:?} {outcome:?}");
        assert!(outcome.output.contains("started"), "{kind:?}");
        assert!(started.elapsed() < Duration::from_secs(9), "{kind:?} {:?}", started.elapsed());
        assert_eq!(living(&format!("sleep {token}")), Vec::<String>::new(), "{kind:?}");
        // What a finished command leaves ends with it, and does not hold it up.
        let left = token + 5_000_000;
        let outcome = sh(sandbox.as_ref(), &format!("setsid sleep {left} & sleep {left} & exit 3")).await;
        assert_eq!(outcome.status, ExecStatus::Exited(3), "{kind:?} {outcome:?}");
        assert_eq!(living(&format!("sleep {left}")), Vec::<String>::new(), "{kind:?}");
        assert_eq!(sh(sandbox.as_ref(), "echo still here").await.output, "still here\n", "{kind:?}");
        sandbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn commands_run_side_by_side() {
    for driver in all() {
        let ground = ground();
        let sandbox = driver.open(&ground.order).await.unwrap();
        // Each waits for the other.
        let (one, two) = tokio::join!(
            sh(sandbox.as_ref(), "touch one; while [ ! -e two ]; do sleep 0.02; done; echo a"),
            sh(sandbox.as_ref(), "touch two; while [ ! -e one ]; do sleep 0.02; done; echo b"),
        );
        assert_eq!((one.output.as_str(), two.output.as_str()), ("a\n", "b\n"), "{:?}", driver.kind());
        sandbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_command_that_only_reads_cannot_write() {
    for driver in walls() {
        let kind = driver.kind();
        let ground = ground();
        ground.write("workspace/file", "as it was");
        let sandbox = driver.open(&ground.order).await.unwrap();
        let command = Command {
            writable: false,
            ..Command::shell("cat file; echo changed > file; echo new > other; rm -f file")
        };
        let outcome = sandbox.exec(Order::Operator(command), &|_| {}).await.unwrap();
        assert!(outcome.output.starts_with("as it was"), "{kind:?} {}", outcome.output);
        assert_eq!(std::fs::read_to_string(ground.order.workspace.join("file")).unwrap(), "as it was", "{kind:?}");
        assert!(!ground.order.workspace.join("other").exists(), "{kind:?}");
        let outcome = sh(sandbox.as_ref(), "echo changed > file && mkdir d && mv file d/moved && cat d/moved").await;
        assert_eq!(outcome.output, "changed\n", "{kind:?}");
        sandbox.close().await.unwrap();
        let order = OpenSandbox { writable: false, name: format!("{}ro", ground.order.name), ..ground.order.clone() };
        let sandbox = driver.open(&order).await.unwrap();
        assert!(!sh(sandbox.as_ref(), "touch x").await.success(), "{kind:?}");
        sandbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_test_inside_reaches_a_server_of_its_own() {
    for driver in walls() {
        let ground = ground();
        let sandbox = driver.open(&ground.order).await.unwrap();
        // Twice: nothing of the first server is in the way of the second.
        for _ in 0..2 {
            let said = sh(
                sandbox.as_ref(),
                "busybox nc -l -p 8123 -e echo hello & \
                 for i in $(seq 100); do busybox nc 127.0.0.1 8123 2>/dev/null && exit; sleep 0.02; done; echo never",
            )
            .await;
            assert_eq!(said.output, "hello\n", "{:?}", driver.kind());
        }
        if driver.kind() == DriverKind::Native {
            // Nor do the connections of those before linger, whoever shares a network with them.
            let left = sh(sandbox.as_ref(), "grep -c ' 06 ' /proc/net/tcp").await;
            assert_eq!(left.output, "0\n");
        }
        sandbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn git_source_and_home_are_what_was_ordered() {
    for driver in walls() {
        let kind = driver.kind();
        let ground = ground();
        let mut order = ground.order.clone();
        ground.folder_of("workspace/.git");
        ground.write("workspace/.git/config", "host secret");
        ground.folder_of("source/.git");
        ground.write("source/.git/config", "source secret");
        ground.write("source/file", "source text");
        ground.folder_of("home");
        ground.folder_of("git");
        ground.write("git/HEAD", "disposable");
        ground.folder_of("objects");
        ground.write("objects/one", "object");
        let at = |name: &str| Some(ground.folder.path().join(name));
        order.source = at("source");
        order.home = Home::Kept(ground.folder.path().join("home"));
        let sandbox = driver.open(&order).await.unwrap();
        let outcome = sh(sandbox.as_ref(), "cat .git/config /source/.git/config; ls -A .git; cat /source/file; echo x >/source/file; echo kept > ~/kept").await;
        assert!(
            outcome.output.contains("source text") && !outcome.output.contains("secret"),
            "{kind:?} {}",
            outcome.output
        );
        assert_eq!(
            std::fs::read_to_string(ground.folder.path().join("source/file")).unwrap(),
            "source text",
            "{kind:?}"
        );
        assert_eq!(sh(sandbox.as_ref(), "cat $HOME/kept").await.output, "kept\n", "{kind:?}");
        sandbox.close().await.unwrap();

        // Another sandbox finds what is kept there, and what it writes is its own.
        order.home = Home::Over(ground.folder.path().join("home"));
        order.name.push('a');
        let sandbox = driver.open(&order).await.unwrap();
        let outcome =
            sh(sandbox.as_ref(), "cat ~/kept && echo new > ~/new && echo changed > ~/kept && cat ~/kept ~/new").await;
        assert_eq!(outcome.output, "kept\nchanged\nnew\n", "{kind:?}");
        sandbox.close().await.unwrap();
        assert_eq!(std::fs::read_to_string(ground.folder.path().join("home/kept")).unwrap(), "kept\n", "{kind:?}");
        assert!(!ground.folder.path().join("home/new").exists(), "{kind:?}");

        order.git_dir = at("git");
        order.git_objects = at("objects");
        order.name.push('b');
        let sandbox = driver.open(&order).await.unwrap();
        let outcome = sh(sandbox.as_ref(), "cat .git/HEAD /run/codeforge/objects/one; echo mine > .git/mark; echo x > /run/codeforge/objects/one; echo evil > .git/config").await;
        assert!(outcome.output.starts_with("disposableobject"), "{kind:?} {}", outcome.output);
        let read = |name: &str| std::fs::read_to_string(ground.folder.path().join(name)).unwrap();
        assert_eq!((read("git/mark").as_str(), read("objects/one").as_str()), ("mine\n", "object"), "{kind:?}");
        assert_eq!(read("workspace/.git/config"), "host secret", "{kind:?}");
        sandbox.close().await.unwrap();

        // In a linked worktree `.git` is a file.
        std::fs::remove_dir_all(order.workspace.join(".git")).unwrap();
        ground.write("workspace/.git", "gitdir: /somewhere/on/the/host\n");
        order.name.push('c');
        let sandbox = driver.open(&order).await.unwrap();
        let outcome = sh(sandbox.as_ref(), "cat .git; cat /run/codeforge/git/HEAD").await;
        assert_eq!(outcome.output, "gitdir: /run/codeforge/git\ndisposable", "{kind:?}");
        sandbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_forbidden_is_refused_by_name() {
    for driver in walls() {
        let ground = ground();
        for name in ["LD_PRELOAD", "PATH", "NODE_OPTIONS", "BASH_ENV", "DOCKER_HOST"] {
            let mut order = ground.order.clone();
            order.env.insert(name.into(), "/tmp/evil".into());
            let Err(SandboxError::Refused(why)) = driver.open(&order).await else { panic!("{name} was taken") };
            assert!(why.contains(name), "{why}");
        }
        // The docker socket: directly, by its folder, by a link.
        let link = ground.folder.path().join("link");
        symlink("/var/run", &link).unwrap();
        for place in [Path::new("/var/run/docker.sock"), Path::new("/run"), Path::new("/"), &link] {
            for order in [
                OpenSandbox { workspace: place.into(), ..ground.order.clone() },
                OpenSandbox { home: Home::Kept(place.into()), ..ground.order.clone() },
                OpenSandbox { source: Some(place.into()), ..ground.order.clone() },
            ] {
                assert!(
                    matches!(driver.open(&order).await, Err(SandboxError::Refused(why)) if why.contains("docker.sock")),
                    "{place:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn docker_says_what_is_missing() {
    let ground = ground();
    let nobody = Docker::new(Some("unix:///nonexistent/docker.sock"));
    assert!(matches!(nobody.open(&ground.order).await, Err(SandboxError::Unavailable(why)) if why.contains("native")));
    assert!(!nobody.probe(None).await.usable);
    let docker = Docker::new(None);
    let order = OpenSandbox { image: Some("codeforge-no-such:1".into()), ..ground.order.clone() };
    assert!(
        matches!(docker.open(&order).await, Err(SandboxError::Unavailable(why)) if why.contains("docker pull codeforge-no-such:1"))
    );
    let probe = docker.probe(Some("codeforge-no-such:1")).await;
    assert!(!probe.usable && probe.detail.contains("docker pull"), "{probe:?}");
    assert!(docker.probe(Some(IMAGE)).await.usable);
    let native = Native::new(PathBuf::from(env!("CARGO_BIN_EXE_codeforge")), Toolchains::system());
    let probe = native.probe(None).await;
    assert!(probe.usable, "{probe:?}");
}

#[tokio::test]
async fn what_a_dead_engine_left_is_reaped_and_the_living_are_not() {
    let client = bollard::Docker::connect_with_unix_defaults().unwrap().negotiate_version().await.unwrap();
    let mut ground = ground();
    ground.order.run = format!("reap{}", std::process::id()).as_str().into();
    let docker = Docker::new(None);
    let sandbox = docker.open(&ground.order).await.unwrap();
    let listed = |client: bollard::Docker, run: String| async move {
        let filters = std::collections::HashMap::from([("label", vec![format!("codeforge.run={run}")])]);
        let options =
            bollard::query_parameters::ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        client.list_containers(Some(options)).await.unwrap()
    };
    let run = ground.order.run.to_string();
    let found = listed(client.clone(), run.clone()).await;
    let label = found[0].labels.clone().unwrap()["codeforge.engine"].clone();
    // The same engine's name, but of a process that started at another time: one that is gone.
    let (before, _) = label.rsplit_once('/').unwrap();
    let body = bollard::models::ContainerCreateBody {
        image: Some(IMAGE.into()),
        cmd: Some(vec!["sleep".into(), "1000".into()]),
        labels: Some(
            [("codeforge.run".into(), run.clone()), ("codeforge.engine".into(), format!("{before}/1"))].into(),
        ),
        network_disabled: Some(true),
        ..Default::default()
    };
    let left = client.create_container(None, body).await.unwrap();
    client.start_container(&left.id, None).await.unwrap();
    assert_eq!(docker.reap(Some(&ground.order.run)).await.unwrap(), 1);
    assert!(sh(sandbox.as_ref(), "true").await.success());
    sandbox.close().await.unwrap();
    assert!(listed(client, run).await.is_empty());
}

#[tokio::test]
async fn the_workspace_may_lie_where_its_user_cannot_go() {
    // Root's engine, a workspace beneath a folder of mode 0700: what is shown is the workspace, not the way to it.
    for driver in walls() {
        let ground = ground();
        std::fs::set_permissions(ground.folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let sandbox = driver.open(&ground.order).await.unwrap();
        let outcome = sh(sandbox.as_ref(), "echo hi > file && cat file && id -u").await;
        assert!(outcome.output.starts_with("hi\n") && !outcome.output.ends_with("\n0\n"), "{outcome:?}");
        assert_ne!(driver.kind(), DriverKind::None);
        sandbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn an_abandoned_command_does_not_outlive_its_sandbox() {
    for (at, driver) in all().into_iter().enumerate() {
        let ground = ground();
        let sandbox = driver.open(&ground.order).await.unwrap();
        let token = format!("{}", 90_000_000 + std::process::id() * 10 + at as u32);
        // Seen to run, then dropped in the middle.
        let running = tokio::sync::Notify::new();
        let printed = |_: &str| running.notify_one();
        let command = Command::shell(format!("setsid sleep {token} & echo up; sleep {token}"));
        tokio::select! {
            ended = sandbox.exec(Order::Operator(command), &printed) => panic!("{ended:?}"),
            () = running.notified() => {}
        }
        sandbox.close().await.unwrap();
        drop(sandbox);
        let until = Instant::now() + Duration::from_secs(10);
        while !living(&format!("sleep {token}")).is_empty() {
            assert!(Instant::now() < until, "{:?} left {:?}", driver.kind(), living(&token));
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_workspace_of_roots_is_worked_on_without_roots_rights() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let ground = ground();
    chown(&ground.order.workspace, Some(0), Some(0)).unwrap();
    let order = OpenSandbox { owner: (0, 0), ..ground.order.clone() };
    let [native, docker] = <[_; 2]>::try_from(walls()).ok().unwrap();
    assert!(matches!(docker.open(&order).await, Err(SandboxError::Refused(_))));
    let sandbox = native.open(&order).await.unwrap();
    let probe = "id -u; grep CapEff /proc/self/status; echo x > file; echo x > /proc/sys/kernel/core_pattern || cat /etc/shadow || ls /root || echo held";
    let outcome = sh(sandbox.as_ref(), probe).await;
    assert!(
        outcome.output.starts_with("1000\nCapEff:\t0000000000000000\n") && outcome.output.ends_with("held\n"),
        "{outcome:?}"
    );
    assert!(ground.order.workspace.join("file").exists());
    sandbox.close().await.unwrap();
}
