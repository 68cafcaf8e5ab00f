//! The state machine against a plain model of what the documentation says.

use std::sync::Arc;

use proptest::prelude::*;
use tokio::sync::Notify;

use super::*;
use crate::model::{Consecutive, Failover, Percent};

const SECOND: u64 = 1_000_000_000;
const BASE: u64 = 5 * SECOND;
const MAX: u64 = 60 * SECOND;

fn rules() -> Rules {
    Rules {
        ejection: true,
        consecutive: Consecutive { connect: 3, responses: 5 },
        base: BASE,
        max: MAX,
        max_ejected: Percent(50),
    }
}

/// Of a tier, with the means to report to it; random is 0, so nothing jitters.
struct Scene {
    outliers: Outliers,
    instances: Vec<Health>,
    now: u64,
}

impl Scene {
    fn new(instances: usize) -> Self {
        let outliers = Outliers::new(Arc::new(Notify::new()));
        let instances = (0..instances).map(|_| Health::default()).collect();
        Self { outliers, instances, now: 1000 * SECOND }
    }

    fn report(&self, index: usize, outcome: Outcome) {
        self.decide(index, outcome, None);
    }

    fn decide(&self, index: usize, outcome: Outcome, probe: Option<&Probe>) {
        let tier = || {
            let usable = self.instances.iter().filter(|one| one.verdict() != Verdict::Unhealthy);
            let (mut size, mut ejected) = (0, 0);
            for one in usable {
                size += 1;
                ejected += u32::from(one.is_ejected());
            }
            Tier { size, ejected }
        };
        let instance = &self.instances[index];
        self.outliers.report(instance, outcome, probe, &rules(), (self.now, 0), tier);
    }

    fn claim(&self, index: usize) -> Option<Probe> {
        self.outliers.claim(&self.instances[index], &rules(), (self.now, 0))
    }

    fn state(&self, index: usize) -> State {
        self.instances[index].state(self.now)
    }

    fn eject(&self, index: usize) {
        for _ in 0..3 {
            self.report(index, Outcome::ConnectFailed);
        }
    }
}

#[test]
fn failures_in_a_row_eject_and_a_success_between_does_not() {
    let scene = Scene::new(3);
    for _ in 0..4 {
        scene.report(0, Outcome::ConnectFailed);
        scene.report(0, Outcome::ConnectFailed);
        scene.report(0, Outcome::Connected);
    }
    assert_eq!(scene.state(0), State::InService);
    // A connect that succeeds doesn't excuse the responses.
    for _ in 0..4 {
        scene.report(0, Outcome::Connected);
        scene.report(0, Outcome::ResponseFailed);
    }
    scene.report(0, Outcome::Answered);
    for _ in 0..4 {
        scene.report(0, Outcome::ResponseFailed);
    }
    assert_eq!(scene.state(0), State::InService);
    assert!(!scene.outliers.take_change());
    scene.report(0, Outcome::ResponseFailed);
    assert_eq!(scene.state(0), State::Ejected { until: scene.now + BASE });
    assert_eq!(scene.instances[0].cause(), Some(Cause::Responses));
    assert!(scene.outliers.take_change());
    assert!(!scene.outliers.take_change());
}

#[test]
fn after_the_exile_exactly_one_probe_decides() {
    let mut scene = Scene::new(3);
    scene.eject(0);
    scene.now += BASE - 1;
    assert!(scene.claim(0).is_none());
    scene.now += 1;
    assert_eq!(scene.state(0), State::AwaitsProbe);
    let probe = scene.claim(0).unwrap();
    assert!(scene.claim(0).is_none());
    assert_eq!(scene.state(0), State::Probing);
    // What was sent before the ejection decides nothing.
    scene.report(0, Outcome::Answered);
    assert_eq!(scene.state(0), State::Probing);
    scene.decide(0, Outcome::Connected, Some(&probe));
    assert_eq!(scene.state(0), State::Probing);
    scene.decide(0, Outcome::Answered, Some(&probe));
    assert_eq!(scene.state(0), State::InService);
    assert_eq!(scene.instances[0].returned_at(), Some(scene.now));
}

