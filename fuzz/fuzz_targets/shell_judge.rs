//! Whatever the text: the shell judge neither panics nor overflows nor hangs, and names a program for each command.
#![no_main]

use codeforge::policy::shell;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(script) = shell::script(text) {
        for command in &script.commands {
            assert!(command.argv.is_empty() || command.program().is_some_and(|name| !name.is_empty()));
        }
    }
});
