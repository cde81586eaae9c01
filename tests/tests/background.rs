//! Background work through the sidecar: its hold stays until its result is seen, also over a restart.

use meter_tests::harness::{Lab, Shell, pico};

const ORDER: &str = r#"{"model":"gpt-4o","background":true,"max_output_tokens":300,"input":"sim:{\"input\":200,\"output\":150} and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and and"}"#;

fn get(shell: &mut Shell, id: &str) -> serde_json::Value {
    let printed = shell.run(&format!(
        "curl -sS --max-time 60 -H 'authorization: Bearer test-key' https://api.openai.com/v1/responses/{id}"
    ));
    serde_json::from_str(&printed.stdout).unwrap_or_else(|error| panic!("{error} in {}", printed.stdout))
}

/// Orders a response, and returns its id.
fn order(shell: &mut Shell) -> String {
    let printed = shell.run(&format!(
        "curl -sS --max-time 60 -H 'content-type: application/json' -H 'authorization: Bearer test-key' \
         -d '{ORDER}' https://api.openai.com/v1/responses"
    ));
    let queued: serde_json::Value = serde_json::from_str(&printed.stdout).expect("a response");
    assert_eq!(queued["status"], "queued", "{queued}");
    queued["id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_result_is_charged_when_it_is_seen_and_once() {
    for restart in [false, true] {
        let mut lab = Lab::with_budget("later", "1");
        let mut shell = Shell::open(&lab.agent("later"));
        let id = order(&mut shell);
        let ordered = lab.daemon.account("later");
        let held = pico(&ordered.held_usd);
        assert!(held > 0 && ordered.spent() == 0, "{ordered:#?}");
        assert_eq!(lab.daemon.ledger("later").len(), 1, "the order has a row");
        if restart {
            lab.daemon.kill();
            lab.daemon.launch();
            let after = lab.daemon.account("later");
            assert_eq!((pico(&after.held_usd), after.spent()), (held, 0), "{after:#?}");
        }
        assert_eq!(get(&mut shell, &id)["status"], "in_progress");
        assert_eq!(pico(&lab.daemon.account("later").held_usd), held, "its result is not there yet");
        assert_eq!(get(&mut shell, &id)["status"], "completed");
        let billed = lab.daemon.account("later");
        assert_eq!(pico(&billed.held_usd), 0, "{billed:#?}");
        assert!(billed.spent() > 0 && billed.spent() < held, "{billed:#?}");
        if restart {
            assert_eq!(lab.daemon.ledger("later").len(), 3);
            lab.daemon.kill();
            lab.daemon.launch();
        }
        assert_eq!(get(&mut shell, &id)["status"], "completed");
        assert_eq!(lab.daemon.account("later").spent(), billed.spent(), "it was charged twice");

        let rows = lab.daemon.ledger("later");
        let costs: Vec<bool> = rows.iter().map(|row| row.cost() > 0).collect();
        assert_eq!(costs, [false, false, true, false], "{rows:#?}");
        let shown = lab.simulator.exchanges();
        let result = shown.iter().find(|exchange| exchange.billed.output_tokens > 0).expect("a result");
        assert_eq!(rows[2].usage.input_tokens, result.billed.input_tokens);
        assert_eq!(rows[2].usage.output_tokens, result.billed.output_tokens);
        assert_eq!(rows[2].corrects.as_deref(), Some(rows[0].id.as_str()));
        assert_eq!(rows[3].reason.as_deref(), Some("billed before"), "{rows:#?}");
    }
}
