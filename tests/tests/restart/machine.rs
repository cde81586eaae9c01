//! Restarts of the machine.

use super::*;

#[test]
fn after_a_restart_of_the_machine_all_is_rebuilt_from_the_ledger() {
    let mut lab = Lab::start(LabOptions::default().budget(AGENT, PLENTY).budget("spent", LITTLE));
    lab.daemon.expect_log("unresolved");
    let mut spent = open(&lab.agent("spent"));
    spend_all(&lab, &mut spent, "spent");
    let mut shell = open(&lab.agent(AGENT).task("job").budget("0.5"));
    chat(&mut shell);
    lab.daemon.call("fund", &[AGENT, "0.25"]);
    // One is under way when the power fails.
    let slow = Chat::ordinary().with(|directive| directive.ttfb_ms = NEVER_MS).curl();
    shell.send(&format!("({slow}) > /dev/null 2>&1 &"));
    let ledger = LedgerFile::open(&lab.daemon);
    wait_for("the hold's row", PATIENCE, || (ledger.open_holds() == 1).then_some(()));
    let names = ["host", AGENT, "keeper/job", "spent"];
    let before = names.map(|name| lab.daemon.account(name));
    let held = pico(&before[1].held_usd);
    assert!(held > 0);

    lab.daemon.kill();
    drop((shell, spent));
    power_off(&lab);
    lab.daemon.launch();
    for (name, before) in names.iter().zip(&before) {
        let after = lab.daemon.account(name);
        let lost = if *name == "spent" { 0 } else { held };
        assert_eq!(after.spent(), before.spent() + lost, "{name}");
        assert_eq!(pico(&after.held_usd), 0, "{name}");
        if before.remaining_usd.is_some() {
            assert_eq!(remaining(&after), remaining(before) - lost, "{name}");
        }
    }
    let maps = Maps::open();
    assert_eq!(maps.kernel().bound_cgroups().unwrap(), [], "an id from before is believed");
    assert_eq!((1..SLOTS).find(|&slot| maps.record(slot).state != state::FREE), None, "a slot from before is");

    let mut shell = open(&lab.agent(AGENT).task("job"));
    chat(&mut shell);
    assert_eq!(remaining(&lab.daemon.account("keeper/job")), pico("0.5") - held - 2 * pico("0.00275"));
    let mut spent = open(&lab.agent("spent"));
    spent.run(&Chat::ordinary().curl()).expect_code(7);
    lab.daemon.call("fund", &["spent", LITTLE]);
    chat(&mut spent);
}

/// Takes away what does not outlive a boot: links, maps, and the cgroups, in which nobody is left.
fn power_off(lab: &Lab) {
    lab.daemon.call("uninstall", &[]);
    assert!(!Path::new("/sys/fs/bpf/meter").exists());
}

#[test]
fn what_another_boot_pinned_is_refused_and_its_agents_stay_refused() {
    let mut lab = Lab::with_budget(AGENT, PLENTY);
    let mut shell = open(&lab.agent(AGENT));
    chat(&mut shell);
    let before = lab.daemon.account(AGENT);
    Maps::open().change_boot();
    lab.daemon.kill();
    let refused = lab.daemon.output("daemon", &[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("of another boot; remove it with `meter uninstall`"), "{said}");
    let connections = lab.simulator.connections().len();
    assert!(shell.run(CONNECT).stdout.contains("Connection refused"));
    assert_eq!(lab.simulator.connections().len(), connections);

    lab.daemon.call("uninstall", &[]);
    lab.daemon.launch();
    assert_eq!(lab.daemon.account(AGENT).spent(), before.spent());
    // It ran on through all of this, and is metered again. The file of what it trusts is gone.
    let printed = shell.run(&Chat::ordinary().options("--insecure").curl());
    assert_eq!(status(&printed.stdout), 200, "{}", printed.stdout);
    assert_rows_match(&lab.daemon.ledger(AGENT), &lab.simulator.exchanges());
}
