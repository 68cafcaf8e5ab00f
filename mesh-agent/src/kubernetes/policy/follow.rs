//! Watches policies and routes, and has their statuses written.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{GrpcRoute, HttpRoute, Kind, MeshPolicy, ReferenceGrant, watched::News};
use crate::kubernetes::{
    Cluster, Progress, Selector, Watched as _,
    cluster::State,
    lease::{self, Held},
    status,
};

/// The watches; a cluster need not have any of these resources.
#[derive(Debug)]
pub struct Watches {
    policies: Arc<Progress>,
    http: Arc<Progress>,
    grpc: Arc<Progress>,
    grants: Arc<Progress>,
}

impl Watches {
    /// `known` tells whether an earlier run left anything.
    pub fn new(state: &super::Policies, known: bool) -> Self {
        let progress = |resource: String, objects: usize| {
            Arc::new(Progress::new(resource, known.then_some(objects)))
        };
        let of = |kind: Kind| progress(kind.resource().to_string(), state.keys(kind).len());
        let grants = state.grant_keys().len();
        Self {
            policies: of(Kind::MeshPolicy),
            http: of(Kind::HttpRoute),
            grpc: of(Kind::GrpcRoute),
            grants: progress(ReferenceGrant::RESOURCE.to_string(), grants),
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Progress>> {
        [&self.policies, &self.http, &self.grpc, &self.grants].into_iter()
    }
}

/// Begins to watch, and to hold the Lease; the tasks end with `stop`.
pub fn start(
    cluster: &Arc<Cluster>,
    silence: Duration,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) {
    macro_rules! follow {
        ($resource:ident, $progress:ident) => {{
            let known = cluster.state().policies.keys(Kind::$resource);
            let progress = &cluster.policies.$progress;
            cluster.follow::<$resource>(tasks, Selector::default(), known, progress, stop, {
                |state, change| {
                    let news = state.policies.object(Kind::$resource, change);
                    note(state, news);
                }
            });
        }};
    }
    follow!(MeshPolicy, policies);
    follow!(HttpRoute, http);
    follow!(GrpcRoute, grpc);
    let known = cluster.state().policies.grant_keys();
    let progress = &cluster.policies.grants;
    cluster.follow(tasks, Selector::default(), known, progress, stop, |state, change| {
        let news = state.policies.grant(change);
        note(state, news);
    });
    let client = cluster.client();
    let settings = lease::Settings {
        namespace: client.default_namespace().to_owned(),
        name: "mesh-agent".to_owned(),
        identity: format!("{}_{:08x}", cluster.node(), rand::random::<u32>()),
        duration: silence,
    };
    let (sender, held) = watch::channel::<Held>(None);
    tasks.spawn(lease::hold(client, settings, sender, stop.clone()));
    tasks.spawn(status::write(Arc::clone(cluster), held, stop.clone()));
}

fn note(state: &mut State, news: News) {
    match news {
        News::Nothing => {}
        News::Status => state.dirty.statuses = true,
        News::Spec => {
            state.dirty.services = true;
            state.dirty.unsaved = true;
        }
    }
}
