//! The docker driver: a container for each sandbox, an exec for each command.
//!
//! The container's first process is the image's `sh`, which only sleeps and buries the dead. Each command is started
//! by a few words of shell that join its two streams, run it, and kill what it left, which is found by a variable
//! that only its processes carry.

mod container;
mod reach;

use super::native::Toolchains;
use super::{guard, programs};
use crate::model::exec::DriverKind;
use crate::model::id::RunId;
use crate::port::sandbox::{OpenSandbox, Probe, Sandbox, SandboxDriver, SandboxError};
use async_trait::async_trait;
use bollard::Docker as Client;
use bollard::errors::Error;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use std::collections::HashMap;
use std::path::PathBuf;

/// Seconds that a request to the daemon may take.
const PATIENCE: u64 = 120;

/// The driver.
#[derive(Debug)]
pub struct Docker {
    host: String,
    engine: Engine,
    client: tokio::sync::OnceCell<Client>,
    /// Where this machine's programs lie, for those that are shown.
    host_programs: Toolchains,
    /// The processors of the daemon's machine: it refuses a container that may use more.
    cpus: tokio::sync::OnceCell<f64>,
}

impl Docker {
    /// With `DOCKER_HOST`'s value, where it is set; else the usual socket.
    pub fn new(host: Option<&str>) -> Self {
        let host = host.filter(|host| !host.is_empty()).unwrap_or("unix:///var/run/docker.sock").to_owned();
        Self {
            host,
            engine: Engine::own(),
            client: tokio::sync::OnceCell::new(),
            host_programs: Toolchains::system(),
            cpus: tokio::sync::OnceCell::new(),
        }
    }

    /// Shows a guest's programs of this machine. What the image has of the same name comes first.
    #[must_use]
    pub fn showing(mut self, programs: Toolchains) -> Self {
        self.host_programs = programs;
        self
    }

    /// The daemon's socket, where it is one on this machine.
    fn socket(&self) -> Option<PathBuf> {
        self.host.strip_prefix("unix://").map(PathBuf::from)
    }

    async fn client(&self) -> Result<Client, SandboxError> {
        let connect = || async {
            let version = bollard::API_DEFAULT_VERSION;
            let made = if let Some(socket) = self.host.strip_prefix("unix://") {
                Client::connect_with_unix(socket, PATIENCE, version)
            } else if self.host.starts_with("tcp://") || self.host.starts_with("http://") {
                Client::connect_with_http(&self.host, PATIENCE, version)
            } else {
                return Err(SandboxError::Unavailable(format!(
                    "DOCKER_HOST is {}; only unix:// and tcp:// are supported",
                    self.host
                )));
            };
            let silent = |error: Error| {
                SandboxError::Unavailable(format!(
                    "no Docker daemon answers at {}: {error}. Start it (`sudo systemctl start docker`), check that you may use its socket (group `docker`), or choose `driver: native`",
                    self.host
                ))
            };
            made.map_err(silent)?.negotiate_version().await.map_err(silent)
        };
        self.client.get_or_try_init(connect).await.cloned()
    }
}

/// What went wrong with a request, in the port's words.
fn broken(doing: &str, error: &Error) -> SandboxError {
    SandboxError::Broken(format!("docker: {doing}: {error}"))
}

fn status(error: &Error) -> u16 {
    match error {
        Error::DockerResponseServerError { status_code, .. } => *status_code,
        _ => 0,
    }
}

fn no_image(image: &str) -> SandboxError {
    SandboxError::Unavailable(format!(
        "docker has no image {image}; get it with `docker pull {image}`, or choose `driver: native`"
    ))
}

#[async_trait]
impl SandboxDriver for Docker {
    fn kind(&self) -> DriverKind {
        DriverKind::Docker
    }

    async fn probe(&self, image: Option<&str>) -> Probe {
        let not = |detail: String| Probe { usable: false, detail, lacks: Vec::new() };
        let client = match self.client().await {
            Ok(client) => client,
            Err(error) => return not(error.to_string()),
        };
        let version = match client.version().await {
            Ok(version) => version.version.unwrap_or_default(),
            Err(error) => return not(format!("the Docker daemon at {} does not answer: {error}", self.host)),
        };
        let mut lacks = Vec::new();
        if let Ok(info) = client.info().await {
            if !info.security_options.unwrap_or_default().iter().any(|option| option.contains("seccomp")) {
                lacks.push("seccomp: the daemon has no filter".into());
            }
            if info.memory_limit == Some(false) {
                lacks.push("memory limit: the daemon cannot set one".into());
            }
            if info.pids_limit == Some(false) {
                lacks.push("process limit: the daemon cannot set one".into());
            }
        }
        if self.socket().is_none() {
            lacks.push("the daemon is remote: it cannot see this machine's folders".into());
        }
        if let Some(image) = image
            && let Err(error) = client.inspect_image(image).await
        {
            return not(match status(&error) {
                404 => format!("docker {version}: {}", no_image(image)),
                _ => format!("docker {version}: {error}"),
            });
        }
        Probe { usable: true, detail: format!("docker {version}, API {}", client.client_version()), lacks }
    }

