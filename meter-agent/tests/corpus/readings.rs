//! Every recorded answer reads as it was billed.

use crate::{
    case::{cases, find, table},
    check::check,
    report::Failures,
};

#[test]
fn every_recorded_answer_reads_as_it_was_billed() {
    let table = table();
    let mut failures = Failures::default();
    for case in cases() {
        failures.looked();
        if let Err(why) = check(case, &case.reading(&find(&table, case))) {
            failures.add(case, why);
        }
    }
    failures.end(1_300);
}
