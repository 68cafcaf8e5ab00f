use super::*;
use crate::{
    discovery::{SourceState, instance},
    model::{HttpSource, OnAgentFailure, PathChoice, Port, Protocol},
};

/// Can't be asked, and says so at once: no server is needed.
fn broken(name: &str) -> Source {
    Source::Http(HttpSource { url: format!("https://{name}/"), ..HttpSource::default() })
}

fn spec(name: &str, sources: Vec<Source>) -> ServiceSpec {
    ServiceSpec {
        name: ServiceName::new(name),
        addresses: vec!["10.96.0.1".parse().unwrap()],
        hostnames: Vec::new(),
        ports: vec![Port { port: std::num::NonZeroU16::MIN, protocol: Protocol::Tcp }],
        path: PathChoice::Auto,
        on_agent_failure: OnAgentFailure::Open,
        static_instances: Vec::new(),
        sources,
        routes: Vec::new(),
        policy: Arc::default(),
    }
}

fn discovery(memory: Memory) -> Discovery {
    Discovery::new(SocketOptions { mark: 0 }, memory).unwrap()
}

/// What an earlier run would have kept of these.
fn memory_of(sources: &[(&str, Source)]) -> Memory {
    let entry = |(service, source): &(&str, Source)| {
        let known =
            Published::new([instance("10.0.0.1:80")].into(), Some(Instant::now()), Arc::default());
        let report = known.report().clone();
        (memory::Key::of(&ServiceName::new(service), source), report)
    };
    Memory::of(sources.iter().map(entry))
}

fn tasks(discovery: &Discovery) -> Vec<Arc<Published>> {
    let services = discovery.services();
    let all = services.iter().flat_map(|(_, sources)| sources);
    all.flatten().map(|running| Arc::clone(&running.published)).collect()
}

#[tokio::test]
async fn sources_that_are_still_there_go_on_undisturbed() {
    let discovery = discovery(Memory::default());
    let first = discovery
        .prepare(&[spec("a", vec![broken("x"), broken("y")]), spec("b", vec![broken("x")])]);
    first.first_outcomes(Duration::from_secs(10)).await;
    assert_eq!(first.found().len(), 3);
    discovery.commit(first);
    let before = tasks(&discovery);
    let stop = discovery.services()[1].1[0].as_ref().unwrap().stop.clone();

    let second = discovery.prepare(&[spec("c", vec![broken("x")]), spec("a", vec![broken("y")])]);
    discovery.commit(second);
    let after = tasks(&discovery);
    assert_eq!(after.len(), 2);
    assert!(Arc::ptr_eq(&after[1], &before[1]), "a's y moved, and is the same task");
    assert!(stop.is_cancelled(), "b's source has ended");
    discovery.stop().await;
}

#[tokio::test]
async fn what_is_prepared_and_dropped_leaves_everything_as_it_was() {
    let discovery = discovery(Memory::default());
    discovery.commit(discovery.prepare(&[spec("a", vec![broken("x")])]));
    let before = tasks(&discovery);
    let refused = discovery.prepare(&[spec("a", vec![broken("z")])]);
    let stop = refused.services[0].1[0].as_ref().unwrap().stop.clone();
    drop(refused);
    assert!(stop.is_cancelled());
    assert!(Arc::ptr_eq(&tasks(&discovery)[0], &before[0]));
    assert!(!discovery.services()[0].1[0].as_ref().unwrap().stop.is_cancelled());
}

#[tokio::test]
async fn what_an_earlier_run_found_stands_until_there_is_an_answer() {
    let discovery = discovery(memory_of(&[("a", broken("x"))]));
    let prepared = discovery.prepare(&[spec("a", vec![broken("x")])]);
    // Something is known: nobody has to wait.
    prepared.first_outcomes(Duration::ZERO).await;
    let found = prepared.found();
    assert_eq!(*found[0].instances, [instance("10.0.0.1:80")]);
    discovery.commit(prepared);
    tasks(&discovery)[0].first_outcome().await;
    let [status] = &discovery.status()[..] else { panic!("one source") };
    assert_eq!((status.state, status.instances), (SourceState::Failing, 1));
    assert!(status.last_error.as_ref().unwrap().1.contains("TLS"));
    assert!(discovery.changes().is_empty());
    // And it is kept for the run after.
    let again = super::Discovery::new(SocketOptions { mark: 0 }, discovery.memory()).unwrap();
    assert_eq!(again.prepare(&[spec("a", vec![broken("x")])]).found()[0].instances.len(), 1);
}

#[tokio::test]
async fn a_source_that_is_asked_in_another_way_keeps_what_stands() {
    let discovery = discovery(memory_of(&[("a", broken("x"))]));
    discovery.commit(discovery.prepare(&[spec("a", vec![broken("x")])]));
    let Source::Http(http) = broken("x") else { unreachable!() };
    let slower = Source::Http(HttpSource { interval: Duration::from_secs(60), ..http });
    let prepared = discovery.prepare(&[spec("a", vec![slower])]);
    assert_eq!(prepared.found()[0].instances.len(), 1);
    // Another service with the same source knows nothing.
    let other = discovery.prepare(&[spec("b", vec![broken("x")])]);
    assert!(other.found()[0].instances.is_empty());
}

#[tokio::test]
async fn what_the_kernel_has_stays_where_nothing_is_remembered() {
    let specs = [
        spec("lost", vec![broken("a"), broken("b")]),
        spec("known", vec![broken("c")]),
        spec("fixed", vec![broken("d")]),
    ];
    let discovery = discovery(memory_of(&[("lost", broken("b")), ("known", broken("c"))]));
    discovery.suppose(&specs, |spec| match spec.name.as_str() {
        // Of which the other source remembers the first.
        "lost" => vec![instance("10.0.0.1:80"), instance("10.0.0.2:80")],
        "known" => vec![instance("10.0.0.9:80")],
        _ => Vec::new(),
    });
    let prepared = discovery.prepare(&specs);
    prepared.first_outcomes(Duration::from_secs(10)).await;
    let found = prepared.found();
    let set = |service: &str, source: usize| {
        let mut all = found.iter();
        let one = all.find(|one| one.service.as_str() == service && one.source == source);
        one.map_or(0, |one| one.instances.len())
    };
    assert_eq!((set("lost", 0), set("lost", 1), set("known", 0), set("fixed", 0)), (1, 1, 1, 0));
    // Who was only supposed was asked, and hasn't answered.
    discovery.commit(prepared);
    let status = discovery.status();
    assert_eq!((status[0].state, status[0].answered), (SourceState::Failing, None));
    discovery.stop().await;
}
