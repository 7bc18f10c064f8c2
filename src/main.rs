//! The thin binary: arguments in, exit code out.

/// A turn is a few thousand small texts: this one makes them in two thirds of the time, and a static binary for musl has
/// none that is fit for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    codeforge::app::main()
}
