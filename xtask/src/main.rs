//! What a developer and CI call.

mod demo;

use anyhow::Result;
use clap::Parser;

#[derive(Debug, Parser)]
enum Command {
    /// Shows the mesh at work on pods of its own
    Demo(demo::DemoOptions),
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Demo(options) => demo::run(&options),
    }
}
