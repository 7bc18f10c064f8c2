//! The long-running service: what it hears, decides, and keeps doing.

pub mod commands;
mod decide;
pub mod failed;
pub mod forget;
pub mod health;
pub mod http;
pub mod intake;
mod lanes;
pub mod log;
pub mod metrics;
pub mod parts;
pub mod progress;
mod room;
pub mod schedule;
pub mod serve;
pub mod settings;
pub mod showing;
pub mod sweep;
pub mod tend;
pub mod worker;

pub use parts::Parts;

use tokio_util::sync::CancellationToken;

/// Runs all loops until `stop`: no delivery is begun after it and no job leased; runs are interrupted, come to where they
/// can be gone on with, and go back to the queue. Returns when all of them have.
pub async fn run(parts: &Parts<'_>, stop: &CancellationToken) {
    match parts.queue.orphans(parts.now_ms()).await {
        Ok(0) => {}
        Ok(found) => parts.say(&format!("{found} jobs of a server that is gone are taken up where they are")),
        Err(error) => parts.say(&format!("whose jobs are nobody's cannot be told: {error}")),
    }
    let over = CancellationToken::new();
    let work = async {
        tokio::join!(
            intake::run(parts, stop),
            schedule::run(parts, stop),
            sweep::run(parts, stop),
            tend::run(parts, stop),
            worker::all(parts, stop)
        );
        over.cancel();
    };
    // How the last of it ended is shown, too.
    tokio::join!(work, showing::run(parts, &over));
}
