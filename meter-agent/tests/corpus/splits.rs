//! A stream gives the same answer however its bytes are split.

use meter_agent::usage::{BodyEnd, Reading};

use crate::{
    case::{Case, cases, exhaustive, find, table},
    report::Failures,
};

/// Cuts in two that are looked at in every case, evenly spread and shifted from case to case.
const SAMPLED: usize = 24;

#[test]
fn a_stream_reads_the_same_at_every_split() {
    let streamed: Vec<&Case> = cases().iter().filter(|c| c.streaming && c.transport != "websocket").collect();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut failures = Failures::default();
    let parts: Vec<Vec<(&Case, Option<String>)>> = std::thread::scope(|scope| {
        let part = |nth: usize| {
            let cases: Vec<&Case> = streamed.iter().copied().skip(nth).step_by(threads).collect();
            scope.spawn(move || cases.into_iter().map(|case| (case, differs(case))).collect())
        };
        let running: Vec<_> = (0..threads).map(part).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (case, difference) in parts.into_iter().flatten() {
        failures.looked();
        if let Some(why) = difference {
            failures.add(case, why);
        }
    }
    failures.end(450);
}

/// The first split at which the case reads otherwise than whole.
fn differs(case: &Case) -> Option<String> {
    let found = find(&table(), case);
    let facts = case.facts_or_unknown(&found);
    let body = case.body();
    let read = |chunks: &[&[u8]]| case.read(&found, &facts, chunks, BodyEnd::Complete);
    let whole: Reading = read(&[&body]);
    for size in [1, 7, 1_000] {
        let chunks: Vec<&[u8]> = body.chunks(size).collect();
        let split = read(&chunks);
        if split != whole {
            return Some(format!("by {size}: {split:?}, whole {whole:?}"));
        }
    }
    let step = if exhaustive() { 1 } else { (body.len() / SAMPLED).max(1) };
    let first = 1 + case.id.len() % step;
    (first..body.len()).step_by(step).find_map(|at| {
        let (head, tail) = body.split_at(at);
        let split = read(&[head, tail]);
        (split != whole).then(|| format!("at byte {at}: {split:?}, whole {whole:?}"))
    })
}
