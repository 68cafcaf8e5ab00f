//! Every metric there is: name, kind, labels and meaning, once.

use super::metrics::{Counter, Descriptor, Gauge, Histogram, Kind};

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $id:ident: $kind:ident $name:literal [$($label:literal),*];)+) => {
        $(
            $(#[doc = $help])+
            pub static $id: $kind<{ let labels: &[&str] = &[$($label),*]; labels.len() }> =
                $kind(Descriptor {
                    name: $name,
                    kind: Kind::$kind,
                    labels: &[$($label),*],
                    help: concat!($($help),+),
                });
        )+
        /// In the order of the exposition and of docs/metrics.md.
        pub static ALL: &[&Descriptor] = &[$(&$id.0),+];
    };
}

metrics! {
    /// Always 1; the label says which version runs
    BUILD_INFO: Gauge "mesh_build_info" ["version"];
    /// Time since the agent started
    UPTIME: Gauge "mesh_uptime_seconds" [];
    /// 1 while the agent serves, 0 while it starts or drains
    READY: Gauge "mesh_ready" [];
    /// How many things are degraded; `mesh-agent status` names them
    DEGRADED: Gauge "mesh_degraded" [];
    /// Memory of the agent that is in RAM
    RESIDENT_MEMORY: Gauge "mesh_resident_memory_bytes" [];
    /// File descriptors that the agent has open
    OPEN_DESCRIPTORS: Gauge "mesh_open_descriptors" [];

    /// Taps that are open: those who watch requests and connections
    TAPS: Gauge "mesh_taps" [];
    /// Events that taps lost, because they weren't taken fast enough
    TAP_LOST: Counter "mesh_tap_lost_events_total" [];
    /// Connections that were closed because their instance was removed or ejected (onRemoval)
    ENDED_BY_REMOVAL: Counter "mesh_removal_closed_connections_total" [];
    /// Reloads of the configuration, by result: ok or failed
    RELOADS: Counter "mesh_reloads_total" ["result"];
    /// 1 where the last reload was accepted, 0 where the one before still serves
    RELOAD_OK: Gauge "mesh_last_reload_ok" [];
    /// Generation of the services as the agent has them
    REGISTRY_GENERATION: Gauge "mesh_registry_generation" [];
    /// Generation of the services as the kernel has them; it lags only while maps are written
    KERNEL_GENERATION: Gauge "mesh_kernel_generation" [];

    /// Instances that stand of a discovery source
    SOURCE_INSTANCES: Gauge "mesh_source_instances" ["service", "kind", "target"];
    /// Time since a discovery source answered last
    SOURCE_AGE: Gauge "mesh_source_age_seconds" ["service", "kind", "target"];
    /// 0 while a discovery source fails: what it said before stands
    SOURCE_OK: Gauge "mesh_source_ok" ["service", "kind", "target"];
    /// Times that a discovery source answered
    SOURCE_ANSWERS: Counter "mesh_source_answers_total" ["service", "kind", "target"];
    /// Times that a discovery source was asked and gave nothing that could be used
    SOURCE_ERRORS: Counter "mesh_source_errors_total" ["service", "kind", "target"];

    /// Objects that are known of a watched resource of Kubernetes
    WATCH_OBJECTS: Gauge "mesh_kubernetes_watch_objects" ["resource"];
    /// 1 while a resource of Kubernetes is followed, 0 while what was known stands
    WATCH_SYNCED: Gauge "mesh_kubernetes_watch_synced" ["resource"];
    /// Time since the API server last said anything of a resource
    WATCH_AGE: Gauge "mesh_kubernetes_watch_age_seconds" ["resource"];
    /// Objects of a resource that make no sense: what was known of them stands
    WATCH_UNREADABLE: Gauge "mesh_kubernetes_watch_unreadable_objects" ["resource"];
    /// Changes of a resource's objects that were seen
    WATCH_EVENTS: Counter "mesh_kubernetes_watch_events_total" ["resource"];
    /// Times that all objects of a resource were listed: once, and after each gap
    WATCH_LISTS: Counter "mesh_kubernetes_watch_lists_total" ["resource"];
    /// Times that following a resource failed, and objects that made no sense
    WATCH_ERRORS: Counter "mesh_kubernetes_watch_errors_total" ["resource"];

    /// 1 where the hook is attached to the cgroup and ours, 0 where not
    HOOK_ATTACHED: Gauge "mesh_hook_attached" ["cgroup", "hook"];
    /// Network namespaces that have a listener of the agent
    NAMESPACES: Gauge "mesh_captured_namespaces" [];
    /// Pods of Kubernetes that are captured
    CAPTURED_PODS: Gauge "mesh_captured_pods" ["namespace"];
    /// Live connections of captured pods, by the service account that the pod runs under
    CLIENT_CONNECTIONS: Gauge "mesh_client_connections" ["namespace", "service_account", "service", "path"];
    /// Age of the heartbeat by which the kernel knows that the agent lives
    HEARTBEAT_AGE: Gauge "mesh_heartbeat_age_seconds" [];
    /// Entries in a kernel map
    MAP_ENTRIES: Gauge "mesh_map_entries" ["map"];
    /// Entries that a kernel map can hold
    MAP_CAPACITY: Gauge "mesh_map_capacity" ["map"];
    /// What the hooks decided, by reason
    VERDICTS: Counter "mesh_verdicts_total" ["reason"];

    /// Connections to a service port, by the path that they took: kernel or proxy
    CONNECTIONS: Counter "mesh_connections_total" ["service", "port", "path"];
    /// Connections to a service port that are open
    OPEN: Gauge "mesh_open_connections" ["service", "port", "path"];
    /// Connections of a proxied service that the kernel balanced while no agent answered
    FALLBACK: Counter "mesh_connections_fallback_total" ["service", "port"];
    /// Connections that were refused: no instance, or no agent and onAgentFailure is closed
    REFUSED: Counter "mesh_connections_refused_total" ["service", "port"];
    /// Datagrams that clients sent to a service port
    DATAGRAMS: Counter "mesh_datagrams_total" ["service", "port"];
    /// HTTP requests to a service port
    REQUESTS: Counter "mesh_requests_total" ["service", "port"];
    /// Responses of 500 and above, and connections that no instance took
    ERRORS: Counter "mesh_errors_total" ["service", "port"];
    /// Time to the first byte of an answer, or of tcp to connect, on the proxy path
    RESPONSES: Histogram "mesh_response_seconds" ["service", "port"];
    /// Further attempts on another instance after one that failed, by why it failed
    RETRIES: Counter "mesh_retries_total" ["service", "port", "reason"];
    /// Further attempts that were not made because the retry budget was used up
    RETRIES_REFUSED: Counter "mesh_retries_refused_total" ["service", "port"];
    /// Copies of requests that routes mirror to this service, by what became of them: answered, failed (by no instance), timeout, behind (cut, because it couldn't keep up), broken (the request itself broke off), full (not sent, because too many were under way)
    MIRRORED: Counter "mesh_mirrored_requests_total" ["service", "port", "result"];
    /// Copies of requests that are under way to this service
    MIRRORED_NOW: Gauge "mesh_mirrored_requests" ["service", "port"];

    /// 1 where so few instances are available that those that fail are used as well
    PANIC: Gauge "mesh_service_panic" ["service", "port"];
    /// Share of the picks that a tier gets, 0 to 1; tier 0 is the nearest
    TIER_SHARE: Gauge "mesh_service_tier_share" ["service", "port", "tier"];
    /// Requests and connections that a limit of the policy refused, by `x-mesh-error`; connect: by the hooks
    OVER_LIMIT: Counter "mesh_over_limit_total" ["service", "port", "reason"];
    /// Requests and connections that a rate limit in dry run would have refused
    DRY_RUN: Counter "mesh_rate_limit_dry_run_total" ["service", "port"];

    /// 1 where the instance is picked, 0 where it is drained or its weight is 0
    AVAILABLE: Gauge "mesh_instance_available" ["service", "port", "instance"];
    /// Share of the picks that the instance is due, 0 to 1, by weight, tier and age
    SHARE: Gauge "mesh_instance_share" ["service", "port", "instance"];
    /// 1 while the instance is ejected, until a probe succeeds
    EJECTED: Gauge "mesh_instance_ejected" ["service", "port", "instance"];
    /// Times that the instance was ejected, failed probes included
    EJECTIONS: Counter "mesh_instance_ejections_total" ["service", "port", "instance"];
    /// Active health checks of the instance that failed
    CHECKS_FAILED: Counter "mesh_health_checks_failed_total" ["service", "port", "instance"];
    /// Requests (HTTP) or connections under way
    IN_FLIGHT: Gauge "mesh_instance_in_flight" ["service", "port", "instance", "path"];
    /// Times that the instance was picked
    PICKS: Counter "mesh_instance_picks_total" ["service", "port", "instance", "path"];
    /// Attempts that failed before the first byte of a response
    FAILURES: Counter "mesh_instance_failures_total" ["service", "port", "instance", "path"];
    /// Bytes that clients sent to the instance; on the kernel path counted when a connection closes
    SENT: Counter "mesh_instance_sent_bytes_total" ["service", "port", "instance", "path"];
    /// Bytes that clients received from the instance; on the kernel path counted when a connection closes
    RECEIVED: Counter "mesh_instance_received_bytes_total" ["service", "port", "instance", "path"];
    /// Limit of what may be under way at the instance, by adaptiveConcurrency on the proxy path
    CONCURRENCY_LIMIT: Gauge "mesh_instance_concurrency_limit" ["service", "port", "instance"];
    /// Moving average of the time to the first byte of a response, on the proxy path
    RESPONSE_TIME: Gauge "mesh_instance_response_seconds" ["service", "port", "instance"];
    /// Smoothed round trip of the connection that closed last, on the kernel path
    ROUND_TRIP: Gauge "mesh_instance_round_trip_seconds" ["service", "port", "instance"];

    /// DNS queries of captured sockets, by result: answered, forwarded or failed
    DNS_QUERIES: Counter "mesh_dns_queries_total" ["result"];
}
