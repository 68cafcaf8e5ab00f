//! Flows on a clock of their own.

use std::time::Duration;

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;

const MIB: u64 = 1024 * 1024;

/// A flow that sends whenever it may.
struct Flow {
    client: u64,
    /// Bytes that it has ready at a time.
    piece: usize,
    sent: u64,
    turn: Option<Turn>,
    /// When it is looked at next.
    wakes: Instant,
}

fn pacer(rate: u64, by_client: bool) -> Arc<Pacer> {
    let pacer = Arc::<Pacer>::default();
    pacer.configure(NonZeroU64::new(rate), by_client);
    pacer
}

fn flows(pieces: impl IntoIterator<Item = usize>, start: Instant) -> Vec<Flow> {
    let flow = |piece| Flow { client: 1, piece, sent: 0, turn: None, wakes: start };
    pieces.into_iter().map(flow).collect()
}

/// Runs the flows for a time; timers are late by up to `late`. Returns how
/// much was sent in each tenth of a second.
fn run(pacer: &Arc<Pacer>, flows: &mut [Flow], time: Duration, late: Duration) -> Vec<u64> {
    let start = flows.iter().map(|flow| flow.wakes).min().expect("there are flows");
    let mut random = SmallRng::seed_from_u64(3);
    let mut tenths = vec![0; (time.as_millis() / 100) as usize];
    loop {
        let flow = flows.iter_mut().min_by_key(|flow| flow.wakes).expect("there are flows");
        let now = flow.wakes;
        if now >= start + time {
            return tenths;
        }
        let turn = match flow.turn.take() {
            Some(turn) => turn,
            None => pacer.turn(flow.client, flow.piece, now).expect("it is limited"),
        };
        if let Some(begins) = turn.begins()
            && begins > now
        {
            let lateness = late.mul_f64(random.random());
            flow.wakes = begins + lateness;
            flow.turn = Some(turn);
            continue;
        }
        let sent = turn.bytes().min(flow.piece);
        turn.used(sent);
        flow.sent += sent as u64;
        tenths[((now - start).as_millis() / 100) as usize] += sent as u64;
        // A system call takes a little.
        flow.wakes = now + Duration::from_micros(5);
    }
}

#[test]
fn one_four_and_many_hold_the_limit_fairly() {
    for rate in [100 * 1024, MIB, 10 * MIB, 200 * MIB] {
        for count in [1, 4, 32, 200] {
            let pacer = pacer(rate, false);
            let mut flows = flows(std::iter::repeat_n(256 * 1024, count), Instant::now());
            let late = Duration::from_millis(2);
            let tenths = run(&pacer, &mut flows, Duration::from_secs(6), late);
            // Any second after the first.
            for second in tenths[10..].windows(10) {
                let share = second.iter().sum::<u64>() as f64 / rate as f64;
                assert!((0.95..=1.05).contains(&share), "{rate} B/s, {count} flows: {share}");
            }
            let total: u64 = flows.iter().map(|flow| flow.sent).sum();
            let share = total as f64 / count as f64;
            for flow in &flows {
                assert!(flow.sent as f64 > share * 0.5, "{rate} B/s, {count} flows: unfair");
            }
        }
    }
}

#[test]
fn clients_have_lines_of_their_own() {
    let pacer = pacer(MIB, true);
    let mut flows = flows([65536; 8], Instant::now());
    // One client has seven connections, the other one.
    flows[0].client = 2;
    run(&pacer, &mut flows, Duration::from_secs(4), Duration::from_millis(1));
    let many: u64 = flows[1..].iter().map(|flow| flow.sent).sum();
    for sent in [flows[0].sent, many] {
        let share = sent as f64 / (4 * MIB) as f64;
        assert!((0.95..=1.05).contains(&share), "{share}");
    }
}

#[test]
fn what_is_not_used_goes_back_and_who_gives_up_holds_nothing() {
    let pacer = pacer(MIB, false);
    let now = Instant::now();
    let turns: Vec<_> = (0..50).map(|_| pacer.turn(1, 65536, now).unwrap()).collect();
    assert!(turns.last().unwrap().begins().unwrap() > now);
    assert!(pacer.shared.waiting.load(Ordering::Relaxed) > 0);
    drop(turns);
    assert_eq!(pacer.shared.waiting.load(Ordering::Relaxed), 0);
    assert_eq!(pacer.turn(1, 65536, now).unwrap().begins(), None);
    // Small pieces under the limit never wait.
    for n in 0..1000 {
        let turn = pacer.turn(1, 65536, now + Duration::from_millis(n)).unwrap();
        assert_eq!(turn.begins(), None);
        turn.used(100);
    }
}

#[test]
fn short_flows_dont_get_around_it() {
    let pacer = pacer(MIB, false);
    let start = Instant::now();
    // A thousand bodies of 10 KiB, all at once: ten times the limit.
    let turns: Vec<_> = (0..1000).map(|_| pacer.turn(1, 10 * 1024, start).unwrap()).collect();
    let within = |millis| {
        let end = start + Duration::from_millis(millis);
        let begun = turns.iter().filter(|turn| turn.begins().is_none_or(|begins| begins < end));
        begun.map(|turn| turn.bytes() as u64).sum::<u64>()
    };
    assert!(within(500) <= MIB * 56 / 100);
}

#[test]
fn nothing_is_limited_unless_set_and_a_change_holds_at_once() {
    let pacer = pacer(0, false);
    let now = Instant::now();
    assert!(!pacer.is_limited() && pacer.turn(1, 1, now).is_none());
    pacer.configure(NonZeroU64::new(MIB), false);
    assert!(pacer.is_limited() && pacer.turn(1, 1, now).is_some());
}

proptest! {
    /// Whatever the flows have to send, and however late their timers are, the
    /// line never sends more than its rate and one fill.
    #[test]
    fn no_span_sends_more_than_its_share(
        pieces in prop::collection::vec(1..200_000usize, 1..12),
        rate in 10_000..100_000_000u64,
        late in 0..100u64,
    ) {
        let pacer = pacer(rate, false);
        let mut flows = flows(pieces, Instant::now());
        let tenths = run(
            &pacer, &mut flows, Duration::from_secs(1), Duration::from_millis(late));
        for from in 0..tenths.len() {
            for to in from..tenths.len() {
                let sent: u64 = tenths[from..=to].iter().sum();
                // The fill; a turn of each flow, whose timer may be late.
                let span = 0.05 + (to - from + 1) as f64 / 10.0 + late as f64 / 1000.0;
                let most = rate as f64 * span + (flows.len() * 16 * 1024) as f64 + 65536.0;
                prop_assert!(sent as f64 <= most, "{} of {} in {}", sent, rate, span);
            }
        }
    }
}