#[test]
fn failed_probes_double_the_exile_and_good_time_halves_it_again() {
    let mut scene = Scene::new(3);
    scene.eject(0);
    for seconds in [10, 20, 40, 60, 60] {
        scene.now = scene.instances[0].ejected_until().unwrap();
        let probe = scene.claim(0).unwrap();
        scene.decide(0, Outcome::ResponseFailed, Some(&probe));
        assert_eq!(scene.state(0), State::Ejected { until: scene.now + seconds * SECOND });
        assert_eq!(scene.instances[0].cause(), Some(Cause::Probe));
    }
    scene.now = scene.instances[0].ejected_until().unwrap();
    let probe = scene.claim(0).unwrap();
    scene.decide(0, Outcome::Answered, Some(&probe));
    // The last step, to 60 s, took an exile of 40 s; the one before, 20 s.
    scene.now += 60 * SECOND;
    scene.eject(0);
    assert_eq!(scene.state(0), State::Ejected { until: scene.now + 20 * SECOND });
}

#[test]
fn a_lost_probe_counts_as_failed() {
    let mut scene = Scene::new(3);
    scene.eject(0);
    scene.now += BASE;
    let lost = scene.claim(0).unwrap();
    scene.now += BASE;
    assert!(scene.claim(0).is_none());
    assert_eq!(scene.state(0), State::Ejected { until: scene.now + 2 * BASE });
    // Its outcome comes too late.
    scene.decide(0, Outcome::Answered, Some(&lost));
    assert_eq!(scene.state(0), State::Ejected { until: scene.now + 2 * BASE });
}

#[test]
fn a_tier_keeps_half_of_its_instances() {
    let scene = Scene::new(5);
    for index in 0..5 {
        scene.eject(index);
    }
    let ejected = (0..5).filter(|&index| scene.instances[index].is_ejected()).count();
    assert_eq!(ejected, 2);
    let alone = Scene::new(1);
    alone.eject(0);
    assert_eq!(alone.state(0), State::InService);
    let two = Scene::new(2);
    two.eject(0);
    two.eject(1);
    assert_eq!((two.instances[0].is_ejected(), two.instances[1].is_ejected()), (true, false));
}

#[test]
fn checks_take_out_and_bring_back_and_may_be_the_probe() {
    let mut scene = Scene::new(3);
    let check = |scene: &Scene, passed, verdict| {
        let at = (scene.now, 0);
        scene.outliers.checked(&scene.instances[0], passed, verdict, &rules(), at);
    };
    assert!(scene.instances[0].is_usable(), "healthy until checked");
    check(&scene, false, Verdict::Unknown);
    assert!(scene.instances[0].is_usable(), "one failed check is no verdict");
    check(&scene, false, Verdict::Unhealthy);
    assert_eq!(scene.state(0), State::Unhealthy);
    assert!(scene.outliers.take_change());
    // Ejected as well, and found unhealthy: no request may probe it.
    scene.eject(0);
    scene.now += BASE;
    assert!(scene.claim(0).is_none());
    check(&scene, true, Verdict::Unhealthy);
    assert_eq!(scene.state(0), State::AwaitsProbe);
    check(&scene, true, Verdict::Healthy);
    assert_eq!(scene.state(0), State::InService);
    // A check that fails after an exile prolongs it.
    scene.eject(0);
    let State::Ejected { until } = scene.state(0) else { panic!("{:?}", scene.state(0)) };
    scene.now = until;
    check(&scene, false, Verdict::Healthy);
    assert!(matches!(scene.state(0), State::Ejected { .. }));
}

#[test]
fn without_ejection_nothing_is_ejected() {
    let scene = Scene::new(3);
    let rules = Rules { ejection: false, ..rules() };
    for _ in 0..100 {
        let tier = || Tier { size: 3, ejected: 0 };
        let instance = &scene.instances[0];
        scene.outliers.report(instance, Outcome::ConnectFailed, None, &rules, (1, 0), tier);
    }
    assert_eq!(scene.state(0), State::InService);
}

#[test]
fn the_kernels_word_counts() {
    let scene = Scene::new(3);
    let instance = &scene.instances[0];
    let mut texts = std::collections::HashSet::new();
    for cause in [Cause::KernelConnects, Cause::KernelResets, Cause::KernelSilence] {
        instance.set_kernel_ejected(scene.now + BASE, cause);
        assert_eq!(scene.state(0), State::Ejected { until: scene.now + BASE });
        assert_eq!(instance.cause(), Some(cause));
        assert!(!instance.is_usable() && !instance.is_failing(), "the hooks probe it themselves");
        assert!(texts.insert(instance.reason(scene.now)));
        instance.set_returned(scene.now);
        assert_eq!(scene.state(0), State::InService);
    }
}

#[test]
fn defaults_are_those_of_the_model() {
    let rules = Rules::from(&Failover::default());
    assert_eq!((rules.base, rules.max), (5 * SECOND, 300 * SECOND));
}

