//! Whatever a document says, it is loaded or refused: no panic, no hang, every place within the text.
#![no_main]

use codeforge::workflow::{self, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for path in [".codeforge/workflows/in.yml", ".codeforge/config.yml", ".codeforge/policies/in.yml", ".codeforge/modes/in.yml"] {
        let sources = [Source { path: path.into(), text: text.to_owned(), builtin: false }];
        let library = workflow::load(&sources, &|_| None);
        // YAML ends lines with a carriage return too.
        let lines = text.split(['\n', '\r']).count();
        for problem in &library.diagnostics {
            assert!(problem.place.line <= lines + 1, "{problem:?}");
            let _ = codeforge::report::diagnostics::render(problem, false);
        }
    }
});
