//! Cgroups, slots and names that changed hands.

use super::*;

/// Puts somebody else's cgroup in the place of the agent's and of its task's, and a process into it.
fn replace_cgroups(maps: &Maps, stranger: &Shell) {
    let task = maps.tree().path(&"keeper/job".parse().unwrap());
    let agent = task.parent().expect("it lies below its agent's");
    for pid in maps.tree().pids(&"keeper".parse().unwrap()) {
        enter(&root_cgroup(maps), pid);
    }
    fs::remove_dir(&task).and_then(|()| fs::remove_dir(agent)).expect("nobody is in them");
    fs::create_dir_all(&task).unwrap();
    enter(&task, stranger.pid());
}

fn enter(cgroup: &Path, pid: u32) {
    fs::write(cgroup.join("cgroup.procs"), pid.to_string()).expect("a cgroup can be entered");
}

fn root_cgroup(maps: &Maps) -> PathBuf {
    let daemon = maps.tree().daemon_path();
    daemon.ancestors().nth(2).expect("the daemon's cgroup lies two below the root").to_owned()
}

/// A request that trusts the simulator alone, so that it fails where the sidecar answers.
fn direct(lab: &Lab) -> String {
    Chat::ordinary().options(&format!("-4 --cacert {}", lab.simulator.ca_file().display())).curl()
}

