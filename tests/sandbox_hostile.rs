//! The policy is advice, the sandbox is the wall: what hostile code inside can reach, under both drivers.

#![expect(clippy::unwrap_used, reason = "scenarios stop at the first surprise, in their helpers too")]

use codeforge::adapter::sandbox::docker::Docker;
use codeforge::adapter::sandbox::native::{Native, Toolchains};
use codeforge::model::exec::{Command, DriverKind, ExecOutcome, ExecStatus};
use codeforge::model::plan::Resources;
use codeforge::port::sandbox::{Home, OpenSandbox, Order, Sandbox, SandboxDriver};
use std::os::unix::fs::{chown, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

fn walls() -> Vec<Box<dyn SandboxDriver>> {
    vec![
        Box::new(Native::new(PathBuf::from(env!("CARGO_BIN_EXE_codeforge")), Toolchains::system())),
        Box::new(Docker::new(None)),
    ]
}

fn ground() -> (tempfile::TempDir, OpenSandbox) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let folder = tempfile::tempdir().unwrap();
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let owner = if user.is_root() { (1000, 1000) } else { (user.as_raw(), group.as_raw()) };
    let workspace = folder.path().join("workspace");
    std::fs::create_dir(&workspace).unwrap();
    if user.is_root() {
        chown(&workspace, Some(owner.0), Some(owner.1)).unwrap();
    }
    let order = OpenSandbox {
        run: format!("h{}", std::process::id()).as_str().into(),
        name: format!("s{}", COUNT.fetch_add(1, Ordering::Relaxed)),
        workspace,
        writable: true,
        git_dir: None,
        git_objects: None,
        source: None,
        home: Home::Fresh,
        image: Some("codeforge-test:latest".into()),
        resources: Resources { memory: 96 << 20, cpus: 1.0, pids: 48, disk: 16 << 20 },
        network: false,
        env: Default::default(),
        owner,
        loopback: None,
        guest: None,
    };
    (folder, order)
}

async fn sh(sandbox: &dyn Sandbox, text: &str) -> ExecOutcome {
    let command = Command { timeout_ms: 60_000, ..Command::shell(text) };
    sandbox.exec(Order::Operator(command), &|_| {}).await.unwrap()
}

