//! Maps that are full.

use super::*;

#[test]
fn a_full_map_of_cgroups_refuses_the_next_open_and_runs_nothing() {
    let lab = Lab::with_budget(AGENT, PLENTY);
    let mut shell = open(&lab.agent(AGENT));
    let maps = Maps::open();
    // No cgroup has such an id.
    let ids = || (1_u64 << 48)..;
    let nobody = AccountRef { slot: SLOTS - 1, generation: 0 };
    ids().take_while(|&id| maps.kernel().bind_cgroup(id, nobody).is_ok()).for_each(drop);
    assert_eq!(maps.kernel().bound_cgroups().unwrap().len(), SLOTS as usize);

    for _ in 0..2 {
        let refused = lab.agent("late").shell(&format!("echo it runs; {CONNECT}"));
        assert_ne!(refused.code, 0);
        assert!(!refused.stdout.contains("it runs"), "{}", refused.stdout);
        let sentence = "all 16384 places of the kernel's map are taken; end some tasks first";
        assert!(refused.stderr.contains(sentence), "{}", refused.stderr);
    }
    assert_eq!(lab.simulator.connections().len(), 0);
    assert_eq!(maps.tree().id(&"late".parse().unwrap()), None, "an empty cgroup stays behind");
    // Who is in already goes on.
    chat(&mut shell);
    // A place for the agent, and one for its task.
    ids().take(2).for_each(|id| maps.kernel().unbind_cgroup(id).unwrap());
    lab.agent("late").shell(&Chat::ordinary().curl()).expect_code(0);
    assert_rows_match(&lab.daemon.ledger("late"), &lab.simulator.exchanges()[1..]);
}

#[test]
fn a_full_map_of_flows_resets_the_connection_and_counts_it() {
    let lab = Lab::with_budget(AGENT, PLENTY);
    let mut shell = open(&lab.agent(AGENT).task("job"));
    let maps = Maps::open();
    let task = maps.slot("keeper/job");
    maps.fill_flows();
    let printed = shell.run(&Chat::ordinary().curl());
    assert_ne!(printed.code, 0, "{}", printed.stdout);
    assert!(printed.took < Duration::from_secs(5), "{:?}", printed.took);
    let counters = maps.kernel().counters(task.slot).unwrap();
    assert!(counters.of(Reason::FlowLost) > 0 && counters.of(Reason::Direct) == 0, "{counters:?}");
    assert_eq!(lab.simulator.connections().len(), 0, "a connection passed unmetered");
    maps.kernel().clear_flows().unwrap();
    chat(&mut shell);
}