/// What the documentation says of one instance, in the plainest words.
#[derive(Clone, Copy, Debug)]
enum Model {
    Serving { connects: u32, responses: u32, since: u64 },
    Exile { until: u64 },
    Probing { until: u64 },
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Report(Outcome),
    Claim,
    Finish(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        3 => Just(Outcome::ConnectFailed),
        3 => Just(Outcome::ResponseFailed),
        1 => Just(Outcome::Answered),
        1 => Just(Outcome::Connected),
        1 => Just(Outcome::Unclear),
    ];
    let step = prop_oneof![
        2 => (1..20u64).prop_map(|seconds| Step::Wait(seconds * SECOND)),
        6 => outcome.prop_map(Step::Report),
        2 => Just(Step::Claim),
        2 => any::<bool>().prop_map(Step::Finish),
    ];
    prop::collection::vec(step, 1..200)
}

fn doubled(times: u32) -> u64 {
    (0..times).fold(BASE, |exile, _| exile * 2).min(MAX)
}

/// One more exile, unless the longest is reached already.
fn counted(times: u32) -> u32 {
    if doubled(times) == MAX { times } else { times + 1 }
}

fn pardoned(mut times: u32, mut good: u64) -> u32 {
    while times > 0 && good >= doubled(times - 1) {
        good -= doubled(times - 1);
        times -= 1;
    }
    times
}

proptest! {
    #[test]
    fn one_instance_follows_the_model(steps in steps()) {
        let mut scene = Scene::new(3);
        let mut model = Model::Serving { connects: 0, responses: 0, since: 0 };
        let (mut times, mut probe) = (0, None);
        for step in steps {
            match step {
                Step::Wait(time) => scene.now += time,
                Step::Report(outcome) => {
                    scene.report(0, outcome);
                    if let Model::Serving { connects, responses, since } = &mut model {
                        match outcome {
                            Outcome::ConnectFailed => *connects += 1,
                            Outcome::ResponseFailed => *responses += 1,
                            Outcome::Connected => *connects = 0,
                            Outcome::Answered => (*connects, *responses) = (0, 0),
                            Outcome::Unclear => {}
                        }
                        if *connects == 3 || *responses == 5 {
                            times = pardoned(times, scene.now - *since);
                            model = Model::Exile { until: scene.now + doubled(times) };
                            times = counted(times);
                        }
                    }
                }
                Step::Claim => {
                    let claimed = scene.claim(0);
                    match model {
                        Model::Exile { until } if until <= scene.now => {
                            prop_assert!(claimed.is_some());
                            let patience = doubled(times.saturating_sub(1));
                            model = Model::Probing { until: scene.now + patience };
                            probe = claimed;
                        }
                        Model::Probing { until } if until <= scene.now => {
                            prop_assert!(claimed.is_none());
                            model = Model::Exile { until: scene.now + doubled(times) };
                            times = counted(times);
                        }
                        _ => prop_assert!(claimed.is_none()),
                    }
                }
                Step::Finish(well) => {
                    let Some(probe) = probe.take() else { continue };
                    let outcome = if well { Outcome::Answered } else { Outcome::ConnectFailed };
                    scene.decide(0, outcome, Some(&probe));
                    if let Model::Probing { .. } = model {
                        if well {
                            let since = scene.now;
                            model = Model::Serving { connects: 0, responses: 0, since };
                        } else {
                            model = Model::Exile { until: scene.now + doubled(times) };
                            times = counted(times);
                        }
                    }
                }
            }
            let expected = match model {
                Model::Serving { .. } => State::InService,
                // The lowest bit of a moment says whether it's a probe.
                Model::Exile { until } if scene.now < until => State::Ejected { until },
                Model::Exile { .. } => State::AwaitsProbe,
                Model::Probing { .. } => State::Probing,
            };
            prop_assert_eq!(scene.state(0), expected);
        }
    }

    #[test]
    fn never_more_of_a_tier_than_allowed(
        size in 1usize..12,
        reports in prop::collection::vec((0usize..12, 1u64..3), 1..200),
    ) {
        let mut scene = Scene::new(size);
        for (index, seconds) in reports {
            scene.now += seconds * SECOND;
            let index = index % size;
            if let Some(probe) = scene.claim(index) {
                scene.decide(index, Outcome::Answered, Some(&probe));
            }
            scene.report(index, Outcome::ConnectFailed);
            let ejected = scene.instances.iter().filter(|one| one.is_ejected()).count();
            let allowed = if size == 2 || size == 3 { 1 } else { size / 2 };
            prop_assert!(ejected <= allowed, "{ejected} of {size}");
        }
    }
}
