//! The program: see `mesh_agent::cli`.

use std::process::ExitCode;

use mesh_agent::cli;

/// The proxy makes and drops small buffers on every core; the system's
/// allocator would have them wait for each other.
fn main() -> ExitCode {
    let result = cli::main(std::env::args_os());
    if let Err(error) = &result {
        cli::report(error);
    }
    ExitCode::from(cli::code(&result))
}
