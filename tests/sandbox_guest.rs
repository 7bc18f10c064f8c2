//! What a program that is not ours is given in a sandbox, under each driver: the one way out, its programs, a home.

#![expect(clippy::unwrap_used, reason = "scenarios stop at the first surprise, in their helpers too")]

use codeforge::adapter::sandbox::docker::Docker;
use codeforge::adapter::sandbox::native::{Native, Toolchains};
use codeforge::adapter::sandbox::none::Plain;
use codeforge::model::exec::{Command, DriverKind, ExecOutcome};
use codeforge::model::plan::Resources;
use codeforge::port::gateway::GATEWAY_PORT;
use codeforge::port::sandbox::{Guest, Home, Loopback, OpenSandbox, Order, Sandbox, SandboxDriver, SandboxError};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn drivers(host: &Toolchains) -> Vec<Box<dyn SandboxDriver>> {
    vec![
        Box::new(Native::new(PathBuf::from(env!("CARGO_BIN_EXE_codeforge")), host.clone())),
        Box::new(Docker::new(None).showing(host.clone())),
        Box::new(Plain::new("/usr/bin:/bin".into(), None)),
    ]
}

fn ground(folder: &Path) -> OpenSandbox {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let owner = if user.is_root() { (1000, 1000) } else { (user.as_raw(), group.as_raw()) };
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let workspace = folder.join(format!("workspace{number}"));
    std::fs::create_dir_all(&workspace).unwrap();
    if user.is_root() {
        chown(&workspace, Some(owner.0), Some(owner.1)).unwrap();
    }
    OpenSandbox {
        run: format!("guest{}", std::process::id()).as_str().into(),
        name: format!("s{number}"),
        workspace,
        writable: true,
        git_dir: None,
        git_objects: None,
        source: None,
        home: Home::Fresh,
        image: Some("codeforge-test:latest".into()),
        resources: Resources { memory: 128 << 20, cpus: 1.0, pids: 64, disk: 16 << 20 },
        network: false,
        env: Default::default(),
        owner,
        loopback: None,
        guest: None,
    }
}

async fn sh(sandbox: &dyn Sandbox, text: &str) -> ExecOutcome {
    let command = Command { timeout_ms: 60_000, ..Command::shell(text) };
    sandbox.exec(Order::Operator(command), &|_| {}).await.unwrap()
}

/// Answers whoever connects, until it is dropped: what a gateway does with the listeners that it is given.
#[derive(Default)]
struct Served {
    places: Mutex<Vec<SocketAddr>>,
    ended: Arc<AtomicBool>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

impl Served {
    fn loopback(self: &Arc<Self>) -> Loopback {
        let served = Arc::clone(self);
        Loopback { port: GATEWAY_PORT, hand_over: Arc::new(move |listener| served.take(listener)) }
    }

    fn take(&self, listener: TcpListener) {
        self.places.lock().unwrap().push(listener.local_addr().unwrap());
        listener.set_nonblocking(true).unwrap();
        let ended = Arc::clone(&self.ended);
        let serve = move || {
            while !ended.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        stream.set_nonblocking(false).unwrap();
                        let mut asked = [0u8; 1024];
                        let length = stream.read(&mut asked).unwrap_or(0);
                        let line = String::from_utf8_lossy(&asked[..length]);
                        let line = line.lines().next().unwrap_or_default();
                        let body = format!("heard {}\n", line.split(' ').nth(1).unwrap_or_default());
                        let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        };
        self.threads.lock().unwrap().push(std::thread::spawn(serve));
    }

    /// Stops serving; every listener is gone afterwards.
    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.lock().unwrap().drain(..) {
            thread.join().unwrap();
        }
    }
}

/// `get HOST PORT PATH`: what a server answers, with what there is in each image.
const GET: &str = "get() { if command -v curl >/dev/null; then curl -s -m 5 \"http://$1:$2$3\"; \
                   else printf 'GET %s HTTP/1.0\\r\\n\\r\\n' \"$3\" | nc -w 5 \"$1\" \"$2\" 2>/dev/null | grep heard; fi; }\n";

