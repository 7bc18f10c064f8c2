//! The thin binary: arguments in, exit code out.

fn main() -> std::process::ExitCode {
    codeforge::app::main()
use codeforge::adapter::sandbox::native;
use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all, while there is one thread only: the native sandbox starts this binary again as its helper.
    if native::is_reentry() {
        return native::reentry();
    }
    ExitCode::SUCCESS
}
