//! A small Bookinfo for demos and tests: one program, four roles.
//!
//! The services and their answers are those of Istio's sample of that name. It
//! knows nothing of any mesh: it looks names up with the system's resolver,
//! connects to what it is told, and keeps connections alive as clients do.

mod catalogue;
mod page;
mod server;
mod upstream;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};
use hyper::Uri;

use crate::upstream::Upstream;

#[derive(Debug, Parser)]
#[command(version, about = "A small Bookinfo for demos: one program, four roles")]
struct Arguments {
    #[command(subcommand)]
    role: Role,
    /// Port to serve on, on all addresses of both families
    #[arg(long, global = true, env = "PORT", default_value_t = 9080)]
    port: u16,
    /// What this instance calls itself [default: the host's name]
    #[arg(long, global = true, env = "INSTANCE")]
    instance: Option<String>,
    /// How long another service may take to answer, in milliseconds
    #[arg(long, global = true, env = "TIMEOUT_MS", default_value_t = 3000)]
    timeout_ms: u64,
}

#[derive(Clone, Debug, Subcommand)]
enum Role {
    /// The page that people see; asks details and reviews
    Productpage {
        #[arg(long, env = "DETAILS_URL", default_value = "http://details:9080")]
        details: Uri,
        #[arg(long, env = "REVIEWS_URL", default_value = "http://reviews:9080")]
        reviews: Uri,
    },
    /// What is known of a book
    Details,
    /// What people say about it; v2 and v3 ask ratings
    Reviews {
        #[arg(long, env = "VERSION", default_value = "v1")]
        version: Version,
        #[arg(long, env = "RATINGS_URL", default_value = "http://ratings:9080")]
        ratings: Uri,
    },
    /// How many stars they give it
    Ratings,
}

/// Of reviews.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Version {
    /// No stars
    V1,
    /// Black stars
    V2,
    /// Red stars
    V3,
}

impl Version {
    const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V3 => "v3",
        }
    }

    /// Colour of its stars; v1 has none.
    const fn colour(self) -> Option<&'static str> {
        match self {
            Self::V1 => None,
            Self::V2 => Some("black"),
            Self::V3 => Some("red"),
        }
    }
}

/// All that answering a request needs.
#[derive(Debug)]
struct Service {
    role: Role,
    instance: String,
    upstream: Upstream,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let instance = match arguments.instance {
        Some(name) => name,
        None => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .context("read the host's name: set --instance instead")?
            .trim()
            .to_owned(),
    };
    let upstream = Upstream::new(Duration::from_millis(arguments.timeout_ms));
    let service = Service { role: arguments.role, instance, upstream };
    server::run(arguments.port, Arc::new(service)).await
}