#[tokio::test]
async fn no_capability_no_new_rights_no_root() {
    for driver in walls() {
        let (_folder, order) = ground();
        let sandbox = driver.open(&order).await.unwrap();
        let outcome = sh(sandbox.as_ref(), "grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid)' /proc/self/status").await;
        let value = |name: &str| {
            outcome.output.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim().to_owned()
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(u64::from_str_radix(&value(set), 16), Ok(0), "{:?} {set} {}", driver.kind(), outcome.output);
        }
        assert_eq!((value("NoNewPrivs:").as_str(), value("Seccomp:").as_str()), ("1", "2"), "{:?}", driver.kind());
        assert!(!value("Uid:").split_whitespace().any(|user| user == "0"), "{:?}", driver.kind());
        for attempt in [
            "mount -t tmpfs x /tmp",
            "unshare -Ur true",
            "unshare -m true",
            "chroot / true",
            "mknod /tmp/d b 8 0",
            "hostname evil",
        ] {
            assert!(!sh(sandbox.as_ref(), attempt).await.success(), "{:?} {attempt}", driver.kind());
        }
        sandbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn nothing_of_the_host_is_inside() {
    for driver in walls() {
        let kind = driver.kind();
        let (folder, order) = ground();
        let canary = format!("canary-{}", std::process::id());
        std::fs::write(folder.path().join("secret"), &canary).unwrap();
        symlink(folder.path().join("secret"), order.workspace.join("way-out")).unwrap();
        symlink("../secret", order.workspace.join("way-up")).unwrap();
        let host = folder.path().display();
        let sandbox = driver.open(&order).await.unwrap();
        let outcome = sh(
            sandbox.as_ref(),
            &format!(
                "env; cat /proc/self/environ /proc/1/environ /proc/1/cmdline; cat way-out way-up {host}/secret /proc/1/root{host}/secret; \
                 cat /etc/shadow; ls /root /.host /var/run; cat /proc/kcore | head -c 10; ls -A /home; cat /proc/self/mountinfo"
            ),
        )
        .await;
        assert!(!outcome.output.contains(&canary), "{kind:?} {}", outcome.output);
        assert!(!outcome.output.contains("CARGO"), "{kind:?} {}", outcome.output);
        assert!(
            !outcome.output.contains("root:$") && !outcome.output.contains("docker.sock"),
            "{kind:?} {}",
            outcome.output
        );
        // Writing outside of what was given.
        for place in ["/etc/x", "/usr/x", "/bin/x", "/x", "/var/x", "/proc/sys/kernel/hostname", "/dev/x"] {
            assert!(!sh(sandbox.as_ref(), &format!("echo x > {place}")).await.success(), "{kind:?} wrote {place}");
        }
        let marker = format!("/tmp/codeforge-escape-{}-{kind:?}", std::process::id());
        assert!(
            sh(
                sandbox.as_ref(),
                &format!("echo x > {marker} && echo x > ~/y && echo x > /dev/shm/z && echo x >/dev/stdout")
            )
            .await
            .success(),
            "{kind:?}"
        );
        assert!(!std::path::Path::new(&marker).exists(), "{kind:?}");
        sandbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn no_way_to_any_network() {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for driver in walls() {
        let (_folder, order) = ground();
        let sandbox = driver.open(&order).await.unwrap();
        for attempt in [
            format!("busybox nc -w 2 127.0.0.1 {port} </dev/null"),
            "busybox nc -w 2 1.1.1.1 53 </dev/null".to_owned(),
            "busybox nc -w 2 ::1 53 </dev/null".to_owned(),
            "busybox nslookup example.com".to_owned(),
            "busybox wget -T 2 -q -O - http://169.254.169.254/".to_owned(),
        ] {
            let outcome = sh(sandbox.as_ref(), &attempt).await;
            assert!(
                !outcome.success() && outcome.status != ExecStatus::Exited(127),
                "{:?} {attempt}: {outcome:?}",
                driver.kind()
            );
        }
        let routes =
            sh(sandbox.as_ref(), "tail -n +2 /proc/net/route; ls /sys/class/net 2>/dev/null | grep -v lo").await;
        assert_eq!(routes.output, "", "{:?}", driver.kind());
        sandbox.close().await.unwrap();
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody came through");
}

#[tokio::test]
async fn bombs_are_stopped_and_named() {
    for driver in walls() {
        let kind = driver.kind();
        let (_folder, order) = ground();
        let sandbox = driver.open(&order).await.unwrap();
        let hog = sh(sandbox.as_ref(), "busybox awk 'BEGIN { x = \"0123456789abcdef\"; while (1) x = x x }'").await;
        assert_eq!(hog.status, ExecStatus::OutOfMemory, "{kind:?} {hog:?}");
        // A killed child in a pipeline leaves exit code 0.
        let hidden =
            sh(sandbox.as_ref(), "busybox awk 'BEGIN { x = \"0123456789abcdef\"; while (1) x = x x }' | cat").await;
        assert_eq!(hidden.status, ExecStatus::OutOfMemory, "{kind:?} {hidden:?}");
        let bomb = sh(sandbox.as_ref(), "bomb() { bomb | bomb; }; bomb").await;
        assert_eq!(bomb.status, ExecStatus::TooManyProcesses, "{kind:?} {bomb:?}");
        let full = sh(
            sandbox.as_ref(),
            "for i in 1 2 3 4 5 6 7 8; do dd if=/dev/zero of=/tmp/big$i bs=1M count=8 2>&1 || exit 1; done",
        )
        .await;
        assert!(!full.success() && full.output.contains("No space left"), "{kind:?} {full:?}");
        let after = sh(sandbox.as_ref(), "rm -f /tmp/big*; echo well").await;
        assert_eq!(after.output, "well\n", "{kind:?} {after:?}");
        sandbox.close().await.unwrap();
        assert_ne!(kind, DriverKind::None);
    }
}
