//! WebSockets and gRPC through the sidecar: read as they pass, refused in their own shapes.

use std::time::Duration;

use meter_tests::harness::{Lab, Outcome, Row, python_script, steps, wait_for};

/// Far more than the agent's budget: the turn is charged in full, and no other fits.
const DEAR: &str = r#"{"input":100000000,"output":20}"#;

fn realtime(lab: &Lab, directives: &[&str]) -> Outcome {
    let [python, script] = python_script("realtime_agent.py");
    let words: Vec<&str> = [python.as_str(), script.as_str()].into_iter().chain(directives.iter().copied()).collect();
    lab.agent("voice").run(&words)
}

#[test]
fn every_turn_of_a_websocket_is_a_row_to_the_token() {
    let lab = Lab::with_budget("voice", "200");
    let outcome =
        realtime(&lab, &[r#"{"input":120,"cached":40,"output":30}"#, r#"{"input":7,"output":300,"chunks":60}"#]);
    outcome.expect_code(0);
    let seen = steps(&outcome);
    let names: Vec<&str> = seen.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["opened", "turn", "turn"], "{outcome:#?}");

    let rows = wait_for("the socket's hold to be given back", Duration::from_secs(10), || {
        (lab.daemon.account("voice").held_usd == "0").then(|| lab.daemon.ledger("voice"))
    });
    let exchanges = lab.simulator.exchanges();
    assert_eq!((rows.len(), exchanges.len()), (2, 2), "{rows:#?}");
    for (row, exchange) in rows.iter().zip(&exchanges) {
        assert_eq!((row.endpoint.as_str(), row.status, row.stream), ("realtime_ws", Some(101), true), "{row:#?}");
        assert_eq!((row.outcome.as_str(), row.usage_quality.as_str()), ("complete", "exact"), "{row:#?}");
        assert_eq!(row.usage.input_tokens, exchange.billed.input_tokens);
        assert_eq!(row.usage.cache_read, exchange.billed.cache_read);
        assert_eq!(row.usage.output_tokens, exchange.billed.output_tokens);
        assert!(row.cost() > 0, "{row:#?}");
        assert!(exchange.request["extensions"].is_null(), "frames would be compressed: {exchange:#?}");
    }
    assert_eq!(lab.daemon.account("voice").spent(), rows.iter().map(Row::cost).sum::<i128>());
}

#[test]
fn a_turn_that_does_not_fit_ends_the_socket_with_the_sentence() {
    let lab = Lab::with_budget("voice", "200");
    let outcome = realtime(&lab, &[r#"{"input":100,"output":10}"#, DEAR, r#"{"input":1,"output":1}"#]);
    outcome.expect_code(0);
    let seen = steps(&outcome);
    let last = seen.last().expect("it says how it ended");
    assert_eq!((last.name.as_str(), last.facts["code"].as_u64()), ("closed", Some(1008)), "{outcome:#?}");
    let reason = last.facts["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("meter: account voice is draining"), "{reason}");
    assert_eq!(seen.iter().filter(|step| step.name == "turn").count(), 2, "{outcome:#?}");

    assert_eq!(lab.simulator.exchanges().len(), 2, "the third turn reached the provider");
    let rows = lab.daemon.ledger("voice");
    let outcomes: Vec<&str> = rows.iter().map(|row| row.outcome.as_str()).collect();
    assert_eq!(outcomes[..3], ["complete", "complete", "refused_budget"], "{rows:#?}");
    meter_tests::harness::wait_for_state(&lab.daemon, "voice", "stopped");
    assert_eq!(lab.daemon.account("voice").held_usd, "0");
}

#[test]
fn a_socket_that_waits_is_ended_when_its_account_stops() {
    let lab = Lab::with_budget("voice", "200");
    let [python, script] = python_script("realtime_agent.py");
    let waiting = lab.agent("voice").spawn(&[&python, &script, r#"{"input":1,"output":1}"#, "--linger"]);
    wait_for("its first turn", Duration::from_secs(20), || (lab.simulator.exchanges().len() == 1).then_some(()));
    let chat = meter_tests::harness::chat::Chat::overrun(100_000_000);
    lab.agent("voice").shell(&chat.curl()).expect_code(0);
    let outcome = waiting.wait();
    outcome.expect_code(0);
    let last = steps(&outcome).pop().expect("it says how it ended");
    assert_eq!((last.name.as_str(), last.facts["code"].as_u64()), ("closed", Some(1008)), "{outcome:#?}");
    meter_tests::harness::wait_for_state(&lab.daemon, "voice", "stopped");
    assert_eq!(lab.daemon.account("voice").held_usd, "0");
}

fn grpc(lab: &Lab, count: u8) -> Outcome {
    let [python, script] = python_script("grpc_agent.py");
    lab.agent("rpc").run(&[&python, &script, "api.openai.com", &count.to_string()])
}

#[test]
fn grpc_passes_whole_with_its_trailers() {
    let lab = Lab::with_budget("rpc", "50000");
    let outcome = grpc(&lab, 3);
    outcome.expect_code(0);
    let seen = steps(&outcome);
    assert_eq!(seen.len(), 4, "{outcome:#?}");
    assert!(seen[..3].iter().all(|step| step.facts["text"] == "message"), "{outcome:#?}");
    let end = &seen[3].facts;
    assert_eq!((end["code"].as_str(), end["trailers"]["sim-messages"].as_str()), (Some("OK"), Some("3")), "{end}");
    let rows = lab.daemon.ledger("rpc");
    assert_eq!((rows.len(), rows[0].outcome.as_str(), rows[0].status), (1, "complete", Some(200)), "{rows:#?}");
}

#[test]
fn grpc_is_refused_in_trailers() {
    let lab = Lab::with_budget("rpc", "0.000001");
    let outcome = grpc(&lab, 3);
    outcome.expect_code(0);
    let end = steps(&outcome).pop().expect("it says how it ended").facts;
    assert_eq!(end["code"], "RESOURCE_EXHAUSTED", "{end}");
    let details = end["details"].as_str().unwrap_or_default();
    assert!(details.starts_with("meter: ") && details.contains("Account rpc"), "{end}");
    assert!(lab.simulator.exchanges().is_empty());
    assert_eq!(lab.daemon.ledger("rpc")[0].outcome, "refused_budget");
}
