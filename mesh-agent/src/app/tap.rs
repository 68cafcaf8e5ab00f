//! What those who watch get: records with what the system knows of their
//! clients, as lines.

use std::{
    cell::OnceCell,
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::{agent::Agent, connections::Clients};
use crate::{
    admin::{ControlError, TapEvent, TapLine, Who},
    datapath::{self, Record as Report},
    model::Transport,
    tap::{self, Client, End, Ended, Filter, Glob, Kind, Record, Seen, Tap, Via},
};

/// Lines that are handed on together.
const BATCH: usize = 64;
/// How long what is known of a client is believed.
const BELIEVED: Duration = Duration::from_secs(1);

pub(super) fn watch(
    agent: &Arc<Agent>,
    filter: Filter,
) -> Result<BoxStream<'static, Vec<TapLine>>, ControlError> {
    let tap = (agent.taps.watch(filter))
        .map_err(|too_many| ControlError::Unavailable(too_many.to_string()))?;
    if let Some(kernel) = agent.kernel() {
        // From here on; the heartbeat renews it, and ends it with the last tap.
        (kernel.tables().report_connections(true))
            .map_err(|error| ControlError::Unavailable(format!("{error:#}")))?;
    }
    let watching = Watching { tap, clients: Whose::new(agent) };
    Ok(stream::unfold(watching, async |mut watching| {
        let lines = watching.lines().await;
        Some((lines, watching))
    })
    .boxed())
}

struct Watching {
    tap: Tap,
    clients: Whose,
}

impl Watching {
    /// What happens next; never nothing.
    async fn lines(&mut self) -> Vec<TapLine> {
        let mut lines = Vec::new();
        while lines.is_empty() {
            let first = match self.tap.next_now() {
                Some(seen) => seen,
                None => self.tap.next().await,
            };
            let mut next = Some(first);
            while let Some(seen) = next {
                lines.extend(self.line(seen));
                next = if lines.len() < BATCH { self.tap.next_now() } else { None };
            }
        }
        lines
    }

    fn line(&mut self, seen: Seen) -> Option<TapLine> {
        let record = match seen {
            Seen::Lost(lost) => return Some(TapLine::Lost { lost }),
            Seen::Record(record) => record,
        };
        let who = self.clients.who(record.client);
        let wanted = self.tap.filter().client.as_ref();
        wanted
            .is_none_or(|pattern| is_client(pattern, record.client.address, &who))
            .then(|| TapLine::Event(Box::new(event(&record, who))))
    }
}

/// By the name of its pod, service account, process or cgroup, or its address.
fn is_client(pattern: &Glob, address: Option<SocketAddr>, who: &Who) -> bool {
    let matches = |text: &str| !text.is_empty() && pattern.matches(text);
    let pod = who.pod.as_ref().is_some_and(|pod| {
        matches(&pod.name)
            || matches(&format!("{}/{}", pod.namespace, pod.name))
            || matches(&format!("{}/{}", pod.namespace, pod.service_account))
    });
    pod || matches(&who.process)
        || matches(&who.cgroup)
        || who.cgroup.rsplit('/').next().is_some_and(matches)
        || (who.pid > 0 && matches(&who.pid.to_string()))
        || address.is_some_and(|address| matches(&address.ip().to_string()))
}

fn event(record: &Record, who: Who) -> TapEvent {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let end = record.end.as_ref();
    let request = record.request.as_ref();
    TapEvent {
        time: tap::timestamp(record.at),
        event: record.event(),
        kind: record.kind,
        via: record.via,
        client: record.client.address.map(|address| address.to_string()),
        who,
        service: record.service.as_ref().map(ToString::to_string),
        destination: record.destination.to_string(),
        instance: record.instance.map(|instance| instance.to_string()),
        protocol: record.protocol.to_owned(),
        method: request.map(|request| request.method.to_string()),
        authority: request.and_then(|request| request.authority.clone()),
        path: request.map(|request| request.path.clone()),
        status: end.and_then(|end| end.status),
        grpc_status: end.and_then(|end| end.grpc_status),
        ended: end.map(|end| end.ended),
        why: end.and_then(|end| end.why.clone()),
        duration_us: end.map(|end| micros(end.duration)),
        first_byte_us: end.and_then(|end| end.first_byte).map(micros),
        rtt_us: end.and_then(|end| end.round_trip).map(micros),
        bytes_sent: end.map(|end| end.sent),
        bytes_received: end.map(|end| end.received),
        attempts: end.map(|end| end.attempts),
        requests: end.and_then(|end| end.requests),
    }
}

