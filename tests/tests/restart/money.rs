//! Limits, budgets and fundings that were changed: what was spent stays.

use super::*;

#[test]
fn a_limit_edited_in_the_config_keeps_what_was_spent() {
    let mut lab = Lab::with_budget(AGENT, "0.1");
    let mut shell = open(&lab.agent(AGENT));
    chat(&mut shell);
    chat(&mut shell);
    let spent = lab.daemon.account(AGENT).spent();
    assert_eq!(spent, 2 * pico("0.00275"));

    lab.daemon.edit_config("\"0.1\"", "\"0.005\"");
    assert!(lab.daemon.stop().success());
    lab.daemon.launch();
    let lowered = lab.daemon.account(AGENT);
    assert_eq!((lowered.spent(), remaining(&lowered)), (spent, pico("0.005") - spent));
    shell.run(&Chat::ordinary().curl()).expect_code(7);

    lab.daemon.edit_config("\"0.005\"", "\"0.2\"");
    lab.daemon.kill();
    lab.daemon.launch();
    let raised = lab.daemon.account(AGENT);
    assert_eq!((raised.spent(), remaining(&raised)), (spent, pico("0.2") - spent));
    chat(&mut shell);
    assert_rows_match(&lab.daemon.ledger(AGENT), &lab.simulator.exchanges());
}

#[test]
fn a_tasks_budget_given_again_keeps_what_was_spent() {
    let lab = Lab::with_budget(AGENT, PLENTY);
    let job = || lab.agent(AGENT).task("job");
    for (number, budget) in (1..).zip(["0.02", "0.02", "0.5", "0.006"]) {
        let mut shell = open(&job().budget(budget));
        // The last budget is spent already.
        if number < 4 {
            chat(&mut shell);
        } else {
            shell.run(&Chat::ordinary().curl()).expect_code(7);
        }
        let account = lab.daemon.account("keeper/job");
        assert_eq!(account.spent(), number.min(3) * pico("0.00275"));
        assert_eq!(remaining(&account), pico(budget) - account.spent());
    }
}

#[test]
fn a_funding_made_while_the_sidecar_was_down_counts_at_once_and_at_the_next_start() {
    let mut lab = Lab::with_budget(AGENT, LITTLE);
    let mut shell = open(&lab.agent(AGENT));
    spend_all(&lab, &mut shell, AGENT);
    let before = lab.daemon.account(AGENT);
    lab.daemon.kill();
    // It starts a daemon, which is the ledger's only writer, and which ends with the last agent.
    let told = lab.daemon.call("fund", &[AGENT, "0.5"]);
    assert!(told.contains("0.50"), "{told}");
    chat(&mut shell);
    end_the_other_daemon(&lab);

    lab.daemon.launch();
    let after = lab.daemon.account(AGENT);
    assert_eq!(remaining(&after), remaining(&before) + pico("0.5") - pico("0.00275"), "once");
    chat(&mut shell);
    assert_rows_match(&lab.daemon.ledger(AGENT), &lab.simulator.exchanges());
}

fn end_the_other_daemon(lab: &Lab) {
    let config = lab.daemon.config_file().display().to_string();
    let find = || {
        let processes = must_run("ps -eo pid=,args=");
        let line = processes.lines().find(|line| line.contains(" daemon ") && line.contains(&config));
        line.and_then(|line| Pid::from_raw(line.split_whitespace().next()?.parse().ok()?))
    };
    let pid = find().expect("a daemon was started");
    kill_process(pid, Signal::TERM).unwrap();
    wait_for("the other daemon to end", Duration::from_secs(20), || find().is_none().then_some(()));
}
