//! A new configuration into a running agent: all of it or nothing.

use std::{collections::BTreeSet, net::IpAddr, sync::atomic::Ordering};

use super::{
    agent::{Agent, LastReload},
    discovery,
    watch::Stamp,
};
use crate::{
    admin::{ControlError, ReloadOutcome},
    config,
    model::Settings,
};

/// Reads the file again and puts it into force.
pub(super) async fn reload(agent: &Agent) -> Result<ReloadOutcome, ControlError> {
    let _alone = agent.reloading.lock().await;
    let path = agent.config_path();
    // Taken first: what is written while it is read counts as another one.
    agent.note_read(Stamp::of(&path));
    let loaded = tokio::task::spawn_blocking(move || config::load(&path)).await;
    let outcome = match loaded {
        Err(error) => Err(ControlError::Unavailable(error.to_string())),
        Ok(Err(error)) => Err(ControlError::Invalid(error.to_string())),
        Ok(Ok(settings)) => apply(agent, settings).await,
    };
    let problems = match &outcome {
        Ok(_) => Vec::new(),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    };
    let counter = if problems.is_empty() { &agent.reloads.0 } else { &agent.reloads.1 };
    counter.fetch_add(1, Ordering::Relaxed);
    agent.note_reload(LastReload { at: std::time::Instant::now(), problems });
    outcome
}

/// The same, for where nobody waits for the answer.
pub(super) async fn and_log(agent: &Agent, why: &str) {
    match reload(agent).await {
        Ok(outcome) => {
            tracing::info!(
                why,
                changed = outcome.changed,
                generation = outcome.generation,
                "reloaded"
            );
            if !outcome.needs_restart.is_empty() {
                tracing::warn!(
                    keys = outcome.needs_restart.join(", "),
                    "these take effect after a restart"
                );
            }
        }
        Err(error) => {
            tracing::error!(why, %error, "reload refused: the old configuration serves on");
        }
    }
}

async fn apply(agent: &Agent, new: Settings) -> Result<ReloadOutcome, ControlError> {
    let old = agent.settings();
    let mut needs_restart = needs_restart(&old, &new);
    if agent.kernel().is_none() && addresses(&old) != addresses(&new) {
        needs_restart.push("services[].address (without eBPF)".to_owned());
    }
    let mut file = keep_what_needs_a_restart(&old, new);
    file.keep(&old);
    let composed = agent.kubernetes().map(|kubernetes| kubernetes.compose(&file));
    let new = composed.as_ref().map_or_else(|| file.clone(), |it| it.settings.clone());
    let changed = *old != new;
    if changed {
        let applied = agent.put_into_force(&old, new, discovery::FIRST_ANSWERS).await;
        if let (Some(kubernetes), Err(error)) = (agent.kubernetes(), &applied) {
            kubernetes.cluster.applied(Err(error.to_string()));
        }
        applied?;
    }
    agent.set_file(file);
    if let Some((kubernetes, composed)) = agent.kubernetes().zip(composed) {
        kubernetes.note(composed);
    }
    let snapshot = agent.snapshots.load();
    Ok(ReloadOutcome {
        changed,
        generation: snapshot.generation,
        services: snapshot.services.len() as u64,
        needs_restart,
    })
}

/// Keys whose change a running agent can't follow.
fn needs_restart(old: &Settings, new: &Settings) -> Vec<String> {
    let mut keys = Vec::new();
    let mut check = |differs: bool, key: &str| {
        if differs {
            keys.push(key.to_owned());
        }
    };
    check(old.capture.pins != new.capture.pins, "capture.pins");
    check(old.capture.kubepods != new.capture.kubepods, "capture.kubepods");
    check(old.capture.proxy_port != new.capture.proxy_port, "capture.proxyPort");
    check(old.capture.mark != new.capture.mark, "capture.mark");
    check(old.admin.socket != new.admin.socket, "admin.socket");
    check(old.admin.http != new.admin.http, "admin.http");
    check(old.dns.port != new.dns.port, "dns.port");
    check(old.dns.ttl != new.dns.ttl, "dns.ttl");
    let (before, after) = (&old.kubernetes, &new.kubernetes);
    check(before.enabled != after.enabled, "kubernetes.enabled");
    check(before.kubeconfig != after.kubeconfig, "kubernetes.kubeconfig");
    check(before.node != after.node, "kubernetes.node");
    check(before.lease != after.lease, "kubernetes.leaseDuration");
    keys
}

/// What `--no-ebpf` listens on, which it does at its start.
fn addresses(settings: &Settings) -> BTreeSet<(IpAddr, u16)> {
    (settings.services.iter())
        .flat_map(|service| service.ports.iter().map(move |port| (service, port.port.get())))
        .flat_map(|(service, port)| service.addresses.iter().map(move |&ip| (ip, port)))
        .collect()
}

fn keep_what_needs_a_restart(old: &Settings, mut new: Settings) -> Settings {
    new.capture.pins.clone_from(&old.capture.pins);
    new.capture.kubepods.clone_from(&old.capture.kubepods);
    new.capture.proxy_port = old.capture.proxy_port;
    new.capture.mark = old.capture.mark;
    new.admin = old.admin.clone();
    new.dns.port = old.dns.port;
    new.dns.ttl = old.dns.ttl;
    new.kubernetes.enabled = old.kubernetes.enabled;
    new.kubernetes.kubeconfig.clone_from(&old.kubernetes.kubeconfig);
    new.kubernetes.node.clone_from(&old.kubernetes.node);
    new.kubernetes.lease = old.kubernetes.lease;
    new
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_only_the_start_reads_is_named_and_kept() {
        let old = config::parse("services: []").unwrap();
        let mut new = old.clone();
        new.kubernetes.lease = Duration::from_secs(30);
        assert_eq!(needs_restart(&old, &new), ["kubernetes.leaseDuration"]);
        assert_eq!(keep_what_needs_a_restart(&old, new), old);
    }
}
