//! The program: see `mesh_agent::cli`.

use std::process::ExitCode;

use mesh_agent::cli;

/// The system's allocator is slow for what is larger than a kilobyte, as requests
/// of HTTP/2 are, and keeps what lies between things that live long. The settings
/// of this one are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let result = cli::main(std::env::args_os());
    if let Err(error) = &result {
        cli::report(error);
    }
    ExitCode::from(cli::code(&result))
}