#[tokio::test]
async fn a_command_reaches_the_listener_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    // Something of this machine's, at an address that a leak would reach.
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let outside = outside.local_addr().unwrap().port();
    for driver in drivers(&Toolchains::system()) {
        let kind = driver.kind();
        let served = Arc::new(Served::default());
        let order = OpenSandbox { loopback: Some(served.loopback()), ..ground(folder.path()) };
        let sandbox = driver.open(&order).await.unwrap();
        let sandbox = sandbox.as_ref();
        let port = if kind == DriverKind::None { served.places.lock().unwrap()[0].port() } else { GATEWAY_PORT };
        // More than once, and more than one command.
        for round in ["a", "b"] {
            let text = format!("{GET}get 127.0.0.1 {port} /{round}; get 127.0.0.1 {port} /again");
            let outcome = sh(sandbox, &text).await;
            let expected = format!("heard /{round}\nheard /again\n");
            assert_eq!(outcome.output, expected, "{kind:?}");
        }
        if kind != DriverKind::None {
            let text = format!(
                "{GET}get 127.0.0.1 {outside} / && echo reached; get 192.0.2.1 80 / && echo reached; \
                 get ::1 {port} / && echo reached; get example.com 80 / && echo reached; \
                 sed 1,2d /proc/net/dev | cut -d: -f1 | tr -d ' '; cat /proc/net/route | wc -l"
            );
            let outcome = sh(sandbox, &text).await;
            assert_eq!(outcome.output, "lo\n1\n", "{kind:?}: one interface, no route");
        }
        sandbox.close().await.unwrap();
        served.end();
        for place in served.places.lock().unwrap().iter() {
            assert!(TcpStream::connect(place).is_err(), "{kind:?}: something still listens at {place}");
        }
    }
}

#[tokio::test]
async fn the_native_driver_makes_the_way_out_without_root_too() {
    // The helper process is started as another user, who is nobody here: a user namespace is all it has.
    if !nix::unistd::geteuid().is_root() {
        return a_command_reaches_the_listener_as_this_user().await;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // This very test, run once more by a user without rights.
    let binary = folder.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let helper = folder.path().join("codeforge");
    std::fs::copy(env!("CARGO_BIN_EXE_codeforge"), &helper).unwrap();
    let own = folder.path().join("tmp");
    std::fs::create_dir(&own).unwrap();
    chown(&own, Some(1234), Some(1234)).unwrap();
    use std::os::unix::process::CommandExt;
    #[expect(clippy::disallowed_methods, reason = "the test starts itself as somebody else")]
    let output = std::process::Command::new(&binary)
        .args(["--exact", "as_somebody", "--ignored", "--nocapture"])
        .env("TMPDIR", &own)
        .env("HELPER", &helper)
        .current_dir(&own)
        .uid(1234)
        .gid(1234)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "run by the_native_driver_makes_the_way_out_without_root_too, as another user"]
async fn as_somebody() {
    a_command_reaches_the_listener_as_this_user().await;
}

#[expect(clippy::disallowed_methods, reason = "the test's parent says where the helper lies")]
async fn a_command_reaches_the_listener_as_this_user() {
    let folder = tempfile::tempdir().unwrap();
    let helper = std::env::var("HELPER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_codeforge").to_owned());
    let driver = Native::new(PathBuf::from(helper), Toolchains::system());
    let served = Arc::new(Served::default());
    let order = OpenSandbox { loopback: Some(served.loopback()), ..ground(folder.path()) };
    let sandbox = driver.open(&order).await.unwrap();
    let outcome = sh(sandbox.as_ref(), &format!("{GET}get 127.0.0.1 {GATEWAY_PORT} /x; id -u")).await;
    assert_eq!(outcome.output, "heard /x\n1000\n");
    sandbox.close().await.unwrap();
    served.end();
}

