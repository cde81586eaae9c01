//! The unmodified Python SDKs: a plain call, streams, several calls, then the wall. See `tests/sdk/python`.

use meter_tests::harness::{Agent, Lab, Row, assert_rows_match, python_script, sdk_check::check, steps};

#[test]
fn openai_sees_no_difference_until_the_wall() {
    check(&python_script("openai_agent.py"), "0.06");
}

#[test]
fn anthropic_sees_no_difference_until_the_wall() {
    check(&python_script("anthropic_agent.py"), "0.04");
}

#[test]
fn google_genai_sees_no_difference_until_the_wall() {
    check(&python_script("google_agent.py"), "0.03");
}

/// What it sends is signed, and the simulator checks that: a byte that is changed on the way is refused.
#[test]
fn boto3_sees_no_difference_until_the_wall() {
    check(&python_script("bedrock_agent.py"), "0.014");
}

/// Of a request without a ceiling: what is signed is sent as it is or not at all, and what is not may be given one.
#[test]
fn what_boto3_signs_is_refused_and_not_clamped() {
    let lab = Lab::with_budget("unstated", "0.05");
    let [python, script] = python_script("unstated_agent.py");
    let run = |agent: &Agent<'_>| {
        let outcome = agent.run(&[&python, &script]);
        steps(outcome.expect_code(0)).pop().expect("it says what came of it")
    };
    // Its key is the service's own, and signs nothing.
    let bearer = run(&lab.agent("unstated").env("AWS_BEARER_TOKEN_BEDROCK", "test-key"));
    assert_eq!((bearer.name.as_str(), &bearer.facts["usage"]["outputTokens"]), ("answered", &200.into()), "{bearer:?}");
    let signed = run(&lab.agent("unstated"));
    assert_eq!((signed.name.as_str(), &signed.facts["status"]), ("raised", &402.into()), "{signed:?}");

    let (rows, exchanges) = (lab.daemon.ledger("unstated"), lab.simulator.exchanges());
    assert_rows_match(&rows, &exchanges);
    let [exchange] = &exchanges[..] else { panic!("{exchanges:#?}") };
    let ceiling = &exchange.request["inferenceConfig"]["maxTokens"];
    assert!(ceiling.as_u64().is_some_and(|tokens| (1_024..10_000).contains(&tokens)), "{ceiling}");
    let clamped: Vec<bool> = rows.iter().map(Row::is_clamped).collect();
    assert_eq!(clamped, [true, false], "{rows:#?}");
}
