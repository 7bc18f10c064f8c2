//! Sandboxes: `docker` (containers), `native` (namespaces, without a daemon) and `none` (no wall at all).

pub mod docker;
mod guard;
pub mod native;
pub mod none;
mod output;
mod programs;

use crate::port::sandbox::SandboxDriver;
use std::path::PathBuf;
use std::sync::Arc;

/// What drivers need to know of the machine; `app` reads it from the environment.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// This program's own binary, which the native driver starts again inside.
    pub helper: PathBuf,
    /// The operator's `PATH`: which toolchains are shown inside a native sandbox.
    pub path: String,
    /// The operator's home: never shown inside, but for the toolchains that live there.
    pub home: Option<PathBuf>,
    /// `DOCKER_HOST`, where it is set.
    pub docker_host: Option<String>,
}

/// All drivers, docker first: the order in which `auto` tries them (it never takes `none`).
pub fn drivers(host: &Host) -> Vec<Arc<dyn SandboxDriver>> {
    let toolchains = native::Toolchains::discover(&host.path, host.home.as_deref());
    vec![
        Arc::new(docker::Docker::new(host.docker_host.as_deref()).showing(toolchains.clone())),
        Arc::new(native::Native::new(host.helper.clone(), toolchains)),
        Arc::new(none::Plain::new(host.path.clone(), host.home.clone())),
    ]
}
