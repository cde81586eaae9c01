//! WebSockets and gRPC through the sidecar: read as they pass, held to the rules of requests, refused in their own shapes.

use std::{path::Path, time::Duration};

use meter_tests::harness::{
    Lab, LabOptions, Outcome, Row, Running, Step, chat::Chat, pico, python_script, steps, wait_for, wait_for_state,
};

const SOON: Duration = Duration::from_secs(20);
/// Enough for one turn's worst case, and not for two.
const ONE_TURN: &str = "5";
const TURN: &str = r#"turn:{"input":10,"output":10}"#;
/// Under way for some seconds.
const LONG_TURN: &str = r#"turn:{"input":10,"output":10,"ttfb_ms":3000}"#;
const ORDER: &str = r#"order:{"input":10,"output":10}"#;

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
    // Told to end, or refused what it says meanwhile.
    assert!(reason.starts_with("meter: account voice is "), "{reason}");
    assert_eq!(seen.iter().filter(|step| step.name == "turn").count(), 2, "{outcome:#?}");

    assert_eq!(lab.simulator.exchanges().len(), 2, "the third turn reached the provider");
    let rows = lab.daemon.ledger("voice");
    let outcomes: Vec<&str> = rows.iter().map(|row| row.outcome.as_str()).collect();
    assert_eq!(outcomes[..2], ["complete", "complete"], "{rows:#?}");
    wait_for_state(&lab.daemon, "voice", "stopped");
    assert_eq!(lab.daemon.account("voice").held_usd, "0");
}

