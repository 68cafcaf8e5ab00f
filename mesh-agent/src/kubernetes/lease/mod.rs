//! A Lease (coordination.k8s.io): of all agents of a cluster, the one that
//! holds it writes statuses.

mod election;

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease as Object, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use rand::Rng as _;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use election::{Election, Seen, Step};

use super::failure;

/// Which Lease, and how it is held.
#[derive(Clone, Debug)]
pub struct Settings {
    pub namespace: String,
    pub name: String,
    /// Of this agent, and of this run of it.
    pub identity: String,
    /// For how long its holder may be silent.
    pub duration: Duration,
}

/// Until when the Lease is ours for sure; `None` where it isn't.
pub type Held = Option<Instant>;

/// Tries to hold the Lease until told to stop, and then lets go of it.
pub async fn hold(
    client: Client,
    settings: Settings,
    held: watch::Sender<Held>,
    stop: CancellationToken,
) {
    let mut holder = Holder {
        api: Api::namespaced(client, &settings.namespace),
        election: Election::new(settings.identity.clone()),
        last_error: String::new(),
        settings,
        held,
    };
    loop {
        let wait = holder.turn().await;
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(wait) => {}
        }
    }
    holder.release().await;
}

struct Holder {
    api: Api<Object>,
    election: Election,
    settings: Settings,
    held: watch::Sender<Held>,
    last_error: String,
}

impl Holder {
    /// Looks at the Lease once and does what follows; returns when to look
    /// again.
    async fn turn(&mut self) -> Duration {
        let duration = self.settings.duration;
        let started = Instant::now();
        let outcome = timeout(duration / 3, self.attempt()).await;
        let ours = match outcome {
            Ok(Ok(ours)) => {
                self.last_error.clear();
                ours
            }
            Ok(Err(error)) => self.failed(&reason(&error)),
            Err(_) => self.failed("no answer in time"),
        };
        match ours {
            // From before the request was made: the API server's count of the
            // silence can't have begun earlier.
            Some(true) => self.tell(Some(started + duration * 2 / 3)),
            Some(false) => self.tell(None),
            // Unknown: what was ours stays ours until its time is over.
            None => {
                let held = *self.held.borrow();
                self.tell(held.filter(|until| *until > Instant::now()));
            }
        }
        let mine = self.held.borrow().is_some();
        let wait = if mine { duration / 5 } else { duration / 3 };
        // By chance, so that agents don't all ask together.
        wait + wait.mul_f64(rand::rng().random_range(0.0..0.5))
    }

    fn tell(&mut self, held: Held) {
        let before = self.held.send_replace(held);
        if before.is_some() != held.is_some() {
            let lease = format!("{}/{}", self.settings.namespace, self.settings.name);
            match held {
                Some(_) => tracing::info!(lease, "this agent writes statuses now"),
                None => tracing::info!(lease, "this agent writes no statuses any more"),
            }
        }
    }

    /// `None` is: unknown.
    fn failed(&mut self, error: &str) -> Option<bool> {
        if self.last_error != error {
            tracing::warn!(
                lease = format!("{}/{}", self.settings.namespace, self.settings.name),
                error,
                "can't hold the Lease, without which no statuses are written"
            );
            error.clone_into(&mut self.last_error);
        }
        None
    }

    async fn attempt(&mut self) -> Result<Option<bool>, kube::Error> {
        let found = self.api.get_opt(&self.settings.name).await?;
        let step = self.election.observe(found.as_ref().map(seen), Instant::now());
        let write = PostParams::default();
        let written = match (step, found) {
            (Step::Leave, _) => return Ok(Some(false)),
            (Step::Create, _) | (_, None) => {
                self.api.create(&write, &self.object(None, true)).await
            }
            (Step::Renew, Some(lease)) => {
                self.api
                    .replace(&self.settings.name, &write, &self.object(Some(lease), false))
                    .await
            }
            (Step::Take, Some(lease)) => {
                self.api.replace(&self.settings.name, &write, &self.object(Some(lease), true)).await
            }
        };
        match written {
            Ok(lease) => {
                self.election.observe(Some(seen(&lease)), Instant::now());
                Ok(Some(true))
            }
            // Somebody was quicker.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Some(false)),
            Err(error) => Err(error),
        }
    }

    /// The Lease as ours. `before` carries the version, which makes a write
    /// fail where another one came first.
    fn object(&self, before: Option<Object>, anew: bool) -> Object {
        let now = MicroTime(Timestamp::now());
        let (metadata, spec) = match before {
            Some(before) => (before.metadata, before.spec.unwrap_or_default()),
            None => {
                let name = Some(self.settings.name.clone());
                (ObjectMeta { name, ..ObjectMeta::default() }, LeaseSpec::default())
            }
        };
        let spec = LeaseSpec {
            holder_identity: Some(self.election.identity().to_owned()),
            lease_duration_seconds: i32::try_from(self.settings.duration.as_secs().max(1)).ok(),
            acquire_time: if anew { Some(now.clone()) } else { spec.acquire_time.clone() },
            renew_time: Some(now),
            lease_transitions: Some(spec.lease_transitions.unwrap_or(0) + i32::from(anew)),
            ..spec
        };
        Object { metadata, spec: Some(spec) }
    }

    /// Lets go, so that another agent needn't wait.
    async fn release(&mut self) {
        if self.held.send_replace(None).is_none() {
            return;
        }
        let released = async {
            let Some(lease) = self.api.get_opt(&self.settings.name).await? else { return Ok(()) };
            if seen(&lease).holder != self.election.identity() {
                return Ok(());
            }
            let mut lease = self.object(Some(lease), false);
            if let Some(spec) = &mut lease.spec {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
            }
            let name = &self.settings.name;
            self.api.replace(name, &PostParams::default(), &lease).await.map(drop)
        };
        match timeout(Duration::from_secs(1), released).await {
            Ok(Ok(())) => {}
            Ok(Err::<(), kube::Error>(error)) => tracing::debug!(%error, "can't release the Lease"),
            Err(_) => tracing::debug!("can't release the Lease in time"),
        }
    }
}

/// What to do stands there where the API server has refused.
fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(refused) if refused.code == 403 => format!(
            "{}: give it the rights get, create and update on leases.coordination.k8s.io in \
             this namespace",
            refused.message
        ),
        other => failure::chain(other),
    }
}

fn seen(lease: &Object) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Seen {
        holder: spec.holder_identity.unwrap_or_default(),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        duration: Duration::from_secs(seconds.unwrap_or(15)),
    }
}