#[tokio::test]
async fn a_guest_finds_its_programs_and_a_home_of_its_own() {
    // Not under /tmp, which each sandbox has for itself; and open to whoever commands run as, for `none`.
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let tools = folder.path().join("tools");
    std::fs::create_dir_all(tools.join("bin")).unwrap();
    let hello = tools.join("bin/hello-guest");
    std::fs::write(&hello, "#!/bin/sh\ncat \"$HOME/.config/guest/settings\"; cat \"${0%/*}/../greeting\"\n").unwrap();
    std::fs::set_permissions(&hello, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(tools.join("greeting"), "from the tools\n").unwrap();
    let host = Toolchains::discover("/usr/bin:/bin", Some(Path::new("/nowhere")));
    for driver in drivers(&host) {
        let kind = driver.kind();
        let ground_folder = tempfile::tempdir().unwrap();
        let guest = Guest { programs: vec!["hello-guest".into()], show: vec![tools.clone()] };
        let order = OpenSandbox { guest: Some(guest), ..ground(ground_folder.path()) };
        let sandbox = driver.open(&order).await.unwrap();
        let files = [(".config/guest/settings".to_owned(), "it's {\"a\": \"$HOME\"}\n".to_owned())];
        let command = Command {
            argv: vec!["hello-guest".into()],
            home_files: files.into(),
            timeout_ms: 30_000,
            ..Command::shell("")
        };
        let outcome = sandbox.exec(Order::Operator(command.clone()), &|_| {}).await.unwrap();
        assert_eq!(outcome.output, "it's {\"a\": \"$HOME\"}\nfrom the tools\n", "{kind:?}");
        let text = format!(
            "(echo x >>{}) 2>/dev/null && echo changed; mkdir -p ~/.config/other && touch ~/.config/guest/more && echo $HOME",
            tools.join("greeting").display()
        );
        let command = Command { argv: vec!["sh".into(), "-c".into(), text], ..command };
        let outcome = sandbox.exec(Order::Operator(command), &|_| {}).await.unwrap();
        let home = sandbox.home().display().to_string();
        assert_eq!(outcome.output, format!("{home}\n"), "{kind:?}: shown read-only, the home is the guest's");
        sandbox.close().await.unwrap();
        assert!(kind != DriverKind::None || !Path::new(&home).exists(), "the home goes with the sandbox");
    }
    let native = Native::new(PathBuf::from(env!("CARGO_BIN_EXE_codeforge")), host.clone());
    let ground_folder = tempfile::tempdir().unwrap();
    let open = |guest: Guest| OpenSandbox { guest: Some(guest), ..ground(ground_folder.path()) };
    let missing =
        native.open(&open(Guest { programs: vec!["no-such-agent".into()], show: vec![] })).await.err().unwrap();
    assert!(matches!(missing, SandboxError::Missing(program) if program == "no-such-agent"));
    let docker = Docker::new(None).showing(host);
    for driver in [&native as &dyn SandboxDriver, &docker] {
        for place in ["/root", "/home", "/", "/var/run"] {
            let refused = driver.open(&open(Guest { programs: vec![], show: vec![place.into()] })).await.err().unwrap();
            assert!(matches!(refused, SandboxError::Refused(_)), "{place}: {refused}");
        }
    }
}

#[tokio::test]
async fn a_sandbox_on_the_hosts_network_has_no_listener() {
    let folder = tempfile::tempdir().unwrap();
    let served = Arc::new(Served::default());
    for driver in drivers(&Toolchains::system()) {
        let order = OpenSandbox { network: true, loopback: Some(served.loopback()), ..ground(folder.path()) };
        let refused = driver.open(&order).await.err().unwrap();
        assert!(matches!(refused, SandboxError::Refused(_)), "{refused}");
    }
    assert!(served.places.lock().unwrap().is_empty());
}