/// What is known of clients. Of a process that has ended there is its cgroup.
struct Whose {
    agent: Arc<Agent>,
    clients: Clients,
    since: Instant,
    known: HashMap<Client, Who>,
    /// Listed when one is asked for.
    cgroups: OnceCell<HashMap<u64, String>>,
}

impl Whose {
    fn new(agent: &Arc<Agent>) -> Self {
        Self {
            agent: Arc::clone(agent),
            clients: Clients::of(agent),
            since: Instant::now(),
            known: HashMap::new(),
            cgroups: OnceCell::new(),
        }
    }

    fn who(&mut self, client: Client) -> Who {
        if self.since.elapsed() > BELIEVED {
            *self = Self::new(&self.agent);
        }
        let key = Client { address: None, ..client };
        if let Some(who) = self.known.get(&key) {
            return who.clone();
        }
        let mut who = self.clients.who(client.pid, client.netns);
        if who.cgroup.is_empty() && client.cgroup > 0 {
            who.cgroup = self.cgroup(client.cgroup);
            who.pod = who.pod.or_else(|| self.clients.pod_of(&who.cgroup));
        }
        self.known.insert(key, who.clone());
        who
    }

    fn cgroup(&self, id: u64) -> String {
        let names = self.cgroups.get_or_init(|| {
            let mut roots = self.agent.settings().capture.cgroups.clone();
            roots.extend(self.agent.pods.table().tree().map(ToOwned::to_owned));
            // There may be thousands of them.
            tokio::task::block_in_place(|| datapath::cgroup_names(roots))
        });
        names.get(&id).cloned().unwrap_or_default()
    }
}

/// Tells those who watch what a hook reports.
pub(super) fn report(agent: &Agent, report: &Report, end: Option<(Ended, Option<&'static str>)>) {
    if !agent.taps.is_on() {
        return;
    }
    let destination = report.original.to_socket_addr();
    let address = |address: SocketAddr| (address.port() > 0).then_some(address);
    let micros = |us: u32| (us > 0).then(|| Duration::from_micros(us.into()));
    let instance = address(report.backend_address.to_socket_addr());
    let service = match instance {
        Some(_) => {
            let key = agent.kernel().and_then(|kernel| kernel.tables().port_of(report.service));
            key.map(|(name, ..)| name)
        }
        // A call that was refused doesn't know the number of its service.
        None => {
            let snapshot = agent.snapshots.load();
            snapshot.find(destination, Transport::Tcp).map(|port| port.service.clone())
        }
    };
    agent.taps.publish(Record {
        at: SystemTime::now(),
        kind: Kind::Connection,
        via: Via::Kernel,
        client: Client {
            address: address(report.client.to_socket_addr()),
            pid: report.pid,
            cgroup: report.cgroup,
            netns: report.netns,
        },
        service,
        destination,
        instance,
        protocol: "tcp",
        request: None,
        end: end.map(|(ended, why)| End {
            ended,
            status: None,
            grpc_status: None,
            why: why.map(str::to_owned),
            duration: Duration::from_nanos(report.duration_ns),
            first_byte: None,
            round_trip: micros(report.srtt_us),
            sent: report.bytes_sent,
            received: report.bytes_received,
            attempts: instance.is_some().into(),
            requests: None,
        }),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::PodView;

    #[test]
    fn clients_go_by_any_of_their_names() {
        let who = Who {
            pid: 812,
            process: "curl".to_owned(),
            cgroup: "/mesh/captured/web-1".to_owned(),
            pod: Some(PodView {
                namespace: "default".to_owned(),
                name: "web-7d8c9".to_owned(),
                service_account: "bookinfo".to_owned(),
            }),
            netns: 4097,
        };
        let address = Some("[fd00::9]:40312".parse().unwrap());
        for (pattern, matches) in [
            ("curl", true),
            ("web-1", true),
            ("/mesh/captured/*", true),
            ("web-7d8c9", true),
            ("default/web-*", true),
            ("default/bookinfo", true),
            ("812", true),
            ("fd00::9", true),
            ("web", false),
            ("bookinfo", false),
            ("wget", false),
        ] {
            let pattern: Glob = pattern.parse().unwrap();
            assert_eq!(is_client(&pattern, address, &who), matches, "{pattern}");
        }
        let nobody = Who::default();
        assert!(!is_client(&"*".parse().unwrap(), None, &nobody), "nothing is known of it");
    }
}
