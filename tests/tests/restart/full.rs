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

/// Asks the daemon for something about each of these tasks, over a few connections at one time.
fn for_each(lab: &Lab, tasks: &[AccountPath], request: impl Fn(AccountPath) -> Request + Sync) {
    let (socket, request) = (&lab.daemon.run_dir().join("meter.sock"), &request);
    std::thread::scope(|scope| {
        for part in tasks.chunks(tasks.len().div_ceil(8)) {
            scope.spawn(move || {
                let mut client = Client::connect(socket).unwrap();
                for task in part {
                    client.ask(request(task.clone())).unwrap();
                }
            });
        }
    });
}

/// As many as `METER_TASKS` says, up to all places that there are; opening them takes most of the time.
#[test]
fn many_tasks_are_closed_at_once_and_their_places_are_free_again() {
    let count = std::env::var("METER_TASKS").map_or(400, |count| count.parse().unwrap());
    let lab = Lab::with_budget(AGENT, PLENTY);
    let tasks: Vec<AccountPath> = (0..count).map(|n| format!("{AGENT}/t{n}").parse().unwrap()).collect();
    for_each(&lab, &tasks, |account| Request::MakeTask {
        account,
        budget_usd: None,
        labels: Labels::new(),
        extra_roots_pem: String::new(),
    });
    let cgroup = lab.daemon.account(AGENT).cgroups.remove(0);
    let places = || {
        let entries = fs::read_dir(&cgroup).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count()
    };
    assert_eq!(places(), count);
    let (before, started) = (cpu_ns(lab.daemon.pid()), clock::monotonic_ns());
    for_each(&lab, &tasks, |account| Request::CloseTask { account, status: TaskStatus::Success });
    let elapsed = || Duration::from_nanos(clock::monotonic_ns() - started);
    let closed = elapsed();
    wait_for("every place to be free", Duration::from_mins(1), || (places() == 0).then_some(()));
    let used = Duration::from_nanos(cpu_ns(lab.daemon.pid()) - before);
    println!("{count} closed in {closed:?}, free after {:?}, {used:?} of a core", elapsed());
    let accounts = lab.daemon.status().accounts;
    assert_eq!(accounts.iter().filter(|account| account.state == "closed").count(), count);
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
