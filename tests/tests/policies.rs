//! What an account's policy says, put into force by the config alone: by its requests, its rows and what a refusal is.

use meter_tests::harness::{
    Lab, LabOptions, Shell,
    chat::{Chat, status},
    pico,
};

/// Fits one ordinary chat, which is held at $0.005186 and billed $0.00275, and no second.
const ONE: &str = "0.006";

fn lab(config: &str) -> Lab {
    Lab::start(LabOptions::default().config(config))
}

fn ask(shell: &mut Shell, options: &str) -> (u16, String) {
    let printed = shell.run(&Chat::ordinary().options(options).curl());
    (status(&printed.stdout), printed.stdout)
}

#[test]
fn a_request_without_a_ceiling_is_refused_where_none_may_be_set() {
    let lab = lab("[agent.set]\nbudget_usd = \"0.05\"\n\
         [agent.never]\nbudget_usd = \"0.05\"\nclamp = \"never\"\n");
    let open = Chat::ordinary().ceiling(None).curl();
    assert_eq!(status(&lab.agent("set").shell(&open).stdout), 200, "it has room for a useful ceiling");
    let refused = lab.agent("never").shell(&open);
    assert_eq!(status(&refused.stdout), 402, "{}", refused.stdout);
    let exchanges = lab.simulator.exchanges();
    assert_eq!(exchanges.len(), 1);
    assert!(exchanges[0].request["max_completion_tokens"].is_u64(), "{}", exchanges[0].request);
}

#[test]
fn a_refusal_has_the_status_that_the_policy_gives_it() {
    let lab = lab(&format!(
        "refusal_status = 403\n\
         [agent.above]\nbudget_usd = \"{ONE}\"\n[agent.own]\nbudget_usd = \"{ONE}\"\nrefusal_status = 429\n"
    ));
    for (agent, expected) in [("above", 403), ("own", 429)] {
        let mut shell = Shell::open(&lab.agent(agent));
        assert_eq!(ask(&mut shell, "").0, 200);
        let (refused, said) = ask(&mut shell, "-D -");
        assert_eq!(refused, expected, "{said}");
        assert!(said.contains("x-should-retry: false") && said.contains("budget_exceeded"), "{said}");
        let rows = lab.daemon.ledger(agent);
        let row = rows.iter().find(|row| row.outcome == "refused_budget").expect("its row");
        assert_eq!(row.status, Some(expected));
    }
}

#[test]
fn a_wall_of_requests_keeps_the_network_and_what_is_free() {
    let lab = lab(&format!("[agent.open]\nbudget_usd = \"{ONE}\"\nwall = \"requests\"\n"));
    let mut shell = Shell::open(&lab.agent("open"));
    assert_eq!(ask(&mut shell, "").0, 200);
    for _ in 0..3 {
        assert_eq!(ask(&mut shell, "").0, 402, "each by a connection of its own, none of which the kernel refuses");
        let free = shell.run("curl -sS -w '\\n%{http_code}\\n' https://api.openai.com/v1/models");
        assert_eq!(status(&free.stdout), 200, "{}", free.stdout);
    }
    let account = lab.daemon.account("open");
    assert_eq!((account.state.as_str(), account.kernel.refused), ("open", 0));
    let rows = lab.daemon.ledger("open");
    let refused: u64 = rows.iter().filter(|row| row.outcome == "refused_budget").map(|row| row.count).sum();
    assert_eq!(refused, 3);
}

#[test]
fn an_account_whose_time_is_over_admits_nothing() {
    let lab = lab("[agent.late]\nbudget_usd = \"1\"\nuntil = \"2026-01-01T00:00:00Z\"\n\
         [agent.early]\nbudget_usd = \"1\"\nuntil = \"2126-01-01T00:00:00Z\"\n");
    assert_eq!(status(&lab.agent("early").shell(&Chat::ordinary().curl()).stdout), 200);
    let mut shell = Shell::open(&lab.agent("late"));
    shell.run(&Chat::ordinary().curl()).expect_code(7);
    assert_eq!(lab.daemon.account("late").exchanges, 0);
    // A later end opens it, and it is running still.
    lab.daemon.edit_config("2026-01-01T00:00:00Z", "2126-01-01T00:00:00Z");
    lab.daemon.call("reload", &[]);
    assert_eq!(ask(&mut shell, "").0, 200);
}

#[test]
fn labels_of_the_config_stand_on_rows_choose_them_and_are_summed_by() {
    let lab = lab("labels = { host = \"h1\" }\n[agent.a]\nlabels = { cost-centre = \"4711\", team = \"search\" }\n\
         [agent.b]\nlabels = { cost-centre = \"4712\" }\n");
    for agent in ["a", "a", "b"] {
        assert_eq!(status(&lab.agent(agent).shell(&Chat::ordinary().curl()).stdout), 200);
    }
    let own = serde_json::json!({ "host": "h1", "cost-centre": "4711", "team": "search" });
    let rows = lab.daemon.ledger_json("a");
    assert!(rows.len() == 2 && rows.iter().all(|row| row["labels"] == own), "{rows:#?}");
    let lines = |command: &str, arguments: &[&str]| -> Vec<serde_json::Value> {
        let text = lab.daemon.call(command, &[&["--json"], arguments].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(lines("ledger", &["--label", "cost-centre=4712"]).len(), 1);
    assert_eq!(lines("ledger", &["--label", "host=h1"]).len(), 3);
    let mut sums: Vec<(String, i128)> = lines("report", &["--by", "label.cost-centre"])
        .iter()
        .map(|line| (line["label.cost-centre"].to_string(), pico(line["cost_usd"].as_str().unwrap())))
        .collect();
    sums.sort();
    assert_eq!(sums, [("\"4711\"".to_owned(), pico("0.0055")), ("\"4712\"".to_owned(), pico("0.00275"))]);
}

#[test]
fn a_host_that_is_observed_refuses_nobody_but_who_is_enforced() {
    let lab = lab(&format!(
        "enforce = false\nbudget_usd = \"{ONE}\"\n\
         [agent.tried]\nbudget_usd = \"{ONE}\"\n[agent.kept]\nbudget_usd = \"{ONE}\"\nenforce = true\n"
    ));
    let mut shell = Shell::open(&lab.agent("tried"));
    for _ in 0..3 {
        assert_eq!(ask(&mut shell, "").0, 200);
    }
    let rows = lab.daemon.ledger_json("tried");
    assert!(rows.iter().filter(|row| row["would_refuse"].is_string()).count() >= 2, "{rows:#?}");
    assert!(!lab.daemon.events("host", "would_refuse").is_empty());
    let mut shell = Shell::open(&lab.agent("kept"));
    assert_eq!(ask(&mut shell, "").0, 200, "the host's limit is spent, and only observed");
    assert_eq!(ask(&mut shell, "").0, 402);
}
