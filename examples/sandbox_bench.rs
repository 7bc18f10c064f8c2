//! Measures a sandbox's first and further command, for `scripts/bench/sandbox.sh`.
//!
//! `sandbox_bench HELPER DRIVER IMAGE COUNT` prints milliseconds: opening, first command, median of further ones.

use codeforge::adapter::sandbox::{Host, drivers};
use codeforge::model::exec::Command;
use codeforge::model::plan::Resources;
use codeforge::port::sandbox::{Home, OpenSandbox, Order};
use std::time::Instant;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |fallback: &str| arguments.next().unwrap_or_else(|| fallback.to_owned());
    let (helper, wanted, image) = (next("codeforge"), next("native"), next("codeforge-test:latest"));
    let count: usize = next("30").parse()?;
    let host = Host { helper: helper.into(), ..Host::default() };
    let folder = tempfile::tempdir()?;
    let root = nix::unistd::geteuid().is_root();
    let owner = if root { (1000, 1000) } else { (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()) };
    if root {
        std::os::unix::fs::chown(folder.path(), Some(owner.0), Some(owner.1))?;
    }
    let order = OpenSandbox {
        run: "bench".into(),
        name: format!("bench-{}", std::process::id()),
        workspace: folder.path().to_owned(),
        writable: true,
        git_dir: None,
        git_objects: None,
        source: None,
        home: Home::Fresh,
        image: Some(image),
        resources: Resources::default(),
        network: false,
        env: Default::default(),
        owner,
        loopback: None,
        guest: None,
    };
    let command = || Command { argv: vec!["sh".into(), "-c".into(), "true".into()], ..Command::shell("") };
    for driver in drivers(&host) {
        if format!("{:?}", driver.kind()).to_lowercase() != wanted {
            continue;
        }
        let start = Instant::now();
        let sandbox = driver.open(&order).await?;
        let opened = start.elapsed();
        let start = Instant::now();
        let outcome = sandbox.exec(Order::Operator(command()), &|_| {}).await?;
        let first = start.elapsed();
        if !outcome.success() {
            return Err(format!("{}: {}", outcome.describe(), outcome.output).into());
        }
        let mut further = Vec::new();
        for _ in 0..count {
            let start = Instant::now();
            sandbox.exec(Order::Operator(command()), &|_| {}).await?;
            further.push(start.elapsed());
        }
        further.sort();
        let median = further.get(count / 2).copied().unwrap_or_default();
        let start = Instant::now();
        sandbox.close().await?;
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
        print(&format!(
            "{wanted}: open {:.1} ms, first command {:.1} ms, further command {:.1} ms (median of {count}), close {:.1} ms",
            ms(opened),
            ms(first),
            ms(median),
            ms(start.elapsed()),
        ));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the figures are this program's output")]
fn print(line: &str) {
    println!("{line}");
}
