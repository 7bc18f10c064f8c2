//! Times checkpoints and restores: `checkpoints REPOSITORY overlay|copy`. Prints one JSON object; used by
//! `scripts/bench/checkpoints.py`, which measures git's command line beside it.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::panic, reason = "a measurement that cannot be made ends")]

use codeforge::adapter::git::{self, Force};
use codeforge::model::exec::ExecMode;
use codeforge::model::id::RunId;
use codeforge::port::repository::OpenWorkspace;
use std::path::Path;
use std::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, repository, kind] = arguments.as_slice() else { panic!("checkpoints REPOSITORY overlay|copy") };
    let force = if kind == "overlay" { Force::Overlay } else { Force::Copy };
    let ms = |from: Instant| from.elapsed().as_secs_f64() * 1000.0;
    let repository = git::open_with(Path::new(repository), force).unwrap();
    let begun = Instant::now();
    let base = repository.base().unwrap().tree;
    let base_ms = ms(begun);
    let run = RunId::from("bench001");
    let begun = Instant::now();
    let workspace = repository
        .workspace(&OpenWorkspace {
            run: run.clone(),
            name: "main".into(),
            tree: base.clone(),
            base: base.clone(),
            mode: ExecMode::Sandbox,
            step: None,
        })
        .unwrap();
    let open_ms = ms(begun);
    workspace.snapshot().unwrap();
    let (mut snapshots, mut restores) = (Vec::new(), Vec::new());
    for round in 0..15 {
        for file in 0..10 {
            let path = workspace.root().join(format!("d{}/f{}.txt", file * 40, file));
            std::fs::write(path, format!("edited {round}\n")).unwrap();
        }
        let begun = Instant::now();
        let tree = workspace.snapshot().unwrap();
        snapshots.push(ms(begun));
        assert_ne!(tree, base);
        let begun = Instant::now();
        workspace.restore(&base).unwrap();
        restores.push(ms(begun));
    }
    repository.clean(&run).unwrap();
    let median = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    println!(
        "{{\"base_ms\":{base_ms:.1},\"open_ms\":{open_ms:.1},\"checkpoint_ms\":{:.2},\"restore_ms\":{:.2}}}",
        median(snapshots),
        median(restores)
    );
}