/// Nothing may come in between while the cgroup's owner would look at it.
fn freeze(lab: &Lab, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(lab.daemon.pid()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// The stranger is not metered, and nobody's account has it; opening the account binds what is there now.
fn assert_unbound_until_opened(lab: &Lab, maps: &Maps, stranger: &mut Shell, before: &Account) {
    assert_eq!(maps.find("keeper/job"), None);
    let printed = stranger.run(&direct(lab));
    assert_eq!(status(&printed.stdout), 200, "{}", printed.stdout);
    let after = lab.daemon.account("keeper/job");
    assert_eq!((after.exchanges, after.spent()), (before.exchanges, before.spent()));

    let mut shell = open(&lab.agent(AGENT).task("job"));
    chat(&mut shell);
    let after = lab.daemon.account("keeper/job");
    assert_eq!((after.exchanges, after.spent()), (before.exchanges + 1, 2 * before.spent()));
    assert!(maps.find("keeper/job").is_some());
    // From now on it is in an account's cgroup like any other.
    stranger.run(&direct(lab)).expect_code(60);
}

#[test]
fn a_cgroup_made_again_at_the_same_path_is_nobodys_until_it_is_opened() {
    let mut lab = Lab::with_budget(AGENT, PLENTY);
    lab.daemon.expect_log("somebody else made its cgroup");
    let mut stranger = Shell::outside(lab.daemon.names());
    let mut shell = open(&lab.agent(AGENT).task("job"));
    chat(&mut shell);
    let before = lab.daemon.account("keeper/job");
    let maps = Maps::open();
    let old = maps.kernel().bound_cgroups().unwrap();
    freeze(&lab, Signal::STOP);
    replace_cgroups(&maps, &stranger);
    freeze(&lab, Signal::CONT);
    wait_for("the old ids to be forgotten", PATIENCE, || {
        let bound = maps.kernel().bound_cgroups().unwrap();
        old.iter().all(|entry| !bound.contains(entry)).then_some(())
    });
    assert_unbound_until_opened(&lab, &maps, &mut stranger, &before);
    drop(shell);
}

#[test]
fn a_cgroup_made_again_while_the_sidecar_was_down_is_nobodys_until_it_is_opened() {
    let mut lab = Lab::with_budget(AGENT, PLENTY);
    lab.daemon.expect_log("somebody else made its cgroup");
    let mut stranger = Shell::outside(lab.daemon.names());
    let mut shell = open(&lab.agent(AGENT).task("job"));
    chat(&mut shell);
    let before = lab.daemon.account("keeper/job");
    let maps = Maps::open();
    let (old, slot) = (maps.kernel().bound_cgroups().unwrap(), maps.slot("keeper/job"));
    lab.daemon.kill();
    drop(shell);
    replace_cgroups(&maps, &stranger);
    lab.daemon.launch();
    let bound = maps.kernel().bound_cgroups().unwrap();
    assert!(old.iter().all(|entry| !bound.contains(entry)), "{bound:?}");
    wait_for("its slot to be free", PATIENCE, || (maps.balance(slot).state == state::FREE).then_some(()));
    assert_unbound_until_opened(&lab, &maps, &mut stranger, &before);
}

#[test]
fn cgroups_that_an_agent_makes_below_its_own_stay_its_own_over_a_restart() {
    let mut lab = Lab::with_budget(AGENT, PLENTY);
    let mut shell = open(&lab.agent(AGENT).task("job"));
    let maps = Maps::open();
    let inner = maps.tree().path(&"keeper/job".parse().unwrap()).join("inner");
    fs::create_dir(&inner).unwrap();
    shell.run(&format!("echo $$ > {}/cgroup.procs", inner.display())).expect_code(0);
    lab.daemon.kill();
    lab.daemon.launch();
    chat(&mut shell);
    assert_eq!(lab.daemon.ledger(AGENT)[0].account, "keeper/job");
    let accounts = lab.daemon.status().accounts;
    assert!(accounts.iter().all(|account| account.account != "keeper/job/inner"), "{accounts:#?}");
}

#[test]
fn a_slot_used_again_inherits_nothing() {
    let mut lab = Lab::start(LabOptions::default().budget("first", PLENTY).budget("second", PLENTY));
    let mut shell = open(&lab.agent("first"));
    chat(&mut shell);
    let maps = Maps::open();
    // A socket that outlives its account, in the hands of a process outside.
    shell
        .run(&format!(
            "work=$(mktemp -d); mkfifo $work/go; cat > $work/old.py <<'SCRIPT'\n\
             import errno, os, socket, sys\n\
             s = socket.socket()\n\
             open('{}/cgroup.procs', 'w').write(str(os.getpid()))\n\
             print('out', flush=True)\n\
             open(sys.argv[1]).read()\n\
             try: s.connect(('{}', 443)); print('connected', flush=True)\n\
             except OSError as error: print(errno.errorcode[error.errno], flush=True)\n\
             SCRIPT\n\
             setsid python3 $work/old.py $work/go > $work/out 2>&1 & \
             while ! grep -q out $work/out; do sleep 0.01; done",
            root_cgroup(&maps).display(),
            lab.net.v4
        ))
        .expect_code(0);
    let work = PathBuf::from(shell.run("echo $work").stdout.trim());
    let old = maps.slot("first");
    assert!(maps.balance(old).spent > 0);
    assert_eq!(shell.close(), 0);
    wait_for("the slot to be given back", PATIENCE, || (maps.balance(old).state == state::FREE).then_some(()));

    // A fresh sidecar gives the lowest slot first, so that it need not go round all of them.
    assert!(lab.daemon.stop().success());
    lab.daemon.launch();
    let mut second = open(&lab.agent("second"));
    let new = maps.slot("second");
    assert_eq!(new.slot, old.slot, "the test wants the same slot");
    assert_ne!(new.generation, old.generation);
    let record = maps.balance(new);
    assert_eq!((record.spent, record.hold_granted, record.hold_ended), (0, 0, 0), "{record:?}");
    assert_eq!(i128::from(record.remaining), pico(PLENTY));
    assert_eq!(maps.kernel().counters(new.slot).unwrap(), meter_common::Counters::default());
    let account = lab.daemon.account("second");
    assert_eq!((account.spent(), account.exchanges, account.kernel.connects), (0, 0, 0));

    // The socket's reference is of the slot's former owner.
    let stale = || maps.kernel().counters(meter_common::HOST_SLOT).unwrap().of(Reason::RefusedStale);
    let (refused, connections) = (stale(), lab.simulator.connections().len());
    fs::write(work.join("go"), "").unwrap();
    let outcome = wait_for("the old socket's connect", PATIENCE, || {
        let text = fs::read_to_string(work.join("out")).ok()?;
        text.lines().nth(1).map(str::to_owned)
    });
    assert_eq!((outcome.as_str(), stale()), ("ECONNREFUSED", refused + 1));
    assert_eq!(lab.simulator.connections().len(), connections);
    assert_eq!(maps.kernel().counters(new.slot).unwrap(), meter_common::Counters::default());
    fs::remove_dir_all(work).unwrap();
    chat(&mut second);
    assert_eq!(lab.daemon.account("second").spent(), pico("0.00275"));
    assert_eq!(lab.daemon.account("first").spent(), pico("0.00275"));
}
