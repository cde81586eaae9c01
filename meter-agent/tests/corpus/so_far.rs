//! What an answer is said to have used while it passes is not above what was billed in the end, so that no answer is cut
//! that keeps to its request.

use meter_agent::usage::BodyEnd;

use crate::{
    case::{cases, find, table},
    report::Failures,
    truncation::{event_ends, is_streamed_usage, sampled},
};

/// A provider takes back some of what it said itself: this part of it at most.
const TAKEN_BACK: u64 = 4;

#[test]
fn what_is_said_to_be_used_so_far_is_never_above_the_bill() {
    let table = table();
    let mut failures = Failures::default();
    for case in cases().iter().filter(|c| is_streamed_usage(c) && (200..300).contains(&c.status)) {
        let found = find(&table, case);
        let Some(facts) = case.facts(&found) else { continue };
        let body = case.body();
        let billed = case.read(&found, &facts, &[&body], BodyEnd::Complete).usage.output_tokens;
        let mut ends = sampled(event_ends(case, &body));
        ends.push(body.len());
        let said = ends.into_iter().filter_map(|end| Some((end, case.so_far(&found, &facts, &body[..end])?)));
        let mut any = false;
        for (end, reading) in said {
            any = true;
            if reading.usage.output_tokens > billed + billed / TAKEN_BACK {
                let so_far = reading.usage.output_tokens;
                failures.add(case, format!("{so_far} tokens at byte {end} of {}, but {billed} in the end", body.len()));
                break;
            }
        }
        if any {
            failures.looked();
        }
    }
    failures.end(200);
}