    async fn open(&self, order: &OpenSandbox) -> Result<Box<dyn Sandbox>, SandboxError> {
        let places = guard::check_order(order, self.socket().as_deref())?;
        if order.owner.0 == 0 {
            return Err(SandboxError::Refused(
                "docker commands are not run as root, but the workspace belongs to root; give it to another user, or use `exec_mode: sandbox`".into(),
            ));
        }
        let Some(image) = order.image.as_deref() else {
            return Err(SandboxError::Refused("the docker driver needs `image:`".into()));
        };
        let shown = order.guest.as_ref().map(|guest| programs::find(guest, &self.host_programs)).transpose()?;
        let client = self.client().await?;
        let count = || async {
            let info = client.info().await.map_err(|error| broken("ask for its processors", &error))?;
            Ok(info.ncpu.filter(|count| *count > 0).map_or(f64::INFINITY, |count| count as f64))
        };
        let most = self.cpus.get_or_try_init(count).await?;
        let mut order = order.clone();
        order.resources.cpus = order.resources.cpus.min(*most);
        Ok(Box::new(
            container::Contained::open(client, &self.engine, order, places, image, shown.unwrap_or_default()).await?,
        ))
    }

    async fn reap(&self, run: Option<&RunId>) -> Result<usize, SandboxError> {
        let client = self.client().await?;
        let label = run.map_or("codeforge.run".to_owned(), |run| format!("codeforge.run={run}"));
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = client.list_containers(Some(options)).await.map_err(|error| broken("list containers", &error))?;
        let mut reaped = 0;
        for container in found {
            let engine = container.labels.unwrap_or_default().remove("codeforge.engine").unwrap_or_default();
            let left = match self.engine.life_of(&engine) {
                Life::Own | Life::Alive => false,
                Life::Gone => true,
                // Another machine's: only on request.
                Life::Unknown => run.is_some(),
            };
            if let Some(id) = container.id.filter(|_| left) {
                let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                match client.remove_container(&id, Some(options)).await {
                    Ok(()) => reaped += 1,
                    // Someone else is at it.
                    Err(error) if matches!(status(&error), 404 | 409) => {}
                    Err(error) => return Err(broken("remove a container that was left", &error)),
                }
            }
        }
        Ok(reaped)
    }
}

/// An engine's name, by which a later one knows whether it still lives: boot, process id, the process's start.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Engine {
    boot: String,
    pid: u32,
    start: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Life {
    Own,
    Alive,
    Gone,
    Unknown,
}

impl Engine {
    fn own() -> Self {
        let pid = std::process::id();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        // Engines in different process namespaces have pids of their own.
        let space = std::fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned());
        let space: String = space.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
        Self { boot: format!("{boot}:{space}"), pid, start: started(pid).unwrap_or_default() }
    }

    fn label(&self) -> String {
        format!("{}/{}/{}", self.boot, self.pid, self.start)
    }

    fn life_of(&self, label: &str) -> Life {
        let mut parts = label.split('/');
        let (Some(boot), Some(pid), Some(start)) = (parts.next(), parts.next(), parts.next()) else {
            return Life::Unknown;
        };
        let Ok(pid) = pid.parse::<u32>() else { return Life::Unknown };
        if label == self.label() {
            Life::Own
        } else if boot != self.boot {
            // The same machine since another start of it, or another machine: cannot be told apart here.
            Life::Unknown
        } else if started(pid).is_some_and(|now| now == start) {
            Life::Alive
        } else {
            Life::Gone
        }
    }
}

/// When a living process started, in the kernel's ticks.
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{Engine, Life};

    #[test]
    fn an_engine_knows_the_dead_from_the_living() {
        let own = Engine::own();
        assert_eq!(own.life_of(&own.label()), Life::Own);
        assert_eq!(
            own.life_of(&Engine { pid: 1, start: super::started(1).unwrap(), ..own.clone() }.label()),
            Life::Alive
        );
        assert_eq!(own.life_of(&Engine { start: "1".into(), ..own.clone() }.label()), Life::Gone);
        assert_eq!(own.life_of(&Engine { boot: "elsewhere".into(), ..own.clone() }.label()), Life::Unknown);
        assert_eq!(own.life_of(""), Life::Unknown);
    }
}
