//! What must hold for every SDK: run unmodified through the meter, it sees what it sees without, until the wall.

use std::process::Command;

use serde_json::Value;

use super::{Lab, Outcome, SDK_CA_FILES, SDK_KEYS, Step, assert_rows_match, cost, pico, steps, usd, wait_for_state};
use crate::simulator::log::Exchange;

/// A refusal that takes longer has waited for a timeout or retried.
const AT_ONCE_MS: u64 = 2_000;

/// Runs one agent without and with the meter, and compares. `script` is its command line.
pub fn check(script: &[String; 2], budget: &str) {
    let lab = Lab::with_budget("sdk", budget);
    let plain = without_meter(&lab, script);
    let before = lab.simulator.exchanges().len();

    let outcome = lab.agent("sdk").run(&[script[0].as_str(), script[1].as_str()]);
    outcome.expect_code(0);
    let seen = steps(&outcome);
    let exchanges = lab.simulator.exchanges().split_off(before);

    assert_same_answers(&plain, &seen);
    assert_wall(&seen);
    assert_ledger(&lab, &exchanges, budget);
}

/// What the agent sees when it talks to the provider itself.
fn without_meter(lab: &Lab, script: &[String; 2]) -> Vec<Step> {
    let mut command = Command::new(&script[0]);
    command.arg(&script[1]).env("AGENT_CALLS", "1");
    for variable in SDK_CA_FILES {
        command.env(variable, lab.simulator.ca_file());
    }
    command.envs(SDK_KEYS);
    lab.daemon.names().enter(&mut command);
    let output = command.output().expect("the interpreter can be started");
    let outcome = Outcome {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
        took: std::time::Duration::ZERO,
    };
    outcome.expect_code(0);
    steps(&outcome)
}

/// Up to its loop, the agent saw the same: text, usage, number and kinds of events.
fn assert_same_answers(plain: &[Step], metered: &[Step]) {
    let calls = |steps: &[Step]| -> Vec<Value> {
        steps.iter().take_while(|step| step.name != "loop").map(|step| step.facts.clone()).collect()
    };
    let (plain, metered) = (calls(plain), calls(metered));
    assert!(plain.len() >= 5, "{plain:#?}");
    for (without, with) in plain.iter().zip(&metered) {
        assert_eq!(without, with);
    }
    assert_eq!(plain.len(), metered.len());
}

/// The refusal is a 402 that the SDK's own exception shows, and after it nothing connects and nothing hangs.
fn assert_wall(seen: &[Step]) {
    assert!(seen.iter().any(|step| step.name == "loop"), "not one call of the loop fitted: {seen:#?}");
    let find = |name: &str| {
        &seen.iter().find(|step| step.name == name).unwrap_or_else(|| panic!("no step `{name}`: {seen:#?}")).facts
    };
    let wall = find("wall");
    assert_eq!(wall["status"], 402, "{wall}");
    let shown = format!("{}{}", wall["message"], wall["body"]);
    for part in ["sdk", "spent", "limit"] {
        assert!(shown.contains(part), "the exception does not show `{part}`: {wall}");
    }
    assert!(!wall["body"].is_null(), "the body does not parse as the provider's error: {wall}");
    let pooled = find("pooled");
    assert!(!pooled["class"].is_null(), "a pooled client's next call passed: {pooled}");
    let fresh = find("fresh");
    assert!(fresh["errno"].to_string().contains("ECONNREFUSED"), "{fresh}");
    for step in [wall, pooled, fresh] {
        assert!(step["ms"].as_u64().is_some_and(|ms| ms < AT_ONCE_MS), "it waited: {step}");
    }
}

/// The ledger is what the simulator sent, and the account is the sum of the ledger.
fn assert_ledger(lab: &Lab, exchanges: &[Exchange], budget: &str) {
    let rows = lab.daemon.ledger("sdk");
    assert_rows_match(&rows, exchanges);
    let spent: i128 = exchanges.iter().map(|exchange| cost(&exchange.model, &exchange.billed)).sum();
    assert!(spent <= pico(budget), "overspent: {}", usd(spent));
    let account = lab.daemon.account("sdk");
    assert_eq!(account.spent(), spent, "{account:#?}");
    assert_eq!(pico(&account.held_usd), 0, "{account:#?}");
    assert!(rows.iter().any(|row| row.outcome == "refused_budget" && row.status == Some(402)), "{rows:#?}");
    assert!(rows.iter().any(|row| row.outcome == "refused_kernel"), "no refusal by the kernel in {rows:#?}");
    wait_for_state(&lab.daemon, "sdk", "stopped");
    let by_process: i128 = account.processes.iter().map(|process| pico(&process.spent_usd)).sum();
    assert_eq!(by_process, spent, "{account:#?}");
}
