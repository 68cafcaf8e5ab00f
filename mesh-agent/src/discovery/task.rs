//! The task of one source: asks, takes the answer in, waits, asks again.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::FutureExt as _;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Lookup, Outcome, SourceState, progress::Progress, progress::Step};
use crate::model::Instance;

/// What a source's task publishes.
#[derive(Debug)]
pub(super) struct Published {
    report: Mutex<Report>,
    /// Becomes true with the first outcome, good or bad.
    asked: watch::Sender<bool>,
    /// Told when the set of any source has changed.
    changed: Arc<Notify>,
}

#[derive(Clone, Debug)]
pub(super) struct Report {
    pub state: SourceState,
    pub set: Arc<[Instance]>,
    /// The set was taken by [`super::Discovery::changes`] as it is.
    pub taken: bool,
    pub answered: Option<Instant>,
    pub last_error: Option<(Instant, String)>,
    pub next_try: Option<Instant>,
    pub answers: u64,
    pub errors: u64,
}

impl Published {
    /// `set` is what is known before the first answer, and since when.
    pub fn new(set: Arc<[Instance]>, answered: Option<Instant>, changed: Arc<Notify>) -> Self {
        let report = Report {
            state: SourceState::Waiting,
            set,
            taken: false,
            answered,
            last_error: None,
            next_try: None,
            answers: 0,
            errors: 0,
        };
        Self { report: Mutex::new(report), asked: watch::Sender::new(false), changed }
    }

    pub fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the source has been asked once.
    pub async fn first_outcome(&self) {
        // It can't fail: we hold the sender.
        let _ = self.asked.subscribe().wait_for(|asked| *asked).await;
    }

    fn asking(&self) {
        self.report().next_try = None;
    }

    fn took(&self, step: Step, progress: &Progress, now: Instant) -> Instant {
        let next = now + step.wait;
        let mut report = self.report();
        // Also where the first answer is what was supposed: it is to be kept.
        let first = report.answered.is_none() && step.state != SourceState::Failing;
        let news = step.changed || first;
        report.state = step.state;
        report.next_try = Some(next);
        match step.state {
            SourceState::Failing => report.errors += 1,
            _ => {
                report.answers += 1;
                report.answered = Some(now);
            }
        }
        if let Some(trouble) = step.trouble {
            report.last_error = Some((now, trouble));
        }
        if step.changed {
            report.set = Arc::clone(progress.set());
            report.taken = false;
        }
        drop(report);
        self.asked.send_replace(true);
        if news {
            self.changed.notify_one();
        }
        next
    }
}

/// Asks until told to stop. Where panics unwind, one costs the lookup, not the
/// source: a new lookup is made, and what was found stays.
pub(super) async fn run<L: Lookup>(
    name: String,
    make: impl Fn() -> L,
    empty_after: u32,
    published: Arc<Published>,
    stop: CancellationToken,
) {
    let known = Arc::clone(&published.report().set);
    let mut progress = Progress::new(empty_after, known);
    let mut lookup = make();
    loop {
        published.asking();
        let current = Arc::clone(progress.set());
        let asked = AssertUnwindSafe(lookup.ask(&current)).catch_unwind();
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = asked => outcome,
        };
        let outcome = outcome.unwrap_or_else(|_| {
            tracing::error!(source = name, "a discovery source panicked: it starts anew");
            lookup = make();
            Outcome::failed("asking it panicked: this is a bug, see the log")
        });
        let before = published.report().state;
        let step = progress.take(outcome, rand::random());
        log(&name, before, &step, progress.set().len());
        let next = published.took(step, &progress, Instant::now());
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep_until(next) => {}
        }
    }
}

/// A change of state once, the rest for who looks closely.
fn log(source: &str, before: SourceState, step: &Step, instances: usize) {
    let reason = step.trouble.as_deref();
    match (before == step.state, step.state) {
        (false, SourceState::Failing) => {
            tracing::warn!(
                source,
                instances,
                reason,
                "a discovery source fails: its last set stays"
            );
        }
        (false, SourceState::Empty) => {
            tracing::warn!(source, instances, "a discovery source says that there is nothing");
        }
        (false, _) => tracing::info!(source, instances, "a discovery source answers"),
        (true, _) if step.changed => tracing::info!(source, instances, "discovered a new set"),
        (true, _) => tracing::debug!(source, instances, reason, "asked a discovery source"),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, time::Duration};

    use super::{super::instance, *};

    /// Answers what it is told, and panics where it is told nothing.
    struct Script(Arc<Mutex<VecDeque<Option<Outcome>>>>);

    impl Lookup for Script {
        async fn ask(&mut self, _: &Arc<[Instance]>) -> Outcome {
            let next = self.0.lock().unwrap().pop_front();
            match next {
                Some(Some(outcome)) => outcome,
                Some(None) => panic!("as told"),
                None => std::future::pending().await,
            }
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands in scripts beside silence")]
    fn found(text: &str) -> Option<Outcome> {
        Some(Outcome::found(vec![instance(text)], None, Duration::from_secs(10)))
    }

    /// Starts a source that answers so.
    fn start(
        outcomes: impl IntoIterator<Item = Option<Outcome>>,
    ) -> (Arc<Published>, CancellationToken, tokio::task::JoinHandle<()>) {
        let outcomes = Arc::new(Mutex::new(outcomes.into_iter().collect()));
        let published = Arc::new(Published::new(Arc::default(), None, Arc::default()));
        let stop = CancellationToken::new();
        let make = move || Script(Arc::clone(&outcomes));
        let task = run("test".into(), make, 3, Arc::clone(&published), stop.clone());
        (published, stop, tokio::spawn(task))
    }

    async fn until(published: &Published, what: impl Fn(&Report) -> bool) -> Report {
        for _ in 0..10_000 {
            let report = published.report().clone();
            if what(&report) {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not within 100 s: {:?}", published.report());
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_a_failure_and_the_set_stays() {
        let (published, stop, task) =
            start([found("10.0.0.1:80"), None, None, found("10.0.0.2:80")]);
        published.first_outcome().await;
        assert_eq!(published.report().state, SourceState::Ok);
        let report = until(&published, |report| report.errors == 2).await;
        assert_eq!((report.state, report.set.len()), (SourceState::Failing, 1));
        assert!(report.last_error.unwrap().1.contains("panicked"));
        let report = until(&published, |report| report.answers == 2).await;
        assert_eq!(report.set[0], instance("10.0.0.2:80"));
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn it_asks_when_the_answer_runs_out_and_backs_off_from_failures() {
        let start_time = Instant::now();
        let fail = || Some(Outcome::failed("x"));
        let (published, _stop, _task) =
            start([found("10.0.0.1:80"), fail(), fail(), fail(), found("10.0.0.1:80")]);
        let at = async |outcomes: u64| {
            until(&published, |report| report.answers + report.errors >= outcomes).await;
            start_time.elapsed().as_secs_f64()
        };
        assert!(at(1).await < 0.1);
        // Each a fifth more or less: after 10 s, and then 1, 2 and 4 more.
        let mut last = 0.0;
        for (outcomes, expected) in [(2, 10.0), (3, 1.0), (4, 2.0), (5, 4.0)] {
            let now = at(outcomes).await;
            let waited = now - last;
            assert!((waited - expected).abs() < expected * 0.2 + 0.1, "{outcomes}: {waited}");
            last = now;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_hangs_can_be_stopped() {
        let (published, stop, task) = start([]);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(published.report().state, SourceState::Waiting);
        stop.cancel();
        task.await.unwrap();
    }
}