#[test]
fn a_socket_that_waits_is_ended_when_its_account_stops() {
    let lab = Lab::with_budget("voice", "200");
    let [python, script] = python_script("realtime_agent.py");
    let waiting = lab.agent("voice").spawn(&[&python, &script, r#"{"input":1,"output":1}"#, "--linger"]);
    wait_for("its first turn", Duration::from_secs(20), || (lab.simulator.exchanges().len() == 1).then_some(()));
    let chat = Chat::overrun(100_000_000);
    lab.agent("voice").shell(&chat.curl()).expect_code(0);
    let outcome = waiting.wait();
    outcome.expect_code(0);
    let seen = steps(&outcome);
    let [.., told, last] = &seen[..] else { panic!("{outcome:#?}") };
    assert_eq!((last.name.as_str(), last.facts["code"].as_u64()), ("closed", Some(1008)), "{outcome:#?}");
    let said = told.facts["message"].as_str().unwrap_or_default();
    assert!(told.name == "told" && said.contains("account voice is "), "{outcome:#?}");
    wait_for_state(&lab.daemon, "voice", "stopped");
    assert_eq!(lab.daemon.account("voice").held_usd, "0");
}

/// A socket on the realtime API with that query, step by step.
fn socket(lab: &Lab, agent: &str, query: &str, steps: &[&str]) -> Running {
    let [python, script] = python_script("websocket_agent.py");
    let words: Vec<&str> = [python.as_str(), script.as_str(), query].into_iter().chain(steps.iter().copied()).collect();
    lab.agent(agent).spawn(&words)
}

fn named(lab: &Lab, agent: &str, steps: &[&str]) -> Running {
    socket(lab, agent, "?model=gpt-realtime", steps)
}

/// How a socket ended, which its agent has seen.
#[track_caller]
fn last(outcome: &Outcome) -> Step {
    outcome.expect_code(0);
    steps(outcome).pop().expect("it says how it ended")
}

/// The sentence of a socket that the meter has closed.
#[track_caller]
fn closed_for(outcome: &Outcome) -> String {
    let last = last(outcome);
    assert_eq!((last.name.as_str(), last.facts["code"].as_u64()), ("closed", Some(1008)), "{outcome:#?}");
    last.facts["reason"].as_str().unwrap_or_default().to_owned()
}

/// Steps that wait until the test makes the file.
fn gate(dir: &tempfile::TempDir) -> String {
    format!("file:{}", gate_file(dir.path()))
}

fn gate_file(dir: &Path) -> String {
    dir.join("go").to_str().expect("a temporary path is text").to_owned()
}

fn open(dir: &tempfile::TempDir) {
    std::fs::write(gate_file(dir.path()), "").expect("a temporary file can be written");
}

fn held(lab: &Lab, agent: &str) -> i128 {
    pico(&lab.daemon.account(agent).held_usd)
}

fn outcomes(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.outcome.as_str()).collect()
}

/// One socket between its turns, and another of the same agent whose turn takes all that there is.
fn crowded(lab: &Lab, go: &tempfile::TempDir, steps: &[&str]) -> (Running, Running) {
    let gate = gate(go);
    let all: Vec<&str> = [TURN, gate.as_str()].into_iter().chain(steps.iter().copied()).collect();
    let first = named(lab, "voice", &all);
    wait_for("its first turn", SOON, || (lab.daemon.ledger("voice").len() == 1).then_some(()));
    assert_eq!(held(lab, "voice"), 0, "between turns nothing is held");
    let other = named(lab, "voice", &[LONG_TURN]);
    wait_for("the other's hold", SOON, || (2 * held(lab, "voice") > pico(ONE_TURN)).then_some(()));
    (first, other)
}

#[test]
fn a_turn_waits_for_another_ones_hold_and_then_goes_on() {
    let lab = Lab::with_budget("voice", ONE_TURN);
    let go = tempfile::tempdir().unwrap();
    let (waiting, other) = crowded(&lab, &go, &[TURN, "close"]);
    open(&go);
    let waited = waiting.wait();
    assert_eq!(last(&waited).facts["code"], 1000, "{waited:#?}");
    let turn = steps(&waited).iter().filter_map(|step| step.facts["ms"].as_u64()).nth(2);
    assert!(turn.is_some_and(|ms| ms >= 500), "{waited:#?}");
    other.wait().expect_code(0);
    wait_for("the holds to end", SOON, || (held(&lab, "voice") == 0).then_some(()));
    let rows = lab.daemon.ledger("voice");
    assert_eq!(outcomes(&rows), ["complete"; 3], "{rows:#?}");
    assert!(rows.iter().all(|row| 2 * pico(&row.held_usd) > pico(ONE_TURN) && row.cost() > 0), "{rows:#?}");
}

#[test]
fn a_turn_that_waits_is_given_up_when_its_agent_leaves() {
    for way in ["close", "drop"] {
        let lab = Lab::with_budget("voice", ONE_TURN);
        let go = tempfile::tempdir().unwrap();
        let (leaving, other) = crowded(&lab, &go, &[ORDER, way]);
        open(&go);
        let left = leaving.wait();
        left.expect_code(0);
        if way == "close" {
            let goodbye = steps(&left).into_iter().find(|step| step.name == "goodbye");
            assert_eq!(goodbye.map(|step| step.facts["code"].clone()), Some(1000.into()), "{left:#?}");
        }
        let rows = wait_for("its row", Duration::from_secs(5), || {
            let rows = lab.daemon.ledger("voice");
            rows.iter().any(|row| row.outcome == "client_gone").then_some(rows)
        });
        let gone = rows.iter().find(|row| row.outcome == "client_gone").expect("waited for");
        assert_eq!((gone.cost(), gone.held_usd.as_str()), (0, "0"), "{way}: {gone:#?}");
        assert!(!rows.iter().any(|row| row.duration_ms > 2_500.0), "the other was done before: {rows:#?}");
        other.wait().expect_code(0);
        wait_for("the other's hold to end", SOON, || (held(&lab, "voice") == 0).then_some(()));
        assert_eq!(lab.simulator.exchanges().len(), 2, "{way}: what waited never left");
    }
}

#[test]
fn a_turn_that_waits_is_refused_at_once_when_its_account_is_revoked() {
    let lab = Lab::with_budget("voice", ONE_TURN);
    let go = tempfile::tempdir().unwrap();
    let (waiting, other) = crowded(&lab, &go, &[ORDER, "until:response.done"]);
    open(&go);
    lab.daemon.call("revoke", &["voice", "--reason", "test"]);
    let waited = waiting.wait();
    assert!(closed_for(&waited).contains("voice is revoked"), "{waited:#?}");
    other.wait();
    wait_for("no hold to be left", SOON, || (held(&lab, "voice") == 0).then_some(()));
    assert_eq!(lab.simulator.exchanges().len(), 1, "neither was done at the provider");
}

#[test]
fn a_drain_ends_what_waits_and_lets_a_turn_under_way_finish() {
    let mut lab = Lab::with_budget("voice", ONE_TURN);
    let go = tempfile::tempdir().unwrap();
    let (waiting, other) = crowded(&lab, &go, &[ORDER, "until:response.done"]);
    open(&go);
    assert!(lab.daemon.stop().success());
    let waited = waiting.wait();
    assert!(closed_for(&waited).contains("no more turns are admitted"), "{waited:#?}");
    let took = last(&waited).facts["ms"].as_u64();
    assert!(took.is_some_and(|ms| ms < 2_000), "it waited for the other: {waited:#?}");
    let finished = other.wait();
    assert!(steps(&finished).iter().any(|step| step.name == "step"), "{finished:#?}");
    assert_eq!(lab.simulator.exchanges().len(), 2, "what waited never left");
    lab.daemon.launch();
    assert_eq!(held(&lab, "voice"), 0);
}

#[test]
fn a_turn_that_waits_longer_than_its_account_says_is_refused_with_the_limit() {
    let config = format!("[agent.voice]\nbudget_usd = \"{ONE_TURN}\"\nwait = \"300ms\"\n");
    let lab = Lab::start(LabOptions::default().config(&config));
    let go = tempfile::tempdir().unwrap();
    let (waiting, other) = crowded(&lab, &go, &[TURN]);
    open(&go);
    let waited = waiting.wait();
    let reason = closed_for(&waited);
    assert!(reason.contains("does not fit its budget"), "{reason}");
    let error =
        steps(&waited).into_iter().find(|step| step.name == "error").expect("what a close frame has no room for");
    assert_eq!(
        (&error.facts["type"], &error.facts["meter"]["held_usd"]),
        (&"insufficient_quota".into(), &"3.256320000064".into())
    );
    other.wait().expect_code(0);
    let rows = lab.daemon.ledger("voice");
    let refused = rows.iter().find(|row| row.outcome == "refused_budget").unwrap_or_else(|| panic!("{rows:#?}"));
    let reason = refused.reason.as_deref().unwrap_or_default();
    for fact in ["Account voice", "limit total $5", "spent", "held", "needed", "does not reset"] {
        assert!(reason.contains(fact), "{fact}: {reason}");
    }
}

#[test]
fn turns_are_paced_as_requests_are() {
    let config = "[agent.voice]\nbudget_usd = \"200\"\nthrottle = \"60/min\"\nstages = { warn = 1, throttle = 1 }\n";
    let lab = Lab::start(LabOptions::default().config(config));
    // $5 are gone: more than one percent.
    lab.agent("voice").shell(&Chat::overrun(2_000_000).curl()).expect_code(0);
    assert_eq!(lab.daemon.account("voice").stage.as_deref(), Some("throttle"));
    let outcome = named(&lab, "voice", &[TURN, TURN, TURN]).wait();
    let took: Vec<u64> = steps(&outcome).iter().filter_map(|step| step.facts["ms"].as_u64()).collect();
    assert_eq!(took.len(), 3, "{outcome:#?}");
    assert!(took[1] >= 700 && took[2] >= 700, "{took:?}");
    assert!(took[1] < 3_000 && took[2] < 3_000, "{took:?}");
}

#[test]
fn a_turn_that_the_provider_begins_by_itself_is_held_and_charged() {
    let lab = Lab::with_budget("voice", ONE_TURN);
    let outcome = named(&lab, "voice", &[r#"turns:3:{"input":10,"output":10}"#, "close"]).wait();
    assert_eq!(last(&outcome).facts["code"], 1000, "{outcome:#?}");
    let rows = lab.daemon.ledger("voice");
    assert_eq!(outcomes(&rows), ["complete"; 3], "{rows:#?}");
    assert!(rows.iter().all(|row| 2 * pico(&row.held_usd) > pico(ONE_TURN) && row.cost() > 0), "{rows:#?}");
    wait_for("no hold to be left", SOON, || (held(&lab, "voice") == 0).then_some(()));
}

#[test]
fn a_turn_that_the_provider_begins_without_room_is_charged_in_full_and_is_the_last() {
    let lab = Lab::with_budget("voice", ONE_TURN);
    let twice = named(&lab, "voice", &[r#"turns:2:{"input":10,"output":10,"ttfb_ms":4000}"#, TURN]);
    wait_for("its hold", SOON, || (held(&lab, "voice") > 0).then_some(()));
    // What this one waits for is free between the two turns of the other, and it is the first in the queue.
    let other = named(&lab, "voice", &[r#"turn:{"input":10,"output":10,"ttfb_ms":6000}"#, "close"]).wait();
    assert_eq!(last(&other).facts["code"], 1000, "{other:#?}");
    let reason = closed_for(&twice.wait());
    assert!(reason.contains("does not fit its budget"), "{reason}");
    wait_for("no hold to be left", SOON, || (held(&lab, "voice") == 0).then_some(()));
    let rows = lab.daemon.ledger("voice");
    let mut seen: Vec<(&str, bool, bool)> =
        rows.iter().map(|row| (row.outcome.as_str(), row.held_usd != "0", row.cost() > 0)).collect();
    seen.sort_unstable();
    let complete = |is_held| ("complete", is_held, true);
    assert_eq!(seen, [complete(false), complete(true), complete(true), ("refused_budget", false, false)], "{rows:#?}");
    assert_eq!(lab.simulator.exchanges().len(), 3);
}

#[test]
fn the_models_of_a_socket_are_those_that_its_account_may_use() {
    let config = "[agent.allowed]\nbudget_usd = \"200\"\nmodels = { allow = [\"gpt-realtime\"] }\n\
         [agent.denied]\nbudget_usd = \"200\"\nmodels = { deny = [\"gpt-realtime*\"] }\n";
    let lab = Lab::start(LabOptions::default().config(config));
    let change = r#"{"type":"session.update","session":{"model":"gpt-realtime-mini"}}"#;
    let created = "until:session.created";

    let fine = named(&lab, "allowed", &[TURN, "close"]).wait();
    assert_eq!(last(&fine).facts["code"], 1000, "{fine:#?}");
    for agent in ["allowed", "denied"] {
        let refused = last(&socket(&lab, agent, "?model=gpt-realtime-mini", &[TURN]).wait());
        assert_eq!((refused.name.as_str(), refused.facts["status"].as_u64()), ("refused", Some(403)), "{refused:#?}");
        assert!(refused.facts["body"].as_str().unwrap_or_default().contains("`gpt-realtime-mini`"), "{refused:#?}");
    }

    // Named by nobody: it may be any model.
    let unnamed = closed_for(&socket(&lab, "allowed", "?unnamed=1", &[created, TURN]).wait());
    assert!(unnamed.contains("may not use a model that is not named"), "{unnamed}");
    // Named by the provider alone.
    let told = socket(&lab, "allowed", "", &[created, TURN, "close"]).wait();
    assert_eq!(last(&told).facts["code"], 1000, "{told:#?}");
    let told = closed_for(&socket(&lab, "denied", "", &["until:response.done"]).wait());
    assert!(told.contains("may not use the model `gpt-realtime`"), "{told}");
    // Named by a message: before the first turn, between turns, and by one that no list forbids.
    for (agent, query) in [("allowed", "?model=gpt-realtime"), ("denied", "?unnamed=1")] {
        let changed = closed_for(&socket(&lab, agent, query, &[created, change, TURN]).wait());
        assert!(changed.contains("may not use the model `gpt-realtime-mini`"), "{changed}");
    }
    let changed = closed_for(&named(&lab, "allowed", &[TURN, change, TURN]).wait());
    assert!(changed.contains("may not use the model `gpt-realtime-mini`"), "{changed}");
    let other = change.replace("gpt-realtime-mini", "gpt-4o-realtime-preview");
    let fine = socket(&lab, "denied", "?unnamed=1", &[created, &other, TURN, "close"]).wait();
    assert_eq!(last(&fine).facts["code"], 1000, "{fine:#?}");

    for (agent, turns) in [("allowed", 3), ("denied", 1)] {
        let rows = wait_for("its holds to end", SOON, || (held(&lab, agent) == 0).then(|| lab.daemon.ledger(agent)));
        let paid = rows.iter().filter(|row| row.cost() > 0).count();
        assert_eq!(paid, turns, "{rows:#?}");
        assert!(rows.iter().any(|row| row.outcome == "refused_request" && row.cost() == 0), "{rows:#?}");
    }
    assert_eq!(lab.simulator.exchanges().len(), 4);
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
