//! How the watches of the cluster are, as `status` and the metrics show it.

use super::agent::Agent;
use crate::{
    admin::{SourceState, SourceView, UnreadableView, WatchState, WatchView},
    kubernetes::{self, WatchStatus},
    model::{KubernetesSource, ServiceName},
};

pub(super) fn views(agent: &Agent) -> Vec<WatchView> {
    let watches = agent.kubernetes().map(|kubernetes| kubernetes.cluster.status());
    watches.into_iter().flatten().map(view).collect()
}

/// The sources of the file that the cluster answers; its own services are not
/// among them, there may be thousands.
pub(super) fn sources(agent: &Agent) -> Vec<SourceView> {
    let Some(kubernetes) = agent.kubernetes() else { return Vec::new() };
    let (file, settings) = (agent.file(), agent.settings());
    let watches = views(agent);
    let slices = watches.iter().find(|watch| watch.resource.starts_with("endpointslices"));
    let view = |(service, source): (&ServiceName, &KubernetesSource)| {
        let found = kubernetes.cluster.instances(source, &settings.locality.cloud);
        let (state, instances) = match &found {
            Ok(found) if found.is_empty() => (SourceState::Empty, 0),
            Ok(found) => (SourceState::Ok, found.len()),
            Err(absent) if absent.known => (SourceState::Empty, 0),
            Err(_) => (SourceState::Waiting, 0),
        };
        SourceView {
            service: service.to_string(),
            kind: "kubernetes".to_owned(),
            target: source.shown.to_string(),
            state,
            instances: instances as u64,
            age_ms: slices.and_then(|watch| watch.age_ms),
            last_error: found.err().map(|absent| absent.why),
            last_error_age_ms: None,
            next_try_ms: None,
            answers: slices.map_or(0, |watch| watch.lists),
            errors: slices.map_or(0, |watch| watch.errors),
        }
    };
    super::kubernetes::sources(&file).map(|(name, _, source)| view((name, source))).collect()
}

/// What isn't followed, and what of the cluster isn't in force.
pub(super) fn degraded(agent: &Agent) -> Vec<String> {
    let Some(kubernetes) = agent.kubernetes() else { return Vec::new() };
    let watches = views(agent);
    let mut degraded = match unfollowed(&watches) {
        Some(all) => vec![all],
        None => watches.iter().filter_map(trouble).collect(),
    };
    degraded.extend(watches.iter().flat_map(unreadable));
    degraded.extend(kubernetes.problems());
    degraded
}

/// That no resource is followed any more: one thing, not five.
fn unfollowed(watches: &[WatchView]) -> Option<String> {
    let installed = |watch: &&WatchView| watch.state != WatchState::NotInstalled;
    let mut watches = watches.iter().filter(installed);
    if !watches.clone().all(|watch| watch.state == WatchState::Stale) {
        return None;
    }
    let why = watches.find_map(|watch| watch.last_error.as_deref())?;
    Some(format!("the cluster is not followed, what was known of it stands: {why}"))
}

fn view(watch: WatchStatus) -> WatchView {
    let millis =
        |at: tokio::time::Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
    WatchView {
        resource: watch.resource,
        state: match watch.state {
            kubernetes::WatchState::Waiting => WatchState::Waiting,
            kubernetes::WatchState::Synced => WatchState::Synced,
            kubernetes::WatchState::Stale => WatchState::Stale,
            kubernetes::WatchState::Failing => WatchState::Failing,
            kubernetes::WatchState::NotInstalled => WatchState::NotInstalled,
        },
        objects: watch.objects as u64,
        age_ms: watch.heard.map(millis),
        last_error_age_ms: watch.last_error.as_ref().map(|(at, _)| millis(*at)),
        last_error: watch.last_error.map(|(_, error)| error),
        events: watch.events,
        lists: watch.lists,
        errors: watch.errors,
        unreadable: (watch.unreadable.into_iter())
            .map(|(object, why)| UnreadableView { object, why })
            .collect(),
    }
}

fn trouble(watch: &WatchView) -> Option<String> {
    let why = watch.last_error.as_deref().unwrap_or("nothing was heard of it");
    let resource = &watch.resource;
    match watch.state {
        WatchState::Synced | WatchState::Waiting | WatchState::NotInstalled => None,
        WatchState::Stale => Some(format!(
            "{resource} of the cluster are not followed, the {} known ones stand: {why}",
            watch.objects
        )),
        WatchState::Failing => Some(format!("nothing is known of the cluster's {resource}: {why}")),
    }
}

fn unreadable(watch: &WatchView) -> impl Iterator<Item = String> {
    watch.unreadable.iter().map(|UnreadableView { object, why }| {
        let resource = &watch.resource;
        format!("{object} of {resource} makes no sense, what was known of it stands: {why}")
    })
}
