//! A server of known capacity under more load than it has.

use anyhow::{Context as _, Result};

use crate::{Pod, Process, example, server::wait_for_port};

/// What a client of the program `overload` saw.
#[derive(Clone, Copy, Debug)]
pub struct Overload {
    pub served: f64,
    pub refused: f64,
    pub failed: f64,
    pub seconds: f64,
    /// Of what was served, in milliseconds.
    pub median: f64,
    pub p99: f64,
}

impl Overload {
    /// Starts a server: so many requests at a time, each of which takes so long.
    pub fn server(pod: &Pod, port: u16, workers: u32, milliseconds: u32) -> Result<Process> {
        let numbers = [port.into(), workers, milliseconds].map(|number| number.to_string());
        let arguments = std::iter::once("server").chain(numbers.iter().map(String::as_str));
        let server = pod.spawn(&program()?, arguments)?;
        wait_for_port(pod, port)?;
        Ok(server)
    }

    /// Asks so often in a second, over so many connections that are kept; over
    /// one for each request where that is `None`.
    pub fn run(
        pod: &Pod,
        address: &str,
        rate: u32,
        connections: Option<u32>,
        seconds: u32,
    ) -> Result<Self> {
        let (rate, seconds) = (rate.to_string(), seconds.to_string());
        let kept = connections.map(|connections| connections.to_string());
        let arguments = match &kept {
            Some(kept) => vec!["client", address, &rate, kept, &seconds],
            None => vec!["connect", address, &rate, &seconds],
        };
        let line = pod.run(&program()?, arguments)?;
        let numbers: Vec<f64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let [served, refused, failed, seconds, median, p99] =
            numbers[..].try_into().with_context(|| format!("what the client printed: {line}"))?;
        Ok(Self { served, refused, failed, seconds, median, p99 })
    }

    /// Requests served in a second.
    pub fn goodput(&self) -> f64 {
        self.served / self.seconds
    }
}

fn program() -> Result<String> {
    let path = example("overload")?;
    Ok(path.to_str().context("the path of this program")?.to_owned())
}
