//! Writes statuses, and Events of what is refused, while this agent holds the Lease.

use std::{sync::Arc, time::Duration};

use http::{Request, header};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{event::event, wanted};
use crate::kubernetes::{Cluster, lease::Held, policy::Object};

/// Between two writes: a thousand resources are no flood.
const PACE: Duration = Duration::from_millis(50);
/// What couldn't be written is tried again after this.
const RETRY: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(10);

/// Follows the verdicts until told to stop.
pub async fn write(
    cluster: Arc<Cluster>,
    mut held: watch::Receiver<Held>,
    stop: CancellationToken,
) {
    let mut last_error = String::new();
    loop {
        let outcome = round(&cluster, &held, &stop).await;
        let retry = match outcome {
            Ok(()) => {
                last_error.clear();
                None
            }
            Err(error) => {
                if error != last_error {
                    tracing::warn!(error, "can't write a status; trying again");
                    last_error = error;
                }
                Some(RETRY)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = cluster.verdicts_changed() => {}
            changed = held.changed() => if changed.is_err() { return },
            () = sleep(retry.unwrap_or_default()), if retry.is_some() => {}
        }
    }
}

/// Writes all that differs; nothing without the Lease.
async fn round(
    cluster: &Cluster,
    held: &watch::Receiver<Held>,
    stop: &CancellationToken,
) -> Result<(), String> {
    let is_ours = || held.borrow().is_some_and(|until| until > Instant::now());
    if !is_ours() {
        return Ok(());
    }
    let verdicts = cluster.verdicts();
    let client = cluster.client();
    let mut failed = Ok(());
    for (verdict, object, programmed) in verdicts {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let Some(status) = wanted(&verdict, &object, &programmed, &now) else { continue };
        if stop.is_cancelled() || !is_ours() {
            break;
        }
        let written = match patch(&client, &object, status).await {
            Ok(true) => match event(&verdict, &object, &now) {
                Some(event) => tell(&client, &object, &event).await,
                None => Ok(()),
            },
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        failed = written.and(failed);
        sleep(PACE).await;
    }
    failed
}

/// The status alone, and only of the version that was seen: where somebody else
/// was quicker (`false`), the watch says so and it is looked at anew.
async fn patch(client: &kube::Client, object: &Object, status: Value) -> Result<bool, String> {
    let resource = object.kind.resource();
    let uri = format!(
        "/apis/{}/{}/namespaces/{}/{}/{}/status?fieldManager=mesh-agent",
        resource.group, resource.version, object.key.namespace, resource.plural, object.key.name
    );
    let body = json!({ "metadata": { "resourceVersion": object.version }, "status": status });
    let request = Request::patch(uri)
        .header(header::CONTENT_TYPE, "application/merge-patch+json")
        .body(body.to_string().into_bytes())
        .expect("names of Kubernetes need no escaping");
    let failed = |error: &str| format!("{resource} {}: {error}", object.key);
    match timeout(ANSWER, client.request::<Value>(request)).await {
        Ok(Ok(_)) => {
            tracing::info!(kind = object.kind.name(), object = %object.key, "status written");
            Ok(true)
        }
        Ok(Err(kube::Error::Api(answer))) => match answer.code {
            // Changed meanwhile, or gone.
            404 | 409 => Ok(false),
            403 => Err(failed(&format!(
                "the ClusterRole needs `patch` on {}/status of {:?} ({})",
                resource.plural, resource.group, answer.message
            ))),
            _ => Err(failed(&answer.to_string())),
        },
        Ok(Err(error)) => Err(failed(&error.to_string())),
        Err(_) => Err(failed("no answer in time")),
    }
}

/// One that is there already has been told by another agent.
async fn tell(client: &kube::Client, object: &Object, event: &Value) -> Result<(), String> {
    let uri = format!("/api/v1/namespaces/{}/events?fieldManager=mesh-agent", object.key.namespace);
    let request = Request::post(uri)
        .header(header::CONTENT_TYPE, "application/json")
        .body(event.to_string().into_bytes())
        .expect("names of Kubernetes need no escaping");
    let failed = |error: &str| format!("an Event of {}: {error}", object.key);
    match timeout(ANSWER, client.request::<Value>(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(answer))) => match answer.code {
            404 | 409 => Ok(()),
            403 => Err(failed(&format!(
                "the ClusterRole needs `create` on events ({})",
                answer.message
            ))),
            _ => Err(failed(&answer.to_string())),
        },
        Ok(Err(error)) => Err(failed(&error.to_string())),
        Err(_) => Err(failed("no answer in time")),
    }
}
