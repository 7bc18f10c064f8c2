//! Which driver, and the sandboxes of one run.

use crate::model::exec::{DriverKind, ExecMode};
use crate::port::sandbox::{SandboxDriver, SandboxError};
use std::sync::Arc;

/// A driver and what to say about the choice.
#[derive(Clone)]
pub struct Chosen {
    /// The driver.
    pub driver: Arc<dyn SandboxDriver>,
    /// `sandbox native (no Docker daemon at …)` and what it lacks.
    pub notes: Vec<String>,
}

/// Chooses a driver. `auto` takes docker where a daemon answers and has the image, else native, and says which;
/// never `none`. A driver that is named and cannot be had is an error with what to do.
///
/// # Errors
/// [`SandboxError::Unavailable`], or [`SandboxError::Refused`] for `none` with anything but a mounted or copied tree
/// that the operator chose by name.
pub async fn choose(
    drivers: &[Arc<dyn SandboxDriver>],
    wanted: DriverKind,
    image: Option<&str>,
    mode: ExecMode,
) -> Result<Chosen, SandboxError> {
    let find = |kind: DriverKind| drivers.iter().find(|driver| driver.kind() == kind).cloned();
    if wanted != DriverKind::Auto {
        let driver = find(wanted)
            .ok_or_else(|| SandboxError::Unavailable(format!("this build has no sandbox driver `{}`", name(wanted))))?;
        let probe = driver.probe(image).await;
        if !probe.usable {
            return Err(SandboxError::Unavailable(format!(
                "sandbox driver `{}` was asked for and cannot be used: {}",
                name(wanted),
                probe.detail
            )));
        }
        let mut notes = vec![format!("sandbox {}: {}", name(wanted), probe.detail)];
        if wanted == DriverKind::None {
            notes.push("no isolation: commands can read and change what you can".to_owned());
        }
        notes.extend(lacks(&probe.lacks));
        return Ok(Chosen { driver, notes });
    }
    let mut refused = Vec::new();
    // Docker only where it can show the workspace: an image must be named and present.
    for kind in [DriverKind::Docker, DriverKind::Native] {
        let Some(driver) = find(kind) else { continue };
        if kind == DriverKind::Docker && image.is_none() {
            refused.push("docker: no `sandbox.image` is set".to_owned());
            continue;
        }
        let probe = driver.probe(image).await;
        if probe.usable {
            let mut notes = vec![if refused.is_empty() {
                format!("sandbox {}: {}", name(kind), probe.detail)
            } else {
                format!("sandbox {} ({}; --sandbox docker to insist)", name(kind), refused.join("; "))
            }];
            notes.extend(lacks(&probe.lacks));
            return Ok(Chosen { driver, notes });
        }
        refused.push(format!("{}: {}", name(kind), probe.detail));
    }
    let way_out = if mode == ExecMode::Mount {
        "; `--sandbox none` runs without isolation, in a tree you trust"
    } else {
        "; start Docker, or allow user namespaces (`sysctl kernel.unprivileged_userns_clone=1`)"
    };
    Err(SandboxError::Unavailable(format!("no sandbox can be had here: {}{way_out}", refused.join("; "))))
}

fn lacks(lacks: &[String]) -> Vec<String> {
    if lacks.is_empty() { Vec::new() } else { vec![format!("the sandbox lacks: {}", lacks.join(", "))] }
}

/// The driver's name.
pub fn name(kind: DriverKind) -> &'static str {
    match kind {
        DriverKind::Auto => "auto",
        DriverKind::Docker => "docker",
        DriverKind::Native => "native",
        DriverKind::None => "none",
    }
}
