//! Both ends of a gRPC conversation, by tonic and its health service: the tests
//! run it inside pods.
//!
//! - `grpc server NAME PORT`: the health service. It knows the service without a name,
//!   which serves, and `flip`, which changes its mind all the time; answers carry NAME.
//! - `grpc check AUTHORITY SERVICE COUNT CONCURRENCY`: calls Check over one
//!   connection and prints how many calls had which outcome.
//! - `grpc watch AUTHORITY SERVICE COUNT`: prints the first messages of a stream.

use std::{
    collections::BTreeMap,
    env,
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use futures_util::{StreamExt as _, stream};
use tonic::{
    Code, Request, Response, Status,
    metadata::AsciiMetadataValue,
    transport::{Channel, Endpoint, Server},
};
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest, HealthCheckResponse,
        health_client::HealthClient,
        health_server::{Health, HealthServer},
    },
    server::{HealthReporter, HealthService},
};

/// How often the service `flip` changes its state.
const FLIP: Duration = Duration::from_millis(100);

/// tonic's service, with the name of the instance in its answers.
struct Named {
    inner: HealthService,
    name: AsciiMetadataValue,
}

#[tonic::async_trait]
impl Health for Named {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let mut response = self.inner.check(request).await?;
        response.metadata_mut().insert("instance", self.name.clone());
        Ok(response)
    }

    type WatchStream = <HealthService as Health>::WatchStream;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.inner.watch(request).await
    }
}

async fn serve(name: &str, port: u16) -> Result<()> {
    let reporter = HealthReporter::new();
    let inner = HealthService::from_health_reporter(reporter.clone());
    tokio::spawn(async move {
        for status in [ServingStatus::Serving, ServingStatus::NotServing].into_iter().cycle() {
            reporter.set_service_status("flip", status).await;
            tokio::time::sleep(FLIP).await;
        }
    });
    let named = Named { inner, name: name.parse()? };
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    Server::builder().add_service(HealthServer::new(named)).serve(address).await?;
    Ok(())
}

async fn connect(authority: &str) -> Result<HealthClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))?
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(20));
    let channel = endpoint.connect().await.context("connect")?;
    Ok(HealthClient::new(channel))
}

/// The instance that answered, or the error.
async fn call(mut client: HealthClient<Channel>, service: &str) -> String {
    let request = HealthCheckRequest { service: service.to_owned() };
    match client.check(request).await {
        Ok(response) => {
            let name = response.metadata().get("instance").and_then(|name| name.to_str().ok());
            name.unwrap_or("nobody").to_owned()
        }
        // Whatever lies between the ends has no code of its own to hide behind.
        Err(status) if status.code() == Code::NotFound => "NotFound".to_owned(),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}

async fn check(authority: &str, service: &str, count: usize, concurrency: usize) -> Result<()> {
    let client = connect(authority).await?;
    let mut outcomes = BTreeMap::<String, usize>::new();
    let mut calls =
        stream::iter(0..count).map(|_| call(client.clone(), service)).buffer_unordered(concurrency);
    while let Some(outcome) = calls.next().await {
        *outcomes.entry(outcome).or_default() += 1;
    }
    for (outcome, count) in outcomes {
        println!("{count} {outcome}");
    }
    Ok(())
}

async fn watch(authority: &str, service: &str, count: usize) -> Result<()> {
    let mut client = connect(authority).await?;
    let request = HealthCheckRequest { service: service.to_owned() };
    let mut messages = client.watch(request).await?.into_inner();
    for _ in 0..count {
        let message = messages.message().await?.context("the stream ended")?;
        println!("{:?}", message.status());
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["server", name, port] => serve(name, port.parse()?).await,
        ["check", authority, service, count, concurrency] => {
            check(authority, service, count.parse()?, concurrency.parse()?).await
        }
        ["watch", authority, service, count] => watch(authority, service, count.parse()?).await,
        _ => bail!("usage: see the head of this program"),
    }
}
